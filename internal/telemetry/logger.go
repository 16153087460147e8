// Package telemetry creates the logger. There is no global logger: each package gets a
// *zap.Logger in its Config.
//
// What may be logged: names and addresses (job, target, partition, item, slot
// path), key ARNs, counts, durations, error codes and request ids of AWS. Never
// logged, at any level: ciphertext blobs, payloads of items, values of
// encryption contexts, credentials, grant tokens, and values of environment
// variables. Callers must follow this rule. Types that hold secrets
// (config.GrantTokens) redact themselves. Config.Redact is for text of
// libraries and servers.
package telemetry

import (
	"bytes"
	"io"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"rotator/internal/printable"
)

// Config configures the logger. The zero value logs to stderr from level info.
type Config struct {
	// People selects human-readable lines instead of JSON Lines.
	People bool
	// Level is the lowest level that is logged; nil means info.
	Level zapcore.LevelEnabler
	// Redact removes secrets from messages and strings. If nil, nothing is
	// removed.
	Redact func(string) string
	// Output is where lines go, one Write each; nil means os.Stderr. It need
	// not be safe for concurrent use.
	Output io.Writer
}

// NewLogger returns a logger without a buffer, so that a killed process loses
// no line. A warning that repeats itself is written once in 10 s.
func NewLogger(c Config) *zap.Logger {
	if c.Output == nil {
		c.Output = os.Stderr
	}
	if c.Level == nil {
		c.Level = zapcore.InfoLevel
	}
	if c.Redact == nil {
		c.Redact = func(s string) string { return s }
	}
	output := zapcore.Lock(zapcore.AddSync(&lineWriter{c.Output}))
	core := &redactingCore{zapcore.NewCore(encoder(c.People), output, c.Level), c.Redact}
	held := &repeatingCore{core, &texts{known: map[string]*written{}}}
	return zap.New(held, zap.ErrorOutput(output))
}

// lineWriter escapes what must not be printed. Each Write is one line, so that a newline
// in a message cannot begin another.
type lineWriter struct{ w io.Writer }

// Write implements io.Writer.
func (l *lineWriter) Write(p []byte) (int, error) {
	text := printable.Text(string(bytes.TrimSuffix(p, []byte(zapcore.DefaultLineEnding))))
	if _, err := io.WriteString(l.w, text+zapcore.DefaultLineEnding); err != nil {
		return 0, err
	}
	return len(p), nil
}

func encoder(people bool) zapcore.Encoder {
	keys := zapcore.EncoderConfig{
		TimeKey:        "time",
		LevelKey:       "level",
		MessageKey:     "message",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
	}
	if !people {
		return zapcore.NewJSONEncoder(keys)
	}
	keys.EncodeTime = zapcore.TimeEncoderOfLayout(time.TimeOnly)
	keys.EncodeLevel = zapcore.CapitalLevelEncoder
	keys.ConsoleSeparator = "  "
	return zapcore.NewConsoleEncoder(keys)
}

// IsTerminal reports whether w is a character device other than the null device. This is
// sufficient to choose between lines for people and for programs.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
