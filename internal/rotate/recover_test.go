package rotate_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// evidenceCase is a line of the audit log that a second process reads.
type evidenceCase struct {
	name     string
	identity string
	to       map[string]string // the destination context of the second process
	trace    func(rotate.Trace) rotate.Trace
	want     checkpoint.SlotCounts
	requests int64 // maximum; -1 means at least n
}

// evidenceCases: a first process moved n slots in the pass, to the context same.
func evidenceCases(n int64, pass checkpoint.Pass, same map[string]string) []evidenceCase {
	other := checkpoint.Pass{ID: "b", Fingerprint: "f"}
	otherJob := checkpoint.Pass{ID: "a", Fingerprint: "g"}
	asIs := func(trace rotate.Trace) rotate.Trace { return trace }
	changed := func(change func(*rotate.Record)) func(rotate.Trace) rotate.Trace {
		return func(trace rotate.Trace) rotate.Trace {
			trace.Kept = true
			change(&trace.Record)
			return trace
		}
	}
	rotated := checkpoint.SlotCounts{Seen: n, Rotated: n}
	current := checkpoint.SlotCounts{Seen: n, Current: n}
	return []evidenceCase{
		{"confirmed", pass.Identity(), same, changed(func(*rotate.Record) {}), rotated, 0},
		{"a hint", pass.Identity(), same, asIs, rotated, n},
		{"another pass", other.Identity(), same, changed(func(*rotate.Record) {}), current, -1},
		{"another job", otherJob.Identity(), same, changed(func(*rotate.Record) {}), current, -1},
		{"a pass of an older version", "", same, changed(func(*rotate.Record) {}), current, -1},
		{"another destination context", pass.Identity(), map[string]string{"tenant": "a", "v": "2"},
			changed(func(*rotate.Record) {}), checkpoint.SlotCounts{Seen: n, Foreign: n}, -1},
		{"a line of an older version", pass.Identity(), same,
			changed(func(r *rotate.Record) { r.Binding = "" }), current, -1},
		{"another number of the pass", pass.Identity(), same,
			changed(func(r *rotate.Record) { r.Pass++ }), current, -1},
		{"another source key", pass.Identity(), same,
			changed(func(r *rotate.Record) { r.From = r.To }), current, -1},
		{"another item", pass.Identity(), same,
			changed(func(r *rotate.Record) { r.Ref += "x" }), current, -1},
		{"another blob", pass.Identity(), same,
			changed(func(r *rotate.Record) { r.After = strings.Repeat("0", 64) }), current, -1},
	}
}

// TestLogIsEvidence: a line that an earlier process wrote to the audit log makes a slot count as
// rotated only if the line is bound to this pass, to the item and to the context that the slot
// must have. KMS is asked too, unless the checkpoint confirms the line.
func TestLogIsEvidence(t *testing.T) {
	const n = 12
	pass := checkpoint.Pass{ID: "a", Fingerprint: "f"}
	same := map[string]string{"tenant": "a"}
	for _, test := range evidenceCases(n, pass, same) {
		t.Run(test.name, func(t *testing.T) {
			b := moved(t, n, pass.Identity(), same)
			lines := map[scan.Ref]rotate.Record{}
			for _, r := range b.memoryLog.records {
				lines[r.Ref] = r
			}
			b.memoryLog = newLog()
			b.memoryLog.find = func(ref scan.Ref, after string) (rotate.Trace, bool) {
				return test.trace(rotate.Trace{Record: lines[ref], Written: true}), true
			}
			b.identity, b.format, b.exact = test.identity, format(t, same, test.to), true
			counts, err := b.run(t)
			if err != nil || counts.Slots != test.want {
				t.Errorf("%v: %+v, want %+v", err, counts.Slots, test.want)
			}
			sent, _, _ := b.engine.Requests()
			if test.requests < 0 && sent < n || test.requests >= 0 && sent != test.requests {
				t.Errorf("%d requests, want %d", sent, test.requests)
			}
		})
	}
}

// moved returns a test pass whose slots were moved to a context by a pass with an identity.
func moved(t *testing.T, n int, identity string, context map[string]string) *testPass {
	t.Helper()
	cloud := newCloud(t)
	source, destination := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	b := &testPass{
		cloud:    cloud,
		target:   newMemory(),
		format:   format(t, context, context),
		identity: identity,
	}
	b.keys = cloud.resolve(t,
		reencrypt.KeyRequest{Destination: destination, Sources: []string{source}})
	for i := range n {
		b.target.put(fmt.Sprint("item-", i),
			cloud.encrypt(t, source, fmt.Sprint("secret ", i), context))
	}
	if counts, err := b.run(t); err != nil || counts.Slots.Rotated != int64(n) {
		t.Fatalf("the first process: %v, %+v", err, counts.Slots)
	}
	return b
}

// TestKMSDecidesAboutHints: a line that is bound to this pass but not recorded
// in the checkpoint does not decide about a slot; KMS does.
func TestKMSDecidesAboutHints(t *testing.T) {
	const n = 12
	context := map[string]string{"tenant": "a"}
	identity := checkpoint.Pass{ID: "a"}.Identity()
	b := moved(t, n, identity, context)
	// The destination key of that pass is the source key of the next. A process with the checkpoint
	// binds lines to the pass that report each blob as moved.
	moves := maps.Collect(func(yield func(string, rotate.Record) bool) {
		for _, r := range b.memoryLog.records {
			yield(r.After, r)
		}
	})
	third := b.cloud.key(t, fakekms.Symmetric)
	b.keys = b.cloud.resolve(t,
		reencrypt.KeyRequest{Destination: third, Sources: []string{b.keys.Destination.ARN}})
	b.memoryLog = newLog()
	b.memoryLog.find = func(_ scan.Ref, after string) (rotate.Trace, bool) {
		r, ok := moves[after]
		r.From, r.To = b.keys.Sources[0].ARN, third
		r.Binding = rotate.Bind(identity, r, context)
		return rotate.Trace{Record: r, Written: true}, ok
	}
	counts, err := b.run(t)
	if want := (checkpoint.SlotCounts{Seen: n, Rotated: n}); err != nil || counts.Slots != want {
		t.Errorf("%v: %+v, want %+v", err, counts.Slots, want)
	}
	if len(b.memoryLog.records) != n {
		t.Errorf("%d slots were written, want %d", len(b.memoryLog.records), n)
	}
	for i := range n {
		blob := b.target.blob(fmt.Sprint("item-", i))
		if _, key, err := b.cloud.fake.Decrypt("", blob, context); err != nil || key != third {
			t.Errorf("item %d is under %s, %v", i, key, err)
		}
	}
}
