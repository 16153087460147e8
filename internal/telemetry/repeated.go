package telemetry

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// repeatEvery is the least time between two warnings with the same text.
	repeatEvery = 10 * time.Second
	// mostTexts is the maximum number of texts that are remembered.
	mostTexts = 256
)

// repeatingCore drops a warning if one with the same text was written less than
// repeatEvery ago. The next one that is written has the number of those dropped. Sync
// writes the last of those dropped, if no other one followed.
type repeatingCore struct {
	zapcore.Core
	texts *texts
}

// texts holds the warnings that were written last. It is safe for concurrent use.
type texts struct {
	mu    sync.Mutex
	known map[string]*written
}

type written struct {
	at      time.Time
	dropped int
	last    droppedEntry // of those dropped
}

// droppedEntry is an entry that was not written.
type droppedEntry struct {
	core   zapcore.Core
	entry  zapcore.Entry
	fields []zapcore.Field
}

// With implements zapcore.Core.
func (c *repeatingCore) With(fields []zapcore.Field) zapcore.Core {
	return &repeatingCore{c.Core.With(fields), c.texts}
}

// Check implements zapcore.Core.
func (c *repeatingCore) Check(
	e zapcore.Entry, checked *zapcore.CheckedEntry,
) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *repeatingCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if e.Level != zapcore.WarnLevel {
		return c.Core.Write(e, fields)
	}
	dropped, ok := c.texts.next(textOf(e, fields), droppedEntry{c.Core, e, fields})
	if !ok {
		return nil
	}
	return writeRepeated(droppedEntry{c.Core, e, fields}, dropped)
}

// Sync implements zapcore.Core.
func (c *repeatingCore) Sync() error {
	var errs []error
	for _, w := range c.texts.take() {
		errs = append(errs, writeRepeated(w.last, w.dropped))
	}
	return errors.Join(append(errs, c.Core.Sync())...)
}

// writeRepeated writes an entry with the number of entries that were dropped.
func writeRepeated(d droppedEntry, dropped int) error {
	fields := d.fields
	if dropped > 0 {
		fields = append(fields[:len(fields):len(fields)], zap.Int("repeated", dropped))
	}
	return d.core.Write(d.entry, fields)
}

// textOf returns the message with the fields that name what it is about.
func textOf(e zapcore.Entry, fields []zapcore.Field) string {
	text := e.Message
	for _, f := range fields {
		switch f.Key {
		case "target", "ref", "service":
			text += "\x00" + f.String
		case "from": // a library, whose messages have numbers that differ
			text = withoutDigits(text)
		}
	}
	return text
}

func withoutDigits(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}

// next reports whether a warning may be written, and how many were dropped before it.
func (t *texts) next(text string, d droppedEntry) (dropped int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, now := t.known[text], d.entry.Time
	if w == nil {
		if len(t.known) >= mostTexts {
			clear(t.known)
		}
		t.known[text] = &written{at: now}
		return 0, true
	}
	if now.Sub(w.at) < repeatEvery {
		w.dropped++
		w.last = d
		return 0, false
	}
	dropped = w.dropped
	w.at, w.dropped, w.last = now, 0, droppedEntry{}
	return dropped, true
}

// take returns the texts of which warnings were dropped, in order of time, and forgets them.
func (t *texts) take() (all []written) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.known {
		if w.dropped > 0 {
			all = append(all, *w)
		}
		w.dropped, w.last = 0, droppedEntry{}
	}
	slices.SortFunc(all, func(a, b written) int {
		return a.last.entry.Time.Compare(b.last.entry.Time)
	})
	return all
}
