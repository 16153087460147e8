package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"go.uber.org/zap"

	"rotator/internal/checkpoint"
	"rotator/internal/plural"
	"rotator/internal/rotate"
)

// Intervals of progress reports.
const (
	logEvery  = 10 * time.Second
	lineEvery = 250 * time.Millisecond
)

// waitsForRate describes a command that has work but no share of the rate.
const waitsForRate = "waiting for a share of the rate: another run has not yet noticed that this " +
	"run has work, or was killed and its lease has not expired"

// meter reads the progress of a pass.
type meter struct {
	engine  *rotate.Rotator
	tracker *checkpoint.Tracker
	began   time.Time
	first   reading // at the start of this run
	// items is the approximate number of items; 0 if that of a target is unknown.
	items int64
}

// reading is progress at one moment.
type reading struct {
	items, slots, moved, exceptions int64
	done, partitions                int
	perSecond                       float64
	limit                           float64
	needsWork, needsRate            bool
	requests                        int64 // ReEncrypt requests of this process
}

// doing describes what the run does.
func (r reading) doing() string {
	switch {
	case r.limit > 0:
		return "working"
	case r.needsWork:
		return "waiting for work: other runs hold all remaining partitions"
	case r.needsRate:
		return waitsForRate
	}
	return "working"
}

func (m *meter) read() (r reading) {
	for _, state := range m.tracker.Snapshot() {
		s := state.Counts.Slots
		r.items += state.Counts.Items.Seen
		r.slots += s.Seen
		r.moved += s.Rotated
		r.exceptions += s.Foreign + s.Failed + s.Conflict
		r.partitions++
		if state.Done {
			r.done++
		}
	}
	if took := time.Since(m.began).Seconds(); took > 0 {
		r.perSecond = float64(r.slots-m.first.slots) / took
	}
	r.requests, _, r.limit = m.engine.Requests()
	r.needsWork, r.needsRate = m.tracker.Needs()
	return r
}

// left returns the estimated time to the end of the pass, from the rate of this run so far.
func (m *meter) left(r reading) string {
	done, took := r.items-m.first.items, time.Since(m.began)
	if m.items <= r.items || done == 0 {
		return "unknown"
	}
	rest := float64(took) * float64(m.items-r.items) / float64(done)
	return time.Duration(rest).Round(time.Second).String()
}

// items returns the approximate number of items of the job, or 0 if a source does not know its
// number.
func (s *session) items() (sum int64) {
	for _, p := range s.wiring.targets {
		counted, ok := p.source.(interface{ Items() int64 })
		if !ok || counted.Items() == 0 {
			return 0
		}
		sum += counted.Items()
	}
	return sum
}

// progress reports the progress of the pass until stop is called: with a progress bar on a
// terminal, otherwise with log lines.
func (s *session) progress(engine *rotate.Rotator, tracker *checkpoint.Tracker) (stop func()) {
	m := &meter{engine: engine, tracker: tracker, began: time.Now(), items: s.items()}
	m.first = m.read()
	show, every, end := s.logProgress(m), logEvery, func() {}
	if s.terminal != nil {
		show, end = s.liveLine(m)
		every = lineEvery
	}
	quit := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show()
			case <-quit:
				return
			}
		}
	})
	return func() {
		close(quit)
		wait.Wait()
		end()
	}
}

func (s *session) logProgress(m *meter) func() {
	return func() {
		r := m.read()
		s.logger.Info(r.doing(),
			zap.Int64("slots", r.slots),
			zap.Int64("rotated", r.moved),
			zap.Int64("exceptions", r.exceptions),
			zap.Int64("kms_requests", r.requests),
			zap.Float64("slots_per_second", r.perSecond),
			zap.Float64("kms_rate_limit", r.limit),
			zap.Int("partitions_done", r.done),
			zap.Int("partitions", r.partitions),
			zap.String("left", m.left(r)))
	}
}

// liveLine draws a bar over the items, or over the partitions if the number of
// items is unknown. The bar moves the cursor, so its output is
// not escaped. It must not contain text from outside.
func (s *session) liveLine(m *meter) (show, end func()) {
	total, done := m.items, func(r reading) int64 { return min(r.items, m.items) }
	if total == 0 {
		total, done = int64(m.first.partitions), func(r reading) int64 { return int64(r.done) }
	}
	container := mpb.New(mpb.WithOutput(s.terminal), mpb.WithRefreshRate(lineEvery))
	bar := container.AddBar(total,
		mpb.PrependDecorators(decor.Name(s.summary.Command+" ")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			r := m.read()
			return fmt.Sprintf(" %d/%s, %s, %.0f/s, %d rotated, %s, %s, ETA %s",
				r.done, plural.Count(r.partitions, "partition"), plural.Count(r.slots, "slot"),
				r.perSecond, r.moved, plural.Count(r.exceptions, "exception"),
				plural.Count(r.requests, "KMS request"), m.left(r))
		})))
	s.screen.show(container)
	show = func() { bar.SetCurrent(done(m.read())) }
	return show, func() {
		s.screen.show(nil)
		show()
		bar.Abort(false)
		container.Wait()
	}
}
