// Package filescan reads and rewrites the files under a directory. The listing is in the
// order of paths and can be resumed after any path. A file is replaced atomically by a
// temporary file, so readers never see a partially written file, even if the process is
// killed.
//
// A file system has no conditional write. filescan uses these mechanisms instead:
//
//   - The original is locked (flock(2)), for programs that do the same. On Linux it also has
//     a read lease (fcntl(2), F_SETLEASE). The kernel grants the lease only while no process
//     has the file open for writing, and it blocks processes that open the file for writing
//     until the lease is released.
//   - Identity, properties and content are compared with what was read immediately before the
//     two files exchange their names (renameat2(2), RENAME_EXCHANGE). The displaced file is
//     compared again after the exchange. If another program changed the file in between, the
//     exchange is reversed and the change is refused.
//   - If the process is killed between the exchange and the comparison, the displaced file
//     has a temporary name that contains the expected digests. The next run compares the file
//     and completes or reverses the exchange.
//
// Without leases or exchanges, a change of another program can be lost in a short interval;
// docs/reliability.md describes it.
package filescan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/bmatcuk/doublestar/v4"

	"rotator/internal/scan"
)

// Config selects the files to read.
type Config struct {
	Root string // the path of the directory
	// Include and Exclude are globs over the path of a file below Root (scan.Globs).
	Include, Exclude []string
	// KeepMtime preserves the modification time of rewritten files.
	KeepMtime bool
	// Own are the paths of rotator's own files. They are never items.
	Own []string
	// OwnerOf returns the path of the own file to which a file with this path belongs, or the
	// path itself. Files that belong to own files are own files, too. It may be nil.
	OwnerOf func(path string) string
	// Memory limits the bytes of all files in memory; nil means no limit.
	Memory *scan.MemoryBudget
	// PageLimit is the maximum number of files of a page. 0 means 1,000.
	PageLimit int
}

// Files gives access to the regular files under one directory. It is safe for concurrent use.
type Files struct {
	config Config
	globs  scan.Globs
	// hook is called before each step of a replacement. Tests use it to fail, to kill the
	// process, or to run another writer. It is nil otherwise.
	hook func(step) error
	// disabled turns off system calls that some file systems do not support. Tests set it.
	disabled struct{ leases, swaps bool }

	mu    sync.Mutex
	root  *os.Root
	own   map[string]bool // paths below the root
	sweep bool
	notes []string

	walking sync.Mutex
	walk    *walk // the walk at the end of the last page
}

// New returns a Files. It does not access the file system.
func New(c Config) *Files {
	if c.PageLimit <= 0 {
		c.PageLimit = 1000
	}
	return &Files{config: c, globs: scan.NewGlobs(c.Include, c.Exclude)}
}

// Notes returns facts about the files for the report.
func (f *Files) Notes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.notes)
}

func (f *Files) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(f.notes, text) {
		f.notes = append(f.notes, text)
	}
}

// noteFirst adds a note for the first of several facts of one kind.
func (f *Files) noteFirst(kind, about string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(f.notes, func(n string) bool { return strings.HasPrefix(n, kind) }) {
		f.notes = append(f.notes, fmt.Sprintf("%s; the first is %q", kind, about))
	}
}

// Sweep makes later listings complete or reverse the replacements of killed processes.
// Without it, listings only note them.
func (f *Files) Sweep() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweep = true
}

func (f *Files) sweeps() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sweep
}

// Check reports, without writing, whether the directory can be read. It returns a
// *scan.MissingError if it does not exist or is not a directory.
func (f *Files) Check(context.Context) error {
	for _, pattern := range append(slices.Clone(f.config.Include), f.config.Exclude...) {
		if !doublestar.ValidatePattern(pattern) {
			return &scan.MissingError{
				Field:  "files",
				Detail: fmt.Sprintf("%q is not a glob", pattern),
			}
		}
	}
	if systemNote != "" {
		f.note("directory %s: %s", f.config.Root, systemNote)
	}
	root, err := f.open()
	if err != nil {
		return err
	}
	dir, err := root.Open(".")
	if err != nil {
		return f.listError("", err)
	}
	return dir.Close()
}

// open returns the root directory, which stays open after the first use. As a result, a
// mounted file system cannot be unmounted during a run, which would leave an empty directory
// that looks like a completed pass.
func (f *Files) open() (*os.Root, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root != nil {
		return f.root, nil
	}
	root, err := os.OpenRoot(f.config.Root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &scan.MissingError{
			Field:  "files.root",
			Detail: fmt.Sprintf("directory %s does not exist; check the path", f.config.Root),
		}
	case errors.Is(err, fs.ErrPermission):
		return nil, &scan.MissingError{
			Field:  "files.root",
			Detail: fmt.Sprintf("this user may not open directory %s", f.config.Root),
		}
	case err != nil:
		info, wrong := os.Stat(f.config.Root)
		if wrong == nil && !info.IsDir() {
			return nil, &scan.MissingError{
				Field: "files.root",
				Detail: fmt.Sprintf("%s is not a directory; set root to its directory and add "+
					"the file to include", f.config.Root),
			}
		}
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	f.root, f.own = root, ownBelow(f.config.Root, f.config.Own)
	return root, nil
}

// ownBelow returns the paths of rotator's own files relative to the root.
func ownBelow(root string, own []string) map[string]bool {
	below := map[string]bool{}
	base := resolve(root)
	for _, path := range own {
		if relative, err := filepath.Rel(base, resolve(path)); err == nil {
			below[filepath.ToSlash(relative)] = true
		}
	}
	return below
}

// resolve resolves the symbolic links in the part of the path that exists.
func resolve(path string) string {
	path, err := filepath.Abs(path)
	if err != nil || filepath.Dir(path) == path {
		return path
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Join(resolve(filepath.Dir(path)), filepath.Base(path))
}

// verifyRoot returns a *scan.MissingError if the open root directory is no longer at its
// path.
func (f *Files) verifyRoot(root *os.Root) error {
	held, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("stat the directory: %w", err)
	}
	if now, err := os.Stat(f.config.Root); err != nil || !os.SameFile(held, now) {
		return &scan.MissingError{
			Field: "files.root",
			Detail: fmt.Sprintf(
				"the directory %s was moved, removed or replaced while it was read", f.config.Root),
		}
	}
	return nil
}

// listError returns the error for a directory that cannot be listed. It ends the run, because
// otherwise files would be skipped.
func (f *Files) listError(dir string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &scan.MissingError{Field: "files.root", Detail: fmt.Sprintf(
			"this user may not read the directory %q, so its files would be skipped; "+
				"allow it, or add it to exclude", filepath.Join(f.config.Root, dir))}
	}
	return fmt.Errorf("list a directory: %w", err)
}
