package rotate

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"rotator/internal/ciphertext"
	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// Sample says how many of the slots that their header decides KMS is asked about all
// the same, at random.
type Sample struct {
	Share float64 // of them; 0 means 1%
	Least int     // so many at least, or all when there are fewer; 0 means 1,000
}

func (s Sample) orDefault() Sample {
	return Sample{Share: cmp.Or(s.Share, 0.01), Least: cmp.Or(s.Least, 1000)}
}

// HeaderError ends a pass that only looks, when KMS says something else of a slot than
// its header did: what was counted by headers is worth nothing then. Look again, with
// Config.Exact.
type HeaderError struct{ What string }

func (e *HeaderError) Error() string { return e.What }

// class are the slots that one answer of KMS teaches about: of one token, in one
// target, found by one rule of the job file. So a rule with a wrong encryption context
// is never hidden by the headers of another's slots.
type class struct {
	token  kmsblob.Token
	target string
	rule   int
}

// maxClasses bounds the memory of what was learned. Nothing is learned of more: KMS is
// asked about their slots.
const maxClasses = 1 << 14

// fact is what KMS said of a token: which key, and which material of it, it stands for.
type fact struct{ key, material string }

// subject is one slot that is to be decided.
type subject struct {
	class    class
	readable bool // its blob has a token
	look     bool // it cannot be written
	ref      scan.Ref
	slot     ciphertext.Slot
	question question
}

func newSubject(target *Target, ref scan.Ref, slot ciphertext.Slot, q question) subject {
	s := subject{look: target.Writer == nil, ref: ref, slot: slot, question: q}
	s.class.target, s.class.rule = target.Name, slot.Rule
	if slot.Refused == nil {
		s.class.token, s.readable = kmsblob.ReadToken(slot.Blob)
	}
	return s
}

// hint is what the header of a blob says of its slot. With check, KMS is to be asked,
// and should say the same.
type hint struct {
	verdict
	known, check bool
}

// headers decides slots by the headers of their blobs, as far as KMS has taught it what
// these mean. A header tells the key. It tells neither that the encryption context is
// right nor that the blob is whole: so a slot is only decided by it where nothing would
// be written, where KMS has said the same of a slot of its class, and subject to a
// sample that is checked: some as they come, the rest at the end, since nobody knows
// before how many there will be. The first answer that differs turns all of it off.
type headers struct {
	keys    Keys
	looking bool // no target can be written
	sample  Sample
	salt    uint64
	begin   func(context.Context) (bool, error)
	logger  *zap.Logger
	turn    chan struct{} // of calling begin

	mu               sync.Mutex
	exact            bool // no slot is decided by its header
	off              bool // nor is anything else believed of headers
	begun            bool
	agree            bool   // the sample was checked to the end
	wrong            string // what disagreed
	facts            map[kmsblob.Token]fact
	lessons          map[class]verdict // what KMS said of a slot of the class
	decided, checked int64             // by headers, and of these by KMS as well
	alone            int64             // by headers, and by KMS at the end or never
	owed             keepsakes
}

func newHeaders(c Config) *headers {
	looking := !slices.ContainsFunc(c.Targets, func(t Target) bool { return t.Writer != nil })
	return &headers{keys: c.Keys, looking: looking, sample: c.Sample.orDefault(), salt: uint64(c.Draw(1 << 62)), begin: c.BeginHeaders, begun: c.BeginHeaders == nil,
		logger: c.Logger, turn: make(chan struct{}, 1), exact: c.Exact || c.Keys.refresh(),
		facts: map[kmsblob.Token]fact{}, lessons: map[class]verdict{}}
}

// hint says what the header of a slot's blob tells.
func (h *headers) hint(ctx context.Context, s subject) (hint, error) {
	h.mu.Lock()
	_, ok := h.expect(s)
	begun := h.begun
	h.mu.Unlock()
	if !ok {
		return hint{}, nil
	}
	if !begun {
		if err := h.start(ctx); err != nil {
			return hint{}, err
		}
	}
	rank := h.rank(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.expect(s) // it may have been turned off
	if !ok {
		return hint{}, nil
	}
	h.decided++
	if float64(rank) < oversampled*h.sample.Share*(1<<63)*2 {
		h.checked++
		return hint{verdict: v, known: true, check: true}, nil
	}
	h.keep(keepsake{rank: rank, subject: s, verdict: v})
	h.alone++
	v.header = true
	return hint{verdict: v, known: true}, nil
}

// oversampled is by how much more slots are drawn than the share, so that chance seldom
// leaves many to the check at the end. Whether a slot is drawn depends on nothing but its
// rank, and that check goes on with the lowest ranks: all slots have the same chance.
const oversampled = 1.01

// owing is how many more of the slots that were decided have to be checked; it wants mu.
func (h *headers) owing() int {
	share := int64(math.Ceil(h.sample.Share * float64(h.decided)))
	return int(max(int64(h.sample.Least), share) - h.checked)
}

// start calls begin before the first slot is decided by its header.
func (h *headers) start(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.turn }()
	h.mu.Lock()
	begun := h.begun
	h.mu.Unlock()
	if begun {
		return nil
	}
	may, err := h.begin(ctx)
	if err != nil {
		return storeError(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun, h.exact = true, h.exact || !may
	return nil
}

// expect is the verdict that the header of a slot's blob leads to; it wants mu.
func (h *headers) expect(s subject) (verdict, bool) {
	if h.off || h.exact || !s.readable {
		return verdict{}, false
	}
	v, ok := h.lessons[s.class]
	return v, ok && h.facts[s.class.token].key == v.key && h.tells(s, v)
}

// tells says whether a verdict of KMS on a slot follows from the key of its blob alone,
// given that the context is right: then it is the verdict on all slots of its class.
func (h *headers) tells(s subject, v verdict) bool {
	switch v.outcome {
	case Current:
		return v.key == h.keys.Destination.ARN && h.settled(s.slot)
	case Remaining:
		return s.look && v.key != h.keys.Destination.ARN && h.keys.isSource(v.key)
	case Foreign:
		return s.look && v.key != "" && v.reason == reasonForeignKey
	}
	return false
}

// settled says whether a slot under the destination key has to be where the job wants
// it, as there is only one context that it can have.
func (h *headers) settled(slot ciphertext.Slot) bool {
	if h.keys.SourceAlgorithm != Symmetric {
		return h.keys.Destination.Symmetric()
	}
	return maps.Equal(slot.Context, slot.DestinationContext)
}

// learn takes what KMS said of a slot that no header had decided. Where another slot of
// the class was quicker it is a check like others.
func (h *headers) learn(s subject, said verdict) error {
	h.mu.Lock()
	expected, known := h.expect(s)
	if known {
		h.decided, h.checked = h.decided+1, h.checked+1
	} else if !h.exact && !h.off && s.readable && h.tells(s, said) && len(h.lessons) < maxClasses {
		said.blob = nil
		h.lessons[s.class] = said
	}
	h.mu.Unlock()
	if known {
		return h.compare(s, expected, said)
	}
	return nil
}

// fact takes what KMS said of the key of a blob. A token that stands for two keys, or
// for two materials of one, tells nothing.
func (h *headers) fact(blob []byte, answer Answer) error {
	t, ok := kmsblob.ReadToken(blob)
	if !ok || answer.Source == "" {
		return nil
	}
	h.mu.Lock()
	said := fact{answer.Source, answer.SourceMaterial}
	before, known := h.facts[t]
	if !known && !h.off && len(h.facts) < maxClasses {
		h.facts[t] = said
	}
	h.mu.Unlock()
	if known && before != said {
		return h.disprove(fmt.Sprintf("ciphertexts with one key token in their headers are under %s and under %s", before.key, said.key))
	}
	return nil
}

// keyOf is the key that the header of a blob stands for, "" when that is not known.
func (h *headers) keyOf(blob []byte) string {
	t, ok := kmsblob.ReadToken(blob)
	if !ok {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off {
		return ""
	}
	return h.facts[t].key
}

// factOf returns what KMS has reported about a token.
func (h *headers) factOf(t kmsblob.Token) (f fact, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok = h.facts[t]
	return f, ok
}

// distrusted reports whether an answer of KMS has contradicted a header.
func (h *headers) distrusted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.off
}

// compare holds what KMS says of a slot against what its header told.
func (h *headers) compare(s subject, told, said verdict) error {
	if told.outcome == said.outcome && told.key == said.key && told.reason == said.reason {
		return nil
	}
	return h.disprove(fmt.Sprintf(
		"target %s, item %s, slot %q: its header says %s, under %s, and KMS says %s",
		s.class.target, clip(string(s.ref)), clip(s.slot.Path), told.outcome, told.key, said.told()))
}

// told says what a verdict is, for people.
func (v verdict) told() string {
	switch {
	case v.moves():
		return "it is to be moved, from under " + v.key
	case v.reason != "":
		return fmt.Sprintf("%s (%s)", v.outcome, v.reason)
	}
	return fmt.Sprintf("%s, under %s", v.outcome, v.key)
}

// disprove turns headers off for the rest of the run. A pass that only looks ends with
// it; any other goes on, and its record keeps that its figures are no evidence.
func (h *headers) disprove(what string) error {
	h.mu.Lock()
	first := !h.off
	if first {
		h.off, h.wrong, h.owed = true, what, nil
	}
	used := h.decided > 0
	h.mu.Unlock()
	if first {
		h.logger.Warn("the headers of ciphertexts do not tell what they should; from now on KMS is asked about every slot", zap.String("why", what))
	}
	if h.looking && used {
		return &HeaderError{What: what}
	}
	return nil
}

// turnOff makes KMS be asked about every slot.
func (h *headers) turnOff() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.exact = true
}

// check asks KMS about the part of the sample that is still owed.
func (h *headers) check(workers int, ask func(ciphertext.Slot) (verdict, error)) error {
	h.mu.Lock()
	owed := h.owed.lowest(h.owing())
	h.checked, h.owed = h.checked+int64(len(owed)), nil
	h.mu.Unlock()
	var pool errgroup.Group
	pool.SetLimit(workers)
	for _, k := range owed {
		pool.Go(func() error {
			said, err := ask(k.subject.slot)
			if err != nil {
				return err
			}
			return h.compare(k.subject, k.verdict, said.seenBy(k.subject.look))
		})
	}
	err := pool.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.agree = err == nil && h.wrong == ""
	return err
}

// seenBy is the verdict of a pass that only looks: it moves nothing.
func (v verdict) seenBy(look bool) verdict {
	if look && v.moves() {
		return verdict{outcome: Remaining, key: v.key}
	}
	return v
}

// rank puts slots into an order that is random, and the same whichever of them comes
// first.
func (h *headers) rank(s subject) uint64 {
	x := mix(h.salt, s.class.target)
	x = mix(x, string(s.ref))
	x = mix(x, s.slot.Path)
	end := s.slot.Blob[len(s.slot.Blob)-16:] // random in every blob
	return scramble(scramble(x^binary.LittleEndian.Uint64(end)) ^ binary.LittleEndian.Uint64(end[8:]))
}

// mix makes a number of x and of a text, eight bytes at a time.
func mix(x uint64, text string) uint64 {
	x ^= uint64(len(text))
	for ; len(text) >= 8; text = text[8:] {
		x = scramble(x ^ binary.LittleEndian.Uint64([]byte(text[:8])))
	}
	var last [8]byte
	copy(last[:], text)
	return scramble(x ^ binary.LittleEndian.Uint64(last[:]))
}

// scramble is one to one, and changes half of the bits when one is changed
// (splitmix64).
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// keep remembers a slot that its header decided, to be checked at the end: those with
// the lowest ranks, as many as can be owed then. It wants mu.
func (h *headers) keep(k keepsake) {
	if len(h.owed) >= h.sample.Least && k.rank >= h.owed[0].rank {
		return
	}
	k.subject.slot.Blob = slices.Clone(k.subject.slot.Blob) // it holds the whole page
	heap.Push(&h.owed, k)
	if len(h.owed) > h.sample.Least {
		heap.Pop(&h.owed)
	}
}

// keepsake is a slot with what its header told.
type keepsake struct {
	rank    uint64
	subject subject
	verdict verdict
}

// keepsakes are a heap with the highest rank in front.
type keepsakes []keepsake

func (k keepsakes) Len() int           { return len(k) }
func (k keepsakes) Less(i, j int) bool { return k[i].rank > k[j].rank }
func (k keepsakes) Swap(i, j int)      { k[i], k[j] = k[j], k[i] }
func (k *keepsakes) Push(x any)        { *k = append(*k, x.(keepsake)) }

func (k *keepsakes) Pop() any {
	last := (*k)[len(*k)-1]
	*k = (*k)[:len(*k)-1]
	return last
}

// lowest returns the n of the lowest ranks, or all when there are fewer.
func (k keepsakes) lowest(n int) []keepsake {
	sorted := slices.SortedFunc(slices.Values(k), func(a, b keepsake) int { return cmp.Compare(a.rank, b.rank) })
	return sorted[:min(max(n, 0), len(sorted))]
}
