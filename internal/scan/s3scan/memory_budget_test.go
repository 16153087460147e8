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

// A body that there is no room for is waited for, and read as it is then; what fails
// or has no body to read takes no room.
func TestRoomForBodies(t *testing.T) {
	store := newStore(t, nil)
	room := scan.NewMemoryBudget(10)
	source := store.source(func(c *Config) { c.Memory = room })
	first, second := store.put(1), store.put(2)
	store.write(first, "ten bytes.")
	store.write(second, "five.")
	held, err := source.Load(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1)
	store.faults.Set("s3:GetObject", fault.Fault{Of: func(*http.Request) bool {
		select {
		case asked <- struct{}{}:
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
	<-asked
	select {
	case <-loaded:
		t.Fatal("a body was read for which there is no room")
	case <-time.After(50 * time.Millisecond):
	}
	store.write(second, "longer...") // between the first request and the second
	held.Release()
	item := <-loaded
	if body := string(item.Payload.(*scan.Object).Body); body != "longer..." {
		t.Errorf("body %q", body)
	}
	if _, ok := room.TryAcquire(2); ok {
		t.Error("a body takes less room than it has bytes")
	}
	item.Release()
	if _, err := source.Load(t.Context(), "gone"); !errors.Is(err, scan.ErrGone) {
		t.Error(err)
	}
	store.write(first, strings.Repeat("x", 20))
	store.faults.Set("s3:GetObject", fault.Fault{})
	metadata, err := store.inMetadata(func(c *Config) { c.Memory = room }).Load(t.Context(), first)
	if err != nil || metadata.Release != nil {
		t.Errorf("%v, or metadata takes room", err)
	}
	if _, ok := room.TryAcquire(10); !ok {
		t.Error("room is lost")
	}
}
