package rotate

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/kmsblob"
	"rotator/internal/reencrypt"
	"rotator/internal/scan"
)

// reasonUnrecognised is the reason of a failed slot for a ciphertext that no
// slot names.
const reasonUnrecognised = "unrecognised-ciphertext"

// maxListed is the maximum number of ciphertexts without a slot that are listed
// per item. All are checked until then, because the only one under a source key
// may be the last.
const maxListed = 100

// maxHeld limits the memory for the candidates of one item, in bytes of their
// blobs. Blobs that do not overlap cannot exceed it, because no body is larger.
const maxHeld = 64 << 20

// candidate is a ciphertext that was found by its header and belongs to no slot
// of its item.
type candidate struct {
	path   string // of the attribute or the metadata entry; "" is the body
	name   bool   // found in a name, not in a value
	offset int
	coding kmsblob.Encoding
	alone  bool   // the value holds nothing else, except white space
	length string // the format of a blob after its length, or ""
	shape  shape
	blob   []byte
	token  kmsblob.Token
	whole  bool
}

// sweep searches the items of one worker sequentially. It does not allocate for
// an item in which every ciphertext belongs to a slot.
type sweep struct {
	finder kmsblob.Finder
	hit    func(kmsblob.Hit) bool
	text   []byte // copy of the searched string
	counts checkpoint.SearchCounts

	slots   []ciphertext.Slot
	claimed []bool           // slots whose blob was found
	byBlob  map[string][]int // of many slots
	found   []candidate

	path  ciphertext.Path // of the value that is searched
	set   int             // the member of a set that is searched, or -1
	entry string          // the metadata entry that is searched
	name  bool            // a name is searched, not a value
	part  []byte
	shape shape // of part, once it was determined
	row   bool
	held  int  // bytes of the blobs of candidates
	full  bool // the search ended early, at maxHeld
	next  int  // the first slot that reported has not used yet
}

func newSweep() *sweep {
	s := &sweep{}
	s.hit = s.handleHit
	return s
}

// search returns the candidates of an item in the order of their places. It
// counts in s.counts.
func (s *sweep) search(item scan.Item, slots []ciphertext.Slot, partial bool) []candidate {
	s.slots, s.found, s.byBlob, s.counts = slots, s.found[:0], nil,
		checkpoint.SearchCounts{Items: 1}
	s.held, s.full, s.next = 0, false, 0
	s.claimed = slices.Grow(s.claimed[:0], len(slots))[:len(slots)]
	clear(s.claimed)
	switch payload := item.Payload.(type) {
	case *scan.Row:
		s.row = true
		s.attributes(payload.Attributes)
		if partial {
			s.counts.Partial++
		}
	case *scan.Object:
		s.row = false
		s.object(payload)
	}
	s.part = nil
	return s.unclaimed()
}

func (s *sweep) object(object *scan.Object) {
	s.path, s.entry = s.path[:0], ""
	s.bytes(object.Body)
	if object.Body == nil && object.Size > 0 {
		s.counts.Bodies, s.counts.BodyBytes = 1, object.Size
	}
	for name, value := range object.Metadata {
		s.entry = name
		s.string(value)
		s.nameOf(name)
	}
}

func (s *sweep) attributes(attributes map[string]scan.Value) {
	s.path = s.path[:0]
	for name, value := range attributes {
		s.path = append(s.path, ciphertext.Step{Name: name})
		s.value(value)
		s.path = s.path[:0]
	}
}

func (s *sweep) value(v scan.Value) {
	depth := len(s.path)
	s.set = -1
	switch v.Kind {
	case scan.KindS:
		s.string(v.Text)
	case scan.KindB:
		s.bytes(v.Bytes)
	case scan.KindM:
		for name, member := range v.Map {
			s.set = -1
			s.nameOf(name)
			s.path = append(s.path, ciphertext.Step{Name: name})
			s.value(member)
			s.path = s.path[:depth]
		}
	case scan.KindL:
		for i, member := range v.List {
			s.path = append(s.path, ciphertext.Step{Index: i, List: true})
			s.value(member)
			s.path = s.path[:depth]
		}
	case scan.KindSS:
		for s.set = range v.Texts {
			s.string(v.Texts[s.set])
		}
	case scan.KindBS:
		for s.set = range v.ByteSet {
			s.bytes(v.ByteSet[s.set])
		}
	}
}

func (s *sweep) string(text string) {
	if len(text) >= kmsblob.Shortest {
		s.text = append(s.text[:0], text...)
		s.bytes(s.text)
		return
	}
	s.counts.Bytes += int64(len(text))
}

// nameOf searches the name of a member of a map, or of a metadata entry.
func (s *sweep) nameOf(name string) {
	if len(name) < kmsblob.Shortest {
		return
	}
	s.name = true
	s.string(name)
	s.name = false
}

func (s *sweep) bytes(b []byte) {
	s.counts.Bytes += int64(len(b))
	if s.full {
		return
	}
	s.part, s.shape = b, unknownShape
	s.finder.Search(b, s.hit)
}

// handleHit handles one hit, which belongs to a slot or is a candidate.
func (s *sweep) handleHit(h kmsblob.Hit) bool {
	if i := s.claim(h.Blob, true); i >= 0 {
		s.claimed[i] = true
		return true
	}
	if s.shape == unknownShape {
		s.shape = shapeOf(s.part)
	}
	c := candidate{
		path:   s.place(),
		name:   s.name,
		offset: h.Offset,
		coding: h.Encoding,
		shape:  s.shape,
		blob:   bytes.Clone(h.Blob),
		token:  h.Token,
		whole:  h.Whole,
	}
	rest := len(bytes.TrimSpace(s.part[:h.Offset])) + len(bytes.Trim(s.part[h.End:], "= \t\r\n"))
	c.alone = rest == 0
	c.length = lengthPrefix(c, s.part)
	s.found = append(s.found, c)
	s.held += len(c.blob)
	s.full = s.held > maxHeld
	return !s.full
}

// place returns the current place of the search, in the notation of slot paths.
func (s *sweep) place() string {
	switch {
	case !s.row && s.name:
		return "metadata"
	case !s.row && s.entry != "":
		return "metadata " + s.entry
	case s.row && s.set >= 0:
		return fmt.Sprintf("%s{%d}", s.path, s.set)
	}
	return s.path.String()
}

// claim returns a slot with the blob that was not claimed yet. If atPlace is set,
// the slot of a row must be at the searched place, so that of two copies the
// one with a slot is claimed.
func (s *sweep) claim(blob []byte, atPlace bool) int {
	if s.name {
		return -1 // slots are values
	}
	if len(s.slots) > 16 {
		return s.claimIndexed(blob, atPlace)
	}
	for i := range s.slots {
		if s.fits(i, blob) && (!atPlace || s.isHere(i)) {
			return i
		}
	}
	return -1
}

// claimIndexed is claim for items with many slots.
func (s *sweep) claimIndexed(blob []byte, atPlace bool) int {
	if s.byBlob == nil {
		s.byBlob = make(map[string][]int, len(s.slots))
		for i, slot := range s.slots {
			s.byBlob[string(slot.Blob)] = append(s.byBlob[string(slot.Blob)], i)
		}
	}
	same := s.byBlob[string(blob)]
	for n, i := range same {
		if s.fits(i, blob) && (!atPlace || s.isHere(i)) {
			if n == 0 { // always for a body, so that many copies of one blob take no longer
				s.byBlob[string(blob)] = same[1:]
			}
			return i
		}
	}
	return -1
}

func (s *sweep) fits(i int, blob []byte) bool {
	return !s.claimed[i] && bytes.Equal(s.slots[i].Blob, blob)
}

func (s *sweep) isHere(i int) bool {
	switch {
	case !s.row:
		return true
	case len(s.path) == 1 && s.set < 0 && s.path[0].Name == s.slots[i].Path:
		return true
	}
	return s.place() == s.slots[i].Path
}

// unclaimed removes the candidates that are blobs of slots at other places than
// their paths, and returns the rest.
func (s *sweep) unclaimed() []candidate {
	if len(s.found) == 0 {
		return nil
	}
	slices.SortFunc(s.found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.offset, b.offset))
	})
	s.found = slices.DeleteFunc(s.found, func(c candidate) bool {
		if c.name {
			return false
		}
		i := s.claim(c.blob, false)
		if i >= 0 {
			s.claimed[i] = true
		}
		return i >= 0
	})
	return s.found
}

// reported returns the failed slot that already reports the place of a
// candidate, or -1. In a body, where places of candidates are offsets, each
// refused slot reports one candidate, or all of them if the slot is the whole
// body.
func (s *sweep) reported(c candidate, verdicts []reencrypt.Verdict) int {
	for s.next < len(s.slots) && !s.isUnmatched(s.next, verdicts) {
		s.next++
	}
	for i := s.next; i < len(s.slots); i++ {
		slot := s.slots[i]
		if !s.isUnmatched(i, verdicts) {
			continue
		}
		switch rest, within := strings.CutPrefix(c.path, slot.Path); {
		case s.row && within && (rest == "" || strings.ContainsRune(".[{", rune(rest[0]))):
			return i
		case !s.row && slot.Path == "":
			return i
		case !s.row && slot.Refused != nil:
			s.claimed[i] = true
			return i
		}
	}
	return -1
}

// isUnmatched reports whether a slot failed and no ciphertext was found for it.
func (s *sweep) isUnmatched(i int, verdicts []reencrypt.Verdict) bool {
	return !s.claimed[i] && verdicts[i].Outcome == reencrypt.Failed
}

// search finds the ciphertexts of an item that none of its slots names. Those that are,
// or may be, under a source key become failed slots.
func (w *worker) search(ctx context.Context, target *Target, t *task) error {
	if w.searcher == nil {
		return nil
	}
	candidates := w.sweep.search(t.item, t.slots, target.Partial)
	t.search = w.sweep.counts
	listed := 0
	for i, c := range candidates {
		f, err := w.searcher.Find(ctx, reencrypt.Candidate{
			Blob:  c.blob,
			Token: c.token,
			Whole: c.whole,
		})
		if err != nil {
			return err
		}
		if w.sweep.full && i == len(candidates)-1 {
			f = reencrypt.Finding{} // the same finding for all candidates that were not checked
		}
		switch f.Standing {
		case reencrypt.UnderOtherKey:
			t.search.OtherKeys++
			continue
		case reencrypt.Undecryptable:
			t.search.Unusable++
			continue
		}
		if i := w.sweep.reported(c, t.verdicts); i >= 0 {
			t.found(i, c, f)
			continue
		}
		t.list(c, f, w.sweep.row)
		if listed++; listed == maxListed {
			t.unchecked(len(candidates) - i - 1)
			break
		}
	}
	return nil
}

// found records what is known about the ciphertext at the place of a failed slot.
func (t *task) found(i int, c candidate, f reencrypt.Finding) {
	switch {
	case f.Key != "":
		t.verdicts[i].Key, t.verdicts[i].Header = f.Key, f.Header
	case len(t.slots[i].Held) == 0:
		t.slots[i].Held = c.blob
	}
}

// list adds a candidate to the slots of the item.
func (t *task) list(c candidate, f reencrypt.Finding, row bool) {
	t.slots = append(t.slots, c.slot(row))
	t.verdicts = append(t.verdicts, reencrypt.Verdict{
		Outcome: reencrypt.Failed,
		Key:     f.Key,
		Header:  f.Header && f.Key != "",
		Reason:  reasonUnrecognised,
		Detail:  c.detail(f, row),
	})
}

// unchecked adds the number of ciphertexts of the item that were not checked to the detail of
// the last listed slot.
func (t *task) unchecked(n int) {
	if n > 0 {
		last := &t.verdicts[len(t.verdicts)-1]
		last.Detail += fmt.Sprintf("; %d more ciphertexts after it in this item were not checked",
			n)
	}
}

// slot returns the failed slot by which a candidate is reported. It belongs to
// no rule.
func (c candidate) slot(row bool) ciphertext.Slot {
	place := cmp.Or(c.path, "body")
	if c.name {
		place += ", a name in it"
	}
	return ciphertext.Slot{
		Path:    fmt.Sprintf("%s, byte %d", place, c.offset),
		Rule:    ciphertext.NoRule,
		Blob:    c.blob,
		Held:    c.blob,
		Refused: &ciphertext.Refused{Reason: reasonUnrecognised, Detail: c.advice(row)},
	}
}

func (c candidate) detail(f reencrypt.Finding, row bool) string {
	key := "a ciphertext"
	if f.Standing == reencrypt.UnknownKey {
		key = "a ciphertext, whose key KMS does not name,"
	}
	cut := ""
	if !c.whole {
		cut = ", truncated,"
	}
	return fmt.Sprintf("%s in %s%s is here, but no slot of the job file names it; %s",
		key, c.coding, cut, c.advice(row))
}
