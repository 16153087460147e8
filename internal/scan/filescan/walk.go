package filescan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"rotator/internal/scan"
)

// order is the Spec of the only partition. A later version can add other kinds of partitions.
type order struct {
	Order string `json:"order"`
}

const byPath = "path"

// maxExamined is the maximum number of files that one page examines, including files that are
// not items.
const maxExamined = 20_000

// Partitions returns one partition, because listing takes far less time than re-encryption.
func (f *Files) Partitions(context.Context) ([]scan.Partition, error) {
	spec, err := json.Marshal(order{Order: byPath})
	return []scan.Partition{{Name: "files by path", Spec: spec}}, err
}

// Page lists the files after the cursor, which is the last path that the previous page
// examined. Paths are in byte order. Files may be created and deleted between pages. The
// names of each directory on the current path are held in memory; a file that is created in
// such a directory may be missed.
func (f *Files) Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error) {
	var o order
	if err := json.Unmarshal(p.Spec, &o); err != nil || o.Order != byPath {
		return scan.Page{}, fmt.Errorf("read the partition of directory %s: %s is not supported "+
			"by this version", f.config.Root, p.Spec)
	}
	root, err := f.open()
	if err == nil {
		err = f.verifyRoot(root)
	}
	if err != nil {
		return scan.Page{}, err
	}
	f.walking.Lock()
	defer f.walking.Unlock()
	if f.walk == nil || len(cursor) == 0 || f.walk.last != string(cursor) {
		f.walk = &walk{
			files:     f,
			root:      root,
			last:      string(cursor),
			levels:    []level{{}},
			fromStart: len(cursor) == 0,
			matched:   map[string]bool{},
		}
	}
	page, err := f.walk.page(ctx, f.config.PageLimit)
	if err == nil && page.Last {
		f.walk.noteUnmatched()
	}
	if err != nil || page.Last {
		f.walk = nil
	}
	return page, err
}

// walk is a position in the directory tree.
type walk struct {
	files     *Files
	root      *os.Root
	last      string // the last examined path, or the cursor
	levels    []level
	fromStart bool            // the walk began at the first file
	matched   map[string]bool // patterns of Include that matched a file
	// excluded is the number of directories that were excluded entirely since the page began.
	excluded int64
}

// level is a directory on the current path.
type level struct {
	dir   string // its path with a trailing slash; "" for the root
	read  bool
	names []string // names not yet examined; directories have a trailing slash
}

func (w *walk) page(ctx context.Context, limit int) (page scan.Page, err error) {
	defer func() {
		page.Excluded += w.excluded
		w.excluded = 0
	}()
	page.Included = w.files.globs.Counters()
	for examined := 0; len(page.Items) < limit && examined < maxExamined; examined++ {
		path, ok, err := w.next(ctx)
		if err != nil {
			return scan.Page{}, err
		}
		if !ok {
			page.Last = true
			return page, nil
		}
		w.last = path
		w.recordMatches(path)
		switch {
		case w.files.isOwn(path):
		case w.files.globs.Selects(path):
			w.files.globs.Count(page.Included, path)
			page.Items = append(page.Items, scan.Item{Ref: scan.KeyRef(path)})
		default:
			page.Excluded++
		}
	}
	page.Next = scan.Cursor(w.last)
	return page, nil
}

// recordMatches records the patterns of Include that match a file.
func (w *walk) recordMatches(path string) {
	for _, pattern := range w.files.globs.Include() {
		if !w.matched[pattern] && doublestar.MatchUnvalidated(pattern, path) {
			w.matched[pattern] = true
		}
	}
}

// noteUnmatched notes the patterns of Include that matched no file in a complete walk, which
// may be mistakes.
func (w *walk) noteUnmatched() {
	for _, pattern := range w.files.globs.Include() {
		if w.fromStart && !w.matched[pattern] {
			w.files.note("directory %s: no file matches the pattern %q of include",
				w.files.config.Root,
				pattern)
		}
	}
}

// next returns the path of the next regular file. ok is false at the end.
func (w *walk) next(ctx context.Context) (path string, ok bool, err error) {
	for len(w.levels) > 0 {
		top := &w.levels[len(w.levels)-1]
		if !top.read {
			if err := ctx.Err(); err != nil {
				return "", false, err
			}
			if top.names, err = w.names(top.dir); err != nil {
				return "", false, err
			}
			top.read = true
		}
		if len(top.names) == 0 {
			w.levels = w.levels[:len(w.levels)-1]
			continue
		}
		path, top.names = top.dir+top.names[0], top.names[1:]
		if !strings.HasSuffix(path, "/") {
			return path, true, nil
		}
		if !w.files.mayContainItems(strings.TrimSuffix(path, "/")) {
			w.excluded++
			continue
		}
		w.levels = append(w.levels, level{dir: path})
	}
	return "", false, nil
}

// names lists the names in a directory after the last path. Because directories have a
// trailing slash, the order of names is the order of all paths below them.
func (w *walk) names(dir string) ([]string, error) {
	folder, err := w.files.openDir(w.root, strings.TrimSuffix(dir, "/"))
	if err != nil {
		if now, gone := w.root.Lstat(path.Clean(dir)); dir != "" &&
			(gone != nil && absent(gone) || gone == nil && !now.IsDir()) {
			return nil, nil // it was a directory before
		}
		return nil, w.files.listError(dir, err)
	}
	defer func() { _ = folder.Close() }()
	all, err := folder.Readdirnames(-1)
	if err != nil {
		return nil, w.files.listError(dir, err)
	}
	var names []string
	for _, name := range all {
		name, err = w.classify(folder, dir, name)
		if err != nil {
			return nil, w.files.listError(dir, err)
		}
		if name != "" && w.isAfterCursor(dir+name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// isAfterCursor reports whether a path, or a path below a directory, is after the last path.
func (w *walk) isAfterCursor(path string) bool {
	return path > w.last || strings.HasSuffix(path, "/") && strings.HasPrefix(w.last, path)
}

// classify returns the name of a file, the name of a directory with a trailing slash, or ""
// for anything else.
func (w *walk) classify(folder *os.File, dir, name string) (string, error) {
	var stat unix.Stat_t
	err := unix.Fstatat(int(folder.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if isTemporary(name) {
			return "", w.files.leftover(folder, dir, name)
		}
		return name, nil
	case unix.S_IFDIR:
		return name + "/", nil
	case unix.S_IFLNK:
		w.files.noteFirst(fmt.Sprintf("directory %s: symbolic links are not followed",
			w.files.config.Root), dir+name)
	default:
		w.files.noteFirst(fmt.Sprintf("directory %s: pipes, sockets and devices are not read",
			w.files.config.Root), dir+name)
	}
	return "", nil
}

// isOwn reports whether a file belongs to rotator itself.
func (f *Files) isOwn(path string) bool {
	owner := path
	if f.config.OwnerOf != nil {
		owner = f.config.OwnerOf(path)
	}
	if !f.own[path] && !f.own[owner] {
		return false
	}
	f.noteFirst(fmt.Sprintf("directory %s: rotator's own files are skipped", f.config.Root), path)
	return true
}

// mayContainItems reports whether a directory can contain items.
func (f *Files) mayContainItems(dir string) bool {
	if f.globs.Excludes(dir) {
		return false
	}
	if len(f.globs.Include()) == 0 {
		return true
	}
	return slices.ContainsFunc(f.globs.Include(), func(pattern string) bool {
		base, _ := doublestar.SplitPattern(pattern) // the path before the first wildcard
		return base == "." || within(dir, base) || within(base, dir)
	})
}

// within reports whether a path is a directory or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// openDir opens a directory below the root. Symbolic links cannot lead outside of the root,
// even if they change concurrently (os.Root).
func (f *Files) openDir(root *os.Root, dir string) (*os.File, error) {
	if dir == "" {
		dir = "."
	}
	return root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
}

// openParent opens the directory of a file and returns the file's name in it.
func (f *Files) openParent(key string) (folder *os.File, name string, err error) {
	root, err := f.open()
	if err != nil {
		return nil, "", err
	}
	dir, name := path.Split(key)
	if !fs.ValidPath(strings.ToValidUTF8(key, "x")) || name == "" || name == "." {
		return nil, "", &scan.RefusedError{Reason: "key", Detail: "it is not a path below the root"}
	}
	folder, err = f.openDir(root, strings.TrimSuffix(dir, "/"))
	return folder, name, err
}
