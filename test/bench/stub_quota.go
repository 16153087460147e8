package main

import (
	"math/rand/v2"
	"sync"
	"time"
)

// second counts the ReEncrypt requests that arrived within one second.
type second struct{ Served, Throttled int64 }

// quota throttles ReEncrypt above a rate that clients do not know, and a random share of all
// requests. KMS counts requests by the second
// (docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.html). This token bucket
// holds only the tokens of a tenth of a second, so a client gains nothing from idle time.
type quota struct {
	rate  float64 // requests per second; 0 for no quota
	share float64 // of all requests that are throttled at random

	mu      sync.Mutex
	tokens  float64
	filled  time.Time
	began   time.Time // of the first request since takeSeconds
	seconds []second
}

// burst is the capacity of the bucket in seconds.
const burst = 0.1

// admit reports whether a request at this time is served, and counts it.
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

// take takes a token. It reports whether there was one.
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

// takeSeconds returns the counts and resets them.
func (q *quota) takeSeconds() []second {
	q.mu.Lock()
	defer q.mu.Unlock()
	seconds := q.seconds
	q.seconds, q.began = nil, time.Time{}
	return seconds
}
