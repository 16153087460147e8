package checkpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// openTimeout bounds the wait for another process that is inside a transaction.
const openTimeout = 10 * time.Second

// File is a Store in one bbolt file on a local disk. It opens the file for each
// operation and closes it afterwards, so that rotator status can read it during a
// run. Lock makes sure that only one run uses the file.
type File struct {
	path string
}

var _ Store = (*File)(nil)

// CreateFile opens the store at path. If the file does not exist, CreateFile first
// creates an empty store under a temporary name, so that a crash or a full disk
// leaves no incomplete file at path. The directory must exist. The caller must hold
// the Lock of the path.
func CreateFile(path string) (*File, error) {
	f, err := OpenFile(path)
	if !errors.Is(err, ErrNotFound) {
		return f, err
	}
	if err := createFile(path, true); err != nil {
		return nil, fmt.Errorf("create the checkpoint: %w", err)
	}
	return &File{path: path}, syncDir(filepath.Dir(path))
}

// CreateFileIfAbsent is CreateFile for a caller that does not hold the Lock of the path. It
// never replaces a file that another process creates at the same time. On a file system
// without hard links it returns an error.
func CreateFileIfAbsent(path string) (*File, error) {
	f, err := OpenFile(path)
	if !errors.Is(err, ErrNotFound) {
		return f, err
	}
	if err := createFile(path, false); err != nil {
		return nil, fmt.Errorf("create the checkpoint: %w", err)
	}
	return &File{path: path}, syncDir(filepath.Dir(path))
}

// createFile creates an empty store under a temporary name and links it to path. With rename
// it renames the file if the file system has no links.
func createFile(path string, rename bool) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+draftMark+"*")
	if err != nil {
		return err
	}
	draft := &File{path: file.Name()}
	err = file.Close()
	if err == nil {
		err = draft.update(func(b *bbolt.Bucket) error { return setIndex(b, index{}) })
	}
	if err == nil {
		// Unlike a rename, a link does not replace a file that was created meanwhile.
		err = os.Link(draft.path, path)
		switch {
		case errors.Is(err, fs.ErrExist):
			err = nil
		case err != nil && rename:
			return os.Rename(draft.path, path) // this file system has no links
		}
	}
	return errors.Join(err, os.Remove(draft.path))
}

// draftMark follows the name of the file in the temporary name of a new
// checkpoint.
const draftMark = ".new-"

// OpenFile opens the store at path. A missing file is an error that wraps
// ErrNotFound, never an empty store.
func OpenFile(path string) (*File, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no checkpoint at %s: %w", path, ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("open the checkpoint: %w", err)
	case !info.Mode().IsRegular():
		return nil, &DamagedError{Path: path, Detail: notRegular(info.Mode())}
	case info.Size() == 0:
		return nil, &DamagedError{Path: path, Detail: "the file is empty"}
	}
	return &File{path: path}, nil
}

// notRegular describes the type of a file that is not regular.
func notRegular(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "it is a directory"
	case mode&fs.ModeNamedPipe != 0:
		return "it is a named pipe"
	case mode&fs.ModeDevice != 0:
		return "it is a device"
	}
	return "it is not a regular file"
}

// Fetch implements Store.
func (f *File) Fetch(_ context.Context, id string) (e Entry, err error) {
	err = f.view(func(b *bbolt.Bucket) error {
		e, err = read(b, id)
		if errors.Is(err, ErrNotFound) {
			err = f.missing(b, id)
		}
		return err
	})
	return e, err
}

// Create implements Store.
func (f *File) Create(_ context.Context, id string, data []byte) (e Entry, err error) {
	err = f.update(func(b *bbolt.Bucket) error {
		if b.Get([]byte(id)) != nil {
			return ErrConflict
		}
		if err := f.missing(b, id); !errors.Is(err, ErrNotFound) {
			return err
		}
		if e, err = write(b, id, data); err == nil {
			err = setIndex(b, indexOf(b))
		}
		return err
	})
	return e, err
}

// Replace implements Store.
func (f *File) Replace(_ context.Context, old Entry, data []byte) (e Entry, err error) {
	err = f.update(func(b *bbolt.Bucket) error {
		now, err := read(b, old.ID)
		if errors.Is(err, ErrNotFound) || now.version != old.version {
			return ErrConflict
		}
		e, err = write(b, old.ID, data)
		return err
	})
	return e, err
}

// records is the name of the bucket. A value consists of a version of 8 bytes, which
// is unique in the file, and the data. indexKey, which is not a valid id, holds the
// index of all ids. bbolt has no checksums on its data pages; the index prevents
// that a record with a damaged id is reported as absent.
const (
	records  = "records"
	indexKey = "\x00index"
)

// index is the number of ids and the XOR of their digests.
type index [8 + sha256.Size]byte

func (x index) with(id string) index {
	binary.BigEndian.PutUint64(x[:8], binary.BigEndian.Uint64(x[:8])+1)
	sum := sha256.Sum256([]byte(id))
	subtle.XORBytes(x[8:], x[8:], sum[:])
	return x
}

// indexOf returns the index of the ids in the bucket.
func indexOf(b *bbolt.Bucket) (x index) {
	_ = b.ForEach(func(id, _ []byte) error { // ForEach returns only errors of the function
		if string(id) != indexKey {
			x = x.with(string(id))
		}
		return nil
	})
	return x
}

func setIndex(b *bbolt.Bucket, x index) error { return b.Put([]byte(indexKey), x[:]) }

// missing returns ErrNotFound if the index matches the ids in the bucket. Otherwise
// ids or pages are damaged, and it is unknown which records are absent. No record
// can then be created, not even that of a new pass.
func (f *File) missing(b *bbolt.Bucket, id string) error {
	there := false
	_ = b.ForEach(func(k, _ []byte) error {
		there = there || string(k) == id
		return nil
	})
	if is := indexOf(b); !there && bytes.Equal(b.Get([]byte(indexKey)), is[:]) {
		return ErrNotFound
	}
	return f.damaged("its records do not match its index")
}

func read(b *bbolt.Bucket, id string) (Entry, error) {
	value := b.Get([]byte(id))
	switch {
	case value == nil:
		return Entry{}, ErrNotFound
	case len(value) < 8:
		broken := Entry{ID: id, Data: slices.Clone(value), version: fmt.Sprintf("broken %x", value)}
		return broken, &CorruptError{ID: id, Detail: "it is shorter than its version"}
	}
	version := strconv.FormatUint(binary.BigEndian.Uint64(value), 10)
	return Entry{ID: id, Data: slices.Clone(value[8:]), version: version}, nil
}

func write(b *bbolt.Bucket, id string, data []byte) (Entry, error) {
	if err := checkSize(id, data); err != nil {
		return Entry{}, err
	}
	version, err := b.NextSequence()
	if err != nil {
		return Entry{}, err
	}
	value := append(binary.BigEndian.AppendUint64(nil, version), data...)
	if err := b.Put([]byte(id), value); err != nil {
		return Entry{}, err
	}
	written := strconv.FormatUint(version, 10)
	return Entry{ID: id, Data: slices.Clone(data), version: written}, nil
}

func (f *File) view(work func(*bbolt.Bucket) error) error {
	return f.open(&bbolt.Options{Timeout: openTimeout, ReadOnly: true}, func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(records))
			if b == nil {
				return f.damaged("it holds no records")
			}
			return work(b)
		})
	})
}

func (f *File) update(work func(*bbolt.Bucket) error) error {
	return f.open(&bbolt.Options{Timeout: openTimeout}, func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(records))
			if err != nil {
				return err
			}
			return work(b)
		})
	})
}

func (f *File) open(options *bbolt.Options, work func(*bbolt.DB) error) (err error) {
	// bbolt follows page numbers in the file. In a damaged file it may panic or read
	// outside the mapped memory.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = f.damaged(fmt.Sprint(r))
		}
	}()
	db, err := bbolt.Open(f.path, 0o600, options)
	if errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) ||
		errors.Is(err, berrors.ErrVersionMismatch) {
		return f.damaged(err.Error())
	}
	if err != nil {
		return fmt.Errorf("open the checkpoint %s: %w", f.path, err)
	}
	defer func() {
		if closed := db.Close(); err == nil {
			err = closed
		}
	}()
	err = work(db)
	damaged := (*DamagedError)(nil)
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) ||
		errors.As(err, &damaged) {
		return err // callers compare it, or it names the file already
	}
	return fmt.Errorf("checkpoint %s: %w", f.path, err)
}

func (f *File) damaged(detail string) error { return &DamagedError{Path: f.path, Detail: detail} }

// DamagedError means that a checkpoint file is damaged as a whole. A new pass in the
// same file is not possible.
type DamagedError struct {
	Path   string
	Detail string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is not a readable checkpoint (%s): restore it, or move it away to "+
		"start over (slots already moved are recognised)", e.Path, e.Detail)
}

// syncDir makes the name of a new file durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
