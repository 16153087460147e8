package rotate_test

import (
	"errors"
	"fmt"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/rotate"
)

// TestStopsEarlyOverRuns: the first slots of a rule are those of the whole pass. A run that
// resumes the pass counts the slots that were saved before. Successes are counted by rule,
// including those of a retry.
func TestStopsEarlyOverRuns(t *testing.T) {
	cloud := newCloud(t)
	request := reencrypt.KeyRequest{Destination: cloud.key(t, "SYMMETRIC_DEFAULT"),
		Sources: []string{cloud.key(t, "SYMMETRIC_DEFAULT")}}
	b := &testPass{cloud: cloud, keys: cloud.resolve(t, request), target: newMemory(),
		format: format(t, map[string]string{"app": "pay"}, nil), stopAfter: []int{25},
		store: checkpoint.NewMemory()}
	for i := range 60 {
		b.target.put(fmt.Sprintf("%02d", i),
			cloud.encrypt(t, request.Sources[0], "x", map[string]string{"app": "shop"}))
	}
	saved := int64(0)
	for range 3 {
		most, before := 25-saved, cloud.faults.Counts()["kms:ReEncrypt"]
		counts, err := b.run(t)
		alike := (*rotate.AlikeError)(nil)
		if !errors.As(err, &alike) || stopKind(t, err) != retry.StopEarly ||
			alike.Reason != "source-other-context" || alike.Slots != 25 || alike.Entry != 0 {
			t.Fatalf("stopped for %v", err)
		}
		asked := int64(cloud.faults.Counts()["kms:ReEncrypt"] - before)
		saved = counts.Rules["slots[0]"].Alike["failed/source-other-context"]
		if asked > 2*most || counts.Slots.Failed != saved {
			t.Errorf("%d requests, %d slots saved, %d counted", asked, counts.Slots.Failed, saved)
		}
	}
	if saved == 0 {
		t.Error("no page was saved")
	}
	b.stopAfter = nil
	if counts, err := b.run(t); err != nil || counts.Slots.Failed != 60 {
		t.Fatalf("counts %+v, error %v", counts.Slots, err)
	}
	for i := range 10 { // the application repairs some items, and a retry moves them
		b.target.put(fmt.Sprintf("%02d", i),
			cloud.encrypt(t, request.Sources[0], "x", map[string]string{"app": "pay"}))
	}
	last, err := b.passes.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	target := rotate.Target{Name: "target", Lister: b.target, Writer: b.target, Format: b.format,
		Batch: 3}
	err = b.rotator(target, last.Number).Retry(t.Context(), b.passes, last, &checkpoint.Observer{})
	if err != nil {
		t.Fatal(err)
	}
	totals, err := b.passes.Totals(t.Context(), last)
	counts := totals["target"]
	if err != nil || counts.Rules["slots[0]"].Good != 10 || counts.Slots.Rotated != 10 ||
		!rotate.Accounted(counts) {
		t.Errorf("after the retry: %+v, %v", counts, err)
	}
}
