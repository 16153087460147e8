package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// TestLinesAreJSONWithoutTerminal: output that is not a terminal has one JSON object per line.
// Lines are complete even if many goroutines log concurrently to a writer that is not safe for
// concurrent use.
func TestLinesAreJSONWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	logger := NewLogger(Config{Output: &out})
	logger.Debug("below the level")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				logger.Info("page done", zap.String("target", "customers"),
					zap.Duration("took", 1500*time.Millisecond))
			}
		})
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 400 {
		t.Fatalf("%d lines, want 400", len(lines))
	}
	for _, line := range lines {
		var got map[string]string
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, err := time.Parse(time.RFC3339Nano, got["time"]); err != nil {
			t.Errorf("time: %v", err)
		}
		delete(got, "time")
		want := `{"level":"info","message":"page done","target":"customers","took":"1.5s"}`
		if encode(t, got) != want {
			t.Fatalf("got %s, want %s", encode(t, got), want)
		}
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLinesForPeople(t *testing.T) {
	entry := zapcore.Entry{
		Level:   zapcore.WarnLevel,
		Message: "KMS throttles",
		Time:    time.Date(2026, 3, 1, 9, 5, 7, 0, time.UTC),
	}
	line, err := encoder(true).EncodeEntry(entry, []zapcore.Field{zap.Int("rate", 500)})
	if err != nil {
		t.Fatal(err)
	}
	if want := "09:05:07  WARN  KMS throttles  {\"rate\": 500}\n"; line.String() != want {
		t.Errorf("got %q, want %q", line.String(), want)
	}
}

func TestIsTerminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminal on this machine: %v", err)
	}
	defer func() { _ = terminal.Close() }()
	if !IsTerminal(terminal) {
		t.Error("a pseudo terminal is not recognised as a terminal")
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if IsTerminal(null) || IsTerminal(file) || IsTerminal(&bytes.Buffer{}) {
		t.Error("the null device, a file or a buffer is recognised as a terminal")
	}
}

// TestLinesAreRedactedAndEscaped: secrets and characters that must not be printed are
// found in messages, in fields of every type, and in those of a derived logger.
func TestLinesAreRedactedAndEscaped(t *testing.T) {
	const hostile = "a\x1b[2J\nb\u202e\u009b SECRET"
	redacted := func(s string) string { return strings.ReplaceAll(s, "SECRET", "[redacted]") }
	for _, people := range []bool{false, true} {
		var out bytes.Buffer
		logger := NewLogger(Config{Output: &out, People: people, Redact: redacted})
		logger.With(zap.String("with", hostile)).Info(hostile, zap.String("text", hostile),
			zap.Error(errors.New(hostile)),
			zap.Any("any", map[string]string{"x": hostile}), zap.Strings("list", []string{hostile}),
			zap.ByteString("bytes", []byte(hostile)),
			zap.Binary("binary", []byte(hostile)),
			zap.Stringer("stringer", time.FixedZone(hostile, 0)), zap.Int("n", 7))
		text := out.String()
		if strings.ContainsAny(text, "\x1b\u202e\u009b") || strings.Count(text, "\n") != 1 ||
			strings.Contains(text, "SECRET") {
			t.Errorf("people %v: %q", people, text)
		}
		if n := strings.Count(text, "[redacted]"); n < 8 {
			t.Errorf("people %v: %d of 9 texts are there: %s", people, n, text)
		}
	}
}
