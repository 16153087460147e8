package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock makes a run the only one on a file checkpoint. The kernel releases it
// when the process dies, however it dies.
type Lock struct{ file *os.File }

// LockedError says that another run holds the lock.
type LockedError struct {
	Path   string
	Holder string // what the holder wrote about itself
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("another run works with this checkpoint (%s is held by %s)", e.Path, e.Holder)
}

// AcquireLock locks the checkpoint at path by a file beside it, path + ".lock".
// It does not wait: *LockedError when another process has it.
func AcquireLock(path string) (*Lock, error) {
	path += ".lock"
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the checkpoint: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = file.Close() }()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the checkpoint: flock %s: %w", path, err)
		}
		holder, _ := os.ReadFile(path)
		return nil, &LockedError{Path: path, Holder: strings.TrimSpace(string(holder))}
	}
	host, _ := os.Hostname()
	text := fmt.Sprintf("process %d on %s since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	if err := errors.Join(file.Truncate(0), writeAt(file, text)); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock the checkpoint: %w", err)
	}
	return &Lock{file: file}, nil
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// Release gives the lock up.
func (l *Lock) Release() error { return l.file.Close() }
