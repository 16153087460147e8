package main

import (
	"math/rand/v2"
	"sync"
	"time"
)

// second is what became of the ReEncrypt requests that came within one second.
type second struct{ Served, Throttled int64 }

// quota answers ReEncrypt with ThrottlingException above a rate that no client is
// told, and a share of all, at random. KMS counts requests by the second
// (docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.html); this
// fills a bucket with rate tokens in a second, which holds those of a tenth: so a
// client gets nothing out of being idle.
type quota struct {
	rate  float64 // requests per second; 0 for no quota
	share float64 // of all requests, throttled whatever their rate

	mu      sync.Mutex
	tokens  float64
	filled  time.Time
	began   time.Time // the first request since seconds were taken
	seconds []second
}

// burst is the part of a second whose tokens the bucket holds.
const burst = 0.1

// admit says whether a request that comes now is served, and counts it.
func (q *quota) admit(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.began.IsZero() {
		q.began = now
	}
	at := int(now.Sub(q.began) / time.Second)
	for len(q.seconds) <= at {
		q.seconds = append(q.seconds, second{})
	}
	if !q.take(now) || rand.Float64() < q.share {
		q.seconds[at].Throttled++
		return false
	}
	q.seconds[at].Served++
	return true
}

// take takes a token, if there is one.
func (q *quota) take(now time.Time) bool {
	if q.rate == 0 {
		return true
	}
	if q.filled.IsZero() {
		q.tokens = q.rate * burst
	} else {
		q.tokens = min(q.rate*burst, q.tokens+q.rate*now.Sub(q.filled).Seconds())
	}
	q.filled = now
	if q.tokens < 1 {
		return false
	}
	q.tokens--
	return true
}

// takeSeconds returns the seconds that were counted, and counts anew.
func (q *quota) takeSeconds() []second {
	q.mu.Lock()
	defer q.mu.Unlock()
	seconds := q.seconds
	q.seconds, q.began = nil, time.Time{}
	return seconds
}
