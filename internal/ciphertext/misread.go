package ciphertext

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"rotator/internal/kmsblob"
)

// Some values hold a ciphertext in another form than their rule states. They are refused
// with the name of this form and advice. The checks run only if a value could not be
// decoded, or examine only its first bytes.

// notFormat refuses a text that is not in the format of a single value.
func notFormat(format string, text []byte) *Refused {
	if format != formatHex {
		if refused := heldCiphertext(text); refused != nil {
			return refused
		}
	}
	return refuse("not-"+format, "the value is not %s in a form that can be restored byte for "+
		"byte; if it is plaintext, it was never encrypted and stays unchanged", format)
}

// otherFormat refuses a value that is not in the format of its rule. If it is a
// ciphertext in another format, the detail names that format.
func otherFormat(format string, value []byte) *Refused {
	refused := notFormat(format, value)
	if other := blobFormat(value); other != "" && refused.Reason == "not-"+format {
		refused.Detail = "the value is a KMS ciphertext in another format than " + format +
			"; set format: " + other
	}
	return refused
}

// blobFormat returns the format of a value that is a KMS ciphertext and nothing more, or "".
func blobFormat(value []byte) string {
	if len(value) > 4*kmsblob.MaxSize {
		return ""
	}
	text := bytes.TrimSpace(value)
	unhexed, err := hex.DecodeString(string(text))
	standard, _, _ := decodeText(text, false)
	url, _, _ := decodeText(text, true)
	switch {
	case kmsblob.IsBlob(value):
		return formatRaw
	case err == nil && kmsblob.IsBlob(unhexed):
		return formatHex
	case kmsblob.IsBlob(standard):
		return formatBase64
	case kmsblob.IsBlob(url):
		return formatBase64URL
	}
	return ""
}

// heldCiphertext refuses a text that contains more than the base64 of a ciphertext. It
// returns nil for other texts.
func heldCiphertext(text []byte) *Refused {
	text = bytes.TrimSpace(text)
	switch {
	case len(text) > 4*kmsblob.MaxSize:
		return nil
	case isPydynox(text):
		return refuse("pydynox", "the value is an envelope of pydynox (ENC: and the base64 of a "+
			"version, a length, the data key and the payload), which rotator cannot write yet: "+
			"read it and write it again with pydynox under the new key")
	case springContext.Match(text) && holdsBlob(text):
		return refuse("spring-cipher-context", "an encryption context in parentheses precedes the "+
			"ciphertext, as written by spring-cloud-config-aws-kms; rotator does not read "+
			"contexts from there. Add one slot per context: its pattern has the context outside "+
			"of the group, and its context has the values decoded from base64")
	case holdsIndentedBlob(text):
		return refuse("indented-base64", "the value is base64 in indented lines, such as the "+
			"block form of hiera-eyaml (ENC[KMS, and lines that start with spaces), which rotator "+
			"cannot write: store it on one line without spaces")
	case holdsBlob(text) && !base64Whole.Match(text):
		return refuse("text-around", "the value contains a ciphertext in base64 with other text "+
			"before or after it, such as a prefix (v1:, ENC:), but a slot is a whole value. In "+
			"bodies, use format text with a pattern whose group is only the base64. Attributes "+
			"with such a prefix cannot be moved yet: have the application write them again with "+
			"the new key")
	}
	return nil
}

// springContext matches ({NAME}=BASE64,...) before a value (README of
// github.com/zalando/spring-cloud-config-aws-kms).
var springContext = regexp.MustCompile(`^(?:\{cipher\})?\([^()]*=[^()]*\)`)

// base64Whole matches a text that is base64 or base64url from start to end.
var base64Whole = regexp.MustCompile(`^[A-Za-z0-9+/_\s-]*=*$`)

// base64Runs matches the parts of a text that may be the base64 of a blob.
var base64Runs = regexp.MustCompile(`[A-Za-z0-9+/_-]{60,}={0,2}`)

// holdsBlob reports whether a part of a text is the base64 of a blob.
func holdsBlob(text []byte) bool {
	return slices.ContainsFunc(base64Runs.FindAll(text, -1), func(run []byte) bool {
		blob, ok := decodeRun(run)
		return ok && kmsblob.IsBlob(blob)
	})
}

// decodeRun decodes base64 or base64url, padded or not.
func decodeRun(run []byte) ([]byte, bool) {
	text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(string(run), "="))
	blob, err := base64.RawStdEncoding.DecodeString(text)
	return blob, err == nil
}

// holdsIndentedBlob reports whether a text without its white space is the
// base64 of a blob.
func holdsIndentedBlob(text []byte) bool {
	joined := bytes.Join(bytes.Fields(text), nil)
	if len(joined) == len(text) || bytes.IndexByte(text, '\n') < 0 {
		return false
	}
	blob, ok := decodeRun(joined)
	return ok && kmsblob.IsBlob(blob)
}

// isPydynox reports whether a text is an envelope of pydynox (src/kms/operations.rs of
// github.com/ferrumio/pydynox): ENC: and the base64 of a version, the length of the
// encrypted data key in 16 bits, the data key, and a payload.
func isPydynox(text []byte) bool {
	rest, ok := bytes.CutPrefix(text, []byte("ENC:"))
	if !ok {
		return false
	}
	b, ok := decodeRun(rest)
	if !ok || len(b) < 3 || b[0] != 1 {
		return false
	}
	length := int(binary.BigEndian.Uint16(b[1:]))
	return length > 0 && len(b) > 3+length && kmsblob.IsBlob(b[3:3+length])
}

// minTwice is less than the base64 length of any KMS ciphertext.
const minTwice = 100

// misread refuses decoded bytes that hold a ciphertext in another form. It returns nil for
// other bytes.
func misread(blob []byte) *Refused {
	switch {
	case len(blob) < minTwice:
		return nil
	case blob[0] == '{' && bytes.Contains(blob, []byte("ciphertext_blob")):
		return openTofu()
	}
	if bytes.ContainsFunc(blob, func(r rune) bool { return !isTextRune(r) }) {
		return nil
	}
	text := bytes.TrimSpace(blob)
	for _, format := range []string{formatHex, formatBase64, formatBase64URL} {
		var inner []byte
		if format == formatHex {
			inner, _, _ = decodeHex(text)
		} else {
			inner, _, _ = decodeText(text, format == formatBase64URL)
		}
		if kmsblob.IsBlob(inner) || kmsblob.IsSM2(inner) || mayBeRSA(inner) {
			return encodedTwice(format)
		}
	}
	return nil
}

// mayBeRSA reports whether b has the length of a ciphertext under an RSA key of
// KMS and is not text.
func mayBeRSA(b []byte) bool {
	return slices.Contains([]int{256, 384, 512}, len(b)) && !utf8.Valid(b)
}

func encodedTwice(format string) *Refused {
	return refuse("encoded-twice", "the decoded value is again %[1]s. If the value is binary, use "+
		"format %[1]s instead of raw. If it is text, its writer encodes twice (a Secret of "+
		"Kubernetes, PynamoDB before 6), which rotator cannot write yet: store it encoded once",
		format)
}

// isTextRune reports whether r can occur in base64 or hex with line breaks.
func isTextRune(r rune) bool { return isBase64(r) || strings.ContainsRune("= \t\r\n", r) }

// openTofu refuses a state of OpenTofu or the entry of its key provider.
func openTofu() *Refused {
	return refuse("opentofu-state", "the item is an encrypted state or plan of OpenTofu, or part "+
		"of one: its data key is in base64-encoded JSON under meta (key_provider.aws_kms), which "+
		"rotator cannot write yet. Change the key with OpenTofu: configure a new key_provider, "+
		"move the old one to a fallback block, and run tofu apply")
}
