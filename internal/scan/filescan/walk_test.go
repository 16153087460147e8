package filescan

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"rotator/internal/scan"
)

// paths draws relative paths with names that are hard to sort and print. No path is a parent
// of another.
func paths(t *rapid.T) []string {
	name := rapid.StringMatching("[ab.\\-0é\n\"\\\\*]{1,3}")
	hostile := rapid.Custom(func(t *rapid.T) string {
		n := name.Draw(t, "name")
		if rapid.IntRange(0, 5).Draw(t, "hostile") == 0 {
			n += "\xff"
		}
		if n == "." || n == ".." {
			n += "x"
		}
		return n
	})
	drawn := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(hostile, 1, 4).Draw(t, "names"), "/")
	}), 0, 30).Draw(t, "paths")
	slices.Sort(drawn)
	drawn = slices.Compact(drawn)
	return slices.DeleteFunc(slices.Clone(drawn), func(p string) bool {
		return slices.ContainsFunc(drawn, func(q string) bool {
			return strings.HasPrefix(q, p+"/")
		})
	})
}

// All files are listed once, in the byte order of their paths, and from any cursor the rest
// of them. Files that are created or deleted meanwhile do not affect others.
func TestListing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newStore(t)
		stay, come := paths(rt), rapid.SliceOfN(rapid.IntRange(0, 1), 40, 40).Draw(rt,
			"deleted")
		for _, key := range stay {
			s.write(key, "body")
		}
		f := New(Config{Root: s.root, PageLimit: rapid.IntRange(1, 5).Draw(rt, "page")})
		if got := all(t, f); !slices.Equal(got, stay) {
			rt.Fatalf("listed %q, want %q", got, stay)
		}
		for i, cursor := range stay {
			page, err := f.Page(t.Context(), scan.Partition{Spec: []byte(`{"order":"path"}`)},
				scan.Cursor(cursor))
			if err != nil {
				rt.Fatal(err)
			}
			want := stay[i+1:]
			for n, item := range page.Items {
				if n >= len(want) || item.Ref != scan.KeyRef(want[n]) {
					rt.Fatalf("after %q comes %q, want %q", cursor, item.Ref, want)
				}
			}
			if page.Last && len(page.Items) != len(want) {
				rt.Fatalf("%[2]d files after %[1]q, want %[3]d", cursor, len(page.Items), len(want))
			}
		}
		var gone []string
		for i, key := range stay {
			if come[i] == 1 {
				gone = append(gone, key)
			}
		}
		got := allWhile(rt, s, f, gone)
		for _, key := range stay {
			n := len(slices.DeleteFunc(slices.Clone(got), func(k string) bool { return k != key }))
			if n > 1 || n == 0 && !slices.Contains(gone, key) {
				rt.Fatalf("%q is listed %d times in %q", key, n, got)
			}
		}
	})
}

// allWhile lists all files while files are deleted between the pages.
func allWhile(t *rapid.T, s *store, f *Files, gone []string) (keys []string) {
	var cursor scan.Cursor
	for {
		page, err := f.Page(s.t.Context(), scan.Partition{Spec: []byte(`{"order":"path"}`)}, cursor)
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
		if cursor = page.Next; len(gone) > 0 {
			s.check(os.Remove(filepath.Join(s.root, gone[0])))
			gone = gone[1:]
			if len(gone)%2 == 0 { // resume in another process
				f = New(f.config)
			}
		}
	}
}

func TestIncludeAndExclude(t *testing.T) {
	s := newStore(t)
	for _, key := range []string{"a.json", "a.jsonl", "x/a.jsonl", "x/y/b.jsonl", "x/y/b.bak",
		"cache/c.jsonl", "x/cache/d.jsonl", ".hidden/e.jsonl", "z/f"} {
		s.write(key, "body")
	}
	for _, c := range []struct{ include, exclude, want []string }{
		{
			nil,
			nil,
			[]string{".hidden/e.jsonl", "a.json", "a.jsonl", "cache/c.jsonl", "x/a.jsonl",
				"x/cache/d.jsonl", "x/y/b.bak", "x/y/b.jsonl", "z/f"},
		},
		{
			[]string{"**/*.jsonl"},
			[]string{"**/cache", ".*"},
			[]string{"a.jsonl", "x/a.jsonl", "x/y/b.jsonl"},
		},
		{[]string{"*.jsonl"}, nil, []string{"a.jsonl"}},
		{[]string{"x/y/*"}, []string{"**/*.bak"}, []string{"x/y/b.jsonl"}},
		{[]string{"x/{a,b}.jsonl", "z/f", "none/*"}, nil, []string{"x/a.jsonl", "z/f"}},
		{[]string{"x/**"}, []string{"x/cache/**"},
			[]string{"x/a.jsonl", "x/y/b.bak", "x/y/b.jsonl"}},
		{
			[]string{"x/cache", "z/f", ".hidden/"},
			nil,
			[]string{".hidden/e.jsonl", "x/cache/d.jsonl", "z/f"},
		},
		{[]string{"x"}, []string{"x/cache"}, []string{"x/a.jsonl", "x/y/b.bak", "x/y/b.jsonl"}},
		{[]string{"*"}, nil, []string{"a.json", "a.jsonl"}},
		{nil, []string{"**"}, nil},
	} {
		if got := all(t,
			New(Config{Root: s.root, Include: c.include, Exclude: c.exclude})); !slices.Equal(got,
			c.want) {
			t.Errorf("include %q exclude %q: %q, want %q", c.include, c.exclude, got, c.want)
		}
	}
}

// Each pattern that matches no file is noted at the end of a complete walk.
func TestUnmatchedInclude(t *testing.T) {
	s := newStore(t)
	s.write("a/x", "body")
	s.write("b/y", "body")
	config := Config{Root: s.root, Include: []string{"a", "c", "**/z"}, PageLimit: 1}
	f := New(config)
	all(t, f)
	notes := strings.Join(f.Notes(), "\n")
	if !strings.Contains(notes, `"c/**"`) || !strings.Contains(notes, `"**/z"`) ||
		strings.Contains(notes, `"a/**"`) {
		t.Errorf("notes: %s", notes)
	}
	f = New(config) // another process, which has not seen the first page
	if _, err := f.Page(t.Context(), scan.Partition{Spec: []byte(`{"order":"path"}`)},
		scan.Cursor("a/x")); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.Join(f.Notes(), "\n"), "include") {
		t.Errorf("notes of an incomplete walk: %q", f.Notes())
	}
}

// Links, special files and rotator's own files are not items.
func TestOnlyFilesBelowTheRoot(t *testing.T) {
	s, outside := newStore(t), newStore(t)
	outside.write("secret", "outside")
	s.write("file", "body")
	s.write("state/state.db", "own")
	s.check(os.Symlink(outside.root, filepath.Join(s.root, "out")))
	s.check(os.Symlink("file", filepath.Join(s.root, "link")))
	s.check(os.Symlink("..", filepath.Join(s.root, "state", "up")))
	s.check(unix.Mkfifo(filepath.Join(s.root, "pipe"), 0o600))
	f := New(Config{Root: s.root, Own: []string{filepath.Join(s.root, "state", "state.db")}})
	if got, want := all(t, f), []string{"file"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	for _, text := range []string{"symbolic links", "pipes", "own files"} {
		if !strings.Contains(strings.Join(f.Notes(), "\n"), text) {
			t.Errorf("no note contains %q: %q", text, f.Notes())
		}
	}
	for _, key := range []string{"link", "pipe", "out/secret", "state", "gone", "file/x",
		"../secret", "/etc/passwd", "."} {
		if item, err := f.Load(t.Context(), scan.KeyRef(key)); err == nil {
			t.Errorf("%s was read: %q", key, slotOf(item.Payload))
		}
	}
}

func TestMissingRoot(t *testing.T) {
	s := newStore(t)
	s.write("file", "body")
	moved := filepath.Join(s.root, "moved")
	s.check(os.Mkdir(moved, 0o700))
	gone := New(Config{Root: moved})
	all(t, gone)
	s.check(os.Remove(moved))
	s.check(os.Mkdir(moved, 0o700)) // empty, as after unmounting a file system
	_, err := gone.Page(t.Context(), scan.Partition{Spec: []byte(`{"order":"path"}`)}, nil)
	for name, err := range map[string]error{
		"nothing":  New(Config{Root: filepath.Join(s.root, "nothing")}).Check(t.Context()),
		"a file":   New(Config{Root: filepath.Join(s.root, "file")}).Check(t.Context()),
		"replaced": err,
	} {
		if missing := (*scan.MissingError)(nil); !errors.As(err, &missing) ||
			missing.Field != "files.root" {
			t.Errorf("%s: %v, want a MissingError of files.root", name, err)
		}
	}
}

// Items that a filter leaves out are counted once, for all page sizes, even if another
// process continues. Each file counts as one item, and so does a directory that is excluded
// entirely.
func TestExcludedIsCounted(t *testing.T) {
	s := newStore(t)
	for _, key := range []string{
		"a.json", "a.jsonl", "b/x.jsonl", "cache/a.jsonl", "cache/b.jsonl", "d/cache/c.jsonl",
		"d/d.bak", "e/f.jsonl", "z/cache/d.jsonl",
	} {
		s.write(key, "body")
	}
	for limit := 1; limit <= 4; limit++ {
		var cursor scan.Cursor
		var excluded int64
		for last := false; !last; {
			f := New(Config{
				Root:      s.root,
				Include:   []string{"**/*.jsonl"},
				Exclude:   []string{"**/cache"},
				PageLimit: limit,
			})
			page, err := f.Page(t.Context(),
				scan.Partition{Spec: []byte(`{"order":"path"}`)}, cursor)
			if err != nil {
				t.Fatal(err)
			}
			excluded += page.Excluded
			cursor, last = page.Next, page.Last
		}
		if excluded != 5 { // a.json, cache, d/cache, d/d.bak, z/cache
			t.Errorf("pages of %d: %d excluded, want 5", limit, excluded)
		}
	}
}

// Names leaves the root directory open for later pages.
func TestNames(t *testing.T) {
	s := newStore(t)
	s.write("file", "body")
	f := New(Config{Root: s.root})
	if names, err := f.Names(t.Context()); err != nil || !slices.Equal(names, []string{"file"}) {
		t.Errorf("names %q, %v", names, err)
	}
	if got := all(t, f); !slices.Equal(got, []string{"file"}) {
		t.Errorf("listed %q", got)
	}
}
