package reencrypt

import (
	"sync"
	"time"
)

// RecentRequests is the maximum number of requests that a Stack remembers.
const RecentRequests = 1000

// SentRequest is a ReEncrypt request that succeeded, so it counts as a use of its source key.
type SentRequest struct {
	ID string // that KMS gave it
	At time.Time
}

// recentRequests remembers the last RecentRequests requests that used a source key. It is safe for
// concurrent use. The zero value is empty.
type recentRequests struct {
	mu   sync.Mutex
	ring []SentRequest
	next int // index in ring of the oldest request, if ring is full
}

func (r *recentRequests) add(id string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < RecentRequests {
		r.ring = append(r.ring, SentRequest{id, at})
		return
	}
	r.ring[r.next] = SentRequest{id, at}
	r.next = (r.next + 1) % RecentRequests
}

// list returns the requests, the oldest first.
func (r *recentRequests) list() []SentRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append([]SentRequest{}, r.ring[r.next:]...), r.ring[:r.next]...)
}

// note remembers a request that succeeded, if it used a source key. Dry runs are no uses
// (API_GetKeyLastUsage: the last successful operation).
func (a *asker) note(response Response) {
	if response.RequestID != "" && a.keys.IsSource(response.Source) {
		a.recent.add(response.RequestID, time.Now())
	}
}

// RecentRequests returns the last requests that used a source key, the oldest first.
func (s *Stack) RecentRequests() []SentRequest { return s.asker.recent.list() }
