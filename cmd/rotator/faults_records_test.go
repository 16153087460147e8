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

// home is a kind of location of a checkpoint.
type home struct{ name, checkpoint string }

func sharedHomes() []home {
	return []home{{"in a table", harness.InTable}, {"in a bucket", harness.InBucket}}
}

func homes() []home { return append([]home{{"in a file", ""}}, sharedHomes()...) }

// at returns a configuration with the checkpoint in this location. The lease is short, because the
// partitions of a killed run are free only after its lease.
func (p home) at(c harness.Config) harness.Config {
	c.Checkpoint = p.checkpoint
	if p.checkpoint != "" {
		c.Extra = "lease: 1s"
	}
	return c
}

// each runs a test with the checkpoint in each of the locations, in small environments.
func each(t *testing.T, homes []home, try func(t *testing.T, c harness.Config)) {
	for _, p := range homes {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			try(t, p.at(fewer()))
		})
	}
}

// ofBucket returns a function that is true for requests to a bucket.
func ofBucket(name string) func(requestOf) bool {
	return func(r requestOf) bool { return strings.HasPrefix(r.URL.Path, "/"+name+"/") }
}

// recordKinds returns the records of a checkpoint with the beginnings of their ids.
func recordKinds() map[string]string {
	return map[string]string{
		"head":      "jobs/trial/head",
		"pass":      "jobs/trial/pass/1",
		"partition": "jobs/trial/pass/1/partition/",
		"ledger":    "jobs/trial/pass/1/ledger/",
		"roster":    "jobs/trial/roster",
	}
}

// recordOf returns the id of a record of a kind, or "" if there is none yet.
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
	if partition == path.Dir(id)+"/" { // not a chunk
		return true
	}
	epoch, _, _ := strings.Cut(chunk, ".")
	return strings.Contains(records[path.Clean(partition)], `"chunks":[{"epoch":`+epoch+`,`)
}

// recordChange is a change of a record, and the text of the error that refuses it.
type recordChange struct {
	name, text string
	code       int
	change     func(data []byte) []byte
}

func recordChanges(t *testing.T) []recordChange {
	schema := func(to string) func([]byte) []byte {
		return func(data []byte) []byte {
			// The checksum covers the content, so it stays correct.
			changed := regexp.MustCompile(`"schema":\d+`).ReplaceAll(data, []byte(`"schema":`+to))
			if string(changed) == string(data) || !json.Valid(changed) {
				t.Errorf("the record has no schema: %.80s", data)
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

// corruptRecords: for each kind of record and each location of the checkpoint, a run refuses a
// record that is damaged or of another version, and does not change it. With --restart a new pass
// begins and completes.
func corruptRecords(t *testing.T) {
	for _, p := range homes() {
		for _, kind := range slices.Sorted(maps.Keys(recordKinds())) {
			if kind == "roster" && p.checkpoint == "" {
				continue // a checkpoint for one run has no roster
			}
			changes := recordChanges(t)
			if p.checkpoint != "" {
				changes = changes[:1] // all stores decode records with the same code
			}
			for _, c := range changes {
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
		t.Errorf("want exit code %d and no result: %s", c.code, r)
	}
	for _, text := range []string{"record " + id, c.text, "--restart"} {
		if !strings.Contains(r.Log, text) {
			t.Errorf("the error does not contain %q: %s", text, r)
		}
	}
	if kept := w.Records(t); kept[id] != before[id] {
		t.Errorf("the refused run changed record %s", id)
	}
	w.CheckPartial(t, nil)

	before = w.Records(t) // a pass can complete before its ledger is needed
	w.CountsVary()        // slots that the first pass moved are current in the second
	r = w.Must(t, []int{exitExceptions}, "run", "--restart", "-o", "json")
	if r.Summary == nil {
		t.Fatalf("no result: %s", r)
	}
	w.Check(t, r.Summary)
	if r.Summary.Pass < 2 {
		t.Errorf("the new pass is %d, so the first one was not kept", r.Summary.Pass)
	}
	noted := strings.Contains(strings.Join(r.Summary.Notes, "\n"),
		"could not compare with the previous pass")
	// A pass without a readable ledger is never finished, so nothing is compared with it.
	if compared := kind != "pass"; noted == compared {
		t.Errorf("the notes are %q, but the previous pass can be read: %v", r.Summary.Notes,
			compared)
	}
	keptRecords(t, before, w.Records(t), id)
	if kind == "pass" {
		r = w.Must(t, []int{exitExceptions}, "retry", "-o", "json")
		w.Check(t, r.Summary)
	}
}

// halfwayWithRecords begins a pass that cannot complete, kills it when there is a record of each
// kind, and returns their ids.
func halfwayWithRecords(t *testing.T, w *harness.Env, p home) map[string]string {
	t.Helper()
	w.Fault("s3:PutObject", fault.Fault{Kind: fault.Reset, Of: ofBucket(harness.Bucket)})
	running := runs(w).Begin(t)
	ids := map[string]string{}
	until(t, "a record of each kind", func() bool {
		time.Sleep(20 * time.Millisecond) // each attempt reads all records
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

// keptRecords checks that the records of the abandoned pass still exist, and that a damaged record
// of the job was copied.
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
