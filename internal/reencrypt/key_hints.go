package reencrypt

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
)

// Sample states how many of the slots that headers decide are also checked by KMS, at random.
type Sample struct {
	Share float64 // 0 means 1%
	Least int     // the minimum number, or all slots if there are fewer; 0 means 1,000
}

func (s Sample) orDefault() Sample {
	return Sample{Share: cmp.Or(s.Share, 0.01), Least: cmp.Or(s.Least, 1000)}
}

// HeaderError ends a read-only pass if KMS and the header of a slot disagree. The counts by
// headers are then not evidence, and the pass must be repeated without header hints.
type HeaderError struct{ What string }

func (e *HeaderError) Error() string { return e.What }

// class is a set of slots for which one response of KMS is enough: slots with one token, in one
// target, found by one rule of the job file. A rule with a wrong encryption context is therefore
// never hidden by slots of another rule.
type class struct {
	token  kmsblob.Token
	target string
	rule   int
}

// maxClasses limits the memory for hints. For slots of further classes, rotator sends requests
// to KMS.
const maxClasses = 1 << 14

// fact is what KMS has answered about a token: its key, and the key material.
type fact struct{ key, material string }

// prediction is what the header of a blob shows about its slot. With check, KMS must be asked
// and must agree.
type prediction struct {
	Verdict
	known, check bool
}

// HintConfig is what header hints need.
type HintConfig struct {
	// ReadOnly states that no target can be written.
	ReadOnly bool
	Sample   Sample
	// Salt makes the choice of the sample random.
	Salt uint64
	// Begin is called before the first slot is decided by its header. If it returns false,
	// headers decide nothing. Nil allows it.
	Begin  func(context.Context) (bool, error)
	Logger *zap.Logger
}

// keyHints stores what the responses of KMS show about the headers of blobs. A header shows the
// key. It does not show that the encryption context is right or that the blob is intact.
// Therefore, a header decides a slot only if nothing is to be written and KMS has decided a slot
// of the same class. A sample of these slots is checked with KMS: a part immediately, the rest at
// the end, because the number of slots is unknown before. The first response that differs
// invalidates all hints.
type keyHints struct {
	keys      Keys
	readOnly  bool // no target can be written
	sample    Sample
	salt      uint64
	begin     func(context.Context) (bool, error)
	logger    *zap.Logger
	beginTurn chan struct{} // held while begin is called

	mu      sync.Mutex
	exact   bool // no slot is decided by its header
	off     bool // headers are not used for anything
	begun   bool
	agree   bool   // the whole sample was checked
	wrong   string // the disagreement that was found, or ""
	facts   map[kmsblob.Token]fact
	learned map[class]Verdict // the response of KMS for a slot of the class
	// slots decided by headers, and those of them that KMS checked
	decided, checked int64
	unchecked        int64 // slots decided by headers, not checked so far
	pending          pendingSample
}

func newKeyHints(keys Keys, exact bool, c HintConfig) *keyHints {
	return &keyHints{
		keys:      keys,
		readOnly:  c.ReadOnly,
		sample:    c.Sample.orDefault(),
		salt:      c.Salt,
		begin:     c.Begin,
		begun:     c.Begin == nil,
		logger:    c.Logger,
		beginTurn: make(chan struct{}, 1),
		exact:     exact || keys.Refresh(),
		facts:     map[kmsblob.Token]fact{},
		learned:   map[class]Verdict{},
	}
}

// predictor is the layer that decides slots by the headers of their blobs.
type predictor struct {
	hints *keyHints
	next  Decider
}

var _ Decider = (*predictor)(nil)

// Decide returns the verdict that the header of the blob predicts, or that of the next layer. A
// prediction that is checked has a separate request.
func (p *predictor) Decide(ctx context.Context, s Subject) (Verdict, error) {
	predicted, err := p.hints.predict(ctx, s)
	if err != nil || predicted.known && !predicted.check {
		return predicted.Verdict, err
	}
	s.ownRequest = predicted.check
	actual, err := p.next.Decide(ctx, s)
	if err != nil {
		return Verdict{}, err
	}
	actual = actual.seenBy(s.readOnly)
	if predicted.check {
		return actual, p.hints.compare(s, predicted.Verdict, actual)
	}
	return actual, p.hints.learn(s, actual)
}

// predict returns what the header of a slot's blob shows.
func (h *keyHints) predict(ctx context.Context, s Subject) (prediction, error) {
	h.mu.Lock()
	_, ok := h.expect(s)
	begun := h.begun
	h.mu.Unlock()
	if !ok {
		return prediction{}, nil
	}
	if !begun {
		if err := h.start(ctx); err != nil {
			return prediction{}, err
		}
	}
	rank := h.rank(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.expect(s) // it may have been turned off
	if !ok {
		return prediction{}, nil
	}
	h.decided++
	if float64(rank) < oversampled*h.sample.Share*(1<<63)*2 {
		h.checked++
		return prediction{Verdict: v, known: true, check: true}, nil
	}
	h.keep(sampleEntry{rank: rank, subject: s, verdict: v})
	h.unchecked++
	v.Header = true
	return prediction{Verdict: v, known: true}, nil
}

// oversampled is the factor from the share to the part that is checked at once, so that few
// slots remain for the end. Only its rank decides whether a slot is checked, and the check at
// the end continues with the lowest ranks, so all slots have the same chance.
const oversampled = 1.01

// due returns how many more of the decided slots must be checked. It must be called with mu
// held.
func (h *keyHints) due() int {
	share := int64(math.Ceil(h.sample.Share * float64(h.decided)))
	return int(max(int64(h.sample.Least), share) - h.checked)
}

// start calls begin before the first slot is decided by its header.
func (h *keyHints) start(ctx context.Context) error {
	select {
	case h.beginTurn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.beginTurn }()
	h.mu.Lock()
	begun := h.begun
	h.mu.Unlock()
	if begun {
		return nil
	}
	may, err := h.begin(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun, h.exact = true, h.exact || !may
	return nil
}

// expect returns the verdict that follows from the header of a slot. It must be called with mu
// held.
func (h *keyHints) expect(s Subject) (Verdict, bool) {
	if h.off || h.exact || !s.readable {
		return Verdict{}, false
	}
	v, ok := h.learned[s.class]
	return v, ok && h.facts[s.class.token].key == v.Key && h.decidableByKey(s, v)
}

// decidableByKey reports whether a verdict follows from the key of the blob only, if the
// context is right. It is then the verdict on all slots of the class.
func (h *keyHints) decidableByKey(s Subject, v Verdict) bool {
	switch v.Outcome {
	case Current:
		return v.Key == h.keys.Destination.ARN && h.mustBeCurrent(s.slot)
	case Remaining:
		return s.readOnly && v.Key != h.keys.Destination.ARN && h.keys.IsSource(v.Key)
	case Foreign:
		return s.readOnly && v.Key != "" && v.Reason == ReasonForeignKey
	}
	return false
}

// mustBeCurrent reports whether a slot under the destination key must be current, because it can
// have only one context.
func (h *keyHints) mustBeCurrent(slot ciphertext.Slot) bool {
	if h.keys.SourceAlgorithm != Symmetric {
		return h.keys.Destination.Symmetric()
	}
	return maps.Equal(slot.Context, slot.DestinationContext)
}

// learn stores the response of KMS for a slot that was not predicted. If another slot of the class
// was faster, the response is a check.
func (h *keyHints) learn(s Subject, actual Verdict) error {
	h.mu.Lock()
	expected, known := h.expect(s)
	if known {
		h.decided, h.checked = h.decided+1, h.checked+1
	} else if !h.exact && !h.off && s.readable && h.decidableByKey(s, actual) &&
		len(h.learned) < maxClasses {
		actual.Blob = nil
		h.learned[s.class] = actual
	}
	h.mu.Unlock()
	if known {
		return h.compare(s, expected, actual)
	}
	return nil
}

// fact stores what KMS has answered about the key of a blob. Two keys, or two materials of one
// key, with the same token invalidate all hints.
func (h *keyHints) fact(blob []byte, response Response) error {
	t, ok := kmsblob.ReadToken(blob)
	if !ok || response.Source == "" {
		return nil
	}
	h.mu.Lock()
	now := fact{response.Source, response.SourceMaterial}
	before, known := h.facts[t]
	if !known && !h.off && len(h.facts) < maxClasses {
		h.facts[t] = now
	}
	h.mu.Unlock()
	if known && before != now {
		return h.invalidate(fmt.Sprintf("ciphertexts with one key token in their headers "+
			"are under %s and under %s", before.key, now.key))
	}
	return nil
}

// keyOf returns the key that KMS has named for the header of a blob, or "".
func (h *keyHints) keyOf(blob []byte) string {
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
func (h *keyHints) factOf(t kmsblob.Token) (f fact, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok = h.facts[t]
	return f, ok
}

// distrusted reports whether a response of KMS has contradicted a header.
func (h *keyHints) distrusted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.off
}

// compare compares the response of KMS with a prediction.
func (h *keyHints) compare(s Subject, predicted, actual Verdict) error {
	if predicted.Outcome == actual.Outcome && predicted.Key == actual.Key &&
		predicted.Reason == actual.Reason {
		return nil
	}
	return h.invalidate(fmt.Sprintf(
		"target %s, item %s, slot %q: its header shows %s, under %s, but KMS reports %s",
		s.class.target, Clip(string(s.ref)), Clip(s.slot.Path), predicted.Outcome, predicted.Key,
		actual.describe()))
}

// invalidate disables hints for the rest of the run. A read-only pass ends. Another pass
// continues, and its record states that its counts are not evidence.
func (h *keyHints) invalidate(what string) error {
	h.mu.Lock()
	first := !h.off
	if first {
		h.off, h.wrong, h.pending = true, what, nil
	}
	used := h.decided > 0
	h.mu.Unlock()
	if first {
		h.logger.Warn("ciphertext headers disagree with KMS; from now on KMS is asked "+
			"about every slot", zap.String("why", what))
	}
	if h.readOnly && used {
		return &HeaderError{What: what}
	}
	return nil
}

// disable stops the use of hints for verdicts.
func (h *keyHints) disable() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.exact = true
}

// check asks KMS about the rest of the sample, with a number of workers.
func (h *keyHints) check(ctx context.Context, workers int, asker Decider) error {
	h.mu.Lock()
	rest := h.pending.lowest(h.due())
	h.checked, h.pending = h.checked+int64(len(rest)), nil
	h.mu.Unlock()
	var pool errgroup.Group
	pool.SetLimit(workers)
	for _, k := range rest {
		pool.Go(func() error {
			actual, err := asker.Decide(ctx, k.subject)
			if err != nil {
				return err
			}
			return h.compare(k.subject, k.verdict, actual.seenBy(k.subject.readOnly))
		})
	}
	err := pool.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.agree = err == nil && h.wrong == ""
	return err
}

// rank returns the random position of a slot. It does not depend on the order in which slots
// are decided.
func (h *keyHints) rank(s Subject) uint64 {
	x := mix(h.salt, s.class.target)
	x = mix(x, string(s.ref))
	x = mix(x, s.slot.Path)
	end := s.slot.Blob[len(s.slot.Blob)-16:] // random in every blob
	return scramble(scramble(x^binary.LittleEndian.Uint64(end)) ^
		binary.LittleEndian.Uint64(end[8:]))
}

// mix mixes a text into x, eight bytes at a time.
func mix(x uint64, text string) uint64 {
	x ^= uint64(len(text))
	for ; len(text) >= 8; text = text[8:] {
		x = scramble(x ^ binary.LittleEndian.Uint64([]byte(text[:8])))
	}
	var last [8]byte
	copy(last[:], text)
	return scramble(x ^ binary.LittleEndian.Uint64(last[:]))
}

// scramble is a bijection. On average, a change of one bit changes half of the bits of the
// result (splitmix64).
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// keep stores a predicted slot for the check at the end. It keeps the slots with the lowest
// ranks, as many as can be due then. It must be called with mu held.
func (h *keyHints) keep(k sampleEntry) {
	if len(h.pending) >= h.sample.Least && k.rank >= h.pending[0].rank {
		return
	}
	// without a copy, the blob would keep the whole page in memory
	k.subject.slot.Blob = slices.Clone(k.subject.slot.Blob)
	heap.Push(&h.pending, k)
	if len(h.pending) > h.sample.Least {
		heap.Pop(&h.pending)
	}
}

// sampleEntry is a slot with the verdict that was predicted.
type sampleEntry struct {
	rank    uint64
	subject Subject
	verdict Verdict
}

// pendingSample is a heap with the highest rank in front.
type pendingSample []sampleEntry

func (k pendingSample) Len() int           { return len(k) }
func (k pendingSample) Less(i, j int) bool { return k[i].rank > k[j].rank }
func (k pendingSample) Swap(i, j int)      { k[i], k[j] = k[j], k[i] }
func (k *pendingSample) Push(x any)        { *k = append(*k, x.(sampleEntry)) }

func (k *pendingSample) Pop() any {
	last := (*k)[len(*k)-1]
	*k = (*k)[:len(*k)-1]
	return last
}

// lowest returns the n entries with the lowest ranks, or all if there are fewer.
func (k pendingSample) lowest(n int) []sampleEntry {
	sorted := slices.SortedFunc(slices.Values(k), func(a, b sampleEntry) int {
		return cmp.Compare(a.rank, b.rank)
	})
	return sorted[:min(max(n, 0), len(sorted))]
}

// keyOfToken returns the ARN of the key that KMS named for a token in text form, or "".
func (h *keyHints) keyOfToken(text string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for token, fact := range h.facts {
		if token.String() == text {
			return fact.key
		}
	}
	return ""
}

// namedTokens maps at most n tokens to their keys. Tokens of source keys are preferred.
func (h *keyHints) namedTokens(n int) map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	named := map[string]string{}
	for _, sources := range []bool{true, false} {
		for token, fact := range h.facts {
			if len(named) < n && h.keys.IsSource(fact.key) == sources {
				named[token.String()] = fact.key
			}
		}
	}
	return named
}
