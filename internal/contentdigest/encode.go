// Package contentdigest computes digests over the content of items, so that two read-only passes
// can show that nothing but the slots changed between them.
//
// The digest of an item is the SHA-256 of an unambiguous encoding of its address, its content and
// its other properties. The digest of a target is a sum of the digests of its items (Sum), so it
// does not depend on the order in which they are read. A List stores the digests of all items in
// a file, and compares them with those of an earlier file.
package contentdigest

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"maps"
	"slices"

	"rotator/internal/scan"
)

// Scheme identifies the encoding and the sum. Digests with different schemes cannot be compared.
// It changes whenever the digest of any item changes.
const Scheme = "sha256-lthash16/1"

// Digest is the digest of one item.
type Digest [sha256.Size]byte

// Item returns the digest of an item. payload is its content without the ciphertexts of its
// slots. properties are its properties outside of the payload, by name; nil if there are none.
func Item(ref scan.Ref, payload scan.Payload, properties map[string]string) Digest {
	hash := sha256.New()
	e := &encoder{w: hash}
	e.item(ref, payload, properties)
	return Digest(hash.Sum(nil))
}

// The kinds of payloads in the encoding.
const (
	kindRow    = 'R'
	kindObject = 'O'
)

// encoder writes the encoding of an item. Every text is preceded by its length, and every
// collection by its number of members. Names, and the members of sets, are sorted. No two items
// have the same encoding.
type encoder struct {
	w       io.Writer // never fails
	scratch [8]byte
}

func (e *encoder) item(ref scan.Ref, payload scan.Payload, properties map[string]string) {
	e.text(Scheme)
	e.text(string(ref))
	switch p := payload.(type) {
	case *scan.Row:
		e.kind(kindRow)
		e.values(p.Attributes)
	case *scan.Object:
		e.kind(kindObject)
		e.bytes(p.Body)
		e.texts(p.Metadata)
	}
	e.texts(properties)
}

func (e *encoder) values(values map[string]scan.Value) {
	e.number(len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		e.text(name)
		e.value(values[name])
	}
}

func (e *encoder) value(v scan.Value) {
	e.kind(byte(v.Kind))
	switch v.Kind {
	case scan.KindS, scan.KindN:
		e.text(v.Text)
	case scan.KindB:
		e.bytes(v.Bytes)
	case scan.KindBool:
		e.text(map[bool]string{true: "true", false: "false"}[v.Bool])
	case scan.KindM:
		e.values(v.Map)
	case scan.KindL:
		e.number(len(v.List))
		for _, member := range v.List {
			e.value(member)
		}
	case scan.KindSS, scan.KindNS:
		e.number(len(v.Texts))
		for _, member := range slices.Sorted(slices.Values(v.Texts)) {
			e.text(member)
		}
	case scan.KindBS:
		e.number(len(v.ByteSet))
		for _, member := range slices.SortedFunc(slices.Values(v.ByteSet), slices.Compare) {
			e.bytes(member)
		}
	}
}

func (e *encoder) texts(texts map[string]string) {
	e.number(len(texts))
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		e.text(name)
		e.text(texts[name])
	}
}

func (e *encoder) text(s string) {
	e.number(len(s))
	_, _ = io.WriteString(e.w, s)
}

func (e *encoder) bytes(b []byte) {
	e.number(len(b))
	_, _ = e.w.Write(b)
}

func (e *encoder) number(n int) {
	binary.BigEndian.PutUint64(e.scratch[:], uint64(n))
	_, _ = e.w.Write(e.scratch[:])
}

func (e *encoder) kind(k byte) {
	e.scratch[0] = k
	_, _ = e.w.Write(e.scratch[:1])
}
