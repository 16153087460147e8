package ciphertext

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// Padding is what a base64 text shows about the padding of its writer.
type Padding int

// The zero value is for what is not base64, and for formats whose writers are known
// to pad.
const (
	PaddingNone    Padding = iota
	PaddingUnknown         // the length of the blob is a multiple of three: no padding is needed
	PaddingAlways          // padding is needed and present
	PaddingNever           // padding is needed but missing
)

// encoded is a text that holds a blob, taken apart so that another blob can be
// put in the same dress: white space around it, line breaks of one width, with or
// without padding.
type encoded struct {
	before, after string
	encoding      *base64.Encoding
	width         int    // characters of a line; 0: one line
	newline       string // between lines
	padding       Padding
}

// decodeText reads a blob from a text in base64 or base64url. It is false for
// what could not be written back byte by byte: another alphabet, lines of
// different widths, stray bits at the end.
func decodeText(text []byte, url bool) (blob []byte, form encoded, ok bool) {
	body := bytes.Trim(text, " \t\r\n")
	start := bytes.Index(text, body)
	form = encoded{before: string(text[:start]), after: string(text[start+len(body):])}
	if at := bytes.IndexAny(body, "\r\n"); at >= 0 {
		form.width = at
		form.newline = "\n"
		if body[at] == '\r' {
			form.newline = "\r\n"
		}
	}
	joined := string(body)
	if form.width > 0 {
		joined = strings.ReplaceAll(joined, form.newline, "")
	}
	form.encoding = base64.StdEncoding
	if url {
		form.encoding = base64.URLEncoding
	}
	if !strings.HasSuffix(joined, "=") && len(joined)%4 != 0 {
		form.encoding = form.encoding.WithPadding(base64.NoPadding)
	}
	blob, err := form.encoding.Strict().DecodeString(joined)
	if err != nil {
		return nil, encoded{}, false
	}
	switch {
	case len(blob)%3 == 0:
		form.padding = PaddingUnknown
	case strings.HasSuffix(joined, "="):
		form.padding = PaddingAlways
	default:
		form.padding = PaddingNever
	}
	return blob, form, bytes.Equal(form.encode(blob), text)
}

// encode writes a blob in the form of the text that was read. It returns nil if
// the blob needs padding and it is unknown whether the writer pads.
func (e encoded) encode(blob []byte) []byte {
	if e.padding == PaddingUnknown && len(blob)%3 != 0 {
		return nil
	}
	text := e.encoding.EncodeToString(blob)
	var out bytes.Buffer
	out.WriteString(e.before)
	for e.width > 0 && len(text) > e.width {
		out.WriteString(text[:e.width])
		out.WriteString(e.newline)
		text = text[e.width:]
	}
	out.WriteString(text)
	out.WriteString(e.after)
	return out.Bytes()
}

// decodeHex reads a blob from hexadecimal digits on one line, with white space
// around them. It is false for digits of both cases: nothing tells which of them
// the writer would use.
func decodeHex(text []byte) (blob []byte, form func([]byte) []byte, ok bool) {
	body := bytes.Trim(text, " \t\r\n")
	start := bytes.Index(text, body)
	before, after := text[:start], text[start+len(body):]
	digits := hex.EncodeToString
	if bytes.ContainsAny(body, "ABCDEF") {
		digits = func(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
	}
	form = func(b []byte) []byte { return slices.Concat(before, []byte(digits(b)), after) }
	blob, err := hex.DecodeString(string(body))
	return blob, form, err == nil && bytes.Equal(form(blob), text)
}

// checkBlob refuses what KMS could not have made or would not take.
func checkBlob(blob []byte) *Refused {
	switch {
	case len(blob) == 0:
		return &Refused{Reason: "empty", Detail: "there is nothing in it"}
	case isESDKHeader(blob):
		return esdkMessage()
	case len(blob) > MaxBlob:
		return &Refused{Reason: "too-large", Detail: "it has more than the 6,144 bytes that ReEncrypt takes"}
	}
	return misread(blob)
}

// decodePadded reads a blob from base64 as the clients of known software write it:
// with padding wherever it is due, as RFC 4648 has it.
func decodePadded(text []byte) (blob []byte, form func([]byte) []byte, refused *Refused) {
	blob, dress, ok := decodeText(text, false)
	if !ok {
		return nil, nil, notFormat(formatBase64, text)
	}
	dress.padding = PaddingNone
	return blob, dress.encode, checkBlob(blob)
}

// decoded is what a value in a format of a single value holds.
type decoded struct {
	blob []byte
	// form returns the value for another blob, or nil for a blob that does not
	// fit.
	form func([]byte) []byte
	// padding is what the value itself shows, regardless of the job file.
	padding Padding
	refused *Refused
}

// decode reads a blob. padding applies to texts that do not show their padding;
// it comes from the job file or from other texts of the same rule.
func decode(format string, padding Padding, value []byte) decoded {
	if format == formatRaw {
		form := func(b []byte) []byte { return b }
		return decoded{blob: value, form: form, refused: checkBlob(value)}
	}
	if f, ok := framingOf(format); ok {
		blob, form, refused := f.decode(value)
		return decoded{blob: blob, form: form, refused: refused}
	}
	if format == formatHex {
		blob, form, ok := decodeHex(value)
		if !ok {
			return decoded{refused: otherFormat(format, value)}
		}
		return decoded{blob: blob, form: form, refused: checkBlob(blob)}
	}
	blob, form, ok := decodeText(value, format == formatBase64URL)
	if !ok {
		return decoded{refused: otherFormat(format, value)}
	}
	shown := form.padding
	if shown == PaddingUnknown {
		form = form.padded(padding)
	}
	return decoded{blob: blob, form: form.encode, padding: shown, refused: checkBlob(blob)}
}

// padded returns the form of a text that does not show its padding, with the
// known padding of its writer.
func (e encoded) padded(padding Padding) encoded {
	switch padding {
	case PaddingAlways:
		e.padding = padding
	case PaddingNever:
		e.padding, e.encoding = padding, e.encoding.WithPadding(base64.NoPadding)
	}
	return e
}
