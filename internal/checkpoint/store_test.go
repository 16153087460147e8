package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStores runs one suite over every store. Open returns the same store again,
// as another process would.
func TestStores(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) func() Store{
		"memory": func(*testing.T) func() Store {
			m := NewMemory()
			return func() Store { return m }
		},
		"file": func(t *testing.T) func() Store {
			path := filepath.Join(t.TempDir(), "state.db")
			if _, err := CreateFile(path); err != nil {
				t.Fatal(err)
			}
			return func() Store {
				f, err := OpenFile(path)
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("compare and swap", func(t *testing.T) { testCompareAndSwap(t, open(t)) })
			t.Run("race", func(t *testing.T) { testRace(t, open(t)) })
		})
	}
}

func testCompareAndSwap(t *testing.T, open func() Store) {
	ctx := t.Context()
	s := open()
	if _, err := s.Fetch(ctx, "jobs/a/head"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Fetch of nothing: %v, want ErrNotFound", err)
	}
	if _, err := s.Replace(ctx, Entry{ID: "jobs/a/head", version: "1"}, []byte("x")); !errors.Is(err, ErrConflict) {
		t.Fatalf("Replace of nothing: %v, want ErrConflict", err)
	}
	first, err := s.Create(ctx, "jobs/a/head", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, "jobs/a/head", []byte("two")); !errors.Is(err, ErrConflict) {
		t.Fatalf("Create of what exists: %v, want ErrConflict", err)
	}
	second, err := s.Replace(ctx, first, []byte("one")) // the same bytes make a new version
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Replace(ctx, first, []byte("late")); !errors.Is(err, ErrConflict) {
		t.Fatalf("Replace of an old entry: %v, want ErrConflict", err)
	}
	fetched, err := open().Fetch(ctx, "jobs/a/head")
	if err != nil || !bytes.Equal(fetched.Data, []byte("one")) {
		t.Fatalf("Fetch by another: %q, %v", fetched.Data, err)
	}
	if _, err := open().Replace(ctx, fetched, []byte("three")); err != nil {
		t.Fatalf("Replace of a fetched entry: %v", err)
	}
	if _, err := s.Replace(ctx, second, []byte("late")); !errors.Is(err, ErrConflict) {
		t.Fatalf("Replace after another's: %v, want ErrConflict", err)
	}
}

// testRace lets 32 writers add to one number; no addition may be lost.
func testRace(t *testing.T, open func() Store) {
	const writers, rounds = 32, 4
	if _, err := open().Create(t.Context(), "n", []byte("")); err != nil {
		t.Fatal(err)
	}
	var lost atomic.Int64
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			s := open()
			for range rounds {
				for {
					e, err := s.Fetch(context.Background(), "n")
					if err == nil {
						_, err = s.Replace(context.Background(), e, append(e.Data, '+'))
					}
					if err == nil {
						break
					}
					if !errors.Is(err, ErrConflict) {
						t.Error(err)
						return
					}
					lost.Add(1)
				}
			}
		})
	}
	group.Wait()
	e, err := open().Fetch(t.Context(), "n")
	if err != nil || len(e.Data) != writers*rounds {
		t.Errorf("%d additions arrived, %v, want %d (%d attempts lost the race)", len(e.Data), err, writers*rounds, lost.Load())
	}
}

func TestFileIsNeverMadeByOpening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "typo.db")
	if _, err := OpenFile(path); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), path) {
		t.Errorf("OpenFile of nothing: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("OpenFile made a file: %v", err)
	}
}

func TestDamagedFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a database"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(t.Context(), "n"); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), path) {
		t.Errorf("Fetch from a damaged file: %v, want an error that names it", err)
	}
}

func TestRecordsThatCannotBeTrusted(t *testing.T) {
	good, err := Encode("pass", Pass{Number: 3})
	if err != nil {
		t.Fatal(err)
	}
	var pass Pass
	if err := Decode("id", "pass", good, &pass); err != nil || pass.Number != 3 {
		t.Fatalf("Decode = %+v, %v", pass, err)
	}
	var corrupt *CorruptError
	for _, bad := range [][]byte{nil, []byte("{"), []byte("{}"), bytes.Replace(good, []byte(`"number":3`), []byte(`"number":4`), 1)} {
		if err := Decode("id", "pass", bad, &pass); !errors.As(err, &corrupt) {
			t.Errorf("Decode(%q) = %v, want *CorruptError", bad, err)
		}
	}
	if err := Decode("id", "head", good, &pass); !errors.As(err, &corrupt) {
		t.Errorf("Decode of another kind: %v, want *CorruptError", err)
	}
	var other *SchemaError
	for which, version := range map[string]string{"newer": "3", "older": "1"} {
		data := bytes.Replace(good, []byte(`"schema":2`), []byte(`"schema":`+version), 1)
		if err := Decode("id", "pass", data, &pass); !errors.As(err, &other) || !strings.Contains(err.Error(), "the "+which+" rotator") {
			t.Errorf("Decode of a record of schema %s: %v, want *SchemaError", version, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range []any{Pass{Number: 1}, Progress{Cursor: []byte("x")}} {
		data, err := Encode("pass", v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var pass Pass
		if Decode("id", "pass", data, &pass) != nil {
			return
		}
		again, err := Encode("pass", pass)
		if err != nil {
			t.Fatal(err)
		}
		var same Pass
		if err := Decode("id", "pass", again, &same); err != nil || same.Number != pass.Number || same.Fingerprint != pass.Fingerprint {
			t.Errorf("decoded %+v, and again %+v, %v", pass, same, err)
		}
	})
}

// TestMain lets the test binary hold a lock as another process.
func TestMain(m *testing.M) {
	if path := os.Getenv("CHECKPOINT_TEST_LOCK"); path != "" {
		if _, err := AcquireLock(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

func TestLockDiesWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CHECKPOINT_TEST_LOCK="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	line := make([]byte, len("locked"))
	if _, err := out.Read(line); err != nil || string(line) != "locked" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	var locked *LockedError
	if _, err := AcquireLock(path); !errors.As(err, &locked) || !strings.Contains(locked.Holder, fmt.Sprint(cmd.Process.Pid)) {
		t.Fatalf("AcquireLock beside the child: %v, want *LockedError that names it", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	lock, err := AcquireLock(path)
	if err != nil {
		t.Fatalf("AcquireLock after the child was killed: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}
