package rotate_test

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
)

// ledgerOf returns the only entry in the ledger of the last pass of b.
func ledgerOf(t *testing.T, b *testPass) checkpoint.LedgerEntry {
	t.Helper()
	last, err := b.passes.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var entries []checkpoint.LedgerEntry
	for chunk, err := range b.passes.Ledger(t.Context(), last) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, chunk.Entries...)
	}
	if len(entries) != 1 {
		t.Fatalf("the ledger has %d entries: %+v", len(entries), entries)
	}
	return entries[0]
}

// refusedSlot is a slot that KMS decrypts neither under a source key nor under
// the destination key, and its expected ledger entry.
type refusedSlot struct {
	name                 string
	under                string // "old", "second", "new", "third"; "" for bytes that are not a blob
	outcome, reason, key string // key as under, "" for none
}

// refusedJob is a job and the slots with the ledger entries that it must give them.
type refusedJob struct {
	name        string
	sources     int // the number of source keys; 0 means any
	from        fakekms.KeySpec
	destination fakekms.KeySpec
	slots       []refusedSlot
}

func refusedJobs() []refusedJob {
	const symmetric = fakekms.Symmetric
	source := refusedSlot{"source", "old", "failed", "source-other-context", "old"}
	moved := refusedSlot{"destination", "new", "failed", "destination-other-context", "new"}
	third := refusedSlot{"third", "third", "foreign", "foreign-key", ""}
	junk := refusedSlot{"junk", "", "failed", "invalid-ciphertext", ""}
	second := refusedSlot{"second source", "second", "failed", "source-other-context", "second"}
	unnamed := refusedSlot{"under any key", "old", "failed", "source-other-context", ""}
	unknown := refusedSlot{"symmetric", "third", "failed", "invalid-ciphertext", ""}
	named := refusedSlot{"symmetric", "third", "foreign", "foreign-key", ""}
	return []refusedJob{
		{"one source", 1, symmetric, symmetric, []refusedSlot{source, moved, third, junk}},
		{"two sources", 2, symmetric, symmetric,
			[]refusedSlot{source, second, moved, third, junk}},
		{"any source", 0, symmetric, symmetric, []refusedSlot{unnamed, moved, junk}},
		{"to RSA", 1, symmetric, fakekms.RSA2048, []refusedSlot{source, third, junk}},
		{"to SM2", 1, symmetric, fakekms.SM2, []refusedSlot{source, third, junk}},
		{"two sources to RSA", 2, symmetric, fakekms.RSA2048,
			[]refusedSlot{source, second, third, junk}},
		{"any source to RSA", 0, symmetric, fakekms.RSA2048, []refusedSlot{unnamed, junk}},
		{"any source to SM2", 0, symmetric, fakekms.SM2, []refusedSlot{unnamed, junk}},
		{"from RSA", 1, fakekms.RSA2048, symmetric, []refusedSlot{moved, named, junk}},
		{"from SM2", 1, fakekms.SM2, symmetric, []refusedSlot{moved, named, junk}},
		{"from RSA to SM2", 1, fakekms.RSA2048, fakekms.SM2, []refusedSlot{unknown, junk}},
		{"from SM2 to RSA", 1, fakekms.SM2, fakekms.RSA2048, []refusedSlot{unknown, junk}},
	}
}

// TestRefusedSlots: KMS compares the key before it decrypts. If KMS cannot decrypt a slot with the
// contexts of the job, the errors of the requests therefore determine its reason and its key.
// This holds for runs and audits, exact or not.
func TestRefusedSlots(t *testing.T) {
	for _, job := range refusedJobs() {
		for _, exact := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, exact %v", job.name, exact), func(t *testing.T) {
				for _, slot := range job.slots {
					job.try(t, slot, exact)
				}
			})
		}
	}
}

func (j refusedJob) try(t *testing.T, slot refusedSlot, exact bool) {
	cloud := newCloud(t)
	request := reencrypt.KeyRequest{Any: j.sources == 0, SourceAlgorithm: algorithmOf(j.from),
		DestinationAlgorithm: algorithmOf(j.destination)}
	keys := map[string]string{"old": cloud.key(t, j.from), "second": cloud.key(t, j.from),
		"new": cloud.key(t, j.destination), "third": cloud.key(t, fakekms.Symmetric)}
	request.Destination = keys["new"]
	request.Sources = []string{keys["old"], keys["second"]}[:j.sources]
	blob := bytes.Repeat([]byte{7}, 200)
	if slot.under != "" {
		blob = cloud.encrypt(t, keys[slot.under], "x", map[string]string{"region": "eu"})
	}
	from := map[string]string{"region": "us"}
	if j.from != fakekms.Symmetric {
		from = nil
	}
	target := newMemory()
	target.put("item", blob)
	b := &testPass{cloud: cloud, keys: cloud.resolve(t, request), target: target, exact: exact,
		format: format(t, from, map[string]string{"region": "us", "v": "2"}),
		store:  checkpoint.NewMemory()}
	if _, err := b.run(t); err != nil {
		t.Fatalf("%s: %v", slot.name, err)
	}
	want := refusedSlot{slot.name, slot.under, slot.outcome, slot.reason, keys[slot.key]}
	if e := ledgerOf(t, b); e.Outcome != want.outcome || e.Reason != want.reason ||
		e.Key != want.key {
		t.Errorf("%s: %s, %s under %q, want %+v: %s",
			slot.name, e.Outcome, e.Reason, e.Key, want, e.Detail)
	}
	if !bytes.Equal(target.blob("item"), blob) {
		t.Errorf("%s was written", slot.name)
	}
	b.inspect, b.store = true, nil
	counts, err := b.run(t)
	named := counts.Keys[want.key].Slots == 1 || want.key == ""
	if n := counts.Reasons[want.outcome+"/"+want.reason]; err != nil || n != 1 || !named {
		t.Errorf("%s: an audit counts %+v, %v, want %+v", slot.name, counts, err, want)
	}
}

// TestPlaintextTooLong: an asymmetric key cannot encrypt a plaintext that is longer than the key
// allows. Such a slot has a separate reason and does not move. A plaintext of the maximum
// length moves.
func TestPlaintextTooLong(t *testing.T) {
	cloud := newCloud(t)
	for _, test := range []struct {
		from, to fakekms.KeySpec
		longest  int
	}{
		{fakekms.Symmetric, fakekms.RSA2048, 190},
		{fakekms.Symmetric, fakekms.SM2, 1024},
		{fakekms.RSA3072, fakekms.RSA2048, 190},
		{fakekms.SM2, fakekms.RSA2048, 190},
	} {
		t.Run(fmt.Sprintf("%s to %s", test.from, test.to), func(t *testing.T) {
			request := reencrypt.KeyRequest{
				Destination:          cloud.key(t, test.to),
				DestinationAlgorithm: algorithmOf(test.to),
				Sources:              []string{cloud.key(t, test.from), cloud.key(t, test.from)},
				SourceAlgorithm:      algorithmOf(test.from),
			}
			target := newMemory()
			seal := func(n int) []byte {
				return cloud.encrypt(t, request.Sources[1], strings.Repeat("x", n), nil)
			}
			long := seal(test.longest + 1)
			target.put("longest", seal(test.longest))
			target.put("longer", long)
			target.put("junk", bytes.Repeat([]byte{7}, 256))
			b := &testPass{cloud: cloud, keys: cloud.resolve(t, request), target: target,
				format: format(t, nil, nil), store: checkpoint.NewMemory()}
			counts, err := b.run(t)
			want := map[string]int64{"failed/plaintext-too-long": 1, "failed/invalid-ciphertext": 1}
			if err != nil || counts.Slots.Rotated != 1 || !maps.Equal(counts.Reasons, want) {
				t.Errorf("%+v, %v, %v, want one rotated and %v", counts.Slots, counts.Reasons, err,
					want)
			}
			if !bytes.Equal(target.blob("longer"), long) {
				t.Error("the slot with the longer plaintext was written")
			}
		})
	}
}
