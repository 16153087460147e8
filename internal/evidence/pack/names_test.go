package pack

import (
	"archive/zip"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestNamesInArchive: an archive with two files of one name, or with a name that leads out of it,
// is not intact.
func TestNamesInArchive(t *testing.T) {
	for _, name := range []string{StatementName, "./" + StatementName, "..", "x/y"} {
		path := filepath.Join(t.TempDir(), "pack.zip")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		archive := zip.NewWriter(file)
		for _, one := range []string{StatementName, name} {
			if _, err := archive.Create(one); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(archive.Close(), file.Close()); err != nil {
			t.Fatal(err)
		}
		files, closer, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Check(files, nil)
		_ = closer.Close()
		if !errors.As(err, new(*BrokenError)) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
