package reencrypt

import (
	"fmt"
	"testing"
	"time"
)

// TestRecentRequests: the last requests that used a source key are remembered, the oldest first.
func TestRecentRequests(t *testing.T) {
	a := &asker{keys: Keys{Sources: []Key{{ARN: "old"}}, Destination: Key{ARN: "new"}}}
	for _, other := range []Response{
		{Source: "new", RequestID: "x"}, {Source: "third", RequestID: "x"}, {Source: "old"},
	} {
		a.note(other)
	}
	if list := a.recent.list(); len(list) != 0 {
		t.Errorf("remembered %v", list)
	}
	began := time.Now()
	for _, n := range []int{1, RecentRequests - 1, 1, RecentRequests + 500} {
		for range n {
			a.note(Response{Source: "old", RequestID: fmt.Sprint(a.requests.Add(1))})
		}
		list, sent := a.recent.list(), int(a.requests.Load())
		if len(list) != min(sent, RecentRequests) {
			t.Fatalf("%d of %d requests", len(list), sent)
		}
		for i, r := range list {
			if r.ID != fmt.Sprint(sent-len(list)+i+1) || r.At.Before(began) {
				t.Fatalf("of %d requests, number %d is %v", sent, i, r)
			}
		}
	}
}
