package main

import (
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// home is somewhere a checkpoint can be.
type home struct{ name, checkpoint string }

func sharedHomes() []home {
	return []home{{"in a table", harness.InTable}, {"in a bucket", harness.InBucket}}
}

func homes() []home { return append([]home{{"in a file", ""}}, sharedHomes()...) }

// at has the checkpoint of a world there. Leases are short there, since what
// a killed run held is free only when its lease is over.
func (p home) at(c harness.Config) harness.Config {
	c.Checkpoint = p.checkpoint
	if p.checkpoint != "" {
		c.Extra = "lease: 1s"
	}
	return c
}

// each tries something with the checkpoint in each of the homes, in worlds that are
// small.
func each(t *testing.T, homes []home, try func(t *testing.T, c harness.Config)) {
	for _, p := range homes {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			try(t, p.at(fewer()))
		})
	}
}

// ofBucket is true for the requests to a bucket.
func ofBucket(name string) func(requestOf) bool {
	return func(r requestOf) bool { return strings.HasPrefix(r.URL.Path, "/"+name+"/") }
}

// recordKinds are the records of a checkpoint, by how their ids begin.
func recordKinds() map[string]string {
	return map[string]string{
		"head":      "jobs/trial/head",
		"pass":      "jobs/trial/pass/1",
		"partition": "jobs/trial/pass/1/partition/",
		"ledger":    "jobs/trial/pass/1/ledger/",
		"roster":    "jobs/trial/roster",
	}
}

// recordOf finds a record of a kind; "" when there is none yet.
func recordOf(records map[string]string, kind string) string {
	prefix := recordKinds()[kind]
	for _, id := range slices.Sorted(maps.Keys(records)) {
		if id == prefix ||
			strings.HasSuffix(prefix, "/") && strings.HasPrefix(id, prefix) && counts(records, id) {
			return id
		}
	}
	return ""
}

// counts reports whether a record is in use. A chunk of the ledger that its partition does not
// name, because a crash came between the two writes, is never read.
func counts(records map[string]string, id string) bool {
	partition, chunk := path.Split(strings.Replace(id, "/ledger/", "/partition/", 1))
	if partition == path.Dir(id)+"/" { // it is no chunk
		return true
	}
	epoch, _, _ := strings.Cut(chunk, ".")
	return strings.Contains(records[path.Clean(partition)], `"chunks":[{"epoch":`+epoch+`,`)
}

// recordChange is what becomes of a record, and what the refusal says of it.
type recordChange struct {
	name, says string
	code       int
	change     func(data []byte) []byte
}

func recordChanges(t *testing.T) []recordChange {
	schema := func(to string) func([]byte) []byte {
		return func(data []byte) []byte {
			// The checksum is of the content, and stays right.
			changed := regexp.MustCompile(`"schema":\d+`).ReplaceAll(data, []byte(`"schema":`+to))
			if string(changed) == string(data) || !json.Valid(changed) {
				t.Errorf("the record names no schema: %.80s", data)
			}
			return changed
		}
	}
	return []recordChange{
		{"a corrupt bit", "is corrupt", exitStorage, func(data []byte) []byte {
			data = slices.Clone(data)
			data[len(data)-8] ^= 2
			return data
		}},
		{"a newer version", "has schema 9", exitBusy, schema("9")},
		{"an older version", "has schema 1", exitStorage, schema("1")},
	}
}

// corruptRecords: whichever record of a checkpoint is damaged or of another version,
// wherever the checkpoint is, a run refuses it and leaves it as it is; at the user's
// word a new pass begins beside it and comes to its end.
func corruptRecords(t *testing.T) {
	for _, p := range homes() {
		for _, kind := range slices.Sorted(maps.Keys(recordKinds())) {
			if kind == "roster" && p.checkpoint == "" {
				continue // one run at a time needs no roster
			}
			for _, c := range recordChanges(t) {
				t.Run(p.name+", "+kind+", "+c.name, func(t *testing.T) {
					t.Parallel()
					corruptRecord(t, p, kind, c)
				})
			}
		}
	}
}

func corruptRecord(t *testing.T, p home, kind string, c recordChange) {
	w := newTrial(t, p.at(harness.Config{
		Items:   map[harness.Kind]int{harness.Ordinary: 12, harness.Poison: 4},
		Objects: map[harness.Kind]int{harness.Ordinary: 3},
	}))
	id := halfwayWithRecords(t, w, p)[kind]
	w.ChangeRecord(t, id, c.change)
	before := w.Records(t)

	r := w.Run(t, "run", "-o", "json")
	if r.Code != c.code || r.Out != "" {
		t.Errorf("want it refused, with exit code %d: %s", c.code, r)
	}
	for _, says := range []string{"record " + id, c.says, "--restart"} {
		if !strings.Contains(r.Log, says) {
			t.Errorf("the refusal does not say %q: %s", says, r)
		}
	}
	if kept := w.Records(t); kept[id] != before[id] {
		t.Errorf("the refusal changed record %s", id)
	}
	w.CheckPartial(t, nil)

	before = w.Records(t) // before the ledger is asked for, a pass can come to its end
	w.CountsVary()        // what the first pass moved is current in the second
	r = w.Must(t, []int{exitExceptions}, "run", "--restart", "-o", "json")
	if r.Summary == nil {
		t.Fatalf("no result: %s", r)
	}
	w.Check(t, r.Summary)
	if r.Summary.Pass < 2 {
		t.Errorf("it is pass %d: the first is not kept", r.Summary.Pass)
	}
	noted := strings.Contains(strings.Join(r.Summary.Notes, "\n"),
		"could not compare with the previous pass")
	// A pass without a readable ledger is never finished, so nothing is compared with it.
	if compared := kind != "pass"; noted == compared {
		t.Errorf("the notes are %q, and the pass before could be read: %v", r.Summary.Notes,
			compared)
	}
	keptRecords(t, before, w.Records(t), id)
	if kind == "pass" {
		r = w.Must(t, []int{exitExceptions}, "retry", "-o", "json")
		w.Check(t, r.Summary)
	}
}

// halfwayWithRecords begins a pass that cannot come to its end, kills it once there
// is a record of each kind, and returns their ids.
func halfwayWithRecords(t *testing.T, w *harness.Env, p home) map[string]string {
	t.Helper()
	w.Fault("s3:PutObject", fault.Fault{Kind: fault.Reset, Of: ofBucket(harness.Bucket)})
	running := runs(w).Begin(t)
	ids := map[string]string{}
	until(t, "a record of each kind", func() bool {
		time.Sleep(20 * time.Millisecond) // a look reads all records
		records := w.Records(t)
		for kind := range recordKinds() {
			if id := recordOf(records, kind); id != "" {
				ids[kind] = id
			} else if kind != "roster" || p.checkpoint != "" {
				return false
			}
		}
		return true
	})
	running.Kill()
	if r := running.End(t); r.Code != -1 {
		t.Fatalf("the run ended before it was killed: %s", r)
	}
	w.Server.Faults().Clear("")
	return ids
}

// keptRecords checks that all of a pass that was left behind is still there: what
// belongs to the pass in its place, and what belongs to the job and was broken as a
// copy.
func keptRecords(t *testing.T, before, after map[string]string, broken string) {
	t.Helper()
	for id, data := range before {
		switch {
		case strings.HasPrefix(id, "jobs/trial/pass/"):
			if after[id] != data {
				t.Errorf("record %s was not kept", id)
			}
		case id == broken:
			copied := false
			for other, text := range after {
				copied = copied || text == data && strings.HasPrefix(other, id)
			}
			if !copied {
				t.Errorf("no copy of record %s was kept: %v", id, slices.Sorted(maps.Keys(after)))
			}
		}
	}
}
