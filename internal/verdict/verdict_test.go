package verdict

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	oldKey   = "arn:aws:kms:us-east-1:111122223333:key/77010183-f077-4e9d-b8fa-44bd8b8c4ae4"
	newKey   = "arn:aws:kms:us-east-1:111122223333:key/0b7c9a55-2f0c-4f0f-9d0c-0c3d7e1f2a3b"
	otherKey = "arn:aws:kms:us-east-1:111122223333:key/9c1d4a51-1111-4c1e-8a51-51b3f2c7d9e0"
	blob     = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// at returns a time on the day of the tests.
func at(clock string) time.Time {
	t, err := time.Parse(time.RFC3339, "2026-11-29T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return t
}

// found returns the figures of a target in which all slots are under the new key.
func found(name string, n int64) Target {
	return Target{
		Name:  name,
		Slots: Slots{Seen: n, Current: n},
		Keys:  map[string]KeySlots{newKey: {Slots: n}},
	}
}

// clean is the input for a key on which nothing depends: pass 1 moved everything, pass 2 found
// nothing to move, and read-only pass 1 confirmed it.
func clean() Input {
	moved := found("customers", 0)
	moved.Slots = Slots{Seen: 20_000, Rotated: 20_000}
	moved.Keys = map[string]KeySlots{oldKey: {Slots: 20_000, Moved: 20_000}}
	return Input{
		Now:         at("12:00:00"),
		MaxAge:      24 * time.Hour,
		JobFile:     "job.yaml",
		Destination: newKey,
		Key:         Key{ARN: oldKey, Given: "alias/demo-old", Symmetric: true, State: "Enabled"},
		Passes: []Pass{
			{
				Number:   1,
				Started:  at("08:00:00"),
				Ended:    at("09:00:00"),
				Complete: true,
				Targets:  []Target{moved, found("vault", 2_000)},
			},
			{
				Number:   1,
				ReadOnly: true,
				Command:  "verify",
				Started:  at("10:00:00"),
				Ended:    at("10:30:00"),
				Complete: true,
				Sources:  []string{otherKey, oldKey},
				Targets:  []Target{found("customers", 20_000), found("vault", 2_000)},
			},
		},
	}
}

// proof returns the pass on which the verdict of clean rests.
func proof(in *Input) *Pass { return &in.Passes[1] }

// under adds n slots under the key to a target of a pass.
func under(p *Pass, target int, n int64) {
	t := &p.Targets[target]
	t.Slots.Seen += n
	t.Slots.Remaining += n
	t.Keys[oldKey] = KeySlots{Slots: t.Keys[oldKey].Slots + n, Moved: t.Keys[oldKey].Moved}
}

// failedSlots adds n failed slots of an origin to the first target of a pass.
func failedSlots(p *Pass, origin string, n int64) {
	t := &p.Targets[0]
	t.Slots.Seen += n
	t.Slots.Failed += n
	if t.Origins == nil {
		t.Origins = map[string]int64{}
	}
	t.Origins[origin] += n
}

// partial returns a stopped run that began after the proof.
func partial() Pass {
	return Pass{Number: 2, Started: at("11:00:00"), Ended: at("11:10:00"),
		Targets: []Target{found("customers", 100), found("vault", 0)}}
}

// disabled sets the state of the key and shows all calls since then.
func disabled(in *Input) {
	in.Key.State, in.Key.Disabled = StateDisabled, at("10:40:00").AddDate(0, 0, -21)
	for i := range in.Passes {
		in.Passes[i].Started = in.Passes[i].Started.AddDate(0, 0, -21)
		in.Passes[i].Ended = in.Passes[i].Ended.AddDate(0, 0, -21)
	}
	in.Trail = Trail{Asked: at("12:00:00"), From: in.Key.Disabled.Add(-time.Hour)}
}

// waiver returns a waiver for the slot in failing.
func waiver() Waiver {
	return Waiver{Target: "customers", Ref: `{"id":{"S":"7"}}`, Path: "ssn", Blob: blob,
		Reason: "test row", By: "j.doe", Until: at("00:00:00").AddDate(0, 1, 0), Line: 2}
}

// failing adds a failed slot under the key that a waiver can name.
func failing(p *Pass) {
	failedSlots(p, oldKey, 1)
	p.Exceptions = append(p.Exceptions, Exception{Target: "customers", Ref: `{"id":{"S":"7"}}`,
		Path: "ssn", Blob: blob, Origin: oldKey})
}

const (
	notProvenText = "alias/demo-old is not yet proven to be unused. "
	basis         = "None of the 22,000 ciphertexts in 2 places depends on it, as of " +
		"2026-11-29T10:00:00Z, when read-only pass 1 began"
)

// decision is one row of the table, with the input that leads to it.
type decision struct {
	name     string
	change   func(*Input)
	code     Code
	reason   string
	sentence string
}

func decisionsCannot() []decision {
	return []decision{
		{"the destination too", func(in *Input) { in.Destination = oldKey }, Cannot, "same-key",
			"alias/demo-old stays in use. It is also the destination key of this job."},
		{"a refresh", func(in *Input) { in.Mode = "refresh" }, Cannot, "same-key",
			"alias/demo-old stays in use. This job moves its ciphertexts to its newest key " +
				"material."},
		{"a change of context", func(in *Input) { in.Mode = "context" }, Cannot, "same-key",
			"alias/demo-old stays in use. This job changes the encryption context of its " +
				"ciphertexts."},
		{"scheduled for deletion, with slots", func(in *Input) {
			in.Key.State, in.Key.Deletion = StatePendingDeletion, at("00:00:00").AddDate(0, 0, 9)
			under(proof(in), 0, 3)
			failedSlots(proof(in), oldKey, 2)
		}, Cannot, "deleting", "alias/demo-old is scheduled for deletion on 2026-12-08, and " +
			"5 ciphertexts depend on it. Cancel the deletion."},
		{"scheduled for deletion, with a failed slot", func(in *Input) {
			in.Key.State = StatePendingDeletion
			failedSlots(proof(in), oldKey, 1)
		}, Cannot, "deleting", "alias/demo-old is scheduled for deletion, and 1 ciphertext " +
			"depends on it. Cancel the deletion."},
		{"refused calls", func(in *Input) {
			disabled(in)
			in.Trail.Callers = []Caller{{
				ARN:       "arn:aws:sts::111122223333:role/reporting-batch",
				Operation: "Decrypt", Refused: true, Calls: 14, Last: at("10:00:00"),
			}, {ARN: "arn:aws:sts::111122223333:role/early", Refused: true, Calls: 9,
				Last: in.Key.Disabled.Add(-time.Minute)}}
		}, Cannot, "refused-calls", "alias/demo-old is disabled, and a caller still needs it. " +
			"14 calls have been refused since 2026-11-08. The last one was by " +
			"role/reporting-batch (Decrypt) at 2026-11-29T10:00:00Z."},
		{"slots under it", func(in *Input) {
			under(proof(in), 0, 19_677)
			under(proof(in), 1, 1_973)
		}, Cannot, "remaining", "alias/demo-old cannot be disabled. 21,650 of the 43,650 " +
			"ciphertexts in 2 places depend on it: 19,677 in customers, 1,973 in vault."},
		{"slots under it, and disabled", func(in *Input) {
			disabled(in)
			under(proof(in), 0, 1)
		}, Cannot, "remaining", "alias/demo-old is disabled, but ciphertexts still depend on it. " +
			"1 of the 22,001 ciphertexts in 2 places depends on it: 1 in customers."},
		{"slots under it in the only pass, which stopped", func(in *Input) {
			in.Passes = in.Passes[1:]
			in.Passes[0].Complete = false
			under(&in.Passes[0], 1, 4)
		}, Cannot, "remaining", "alias/demo-old cannot be disabled. 4 of the 22,004 ciphertexts " +
			"that read-only pass 1 read in 2 places depend on it: 4 in vault."},
		{"slots under it after the proof", func(in *Input) {
			in.Passes = append(in.Passes, partial())
			in.Passes[2].Targets[0].Keys[oldKey] = KeySlots{Slots: 2, Moved: 2}
			in.Passes[2].Targets[0].Slots = Slots{Seen: 102, Rotated: 2, Current: 100}
		}, Cannot, "again", "alias/demo-old cannot be disabled. Pass 2 found 2 ciphertexts under " +
			"it after read-only pass 1 had left none there. A writer still uses the key."},
		{"old versions under it", func(in *Input) {
			proof(in).Targets[1].Versions = map[string]int64{oldKey: 1_200, newKey: 9}
		}, Cannot, "versions", "alias/demo-old cannot be disabled. 1,200 old versions of objects " +
			"depend on it: 1,200 in vault."},
	}
}

// decisionsWithoutProof: no pass proves that nothing depends on the key.
func decisionsWithoutProof() []decision {
	return []decision{
		{"no pass", func(in *Input) { in.Passes = nil }, NotProven, "no-look", notProvenText +
			"No pass has read all targets of this job to the end."},
		{"a pass that stopped", func(in *Input) { in.Passes = []Pass{partial()} }, NotProven,
			"no-look", notProvenText + "No pass has read all targets of this job to the end. " +
				"Pass 2 has read 100 ciphertexts so far."},
		{"an incremental pass", func(in *Input) {
			in.Passes = in.Passes[1:]
			in.Passes[0].Incremental = true
		}, NotProven, "no-look", notProvenText + "No pass has read all targets of this job to " +
			"the " +
			"end. Read-only pass 1 read only what had changed since an earlier pass."},
		{"a pass of another job file", func(in *Input) {
			in.Passes = in.Passes[1:]
			in.Passes[0].OtherJob = true
		}, NotProven, "no-look", notProvenText + "No pass has read all targets of this job to " +
			"the " +
			"end. Read-only pass 1 belongs to another version of the job file."},
		{"a pass of another job file, after one with slots under it", func(in *Input) {
			in.Passes[0].Targets[0].Keys[oldKey] = KeySlots{Slots: 20_001, Moved: 20_000}
			in.Passes[0].OtherJob, in.Passes[1].OtherJob = true, true
		}, NotProven, "no-look", notProvenText + "No pass has read all targets of this job to " +
			"the end. Read-only pass 1 belongs to another version of the job file."},
		{"a pass with another source key", func(in *Input) {
			in.Passes = in.Passes[1:]
			in.Passes[0].Sources = []string{otherKey}
		}, NotProven, "no-look", notProvenText + "No pass has read all targets of this job to " +
			"the end. The key was not a source key of read-only pass 1."},
		{"the newest pass moved slots", func(in *Input) { in.Passes = in.Passes[:1] }, NotProven,
			"moved", notProvenText + "Pass 1 moved 20,000 ciphertexts. Only a later pass that " +
				"finds " +
				"no ciphertext to move proves it."},
	}
}

// decisionsOutdated: something happened, or can have happened, after the proof.
func decisionsOutdated() []decision {
	return []decision{
		{"it began before the last run ended", func(in *Input) {
			in.Passes[0].Ended = at("10:20:00")
		}, NotProven, "stale", notProvenText + "Read-only pass 1 began at 2026-11-29T10:00:00Z, " +
			"before pass 1 ended at 2026-11-29T10:20:00Z."},
		{"a run has not ended", func(in *Input) { in.Passes[0].Ended = time.Time{} }, NotProven,
			"stale", notProvenText + "Read-only pass 1 began at 2026-11-29T10:00:00Z, and pass 1 " +
				"has not ended."},
		{"an audit ended later, and found ciphertexts", func(in *Input) {
			p := Pass{Number: 4, ReadOnly: true, Command: "audit", Started: at("09:50:00"),
				Ended: at("10:05:00"), Complete: true, Targets: []Target{found("customers", 9)}}
			under(&p, 0, 3)
			in.Passes = append(in.Passes, p)
		}, NotProven, "stale", notProvenText + "Read-only pass 1 began at 2026-11-29T10:00:00Z, " +
			"before read-only pass 4 ended at 2026-11-29T10:05:00Z, which found 3 ciphertexts " +
			"under this key."},
		{"a run is working", func(in *Input) { in.Working = true }, NotProven, "stale",
			notProvenText + "Read-only pass 1 began at 2026-11-29T10:00:00Z, and a run is " +
				"working on the job now. What it does is not known until it has ended."},
		{"too old", func(in *Input) { in.Now = in.Now.AddDate(0, 0, 3) }, NotProven, "stale",
			notProvenText + "Read-only pass 1 began at 2026-11-29T10:00:00Z, 3 days ago. The " +
				"result counts for 24 hours, because callers can use the key at any time."},
		{"in the future", func(in *Input) { in.Now = at("09:00:00") }, NotProven, "stale",
			notProvenText + "Read-only pass 1 began at 2026-11-29T10:00:00Z, which is in the " +
				"future. Check the clocks."},
		{"used by another caller", func(in *Input) {
			in.LastUsage = Usage{Asked: at("12:00:00"), At: at("11:00:00"), Operation: "Decrypt",
				Caller: "arn:aws:sts::111122223333:role/reporting-batch"}
		}, NotProven, "in-use", notProvenText + "No ciphertext was found under it, but it was " +
			"used " +
			"at 2026-11-29T11:00:00Z by role/reporting-batch (Decrypt), after read-only pass 1 " +
			"had begun."},
	}
}

// decisionsNotEvidence: the figures of the pass are not evidence.
func decisionsNotEvidence() []decision {
	return []decision{
		{"a rule without ciphertexts", func(in *Input) {
			proof(in).Empty = []string{"customers, slots[1] (snn)", "archive"}
		}, NotProven, "empty", notProvenText + "No ciphertext was found in customers, slots[1] " +
			"(snn), archive. Check path, prefix and format."},
		{"no ciphertext at all", func(in *Input) {
			proof(in).Targets = []Target{found("customers", 0)}
		}, NotProven, "empty", notProvenText + "No ciphertext was found in any place. That " +
			"proves " +
			"nothing, even where the job file allows it."},
		{"filtered", func(in *Input) { proof(in).Filtered = 9 }, NotProven, "filtered",
			notProvenText + "The filters of the job file left out 9 items, and complete does not " +
				"state why these contain no ciphertext under this key."},
		{"a sample that disagrees", func(in *Input) {
			proof(in).Samples = []Part{{21_658, 1_000, 0}, {5_000, 1_000, 1}}
		}, NotProven, "headers", notProvenText + "Some figures of read-only pass 1 are not " +
			"evidence. KMS disagreed with 1 of 1,000 ciphertext headers that were checked."},
		{"a sample that is too small", func(in *Input) {
			proof(in).Samples = []Part{{21_658, 12, 0}}
		}, NotProven, "headers", notProvenText + "Some figures of read-only pass 1 are not " +
			"evidence. Of 21,658 slots that were decided by their header, KMS was asked about " +
			"only 12."},
		{"a doubt", func(in *Input) { proof(in).Doubts = []string{"the key was rotated"} },
			NotProven, "headers", notProvenText + "Some figures of read-only pass 1 are not " +
				"evidence. The key was rotated."},
	}
}

// decisionsOfFailedSlots: failed slots are or may be under the key.
func decisionsOfFailedSlots() []decision {
	return []decision{
		{"its header, and KMS cannot decrypt it", func(in *Input) {
			failedSlots(proof(in), oldKey, 50)
		}, NotProven, "unreadable", notProvenText + "KMS cannot decrypt 50 ciphertexts under " +
			"this " +
			"key. The encryption context in the job file may be wrong."},
		{"the header of an unknown key", func(in *Input) {
			failedSlots(proof(in), "token:ab", 1)
		}, NotProven, "unknown-key", notProvenText + "1 slot failed, and it may be under this " +
			"key."},
		{"an asymmetric key, and no header", func(in *Input) {
			in.Key.Symmetric = false
			failedSlots(proof(in), OriginNone, 2)
		}, NotProven, "unknown-key", notProvenText + "2 slots failed, and they may be under this " +
			"key. Ciphertexts under an asymmetric key have no header that identifies the key."},
		{"failed slots of an earlier version", func(in *Input) {
			proof(in).Targets[0].Slots.Seen++
			proof(in).Targets[0].Slots.Conflict++
		}, NotProven, "unknown-key", notProvenText + "1 slot failed, and it may be under this " +
			"key."},
		{"a failed slot in a later pass, which stopped", func(in *Input) {
			in.Passes = append(in.Passes, partial())
			in.Passes[2].Started, in.Passes[2].ReadOnly = proof(in).Started, true
			in.Passes[2].Ended = proof(in).Ended.Add(-time.Minute)
			failedSlots(&in.Passes[2], OriginUnknown, 1)
		}, NotProven, "unknown-key", notProvenText + "1 slot failed, and it may be under this " +
			"key."},
		{"unread", func(in *Input) { failedSlots(proof(in), OriginUnread, 3) }, NotProven, "unread",
			notProvenText + "3 items or slots could not be read, so KMS was not asked about them."},
	}
}

func decisionsDisabled() []decision {
	return []decision{
		{"disabled and watched", disabled, DisabledQuiet, "disabled-quiet",
			"alias/demo-old is disabled. No call has been refused for 21 days. None of the " +
				"22,000 " +
				"ciphertexts in 2 places depends on it, as of 2026-11-08T10:00:00Z, when " +
				"read-only pass 1 began."},
		{"scheduled for deletion and watched", func(in *Input) {
			disabled(in)
			in.Key.State, in.Key.Deletion = StatePendingDeletion, at("00:00:00").AddDate(0, 0, 9)
		}, DisabledQuiet, "disabled-quiet", "alias/demo-old is scheduled for deletion on " +
			"2026-12-08. No call has been refused for 21 days. None of the 22,000 ciphertexts in " +
			"2 places depends on it, as of 2026-11-08T10:00:00Z, when read-only pass 1 began."},
		{"disabled a minute ago", func(in *Input) {
			disabled(in)
			in.Trail.Asked = in.Key.Disabled.Add(time.Minute)
		}, DisabledQuiet, "disabled-quiet", "alias/demo-old is disabled. No call has been " +
			"refused for 60 seconds. None of the 22,000 ciphertexts in 2 places depends on " +
			"it, as of " +
			"2026-11-08T10:00:00Z, when read-only pass 1 began. CloudTrail typically delivers " +
			"events within 15 minutes, so refused calls can be missing."},
		{"disabled, and not watched", func(in *Input) {
			disabled(in)
			in.Trail = Trail{}
		}, CanBeDisabled, "disabled", "alias/demo-old is disabled. None of the 22,000 " +
			"ciphertexts " +
			"in 2 places depends on it, as of 2026-11-08T10:00:00Z, when read-only pass 1 began. " +
			"It is not known whether calls have been refused since it was disabled."},
	}
}

func decisionsCanBeDisabled() []decision {
	return []decision{
		{"nothing under it", func(*Input) {}, CanBeDisabled, "can-be-disabled",
			"alias/demo-old can be disabled. " + basis + ". Other uses of the key were not " +
				"checked."},
		{"last used by rotator", func(in *Input) {
			in.LastUsage = Usage{Asked: at("12:00:00"), At: at("10:34:20"), ByRotator: true}
		}, CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. " + basis +
			", and no other caller has used it since rotator's last request, at " +
			"2026-11-29T10:34:20Z."},
		{"last used before the proof", func(in *Input) {
			in.LastUsage = Usage{Asked: at("12:00:00"), At: at("07:00:00")}
		}, CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. " + basis +
			", and no caller has used it since 2026-11-29T07:00:00Z."},
		{"last used while rotator sent requests", func(in *Input) {
			in.LastUsage = Usage{Asked: at("12:00:00"), At: at("10:34:20"), Unclear: true}
		}, CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. " + basis +
			". Its last use, at 2026-11-29T10:34:20Z, can be a request of rotator or of another " +
			"caller."},
		{"asked too early", func(in *Input) {
			in.LastUsage = Usage{Asked: at("12:00:00"), At: at("10:34:20"),
				ByRotator: true, Early: true}
		}, CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. " + basis +
			". It is too early to know other uses: ask again one hour after rotator's last " +
			"request."},
		{"CloudTrail shows no use", func(in *Input) {
			in.Trail = Trail{Asked: at("12:00:00"), From: at("00:00:00")}
		}, CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. " + basis +
			", and CloudTrail shows no use by another caller since then."},
		{"slots under other keys, junk, and failed slots of other keys", func(in *Input) {
			failedSlots(proof(in), otherKey, 5)
			failedSlots(proof(in), OriginNone, 6)
			t := &proof(in).Targets[1]
			t.Slots.Seen, t.Slots.Foreign = t.Slots.Seen+7, 7
			t.Keys[otherKey] = KeySlots{Slots: 7}
		}, CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. None of the 22,018 " +
			"ciphertexts in 2 places depends on it, as of 2026-11-29T10:00:00Z, when read-only " +
			"pass 1 began. Other uses of the key were not checked."},
		{"the only failed slot is waived", func(in *Input) {
			failing(proof(in))
			in.Waivers = []Waiver{waiver()}
		}, CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. None of the 22,001 " +
			"ciphertexts in 2 places depends on it, as of 2026-11-29T10:00:00Z, when read-only " +
			"pass 1 began. Other uses of the key were not checked."},
	}
}

// decisions are all rows of the table.
func decisions() []decision {
	return slices.Concat(
		decisionsCannot(),
		decisionsWithoutProof(),
		decisionsOutdated(),
		decisionsNotEvidence(),
		decisionsOfFailedSlots(),
		decisionsDisabled(),
		decisionsCanBeDisabled(),
		decisionsLeftBehind(),
		decisionsLeftWhole(),
		decisionsOtherPlace(),
	)
}

func TestDecide(t *testing.T) {
	fitted := map[string]bool{}
	for _, d := range decisions() {
		in := clean()
		d.change(&in)
		v := Decide(in)
		if err := v.Check(); err != nil {
			t.Errorf("%s: %v", v.Sentence, err)
		}
		fitted[string(v.Code)+" "+v.Reason] = true
		if v.Code != d.code || v.Reason != d.reason || v.Exit != d.code.Exit() {
			t.Errorf("%s: %s, %s, exit %d, want %s, %s", d.name, v.Code, v.Reason, v.Exit, d.code,
				d.reason)
		}
		if diff := cmp.Diff(d.sentence, v.Sentence); diff != "" {
			t.Errorf("%s: the sentence differs (-want +got):\n%s", d.name, diff)
		}
	}
	for _, r := range table() {
		if !fitted[string(r.code)+" "+r.reason] {
			t.Errorf("no test has the row %s, %s", r.code, r.reason)
		}
	}
}

// What to do next begins with what makes the key usable, and no text states that a key can be
// deleted.
func TestNextSteps(t *testing.T) {
	in := clean()
	in.JobFile = "my job's.yaml"
	in.Key.State, in.Key.Deletion = StatePendingDeletion, at("00:00:00").AddDate(0, 0, 9)
	under(proof(&in), 0, 3)
	want := []Step{
		{"Cancel the deletion.", "aws kms cancel-key-deletion --key-id " + oldKey +
			" --region us-east-1"},
		{"Enable the key.", "aws kms enable-key --key-id " + oldKey + " --region us-east-1"},
		{"Move the ciphertexts.", `rotator run -f 'my job'\''s.yaml'`},
		{"Prove that none is left.", `rotator verify -f 'my job'\''s.yaml'`},
	}
	if diff := cmp.Diff(want, Decide(in).NextSteps); diff != "" {
		t.Errorf("the steps differ (-want +got):\n%s", diff)
	}
	for _, d := range decisions() {
		in := clean()
		d.change(&in)
		if v := Decide(in); len(v.NextSteps) == 0 && v.Reason != sameKey {
			t.Errorf("%s: no next step", d.name)
		}
	}
}

func TestWhy(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Input)
		want   []string
	}{
		{"nothing under it", func(*Input) {}, []string{
			"Values that were stored after that time are not covered.",
		}},
		{"everything that does not block", func(in *Input) {
			failing(proof(in))
			failedSlots(proof(in), otherKey, 5)
			failedSlots(proof(in), OriginNone, 6)
			in.Waivers = []Waiver{waiver()}
			p := proof(in)
			p.Targets[0].Slots.Foreign, p.Targets[0].Slots.Current = 7, 19_993
			p.Targets[0].RowsInPart, p.Targets[1].Bodies = 9, 1
			p.Targets[0].Keys[newKey] = KeySlots{Slots: 20_000, ByHeader: 19_658}
			p.Targets[1].Keys[newKey] = KeySlots{Slots: 2_000, ByHeader: 2_000}
			p.Samples = []Part{{21_658, 1_000, 0}}
		}, []string{
			"Slots under other keys: 7.",
			"Failed slots without a ciphertext header in a layout that rotator knows: 6.",
			"Failed slots whose ciphertext header identifies another key: 5.",
			`1 failed slot is waived: customers {"id":{"S":"7"}} ssn (test row; by j.doe).`,
			"KMS named the key of 342 slots, and headers that of the other 21,658. Of the " +
				"headers of 21,658 slots, 1,000 were drawn at random and compared with KMS, " +
				"and all agreed. With 95% confidence, at most 63 (0.29%) are under another " +
				"key than their header says.",
			"Values that were stored after that time are not covered.",
			"Attributes that the job does not use were not searched: 9 rows.",
			"Bodies that the job does not use were not searched: 1 object.",
		}},
		{"headers of slots that KMS named too", func(in *Input) {
			p := proof(in)
			p.Targets[0].Keys[newKey] = KeySlots{Slots: 20_000, ByHeader: 19_955}
			p.Targets[1].Keys[newKey] = KeySlots{Slots: 2_000, ByHeader: 2_000}
			p.Samples = []Part{{21_997, 21_997, 0}}
		}, []string{
			"KMS named the key of 45 slots, and headers that of the other 21,955. The headers of " +
				"21,997 slots (including 42 that KMS named) were compared with KMS, and all " +
				"agreed.",
			"Values that were stored after that time are not covered.",
		}},
		{"several reasons", func(in *Input) {
			failedSlots(proof(in), oldKey, 2)
			failedSlots(proof(in), OriginUnread, 1)
			in.Now = in.Now.AddDate(0, 0, 3)
		}, []string{
			"KMS cannot decrypt 2 ciphertexts under this key. The encryption context in the job " +
				"file may be wrong.",
			"1 item or slot could not be read, so KMS was not asked about it.",
		}},
		{"slots under it, and some that KMS cannot decrypt", func(in *Input) {
			under(proof(in), 0, 2)
			failedSlots(proof(in), oldKey, 3)
		}, []string{"It is also the key of 3 ciphertexts that KMS cannot decrypt."}},
	} {
		in := clean()
		test.change(&in)
		if diff := cmp.Diff(test.want, Decide(in).Why); diff != "" {
			t.Errorf("%s: the further facts differ (-want +got):\n%s", test.name, diff)
		}
	}
}

// deletionCase is a change of clean, with what follows for the deletion of the key.
type deletionCase struct {
	name   string
	change func(*Input)
	want   Deletion
}

// versionsUntil returns counted copies that expire at a time.
func versionsUntil(end time.Time) Copy {
	return Copy{Kind: "noncurrent versions", Place: "vault", State: CopiesCounted,
		Count: 1_973, Until: end}
}

// deletionCasesWithEnd: the end of some copies is known.
func deletionCasesWithEnd() []deletionCase {
	january := at("00:00:00").AddDate(0, 1, 5)
	return []deletionCase{
		{"copies until January", func(in *Input) {
			disabled(in)
			in.Copies = []Copy{
				versionsUntil(january),
				{Kind: "backups", Place: "customers", State: CopiesNone},
			}
		}, Deletion{
			NotBefore: &january,
			BlockedBy: []string{
				"noncurrent versions of vault (1,973) exist until 2027-01-03", elsewhere,
			},
			Sentence: "Copies that need it exist until 2027-01-03. Do not schedule its deletion " +
				"before then.",
		}},
		{"copies until January, and deletion in December", func(in *Input) {
			disabled(in)
			in.Key.State, in.Key.Deletion = StatePendingDeletion, at("00:00:00").AddDate(0, 0, 9)
			in.Copies = []Copy{versionsUntil(january)}
		}, Deletion{
			NotBefore: &january,
			BlockedBy: []string{
				"noncurrent versions of vault (1,973) exist until 2027-01-03", elsewhere,
			},
			Sentence: "Copies that need it exist until 2027-01-03. Do not schedule its deletion " +
				"before then. It is scheduled for 2026-12-08: cancel that.",
		}},
		{"copies that cannot be seen", func(in *Input) {
			disabled(in)
			in.Copies = []Copy{
				versionsUntil(january),
				{Kind: "backups", Place: "customers", State: CopiesHidden,
					Missing: "dynamodb:ListBackups"},
				{Kind: "exports", Place: "customers", State: CopiesCounted, Count: 2, NoEnd: true},
				{Kind: "replicas", Place: "customers", State: CopiesUnknown},
			}
		}, Deletion{
			BlockedBy: []string{
				"noncurrent versions of vault (1,973) exist until 2027-01-03",
				"backups of customers cannot be seen without dynamodb:ListBackups",
				"exports of customers (2) have no end",
				"replicas of customers were not checked",
				elsewhere,
			},
			Sentence: "Do not schedule its deletion: copies that need it exist at least until " +
				"2027-01-03, and the end of others is not known.",
		}},
	}
}

// deletionCasesWithoutEnd: no end of a copy is known.
func deletionCasesWithoutEnd() []deletionCase {
	return []deletionCase{
		{"copies not checked", func(*Input) {}, Deletion{
			BlockedBy: []string{
				"old versions, backups, exports and streams were not checked",
				"the key was not watched while it was disabled",
				elsewhere,
			},
			Sentence: "Do not schedule its deletion yet: copies that need it were not checked.",
		}},
		{"no copies, and slots under it", func(in *Input) {
			in.Copies = []Copy{{Kind: "backups", Place: "customers", State: CopiesNone}}
			under(proof(in), 0, 1)
		}, Deletion{
			BlockedBy: []string{"the key is in use", elsewhere},
			Sentence: "No copy that needs it is known. Do not schedule its deletion while copies " +
				"exist elsewhere.",
		}},
	}
}

func TestDeletion(t *testing.T) {
	for _, test := range slices.Concat(deletionCasesWithEnd(), deletionCasesWithoutEnd()) {
		in := clean()
		test.change(&in)
		if diff := cmp.Diff(test.want, Decide(in).Delete); diff != "" {
			t.Errorf("%s: the deletion differs (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestNegativeCounts: a negative count, which could hide a positive one, is refused.
func TestNegativeCounts(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]Target{
		"origin": {Slots: Slots{Seen: 3, Failed: 3},
			Origins: map[string]int64{OriginUnknown: -3, OriginNone: 3}},
		"version":        {Versions: map[string]int64{"key": -1}},
		"version origin": {VersionOrigins: map[string]int64{OriginUnknown: -1}},
	} {
		if target.Check() == nil {
			t.Errorf("%s: %+v is accepted", name, target)
		}
	}
}
