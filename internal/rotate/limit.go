package rotate

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How the limiter answers throttling: quickly down, slowly up again.
const (
	cutFactor     = 0.7                    // one throttled window leaves so much of the rate
	cutInterval   = 200 * time.Millisecond // answers of one burst count as one cut
	raiseStep     = 0.02                   // share of the full rate won back per raiseInterval
	floorShare    = 0.01                   // the rate never falls below this share
	raiseInterval = 200 * time.Millisecond
)

// Limiter is the one gate that every ReEncrypt request passes, retries
// included. It never lets more than the given rate through in any second, slows
// the whole run down when the service throttles, and recovers additively.
type Limiter struct {
	gate *rate.Limiter

	mu      sync.Mutex
	given   float64 // requests per second of all workers together
	workers int
	full    float64 // requests per second, this worker's share
	now     float64 // requests per second, in force
	cutAt   time.Time
	raiseAt time.Time
}

// NewLimiter makes a Limiter of perSecond requests.
func NewLimiter(perSecond float64) *Limiter {
	full, burst := paced(perSecond)
	return &Limiter{gate: rate.NewLimiter(rate.Limit(full), burst), given: perSecond, workers: 1, full: full, now: full}
}

// paced takes the burst, which is at most 1% of the rate, off the rate, so that a
// whole second with its burst still holds no more than perSecond.
func paced(perSecond float64) (full float64, burst int) {
	burst = max(1, int(perSecond/100))
	if burst == 1 {
		return perSecond, 1
	}
	return perSecond - float64(burst), burst
}

// Share makes the rate that was given one of several workers together, of which
// this is one.
func (l *Limiter) Share(workers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if workers == l.workers || workers < 1 {
		return
	}
	l.workers = workers
	full, burst := paced(l.given / float64(workers))
	l.gate.SetBurst(burst)
	slowed := l.now / l.full // what throttling has left of the rate
	l.full = full
	l.set(full * slowed)
}

// Wait blocks until one request may go out, or ctx ends.
func (l *Limiter) Wait(ctx context.Context) error { return l.gate.Wait(ctx) }

// Throttled tells the limiter that the service throttled a request.
func (l *Limiter) Throttled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.raiseAt = now
	if now.Sub(l.cutAt) < cutInterval {
		return
	}
	l.cutAt = now
	l.set(max(l.now*cutFactor, l.full*floorShare))
}

// Passed tells the limiter that the service served a request.
func (l *Limiter) Passed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now >= l.full {
		return
	}
	if now := time.Now(); now.Sub(l.raiseAt) >= raiseInterval {
		l.raiseAt = now
		l.set(min(l.now+l.full*raiseStep, l.full))
	}
}

// Rate returns the requests per second in force now.
func (l *Limiter) Rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *Limiter) set(perSecond float64) {
	l.now = perSecond
	l.gate.SetLimit(rate.Limit(perSecond))
}
