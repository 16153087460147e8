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

	"pgregory.net/rapid"

	"rotator/internal/rotate"
	"rotator/internal/scan"
)

func record(n int) rotate.Record {
	return rotate.Record{
		At:      time.Unix(int64(n), 0).UTC(),
		Pass:    1,
		Target:  "customers",
		Ref:     scan.Ref(fmt.Sprintf("<item> & %d\n", n)),
		Path:    "ssn",
		From:    "old",
		To:      "new",
		Before:  "00",
		After:   "11",
		Binding: "22",
	}
}

func write(t *testing.T, path string, first, count int) (lines int64, head string) {
	t.Helper()
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	for n := range count {
		if err := log.Record([]rotate.Record{record(first + 2*n),
			record(first + 2*n + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	lines, head = log.Head()
	if err := errors.Join(log.Sync(), log.Close()); err != nil {
		t.Fatal(err)
	}
	return lines, head
}

func TestReopenedLogContinues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	write(t, path, 0, 3)
	lines, head := write(t, path, 6, 2)
	if found, err := VerifyFile(path, Mark{Lines: lines, Hash: head}); err != nil || found != 11 {
		t.Fatalf("VerifyFile = %d, %v, want 11 lines", found, err)
	}
}

func TestOneWriterAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	if second, err := Open(path, "job"); err == nil {
		_ = second.Close()
		t.Error("a second writer opened the log")
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, path, 0, 1)
}

func TestTornLineIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	write(t, path, 0, 2)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := whole[:len(whole)-7]
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(torn) - bytes.LastIndexByte(torn, '\n') - 1; log.Torn() != want {
		t.Errorf("Torn = %d, want %d", log.Torn(), want)
	}
	if err := errors.Join(log.Record([]rotate.Record{record(9)}), log.Close()); err != nil {
		t.Fatal(err)
	}
	if found, err := VerifyFile(path); err != nil || found != 5 {
		t.Fatalf("VerifyFile = %d, %v, want 5 lines", found, err)
	}
}

func TestTruncatedAndReplacedLogsAreDetected(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	lines, head := write(t, path, 0, 3)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.SplitAfter(text, []byte("\n"))
	cut := filepath.Join(dir, "cut.jsonl")
	if err := os.WriteFile(cut, bytes.Join(all[:4], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyFile(cut, Mark{Lines: lines, Hash: head}); err == nil ||
		!strings.Contains(err.Error(), "cut off") {
		t.Errorf("VerifyFile of a truncated log: %v", err)
	}
	other := filepath.Join(dir, "other.jsonl")
	write(t, other, 100, 3)
	var chain *ChainError
	if _, err := VerifyFile(other, Mark{Lines: lines, Hash: head}); !errors.As(err, &chain) ||
		chain.Line != lines {
		t.Errorf("VerifyFile of another log: %v", err)
	}
}

// TestTamperingIsDetected: a flipped byte, a removed line and swapped lines are detected.
func TestTamperingIsDetected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	lines, head := write(t, path, 0, 4)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(text []byte) error {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := VerifyFile(path, Mark{Lines: lines, Hash: head})
		return err
	}
	if err := check(text); err != nil {
		t.Fatalf("the log as written: %v", err)
	}
	rapid.Check(t, func(r *rapid.T) {
		changed := bytes.Clone(text)
		all := bytes.SplitAfter(changed, []byte("\n"))
		all = all[:len(all)-1]
		i := rapid.IntRange(0, len(all)-1).Draw(r, "line")
		switch rapid.IntRange(0, 2).Draw(r, "kind") {
		case 0:
			at := rapid.IntRange(0, len(changed)-1).Draw(r, "at")
			changed[at] ^= byte(rapid.IntRange(1, 255).Draw(r, "bits"))
		case 1:
			changed = bytes.Join(append(all[:i:i], all[i+1:]...), nil)
		case 2:
			j := rapid.IntRange(0, len(all)-1).Filter(func(j int) bool {
				return j != i
			}).Draw(r, "other")
			all[i], all[j] = all[j], all[i]
			changed = bytes.Join(all, nil)
		}
		if check(changed) == nil {
			r.Fatalf("not detected:\n%s", changed)
		}
	})
}
