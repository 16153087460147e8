package rotate_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// TestContendedItemsDelayNoOthers: the store refuses writes to more items than there are workers,
// because of contention. Only these items wait. All other items are written meanwhile.
func TestContendedItemsDelayNoOthers(t *testing.T) {
	cloud := newCloud(t)
	source, destination := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	const contended, others = 18, 20
	target := newMemory()
	for i := range contended + others {
		name := fmt.Sprintf("contended %02d", i)
		if i >= contended {
			name = fmt.Sprintf("other %02d", i)
		}
		target.put(name, cloud.encrypt(t, source, name, nil))
	}
	var mu sync.Mutex
	written, refused := 0, map[scan.Ref]bool{}
	target.refuse = func(change scan.Change) error {
		mu.Lock()
		defer mu.Unlock()
		ref := change.Item.Ref
		switch {
		case strings.HasPrefix(string(ref), "other"):
			written++
		case written < others:
			if change.Unbatched != refused[ref] {
				t.Errorf("%s: in a separate request: %v, although refused before: %v", ref,
					change.Unbatched,
					refused[ref])
			}
			refused[ref] = true
			return fmt.Errorf("write: %w", scan.ErrContended)
		}
		return nil
	}
	b := &testPass{
		cloud:  cloud,
		target: target,
		format: format(t, nil, nil),
		keys: cloud.resolve(t, reencrypt.KeyRequest{
			Destination: destination,
			Sources:     []string{source},
		}),
	}
	counts, err := b.run(t)
	// The last contended items may be read only after the others are written.
	if err != nil || counts.Slots.Rotated != contended+others || len(refused) < contended/2 {
		t.Errorf("%v: %+v, %d items refused at first; want all %d rotated, most of %d refused",
			err, counts.Slots, len(refused), contended+others, contended)
	}
}

// filled puts n items under a key into m and returns it as a target.
func filled(
	t *testing.T, name string, m *memoryTarget, cloud *cloud, key string, n int,
) rotate.Target {
	t.Helper()
	for i := range n {
		item := fmt.Sprintf("%03d", i)
		m.put(item, cloud.encrypt(t, key, item, nil))
	}
	return rotate.Target{Name: name, Lister: m, Writer: m, Format: format(t, nil, nil), Batch: 3}
}

// throttled accepts a number of writes per second since a time, and counts them.
func throttled(perSecond float64, since time.Time, count *atomic.Int64) func(scan.Change) error {
	return func(scan.Change) error {
		if float64(count.Load()) >= time.Since(since).Seconds()*perSecond {
			return &smithy.GenericAPIError{Code: "ProvisionedThroughputExceededException"}
		}
		count.Add(1)
		return nil
	}
}

// TestThrottlingOfOneTarget: if a target throttles writes, only the writes to that target become
// slower. No slot fails, and neither KMS nor another target is slowed down.
func TestThrottlingOfOneTarget(t *testing.T) {
	cloud := newCloud(t)
	source, destination := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	const items, perSecond = 150, 50
	var slow atomic.Int64
	began := time.Now()
	memories := []*memoryTarget{newMemory(), newMemory()}
	targets := []rotate.Target{
		filled(t, "slow", memories[0], cloud, source, items),
		filled(t, "other", memories[1], cloud, source, items),
	}
	memories[0].refuse = throttled(perSecond, began, &slow)
	var left atomic.Int64 // items of the slow target that are left when the other is done
	var others atomic.Int64
	memories[1].refuse = func(scan.Change) error {
		if others.Add(1) == items {
			left.Store(items - slow.Load())
		}
		return nil
	}
	passes := checkpoint.NewPasses(checkpoint.NewMemory(), "job")
	keys := cloud.resolve(t, reencrypt.KeyRequest{
		Destination: destination,
		Sources:     []string{source},
	})
	plan := rotate.Plan{Job: "job", Keys: keys, Targets: targets}
	opened, tracker := openPass(t, passes, plan)
	engine := rotate.New(rotate.Config{
		Targets:   targets,
		Keys:      keys,
		KMS:       reencrypt.NewKMS(cloud.client.ReEncrypt, keys.Destination, nil),
		Rate:      100000,
		Workers:   8,
		MaxOutage: 20 * time.Second,
		Settle:    time.Second,
		Pass:      1,
		Recorder:  newLog(),
	})
	if err := engine.Run(t.Context(), tracker, opened.Partitions); err != nil {
		t.Fatal(err)
	}
	totals, err := passes.Totals(t.Context(), opened.Pass)
	if err != nil || totals["slow"].Slots.Rotated != items ||
		totals["other"].Slots.Rotated != items {
		t.Errorf("%v: %+v", err, totals)
	}
	if left.Load() < items/3 {
		t.Errorf(
			"the target that is not throttled was done when only %d of %d were left of the other",
			left.Load(), items,
		)
	}
	if _, _, rate := engine.Requests(); rate != 100000 {
		t.Errorf("KMS was slowed down to %v requests per second", rate)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("%d items took %v at %d per second", items, took, perSecond)
	}
}
