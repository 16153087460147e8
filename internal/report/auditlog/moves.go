package auditlog

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"
	"time"
	"unicode/utf8"

	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
)

// Moves counts the slots that audit logs prove to be moved in one pass. The same line may be added
// several times: a log can be here and uploaded. It compares writes and slots by hashes of 64 bits,
// and keeps two hashes for each write.
type Moves struct {
	// Most is the maximum number of writes. It bounds the memory (Full).
	Most int64

	prefix        string // of the change of each line of the pass
	from, began   time.Time
	seed          maphash.Seed
	writes, slots hashes
	before, full  bool
	text          []byte // buffer
}

// mostMoves is the default of Moves.Most.
const mostMoves = 4_000_000

// NewMoves returns the counter of a pass that began at a time. clocks is the largest difference
// between the clocks of two machines. Lines that are older than the beginning of the pass by more
// than clocks do not count: they belong to a pass with the same number in a deleted checkpoint.
func NewMoves(pass int, began time.Time, clocks time.Duration) *Moves {
	return &Moves{
		Most:   mostMoves,
		prefix: fmt.Sprintf(`,"pass":%d,"target":`, pass),
		from:   began.Add(-clocks),
		began:  began,
		seed:   maphash.MakeSeed(),
	}
}

// Full reports whether the logs have more than Most writes. The numbers of writes and slots are
// then not known.
func (m *Moves) Full() bool { return m.full || m.writes.distinct() > m.Most }

// Writes returns the number of writes. A slot that another writer changed can be moved again.
func (m *Moves) Writes() int64 { return m.writes.distinct() }

// Slots returns the number of slots. Members of lists and sets can have other positions after a
// change, so each write to one of them counts as a slot.
func (m *Moves) Slots() int64 { return m.slots.distinct() }

// Before reports whether lines are older than the beginning of the pass.
func (m *Moves) Before() bool { return m.before }

// Add adds a write.
func (m *Moves) Add(r rotate.Record) { m.add(r.At, appendChange(nil, &r)) }

// learn adds a plain line. It ignores lines that are not writes of the pass. It does not parse the
// whole line, because a log has many lines. Quotes in strings are escaped, so the text of a string
// cannot look like the name of a member.
func (m *Moves) learn(text []byte) {
	if m == nil {
		return
	}
	_, rest, _ := bytes.Cut(text, []byte(`,"event":"`))
	at, ok := bytes.CutPrefix(rest, []byte(eventRotated+`","at":`))
	if !ok {
		return
	}
	n, err := fieldLength(at)
	if err != nil {
		return
	}
	var written time.Time
	if written.UnmarshalJSON(at[:n]) == nil {
		m.add(written, at[n:])
	}
}

// add adds the members of a line from "pass".
func (m *Moves) add(at time.Time, change []byte) {
	change, ours := bytes.CutPrefix(change, []byte(m.prefix))
	if !ours || m.full || at.Before(m.from) {
		return
	}
	m.before = m.before || at.Before(m.began)
	slot, rest, _ := bytes.Cut(change, []byte(`,"from_key":`))
	_, blobs, _ := bytes.Cut(rest, []byte(`,"before_sha256":`))
	blobs = blobs[:min(len(blobs), blobsLength)]
	m.text = append(append(m.text[:0], slot...), blobs...)
	write := maphash.Bytes(m.seed, m.text)
	m.writes.add(write)
	if _, path, _ := bytes.Cut(slot, []byte(`,"path":`)); mayShift(path) {
		m.slots.add(write)
	} else {
		m.slots.add(maphash.Bytes(m.seed, slot))
	}
	if int64(m.writes.unique) > m.Most {
		m.full, m.writes, m.slots = true, hashes{}, hashes{}
	}
}

// blobsLength is the length of the digests of the blobs before and after a write, with the name of
// the second member.
const blobsLength = len(`"","after_sha256":""`) + 2*hashLength

// mayShift reports whether a path can be that of another slot after a change of its item: the path
// of a member of a list or set, or one that was cut off.
func mayShift(path []byte) bool {
	return bytes.ContainsAny(path, "[{") || len(path) > reencrypt.MaxPath-utf8.UTFMax
}

// hashes is a set of hashes. Its memory is proportional to the number of distinct ones.
type hashes struct {
	list   []uint64
	unique int // hashes at the beginning of list that are sorted and distinct
}

func (h *hashes) add(hash uint64) {
	const least = 1 << 16
	if h.list = append(h.list, hash); len(h.list) >= max(least, 2*h.unique) {
		h.compact()
	}
}

func (h *hashes) compact() {
	slices.Sort(h.list)
	h.list = slices.Compact(h.list)
	h.unique = len(h.list)
}

func (h *hashes) distinct() int64 {
	h.compact()
	return int64(len(h.list))
}
