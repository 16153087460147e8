package filescan

func child() bool { return false }
