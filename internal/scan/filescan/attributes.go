package filescan

import (
	"os"

	"golang.org/x/sys/unix"

	"rotator/internal/scan"
)

// copyProperties gives a new file the owner, mode, extended attributes and, if keepMtime is
// set, the modification time of the original, and verifies them. It returns a
// *scan.RefusedError for a property that cannot be preserved. The creation time and holes are
// not preserved, because no system call can set them.
func copyProperties(file, original *os.File, want state, keepMtime bool) error {
	created, err := stateOf(file)
	if err != nil {
		return err
	}
	fd := int(file.Fd())
	if created.uid != want.uid || created.gid != want.gid {
		if err := unix.Fchown(fd, int(want.uid), int(want.gid)); err != nil {
			return refusedUnless(err, "owner", "its owner or group cannot be set on a new file "+
				"by this user; run rotator as the owner of the file, or as root")
		}
	}
	if err := copyAttributes(file, original); err != nil {
		return err
	}
	const permissions = 0o7777
	// after the change of owner, which clears the set-user-ID and set-group-ID bits
	if err := unix.Fchmod(fd, want.mode&permissions); err != nil {
		return refusedUnless(err, "mode", "its mode cannot be set on a new file by this user")
	}
	if keepMtime {
		times := []unix.Timeval{unix.NsecToTimeval(want.mtime.Nano()),
			unix.NsecToTimeval(want.mtime.Nano())}
		if err := setTimes(file, want.mtime, times); err != nil {
			return refusedUnless(err, "mtime", "its modification time cannot be set on a new "+
				"file by this user")
		}
	}
	now, err := stateOf(file)
	if err != nil {
		return err
	}
	if now.mode != want.mode || now.uid != want.uid || now.gid != want.gid {
		return &scan.RefusedError{
			Reason: "mode",
			Detail: "its file system does not preserve owner and mode in a new file",
		}
	}
	return sameAttributes(file, original)
}

// refusedUnless returns a *scan.RefusedError, unless err is an error of the storage.
func refusedUnless(err error, reason, detail string) error {
	if isStorageError(err) {
		return err
	}
	return &scan.RefusedError{Reason: reason, Detail: detail}
}
