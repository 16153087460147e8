package pack

import (
	"bytes"
	"encoding/json"
	"io/fs"
)

// Is reports whether a text is the statement of a pack, signed or not, or one of the files with
// which a reader of this version checks a pack.
func Is(text []byte) bool {
	if len(text) == 0 {
		return false
	}
	if text[0] == '{' && (isSigned(text) || isStatement(text)) {
		return true
	}
	list, err := fs.ReadDir(files, ".")
	if err != nil {
		return false
	}
	for _, entry := range list {
		own, err := files.ReadFile(entry.Name())
		if err == nil && bytes.Equal(own, text) {
			return true
		}
	}
	return false
}

// isSigned reports whether a text is a bundle with the statement of a pack, and nothing else.
func isSigned(text []byte) bool {
	var b bundle
	return exactly(text, &b) && b.MediaType == bundleType &&
		b.Envelope.PayloadType == payloadType && len(b.Envelope.Signatures) == 1 &&
		isStatement(b.Envelope.Payload)
}

// isStatement reports whether a text is the statement of a pack, and nothing else.
func isStatement(text []byte) bool {
	var s Statement
	return exactly(text, &s) && s.Type == statementType && s.PredicateType == PredicateType &&
		len(s.Subject) > 0
}

// exactly reports whether a text is one JSON value with no other members than those of v.
func exactly(text []byte, v any) bool {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(v) == nil && !decoder.More()
}
