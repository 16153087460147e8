package filescan

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rotator/internal/scan"
)

// systemNote is a note about a limitation of the operating system, or "".
const systemNote = ""

// swap atomically exchanges the names of two files in one directory (renameat2(2),
// RENAME_EXCHANGE). It returns errors.ErrUnsupported if the file system does not support it.
func swap(folder *os.File, a, b string) error {
	err := unix.Renameat2(int(folder.Fd()), a, int(folder.Fd()), b, unix.RENAME_EXCHANGE)
	if isOneOf(err, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP) {
		return errors.ErrUnsupported
	}
	return err
}

// lease takes a read lease (fcntl(2)). The kernel grants it only while no process has the
// file open for writing, and blocks such opens while it is held. lease returns EAGAIN if a
// process has the file open for writing, and false if the file system does not support leases
// or the caller lacks the permission.
func lease(file *os.File) (bool, error) {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return false, err
	}
	return err == nil, nil
}

// leaseHolds reports whether no process has tried to open the file for writing since the
// lease.
func leaseHolds(file *os.File) bool {
	kind, err := unix.FcntlInt(file.Fd(), unix.F_GETLEASE, 0)
	return err == nil && kind == unix.F_RDLCK
}

// setTimes sets the times of a file by its descriptor, so a rename has no influence.
func setTimes(file *os.File, mtime unix.Timespec, _ []unix.Timeval) error {
	path := "/proc/self/fd/" + strconv.Itoa(int(file.Fd()))
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime},
		0)
}

// attributesOf returns the extended attributes of a file: user attributes, ACLs, security
// labels and capabilities (xattr(7)).
func attributesOf(file *os.File) (map[string]string, error) {
	names, err := readSized(func(buffer []byte) (int, error) {
		return unix.Flistxattr(int(file.Fd()), buffer)
	})
	if isOneOf(err, unix.EOPNOTSUPP, unix.ENOSYS) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	attributes := map[string]string{}
	for name := range strings.SplitSeq(string(bytes.TrimRight(names, "\x00")), "\x00") {
		if name == "" {
			continue
		}
		value, err := readSized(func(buffer []byte) (int, error) {
			return unix.Fgetxattr(int(file.Fd()), name, buffer)
		})
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		attributes[name] = string(value)
	}
	return attributes, nil
}

// readSized calls call for the size and then with a buffer of this size, until the size is
// sufficient.
func readSized(call func([]byte) (int, error)) ([]byte, error) {
	for {
		size, err := call(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		buffer := make([]byte, size)
		n, err := call(buffer)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buffer[:n], nil
	}
}

// copyAttributes copies the extended attributes of the original to a new file. It removes
// attributes that the file inherited from its directory.
func copyAttributes(file, original *os.File) error {
	want, err := attributesOf(original)
	if err != nil {
		return refusedUnless(err, "xattr", "its extended attributes cannot be read, so they "+
			"could not be preserved")
	}
	have, err := attributesOf(file)
	if err != nil {
		return err
	}
	fd := int(file.Fd())
	for name := range have {
		if _, keep := want[name]; !keep {
			_ = unix.Fremovexattr(fd, name) // sameAttributes detects a failure
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if name == "security.ima" || name == "security.evm" {
			return &scan.RefusedError{
				Reason: "xattr",
				Detail: "its content is signed (" + name + "), and new content requires a new " +
					"signature",
			}
		}
		if value, same := have[name]; same && value == want[name] {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(want[name]), 0); err != nil {
			return refusedUnless(err, "xattr",
				"its extended attribute "+strconv.Quote(name)+" cannot be given to a new file by "+
					"this user")
		}
	}
	return nil
}

// sameAttributes returns a *scan.RefusedError unless both files have the same extended
// attributes.
func sameAttributes(file, original *os.File) error {
	want, err := attributesOf(original)
	if err != nil {
		return err
	}
	have, err := attributesOf(file)
	if err != nil {
		return err
	}
	if !maps.Equal(want, have) {
		return &scan.RefusedError{
			Reason: "xattr",
			Detail: "its file system does not preserve the extended attributes in a new file",
		}
	}
	return nil
}
