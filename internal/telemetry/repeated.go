package telemetry

import (
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
// repeatEvery ago. The next one that is written has the number of those dropped.
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
	dropped, ok := c.texts.next(textOf(e, fields), e.Time)
	if !ok {
		return nil
	}
	if dropped > 0 {
		fields = append(fields[:len(fields):len(fields)], zap.Int("repeated", dropped))
	}
	return c.Core.Write(e, fields)
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
func (t *texts) next(text string, now time.Time) (dropped int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.known[text]
	if w == nil {
		if len(t.known) >= mostTexts {
			clear(t.known)
		}
		t.known[text] = &written{at: now}
		return 0, true
	}
	if now.Sub(w.at) < repeatEvery {
		w.dropped++
		return 0, false
	}
	dropped = w.dropped
	w.at, w.dropped = now, 0
	return dropped, true
}
