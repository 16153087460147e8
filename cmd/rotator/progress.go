package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"go.uber.org/zap"

	"rotator/internal/checkpoint"
	"rotator/internal/rotate"
	"rotator/internal/telemetry"
)

// How often progress is shown.
const (
	logEvery  = 10 * time.Second
	lineEvery = 250 * time.Millisecond
)

// meter reads the progress of a pass.
type meter struct {
	engine  *rotate.Rotator
	tracker *checkpoint.Tracker
	began   time.Time
	first   int64 // slots that were done before this run
}

// reading is progress at one moment.
type reading struct {
	slots, moved, exceptions int64
	done, partitions         int
	perSecond                float64
	limit                    float64
}

func (m *meter) read() (r reading) {
	for _, state := range m.tracker.Snapshot() {
		s := state.Counts.Slots
		r.slots += s.Seen
		r.moved += s.Rotated
		r.exceptions += s.Foreign + s.Failed + s.Conflict
		r.partitions++
		if state.Done {
			r.done++
		}
	}
	if took := time.Since(m.began).Seconds(); took > 0 {
		r.perSecond = float64(r.slots-m.first) / took
	}
	_, _, r.limit = m.engine.Requests()
	return r
}

// progress shows how far the pass is, until stop is called: a live line on a
// terminal, a log line now and then elsewhere.
func (s *session) progress(engine *rotate.Rotator, tracker *checkpoint.Tracker) (stop func()) {
	m := &meter{engine: engine, tracker: tracker, began: time.Now()}
	m.first = m.read().slots
	show, every, end := s.logProgress(m), logEvery, func() {}
	if telemetry.IsTerminal(s.err) {
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
		s.logger.Info("working", zap.Int64("slots", r.slots), zap.Int64("rotated", r.moved), zap.Int64("exceptions", r.exceptions),
			zap.Float64("slots_per_second", r.perSecond), zap.Float64("kms_rate_limit", r.limit),
			zap.Int("partitions_done", r.done), zap.Int("partitions", r.partitions))
	}
}

// liveLine draws a bar over the partitions: how many slots there are is not
// known before the end, how many partitions there are is.
func (s *session) liveLine(m *meter) (show, end func()) {
	first := m.read()
	container := mpb.New(mpb.WithOutput(s.err), mpb.WithRefreshRate(lineEvery))
	bar := container.AddBar(int64(first.partitions),
		mpb.PrependDecorators(decor.Name(s.summary.Command+" ")),
		mpb.AppendDecorators(
			decor.CountersNoUnit("%d/%d partitions"),
			decor.Any(func(decor.Statistics) string {
				r := m.read()
				return fmt.Sprintf("  %d slots, %.0f/s, %d rotated, %d exceptions  ETA ", r.slots, r.perSecond, r.moved, r.exceptions)
			}),
			decor.AverageETA(decor.ET_STYLE_GO),
		))
	show = func() { bar.SetCurrent(int64(m.read().done)) }
	return show, func() {
		show()
		bar.Abort(false)
		container.Wait()
	}
}
