package ciphertext

import (
	"encoding/binary"
	"slices"

	"rotator/internal/kmsblob"
	"rotator/internal/plural"
	"rotator/internal/scan"
)

// framing is a format of values that start with the length of a blob, followed by the blob.
type framing struct {
	format string
	width  int  // of the length, in bytes
	little bool // the length is little endian
	most   int  // the maximum length of a blob, in bytes
	// payload is true if at least one byte must follow the blob.
	payload bool
}

// framings returns all framings. tink-envelope is written by the envelope AEAD of Tink
// (tink-crypto/tink-go, aead/kms_envelope_aead.go): the data key, encrypted by KMS, of at
// most 4,096 bytes, followed by the payload, encrypted with the data key. It has no
// encryption context.
func framings() []framing {
	return []framing{
		{format: formatTinkEnvelope, width: 4, most: 4096, payload: true},
		{format: "length-prefixed-u8", width: 1, most: 1<<8 - 1},
		{format: "length-prefixed-u16be", width: 2, most: kmsblob.MaxSize},
		{format: "length-prefixed-u16le", width: 2, most: kmsblob.MaxSize, little: true},
		{format: "length-prefixed-u32be", width: 4, most: kmsblob.MaxSize},
		{format: "length-prefixed-u32le", width: 4, most: kmsblob.MaxSize, little: true},
	}
}

const formatTinkEnvelope = "tink-envelope"

// framedFormats returns the names of the framings.
func framedFormats() []string {
	var names []string
	for _, f := range framings() {
		names = append(names, f.format)
	}
	return names
}

func framingOf(format string) (framing, bool) {
	i := slices.IndexFunc(framings(), func(f framing) bool { return f.format == format })
	if i < 0 {
		return framing{}, false
	}
	return framings()[i], true
}

// isBinary reports whether a format of a single value reads bytes and not text.
func isBinary(format string) bool {
	return isFramed(format) || format == formatRaw
}

func isFramed(format string) bool {
	_, ok := framingOf(format)
	return ok
}

// newFramed builds the format of a body that starts with a framed blob.
func newFramed(c *compiler) binder {
	f, _ := framingOf(c.def.name)
	pattern := c.where.pattern
	return func(b binding) Format {
		var s slot
		if len(b.slots) > 0 {
			s = b.slots[0]
		}
		return &bodyFormat{name: f.format, sites: func(object *scan.Object) []editSite {
			blob, refused := f.read(object.Body)
			d := decoded{blob: blob, refused: refused}
			return []editSite{{
				Slot:  s.slotOf("", d, objectLookup(object, pattern, nil)),
				edits: []edit{{start: 0, end: f.width + len(blob), text: f.write}},
			}}
		}}
	}
}

// read returns the blob of a payload.
func (f framing) read(value []byte) ([]byte, *Refused) {
	wrong := refuse("not-"+f.format, "the value does not start with the length of a ciphertext in "+
		"%s, followed by this ciphertext", plural.Count(f.width, "byte"))
	if len(value) < f.width {
		return nil, wrong
	}
	digits := slices.Clone(value[:f.width])
	if f.little {
		slices.Reverse(digits)
	}
	length := binary.BigEndian.Uint64(append(make([]byte, 8-f.width), digits...))
	left := uint64(len(value) - f.width)
	if length > left || f.payload && length == left {
		return nil, wrong
	}
	blob := value[f.width : f.width+int(length)]
	if length > uint64(f.most) && length <= kmsblob.MaxSize {
		return nil,
			refuse("too-large", "the ciphertext is longer than %d bytes, the limit of this "+
				"format", f.most)
	}
	return blob, checkBlob(blob)
}

// write returns the length of a blob followed by the blob, or nil if the blob is too long.
func (f framing) write(blob []byte) []byte {
	if len(blob) > f.most {
		return nil
	}
	digits := binary.BigEndian.AppendUint64(nil, uint64(len(blob)))[8-f.width:]
	if f.little {
		slices.Reverse(digits)
	}
	return append(digits, blob...)
}

// decode returns the blob of a value, and encode, which returns the value with another blob
// or nil if that blob is too long.
func (f framing) decode(
	value []byte,
) (blob []byte, encode func([]byte) []byte, refused *Refused) {
	blob, refused = f.read(value)
	if refused != nil {
		return nil, nil, refused
	}
	rest := value[f.width+len(blob):]
	return blob, func(b []byte) []byte {
		text := f.write(b)
		if text == nil {
			return nil
		}
		return append(text, rest...)
	}, nil
}
