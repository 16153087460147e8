package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
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
// It does not wait: *LockedError when another process has it. A file that no lock left
// there is not touched.
func AcquireLock(path string) (*Lock, error) {
	path += ".lock"
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &foreignLockError{path, notRegular(info.Mode())}
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the checkpoint: %w", err)
	}
	if err := takeLock(file, path); err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Lock{file: file}, nil
}

// takeLock locks the file and writes the holder into it.
func takeLock(file *os.File, path string) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock the checkpoint: flock %s: %w", path, err)
	}
	held, reading := io.ReadAll(io.LimitReader(file, maxHolder))
	switch {
	case reading != nil:
		return fmt.Errorf("lock the checkpoint: %w", reading)
	case len(held) > 0 && !holder.Match(held):
		return &foreignLockError{path, "it holds something else"}
	case err != nil:
		return &LockedError{Path: path, Holder: strings.TrimSpace(string(held))}
	}
	host, _ := os.Hostname()
	text := fmt.Sprintf(holderFormat, os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	if err := errors.Join(file.Truncate(0), writeAt(file, text)); err != nil {
		return fmt.Errorf("lock the checkpoint: %w", err)
	}
	return nil
}

// The content of a lock file: the current or last holder of the lock.
const (
	holderFormat = "process %d on %s since %s\n"
	maxHolder    = 1 << 10 // bytes
)

var holder = regexp.MustCompile(`^process [0-9]+ on [^\n]* since [0-9TZ:-]+\n$`)

// foreignLockError reports that the file at the path of a lock is not a lock.
type foreignLockError struct{ path, detail string }

func (e *foreignLockError) Error() string {
	return fmt.Sprintf("%s is not the lock of a checkpoint (%s); it was not changed: "+
		"move it away, or use another path for the checkpoint",
		e.path, e.detail)
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// Release gives the lock up.
func (l *Lock) Release() error { return l.file.Close() }
