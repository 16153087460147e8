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

// order is the Spec of the one partition, for a later version that may cut targets
// otherwise.
type order struct {
	Order string `json:"order"`
}

const byPath = "path"

// maxLook is how many files one page looks at, whether they are items or not.
const maxLook = 20_000

// Partitions returns one partition: reading names takes far less time than
// re-encrypting what is in the files.
func (f *Files) Partitions(context.Context) ([]scan.Partition, error) {
	spec, err := json.Marshal(order{Order: byPath})
	return []scan.Partition{{Name: "files by path", Spec: spec}}, err
}

// Page lists the files behind the cursor, which is the last path that the page
// before looked at, in the order of the bytes of their paths. Files may come and go
// between pages. Of a directory that is being listed its names are held in memory,
// and files that are made in it meanwhile may not be seen.
func (f *Files) Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error) {
	var o order
	if err := json.Unmarshal(p.Spec, &o); err != nil || o.Order != byPath {
		return scan.Page{}, fmt.Errorf("read the partition of directory %s: %s is none of this "+
			"version", f.config.Root, p.Spec)
	}
	root, err := f.open()
	if err == nil {
		err = f.standing(root)
	}
	if err != nil {
		return scan.Page{}, err
	}
	f.walking.Lock()
	defer f.walking.Unlock()
	if f.walk == nil || len(cursor) == 0 || f.walk.last != string(cursor) {
		f.walk = &walk{
			files:  f,
			root:   root,
			last:   string(cursor),
			levels: []level{{}},
			whole:  len(cursor) == 0,
			met:    map[string]bool{},
		}
	}
	page, err := f.walk.page(ctx, f.config.PageLimit)
	if err == nil && page.Last {
		f.walk.noteUnmet()
	}
	if err != nil || page.Last {
		f.walk = nil
	}
	return page, err
}

// walk is a place in the tree of files, between two of them.
type walk struct {
	files  *Files
	root   *os.Root
	last   string // the path that was looked at last, or from which to go on
	levels []level
	whole  bool            // it began at the first file
	met    map[string]bool // patterns of Include that matched a file
	// excluded counts the directories that were left out as a whole since the page
	// began.
	excluded int64
}

// level is a directory on the way to where the walk is.
type level struct {
	dir   string // its path with a slash behind, "" for the root
	read  bool
	names []string // what is still to be looked at; directories have a slash behind
}

func (w *walk) page(ctx context.Context, limit int) (page scan.Page, err error) {
	defer func() {
		page.Excluded += w.excluded
		w.excluded = 0
	}()
	page.Included = w.files.globs.Counters()
	for looked := 0; len(page.Items) < limit && looked < maxLook; looked++ {
		path, ok, err := w.next(ctx)
		if err != nil {
			return scan.Page{}, err
		}
		if !ok {
			page.Last = true
			return page, nil
		}
		w.last = path
		w.meet(path)
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

// meet remembers which patterns of Include match a file.
func (w *walk) meet(path string) {
	for _, pattern := range w.files.globs.Include() {
		if !w.met[pattern] && doublestar.MatchUnvalidated(pattern, path) {
			w.met[pattern] = true
		}
	}
}

// noteUnmet notes the patterns of Include that no file of the whole walk matched:
// each may be a slip of the pen.
func (w *walk) noteUnmet() {
	for _, pattern := range w.files.globs.Include() {
		if w.whole && !w.met[pattern] {
			w.files.note("directory %s: no file matches %q of include", w.files.config.Root,
				pattern)
		}
	}
}

// next is the path of the next regular file; not ok at the end.
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
		if !w.files.descends(strings.TrimSuffix(path, "/")) {
			w.excluded++
			continue
		}
		w.levels = append(w.levels, level{dir: path})
	}
	return "", false, nil
}

// names lists what is behind the last path in a directory. With a slash behind the
// names of directories, the order of names is the order of all paths below them.
func (w *walk) names(dir string) ([]string, error) {
	folder, err := w.files.folder(w.root, strings.TrimSuffix(dir, "/"))
	if err != nil {
		if now, gone := w.root.Lstat(path.Clean(dir)); dir != "" &&
			(gone != nil && absent(gone) || gone == nil && !now.IsDir()) {
			return nil, nil // it was a directory a moment ago
		}
		return nil, w.files.unreadable(dir, err)
	}
	defer func() { _ = folder.Close() }()
	all, err := folder.Readdirnames(-1)
	if err != nil {
		return nil, w.files.unreadable(dir, err)
	}
	var names []string
	for _, name := range all {
		name, err = w.kind(folder, dir, name)
		if err != nil {
			return nil, w.files.unreadable(dir, err)
		}
		if name != "" && w.ahead(dir+name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// ahead says whether a path, or something in a directory, is behind the last path.
func (w *walk) ahead(path string) bool {
	return path > w.last || strings.HasSuffix(path, "/") && strings.HasPrefix(w.last, path)
}

// kind returns a name as the walk wants it: of a file as it is, of a directory with
// a slash, and "" of what is not looked at.
func (w *walk) kind(folder *os.File, dir, name string) (string, error) {
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

// isOwn reports whether a file belongs to the run itself.
func (f *Files) isOwn(path string) bool {
	if !f.own[path] {
		return false
	}
	f.noteFirst(fmt.Sprintf("directory %s: the run's own files are left out", f.config.Root), path)
	return true
}

// descends says whether a directory can hold items.
func (f *Files) descends(dir string) bool {
	if f.globs.Excludes(dir) {
		return false
	}
	if len(f.globs.Include()) == 0 {
		return true
	}
	return slices.ContainsFunc(f.globs.Include(), func(pattern string) bool {
		base, _ := doublestar.SplitPattern(pattern) // the names before the first wildcard
		return base == "." || within(dir, base) || within(base, dir)
	})
}

// within says whether a path is a directory or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// folder opens a directory below the root. Symbolic links cannot lead out of the
// root, whatever is changed meanwhile (os.Root).
func (f *Files) folder(root *os.Root, dir string) (*os.File, error) {
	if dir == "" {
		dir = "."
	}
	return root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
}

// place opens the directory of a file and returns the file's name in it.
func (f *Files) place(key string) (folder *os.File, name string, err error) {
	root, err := f.open()
	if err != nil {
		return nil, "", err
	}
	dir, name := path.Split(key)
	if !fs.ValidPath(strings.ToValidUTF8(key, "x")) || name == "" || name == "." {
		return nil, "", &scan.RefusedError{Reason: "key", Detail: "it is not a path below the root"}
	}
	folder, err = f.folder(root, strings.TrimSuffix(dir, "/"))
	return folder, name, err
}
