package ciphertext

import (
	"encoding/binary"
	"fmt"
	"slices"

	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// framing is a payload that begins with the length of a blob, and the blob.
type framing struct {
	format string
	width  int // bytes of the length
	little bool
	most   int // the longest blob that the reader takes
	// payload: something must follow the blob.
	payload bool
}

// framings are all of them. tink-envelope is what the envelope AEAD of Tink writes
// (tink-crypto/tink-go, aead/kms_envelope_aead.go): the data key that KMS
// encrypted, at most 4,096 bytes, then the payload that the data key encrypted. It
// is asked of KMS without an encryption context.
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

// framedFormats are the names of the framings.
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

// isBinary says whether a format of a single value is bytes, not a text.
func isBinary(format string) bool {
	return isFramed(format) || format == formatRaw
}

func isFramed(format string) bool {
	_, ok := framingOf(format)
	return ok
}

// newFramed finds the blob at the beginning of a body.
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
	wrong := &Refused{Reason: "not-" + f.format, Detail: fmt.Sprintf("it does not begin with the length of a ciphertext, in %d bytes, and that many bytes", f.width)}
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
		return nil, &Refused{Reason: "too-large", Detail: fmt.Sprintf("its length is more than the %d bytes of this format", f.most)}
	}
	return blob, checkBlob(blob)
}

// write returns the length of a blob and the blob; nil when the length does not
// fit.
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

// decode reads a blob from an attribute, as codecs do.
func (f framing) decode(value []byte) (blob []byte, encode func([]byte) []byte, refused *Refused) {
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
