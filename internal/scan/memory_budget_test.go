package scan

import (
	"context"
	"testing"
	"testing/synctest"
)

// Room is given once, to those who wait for it in turn, and all of it to one who
// asks for more than there is.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := NewRoom(10)
		small, ok := room.TryTake(4)
		if !ok {
			t.Fatal("an empty room is full")
		}
		var taken []string
		take := func(name string, bytes int64) {
			give, err := room.Take(t.Context(), bytes)
			if err != nil {
				t.Error(err)
				return
			}
			taken = append(taken, name)
			give()
			give() // gives nothing that it does not have
		}
		go take("larger than the room", 50)
		synctest.Wait()
		go take("small", 1)
		synctest.Wait()
		if _, ok := room.TryTake(1); ok || len(taken) > 0 {
			t.Errorf("taken %v, before those who wait: %v", taken, ok)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := room.Take(ended, 10); err == nil {
			t.Error("room for one whose context has ended")
		}
		small()
		synctest.Wait()
		if len(taken) != 2 || taken[0] != "larger than the room" {
			t.Errorf("taken %q, want both in turn", taken)
		}
		if _, ok := room.TryTake(10); !ok {
			t.Error("room is lost")
		}
		if _, err := (*Room)(nil).Take(t.Context(), 1<<40); err != nil {
			t.Error(err)
		}
	})
}
