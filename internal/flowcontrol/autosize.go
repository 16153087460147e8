package flowcontrol

import (
	"context"
	"math"
	"time"

	"go.uber.org/zap"
)

// The parameters by which a pool without a given size finds its size.
const (
	// FirstSize is the initial size.
	FirstSize = 64
	minSize   = 8
	// sizeInterval is the time between two checks of the size.
	sizeInterval = time.Second
	// headroom is the factor from the average number of permits that the rate needs to the
	// size.
	headroom = 1.25
	// growth is the maximum factor of one growth. minGain is the minimum share of the growth by
	// which the items or the requests per second must rise: more workers cost memory, and bring
	// nothing if the processors are the limit.
	growth  = 2
	minGain = 0.25
	// atRate is the share of their time that workers wait for the limiter of KMS at which
	// the rate counts as reached.
	atRate = 0.02
	// holdOff is the time without growth after a growth without the minimum gain. It doubles up
	// to maxHoldOff.
	holdOff    = 10 * time.Second
	maxHoldOff = 10 * time.Minute
	// enoughRequests is the number of requests that is needed to measure the time for which one
	// request keeps a worker busy. With fewer requests, the check waits for at most sizePatience.
	enoughRequests = 20
	sizePatience   = 10 * time.Second
)

// InitialSize returns the initial size of a pool with at most most permits.
func InitialSize(most int) int { return min(FirstSize, max(most, minSize)) }

// Progress is what a run has done since it began.
type Progress struct {
	Requests int64 // to KMS
	Items    int64 // with an outcome
}

// figures combine Progress with the times of the workers.
type figures struct {
	Progress
	worked time.Duration // of all permits together
	// waited is the part of worked for which jobs waited for the limiter of KMS. Jobs that wait
	// for another limiter have no permit.
	waited time.Duration
}

// sizer decides the size of a pool. The size that the rate needs is the rate times the time for
// which one request keeps a worker busy (Little's law), including its share of the reading and
// writing of the item.
type sizer struct {
	most    int
	last    figures
	since   time.Time
	trial   *growthTrial
	hold    time.Duration
	retryAt time.Time // the size does not grow before this time
}

// growthTrial is a growth that has not been evaluated.
type growthTrial struct {
	sizeBefore  int // size before
	speedBefore speed
	unsettled   bool // the next check covers time before and after the growth
}

// speed is what a run does in a second. Items are counted when a job ends, and a job can take
// several check intervals. So the items of one interval can be few, although requests are sent.
type speed struct{ items, requests float64 }

// reaches reports whether s is at least factor times before.
func (s speed) reaches(before speed, factor float64) bool {
	return s.items >= factor*before.items || s.requests >= factor*before.requests
}

func newSizer(most int, now time.Time) *sizer {
	return &sizer{most: max(most, minSize), since: now, hold: holdOff}
}

// next returns the size from now on.
func (s *sizer) next(now time.Time, f figures, perSecond float64, size int, starved bool) int {
	requests, passed := f.Requests-s.last.Requests, now.Sub(s.since)
	if requests < enoughRequests && passed < sizePatience {
		return size
	}
	current := speed{
		items:    float64(f.Items-s.last.Items) / passed.Seconds(),
		requests: float64(requests) / passed.Seconds(),
	}
	worked, waited := (f.worked - s.last.worked).Seconds(), (f.waited - s.last.waited).Seconds()
	busy := worked - waited
	s.last, s.since = f, now
	if requests == 0 || busy <= 0 {
		return size
	}
	if back, judged := s.judge(now, current, waited/worked, size); judged {
		return back
	}
	want := int(min(math.Ceil(headroom*perSecond*busy/float64(requests)), float64(s.most)))
	want = max(want, minSize)
	switch {
	case want > size && starved && !now.Before(s.retryAt):
		s.trial = &growthTrial{sizeBefore: size, speedBefore: current, unsettled: true}
		return min(want, growth*size)
	case float64(want)*headroom < float64(size):
		return max(want, size/growth)
	}
	return size
}

// judge evaluates the last growth. judged is true if it is too early to evaluate the growth, or
// if it did not bring the minimum gain; back is then the size. idle is the share of the time for
// which workers waited for the limiter of KMS: if they wait, the rate is reached.
func (s *sizer) judge(
	now time.Time, current speed, idle float64, size int,
) (back int, judged bool) {
	t := s.trial
	switch {
	case t == nil:
		return size, false
	case t.unsettled:
		t.unsettled = false
		return size, true
	}
	s.trial = nil
	factor := 1 + minGain*(float64(size)/float64(t.sizeBefore)-1)
	if idle >= atRate || current.reaches(t.speedBefore, factor) {
		s.hold = holdOff
		return size, false
	}
	s.retryAt, s.hold = now.Add(s.hold), min(2*s.hold, maxHoldOff)
	return t.sizeBefore, true
}

// Autosize adapts the size of a pool, up to most, until ctx ends. limiter is that of KMS.
func Autosize(
	ctx context.Context, p *Pool, most int, limiter *Limiter, progress func() Progress,
	logger *zap.Logger,
) {
	ticker := time.NewTicker(sizeInterval)
	defer ticker.Stop()
	s := newSizer(most, time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			worked, size, starved := p.Stats()
			f := figures{Progress: progress(), worked: worked, waited: limiter.Waited()}
			if next := s.next(now, f, limiter.Rate(), size, starved); next != size {
				p.Resize(next)
				logger.Debug("changed the number of workers",
					zap.Int("before", size), zap.Int("now", next))
			}
		}
	}
}
