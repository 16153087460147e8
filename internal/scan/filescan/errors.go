package filescan

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"rotator/internal/scan"
)

// writeError sorts the errors of what comes before the swap: nothing was written.
func writeError(err error) error {
	var refused *scan.RefusedError
	switch {
	case err == nil, errors.As(err, &refused), errors.Is(err, scan.ErrChanged),
		errors.Is(err, scan.ErrGone):
		return err
	case ofStorage(err):
		return storageError(err)
	case errors.Is(err, fs.ErrPermission):
		return &scan.RefusedError{
			Reason: "read-only",
			Detail: "this user may not make or rename files in its directory, or the file is " +
				"immutable; allow it, then run retry",
		}
	case errors.Is(err, fs.ErrNotExist):
		return scan.ErrChanged // removed or renamed meanwhile; reading it again says which
	case isOneOf(err, syscall.EBUSY, syscall.EXDEV, syscall.ENAMETOOLONG, syscall.EINVAL,
		syscall.ETXTBSY, syscall.ENOTDIR, syscall.EISDIR):
		return &scan.RefusedError{
			Reason: "cannot-replace",
			Detail: fmt.Sprintf("another file cannot take its place (%v), as when it is a mount "+
				"point", errnoOf(err)),
		}
	}
	return fmt.Errorf("write a file: %w", err) // too many open files, and the like
}

// storageError is the error of a place that takes no more writes, or of which
// nobody knows whether it kept the last one.
func storageError(err error) error {
	return &scan.StorageError{Err: fmt.Errorf("write a file: %w", errnoOf(err))}
}

// ofStorage tells the trouble of a file system from that of a file.
func ofStorage(err error) bool {
	return isOneOf(err, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EFBIG, syscall.EIO)
}

func isOneOf(err error, list ...syscall.Errno) bool {
	return slices.ContainsFunc(list, func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// errnoOf is the error without the path, which the reader knows or need not know.
func errnoOf(err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}
