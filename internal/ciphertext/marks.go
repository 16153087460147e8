package ciphertext

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/tidwall/gjson"

	"rotator/internal/scan"
)

// An item that has the marks of a format but no slot of it is refused, with the name of
// the format. It may be written in a way that clients of the format can read and rotator
// cannot.

// unreadable refuses such an item.
func unreadable(format, marks, help string) *Refused {
	return refuse("unknown-format", "the item contains %s, as written by %s, but in a form that "+
		"rotator cannot read; %s", marks, format, help)
}

// orUnreadable wraps sites: if it finds no slot, the result is the refusal of marked.
func orUnreadable(
	sites func(*scan.Object) []editSite, marked func(body []byte) *Refused,
) func(*scan.Object) []editSite {
	return func(object *scan.Object) []editSite {
		if found := sites(object); len(found) > 0 {
			return found
		}
		if refused := marked(object.Body); refused != nil {
			return []editSite{refusedSite("", refused)}
		}
		return nil
	}
}

// has reports whether a body contains all of the texts.
func has(body []byte, texts ...string) bool {
	for _, text := range texts {
		if !bytes.Contains(body, []byte(text)) {
			return false
		}
	}
	return true
}

// textEscapes matches the escapes of JSON and YAML for ASCII characters.
var textEscapes = regexp.MustCompile(`\\(?:u00|x)([2-7][0-9A-Fa-f])|\\/`)

// unescaped decodes the escapes of JSON and YAML that can occur in names of a
// format.
func unescaped(body []byte) []byte {
	if bytes.IndexByte(body, '\\') < 0 {
		return body
	}
	return textEscapes.ReplaceAllFunc(body, func(escape []byte) []byte {
		return []byte{byte(charAfter(escape))}
	})
}

// markedPulumi ignores case, because Pulumi reads JSON with encoding/json, which accepts
// names in any case.
func markedPulumi(body []byte) *Refused {
	if has(bytes.ToLower(unescaped(body)), "encryptedkey", awskms) {
		return unreadable("Pulumi", "encryptedkey and "+awskms, "write both at the top level of "+
			"the file, without indentation, anchors, aliases, tags, ? or <<, each on one line: "+
			"encryptedkey: VALUE")
	}
	return nil
}

func markedSops(body []byte) *Refused {
	if has(unescaped(body), "sops", "lastmodified", "mac", ":kms:", "enc") {
		return unreadable("sops", "sops, lastmodified, mac and the ARN of a KMS key",
			"decrypt the file and encrypt it again with sops, which writes the stanza in the "+
				"expected form")
	}
	return nil
}

// biscuitByKMS matches an entry under a KMS key.
var biscuitByKMS = regexp.MustCompile(`key_manager["']?\s*:\s*(?:!!str\s+|&\S+\s+)?["']?kms\b`)

func markedBiscuit(body []byte) *Refused {
	if body = unescaped(body); has(body, "key_ciphertext") && biscuitByKMS.Match(body) {
		return unreadable("biscuit", "key_ciphertext and key_manager: kms", "write each name at "+
			"the top level of the file, without indentation, anchors, tags or ?")
	}
	return nil
}

// ejsonKey matches the data key of a secret.
var ejsonKey = regexp.MustCompile(ejsonMark + `[A-Za-z0-9+/]{40}`)

func markedEJSON(body []byte) *Refused {
	if bytes.Contains(body, []byte("EJK1")) && ejsonKey.Match(unescaped(body)) {
		return unreadable("ejson-kms", ejsonMark+" and a data key", "store them in "+
			"secrets[*].ciphertext of one JSON object")
	}
	return nil
}

// tinkMember matches the member with an encrypted keyset.
var tinkMember = regexp.MustCompile(`"encryptedKeyset"\s*:\s*"[^"]`)

func markedTinkKeyset(body []byte) *Refused {
	if tinkMember.Match(unescaped(body)) {
		return unreadable("Tink", "encryptedKeyset", "format tink-keyset reads it only at the top "+
			"level of a JSON object; use format json with its path")
	}
	return nil
}

func markedInstruction(body []byte) *Refused {
	v2 := has(body, `"`+s3ecKeyV2+`"`, `"`+s3ecWrapV2+`"`)
	v3 := has(body, `"`+s3ecKeyV3+`"`, `"`+s3ecWrapV3+`"`)
	if v2 || v3 {
		return unreadable("the S3 Encryption Client", "the members of an instruction file",
			"an instruction file is one JSON object of strings")
	}
	return nil
}

// markedOpenTofu refuses encrypted states and plans of OpenTofu whose key
// provider is KMS (internal/encryption of github.com/opentofu/opentofu).
func markedOpenTofu(body []byte) *Refused {
	if !has(body, "key_provider.aws_kms", "encrypted_data") || !gjson.ValidBytes(body) {
		return nil
	}
	found := false
	gjson.GetBytes(body, "meta").ForEach(func(name, _ gjson.Result) bool {
		found = strings.HasPrefix(name.Str, "key_provider.aws_kms")
		return !found
	})
	if !found {
		return nil
	}
	return openTofu()
}

// Ciphertexts within other text, for which the job file needs a pattern.
var (
	springCipher = regexp.MustCompile(`\{cipher\}(?:\([^()\r\n]*\))?[A-Za-z0-9+/]{60,}={0,2}`)
	eyamlBlock   = regexp.MustCompile(`ENC\[KMS,[A-Za-z0-9+/=\s]{60,}\]`)
)

// markedText refuses KMS ciphertexts in texts of known software.
func markedText(body []byte) *Refused {
	if bytes.Contains(body, []byte("{cipher}")) {
		for _, match := range springCipher.FindAll(body, -1) {
			refused := heldCiphertext(bytes.TrimPrefix(match, []byte("{cipher}")))
			if refused != nil {
				return refused
			}
			if holdsBlob(match) {
				return unreadable("Spring Cloud Config", "{cipher} and a ciphertext",
					`use format text with the pattern '\{cipher\}([A-Za-z0-9+/=]+)'`)
			}
		}
	}
	if bytes.Contains(body, []byte("ENC[KMS,")) && eyamlBlock.Match(body) {
		return unreadable("hiera-eyaml", "ENC[KMS, and a ciphertext",
			`use format text with the pattern 'ENC\[KMS,([A-Za-z0-9+/=]+)\]', and join blocks `+
				`that span several lines`)
	}
	return nil
}

// markedBody refuses a body that has marks of a format although no format of auto
// recognised it.
func markedBody(object *scan.Object) *Refused {
	for _, marked := range []func([]byte) *Refused{
		markedOpenTofu, markedSops, markedPulumi, markedBiscuit, markedEJSON, markedTinkKeyset,
		markedText,
	} {
		if refused := marked(object.Body); refused != nil {
			return refused
		}
	}
	if len(object.Body) > maxInstruction {
		return nil
	}
	if strings.HasSuffix(object.Key, s3ecInstruction) {
		if refused := markedInstruction(object.Body); refused != nil {
			return refused
		}
	}
	if found := instructionSites(object); len(found) > 0 && found[0].Refused == nil {
		return unreadable("the S3 Encryption Client", "the members of an instruction file",
			"its key does not end with the suffix of instruction files: set instruction_suffix "+
				"at the target")
	}
	return nil
}

// maxInstruction is a size, in bytes, that no instruction file exceeds.
const maxInstruction = 64 << 10
