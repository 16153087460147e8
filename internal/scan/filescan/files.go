// Package filescan reads and rewrites the files under a directory: a walk in the
// order of their paths that can go on behind any path, and replacement by a
// temporary file that takes the place of the original in one step, so that nobody
// ever reads half a file, whenever the process dies.
//
// A file system has no write under a condition. What stands in its place:
//
//   - The original is locked (flock(2)), for programs that do the same, and on
//     Linux held by a read lease (fcntl(2), F_SETLEASE), which the kernel grants
//     only while nobody has the file open for writing, and which makes whoever
//     wants to write wait for us.
//   - Identity, properties and content are compared with what was read right before
//     the two files swap names (renameat2(2), RENAME_EXCHANGE), and what came out of
//     the swap is compared once more. If another program was there in between, the
//     files swap back, and the change counts as refused.
//   - A process that died between the two leaves the file that came out under a name
//     of ours, which says what was expected to come out. The next run compares, and
//     ends what was begun.
//
// Where leases or swaps are not available there is a moment in which a change of
// another program can be lost; docs/reliability.md says which.
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

// Config says which files to read.
type Config struct {
	Root string // the directory
	// Include and Exclude are globs over the path of a file below Root (scan.Globs).
	Include, Exclude []string
	// KeepMtime gives a rewritten file the modification time that it had.
	KeepMtime bool
	// Own are files of the run itself, which are no items wherever they lie.
	Own []string
	// Room is where files that are read take room; nil is without bound.
	Memory *scan.MemoryBudget
	// PageLimit is the most files of a page; 0 means 1,000.
	PageLimit int
}

// Files is the regular files under one directory. It is safe for concurrent use.
type Files struct {
	config Config
	globs  scan.Globs
	// hook stands before each step of a replacement, where a test fails, dies, or
	// lets another writer in; nil otherwise.
	hook func(step) error
	// lacks is what a test takes away, as some file systems do not have it.
	lacks struct{ leases, swaps bool }

	mu    sync.Mutex
	root  *os.Root
	own   map[string]bool // paths below the root
	sweep bool
	notes []string

	walking sync.Mutex
	walk    *walk // where the last page ended
}

// New makes a Files. It asks nothing of the file system.
func New(c Config) *Files {
	if c.PageLimit <= 0 {
		c.PageLimit = 1000
	}
	return &Files{config: c, globs: scan.NewGlobs(c.Include, c.Exclude)}
}

// Notes are facts about the files that belong in the report.
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

// noteFirst notes the first of many facts that begin alike.
func (f *Files) noteFirst(kind, about string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(f.notes, func(n string) bool { return strings.HasPrefix(n, kind) }) {
		f.notes = append(f.notes, fmt.Sprintf("%s; the first is %q", kind, about))
	}
}

// Sweep lets listings from now on end or undo what a process that died had begun.
// Without it they only note it.
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

// Check says, without writing, whether the directory can be read:
// *scan.MissingError when it is not there, or none.
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
		return f.unreadable("", err)
	}
	return dir.Close()
}

// open returns the root, which stays open from the first use on: so a file system
// that is mounted there cannot be taken away, and leave an empty directory that
// looks like one in which nothing is left to do.
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
			Detail: fmt.Sprintf("there is no directory %s; check the path", f.config.Root),
		}
	case errors.Is(err, fs.ErrPermission):
		return nil, &scan.MissingError{
			Field:  "files.root",
			Detail: fmt.Sprintf("the directory %s may not be opened by this user", f.config.Root),
		}
	case err != nil:
		info, wrong := os.Stat(f.config.Root)
		if wrong == nil && !info.IsDir() {
			return nil, &scan.MissingError{
				Field: "files.root",
				Detail: fmt.Sprintf("%s is no directory; name the directory, and the file in "+
					"include", f.config.Root),
			}
		}
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	f.root, f.own = root, ownBelow(f.config.Root, f.config.Own)
	return root, nil
}

// ownBelow makes paths of the run's own files relative to the root.
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

// resolve follows the symbolic links of as much of a path as is there.
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

// standing says *scan.MissingError when the root is no longer at its path: there
// is nothing to be read under the name that the job file gives.
func (f *Files) standing(root *os.Root) error {
	held, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("look at the directory: %w", err)
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

// unreadable is the error of a directory that cannot be listed. To go on without
// it would skip files, so it ends the run.
func (f *Files) unreadable(dir string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &scan.MissingError{Field: "files.root", Detail: fmt.Sprintf(
			"the directory %q may not be read by this user, so files in it would be skipped; "+
				"allow it, or name it in exclude", filepath.Join(f.config.Root, dir))}
	}
	return fmt.Errorf("list a directory: %w", err)
}
