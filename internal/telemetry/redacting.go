package telemetry

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// redactingCore passes the message and the texts of an entry through redact. Errors and
// messages may come from a library, which may repeat what a server or a program said.
type redactingCore struct {
	zapcore.Core
	redact func(string) string
}

// With implements zapcore.Core.
func (c *redactingCore) With(fields []zapcore.Field) zapcore.Core {
	return &redactingCore{c.Core.With(c.fields(fields)), c.redact}
}

// Check implements zapcore.Core.
func (c *redactingCore) Check(
	e zapcore.Entry, checked *zapcore.CheckedEntry,
) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *redactingCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	e.Message = c.redact(e.Message)
	return c.Core.Write(e, c.fields(fields))
}

func (c *redactingCore) fields(fields []zapcore.Field) []zapcore.Field {
	redacted := make([]zapcore.Field, len(fields))
	for i, field := range fields {
		redacted[i] = c.field(field)
	}
	return redacted
}

// field keeps numbers and times, and converts every other value to a redacted
// string.
func (c *redactingCore) field(f zapcore.Field) zapcore.Field {
	switch f.Type {
	case zapcore.BoolType, zapcore.DurationType, zapcore.TimeType, zapcore.TimeFullType,
		zapcore.Float64Type, zapcore.Float32Type, zapcore.Int64Type, zapcore.Int32Type,
		zapcore.Int16Type, zapcore.Int8Type, zapcore.Uint64Type, zapcore.Uint32Type,
		zapcore.Uint16Type, zapcore.Uint8Type, zapcore.UintptrType, zapcore.NamespaceType,
		zapcore.SkipType:
		return f
	case zapcore.BinaryType:
		return zap.String(f.Key, "[redacted]")
	case zapcore.StringType:
		return zap.String(f.Key, c.redact(f.String))
	case zapcore.ErrorType:
		if err, ok := f.Interface.(error); ok {
			return zap.String(f.Key, c.redact(err.Error()))
		}
	}
	encoded := zapcore.NewMapObjectEncoder()
	f.AddTo(encoded)
	return zap.String(f.Key, c.redact(fmt.Sprint(encoded.Fields[f.Key])))
}
