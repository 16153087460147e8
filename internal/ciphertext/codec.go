package ciphertext

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// encoded is a text that holds a blob, taken apart so that another blob can be
// put in the same dress: white space around it, line breaks of one width, with or
// without padding.
type encoded struct {
	before, after string
	encoding      *base64.Encoding
	width         int    // characters of a line; 0: one line
	newline       string // between lines
	// untold: the text needed no padding, so nothing tells whether its writer pads.
	untold bool
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
	form.untold = len(blob)%3 == 0
	return blob, form, bytes.Equal(form.encode(blob), text)
}

// encode writes a blob in the dress of the text that was read; nil where nothing
// tells how.
func (e encoded) encode(blob []byte) []byte {
	if e.untold && len(blob)%3 != 0 {
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
	return nil
}

// decodePadded reads a blob from base64 as the clients of known software write it:
// with padding wherever it is due, as RFC 4648 has it.
func decodePadded(text []byte) (blob []byte, form func([]byte) []byte, refused *Refused) {
	blob, dress, ok := decodeText(text, false)
	if !ok {
		return nil, nil, notFormat(formatBase64)
	}
	dress.untold = false
	return blob, dress.encode, checkBlob(blob)
}

func notFormat(format string) *Refused {
	return &Refused{Reason: "not-" + format, Detail: "it is not " + format + " that can be written back byte by byte"}
}

// decode reads a blob in a format of a single value. The form writes another one
// in its place; it returns nil for a blob that does not fit.
func decode(format string, value []byte) (blob []byte, form func([]byte) []byte, refused *Refused) {
	if format == formatRaw {
		return value, func(b []byte) []byte { return b }, checkBlob(value)
	}
	if f, ok := framingOf(format); ok {
		return f.decode(value)
	}
	var ok bool
	if format == formatHex {
		blob, form, ok = decodeHex(value)
	} else {
		var dress encoded
		blob, dress, ok = decodeText(value, format == formatBase64URL)
		form = dress.encode
	}
	if !ok {
		return nil, nil, notFormat(format)
	}
	return blob, form, checkBlob(blob)
}
