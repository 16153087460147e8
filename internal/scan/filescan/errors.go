package filescan

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"rotator/internal/scan"
)

// writeError converts an error that occurred before the swap. Nothing was written.
func writeError(err error) error {
	var refused *scan.RefusedError
	switch {
	case err == nil, errors.As(err, &refused), errors.Is(err, scan.ErrChanged),
		errors.Is(err, scan.ErrGone):
		return err
	case isStorageError(err):
		return storageError(err)
	case errors.Is(err, fs.ErrPermission):
		return &scan.RefusedError{
			Reason: "read-only",
			Detail: "this user may not create or rename files in its directory, or the file is " +
				"immutable; allow it, then run rotator retry",
		}
	case errors.Is(err, fs.ErrNotExist):
		return scan.ErrChanged // removed or renamed in between; the next Load returns which
	case isOneOf(err, syscall.EBUSY, syscall.EXDEV, syscall.ENAMETOOLONG, syscall.EINVAL,
		syscall.ETXTBSY, syscall.ENOTDIR, syscall.EISDIR):
		return &scan.RefusedError{
			Reason: "cannot-replace",
			Detail: fmt.Sprintf("it cannot be replaced by another file (%v), for example because "+
				"it is a mount point", errnoOf(err)),
		}
	}
	return fmt.Errorf("write a file: %w", err) // for example too many open files
}

// storageError returns a *scan.StorageError: the storage accepts no writes, or it is unknown
// whether the last write is durable.
func storageError(err error) error {
	return &scan.StorageError{Err: fmt.Errorf("write a file: %w", errnoOf(err))}
}

// isStorageError reports whether the cause is the file system and not the file.
func isStorageError(err error) bool {
	return isOneOf(err, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EFBIG, syscall.EIO)
}

func isOneOf(err error, list ...syscall.Errno) bool {
	return slices.ContainsFunc(list, func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// errnoOf returns the error without the path.
func errnoOf(err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}
