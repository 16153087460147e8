// Package pack writes and checks evidence packs: a report in all forms, the audit logs, and a
// signed list of the SHA-256 digests of all files. The list is the subjects of an in-toto Statement
// v1, in a DSSE envelope, in a Sigstore bundle v0.3.
package pack

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The files of a pack that this package writes itself.
const (
	BundleName    = "evidence.sigstore.json"  // the signed statement
	StatementName = "evidence.statement.json" // the statement of a pack without a signature
	KeyName       = "evidence.pub"            // the public key, for convenience
)

// ExistsError is the error of a pack whose name is in use. Nothing is overwritten.
type ExistsError struct{ Path string }

func (e *ExistsError) Error() string {
	return e.Path + " exists, and a pack replaces nothing; choose another name or remove it"
}

// container holds the files of a pack under a temporary name until commit gives it its own name.
type container interface {
	// create begins a file. The file before it is complete.
	create(name string) (io.Writer, error)
	// commit makes all files durable, and then gives the container its name. The error is an
	// *ExistsError if the name is in use.
	commit() error
	// abort removes what was written. After commit it does nothing.
	abort()
}

// Writer writes a pack. It is not safe for concurrent use.
type Writer struct {
	files    container
	subjects []Subject
}

// Create begins a pack at a path: a zip archive if the path ends with .zip, otherwise a directory.
// The name appears at the path only when Commit succeeds. Abort must be called at the end.
func Create(path string) (*Writer, error) {
	path = filepath.Clean(path)
	switch _, err := os.Lstat(path); {
	case err == nil:
		return nil, &ExistsError{Path: path}
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	open := newDirectory
	if strings.HasSuffix(path, ".zip") {
		open = newArchive
	}
	files, err := open(path)
	if err != nil {
		return nil, err
	}
	return &Writer{files: files}, nil
}

// fileName is the form of the names in a pack. VERIFY.sh relies on it.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// Add adds a file. write writes its content.
func (w *Writer) Add(name string, write func(io.Writer) error) error {
	if !fileName.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of a file in a pack", name)
	}
	digest, err := w.add(name, write)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	w.subjects = append(w.subjects, Subject{Name: name, Digest: Digest{SHA256: digest}})
	return nil
}

// add writes a file and returns its SHA-256 in hex.
func (w *Writer) add(name string, write func(io.Writer) error) (digest string, err error) {
	file, err := w.files.create(name)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(file, sum), 64<<10)
	if err := write(out); err != nil {
		return "", err
	}
	if err := out.Flush(); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Commit makes the pack durable and gives it its name. The error is an *ExistsError if the name has
// been taken in the meantime.
func (w *Writer) Commit() error { return w.files.commit() }

// Abort removes everything that was written. After a successful Commit it does nothing.
func (w *Writer) Abort() { w.files.abort() }

// temporary returns the pattern of the temporary name of a pack, in the same directory.
func temporary(path string) (dir, pattern string) {
	return filepath.Dir(path), "." + filepath.Base(path) + ".partial-*"
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
