package pack

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// directory is a pack in a directory.
type directory struct {
	path, temp string
	file       *os.File // that is being written
	done       bool
}

func newDirectory(path string) (container, error) {
	temp, err := os.MkdirTemp(temporary(path))
	if err != nil {
		return nil, err
	}
	return &directory{path: path, temp: temp}, nil
}

func (d *directory) create(name string) (io.Writer, error) {
	err := d.end()
	if err == nil {
		d.file, err = os.OpenFile(filepath.Join(d.temp, name),
			os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	return d.file, err
}

// end makes the file that is being written durable.
func (d *directory) end() error {
	if d.file == nil {
		return nil
	}
	err := errors.Join(d.file.Sync(), d.file.Close())
	d.file = nil
	return err
}

// commit renames the directory. The rename fails if the path names anything but an empty directory.
func (d *directory) commit() error {
	if err := d.end(); err != nil {
		return err
	}
	if err := syncDir(d.temp); err != nil {
		return err
	}
	err := os.Rename(d.temp, d.path)
	if errors.Is(err, os.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) ||
		errors.Is(err, syscall.ENOTDIR) {
		return &ExistsError{Path: d.path}
	}
	if err != nil {
		return err
	}
	d.done = true
	return syncDir(filepath.Dir(d.path))
}

func (d *directory) abort() {
	if d.file != nil {
		_ = d.file.Close()
		d.file = nil
	}
	if !d.done {
		_ = os.RemoveAll(d.temp)
	}
}
