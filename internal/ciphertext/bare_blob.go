package ciphertext

import (
	"bytes"

	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// newBareBlob takes a body that is nothing but a blob of KMS, or the base64 of one,
// and bears the marks of it. Its contexts are those of the target.
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
			slot.Context, slot.DestinationContext, slot.Refused = contexts.fill(objectLookup(object, pattern, nil))
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
			p.unfit = &Refused{
				Reason: "ambiguous",
				Detail: "it is valid in both base64 and base64url, and the new ciphertext " +
					"would be valid in only one of them: " + namesBase64,
			}
		}
		return []editSite{p}
	}}
}

const namesBase64 = "give it a target that names base64 or base64url"

// neitherAlphabet writes a blob only where its text, too, is the same in base64 and
// in base64url.
func neitherAlphabet(encode func([]byte) []byte) func([]byte) []byte {
	return func(blob []byte) []byte {
		text := encode(blob)
		if bytes.ContainsAny(text, "+/-_") {
			return nil
		}
		return text
	}
}

// recogniseBareBlob is for format auto.
func recogniseBareBlob(object *scan.Object) bool {
	_, ok := bareBlob(object.Body)
	return ok
}

// bareBlob says in which format a body is a blob that can be told by its layout.
func bareBlob(body []byte) (format string, ok bool) {
	if kmsblob.IsBlob(body) {
		return formatRaw, true
	}
	if len(body) > 2*kmsblob.MaxSize { // longer than the base64 of any blob
		return "", false
	}
	for _, format := range []string{formatBase64, formatBase64URL} {
		if blob, _, ok := decodeText(body, format == formatBase64URL); ok && kmsblob.IsBlob(blob) {
			return format, true
		}
	}
	return "", false
}
