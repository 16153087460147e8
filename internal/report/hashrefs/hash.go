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
	replace := h.replacer([]string{e.Ref})
	e.Path, e.Detail = replace(e.Path), replace(e.Detail)
	e.Ref = h.Ref(e.Ref)
	return e
}

// Document returns a document without addresses: each member "ref" becomes a digest, and so does
// each of these addresses and of further ones within the texts that can name one. All other members
// stay as they are, because an address can be any word or number.
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
	walk(tree, member{}, func(m member, text string) string {
		if m.name == "ref" {
			refs = append(refs, text)
		}
		return text
	})
	replace := h.replacer(refs)
	walk(tree, member{}, func(m member, text string) string {
		switch {
		case m.name == "ref":
			return h.Ref(text)
		case m.namesRefs():
			return replace(text)
		}
		return text
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

// member is the name of a JSON member, and the name of the member that contains its object, or "".
type member struct{ of, name string }

// namesRefs reports whether the texts of the member can name an address.
func (m member) namesRefs() bool {
	switch m.name {
	case "because", "cannot_see", "detail", "notes":
		return true
	case "path":
		return m.of == "listed" || m.of == "examples" || m.of == "waived"
	case "why":
		return m.of == "verdicts"
	case "reason", "by":
		return m.of == "waived"
	}
	return false
}

// walk replaces the texts in the value of a JSON member by what edit returns for the member and the
// text. An element of a list has the member of the list.
func walk(value any, at member, edit func(m member, text string) string) {
	switch v := value.(type) {
	case map[string]any:
		for name, value := range v {
			m := member{of: at.name, name: name}
			if text, ok := value.(string); ok {
				v[name] = edit(m, text)
				continue
			}
			walk(value, m, edit)
		}
	case []any:
		for i, element := range v {
			if text, ok := element.(string); ok {
				v[i] = edit(at, text)
				continue
			}
			walk(element, at, edit)
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
