//go:build !linux

package filescan

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Systems other than Linux lack leases, exchanges and attributes; see also the note in
// overwrite.
const systemNote = "on this system extended attributes and ACLs of rewritten files are not " +
	"preserved"

func swap(*os.File, string, string) error { return errors.ErrUnsupported }

func lease(*os.File) (bool, error) { return false, nil }

func leaseHolds(*os.File) bool { return true }

func setTimes(file *os.File, _ unix.Timespec, times []unix.Timeval) error {
	return unix.Futimes(int(file.Fd()), times)
}

func attributesOf(*os.File) (map[string]string, error) { return nil, nil }

func copyAttributes(_, _ *os.File) error { return nil }

func sameAttributes(_, _ *os.File) error { return nil }
