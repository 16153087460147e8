package checkpoint

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
)

// oldRecords returns a store with the records of two passes of the job demo, as the version
// before read-only passes wrote them.
func oldRecords(t *testing.T) *Memory {
	t.Helper()
	text, err := os.ReadFile("testdata/before_read_passes.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]string
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	store := NewMemory()
	for id, data := range all {
		if _, err := store.Create(t.Context(), id, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// Records of the version before are read, and a read-only pass beside them changes none of them.
func TestOldRecords(t *testing.T) {
	store := oldRecords(t)
	passes := NewPasses(store, "demo")
	last, err := passes.Last(t.Context())
	if err != nil || last.Number != 2 || last.Status != Finished || len(last.Samples) != 0 {
		t.Fatalf("the last pass is %+v, %v", last, err)
	}
	totals, err := passes.Totals(t.Context(), last)
	if err != nil || totals["customers"].Slots.Seen+totals["vault"].Slots.Seen == 0 {
		t.Errorf("totals: %+v, %v", totals, err)
	}
	entries := 0
	for chunk, err := range passes.Ledger(t.Context(), last) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range chunk.Entries {
			if entries++; e.HeaderKey != "" {
				t.Errorf("an old entry has the header key %s", e.HeaderKey)
			}
		}
	}
	if entries != 15 {
		t.Errorf("the ledger has %d entries, want 15", entries)
	}
	before := map[string]string{}
	for id, e := range store.records {
		before[id] = string(e.Data)
	}
	if n, err := passes.LastReadPass(t.Context()); n != 0 || err != nil {
		t.Errorf("LastReadPass: %d, %v, want 0", n, err)
	}
	if _, err := passes.ReadPass(t.Context(), 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("ReadPass: %v, want ErrNotFound", err)
	}
	if _, err := passes.StoreReadPass(t.Context(), someRead(1)); err != nil {
		t.Error(err)
	}
	for id, data := range before {
		if string(store.records[id].Data) != data {
			t.Errorf("record %s was changed", id)
		}
	}
}

// The sample of a run is added once, also if the run is added again after a lost response.
func TestSamplesOfRuns(t *testing.T) {
	pass := Pass{}
	for _, id := range []string{"a", "b", "a", "c"} {
		if !pass.BeginHeaders(id) {
			t.Fatal("BeginHeaders refused a run")
		}
		end := RunEnd{ID: id, Sample: Sample{Population: 10, Checked: 10}, HeadersAgree: true}
		if id == "c" {
			end.Sample = Sample{} // it decided no slot by its header
		}
		pass.AddRun(end)
		pass.AddRun(end)
	}
	if n := len(pass.Samples); n != 2 || len(pass.Runs) != 3 {
		t.Errorf("%d samples of %d runs, want 2 of 3", n, len(pass.Runs))
	}
	for len(pass.Samples) < maxHeaderRuns {
		pass.Samples = append(pass.Samples, RunSample{Run: "other"})
	}
	if pass.BeginHeaders("d") {
		t.Error("a run counts slots by headers, and there is no room for its sample")
	}
}
