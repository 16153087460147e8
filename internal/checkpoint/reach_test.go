package checkpoint

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// readOf adds a read-only pass of some targets that began at an hour.
func (h *history) readOf(hour int, status Status, targets []ReadTarget) {
	if h.err != nil {
		return
	}
	read := ReadPass{Command: "verify", Status: status, Targets: targets,
		Began: time.Date(2026, 11, 1, hour, 0, 0, 0, time.UTC)}
	if read.LastPass, h.err = h.passes.LastPass(h.ctx); h.err == nil {
		_, h.err = h.passes.StoreReadPass(h.ctx, read)
	}
}

// someTargets draws targets of a job: some names, each in one of a few places.
func someTargets(r *rapid.T) (targets []ReadTarget) {
	for _, name := range []string{"a", "b", "c"} {
		if rapid.Bool().Draw(r, name) {
			where := &Location{Kind: LocationDynamoDB, Table: name, Reach: &Reach{}}
			where.Reach.Account = rapid.SampledFrom([]string{"1", "2"}).Draw(r, "account")
			targets = append(targets, ReadTarget{Name: name, Location: where})
		}
	}
	return targets
}

// TestPruneKeepsTargets: the last complete read-only pass that read a target is never deleted, and
// neither are later ones that were stopped.
func TestPruneKeepsTargets(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		h := &history{ctx: context.Background(), passes: NewPasses(NewMemory(), "j")}
		must := map[string][]int{} // the numbers of the passes to keep, by target
		for hour := range rapid.IntRange(0, 12).Draw(r, "reads") {
			status := rapid.SampledFrom([]Status{Finished, Stopped}).Draw(r, "status")
			targets := someTargets(r)
			h.readOf(hour, status, targets)
			for _, target := range targets {
				id := Reading{Target: target.Name, Where: target.Location}.identity()
				if status == Finished {
					must[id] = nil
				}
				must[id] = append(must[id], hour+1)
			}
			if rapid.Bool().Draw(r, "pass") {
				h.pass(true, true)
			}
		}
		if _, err := prune(h.ctx, h.passes, 1); err != nil || h.err != nil {
			r.Fatal(err, h.err)
		}
		for id, numbers := range must {
			for _, n := range numbers {
				if _, err := h.passes.ReadPass(h.ctx, n); err != nil {
					r.Errorf("read-only pass %d with target %s: %v", n, id, err)
				}
			}
		}
	})
}

// Two targets are the same only if the records do not show that different data was read.
func TestReadings(t *testing.T) {
	where := func(change func(*Location)) *Location {
		l := &Location{Kind: LocationFiles, Root: "data", Host: "a", Reach: &Reach{Path: "/data"}}
		if change != nil {
			change(l)
		}
		return l
	}
	began := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	keys := []Key{{ARN: "b"}, {ARN: "a"}}
	var read Readings
	if read.Has(Reading{Target: "t"}) {
		t.Error("an empty set has a target")
	}
	read.Add(Reading{Target: "t", Where: where(nil), Sources: keys, Began: began})
	for _, test := range []struct {
		name     string
		target   string
		where    *Location
		versions bool
		want     bool
	}{
		{"the same", "t", where(nil), false, true},
		{"another host", "t", where(func(l *Location) { l.Host = "b" }), false, true},
		{"an earlier record", "t", where(func(l *Location) { l.Reach = nil }), false, true},
		{"an earlier record without a place", "t", nil, false, true},
		{"another name", "u", where(nil), false, false},
		{"another directory", "t", where(func(l *Location) { l.Reach.Path = "/b" }), false, false},
		{"other slots", "t", where(func(l *Location) { l.Reach.Slots = []string{"ssn"} }), false,
			false},
		{"old versions", "t", where(nil), true, false},
	} {
		one := Reading{Target: test.target, Where: test.where, Versions: test.versions,
			Sources: []Key{{ARN: "a"}, {ARN: "b"}}, Began: began}
		if got := read.Has(one); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
		one.Began = began.Add(time.Second)
		if read.Has(one) {
			t.Errorf("%s, read later: the set has it", test.name)
		}
		one.Began = time.Time{}
		one.Sources = nil
		if read.Has(one) != test.want {
			t.Errorf("%s, by an earlier version: not %v", test.name, test.want)
		}
		one.Sources = keys[:1]
		if read.Has(one) {
			t.Errorf("%s, for other source keys: the set has it", test.name)
		}
	}
	one := Reading{Target: "t", Where: where(nil), Versions: true, Sources: keys, Began: began}
	read.Add(one)
	one.Began = time.Time{}
	if !read.Has(one) {
		t.Error("old versions that were read are missing")
	}
}

// A list that is too long for a record is replaced by its digest.
func TestReachList(t *testing.T) {
	short := []string{"a/**", "b/**"}
	long := strings.Split(strings.Repeat("tmp/**,", 200), ",")
	if got := ReachList(short); !slices.Equal(got, short) {
		t.Errorf("a short list became %v", got)
	}
	got := ReachList(long)
	if len(got) != 1 || !strings.HasPrefix(got[0], "sha256:") || len(got[0]) != 71 {
		t.Errorf("a long list became %v", got)
	}
	if other := ReachList(long[1:]); slices.Equal(got, other) {
		t.Error("two long lists have the same digest")
	}
}
