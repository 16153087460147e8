package filescan

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rotator/internal/scan"
)

// A file acquires budget before it is read. Failed loads hold no budget.
func TestMemoryBudget(t *testing.T) {
	root := t.TempDir()
	for name, body := range map[string]string{"a": "ten bytes.", "b": "b"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	budget := scan.NewMemoryBudget(10)
	f := New(Config{Root: root, Memory: budget})
	item, err := f.Load(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Load(ended, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	item.Release()
	if _, err := f.Load(t.Context(), "c"); !errors.Is(err, scan.ErrGone) {
		t.Error(err)
	}
	if _, ok := budget.TryAcquire(10); !ok {
		t.Error("released budget is not available")
	}
}
