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

// systemNote is for the report, where the system lacks something.
const systemNote = ""

// swap gives two files in one directory each other's name, in one step
// (renameat2(2), RENAME_EXCHANGE). errors.ErrUnsupported where the file system
// cannot.
func swap(folder *os.File, a, b string) error {
	err := unix.Renameat2(int(folder.Fd()), a, int(folder.Fd()), b, unix.RENAME_EXCHANGE)
	if isOneOf(err, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP) {
		return errors.ErrUnsupported
	}
	return err
}

// lease takes a read lease (fcntl(2)): the kernel gives it only while nobody has the
// file open for writing, and lets no other begin to while we have it. EAGAIN says
// that somebody has. Without one, false, where the file system or our rights have
// none.
func lease(file *os.File) (bool, error) {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return false, err
	}
	return err == nil, nil
}

// leaseHolds says whether nobody has asked to write the file since it was leased.
func leaseHolds(file *os.File) bool {
	kind, err := unix.FcntlInt(file.Fd(), unix.F_GETLEASE, 0)
	return err == nil && kind == unix.F_RDLCK
}

// setTimes sets the times of a file by its descriptor, whatever its name is.
func setTimes(file *os.File, mtime unix.Timespec, _ []unix.Timeval) error {
	path := "/proc/self/fd/" + strconv.Itoa(int(file.Fd()))
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime},
		0)
}

// attributesOf reads the extended attributes of a file: what users set, ACLs,
// labels, capabilities (xattr(7)).
func attributesOf(file *os.File) (map[string]string, error) {
	names, err := sized(func(buffer []byte) (int, error) {
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
		value, err := sized(func(buffer []byte) (int, error) {
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

// sized calls for the size and then for as many bytes, until both agree.
func sized(call func([]byte) (int, error)) ([]byte, error) {
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

// copyAttributes gives a new file the extended attributes of the original, and
// takes off what its directory gave it.
func copyAttributes(file, original *os.File) error {
	want, err := attributesOf(original)
	if err != nil {
		return refusedUnless(err, "xattr", "its extended attributes cannot be read, so they "+
			"could not be kept")
	}
	have, err := attributesOf(file)
	if err != nil {
		return err
	}
	fd := int(file.Fd())
	for name := range have {
		if _, keep := want[name]; !keep {
			_ = unix.Fremovexattr(fd, name) // what stays is found in the end
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if name == "security.ima" || name == "security.evm" {
			return &scan.RefusedError{
				Reason: "xattr",
				Detail: "its content is signed (" + name + "), and a new content needs a new " +
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

// sameAttributes refuses the file unless both have the same extended attributes.
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
			Detail: "its file system does not give a new file the extended attributes of the " +
				"original",
		}
	}
	return nil
}
