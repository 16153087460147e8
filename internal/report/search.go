package report

import (
	"strings"

	"rotator/internal/checkpoint"
)

// Search describes the search for ciphertexts under symmetric keys that no slot
// names. Those under a source key are failed slots with the reason
// unrecognised-ciphertext.
type Search struct {
	Items int64 `json:"items"` // searched, as far as they were read
	Bytes int64 `json:"bytes"` // searched
	// OtherKeys counts ciphertexts under keys other than the source keys.
	// Undecryptable counts those that KMS decrypts under no key of the job.
	// Neither are slots.
	OtherKeys     int64       `json:"other_keys"`
	Undecryptable int64       `json:"undecryptable"`
	NotSearched   NotSearched `json:"not_searched"`
}

// NotSearched counts what was not searched. The search never finds ciphertexts
// under asymmetric keys (RSA, SM2), because they have no header.
type NotSearched struct {
	// Items counts items that could not be read, and those counted by an earlier
	// version.
	Items int64 `json:"items"`
	// Bodies counts objects of which only the metadata was read. BodyBytes is the
	// total length of their bodies.
	Bodies    int64 `json:"bodies"`
	BodyBytes int64 `json:"body_bytes"`
	// RowsInPart counts rows of which only some attributes were read.
	RowsInPart int64 `json:"rows_in_part"`
}

// sentence states what was read only in part, with a space in front, or is "".
func (n NotSearched) sentence() string {
	var parts []string
	if n.RowsInPart > 0 {
		parts = append(parts, "attributes that no slot needs, in "+count(int(n.RowsInPart), "row"))
	}
	if n.Bodies > 0 {
		parts = append(parts,
			"bodies that the format does not need, of "+count(int(n.Bodies), "object"))
	}
	if len(parts) == 0 {
		return ""
	}
	return " Not searched for further ciphertexts, without search: all: " +
		strings.Join(parts, "; ") + "."
}

func searchOf(c checkpoint.Counts) Search {
	n := c.Search
	return Search{
		Items:         n.Items,
		Bytes:         n.Bytes,
		OtherKeys:     n.OtherKeys,
		Undecryptable: n.Unusable,
		NotSearched: NotSearched{
			Items:      c.Items.Seen - n.Items,
			Bodies:     n.Bodies,
			BodyBytes:  n.BodyBytes,
			RowsInPart: n.Partial,
		},
	}
}

// searched writes what was searched and what was not.
func (l *lines) searched(s Search) {
	l.line("")
	l.line("searched for ciphertexts that no slot names: %d items, %d bytes", s.Items, s.Bytes)
	if s.OtherKeys > 0 {
		l.line("  found, under keys that are not source keys: %d", s.OtherKeys)
	}
	if s.Undecryptable > 0 {
		l.line("  found, but not decryptable under any key of this job: %d", s.Undecryptable)
	}
	n := s.NotSearched
	if n.Items > 0 {
		l.line("  not searched: %d items", n.Items)
	}
	if n.Bodies > 0 {
		l.line("  not searched: %d bodies of objects, %d bytes in all (search: all)",
			n.Bodies, n.BodyBytes)
	}
	if n.RowsInPart > 0 {
		l.line("  not searched: attributes that no slot needs, in %d rows (search: all)",
			n.RowsInPart)
	}
	l.line("  ciphertexts under asymmetric keys cannot be found by the search")
}
