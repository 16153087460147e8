package ciphertext

import (
	"bytes"

	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// newBareBlob builds the format of a body that is a blob with a known layout, or its base64,
// and nothing more. Its contexts are those of the target.
func newBareBlob(c *compiler) Format {
	contexts, pattern := c.targetContext(), c.where.pattern
	return &bodyFormat{name: formatRaw, sites: func(object *scan.Object) []editSite {
		format, ok := bareBlob(object.Body)
		if !ok {
			return nil
		}
		d := decode(format, PaddingUnknown, object.Body)
		slot := Slot{Padding: d.padding, Refused: d.refused}
		if d.refused == nil {
			find := objectLookup(object, pattern, nil)
			slot.Context, slot.DestinationContext, slot.Refused = contexts.fill(find)
		}
		if slot.Refused != nil {
			slot.Held = d.blob
			return []editSite{{Slot: slot}}
		}
		slot.Blob = d.blob
		p := editSite{
			Slot:  slot,
			edits: []edit{{start: 0, end: len(object.Body), text: d.encode}},
		}
		if format != formatRaw && !bytes.ContainsAny(object.Body, "+/-_") {
			p.edits[0].text = neitherAlphabet(d.encode)
			p.cannotEncode = refuse("ambiguous",
				"the body is valid in both base64 and base64url, but the "+
					"new ciphertext would be valid in only one of them; add a target that sets "+
					"format "+
					"base64 or base64url")
		}
		return []editSite{p}
	}}
}

// neitherAlphabet wraps encode. It returns nil for a blob whose text differs between base64
// and base64url.
func neitherAlphabet(encode func([]byte) []byte) func([]byte) []byte {
	return func(blob []byte) []byte {
		text := encode(blob)
		if bytes.ContainsAny(text, "+/-_") {
			return nil
		}
		return text
	}
}

// recogniseBareBlob reports, for format auto, whether an object is a bare blob.
func recogniseBareBlob(object *scan.Object) bool {
	_, ok := bareBlob(object.Body)
	return ok
}

// bareBlob returns the format in which a body is a blob with a known layout.
func bareBlob(body []byte) (format string, ok bool) {
	if kmsblob.IsBlob(body) {
		return formatRaw, true
	}
	if len(body) > 2*kmsblob.MaxSize { // longer than the base64 of any blob
		return "", false
	}
	for _, format := range []string{formatBase64, formatBase64URL} {
		blob, _, ok := decodeText(body, format == formatBase64URL)
		if ok && kmsblob.IsBlob(blob) {
			return format, true
		}
	}
	return "", false
}
