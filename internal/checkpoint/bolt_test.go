package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

func TestOpenFileCreatesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "typo.db")
	if _, err := OpenFile(path); !errors.Is(err, ErrNotFound) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("OpenFile of a missing file: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("OpenFile created a file: %v", err)
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
	if _, err := f.Fetch(t.Context(), "n"); err == nil || errors.Is(err, ErrNotFound) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("Fetch from a damaged file: %v, want an error that names it", err)
	}
}

// TestFlippedBits flips single bits of a file: the stored record is read, or the file is
// refused. Nothing panics, and no record is reported as absent.
func TestFlippedBits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	f, err := CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for i := range 60 {
		id := fmt.Sprintf("jobs/j/record/%d", i)
		want[id] = strings.Repeat(fmt.Sprint("content ", i), 20)
		data, err := Encode("text", want[id])
		if err == nil {
			_, err = f.Create(t.Context(), id, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var used []int // bytes with content
	for i, b := range whole {
		if b != 0 {
			used = append(used, i)
		}
	}
	refused, read := 0, 0
	random := rand.New(rand.NewPCG(1, 2))
	flips := 3000
	if testing.Short() {
		flips = 300
	}
	for range flips {
		bit := 8*used[random.IntN(len(used))] + random.IntN(8)
		broken := bytes.Clone(whole)
		broken[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("jobs/j/record/%d", random.IntN(60))
		e, err := f.Fetch(t.Context(), id)
		var got string
		if err == nil {
			err = Decode(id, "text", e.Data, &got)
		}
		switch {
		case errors.Is(err, ErrNotFound):
			t.Fatalf("with bit %d flipped, %s is absent", bit, id)
		case err != nil:
			refused++
		case got != want[id]:
			t.Fatalf("with bit %d flipped, %s is %q", bit, id, got)
		default:
			read++
		}
	}
	t.Logf("%d files were refused; the record was read from %d files", refused, read)
}

// TestDamagedIDDamagesTheFile: if an id is damaged, it is unknown which records are absent. No
// record can be created, so the message does not suggest a restart.
func TestDamagedIDDamagesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	f, err := CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	passes := NewPasses(f, "j")
	if _, err := passes.Begin(t.Context(), 0, newPass(1)); err != nil {
		t.Fatal(err)
	}
	inside(t, path, func(b *bbolt.Bucket) error {
		value := bytes.Clone(b.Get([]byte(passes.passID(1))))
		return errors.Join(b.Delete([]byte(passes.passID(1))),
			b.Put([]byte("jobs/j/pasz/1"), value))
	})
	for name, act := range map[string]func() error{
		"last":    func() error { _, err := passes.Last(t.Context()); return err },
		"restart": func() error { _, err := passes.Restart(t.Context(), newPass(1)); return err },
	} {
		err := act()
		var damaged *DamagedError
		if !errors.As(err, &damaged) || damaged.Path != path ||
			strings.Contains(err.Error(), "--restart") ||
			!strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: %v, want *DamagedError", name, err)
		}
	}
}
