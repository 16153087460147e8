package pack

import (
	"archive/zip"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// archive is a pack in a zip archive.
type archive struct {
	path string
	file *os.File // under the temporary name
	zip  *zip.Writer
}

func newArchive(path string) (container, error) {
	file, err := os.CreateTemp(temporary(path))
	if err != nil {
		return nil, err
	}
	return &archive{path: path, file: file, zip: zip.NewWriter(file)}, nil
}

func (a *archive) create(name string) (io.Writer, error) {
	return a.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
}

// commit links the archive to its name, which fails if the name is in use. The temporary name is
// removed by abort.
func (a *archive) commit() error {
	if err := a.zip.Close(); err != nil {
		return err
	}
	if err := a.file.Sync(); err != nil {
		return err
	}
	err := os.Link(a.file.Name(), a.path)
	if errors.Is(err, os.ErrExist) {
		return &ExistsError{Path: a.path}
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(a.path))
}

func (a *archive) abort() {
	_ = a.file.Close()
	_ = os.Remove(a.file.Name())
}
