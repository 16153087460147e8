// Package redact removes secrets from text for users: error messages, log
// messages and notes. Such text may come from a library or a server, which may
// repeat secrets that it received.
//
// The package removes:
//
//   - the secrets that were added with Add: credentials and grant tokens;
//   - values with the name of a secret, such as "SecretAccessKey": "…", in JSON, XML, YAML, INI
//     files, command lines, headers and query strings;
//   - everything that looks like at least 32 bytes, or like a secret access key, in base64,
//     base64url, hex, base32, as a list of numbers, as escapes or as raw bytes.
//
// It decodes escapes before the search: backslash escapes of Go and JSON, percent-encoding
// and character references of XML.
//
// It keeps ARNs, UUIDs, access key IDs, paths, names made of words, and the values that the AWS
// SDK prints as RequestID and HostID. A digest in hex cannot be distinguished from a secret of
// 32 bytes, so it is kept only after "sha256:", "SHA-256 " or "hash ". Do not use this package
// for fields of records whose content is known, such as digests and refs of items.
package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Mark replaces removed text.
const Mark = "[redacted]"

// The maximum length in bytes of a text that Text reads, and of its result. Longer texts are
// truncated.
const (
	maxRead  = 64 << 10
	maxShown = 4 << 10
)

// minSecret is the minimum length of a secret for Add. Shorter secrets, which are common in test
// setups, also occur as words in other text.
const minSecret = 8

// Redactor removes secrets from text. It is safe for concurrent use.
type Redactor struct {
	mu     sync.RWMutex
	known  [][]byte
	labels []*regexp.Regexp // the first group is the secret
	lists  []*regexp.Regexp
}

// New returns a Redactor that knows no secret yet.
func New() *Redactor {
	return &Redactor{labels: labels(), lists: lists()}
}

// Add adds secrets to remove. It ignores secrets of less than 8 bytes.
func (r *Redactor) Add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, secret := range secrets {
		if secret = strings.TrimSpace(secret); len(secret) < minSecret {
			continue
		}
		for _, form := range []string{
			secret, hex.EncodeToString([]byte(secret)),
			base64.RawStdEncoding.EncodeToString([]byte(secret)),
			base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			if !slices.ContainsFunc(r.known, func(k []byte) bool { return string(k) == form }) {
				r.known = append(r.known, []byte(form))
			}
		}
	}
}

// Known removes only the secrets that were added. Use it for text that cannot contain other
// secrets.
func (r *Redactor) Known(s string) string {
	if !r.mayHold(s) {
		return s
	}
	t := decode(s)
	r.markKnown(t)
	return t.redacted()
}

// Text removes all secrets from s and truncates s to 4 KiB.
func (r *Redactor) Text(s string) string {
	cut := 0
	if len(s) > maxRead {
		cut, s = len(s)-maxRead, s[:maxRead]
	}
	t := decode(s)
	r.markKnown(t)
	for _, label := range r.labels {
		for _, at := range label.FindAllSubmatchIndex(t.bytes, -1) {
			// The value of an AWS Authorization header is kept, except its signature, which
			// matches another label.
			if !bytes.HasPrefix(t.bytes[at[2]:], []byte("AWS4-")) {
				t.mark(at[2], at[3])
			}
		}
	}
	for _, list := range r.lists {
		for _, at := range list.FindAllIndex(t.bytes, -1) {
			t.mark(at[0], at[1])
		}
	}
	t.markTokens()
	t.markBinary()
	text := t.redacted()
	if len(text) > maxShown {
		end := maxShown
		for end > maxShown-utf8.UTFMax && !utf8.RuneStart(text[end]) {
			end--
		}
		cut, text = cut+len(text)-end, text[:end]
	}
	if cut > 0 {
		text += fmt.Sprintf("… (%d more bytes)", cut)
	}
	return text
}

// maxCode is the maximum length in bytes of an error code.
const maxCode = 80

// Code returns the error code of a service with secrets removed. It returns
// Mark for a text that is too long for a code.
func Code(code string) string {
	if len(code) > maxCode {
		return Mark
	}
	t := decode(code)
	t.markTokens()
	t.markBinary()
	return t.redacted()
}

// mayHold reports whether s may contain a known secret, with or without
// escapes.
func (r *Redactor) mayHold(s string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.known) > 0 && strings.ContainsAny(s, `\%&`) {
		return true
	}
	return slices.ContainsFunc(r.known,
		func(k []byte) bool { return strings.Contains(s, string(k)) })
}

func (r *Redactor) markKnown(t *text) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, secret := range r.known {
		for from := 0; ; {
			at := bytes.Index(t.bytes[from:], secret)
			if at < 0 {
				break
			}
			t.mark(from+at, from+at+len(secret))
			from += at + len(secret)
		}
	}
}

// labels returns the patterns of a secret after its name. The first group is
// the secret.
func labels() []*regexp.Regexp {
	const (
		names = `(?i:secret[-_ ]?access[-_ ]?key|secret[-_ ]?key|session[-_ ]?token|` +
			`security[-_ ]?token|access[-_ ]?token|refresh[-_ ]?token|\bid[-_]?token|` +
			`client[-_ ]?secret|private[-_ ]?key|\bsignature|passw(?:or)?d|plaintext|` +
			`grant[-_ ]?tokens?)`
		// A quote after the name, a separator, and the start tag of an XML element.
		between = `["'\x60]?\s*(?:=>|:=|[:=>])\s*(?:<[A-Za-z]+>\s*)?`
		plain   = `[^\s"'<>,;&}\]]`
	)
	forms := []string{
		names + between + `"([^"]+)`,
		names + between + `'([^']+)`,
		names + between + `\[([^\]]*)`,
		names + between + `([^\s"'<>,;&}\]\[]` + plain + `*)`,
		`(?i:secret[-_ ]?access[-_ ]?key|secret[-_]?key|session[-_]?token)["']?` +
			`[\s,|]+["']?(` + plain + `{16,})`,
		`["']Token["']\s*:\s*["']([^"']+)`, // in the response of a container credentials endpoint
		`(?i:authorization)["']?\s*[:=]\s*\[?["']?((?:[A-Za-z0-9-]+\s+)?[^\s"'\],]+)`,
		`(?i:\bbearer)\s+([A-Za-z0-9._~+/=-]{8,})`,
		// A password in a URL, which may contain a slash that is not escaped, or a token instead
		// of a user name.
		`[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"']*:([0-9]*[^0-9\s/"'][^\s"']*|[0-9]+)@`,
		`(?i:https?)://([^\s/:@"']+)@`,
	}
	compiled := make([]*regexp.Regexp, len(forms))
	for i, form := range forms {
		compiled[i] = regexp.MustCompile(form)
	}
	return compiled
}

// lists returns the patterns of lists of numbers that stand for bytes: decimal, as fmt prints a
// []byte, and pairs of hex digits.
func lists() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`(?:\b[0-9]{1,3}[\s,;:]{1,3}){23,}[0-9]{1,3}\b`),
		regexp.MustCompile(`(?:\b(?:0[xX])?[0-9a-fA-F]{1,2}[\s,;:-]{1,3}){23,}` +
			`(?:0[xX])?[0-9a-fA-F]{1,2}\b`),
	}
}
