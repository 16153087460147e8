package verdict

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const (
	account      = "111122223333"
	otherAccount = "444455556666"
)

// role returns a role of an account.
func role(account string) string { return "arn:aws:iam::" + account + ":role/rotator" }

// tableIn returns the place of a table that was read in an account.
func tableIn(name, account string) *Place {
	return &Place{Kind: "dynamodb", Name: name, Region: "us-east-1", Reached: true,
		Account: account, Rules: []string{"slot ssn"}, FoundBy: []string{"slot ssn"}}
}

// bucket returns the place of the objects with a prefix.
func bucket(prefix string) *Place {
	return &Place{Kind: "s3", Name: "vault", Prefix: prefix, Region: "us-east-1", Reached: true,
		Account: account, Format: "json"}
}

// withPlaces sets the places of the targets in all passes of clean.
func withPlaces(in *Input) {
	for i := range in.Passes {
		in.Passes[i].Targets[0].Place = tableIn("customers", account)
		in.Passes[i].Targets[1].Place = bucket("")
	}
}

// audited adds an audit before the proof, with a target in which 5 ciphertexts were left under the
// key. It returns this target.
func audited(in *Input) *Target {
	withPlaces(in)
	old := found("orders", 10)
	old.Place = tableIn("orders", account)
	in.Passes = append(in.Passes, Pass{Number: 7, ReadOnly: true, Command: "audit",
		Started: at("07:00:00"), Ended: at("07:10:00"), Complete: true, OtherJob: true,
		Targets: []Target{found("customers", 9), old}})
	p := &in.Passes[len(in.Passes)-1]
	p.Targets[0].Place = tableIn("customers", account)
	under(p, 1, 5)
	return &p.Targets[1]
}

// later adds a pass after the audit of audited that found nothing under the key in its targets.
func later(in *Input, began time.Time) *Pass {
	p := in.Passes[len(in.Passes)-1]
	p.Number, p.Started, p.Ended = 8, began, began.Add(10*time.Minute)
	p.Targets = slices.Clone(p.Targets)
	empty(&p.Targets[1])
	in.Passes = append(in.Passes, p)
	return &in.Passes[len(in.Passes)-1]
}

// empty removes what is under the key from a target.
func empty(t *Target) {
	t.Slots = Slots{Seen: 10, Current: 10}
	t.Keys = map[string]KeySlots{newKey: {Slots: 10}}
}

// fail replaces what is under the key by failed slots.
func fail(t *Target, origin string, n int64) {
	empty(t)
	t.Slots.Seen, t.Slots.Failed = 10+n, n
	t.Origins = map[string]int64{origin: n}
}

const putBackText = " Put this data back into the job file and run rotator verify, or state " +
	"there that it is gone."

// leftSentence returns the sentence about data with ciphertexts under the key.
func leftSentence(what string) string {
	return "alias/demo-old cannot be disabled. This job no longer reads data that depends on it: " +
		"read-only pass 7 left " + what + "." + putBackText
}

// decisionsLeftBehind: the proof does not read what an earlier pass read.
func decisionsLeftBehind() []decision {
	return []decision{
		{"a target was removed", func(in *Input) { audited(in) }, Cannot, "left-behind",
			leftSentence("5 in orders (not in the job file now)")},
		{"a target was removed, and only its name is known", func(in *Input) {
			audited(in).Place = nil
		}, Cannot, "left-behind", leftSentence("5 in orders (not in the job file now)")},
		{"a target was renamed, and is another table", func(in *Input) {
			audited(in).Name = "customers"
		}, Cannot, "left-behind", leftSentence("5 in customers (now in another place)")},
		{"a target is in another account now", func(in *Input) {
			t := audited(in)
			t.Name, t.Place = "customers", tableIn("customers", otherAccount)
			t.Place.Role = role(otherAccount)
		}, Cannot, "left-behind", leftSentence("5 in customers (read with account 444455556666 " +
			"(role arn:aws:iam::444455556666:role/rotator), and now with account 111122223333 " +
			"(the credentials of the caller))")},
		{"a prefix is narrower", func(in *Input) {
			t := audited(in)
			t.Name, t.Place = "vault", bucket("")
			in.Passes[0].Targets[1].Place, proof(in).Targets[1].Place = bucket("a/"), bucket("a/")
		}, Cannot, "left-behind", leftSentence("5 in vault (read now with prefix a/)")},
		{"a slot was removed", func(in *Input) {
			t := audited(in)
			t.Name, t.Place = "customers", tableIn("customers", account)
			t.Place.FoundBy = []string{"slot ssn", "slot card"}
		}, Cannot, "left-behind", leftSentence("5 in customers (read now without slot card)")},
		{"an object is excluded now", func(in *Input) {
			t := audited(in)
			t.Name, t.Place = "vault", bucket("")
			in.Passes[0].Targets[1].Place.Exclude = []string{"tmp/**"}
			proof(in).Targets[1].Place.Exclude = []string{"tmp/**"}
		}, Cannot, "left-behind",
			leftSentence("5 in vault (read now with other include or exclude)")},
	}
}

// decisionsLeftWhole: a target was removed.
func decisionsLeftWhole() []decision {
	return []decision{
		{"a removed target had old versions", func(in *Input) {
			t := audited(in)
			empty(t)
			t.Versions = map[string]int64{oldKey: 4}
		}, Cannot, "left-behind", leftSentence("4 in orders (not in the job file now)")},
		{"a removed target has failed slots", func(in *Input) {
			fail(audited(in), OriginUnknown, 3)
		}, NotProven, "left-behind-failed", notProvenText + "This job no longer reads data with " +
			"failed slots that may be under this key: read-only pass 7 left 3 in orders (not in " +
			"the job file now)." + putBackText},
		{"a removed target, and a pass that began at the same time", func(in *Input) {
			audited(in)
			p := in.Passes[2]
			p.Number, p.Ended = 8, p.Ended.Add(time.Minute)
			p.Targets = slices.Clone(p.Targets)
			empty(&p.Targets[1])
			in.Passes = append(in.Passes, p)
		}, Cannot, "left-behind", leftSentence("5 in orders (not in the job file now)")},
		{"a removed target, and a pass with another source key", func(in *Input) {
			audited(in)
			later(in, at("07:30:00")).Sources = []string{newKey}
		}, Cannot, "left-behind", leftSentence("5 in orders (not in the job file now)")},
		{"a removed target, and a pass that began before the audit ended", func(in *Input) {
			audited(in)
			later(in, at("07:05:00"))
		}, Cannot, "left-behind", leftSentence("5 in orders (not in the job file now)")},
		{"a removed target, and a pass that read it again", func(in *Input) {
			audited(in)
			later(in, at("07:30:00"))
		}, CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. " + basis +
			". Other uses of the key were not checked."},
		{"another job file, and no pass of it", func(in *Input) {
			audited(in)
			in.Passes[0].OtherJob, in.Passes[1].OtherJob = true, true
		}, Cannot, "left-behind", "alias/demo-old cannot be disabled. Read-only pass 1 did not " +
			"read data that depends on it: read-only pass 7 left 5 in orders (not read by " +
			"read-only pass 1)." + putBackText},
		{"another job file, and a later pass moved ciphertexts", func(in *Input) {
			in.Passes[0].OtherJob, in.Passes[1].OtherJob = true, true
			p := partial()
			p.Targets[0].Slots = Slots{Seen: 103, Current: 100, Rotated: 3}
			p.Targets[0].Keys[oldKey] = KeySlots{Slots: 3, Moved: 3}
			in.Passes = append(in.Passes, p)
		}, Cannot, "again", "alias/demo-old cannot be disabled. Pass 2 found 3 ciphertexts under " +
			"it after read-only pass 1 had left none there. A writer still uses the key."},
		{"a removed target, and a deletion", func(in *Input) {
			audited(in)
			in.Key.State = StatePendingDeletion
		}, Cannot, "deleting", "alias/demo-old is scheduled for deletion, and 5 ciphertexts " +
			"depend on it. Cancel the deletion."},
	}
}

// decisionsOtherPlace: the job file names another place than the proof read.
func decisionsOtherPlace() []decision {
	elsewhere := func(change func(now *Place)) func(*Input) {
		return func(in *Input) {
			withPlaces(in)
			now := Place{Kind: "dynamodb", Name: "customers", Reached: true, Account: account}
			change(&now)
			in.Places = map[string]Place{"customers": now}
		}
	}
	text := func(how string) string {
		return notProvenText + "Read-only pass 1 read customers " + how + ". Run rotator verify " +
			"to read what the job file names."
	}
	return []decision{
		{"a role of another account", elsewhere(func(now *Place) {
			now.Role, now.Account = role(otherAccount), otherAccount
		}), NotProven, "other-place", text("with account 111122223333 (the credentials of the " +
			"caller), but the job file now names account 444455556666 (role " +
			"arn:aws:iam::444455556666:role/rotator)")},
		{"a role is new, and the account of the pass is not known", func(in *Input) {
			elsewhere(func(now *Place) { now.Role = role(account) })(in)
			proof(in).Targets[0].Place.Account = ""
		}, NotProven, "other-place", text("with the credentials of the caller, but the job file " +
			"now names account 111122223333 (role arn:aws:iam::111122223333:role/rotator)")},
		{"another directory", func(in *Input) {
			withPlaces(in)
			was := Place{Kind: kindFiles, Root: "data", Path: "/srv/a/data", Reached: true}
			now := was
			now.Path = "/srv/b/data"
			proof(in).Targets[0].Place = &was
			in.Places = map[string]Place{"customers": now}
		}, NotProven, "other-place", text("in directory /srv/a/data, but the job file now names " +
			"/srv/b/data")},
		{"another role of the same account", elsewhere(func(now *Place) {
			now.Role = role(account)
		}), CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. " + basis +
			". Other uses of the key were not checked."},
		{"a pass of an earlier version", func(in *Input) {
			elsewhere(func(now *Place) { now.Account = otherAccount })(in)
			proof(in).Targets[0].Place.Reached = false
			proof(in).Targets[0].Place.Account = ""
		}, CanBeDisabled, "can-be-disabled", "alias/demo-old can be disabled. " + basis +
			". Other uses of the key were not checked."},
	}
}

// samePlaces are changes after which the proof reads what the audit read.
func samePlaces() map[string]func(in *Input) {
	return map[string]func(in *Input){
		"the target was renamed": func(in *Input) {
			audited(in).Place = tableIn("customers", account)
		},
		"the ARN of the table": func(in *Input) {
			audited(in).Place = tableIn("arn:aws:dynamodb:us-east-1:"+account+":table/customers",
				account)
		},
		"a wider prefix": func(in *Input) {
			audited(in).Place = bucket("a/")
		},
		"an endpoint of AWS": func(in *Input) {
			p := tableIn("customers", account)
			p.Endpoint = "https://vpce-1.dynamodb.us-east-1.vpce.amazonaws.com/"
			audited(in).Place = p
		},
		"filters with a reason": func(in *Input) {
			audited(in).Place = bucket("")
			now := proof(in).Targets[1].Place
			now.Exclude, now.Complete = []string{"tmp/**"}, "they are thumbnails"
		},
		"fewer filters": func(in *Input) {
			p := bucket("")
			p.Include, p.Exclude = []string{"a/**"}, []string{"tmp/**"}
			audited(in).Place = p
			proof(in).Targets[1].Place.Exclude = []string{"tmp/**"}
		},
	}
}

// harmless are other changes after which what the audit left does not block.
func harmless() map[string]func(in *Input) {
	return map[string]func(in *Input){
		"a corrected rule": func(in *Input) {
			target := audited(in)
			fail(target, OriginUnknown, 5)
			target.Name, target.Place = "customers", tableIn("customers", account)
			target.Place.FoundBy = []string{"slot body"}
		},
		"a directory below": func(in *Input) {
			dir := func(root string) *Place { return &Place{Kind: kindFiles, Root: root} }
			audited(in).Place = dir("/srv/data/a")
			proof(in).Targets[0].Place = dir("/srv/data")
			in.Passes[0].Targets[0].Place = dir("/srv/data")
			in.Passes[2].Targets[0].Place = dir("/srv/data")
		},
		"a waiver": func(in *Input) {
			fail(audited(in), OriginUnknown, 1)
			w := waiver()
			w.Target = "orders"
			in.Waivers = []Waiver{w}
			in.Passes[2].Exceptions = []Exception{{Target: "orders", Ref: w.Ref, Path: w.Path,
				Blob: w.Blob, Origin: OriginUnknown}}
		},
		"the pass is moved, and a newer one found nothing": func(in *Input) {
			audited(in)
			p := in.Passes[2]
			p.Number, p.Started = 8, at("07:30:00")
			p.Targets = slices.Clone(p.Targets)
			empty(&p.Targets[1])
			in.Passes = append(in.Passes, p)
		},
	}
}

// What was left in data that the proof read, or that a newer pass read to the end, does not block.
func TestLeftDataThatDoesNotBlock(t *testing.T) {
	changes := samePlaces()
	maps.Copy(changes, harmless())
	for name, change := range changes {
		in := clean()
		change(&in)
		if v := Decide(in); v.Code != CanBeDisabled {
			t.Errorf("%s: %s, %s", name, v.Reason, v.Sentence)
		}
	}
}

// The statement of the job file covers only earlier passes, and is quoted. A target that was clean
// when it was read last is named.
func TestGone(t *testing.T) {
	in := clean()
	target := audited(&in)
	in.Gone = []Gone{{Target: "orders", Before: at("07:00:00"), Because: "the table was deleted"}}
	if v := Decide(in); v.Reason != "left-behind" {
		t.Errorf("a statement from before the pass: %s", v.Reason)
	}
	in.Gone[0].Before = at("07:00:01")
	want := []string{
		"Read-only pass 7 left 5 slots in orders (not in the job file now). The job file states " +
			"why this does not matter: The table was deleted.",
		"Values that were stored after that time are not covered.",
	}
	v := Decide(in)
	if diff := cmp.Diff(want, v.Why); v.Code != CanBeDisabled || diff != "" {
		t.Errorf("%s, and the further facts differ (-want +got):\n%s", v.Reason, diff)
	}
	in.Gone, in.Unread = nil, []string{"pass 3"}
	empty(target)
	vault := found("vault", 10)
	vault.Place, vault.Versions = bucket(""), map[string]int64{oldKey: 4}
	in.Passes[2].Targets = append(in.Passes[2].Targets, vault)
	want[0] = "Read-only pass 7 is the last pass that read orders (not in the job file now). It " +
		"left no ciphertext under this key there."
	want = slices.Insert(want, 1, "Read-only pass 7 found 4 old versions under this key in vault "+
		"(its old versions are not read now). They count as copies.",
		"Pass 3 cannot be read. It is not known whether this job still reads all of its data.")
	v = Decide(in)
	if diff := cmp.Diff(want, v.Why); v.Code != CanBeDisabled || diff != "" {
		t.Errorf("%s, and the further facts differ (-want +got):\n%s", v.Reason, diff)
	}
}

// without returns a pass that reads what p read, but not its last target.
func without(p Pass) Pass {
	p.Targets = p.Targets[:len(p.Targets)-1]
	return p
}

// A pass that leaves out a target proves no more than one that finds there what the last pass left.
func TestRemovingATargetProvesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := someInput(t)
		in.Key.State, in.Trail = "", Trail{}
		for i := range in.Passes {
			more := someTarget(t)
			more.Name = "orders"
			in.Passes[i].Targets = append(in.Passes[i].Targets, more)
		}
		next := somePass(t, in.Now)
		in.Now = in.Now.Add(time.Hour)
		next.Number, next.Started, next.Ended, next.Complete = 99, in.Now, in.Now, true
		next.Incremental, next.OtherJob, next.Exceptions = false, false, nil
		whole, part := in, in
		left := Target{Name: "orders", Keys: map[string]KeySlots{}, Origins: map[string]int64{}}
		if last := lastRead(in.Passes); last != nil {
			leave(&left, last)
		}
		next.Targets = append(next.Targets, left)
		whole.Passes = append(slices.Clone(in.Passes), next)
		part.Passes = slices.Clone(in.Passes)
		for i := range part.Passes {
			part.Passes[i].OtherJob = true
		}
		part.Passes = append(part.Passes, without(next))
		before, after := Decide(whole), Decide(part)
		if rank(after.Code) < rank(before.Code) {
			t.Fatalf("%s, %s became %s, %s", before.Code, before.Reason, after.Code, after.Reason)
		}
	})
}

// lastRead returns the last target of the newest pass that was read to the end, or nil.
func lastRead(passes []Pass) (last *Target) {
	var newest Pass
	for i := range passes {
		p := &passes[i]
		if isRead(p) && !p.Started.Before(newest.Started) {
			newest, last = *p, &p.Targets[len(p.Targets)-1]
		}
	}
	return last
}

// leave sets the figures of a target to what a pass left in it.
func leave(t, was *Target) {
	k := was.Keys[oldKey]
	n := max(k.Slots-k.Moved-k.Unreadable, 0)
	if !was.movesCounted() {
		n = 0
	}
	t.Keys[oldKey] = KeySlots{Slots: n}
	t.Slots.Remaining, t.Slots.Failed = n, was.Slots.Failed
	t.Slots.Seen = n + was.Slots.Failed
	t.Origins = was.Origins
}

// Another job file does not make a verdict better, as long as no pass has read what it names.
func TestAnotherJobFileProvesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := someInput(t)
		for i := range in.Passes {
			in.Passes[i].OtherJob = false
		}
		before := Decide(in)
		for i := range in.Passes {
			in.Passes[i].OtherJob = true
		}
		if after := Decide(in); rank(after.Code) < rank(before.Code) {
			t.Fatalf("%s, %s became %s, %s", before.Code, before.Reason, after.Code, after.Reason)
		}
	})
}

// changesOfPlaces changes where targets are, and what of them is read.
func changesOfPlaces() []change {
	return []change{
		{"data that is not read now", func(t *rapid.T, in *Input) bool {
			p := somePass(t, in.Now)
			f := study(*in)
			if f.proof == nil || !p.Started.Before(f.proof.Started) {
				return false
			}
			p.Targets[0].Name, p.Targets[0].Place = "orders", nil
			in.Passes = append(in.Passes, p)
			return true
		}},
		{"another account or directory", func(t *rapid.T, in *Input) bool {
			in.Places = map[string]Place{"customers": *somePlace(t)}
			return true
		}},
		{"a narrower place of the proof", func(t *rapid.T, in *Input) bool {
			f := study(*in)
			if f.proof == nil || f.proof.Targets[0].Place == nil {
				return false
			}
			now := *f.proof.Targets[0].Place
			switch rapid.IntRange(0, 2).Draw(t, "how") {
			case 0:
				now.Prefix, now.Exclude = now.Prefix+"c/", nil // globs would have another meaning
			case 1:
				now.Exclude = append(slices.Clone(now.Exclude), "tmp/**")
			default:
				now.Reached, now.Account = true, "777788889999"
			}
			f.proof.Targets[0].Place = &now
			return true
		}},
	}
}

// somePlace draws a place of the target customers.
func somePlace(t *rapid.T) *Place {
	p := tableIn("customers", rapid.SampledFrom([]string{"", account, otherAccount}).Draw(t,
		"account"))
	p.Kind = "s3"
	p.Reached = rapid.Bool().Draw(t, "reached")
	if rapid.Bool().Draw(t, "role") {
		p.Role = role(account)
	}
	p.Prefix = strings.Repeat("a/", rapid.IntRange(0, 2).Draw(t, "prefix"))
	if rapid.Bool().Draw(t, "filter") {
		p.Exclude = []string{"b/**"}
	}
	return p
}
