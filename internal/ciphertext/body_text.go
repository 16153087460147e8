package ciphertext

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"rotator/internal/scan"
)

// byteOrderMark is at the start of some texts in UTF-8. Readers skip it.
const byteOrderMark = "\xef\xbb\xbf"

// sampleSize is the number of bytes of a body that are examined to recognise
// its encoding.
const sampleSize = 1 << 10

// unreadableText refuses a body that no text format can read: one that is
// compressed, or in UTF-16 or UTF-32.
func unreadableText(object *scan.Object) *Refused {
	if encoding := utf16Or32(object.Body); encoding != "" {
		return refuse("not-utf8", "the body is text in %s, but rotator reads UTF-8: convert it, "+
			"then run rotator retry (in PowerShell before version 6, > writes UTF-16)", encoding)
	}
	if name := compression(object.Body); name != "" {
		return compressed(name)
	}
	return encodedBody(object)
}

// encodedBody refuses a body that is compressed according to its
// Content-Encoding. Formats that read bytes use only this header, because a
// ciphertext under an RSA key can begin with any bytes. A body of plain text is
// not compressed, regardless of its header.
func encodedBody(object *scan.Object) *Refused {
	if object.ContentEncoding == "" || len(object.Body) == 0 || isPlainText(object.Body) {
		return nil
	}
	for name := range strings.SplitSeq(object.ContentEncoding, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		if slices.Contains(contentEncodings(), name) {
			return compressed(name)
		}
	}
	return nil
}

func compressed(name string) *Refused {
	return refuse("compressed", "the body is compressed (%s), and rotator does not read "+
		"compressed bodies: store it uncompressed, then run rotator retry, or exclude it from the "+
		"target", name)
}

// contentEncodings returns the values of Content-Encoding for compression (the
// HTTP Content Coding Registry of IANA, and other names in use). aws-chunked,
// which some clients leave there, is not one of them.
func contentEncodings() []string {
	return []string{"gzip", "x-gzip", "br", "zstd", "deflate", "compress", "x-compress",
		"dcb", "dcz", "exi", "pack200-gzip", "bzip2", "x-bzip2", "xz", "lzma", "lz4", "snappy"}
}

// compression returns the name of the compression or archive format of a body
// from its first bytes, or "".
func compression(body []byte) string {
	for _, f := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b\x08"},
		{"zstd", "\x28\xb5\x2f\xfd"},
		{"xz", "\xfd7zXZ\x00"},
		{"lz4", "\x04\x22\x4d\x18"},
		{"zip", "PK\x03\x04"},
		{"zip", "PK\x05\x06"},
		{"7z", "7z\xbc\xaf\x27\x1c"},
		{"snappy", "\xff\x06\x00\x00sNaPpY"},
	} {
		if strings.HasPrefix(string(body[:min(len(body), 16)]), f.magic) {
			return f.name
		}
	}
	switch {
	case len(body) >= 10 && bytes.HasPrefix(body, []byte("BZh")) && isBzip2Block(body[4:10]):
		return "bzip2"
	case len(body) >= 4 && body[0]&0xf0 == 0x50 && bytes.Equal(body[1:4], []byte("\x2a\x4d\x18")):
		return "zstd" // a skippable frame
	case isZlib(body):
		return "zlib"
	}
	return ""
}

// isBzip2Block reports whether b is the magic number of a block or of the end of a bzip2
// stream.
func isBzip2Block(b []byte) bool {
	return string(b) == "\x31\x41\x59\x26\x53\x59" || string(b) == "\x17\x72\x45\x38\x50\x90"
}

// isZlib reports whether a body begins with a zlib stream (RFC 1950). Other
// bodies can begin with the same two bytes, so isZlib also decompresses the
// beginning.
func isZlib(body []byte) bool {
	if len(body) < 8 || body[0] != 0x78 || isPlainText(body) {
		return false
	}
	reader, err := zlib.NewReader(bytes.NewReader(body))
	if err != nil {
		return false
	}
	_, err = io.CopyN(io.Discard, reader, sampleSize)
	return err == nil || errors.Is(err, io.EOF)
}

// isPlainText reports whether the beginning of a body is UTF-8 without control
// characters other than white space.
func isPlainText(body []byte) bool {
	sample := body[:min(len(body), sampleSize)]
	if len(body) > sampleSize { // do not split a character
		for n := 1; n < utf8.UTFMax && !utf8.Valid(sample); n++ {
			sample = body[:sampleSize-n]
		}
	}
	return utf8.Valid(sample) && !bytes.ContainsFunc(sample, isControl)
}

func isControl(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' || r == 0x7f
}

// utf16Or32 returns the name of the encoding of a body in UTF-16 or UTF-32, or
// "". It uses the byte order mark, or without one the text that the body would
// have in UTF-16.
func utf16Or32(body []byte) string {
	switch {
	case bytes.HasPrefix(body, []byte("\xff\xfe\x00\x00")):
		return "UTF-32 (little endian)"
	case bytes.HasPrefix(body, []byte("\x00\x00\xfe\xff")):
		return "UTF-32 (big endian)"
	case bytes.HasPrefix(body, []byte("\xff\xfe")) && isUTF16(body[2:], binary.LittleEndian):
		return "UTF-16 (little endian)"
	case bytes.HasPrefix(body, []byte("\xfe\xff")) && isUTF16(body[2:], binary.BigEndian):
		return "UTF-16 (big endian)"
	case len(body)%2 != 0 || bytes.IndexByte(body[:min(len(body), sampleSize)], 0) < 0:
		return ""
	case isUTF16(body, binary.LittleEndian):
		return "UTF-16 (little endian, without a byte order mark)"
	case isUTF16(body, binary.BigEndian):
		return "UTF-16 (big endian, without a byte order mark)"
	}
	return ""
}

// isUTF16 reports whether the beginning of a body is text in UTF-16 of which at
// least a quarter is ASCII, as in everything that the formats read.
func isUTF16(body []byte, order binary.ByteOrder) bool {
	sample := body[:min(len(body), sampleSize)&^1]
	units := make([]uint16, len(sample)/2)
	for i := range units {
		units[i] = order.Uint16(sample[2*i:])
	}
	if n := len(units); n > 0 && len(sample) < len(body) && utf16.IsSurrogate(rune(units[n-1])) {
		units = units[:n-1] // its second half is after the sample
	}
	ascii := 0
	for _, r := range utf16.Decode(units) {
		if isControl(r) || r == utf8.RuneError || r == 0xfffe {
			return false
		}
		if r < 0x80 {
			ascii++
		}
	}
	return ascii*4 >= len(units)
}
