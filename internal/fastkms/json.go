package fastkms

import (
	"bytes"
	"encoding/base64"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// sizeOf returns the approximate length in bytes of the body of a request.
func sizeOf(in *kms.ReEncryptInput) int {
	size := 512 + base64.StdEncoding.EncodedLen(len(in.CiphertextBlob))
	for _, pairs := range []map[string]string{in.SourceEncryptionContext,
		in.DestinationEncryptionContext} {
		for name, value := range pairs {
			size += len(name) + len(value) + 6
		}
	}
	for _, token := range in.GrantTokens {
		size += len(token) + 3
	}
	return size
}

// appendInput appends the body of a request as the SDK writes it (AWS JSON 1.1; the members in
// the order of kms.ReEncryptInput.SerializeMembers). It returns false for rare requests: those
// with text that JSON must escape, and dry runs.
func appendInput(body []byte, in *kms.ReEncryptInput) ([]byte, bool) {
	if in.DryRun != nil || in.DryRunModifiers != nil || in.CiphertextBlob == nil {
		return body, false
	}
	w := writer{body: append(body, `{"CiphertextBlob":"`...), ok: true}
	w.body = append(base64.StdEncoding.AppendEncode(w.body, in.CiphertextBlob), '"')
	w.member("DestinationEncryptionAlgorithm", string(in.DestinationEncryptionAlgorithm),
		in.DestinationEncryptionAlgorithm != "")
	w.pairs("DestinationEncryptionContext", in.DestinationEncryptionContext)
	w.member("DestinationKeyId", aws.ToString(in.DestinationKeyId), in.DestinationKeyId != nil)
	w.tokens(in.GrantTokens)
	w.member("SourceEncryptionAlgorithm", string(in.SourceEncryptionAlgorithm),
		in.SourceEncryptionAlgorithm != "")
	w.pairs("SourceEncryptionContext", in.SourceEncryptionContext)
	w.member("SourceKeyId", aws.ToString(in.SourceKeyId), in.SourceKeyId != nil)
	return append(w.body, '}'), w.ok
}

// writer appends members to a JSON object that has at least one member.
type writer struct {
	body []byte
	ok   bool // all could be written
}

func (w *writer) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			w.ok = false
		}
	}
	w.body = append(append(append(w.body, '"'), s...), '"')
}

func (w *writer) name(name string) {
	w.body = append(append(append(w.body, `,"`...), name...), `":`...)
}

func (w *writer) member(name, value string, given bool) {
	if given {
		w.name(name)
		w.text(value)
	}
}

func (w *writer) pairs(name string, pairs map[string]string) {
	if pairs == nil {
		return
	}
	w.name(name)
	w.body = append(w.body, '{')
	first := true
	for name, value := range pairs {
		if !first {
			w.body = append(w.body, ',')
		}
		first = false
		w.text(name)
		w.body = append(w.body, ':')
		w.text(value)
	}
	w.body = append(w.body, '}')
}

func (w *writer) tokens(tokens []string) {
	if tokens == nil {
		return
	}
	w.name("GrantTokens")
	w.body = append(w.body, '[')
	for i, token := range tokens {
		if i > 0 {
			w.body = append(w.body, ',')
		}
		w.text(token)
	}
	w.body = append(w.body, ']')
}

// parseOutput parses a response in the usual form of KMS: one object whose members are strings
// without escapes, each at most once (API_ReEncrypt, Response Syntax). It returns false for any
// other form, which the SDK must parse. out may then be partly filled.
func parseOutput(text []byte, out *kms.ReEncryptOutput) bool {
	rest, ok := bytes.CutPrefix(text, []byte("{"))
	for ok {
		var name, value []byte
		if name, rest, ok = takeText(rest); !ok {
			return false
		}
		if rest, ok = bytes.CutPrefix(rest, []byte(":")); !ok {
			return false
		}
		if value, rest, ok = takeText(rest); !ok || !set(out, name, value) {
			return false
		}
		if string(rest) == "}" {
			return true
		}
		rest, ok = bytes.CutPrefix(rest, []byte(","))
	}
	return false
}

// takeText removes a quoted string from the beginning of from.
func takeText(from []byte) (text, rest []byte, ok bool) {
	if len(from) == 0 || from[0] != '"' {
		return nil, nil, false
	}
	end := bytes.IndexByte(from[1:], '"') + 1
	if end < 1 {
		return nil, nil, false
	}
	for _, c := range from[1:end] {
		if c < 0x20 || c > 0x7e || c == '\\' {
			return nil, nil, false
		}
	}
	return from[1:end], from[end+1:], true
}

// set sets one member, unless it is set already.
func set(out *kms.ReEncryptOutput, name, value []byte) bool {
	var member **string
	switch string(name) {
	case "CiphertextBlob":
		if out.CiphertextBlob != nil {
			return false
		}
		var err error
		out.CiphertextBlob, err = base64.StdEncoding.AppendDecode(make([]byte, 0,
			base64.StdEncoding.DecodedLen(len(value))), value)
		return err == nil
	case "DestinationEncryptionAlgorithm":
		return setAlgorithm(&out.DestinationEncryptionAlgorithm, value)
	case "SourceEncryptionAlgorithm":
		return setAlgorithm(&out.SourceEncryptionAlgorithm, value)
	case "KeyId":
		member = &out.KeyId
	case "SourceKeyId":
		member = &out.SourceKeyId
	case "SourceKeyMaterialId":
		member = &out.SourceKeyMaterialId
	case "DestinationKeyMaterialId":
		member = &out.DestinationKeyMaterialId
	}
	if member == nil || *member != nil {
		return false
	}
	*member = aws.String(string(value))
	return true
}

func setAlgorithm(member *types.EncryptionAlgorithmSpec, value []byte) bool {
	if *member != "" || len(value) == 0 {
		return false
	}
	*member = types.EncryptionAlgorithmSpecSymmetricDefault
	if string(value) != string(*member) {
		*member = types.EncryptionAlgorithmSpec(value)
	}
	return true
}
