package contentdigest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rotator/internal/scan"
)

func collect(t *testing.T, s *Sorter) (lines []Line) {
	t.Helper()
	for line, err := range s.Sorted() {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// TestSorter: more lines than fit into memory are sorted, and no file is left. The limit is so
// small that runs are merged into one several times.
func TestSorter(t *testing.T) {
	directory := t.TempDir()
	s := NewSorter(directory)
	s.limit = 3 * lineOverhead
	var want []Line
	for i := range 5 * maxRuns {
		line := Line{Target: i % 2, Ref: fmt.Sprint(i * 7919 % 1000), Digest: "ab"}
		want = append(want, line)
		if err := s.Add(line); err != nil {
			t.Fatal(err)
		}
		if len(s.lines) > 3 || len(s.runs) > maxRuns {
			t.Fatalf("%d lines in memory, %d files", len(s.lines), len(s.runs))
		}
	}
	slices.SortFunc(want, Line.compare)
	if diff := cmp.Diff(want, collect(t, s)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if lines := collect(t, s); len(lines) > 0 {
		t.Errorf("%d lines after a restart", len(lines))
	}
	if files, err := os.ReadDir(directory); err != nil || len(files) > 0 {
		t.Errorf("files %v are left, %v", files, err)
	}
}

func header() Header {
	return Header{
		Kind:    ListKind,
		Scheme:  Scheme,
		Job:     "demo",
		Targets: []string{"a", "b"},
		Began:   time.Unix(0, 0).UTC(),
	}
}

func written(t *testing.T, lines ...Line) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := WriteList(&out, header(), fromSlice(lines)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readBack returns the lines of a file with this text.
func readBack(t *testing.T, text []byte) (lines []Line, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := OpenList(path)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if diff := cmp.Diff(header(), l.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	for line, err := range l.Lines() {
		if err != nil {
			return lines, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// TestList: a list is read back, and an error reports every list that was truncated or changed.
func TestList(t *testing.T) {
	lines := []Line{{Ref: "x", Digest: "00"}, {Target: 1, Ref: "a", NotCovered: "too-large"}}
	text := written(t, lines...)
	got, err := readBack(t, text)
	if diff := cmp.Diff(lines, got); diff != "" || err != nil {
		t.Fatalf("%v, lines (-want +got):\n%s", err, diff)
	}
	for end := range text {
		if _, err := readBack(t, text[:end]); err == nil {
			t.Errorf("the first %d of %d bytes are accepted", end, len(text))
		}
	}
	for _, damage := range []struct{ old, new string }{
		{`"00"`, `"01"`},
		{`"lines":2`, `"lines":3`},
		{`{"target":0,"ref":"x","digest":"00"}` + "\n", ""},
		{`{"lines"`, "\n" + `{"lines"`},
	} {
		changed := strings.Replace(string(text), damage.old, damage.new, 1)
		if changed == string(text) {
			t.Fatalf("%q is not in the list", damage.old)
		}
		if _, err := readBack(t, []byte(changed)); err == nil {
			t.Errorf("a list with %q instead of %q is accepted", damage.new, damage.old)
		}
	}
	if _, err := readBack(t, append(text, "more"...)); err == nil {
		t.Error("text after the list is accepted")
	}
	if _, err := OpenList(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("error %v, want one that wraps %v", err, fs.ErrNotExist)
	}
}

// TestCompare compares with a simple model: two maps.
func TestCompare(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		draw := func(label string) (map[string]Line, []Line) {
			refs := rapid.SliceOfDistinct(rapid.IntRange(0, 9), rapid.ID[int]).Draw(r, label)
			model, lines := map[string]Line{}, []Line{}
			for _, ref := range refs {
				line := Line{Target: ref % 2, Ref: fmt.Sprint(ref)}
				switch rapid.IntRange(0, 3).Draw(r, "digest") {
				case 0:
					line.NotCovered = "unread"
				case 1:
					line.Digest = "01"
				default:
					line.Digest = "00"
				}
				model[line.Ref], lines = line, append(lines, line)
			}
			slices.SortFunc(lines, Line.compare)
			return model, lines
		}
		modelBefore, before := draw("before")
		modelNow, now := draw("now")
		want := make([]Differences, 2)
		for ref := range 10 {
			a, inBefore := modelBefore[fmt.Sprint(ref)]
			b, inNow := modelNow[fmt.Sprint(ref)]
			kind := ""
			switch {
			case !inBefore && inNow:
				kind = New
			case inBefore && !inNow:
				kind = Gone
			case a.NotCovered+b.NotCovered != "":
				kind = NotCompared
			case a.Digest != b.Digest:
				kind = Changed
			}
			if kind != "" {
				want[ref%2].add(kind, fmt.Sprint(ref))
			}
		}
		got, err := Compare(fromSlice(before), fromSlice(now), 2)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			r.Fatalf("%v, differences (-want +got):\n%s", err, diff)
		}
	})
}

// TestCollector: items that are not covered are counted by reason and are not in the sum.
func TestCollector(t *testing.T) {
	sorter := NewSorter(t.TempDir())
	c := NewCollector([]string{"a", "b"}, sorter)
	add := func(target string, entries ...Entry) {
		t.Helper()
		if err := c.Add(target, entries); err != nil {
			t.Fatal(err)
		}
	}
	add("a", Entry{Ref: "lost", Digest: digestOf(9)})
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	add("b", Entry{Ref: "2", Digest: digestOf(2)}, Entry{Ref: "3", NotCovered: "too-large"})
	add("b", Entry{Ref: "1", Digest: digestOf(1)})
	totals := c.Totals()
	if got := totals[1].Text(); got != sumOf(1, 2) || totals[1].Items() != 2 {
		t.Errorf("sum %s of %d items, want %s of 2", got, totals[1].Items(), sumOf(1, 2))
	}
	if diff := cmp.Diff(map[string]int64{"too-large": 1}, totals[1].NotCovered); diff != "" {
		t.Errorf("not covered (-want +got):\n%s", diff)
	}
	if totals[0].Items() != 0 {
		t.Errorf("%d items of target a after a restart", totals[0].Items())
	}
	var refs []scan.Ref
	for _, line := range collect(t, sorter) {
		refs = append(refs, scan.Ref(line.Ref))
	}
	if diff := cmp.Diff([]scan.Ref{"1", "2", "3"}, refs); diff != "" {
		t.Errorf("refs (-want +got):\n%s", diff)
	}
}
