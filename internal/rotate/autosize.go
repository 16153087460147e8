package rotate

import (
	"context"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"
)

// How the number of places finds its size, where none is given.
const (
	// FirstPlaces is how many places there are to begin with.
	FirstPlaces = 64
	leastPlaces = 8
	// sizeEvery is how often it is looked at.
	sizeEvery = time.Second
	// headroom is how many more places there are than the rate needs on average.
	headroom = 1.25
	// growth is the most by which places become more at once, and pays the least part
	// of it by which items have to become more for that to stay: more places cost
	// memory, and where the processors are the limit they bring nothing.
	growth = 2
	pays   = 0.25
	atRate = 0.02 // of the time of the places is waited for the limiter of KMS: the rate is reached
	// holdOff is how long no growth is tried after one that did not pay; it doubles
	// up to holdMost.
	holdOff  = 10 * time.Second
	holdMost = 10 * time.Minute
	// enoughAsked requests say how long one keeps a place busy; with fewer it is
	// waited for more, but for no longer than sizePatience.
	enoughAsked  = 20
	sizePatience = 10 * time.Second
)

// figures are what has been counted since the run began.
type figures struct {
	asked  int64         // requests to KMS
	items  int64         // with an outcome
	worked time.Duration // of all places together
	waited time.Duration // of it, for the leave of KMS's limiter; for others a place is given up
}

// sizer decides how many places there are: as many as it takes to send requests at the
// rate in force, which is the rate times how long one request keeps a place busy (the
// law of Little), its share of reading and writing the item included.
type sizer struct {
	most  int
	last  figures
	since time.Time
	trial *growthTrial
	hold  time.Duration
	retry time.Time // no growth before
}

// growthTrial is a growth that has yet to pay.
type growthTrial struct {
	from  int     // places before
	speed float64 // items per second before
	young bool    // the first look at it mixes both
}

func newSizer(most int, now time.Time) *sizer {
	return &sizer{most: max(most, leastPlaces), since: now, hold: holdOff}
}

// next returns how many places there should be from now on.
func (s *sizer) next(now time.Time, f figures, perSecond float64, places int, short bool) int {
	asked, passed := f.asked-s.last.asked, now.Sub(s.since)
	if asked < enoughAsked && passed < sizePatience {
		return places
	}
	speed := float64(f.items-s.last.items) / passed.Seconds()
	worked, waited := (f.worked - s.last.worked).Seconds(), (f.waited - s.last.waited).Seconds()
	busy := worked - waited
	s.last, s.since = f, now
	if asked == 0 || busy <= 0 {
		return places
	}
	if back, judged := s.judge(now, speed, waited/worked, places); judged {
		return back
	}
	want := int(min(math.Ceil(headroom*perSecond*busy/float64(asked)), float64(s.most)))
	want = max(want, leastPlaces)
	switch {
	case want > places && short && !now.Before(s.retry):
		s.trial = &growthTrial{from: places, speed: speed, young: true}
		return min(want, growth*places)
	case float64(want)*headroom < float64(places):
		return max(want, places/growth)
	}
	return places
}

// judge looks whether the last growth has paid; judged says that it is too early, or
// that it has not, and then places go back. Idle is the share of their time for which
// places waited for that limiter: where they do, the rate is reached.
func (s *sizer) judge(now time.Time, speed, idle float64, places int) (back int, judged bool) {
	t := s.trial
	switch {
	case t == nil:
		return places, false
	case t.young:
		t.young = false
		return places, true
	}
	s.trial = nil
	if idle >= atRate || speed >= t.speed*(1+pays*(float64(places)/float64(t.from)-1)) {
		s.hold = holdOff
		return places, false
	}
	s.retry, s.hold = now.Add(s.hold), min(2*s.hold, holdMost)
	return t.from, true
}

// sizing keeps the pool at the size that the run needs, until done is called.
func (r *Rotator) sizing(ctx context.Context, p *pool) (done func()) {
	if r.config.Workers > 0 {
		return func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	var sizer sync.WaitGroup
	sizer.Go(func() { r.size(ctx, p) })
	return func() {
		stop()
		sizer.Wait()
	}
}

// size does so until ctx ends.
func (r *Rotator) size(ctx context.Context, p *pool) {
	ticker := time.NewTicker(sizeEvery)
	defer ticker.Stop()
	s := newSizer(r.config.MostWorkers, time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			worked, places, short := p.look()
			next := s.next(now, r.figures(worked), r.decider.limiter.Rate(), places, short)
			if next != places {
				p.resize(next)
				r.logger.Debug("another number of workers", zap.Int("before", places), zap.Int("now", next))
			}
		}
	}
}

func (r *Rotator) figures(worked time.Duration) figures {
	return figures{asked: r.decider.requests.Load(), items: r.items.Load(), worked: worked, waited: r.decider.limiter.Waited()}
}

// workers is how many chunks are worked on at the same time in the beginning.
func (r *Rotator) workers() int {
	if r.config.Workers > 0 {
		return r.config.Workers
	}
	return min(FirstPlaces, max(r.config.MostWorkers, leastPlaces))
}
