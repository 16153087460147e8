package a

// F says
// whether it is done.
func F() {}
