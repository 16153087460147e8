package filescan

import (
	"os"

	"golang.org/x/sys/unix"

	"rotator/internal/scan"
)

// dress gives a new file the owner, mode, extended attributes and, if asked, the
// modification time of the original, and looks whether it has them. What cannot be
// kept refuses the file by name. Not kept, since nothing can set them: the time of
// birth, and holes.
func dress(file, original *os.File, as state, keepMtime bool) error {
	made, err := stateOf(file)
	if err != nil {
		return err
	}
	fd := int(file.Fd())
	if made.uid != as.uid || made.gid != as.gid {
		if err := unix.Fchown(fd, int(as.uid), int(as.gid)); err != nil {
			return refusedUnless(err, "owner", "its owner or group cannot be given to a new file "+
				"by this user; run rotator as the owner of the file, or as root")
		}
	}
	if err := copyAttributes(file, original); err != nil {
		return err
	}
	const permissions = 0o7777
	// behind the change of owner, which takes set-id bits off
	if err := unix.Fchmod(fd, as.mode&permissions); err != nil {
		return refusedUnless(err, "mode", "its mode cannot be given to a new file by this user")
	}
	if keepMtime {
		times := []unix.Timeval{unix.NsecToTimeval(as.mtime.Nano()),
			unix.NsecToTimeval(as.mtime.Nano())}
		if err := setTimes(file, as.mtime, times); err != nil {
			return refusedUnless(err, "mtime", "its modification time cannot be given to a new "+
				"file by this user")
		}
	}
	now, err := stateOf(file)
	if err != nil {
		return err
	}
	if now.mode != as.mode || now.uid != as.uid || now.gid != as.gid {
		return &scan.RefusedError{
			Reason: "mode",
			Detail: "its file system does not give a new file the owner and mode of the original",
		}
	}
	return sameAttributes(file, original)
}

// refusedUnless refuses the file, unless the file system is to blame.
func refusedUnless(err error, reason, detail string) error {
	if ofStorage(err) {
		return err
	}
	return &scan.RefusedError{Reason: reason, Detail: detail}
}
