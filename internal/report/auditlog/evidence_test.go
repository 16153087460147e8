package auditlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rotator/internal/rotate"
)

// history writes a log with one written item, one intended item, and one item
// with the blob of the first. It returns the mark after each line.
func history(t *testing.T, path string) (known, open, sharing rotate.Record, marks []Mark) {
	t.Helper()
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	known, open, sharing = record(1), record(2), record(3)
	known.After, open.After, sharing.After = "aa", "bb", "aa"
	for _, note := range []func() error{
		func() error { return log.Intend([]rotate.Record{known}) },
		func() error { return log.Intend([]rotate.Record{open, sharing}) },
		func() error { return log.Record([]rotate.Record{known}) },
	} {
		if err := note(); err != nil {
			t.Fatal(err)
		}
		lines, hash := log.Head()
		marks = append(marks, Mark{Name: filepath.Base(path), Lines: lines, Hash: hash, Here: true})
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return known, open, sharing, marks
}

// TestFindAfterMarks: Find returns nothing before the log has received the marks
// of the checkpoint, and nothing at all from a log that lacks a mark.
func TestFindAfterMarks(t *testing.T) {
	elsewhere := func(m Mark) Mark { m.Name, m.Here = "other.jsonl", false; return m }
	wrong := func(m Mark) Mark { m.Hash = strings.Repeat("0", 64); return m }
	later := func(m Mark) Mark { m.Lines++; return m }
	stranger := func(m Mark) Mark { m = wrong(m); m.Here = false; return m }
	for _, test := range []struct {
		name   string
		marks  func(m []Mark) []Mark
		kept   []bool // known, open, sharing; nil: nothing is found
		broken int
	}{
		{"no marks were passed", nil, nil, 0},
		{"the checkpoint has no mark", func([]Mark) []Mark { return nil },
			[]bool{false, false, false}, 0},
		{"the mark of the first line", func(m []Mark) []Mark { return m[:1] },
			[]bool{true, false, false}, 0},
		{"the mark of the second line", func(m []Mark) []Mark {
			return m[:2]
		}, []bool{true, true, true}, 0},
		{"the mark of another log", func(m []Mark) []Mark { return []Mark{elsewhere(m[2])} },
			[]bool{false, false, false}, 0},
		{"the mark of another line", func(m []Mark) []Mark {
			return []Mark{m[0], wrong(m[1])}
		}, nil,
			1},
		{"the mark of a line after the end", func(m []Mark) []Mark {
			return []Mark{m[0], later(m[2])}
		}, nil, 1},
		{"another machine has a log of this name",
			func(m []Mark) []Mark { return []Mark{m[0], stranger(m[2])} },
			[]bool{true, false, false}, 0},
	} {
		for _, beside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, beside %v", test.name, beside), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "audit.jsonl")
				known, open, sharing, marks := history(t, path)
				log := reopen(t, path, beside)
				if test.marks != nil {
					if broken := log.Believe(test.marks(marks)); len(broken) != test.broken {
						t.Errorf("broken: %+v, want %d", broken, test.broken)
					}
				}
				for i, r := range []rotate.Record{known, open, sharing} {
					trace, ok := log.Find(r.Target, r.Ref, r.After)
					if ok != (test.kept != nil) {
						t.Errorf("Find of %d: %+v, %v", i, trace, ok)
					}
					if ok && (trace.Record != r || trace.Kept != test.kept[i] ||
						trace.Written != (i == 0)) {
						t.Errorf("Find of %d: %+v, want %+v, kept %v", i, trace, r, test.kept[i])
					}
				}
				if trace, ok := log.Find(open.Target, known.Ref, open.After); ok {
					t.Errorf("the blob of another item is found: %+v", trace)
				}
			})
		}
	}
}

// reopen opens a log for another process, as its own log or with Beside.
func reopen(t *testing.T, path string, beside bool) *Log {
	t.Helper()
	own := path
	if beside {
		own = path + ".2"
	}
	log, err := Open(own, "job")
	if err == nil && beside {
		err = log.Beside(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

// TestLostLogIsBroken: a log that no longer exists is reported too.
func TestLostLogIsBroken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	_, _, _, marks := history(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if broken := reopen(t, path, false).Believe(marks[2:]); len(broken) != 1 {
		t.Errorf("the own log: %+v", broken)
	}
	if broken := reopen(t, path+".3", false).Believe(marks[2:]); len(broken) != 1 {
		t.Errorf("a log read by Beside: %+v", broken)
	}
}

// TestUnboundLinesAreIgnored: a line without a binding, as older versions wrote it, is verified,
// but Find ignores it.
func TestUnboundLinesAreIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	old := record(1)
	old.Binding = ""
	lines := newWriter(newChain(0, genesis))
	lines.old = true
	if err := os.WriteFile(path, lines.rotated(nil, []rotate.Record{old}), 0o600); err != nil {
		t.Fatal(err)
	}
	log := reopen(t, path, false)
	log.Believe(nil)
	if trace, ok := log.Find(old.Target, old.Ref, old.After); ok {
		t.Errorf("found %+v", trace)
	}
	if err := log.Record([]rotate.Record{record(2)}); err != nil {
		t.Fatal(err)
	}
	if n, err := VerifyFile(path); err != nil || n != 2 {
		t.Errorf("VerifyFile = %d, %v", n, err)
	}
}

// TestForeignFilesAreNotChanged: a file that is not an audit log of the job is never
// changed, under any name, and opening it never blocks.
func TestForeignFilesAreNotChanged(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.jsonl")
	write(t, other, 0, 1)
	otherLog, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"a line without a line break": "a note of another program",
		"lines":                       "one\ntwo\n",
		"the beginning of a segment":  segmentStart + "2}\n",
		"too short for a segment":     segmentStart[:len(segmentStart)-1],
		"JSON":                        `{"seq":1,"kind":"order"}`,
		"JSON that begins like a log": lineStart(1) + `log","at":"noon"}`,
		"JSON of another event":       lineStart(1) + `login"}`,
		"JSON lines":                  "{\"seq\":2}\n{\"seq\":3}\n",
		"too short to identify":       `{"seq":1,`,
		"a brace":                     "{",
		"zeros":                       "\x00\x00\x00",
		"a newline":                   "\n",
		"longer than a line may be":   strings.Repeat("x", maxLine+10),
		"text before an audit log":    "text\n" + string(otherLog),
		"a log of another job":        string(otherLog),
		"text after an audit log":     string(otherLog) + "and a remark without an end",
		"text that begins like a log": lineStart(1) + "log\"}\ntext\n",
	} {
		for _, kind := range []string{"by its name", "by a symbolic link", "by a hard link"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "notes")
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				path, job := pathTo(t, file, kind), "another job"
				if name == "text after an audit log" {
					job = "job"
				}
				log, err := Open(path, job)
				if err == nil {
					t.Error(log.Close())
				}
				if now, reading := os.ReadFile(file); reading != nil || string(now) != content {
					t.Errorf("the file was changed to %.100q (%v)", now, reading)
				}
				var chain *ChainError
				if !IsForeign(err) && !errors.As(err, &chain) ||
					!strings.Contains(fmt.Sprint(err), path) {
					t.Errorf("Open: %v", err)
				}
			})
		}
	}
}

// pathTo returns a path of file: its name, a symbolic link or a hard link.
func pathTo(t *testing.T, file, kind string) string {
	t.Helper()
	path := file + ".jsonl"
	err := error(nil)
	switch kind {
	case "by a symbolic link":
		err = os.Symlink(file, path)
	case "by a hard link":
		err = os.Link(file, path)
	default:
		return file
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOnlyRegularFiles: anything other than a file is refused at once by Open,
// Beside and VerifyFile.
func TestOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(pipe, link); err != nil {
		t.Fatal(err)
	}
	log := reopen(t, filepath.Join(dir, "audit.jsonl"), false)
	for path, says := range map[string]string{
		pipe:        "named pipe",
		link:        "named pipe",
		dir:         "directory",
		"/dev/null": "device",
		"/dev/full": "device",
	} {
		began := time.Now()
		_, err := Open(path, "job")
		if !IsForeign(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("Open(%s): %v, want %q", path, err, says)
		}
		if _, err := VerifyFile(path); !IsForeign(err) {
			t.Errorf("VerifyFile(%s): %v", path, err)
		}
		if err := log.Beside(path); err != nil {
			t.Errorf("Beside(%s): %v", path, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s", path, took)
		}
	}
}

// TestEmptyFileBecomesALog: Open makes a log of an empty file.
func TestEmptyFileBecomesALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, path, 0, 1)
	if n, err := VerifyFile(path); err != nil || n != 3 {
		t.Errorf("VerifyFile = %d, %v", n, err)
	}
}

// TestDamageIsReportedWithItsLine: the error has the number of the plain line, even if only the
// end of the log is read. The log is not changed.
func TestDamageIsReportedWithItsLine(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the log is too long for -short")
	}
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	log.SegmentSize = 1 << 40
	long := record(1)
	long.Path = strings.Repeat("p", 4000)
	for log.lines.plain < gathered+gathered/8 {
		records := make([]rotate.Record, 100)
		for i := range records {
			records[i] = long
		}
		if err := log.Record(records); err != nil {
			t.Fatal(err)
		}
	}
	lines, _ := log.Head()
	var plain bytes.Buffer
	if err := errors.Join(log.Close(), Export(path, &plain)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string][]byte{"stored": text, "plain": plain.Bytes()} {
		all := bytes.SplitAfter(text, []byte("\n"))
		for name, damage := range map[string]func(line []byte) []byte{
			"a byte": func(line []byte) []byte {
				return bytes.Replace(line, []byte("ppp"), []byte("qpp"), 1)
			},
			"a removed line": func([]byte) []byte { return nil },
			"twice": func(line []byte) []byte {
				return append(line[:len(line):len(line)], line...)
			},
			"an inserted line": func([]byte) []byte { return []byte("a remark\n") },
		} {
			if form == "plain" && name != "a byte" && name != "a removed line" {
				continue // plain lines are parsed slowly
			}
			at := lines - 500 // in the file
			want := at
			if name == "twice" {
				want++
			}
			if form == "stored" {
				want-- // the first line of the segment
			}
			changed := bytes.Join([][]byte{
				bytes.Join(all[:at-1], nil), damage(all[at-1]), bytes.Join(all[at:], nil)}, nil)
			isDamaged(t, path, form+", "+name, changed, want)
		}
	}
}

// isDamaged checks that a log with this content is refused because of a line, and not changed.
func isDamaged(t *testing.T, path, name string, content []byte, want int64) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, "job")
	var chain, verified *ChainError
	if !errors.As(err, &chain) || chain.Line != want {
		t.Errorf("%s: Open: %v, want line %d", name, err, want)
	}
	if _, err := VerifyFile(path); !errors.As(err, &verified) || verified.Line != want {
		t.Errorf("%s: VerifyFile: %v, want line %d", name, err, want)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
		t.Errorf("%s: the log was changed (%v)", name, err)
	}
}
