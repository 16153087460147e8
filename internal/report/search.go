package report

import (
	"strings"

	"rotator/internal/checkpoint"
	"rotator/internal/plural"
	"rotator/internal/printable"
)

// Search is the result of the search for ciphertexts outside of slots. It finds ciphertexts
// under symmetric keys. Those under a source key are failed slots with the reason
// unrecognised-ciphertext.
type Search struct {
	Items int64 `json:"items"` // items that were searched, completely or in part
	Bytes int64 `json:"bytes"` // bytes that were searched
	// OtherKeys counts ciphertexts under keys other than the source keys. Undecryptable
	// counts ciphertexts that KMS cannot decrypt under any key of the job. Both are not
	// counted as slots.
	OtherKeys     int64       `json:"other_keys"`
	Undecryptable int64       `json:"undecryptable"`
	NotSearched   NotSearched `json:"not_searched"`
}

// NotSearched counts data that was not searched. The search cannot find ciphertexts under
// asymmetric keys (RSA, SM2), because they have no header.
type NotSearched struct {
	// Items counts items that could not be read or that an earlier version processed.
	Items int64 `json:"items"`
	// Bodies counts objects of which only the metadata was read. BodyBytes is the total
	// length of their bodies.
	Bodies    int64 `json:"bodies"`
	BodyBytes int64 `json:"body_bytes"`
	// RowsInPart counts rows of which only some attributes were read.
	RowsInPart int64 `json:"rows_in_part"`
}

// sentence returns a sentence about data that was not read, with a leading space, or "".
func (n NotSearched) sentence() string {
	var parts []string
	if n.RowsInPart > 0 {
		parts = append(parts, "unused attributes in "+plural.Count(n.RowsInPart, "row"))
	}
	if n.Bodies > 0 {
		parts = append(parts, "unused bodies of "+plural.Count(n.Bodies, "object"))
	}
	if len(parts) == 0 {
		return ""
	}
	return " Not searched for other ciphertexts: " + strings.Join(parts, "; ") +
		" (set search: all)."
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

// searched writes the result of the search.
func (l *lines) searched(s Search) {
	l.line("")
	l.line("search for ciphertexts outside of slots: %s, %s",
		plural.Count(s.Items, "item"), plural.Count(s.Bytes, "byte"))
	if s.OtherKeys > 0 {
		l.wrapped("found under keys other than the source keys: %d", s.OtherKeys)
	}
	if s.Undecryptable > 0 {
		l.wrapped("found, but cannot be decrypted under any key of this job: %d", s.Undecryptable)
	}
	n := s.NotSearched
	if n.Items > 0 {
		l.wrapped("not searched: %s", plural.Count(n.Items, "item"))
	}
	if n.Bodies > 0 {
		l.wrapped("not searched: bodies of %s, %s in total (set search: all)",
			plural.Count(n.Bodies, "object"), plural.Count(n.BodyBytes, "byte"))
	}
	if n.RowsInPart > 0 {
		l.wrapped("not searched: unused attributes in %s (set search: all)",
			plural.Count(n.RowsInPart, "row"))
	}
	l.wrapped("the search cannot find ciphertexts under asymmetric keys")
}

// wrapped writes wrapped text with an indent.
func (l *lines) wrapped(format string, args ...any) {
	l.item("", printable.Sprintf(format, args...))
}
