package rotate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// largeObjects is a target of large objects, which pages list without content. It counts the
// bytes of loaded objects that have no outcome yet.
type largeObjects struct {
	budget *scan.MemoryBudget
	sizes  []int64
	blob   func(i int) []byte

	mu            sync.Mutex
	held, most    int64
	loaded        map[scan.Ref]int // loads whose memory was not released
	tries         map[scan.Ref]int
	releasedEarly int // objects released before they were written
}

func (s *largeObjects) Partitions(context.Context) ([]scan.Partition, error) {
	return []scan.Partition{{Name: "all", Spec: json.RawMessage("{}")}}, nil
}

func (s *largeObjects) Page(
	context.Context, scan.Partition, scan.Cursor,
) (page scan.Page, err error) {
	for i := range s.sizes {
		page.Items = append(page.Items, scan.Item{Ref: scan.Ref(fmt.Sprint(i))})
	}
	page.Last = true
	return page, nil
}

func (s *largeObjects) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	var i int
	if _, err := fmt.Sscan(string(ref), &i); err != nil {
		return scan.Item{}, err
	}
	give, err := s.budget.Acquire(ctx, s.sizes[i])
	if err != nil {
		return scan.Item{}, err
	}
	s.hold(ref, s.sizes[i], 1)
	return scan.Item{
		Ref:     ref,
		Payload: &scan.Object{Key: string(ref), Body: s.blob(i), Size: s.sizes[i]},
		Release: func() {
			s.hold(ref, -s.sizes[i], -1)
			give()
		},
	}, nil
}

func (s *largeObjects) hold(ref scan.Ref, bytes int64, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded[ref] += times
	s.held += bytes
	s.most = max(s.most, s.held)
}

// Replace reports every second object as changed at first, so that it is read again.
func (s *largeObjects) Replace(_ context.Context, changes []scan.Change) []scan.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		s.tries[change.Item.Ref]++
		if s.loaded[change.Item.Ref] != 1 {
			s.releasedEarly++
		}
		if s.tries[change.Item.Ref] == 1 && change.Item.Ref[len(change.Item.Ref)-1]%2 == 0 {
			results[i].Err = scan.ErrChanged
		}
	}
	return results
}

// newLargeObjects returns 200 objects, of which every 50th needs the complete budget and every
// third has a slot that fails.
func newLargeObjects(blob []byte, size, budget int64) *largeObjects {
	s := &largeObjects{
		budget: scan.NewMemoryBudget(budget),
		tries:  map[scan.Ref]int{},
		loaded: map[scan.Ref]int{},
	}
	for i := range 200 {
		s.sizes = append(s.sizes, size)
		if i%50 == 0 {
			s.sizes[i] = budget
		}
	}
	s.blob = func(i int) []byte {
		if i%3 == 0 {
			return []byte{} // a slot that fails
		}
		return blob
	}
	return s
}

// TestBodiesStayWithinMemoryBudget: with any number of workers, the bodies in memory stay within
// the memory budget. This includes objects that are read again, objects without a slot, objects
// that need the complete budget, and passes that write nothing.
func TestBodiesStayWithinMemoryBudget(t *testing.T) {
	const size, most = 8 << 20, 64 << 20
	cloud := newCloud(t)
	source := cloud.key(t, fakekms.Symmetric)
	keys := cloud.resolve(t, reencrypt.KeyRequest{
		Destination: cloud.key(t, fakekms.Symmetric),
		Sources:     []string{source},
	})
	blob := cloud.encrypt(t, source, "plaintext", nil)
	template, err := ciphertext.Compile(ciphertext.Spec{
		Format: "raw",
		Kind:   ciphertext.Objects,
		Slots:  []ciphertext.SlotSpec{{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	raw := template.Bind(ciphertext.Keys{})
	for _, readOnly := range []bool{false, true} {
		s := newLargeObjects(blob, size, most)
		target := rotate.Target{Name: "target", Lister: s, Format: raw, Batch: 1}
		if !readOnly {
			target.Writer = s
		}
		passes := checkpoint.NewPasses(checkpoint.NewMemory(), "job")
		opened, tracker := openPass(t, passes, rotate.Plan{
			Job:     "job",
			Keys:    keys,
			Targets: []rotate.Target{target},
		})
		b := &testPass{cloud: cloud, keys: keys, memoryLog: newLog(), workers: 64}
		if err := b.rotator(target,
			opened.Pass.Number).Run(t.Context(), tracker, opened.Partitions); err != nil {
			t.Fatal(err)
		}
		totals, err := passes.Totals(t.Context(), opened.Pass)
		if counts := totals["target"]; err != nil ||
			counts.Slots.Rotated+counts.Slots.Remaining != 133 || counts.Slots.Failed != 67 {
			t.Errorf("read-only %v: %+v, %v", readOnly, counts.Slots, err)
		}
		if s.most > most || s.most < most/2 || s.held != 0 || s.releasedEarly > 0 {
			t.Errorf(
				"read-only %v: at most %d bytes at once, want %d; %d are still held; %d were "+
					"released too early", readOnly, s.most, most, s.held, s.releasedEarly,
			)
		}
		if _, ok := s.budget.TryAcquire(most); !ok {
			t.Errorf("read-only %v: memory budget is lost", readOnly)
		}
	}
}
