package filescan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rotator/internal/scan"
)

// maxBody is the size in bytes of the largest file that is read. Config.Memory limits the
// total size of all files in memory.
const maxBody = 64 << 20

// state identifies a version of a file. The kernel updates ctime with every change of the
// file, and no system call can set it (inode(7)).
type state struct {
	dev, ino     uint64
	mode         uint32
	uid, gid     uint32
	links        uint64
	size         int64
	mtime, ctime unix.Timespec
}

func stateOf(file *os.File) (state, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return state{}, err
	}
	return newState(&stat), nil
}

// stateAt returns the state of the file with a name. It does not follow symbolic links.
func stateAt(folder *os.File, name string) (state, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(int(folder.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return state{}, err
	}
	return newState(&stat), nil
}

func newState(stat *unix.Stat_t) state {
	return state{
		dev:   uint64(stat.Dev),
		ino:   uint64(stat.Ino),
		mode:  uint32(stat.Mode),
		uid:   stat.Uid,
		gid:   stat.Gid,
		links: uint64(stat.Nlink),
		size:  stat.Size,
		mtime: stat.Mtim,
		ctime: stat.Ctim,
	}
}

// sameFile reports whether two states are of the same file, possibly in different versions.
func (s state) sameFile(other state) bool { return s.dev == other.dev && s.ino == other.ino }

// unchanged reports whether a file is unchanged since before. It ignores ctime, which a
// rename can change.
func (s state) unchanged(before state) bool {
	s.ctime = before.ctime
	return s == before
}

func (s state) regular() bool { return s.mode&unix.S_IFMT == unix.S_IFREG }

// snapshot is the Token of an item.
type snapshot struct{ state state }

// The number of attempts to read a file that changes while it is read, and the time between
// them.
const (
	readAttempts = 5
	readPause    = 20 * time.Millisecond
)

// Load reads a file. It returns scan.ErrGone if there is no regular file at the path, and a
// *scan.RefusedError if the file cannot be read.
func (f *Files) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	key, err := ref.Key()
	if err != nil {
		return scan.Item{}, err
	}
	for n := 0; ; n++ {
		item, err := f.read(ctx, key)
		if errors.Is(err, scan.ErrChanged) && n+1 < readAttempts {
			select {
			case <-time.After(readPause):
				continue
			case <-ctx.Done():
				return scan.Item{}, ctx.Err()
			}
		}
		if errors.Is(err, scan.ErrChanged) {
			return scan.Item{}, &scan.RefusedError{
				Reason: "in-use",
				Detail: "it was changed during each attempt to read it; run rotator retry when " +
					"the program that writes it has finished",
			}
		}
		if err != nil {
			return scan.Item{}, err
		}
		item.Ref = ref
		return item, nil
	}
}

// read reads a file once and acquires memory budget for it. It returns scan.ErrChanged if the
// file changed while it was read.
func (f *Files) read(ctx context.Context, key string) (scan.Item, error) {
	folder, name, err := f.openParent(key)
	if err != nil {
		return scan.Item{}, readError(err)
	}
	defer func() { _ = folder.Close() }()
	file, err := openAt(folder, name)
	if err != nil {
		return scan.Item{}, readError(err)
	}
	defer func() { _ = file.Close() }()
	found, err := stateOf(file)
	switch {
	case err != nil:
		return scan.Item{}, readError(err)
	case !found.regular():
		return scan.Item{}, scan.ErrGone
	case found.size > maxBody:
		return scan.Item{}, errTooLarge()
	}
	release, err := f.config.Memory.Acquire(ctx, found.size)
	if err != nil {
		return scan.Item{}, err
	}
	body, read, err := readWhole(file, found.size)
	if err != nil {
		release()
		return scan.Item{}, err
	}
	return scan.Item{
		Payload: &scan.Object{Key: key, Body: body, Size: int64(len(body))},
		Token:   &snapshot{state: read},
		Release: release,
	}, nil
}

// readWhole reads a file of the given size. It returns scan.ErrChanged if the size differs or
// the file changes while it is read.
func readWhole(file *os.File, size int64) ([]byte, state, error) {
	before, err := stateOf(file)
	if err != nil {
		return nil, state{}, readError(err)
	}
	if before.size != size {
		return nil, state{}, scan.ErrChanged
	}
	var body bytes.Buffer
	body.Grow(int(size) + bytes.MinRead)
	if _, err := body.ReadFrom(io.LimitReader(file, maxBody+1)); err != nil {
		return nil, state{}, readError(err)
	}
	after, err := stateOf(file)
	switch {
	case err != nil:
		return nil, state{}, readError(err)
	case after != before || int64(body.Len()) != before.size:
		return nil, state{}, scan.ErrChanged
	}
	return body.Bytes(), before, nil
}

// openAt opens a file for reading. It does not follow a symbolic link and does not block on a
// pipe.
func openAt(folder *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(folder.Fd()), name,
		unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func errTooLarge() error {
	return &scan.RefusedError{
		Reason: "too-large",
		Detail: "it is larger than 64 MiB, the limit for formats that read the body; split it " +
			"into smaller files",
	}
}

// readError converts an error of reading a file.
func readError(err error) error {
	var refused *scan.RefusedError
	var missing *scan.MissingError
	switch {
	case errors.As(err, &refused), errors.As(err, &missing):
		return err
	case absent(err):
		return scan.ErrGone
	case errors.Is(err, fs.ErrPermission):
		return &scan.RefusedError{
			Reason: "permission",
			Detail: "this user may not read it; run rotator as the owner of the file, or " +
				"allow it",
		}
	}
	return fmt.Errorf("read a file: %w", err)
}

// absent reports whether the error means that there is no regular file at the path, for
// example a symbolic link or a socket.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) ||
		errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
}
