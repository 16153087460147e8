package s3scan

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// A body that exceeds the available budget is read when budget is released, and has its
// content of that time. Failed loads and metadata hold no budget.
func TestMemoryBudget(t *testing.T) {
	store := newStore(t, nil)
	budget := scan.NewMemoryBudget(10)
	source := store.source(func(c *Config) { c.Memory = budget })
	first, second := store.put(1), store.put(2)
	store.write(first, "ten bytes.")
	store.write(second, "five.")
	held, err := source.Load(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	requested := make(chan struct{}, 1)
	store.faults.Set("s3:GetObject", fault.Fault{Of: func(*http.Request) bool {
		select {
		case requested <- struct{}{}:
		default:
		}
		return false
	}})
	loaded := make(chan scan.Item)
	go func() {
		item, err := source.Load(t.Context(), second)
		if err != nil {
			t.Error(err)
		}
		loaded <- item
	}()
	<-requested
	select {
	case <-loaded:
		t.Fatal("a body was read without budget")
	case <-time.After(50 * time.Millisecond):
	}
	store.write(second, "longer...") // between the first and the second request
	held.Release()
	item := <-loaded
	if body := string(item.Payload.(*scan.Object).Body); body != "longer..." {
		t.Errorf("body %q", body)
	}
	if _, ok := budget.TryAcquire(2); ok {
		t.Error("a body holds less budget than its size")
	}
	item.Release()
	if _, err := source.Load(t.Context(), "gone"); !errors.Is(err, scan.ErrGone) {
		t.Error(err)
	}
	store.write(first, strings.Repeat("x", 20))
	store.faults.Set("s3:GetObject", fault.Fault{})
	metadata, err := store.inMetadata(func(c *Config) {
		c.Memory = budget
	}).Load(t.Context(), first)
	if err != nil || metadata.Release != nil {
		t.Errorf("%v, or metadata holds budget", err)
	}
	if _, ok := budget.TryAcquire(10); !ok {
		t.Error("released budget is not available")
	}
}
