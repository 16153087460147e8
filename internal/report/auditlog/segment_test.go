package auditlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
)

// small is a segment size that a few lines exceed.
const small = 2000

// typical returns record n of a job.
func typical(n int) rotate.Record {
	r := record(n)
	r.At = r.At.AddDate(40, 0, n/7)
	r.Target = [...]string{"customers", "orders"}[n%2]
	r.From = "arn:aws:kms:us-east-1:111122223333:key/old"
	r.To = "arn:aws:kms:us-east-1:111122223333:key/new"
	r.After = fmt.Sprintf("%064x", n)
	r.Origin = reencrypt.Origin{
		RequestID:    fmt.Sprintf("request-%d", n),
		FromMaterial: "material-old",
		ToMaterial:   "material-new",
	}
	return r
}

// fastDir returns a directory in memory if the system has one, because tests that sync many
// files are slow on a disk.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "auditlog")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// session is a log that is open for writing, and what it must contain.
type session struct {
	path string
	log  *Log
	want []string // the plain lines without "seq", "at", "prev" and "hash"
	mark Mark     // the last line that was acknowledged
	next int
	open []rotate.Record // intents without a second line
}

func (s *session) reopen(t testing.TB) {
	t.Helper()
	var err error
	if s.log, err = Open(s.path, "job"); err != nil {
		t.Fatal(err)
	}
	s.log.SegmentSize = small
	s.log.Believe(nil)
}

// expect adds the lines of records to the lines that the log must contain.
func (s *session) expect(event string, records []rotate.Record) {
	if len(s.want) == 0 {
		s.want = append(s.want, `"event":"log","job":"job"`)
	}
	for i := range records {
		text := appendChange([]byte(`"event":"`+event+`"`), &records[i])
		if event == eventIntent {
			text = appendOrigin(text, &records[i].Origin)
		}
		s.want = append(s.want, string(text))
	}
}

// add appends n intents, or the second lines of the first n open intents.
func (s *session) add(event string, n int) error {
	var records []rotate.Record
	appendRecords := s.log.Intend
	if event == eventIntent {
		for range n {
			s.next++
			records = append(records, typical(s.next))
		}
	} else {
		appendRecords = s.log.Record
		records = s.open[:min(n, len(s.open))]
	}
	err := appendRecords(records)
	if err == nil {
		s.acknowledged(event, records)
	}
	return err
}

func (s *session) acknowledged(event string, records []rotate.Record) {
	s.expect(event, records)
	if event == eventIntent {
		s.open = append(s.open, records...)
	} else {
		s.open = s.open[len(records):]
	}
	s.mark.Lines, s.mark.Hash = s.log.Head()
}

// essence returns plain lines without the members that depend on time and position.
func essence(text string) (lines []string) {
	for line := range strings.Lines(text) {
		_, event, _ := strings.Cut(line, `,`)
		event, members, _ := strings.Cut(event, `,"at":"`)
		_, members, _ = strings.Cut(members, `"`)
		members, _, _ = strings.Cut(members, `,"prev":"`)
		lines = append(lines, event+members)
	}
	return lines
}

// check verifies the log, and that it has exactly the expected lines, and at most more of
// those in flight.
func (s *session) check(t testing.TB, what string) {
	t.Helper()
	found, err := VerifyFile(s.path, s.mark)
	if err != nil || found != int64(len(s.want)) {
		t.Fatalf("%s: VerifyFile = %d, %v, want %d lines", what, found, err, len(s.want))
	}
	var plain bytes.Buffer
	if err := Export(s.path, &plain); err != nil {
		t.Fatalf("%s: Export: %v", what, err)
	}
	got := essence(plain.String())
	for i, want := range s.want {
		if got[i] != want {
			t.Fatalf("%s: line %d is\n%s\nwant\n%s", what, i+1, got[i], want)
		}
	}
	if lines, hash := s.log.Head(); lines != s.mark.Lines || hash != s.mark.Hash {
		t.Fatalf("%s: Head = %d, %s, want %+v", what, lines, hash, s.mark)
	}
}

// newSession writes a log with at least n closed segments.
func newSession(t testing.TB, path string, n int64) *session {
	s := &session{path: path}
	s.reopen(t)
	for s.log.number <= n {
		if err := errors.Join(s.add(eventIntent, 2), s.add(eventRotated, 1)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestSegments: a log of several segments is one chain. Each segment but the first refers to
// nothing outside itself.
func TestSegments(t *testing.T) {
	t.Parallel()
	s := newSession(t, filepath.Join(fastDir(t), "job.audit.jsonl"), 3)
	s.check(t, "as written")
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	defer func() { _ = s.log.Close() }()
	if err := errors.Join(s.add(eventRotated, 2), s.add(eventIntent, 3)); err != nil {
		t.Fatal(err)
	}
	s.check(t, "continued")
	for n := range int64(3) {
		var plain bytes.Buffer
		if err := Export(segmentPath(s.path, n+1), &plain); err != nil || plain.Len() < small {
			t.Errorf("segment %d alone: %d bytes, %v", n+1, plain.Len(), err)
		}
	}
}

// copyDir copies the files of a directory.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// replaceByOther replaces segment 2 of a log by that of another log.
func replaceByOther(t *testing.T, path string) error {
	t.Helper()
	other := newSession(t, filepath.Join(fastDir(t), "job.audit.jsonl"), 1)
	other.next = 50
	for other.log.number < 3 {
		if err := other.add(eventIntent, 2); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(segmentPath(other.path, 2))
	return errors.Join(err, other.log.Close(), os.WriteFile(segmentPath(path, 2), text, 0o600))
}

// TestLostAndDamagedSegments: the error names the segment.
func TestLostAndDamagedSegments(t *testing.T) {
	t.Parallel()
	from := fastDir(t)
	s := newSession(t, filepath.Join(from, "job.audit.jsonl"), 3)
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(path string) error
		says   string
	}{
		"the first": {func(path string) error { return os.Remove(segmentPath(path, 1)) },
			"segment 1 is missing (job.audit.jsonl.000001.zst)"},
		"one between": {func(path string) error { return os.Remove(segmentPath(path, 2)) },
			"segment 2 is missing"},
		"the last": {func(path string) error { return os.Remove(segmentPath(path, 3)) },
			"segment 3 is missing"},
		"the open one": {os.Remove, "the end is cut off"},
		"exchanged": {func(path string) error {
			return os.Rename(segmentPath(path, 3), segmentPath(path, 2))
		}, "in job.audit.jsonl.000002.zst: it does not follow the segment before"},
		"of another log": {func(path string) error { return replaceByOther(t, path) },
			"in job.audit.jsonl.000002.zst: it does not follow the segment before"},
		"torn": {func(path string) error { return tear(segmentPath(path, 2)) },
			"job.audit.jsonl.000002.zst is cut short"},
		"a flipped bit": {func(path string) error {
			text, err := os.ReadFile(segmentPath(path, 2))
			text[len(text)/2] ^= 1
			return errors.Join(err, os.WriteFile(segmentPath(path, 2), text, 0o600))
		}, "job.audit.jsonl.000002.zst"},
		"cut short": {func(path string) error {
			text, err := os.ReadFile(segmentPath(path, 2))
			return errors.Join(err, os.WriteFile(segmentPath(path, 2), text[:len(text)-5], 0o600))
		}, "job.audit.jsonl.000002.zst is damaged"},
		"empty": {func(path string) error { return os.Truncate(segmentPath(path, 2), 0) },
			"job.audit.jsonl.000002.zst is cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fastDir(t)
			copyDir(t, from, dir)
			path := filepath.Join(dir, "job.audit.jsonl")
			if err := test.change(path); err != nil {
				t.Fatal(err)
			}
			_, err := VerifyFile(path, s.mark)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("VerifyFile: %v, want %q", err, test.says)
			}
			if err := Export(path, &bytes.Buffer{}); name != "the open one" && err == nil {
				t.Error("Export finds nothing wrong")
			}
		})
	}
}

// tear removes the last bytes of the content of a closed segment.
func tear(path string) error {
	log, n, _ := SegmentOf(path)
	source, err := closedSegment(log, n).open()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(source)
	encoder, creating := zstd.NewWriter(nil)
	if err := errors.Join(err, source.Close(), creating); err != nil {
		return err
	}
	return os.WriteFile(path, encoder.EncodeAll(text[:len(text)-100], nil), 0o600)
}

// TestOpenSegmentDiffers: an open segment with the number of a closed one is emptied only if
// its lines are the same. Both follow the segment before.
func TestOpenSegmentDiffers(t *testing.T) {
	t.Parallel()
	s := newSession(t, filepath.Join(fastDir(t), "job.audit.jsonl"), 1)
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	other := &session{path: filepath.Join(fastDir(t), "job.audit.jsonl"), next: 50}
	copyDir(t, filepath.Dir(s.path), filepath.Dir(other.path))
	s.reopen(t)
	if err := errors.Join(s.add(eventIntent, 2), s.log.Close()); err != nil {
		t.Fatal(err)
	}
	for other.reopen(t); other.log.number < 3; {
		if err := other.add(eventIntent, 2); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := os.ReadFile(segmentPath(other.path, 2))
	if err := errors.Join(err, other.log.Close(),
		os.WriteFile(segmentPath(s.path, 2), closed, 0o600)); err != nil {
		t.Fatal(err)
	}
	var chain *ChainError
	if _, err := Open(s.path, "job"); !errors.As(err, &chain) {
		t.Errorf("Open: %v", err)
	}
	if _, err := VerifyFile(s.path); !errors.As(err, &chain) {
		t.Errorf("VerifyFile: %v", err)
	}
	if now, err := os.ReadFile(s.path); err != nil || !bytes.Equal(now, text) {
		t.Errorf("the open segment was changed (%v)", err)
	}
}

// errCrash is the end of a process.
var errCrash = errors.New("crash")

// crashAt appends until a segment is closed, and ends the process before a step of closing it.
func (s *session) crashAt(t testing.TB, step string) {
	t.Helper()
	defer func() {
		reason := recover()
		if err, _ := reason.(error); reason != nil && !errors.Is(err, errCrash) {
			panic(reason)
		}
		_ = s.log.file.Close()
	}()
	s.log.fault = func(now string) error {
		if now == step {
			panic(errCrash)
		}
		return nil
	}
	for range 100 {
		if err := s.add(eventIntent, 2); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("no segment was closed with the step %q", step)
}

// steps are the steps of closing a segment.
func steps() []string {
	return []string{"create", "sync", "rename", "sync directory", "truncate", "append"}
}

// TestCrashWhileClosing ends a process before each step of closing a segment. The draft of the
// compressed segment is cut at each offset.
func TestCrashWhileClosing(t *testing.T) {
	t.Parallel()
	for _, step := range steps() {
		t.Run(step, func(t *testing.T) {
			from := fastDir(t)
			s := newSession(t, filepath.Join(from, "job.audit.jsonl"), 2)
			s.crashAt(t, step)
			draft := segmentPath("job.audit.jsonl", 3) + draftEnd
			text, err := os.ReadFile(filepath.Join(from, draft))
			if (err == nil) != (step == "sync" || step == "rename") {
				t.Fatalf("the draft: %v", err)
			}
			cuts := 100
			if testing.Short() {
				cuts = 10
			}
			for cut := 0; cut <= len(text); cut += 1 + len(text)/cuts {
				after := *s
				after.want = s.want[:len(s.want):len(s.want)]
				dir := fastDir(t)
				copyDir(t, from, dir)
				after.path = filepath.Join(dir, "job.audit.jsonl")
				if err == nil {
					if err := os.Truncate(filepath.Join(dir, draft), int64(cut)); err != nil {
						t.Fatal(err)
					}
				}
				after.goesOn(t, fmt.Sprintf("%s, cut at %d", step, cut))
			}
		})
	}
}

// goesOn opens the log, checks it, and appends until another segment is closed.
func (s *session) goesOn(t testing.TB, what string) {
	t.Helper()
	s.reopen(t)
	defer func() { _ = s.log.Close() }()
	s.check(t, what)
	for first := s.log.number; s.log.number == first; {
		if err := s.add(eventIntent, 3); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if err := s.add(eventRotated, 2); err != nil || s.log.Unclosed() != nil {
		t.Fatalf("%s: %v, %v", what, err, s.log.Unclosed())
	}
	s.check(t, what+", continued")
}

// TestCutAnywhere cuts the open segment at each offset, as a crash while it is written does.
// The closed segments stay, and so do all complete lines of the open one.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	from := fastDir(t)
	s := newSession(t, filepath.Join(from, "job.audit.jsonl"), 2)
	err := errors.Join(s.add(eventIntent, 3), s.add(eventRotated, 3), s.log.Close())
	if err != nil {
		t.Fatal(err)
	}
	size := s.log.size
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	for cut := int64(0); cut <= size; cut += step {
		for _, zeros := range []int64{0, 100} {
			if zeros > 0 && cut%16 != 0 {
				continue
			}
			dir := fastDir(t)
			copyDir(t, from, dir)
			path := filepath.Join(dir, "job.audit.jsonl")
			err := os.Truncate(path, cut)
			if err == nil && zeros > 0 {
				err = os.Truncate(path, cut+zeros)
			}
			if err != nil {
				t.Fatal(err)
			}
			after := &session{path: path, next: 1000}
			after.reopen(t)
			after.mark.Lines, after.mark.Hash = after.log.Head()
			after.want = s.want[:after.mark.Lines:after.mark.Lines]
			if cut == size && zeros == 0 && after.mark != s.mark {
				t.Fatalf("uncut, it ends with %+v, want %+v", after.mark, s.mark)
			}
			after.check(t, fmt.Sprintf("cut at %d", cut))
			if err := errors.Join(after.add(eventIntent, 2), after.log.Close()); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			after.check(t, fmt.Sprintf("cut at %d, continued", cut))
		}
	}
}

// TestSegmentCannotBeClosed: if a step fails, such as on a full disk, the segment stays open,
// and no line is lost. It is closed later.
func TestSegmentCannotBeClosed(t *testing.T) {
	t.Parallel()
	for _, step := range steps()[:3] {
		t.Run(step, func(t *testing.T) {
			s := newSession(t, filepath.Join(fastDir(t), "job.audit.jsonl"), 1)
			full := errors.New("no space left on device")
			s.log.fault = func(now string) error {
				if now == step {
					return full
				}
				return nil
			}
			for range 10 {
				if err := s.add(eventIntent, 2); err != nil {
					t.Fatal(err)
				}
			}
			if !errors.Is(s.log.Unclosed(), full) {
				t.Fatalf("Unclosed = %v", s.log.Unclosed())
			}
			s.check(t, "after the failure")
			s.log.fault = nil
			for range 10 {
				if err := s.add(eventIntent, 2); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(s.log.Unclosed(), s.log.Close()); err != nil {
				t.Fatal(err)
			}
			s.goesOn(t, "later")
		})
	}
}

// TestFailedWrite: after a write that failed, Head is that of the lines that were written, and
// nothing more is written.
func TestFailedWrite(t *testing.T) {
	t.Parallel()
	s := newSession(t, filepath.Join(fastDir(t), "job.audit.jsonl"), 1)
	if err := s.log.file.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.add(eventIntent, 2); err == nil {
			t.Fatal("a line was written to a closed file")
		}
	}
	s.check(t, "after the failure")
	s.goesOn(t, "reopened")
}

// TestForeignSegmentsAreLeft: a file of another program with the name of a closed segment or
// its draft is never changed.
func TestForeignSegmentsAreLeft(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"", draftEnd} {
		s := newSession(t, filepath.Join(fastDir(t), "job.audit.jsonl"), 1)
		theirs := segmentPath(s.path, 2) + end
		if err := os.WriteFile(theirs, []byte("a note of another program"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := s.add(eventIntent, 2); err != nil {
				t.Fatal(err)
			}
		}
		if s.log.Unclosed() == nil || s.log.number != 2 {
			t.Errorf("%q: %v, segment %d", end, s.log.Unclosed(), s.log.number)
		}
		if text, err := os.ReadFile(theirs); string(text) != "a note of another program" {
			t.Errorf("%q was changed to %q (%v)", end, text, err)
		}
		_ = s.log.Close()
	}
}

// TestHistories: random histories of writes, failures and crashes lose no line and write no
// line twice.
func TestHistories(t *testing.T) {
	t.Parallel()
	dir := fastDir(t)
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		s := &session{path: filepath.Join(dir, "job.audit.jsonl")}
		s.reopen(t)
		for range rapid.IntRange(1, 25).Draw(r, "events") {
			event := rapid.SampledFrom([]string{eventIntent, eventRotated}).Draw(r, "event")
			n := rapid.IntRange(1, 9).Draw(r, "records")
			if rapid.IntRange(0, 5).Draw(r, "failure") == 0 {
				s.failure(t, r, event, n)
				continue
			}
			if err := s.add(event, n); err != nil {
				t.Fatal(err)
			}
			s.log.fault = nil
		}
		s.check(t, "in the end")
		_ = s.log.Close()
		s.reopen(t)
		s.check(t, "reopened")
		_ = s.log.Close()
	})
}

// failure lets an append fail or end within it, and continues.
func (s *session) failure(t testing.TB, r *rapid.T, event string, n int) {
	step := rapid.SampledFrom(steps()).Draw(r, "step")
	crash := rapid.Bool().Draw(r, "crash")
	s.log.fault = func(now string) error {
		if now == step && crash {
			panic(errCrash)
		}
		if now == step {
			return errors.New("no space left on device")
		}
		return nil
	}
	before := len(s.want)
	func() {
		defer func() { _ = recover() }()
		_ = s.add(event, n)
	}()
	s.log.fault = nil
	if !crash && s.log.err == nil {
		return
	}
	_ = s.log.file.Close()
	if len(s.want) > before && rapid.Bool().Draw(r, "cut") { // the write was cut
		size := s.log.size
		cut := size - rapid.Int64Range(0, min(size, 40)).Draw(r, "bytes")
		if err := os.Truncate(s.path, cut); err != nil {
			t.Fatal(err)
		}
	}
	last := s.mark.Lines
	s.reopen(t)
	s.mark.Lines, s.mark.Hash = s.log.Head()
	if s.mark.Lines > last || s.mark.Lines < 0 {
		t.Fatalf("%d lines, and %d were written", s.mark.Lines, last)
	}
	s.want = s.want[:s.mark.Lines]
	s.open = nil // their second lines may have been cut
}

// FuzzStored: no file of an open segment makes the reader panic, and what it accepts is
// exactly what the writer makes of it.
func FuzzStored(f *testing.F) {
	dir := fastDir(f)
	s := newSession(f, filepath.Join(dir, "job.audit.jsonl"), 1)
	err := errors.Join(s.add(eventIntent, 3), s.add(eventRotated, 4), s.log.Close())
	text, reading := os.ReadFile(s.path)
	if err := errors.Join(err, reading); err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.Replace(text, []byte(`["r"`), []byte(`["w"`), 1))
	f.Add(bytes.Replace(text, []byte(`,0,`), []byte(`,00,`), 1))
	f.Add([]byte(segmentStart))
	f.Fuzz(func(t *testing.T, file []byte) {
		r := newReader(newChain(0, genesis), func(int64, []byte) error { return nil })
		r.anywhere = true
		rest, err := r.read(bytes.NewReader(file))
		if err == nil && bytes.HasPrefix(file, text[:200]) && !bytes.HasPrefix(text, file) &&
			!bytes.HasPrefix(file, text) && len(rest) == 0 {
			t.Errorf("accepted a changed segment:\n%s", file)
		}
		Is(file, func([]byte) bool { return true })
	})
}

// TestEachChangedByte: a reader rejects the open segment if any one of its bytes has another
// value, wherever it is.
func TestEachChangedByte(t *testing.T) {
	s := session{path: filepath.Join(t.TempDir(), "audit.jsonl")}
	s.reopen(t)
	s.log.SegmentSize = 1 << 20
	for _, event := range []string{eventIntent, eventRotated} {
		if err := s.add(event, 3); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.log.Record([]rotate.Record{record(0)}), s.log.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	read := func() error {
		r := newReader(newChain(0, genesis), func(int64, []byte) error { return nil })
		rest, err := r.read(bytes.NewReader(text))
		if err == nil && len(rest) > 0 {
			err = errors.New("an incomplete line")
		}
		return err
	}
	if err := read(); err != nil {
		t.Fatalf("the log as written: %v", err)
	}
	for at, right := range text {
		for _, wrong := range []byte("\x00\n\"#',-0:[\\]a{}\x80\xff") {
			if text[at] = wrong; wrong != right && read() == nil {
				t.Errorf("%q at byte %d is not detected:\n%s", wrong, at, text)
			}
		}
		for bit := range 8 {
			if text[at] = right ^ 1<<bit; read() == nil {
				t.Errorf("%q at byte %d is not detected:\n%s", text[at], at, text)
			}
		}
		text[at] = right
	}
}

// TestAllClosed: the id of a log is known without reading the log, if no process has it open and
// its open segment is empty.
func TestAllClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	check := func(what, job, want string) {
		t.Helper()
		if id, ok := AllClosed(path, job); ok != (want != "") || ok && id != want {
			t.Errorf("%s: %q, %t, want %q", what, id, ok, want)
		}
	}
	check("no log", "job", "")
	write(t, path, 0, 2)
	check("an open segment", "job", "")
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	if err := log.CloseSegment(); err != nil {
		t.Fatal(err)
	}
	id := log.ID()
	check("in use", "job", "")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed", "job", id)
	check("of another job", "other", "")
	write(t, path, 9, 1)
	check("a second segment is open", "job", "")
}
