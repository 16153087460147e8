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

// maxBody is the largest file that is read, in bytes. How many of them are in memory
// at the same time Config.Memory limits.
const maxBody = 64 << 20

// state is what tells one version of a file from another. The kernel changes ctime
// with everything else of the file, and lets nobody set it (inode(7)).
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

// stateAt is the state of the file at a name, symbolic links not followed.
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

// same says whether two states are of one file, whatever happened to it.
func (s state) same(other state) bool { return s.dev == other.dev && s.ino == other.ino }

// unchanged says whether a file is as it was but for its name, whose change may
// change ctime too.
func (s state) unchanged(before state) bool {
	s.ctime = before.ctime
	return s == before
}

func (s state) regular() bool { return s.mode&unix.S_IFMT == unix.S_IFREG }

// asRead is the Token of an item.
type asRead struct{ state state }

// How often a file that changes while it is read is read again, and how long after.
const (
	readAttempts = 5
	readPause    = 20 * time.Millisecond
)

// Load reads a file whole. scan.ErrGone says that it is not there, or no regular
// file any more, *scan.RefusedError that it cannot be read.
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
				Detail: "it changes all the time while it is read; run retry when the program " +
					"that writes it is done",
			}
		}
		if err != nil {
			return scan.Item{}, err
		}
		item.Ref = ref
		return item, nil
	}
}

// read reads a file once, and takes room for it. scan.ErrChanged says that it changed
// meanwhile.
func (f *Files) read(ctx context.Context, key string) (scan.Item, error) {
	folder, name, err := f.place(key)
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
	give, err := f.config.Memory.Acquire(ctx, found.size)
	if err != nil {
		return scan.Item{}, err
	}
	body, read, err := readWhole(file, found.size)
	if err != nil {
		give()
		return scan.Item{}, err
	}
	return scan.Item{
		Payload: &scan.Object{Key: key, Body: body, Size: int64(len(body))},
		Token:   &asRead{state: read},
		Release: give,
	}, nil
}

// readWhole reads a file of a size, if it has that size and nothing changes while it
// is read. The state before is the one that was read.
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

// openAt opens the file at a name for reading. It neither follows a symbolic link
// nor waits for the other end of a pipe.
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
		Detail: "it is larger than 64 MiB, more than a body format reads; split the export into " +
			"smaller files",
	}
}

// readError sorts the errors of reading a file.
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
			Detail: "it may not be read by this user; run rotator as the owner of the file, or " +
				"allow it",
		}
	}
	return fmt.Errorf("read a file: %w", err)
}

// absent says that there is no file at a path: nothing, a symbolic link, or a
// socket in its place.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) ||
		errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
}
