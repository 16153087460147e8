// Package hashrefs replaces the addresses of items in reports by salted digests.
package hashrefs

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"rotator/internal/checkpoint"
	"rotator/internal/report/document"
)

// Hasher replaces the addresses of items, which can be personal data, by salted digests.
type Hasher struct{ salt []byte }

// New returns a Hasher. Without the salt, an address cannot be found by trying addresses.
func New(salt []byte) *Hasher { return &Hasher{salt: salt} }

// Ref returns the digest of an address: HMAC-SHA-256 with the salt as key, in hex.
func (h *Hasher) Ref(ref string) string {
	mac := hmac.New(sha256.New, h.salt)
	_, _ = mac.Write([]byte(ref))
	return "hmac-sha256:" + hex.EncodeToString(mac.Sum(nil))
}

// Entry returns an exception with a digest in place of its address.
func (h *Hasher) Entry(e checkpoint.LedgerEntry) checkpoint.LedgerEntry {
	e.Detail = h.replacer([]string{e.Ref})(e.Detail)
	e.Ref = h.Ref(e.Ref)
	return e
}

// Document returns a document without addresses: each member "ref" becomes a digest, and so does
// each of these addresses and of further ones within other texts.
func (h *Hasher) Document(d *document.Document, further []string) (*document.Document, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("format the report: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	refs := slices.Clone(further)
	walk(tree, func(name, text string) string {
		if name == "ref" {
			refs = append(refs, text)
		}
		return text
	})
	replace := h.replacer(refs)
	walk(tree, func(name, text string) string {
		if name == "ref" {
			return h.Ref(text)
		}
		return replace(text)
	})
	if text, err = json.Marshal(tree); err != nil {
		return nil, fmt.Errorf("format the report: %w", err)
	}
	hashed := &document.Document{}
	if err := json.Unmarshal(text, hashed); err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	return hashed, nil
}

// walk replaces the texts in a JSON value by what edit returns for the name of the member, or "" in
// a list, and the text.
func walk(value any, edit func(name, text string) string) {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if text, ok := member.(string); ok {
				v[name] = edit(name, text)
				continue
			}
			walk(member, edit)
		}
	case []any:
		for i, element := range v {
			if text, ok := element.(string); ok {
				v[i] = edit("", text)
				continue
			}
			walk(element, edit)
		}
	}
}

// shortest is the length from which an address is replaced anywhere in a text. A shorter one is
// replaced only where it is a word, because it can be a part of other words.
const shortest = 4

// replacer returns a function that replaces addresses in a text by their digests.
func (h *Hasher) replacer(refs []string) func(string) string {
	refs = slices.Clone(refs)
	slices.SortFunc(refs, func(a, b string) int { return len(b) - len(a) }) // the longest one first
	refs = slices.Compact(refs)
	var pairs []string
	for _, ref := range refs {
		for _, form := range forms(ref) {
			pairs = append(pairs, form.before+form.text+form.after,
				form.before+h.Ref(ref)+form.after)
		}
	}
	return strings.NewReplacer(pairs...).Replace
}

// form is how an address can occur in a text.
type form struct{ before, text, after string }

// forms returns the forms of an address: as it is, and as a JSON string has it.
func forms(ref string) (list []form) {
	if ref == "" {
		return nil
	}
	quoted, _ := json.Marshal(ref) // a string never fails
	inner := string(quoted[1 : len(quoted)-1])
	for _, text := range []string{ref, inner} {
		if len(ref) >= shortest {
			list = append(list, form{text: text})
			continue
		}
		for _, around := range []string{" ", `"`, `'`} {
			list = append(list, form{around, text, around})
		}
	}
	return list
}
