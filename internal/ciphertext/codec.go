package ciphertext

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"rotator/internal/kmsblob"
)

// Padding is the base64 padding that a text shows.
type Padding int

// PaddingNone is the value for texts that are not base64, and for formats whose
// writers always pad.
const (
	PaddingNone    Padding = iota
	PaddingUnknown         // the length of the blob is a multiple of three: no padding is needed
	PaddingAlways          // padding is needed and present
	PaddingNever           // padding is needed but missing
)

// layout is the layout of a base64 text without its blob: surrounding white space,
// line breaks and padding. Another blob can be encoded in the same layout.
type layout struct {
	before, after string
	encoding      *base64.Encoding
	width         int    // characters per line; 0 means a single line
	newline       string // between lines
	padding       Padding
}

// decodeText decodes a blob from base64 or base64url. ok is false for a text that
// cannot be restored byte for byte: one with another alphabet, with lines of
// different widths, or with unused bits set at the end.
func decodeText(text []byte, url bool) (blob []byte, l layout, ok bool) {
	body := bytes.Trim(text, " \t\r\n")
	start := bytes.Index(text, body)
	l = layout{before: string(text[:start]), after: string(text[start+len(body):])}
	if at := bytes.IndexAny(body, "\r\n"); at >= 0 {
		l.width = at
		l.newline = "\n"
		if body[at] == '\r' {
			l.newline = "\r\n"
		}
	}
	joined := string(body)
	if l.width > 0 {
		joined = strings.ReplaceAll(joined, l.newline, "")
	}
	l.encoding = base64.StdEncoding
	if url {
		l.encoding = base64.URLEncoding
	}
	if !strings.HasSuffix(joined, "=") && len(joined)%4 != 0 {
		l.encoding = l.encoding.WithPadding(base64.NoPadding)
	}
	blob, err := l.encoding.Strict().DecodeString(joined)
	if err != nil {
		return nil, layout{}, false
	}
	switch {
	case len(blob)%3 == 0:
		l.padding = PaddingUnknown
	case strings.HasSuffix(joined, "="):
		l.padding = PaddingAlways
	default:
		l.padding = PaddingNever
	}
	return blob, l, bytes.Equal(l.encode(blob), text)
}

// encode encodes a blob in the layout of the text that was read. It returns nil if
// the blob needs padding and it is unknown whether the writer pads.
func (l layout) encode(blob []byte) []byte {
	if l.padding == PaddingUnknown && len(blob)%3 != 0 {
		return nil
	}
	text := l.encoding.EncodeToString(blob)
	var out bytes.Buffer
	out.WriteString(l.before)
	for l.width > 0 && len(text) > l.width {
		out.WriteString(text[:l.width])
		out.WriteString(l.newline)
		text = text[l.width:]
	}
	out.WriteString(text)
	out.WriteString(l.after)
	return out.Bytes()
}

// withPadding returns the layout of a text that does not show its padding, with the
// known padding of its writer.
func (l layout) withPadding(padding Padding) layout {
	switch padding {
	case PaddingAlways:
		l.padding = padding
	case PaddingNever:
		l.padding, l.encoding = padding, l.encoding.WithPadding(base64.NoPadding)
	}
	return l
}

// decodeHex decodes a blob from hexadecimal digits on one line, with optional white
// space around them. ok is false for digits in mixed case, because the case that the
// writer would use for another blob is unknown.
func decodeHex(text []byte) (blob []byte, encode func([]byte) []byte, ok bool) {
	body := bytes.Trim(text, " \t\r\n")
	start := bytes.Index(text, body)
	before, after := text[:start], text[start+len(body):]
	digits := hex.EncodeToString
	if bytes.ContainsAny(body, "ABCDEF") {
		digits = func(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
	}
	encode = func(b []byte) []byte { return slices.Concat(before, []byte(digits(b)), after) }
	blob, err := hex.DecodeString(string(body))
	return blob, encode, err == nil && bytes.Equal(encode(blob), text)
}

// checkBlob refuses bytes that KMS cannot have returned or that ReEncrypt does not
// accept.
func checkBlob(blob []byte) *Refused {
	switch {
	case len(blob) == 0:
		return &Refused{Reason: "empty", Detail: "the value is empty"}
	case isESDKHeader(blob):
		return esdkMessage()
	case len(blob) > kmsblob.MaxSize:
		return &Refused{
			Reason: "too-large",
			Detail: "the value is larger than 6,144 bytes, the limit of ReEncrypt",
		}
	}
	return misread(blob)
}

// decodePadded decodes base64 that is padded as RFC 4648 requires. The clients of
// known software write it in this form.
func decodePadded(text []byte) (blob []byte, encode func([]byte) []byte, refused *Refused) {
	blob, l, ok := decodeText(text, false)
	if !ok {
		return nil, nil, notFormat(formatBase64, text)
	}
	l.padding = PaddingNone
	return blob, l.encode, checkBlob(blob)
}

// decoded is the result of decode.
type decoded struct {
	blob []byte
	// encode returns the value for another blob, or nil if the blob does not fit. It
	// is nil if the value was refused.
	encode func([]byte) []byte
	// padding is the padding that the value itself shows, regardless of the job file.
	padding Padding
	refused *Refused
}

// decode decodes a value that holds one blob. padding applies to texts that do not
// show their padding; it comes from the job file or from other texts of the same rule.
func decode(format string, padding Padding, value []byte) decoded {
	if format == formatRaw {
		encode := func(b []byte) []byte { return b }
		return decoded{blob: value, encode: encode, refused: checkBlob(value)}
	}
	if f, ok := framingOf(format); ok {
		blob, encode, refused := f.decode(value)
		return decoded{blob: blob, encode: encode, refused: refused}
	}
	if format == formatHex {
		blob, encode, ok := decodeHex(value)
		if !ok {
			return decoded{refused: otherFormat(format, value)}
		}
		return decoded{blob: blob, encode: encode, refused: checkBlob(blob)}
	}
	blob, l, ok := decodeText(value, format == formatBase64URL)
	if !ok {
		return decoded{refused: otherFormat(format, value)}
	}
	shown := l.padding
	if shown == PaddingUnknown {
		l = l.withPadding(padding)
	}
	return decoded{
		blob:    blob,
		encode:  l.encode,
		padding: shown,
		refused: checkBlob(blob),
	}
}
