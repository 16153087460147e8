package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock makes sure that only one run uses a checkpoint file. The kernel releases the
// lock when the process ends, even if it is killed.
type Lock struct{ file *os.File }

// LockedError means that another run holds the lock.
type LockedError struct {
	Path   string
	Holder string // process, host and time, as in the lock file
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("another run uses this checkpoint (%s is held by %s)", e.Path, e.Holder)
}

// AcquireLock locks the checkpoint at path with the lock file path + ".lock". It does
// not wait for a run: the error is a *LockedError if another process holds the lock. A file
// that is not a lock file is not changed.
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

// A Locked call of another process holds the lock for a moment. AcquireLock tries again meanwhile.
const (
	probeAttempts = 5
	probePause    = 10 * time.Millisecond
)

// Locked reports whether a run holds the lock of the checkpoint at path. It changes nothing.
func Locked(path string) (bool, error) {
	file, err := os.OpenFile(path+".lock", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("test the lock of the checkpoint: %w", err)
	}
	defer func() { _ = file.Close() }() // releases the lock
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("test the lock of the checkpoint: flock %s.lock: %w", path, err)
	}
	return false, nil
}

// takeLock locks the file and writes the holder into it.
func takeLock(file *os.File, path string) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for n := 0; errors.Is(err, unix.EWOULDBLOCK) && n < probeAttempts; n++ {
		time.Sleep(probePause)
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock the checkpoint: flock %s: %w", path, err)
	}
	held, reading := io.ReadAll(io.LimitReader(file, maxHolder))
	switch {
	case reading != nil:
		return fmt.Errorf("lock the checkpoint: %w", reading)
	case len(held) > 0 && !holder.Match(held):
		return &foreignLockError{path, "its content is not that of a lock"}
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

// Release releases the lock.
func (l *Lock) Release() error { return l.file.Close() }
