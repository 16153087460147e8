package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"rotator/internal/reencrypt"
)

// TestNewestIDs: the ids of the newest requests are stored, at most 1,000 and 30 KiB, with the time
// since which they are all.
func TestNewestIDs(t *testing.T) {
	began := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	sent := func(n int, form string) (list []reencrypt.SentRequest) {
		for i := range n {
			list = append(list, reencrypt.SentRequest{
				ID: fmt.Sprintf(form, i),
				At: began.Add(time.Duration(i) * time.Second),
			})
		}
		return list
	}
	const uuid, short = "0a1b2c3d-0000-0000-0000-%012d", "%d"
	for name, c := range map[string]struct {
		sent []reencrypt.SentRequest
		more bool
		want int
	}{
		"none":                {want: 0},
		"all":                 {sent(700, uuid), false, 700},
		"30 KiB":              {sent(1000, uuid), true, 787},
		"30 KiB without more": {sent(788, uuid), false, 787},
		"two engines":         {sent(1500, short), true, 1000},
		"a full ring":         {sent(1000, short), true, 1000},
	} {
		ids, from := newestIDs(c.sent, c.more, began)
		if len(ids) != c.want {
			t.Errorf("%s: %d ids, want %d", name, len(ids), c.want)
			continue
		}
		if text, err := json.Marshal(ids); err != nil || len(text) > keptRequestIDs+8 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		want := began
		if c.more || c.want < len(c.sent) {
			want = began.Add(time.Duration(len(c.sent)-c.want) * time.Second)
		}
		if !from.Equal(want) {
			t.Errorf("%s: complete since %s, want %s", name, from, want)
		}
		for i, id := range ids {
			if id != c.sent[i].ID || i > 0 && c.sent[i].At.After(c.sent[i-1].At) {
				t.Fatalf("%s: id %d is %s", name, i, id)
			}
		}
	}
}
