package telemetry

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// TestRepeatedWarnings: a warning with the same text is written once in 10 s, with the
// number of those dropped. Other texts, targets and levels are not held.
func TestRepeatedWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		logger := NewLogger(Config{Output: &out})
		for n := range 25 { // once a second
			logger.Warn("the service fails", zap.String("target", "a"), zap.Int("n", n))
			if n == 3 {
				logger.Warn("the service fails", zap.String("target", "b"))
				logger.Warn("another text")
				logger.Warn("checksum 17", zap.String("from", "AWS SDK"))
				logger.Warn("checksum 4", zap.String("from", "AWS SDK"))
				logger.Info("working")
				logger.Info("working")
			}
			time.Sleep(time.Second)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		want := []string{`"n":0}`, `"target":"b"}`, "another", "checksum 17", "working", "working",
			`"n":10,"repeated":9}`, `"n":20,"repeated":9}`}
		if len(lines) != len(want) {
			t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String())
		}
		for i, line := range lines {
			if !strings.Contains(line, want[i]) {
				t.Errorf("line %d is %s, want one with %s", i, line, want[i])
			}
		}
	})
}

// TestRepeatedWarningsAtTheEnd: Sync writes how often a warning was repeated since it was written
// last, once.
func TestRepeatedWarningsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		logger := NewLogger(Config{Output: &out})
		named := logger.With(zap.String("job", "j"))
		for n := range 4 {
			named.Warn("the service fails", zap.Int("n", n))
			time.Sleep(time.Second)
		}
		logger.Warn("another text")
		out.Reset()
		for range 2 {
			if err := logger.Sync(); err != nil {
				t.Error(err)
			}
		}
		line := out.String()
		if strings.Count(line, "\n") != 1 ||
			!strings.Contains(line, `"the service fails","job":"j","n":3,"repeated":3}`) {
			t.Errorf("written at the end:\n%s", line)
		}
	})
}
