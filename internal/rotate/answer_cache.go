package rotate

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"rotator/internal/ciphertext"
)

// How much is remembered of the answers of KMS: about 18,000 blobs of 200 bytes.
const (
	sharedMost    = 8 << 20 // bytes
	sharedPerSlot = 256     // bytes beside the blob, roughly
	// sharedFew is as much as is worth it where so much was remembered for nothing.
	sharedFew = 1 << 20
)

// question is a digest of all that the verdict on a slot depends on in one run: its
// blob and its contexts. Two slots with one question get one answer.
type question [sha256.Size]byte

func questionOf(slot ciphertext.Slot) question {
	var room [1024]byte // mostly enough, so that nothing is allocated
	text := appendPart(room[:0], slot.Blob)
	for _, context := range []map[string]string{slot.Context, slot.DestinationContext} {
		text = appendContext(text, context)
	}
	return sha256.Sum256(text)
}

// appendContext appends an encryption context, the same text for the same context.
func appendContext(text []byte, context map[string]string) []byte {
	var few [8]string
	names := few[:0]
	for name := range context {
		names = append(names, name)
	}
	slices.Sort(names)
	text = binary.BigEndian.AppendUint32(text, uint32(len(context)))
	for _, name := range names {
		text = appendPart(appendPart(text, name), context[name])
	}
	return text
}

// appendPart appends a part of a question so that it is clear where it ends.
func appendPart[T string | []byte](text []byte, part T) []byte {
	return append(binary.BigEndian.AppendUint32(text, uint32(len(part))), part...)
}

// shared asks KMS once about what many slots have in common: one data key that is
// stored with every record it encrypts. What it hands out KMS has said in this process,
// of that very blob with those very contexts; it keeps no more than sharedMost bytes,
// those that were used last.
type shared struct {
	ask    func(context.Context, ciphertext.Slot) (verdict, error)
	served atomic.Int64 // slots that cost no request

	mu      sync.Mutex
	bytes   int
	most    int                        // sharedFew once sharedMost was filled for nothing; until something is shared
	known   map[question]*list.Element // of *remembered
	recent  *list.List                 // the one used last in front
	flights map[question]*flight
}

type remembered struct {
	question
	verdict
}

func (r *remembered) size() int { return len(r.blob) + sharedPerSlot }

// flight is a question that KMS is being asked.
type flight struct {
	landed  chan struct{}
	verdict verdict
	lasting bool // verdict holds for whoever asks the same
}

func newShared(ask func(context.Context, ciphertext.Slot) (verdict, error)) *shared {
	return &shared{ask: ask, known: map[question]*list.Element{}, recent: list.New(), most: sharedMost, flights: map[question]*flight{}}
}

// decide is ask, or what ask said of another slot with the same question.
func (s *shared) decide(ctx context.Context, q question, slot ciphertext.Slot) (verdict, error) {
	if slot.Refused != nil {
		return s.ask(ctx, slot)
	}
	s.mu.Lock()
	if at, ok := s.known[q]; ok {
		s.recent.MoveToFront(at)
		s.most = sharedMost
		v := at.Value.(*remembered).verdict
		s.mu.Unlock()
		s.served.Add(1)
		return v, nil
	}
	f, ok := s.flights[q]
	if !ok {
		f = &flight{landed: make(chan struct{})}
		s.flights[q] = f
		s.mu.Unlock()
		return s.fly(ctx, q, f, slot)
	}
	s.mu.Unlock()
	select {
	case <-f.landed:
	case <-ctx.Done():
		return verdict{}, ctx.Err()
	}
	if !f.lasting {
		return s.ask(ctx, slot)
	}
	s.served.Add(1)
	return f.verdict, nil
}

// fly asks for all who wait. Failures are not shared: they may pass, or have been of
// this caller alone.
func (s *shared) fly(ctx context.Context, q question, f *flight, slot ciphertext.Slot) (verdict, error) {
	v, err := s.ask(ctx, slot)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flights, q)
	if f.lasting = err == nil && v.outcome != Failed && v.key != ""; f.lasting {
		f.verdict = v
		s.remember(&remembered{q, v})
	}
	close(f.landed)
	return v, err
}

// remember wants mu.
func (s *shared) remember(r *remembered) {
	s.known[r.question] = s.recent.PushFront(r)
	s.bytes += r.size()
	if s.bytes > s.most && s.served.Load() == 0 {
		s.most = sharedFew
	}
	for s.bytes > s.most {
		last := s.recent.Remove(s.recent.Back()).(*remembered)
		delete(s.known, last.question)
		s.bytes -= last.size()
	}
}
