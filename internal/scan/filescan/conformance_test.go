package filescan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rotator/internal/scan"
	"rotator/internal/scan/scantest"
)

// TestMain also runs the test binary as a child process that is killed during a replacement,
// or that runs as another user.
func TestMain(m *testing.M) {
	if child() {
		return
	}
	goleak.VerifyTestMain(m)
}

// store is a directory of files that another program writes.
type store struct {
	t    testing.TB
	root string
}

func newStore(t testing.TB) *store { return &store{t: t, root: t.TempDir()} }

func (s *store) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) path(ref scan.Ref) string {
	key, err := ref.Key()
	s.check(err)
	return filepath.Join(s.root, key)
}

// write creates a file and its directories.
func (s *store) write(key, body string) scan.Ref {
	path := filepath.Join(s.root, key)
	s.check(os.MkdirAll(filepath.Dir(path), 0o755))
	s.check(os.WriteFile(path, []byte(body), 0o600))
	return scan.KeyRef(key)
}

// put stores the n-th file. Its path contains special characters, and it has every property
// that a replacement must preserve.
func (s *store) put(n int) scan.Ref {
	dirs := []string{"a", "a b", "a-b/c", "a.b", "é\n\xff", `"q`}
	ref := s.write(fmt.Sprintf("%s/%d*?[x]\\\xfe{y}.json", dirs[n%len(dirs)], n),
		fmt.Sprintf("body %d", n))
	path := s.path(ref)
	s.check(os.Chmod(path, 0o640|os.FileMode(n%8)|fs.ModeSetuid))
	if os.Geteuid() == 0 {
		s.check(os.Chown(path, 1000+n, 2000+n))
		s.check(os.Chmod(path, 0o640|os.FileMode(n%8)|fs.ModeSetuid))
	}
	s.acl(filepath.Dir(path), "system.posix_acl_default")
	if n%2 == 0 {
		s.acl(path, "system.posix_acl_access")
	}
	s.check(unix.Setxattr(path, "user.tenant", []byte("acme\x00"), 0))
	s.check(unix.Setxattr(path, "user.empty", nil, 0))
	return ref
}

// acl sets an ACL with one more user on a file, or a default ACL on a directory, if ACLs are
// supported (acl(5); the format is that of posix_acl_xattr.h of Linux).
func (s *store) acl(path, attribute string) {
	value := binary.LittleEndian.AppendUint32(nil, 2)
	for _, entry := range [][3]uint32{
		{1, 7, math.MaxUint32},
		{2, 6, 4321},
		{4, 5, math.MaxUint32},
		{16, 7, math.MaxUint32},
		{32, 1, math.MaxUint32},
	} {
		value = binary.LittleEndian.AppendUint16(value, uint16(entry[0]))
		value = binary.LittleEndian.AppendUint16(value, uint16(entry[1]))
		value = binary.LittleEndian.AppendUint32(value, entry[2])
	}
	if err := unix.Setxattr(path, attribute, value, 0); err != nil &&
		!errors.Is(err, unix.EOPNOTSUPP) {
		s.t.Fatal(err)
	}
}

// overwrite writes to a file in place.
func (s *store) overwrite(ref scan.Ref, body string) {
	file, err := os.OpenFile(s.path(ref), os.O_WRONLY|os.O_TRUNC, 0)
	s.check(err)
	_, err = file.WriteString(body)
	s.check(err)
	s.check(file.Close())
}

// replace replaces a file by renaming another file.
func (s *store) replace(ref scan.Ref, body string) {
	path := s.path(ref)
	s.check(os.WriteFile(path+".tmp", []byte(body), 0o600))
	s.check(os.Rename(path+".tmp", path))
}

// rest returns everything that stat and xattr(7) report for a file, except what a write
// changes, and the names in its directory.
func (s *store) rest(ref scan.Ref) string {
	path := s.path(ref)
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return ""
	}
	attributes := map[string]string{}
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	s.check(err)
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if name == "" {
			continue // the file has no attributes
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		s.check(err)
		attributes[name] = string(value[:n])
	}
	return fmt.Sprintf("mode %o owner %d:%d links %d attributes %q directory %q", stat.Mode,
		stat.Uid,
		stat.Gid, stat.Nlink, attributes, s.names(filepath.Dir(path)))
}

func (s *store) names(dir string) []string {
	entries, err := os.ReadDir(dir)
	s.check(err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// content returns the content of every file below the root by path.
func (s *store) content() map[string]string {
	content := map[string]string{}
	s.check(filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		key, _ := filepath.Rel(s.root, path)
		content[key] = string(body)
		return err
	}))
	return content
}

func slotOf(p scan.Payload) []byte { return p.(*scan.Object).Body }

func splice(p scan.Payload, value []byte) scan.Payload {
	object := *p.(*scan.Object)
	object.Body = value
	return &object
}

func (s *store) subject(c Config) scantest.Subject {
	c.Root, c.PageLimit = s.root, 7
	return scantest.Subject{
		Source: New(c), Put: s.put, Rest: s.rest, Splice: splice, Slot: slotOf,
		Rewrite: func(ref scan.Ref) { s.overwrite(ref, "other") },
		Touch:   func(ref scan.Ref) { s.check(os.Chmod(s.path(ref), 0o604)) },
		Delete:  func(ref scan.Ref) { s.check(os.Remove(s.path(ref))) },
	}
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
	}{
		{"mtime: update", Config{}},
		{"mtime: keep", Config{KeepMtime: true, Include: []string{"**"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			scantest.Run(t, func(t *testing.T) scantest.Subject {
				return newStore(t).subject(c.config)
			})
		})
	}
}

// all returns the paths of all items in the order of the listing.
func all(t testing.TB, f *Files) []string {
	t.Helper()
	partitions, err := f.Partitions(t.Context())
	if err != nil || len(partitions) != 1 {
		t.Fatal(partitions, err)
	}
	var keys []string
	var cursor scan.Cursor
	for {
		page, err := f.Page(t.Context(), partitions[0], cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			key, err := item.Ref.Key()
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
		if page.Last {
			return keys
		}
		cursor = page.Next
	}
}

// Listing and loading change no file.
func TestReadingChangesNothing(t *testing.T) {
	s := newStore(t)
	for n := range 20 {
		s.put(n)
	}
	before := s.content()
	f := New(Config{Root: s.root})
	if err := f.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range all(t, f) {
		if _, err := f.Load(t.Context(), scan.KeyRef(key)); err != nil {
			t.Error(err)
		}
	}
	if after := s.content(); !maps.Equal(before, after) {
		t.Errorf("before %q, after %q", slices.Sorted(maps.Keys(before)),
			slices.Sorted(maps.Keys(after)))
	}
}
