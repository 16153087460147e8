package auditlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"rotator/internal/printable"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// FuzzLine: a record is written as one plain line, as json.Marshal writes it, and parse returns
// the same record. The line is rebuilt from its stored form byte by byte. A record that JSON
// cannot represent is refused.
func FuzzLine(f *testing.F) {
	f.Fuzz(func(
		t *testing.T, seq, nanoseconds int64, pass int, target, ref, path, key, digest string,
	) {
		seq &= 1<<53 - 1
		record := rotate.Record{
			At:      time.Unix(0, nanoseconds).UTC(),
			Pass:    pass,
			Target:  target,
			Ref:     scan.Ref(ref),
			Path:    path,
			From:    key,
			To:      key,
			Before:  digest,
			After:   digest,
			Binding: digest,
			Origin: reencrypt.Origin{
				RequestID:    digest,
				FromMaterial: key,
				ToMaterial:   target,
			},
		}
		if err := valid(record); err != nil {
			if utf8.ValidString(target + "\n" + ref + "\n" + key + "\n" + digest) {
				t.Fatalf("%+v: %v", record, err)
			}
			return
		}
		before := newChain(seq, genesis)
		if seq > 0 {
			before.head[0] = '1'
		}
		plain := newWriter(before)
		plain.old = true
		text := plain.intended([]byte("before"), []rotate.Record{record, record})
		text = plain.rotated(text, []rotate.Record{record, record, record})
		text = bytes.TrimPrefix(text, []byte("before"))
		first, _, _ := bytes.Cut(text, []byte("\n"))
		record.Path = strings.ToValidUTF8(path, "\ufffd")
		isLine(t, first, before, record)
		stored := newWriter(before)
		file := appendSegment(nil, segment{7, storedForm, target, seq + 1, string(before.head[:])})
		if seq == 0 {
			file = appendSegment(nil, segment{1, storedForm, target, 1, genesis})
		}
		file = stored.intended(file, []rotate.Record{record, record})
		file = stored.rotated(file, []rotate.Record{record, record, record})
		var rebuilt []byte
		r := newReader(newChain(0, genesis), func(_ int64, line []byte) error {
			rebuilt = append(rebuilt, line...)
			return nil
		})
		r.anywhere = true
		if rest, err := r.read(bytes.NewReader(file)); err != nil || len(rest) > 0 ||
			!bytes.Equal(rebuilt, text) {
			t.Fatalf("%s\nis rebuilt as\n%s\nfrom\n%s(%v)", text, rebuilt, file, err)
		}
	})
}

// isLine checks a plain line without its newline.
func isLine(t *testing.T, body []byte, before chain, record rotate.Record) {
	t.Helper()
	if bytes.ContainsAny(body, "\r\n") || !utf8.Valid(body) {
		t.Fatalf("%q is not one line of text", body)
	}
	want := line{
		Seq:          before.seq + 1,
		Event:        eventIntent,
		At:           record.At,
		Pass:         record.Pass,
		Target:       record.Target,
		Ref:          string(record.Ref),
		Path:         record.Path,
		From:         record.From,
		To:           record.To,
		Before:       record.Before,
		After:        record.After,
		Binding:      record.Binding,
		Request:      record.Origin.RequestID,
		FromMaterial: record.Origin.FromMaterial,
		ToMaterial:   record.Origin.ToMaterial,
		Prev:         string(before.head[:]),
	}
	plain, err := json.Marshal(want)
	if shown := []byte(printable.Text(string(plain))); err != nil ||
		!bytes.HasPrefix(body, shown[:len(shown)-1]) {
		t.Fatalf("%q is written, and json.Marshal makes %q (%v)", body, plain, err)
	}
	got, _, err := parse(body)
	if err != nil || got != want || got.record() != record {
		t.Fatalf("%+v is written as %q, which parses as %+v (%v)", want, body, got, err)
	}
}

// newLog writes a log of four lines. It returns its text, the number of lines and the last hash.
func newLog(t *testing.T, path, ref string) (text []byte, lines int64, head string) {
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	one, two := record(1), record(2)
	one.Ref = scan.Ref(strings.ToValidUTF8(ref, "?"))
	err = errors.Join(log.Intend([]rotate.Record{one}), log.Record([]rotate.Record{one, two}))
	lines, head = log.Head()
	if err := errors.Join(err, log.Close()); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return text, lines, head
}

// FuzzTampering: any replacement of bytes in a log is detected.
func FuzzTampering(f *testing.F) {
	f.Fuzz(func(t *testing.T, ref string, at, length uint, put []byte) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		text, lines, head := newLog(t, path, ref)
		if found, err := VerifyFile(path, Mark{Lines: lines, Hash: head}); err != nil ||
			found != lines {
			t.Fatalf("the log as written: %d lines, %v", found, err)
		}
		at %= uint(len(text)) // an addition after the end does not change existing lines
		end := at + length%(uint(len(text))-at+1)
		changed := bytes.Join([][]byte{text[:at], put, text[end:]}, nil)
		if bytes.HasPrefix(changed, text) {
			return
		}
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := VerifyFile(path, Mark{Lines: lines, Hash: head}); err == nil {
			t.Fatalf("%d lines verified of\n%s", found, changed)
		}
	})
}

// FuzzTorn: a log that a crash truncated at any byte continues after its last complete line, and
// Find returns the changes of the complete lines.
func FuzzTorn(f *testing.F) {
	f.Fuzz(func(t *testing.T, ref string, cut uint) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		text, _, _ := newLog(t, path, ref)
		torn := text[:cut%uint(len(text)+1)]
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		whole := bytes.LastIndexByte(torn, '\n') + 1
		log, err := Open(path, "job")
		// A line this short may belong to a file of another program.
		if n := len(torn); n > 0 && n < len(segmentStart) {
			if now, reading := os.ReadFile(path); !IsForeign(err) || reading != nil ||
				!bytes.Equal(now, torn) {
				t.Fatalf("%q: %v, and it is %q now (%v)", torn, err, now, reading)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		log.Believe(nil)
		want := max(0, int64(bytes.Count(torn, []byte("\n")))-1)
		if lines, _ := log.Head(); lines != want || log.Torn() != len(torn)-whole {
			t.Errorf("%d lines, %d bytes torn off, want %d and %d", lines, log.Torn(), want,
				len(torn)-whole)
		}
		one := scan.Ref(strings.ToValidUTF8(ref, "?"))
		if one == record(2).Ref {
			return // two lines of one item
		}
		found, ok := log.Find(record(1).Target, one, record(1).After)
		if ok != (want > 1) || found.Written != (want > 2) || ok && found.Record.Ref != one {
			t.Errorf("with %d lines: %+v, %v", want, found, ok)
		}
		if err := errors.Join(log.Record([]rotate.Record{record(3)}), log.Close()); err != nil {
			t.Fatal(err)
		}
		if found, err := VerifyFile(path); err != nil || found != max(want, 1)+1 {
			t.Errorf("%d lines verified, %v, want %d", found, err, max(want, 1)+1)
		}
	})
}

// FuzzVerify: Open can continue every text that Verify accepts. For other texts, the error names a
// line of the text.
func FuzzVerify(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		lines, err := VerifyFile(path)
		if err != nil {
			chain := (*ChainError)(nil)
			if !errors.As(err, &chain) || chain.Line < 1 {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		log, err := Open(path, "job")
		if IsForeign(err) && bytes.Contains(text, []byte(`"job":"`)) {
			return
		}
		if err != nil {
			t.Fatalf("Verify accepts %q, but Open fails: %v", text, err)
		}
		defer func() { _ = log.Close() }()
		n, hash := log.Head()
		if _, err := VerifyFile(path, Mark{Lines: n, Hash: hash}); n != lines || err != nil {
			t.Errorf("%q has %d lines, but Open continues after %d, %s (%v)", text, lines, n, hash,
				err)
		}
	})
}
