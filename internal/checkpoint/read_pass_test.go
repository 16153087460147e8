package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/quick"
	"time"
)

// someRead returns a read-only pass whose figures are consistent.
func someRead(targets int) ReadPass {
	read := ReadPass{
		Command: "audit",
		Caller:  "arn:aws:iam::111122223333:user/auditor",
		Host:    "host",
		Began:   time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Ended:   time.Date(2026, 1, 2, 3, 5, 5, 0, time.UTC),
		Status:  Finished,
		Sample:  Sample{Population: 10, Checked: 10},
	}
	for i := range targets {
		target := ReadTarget{Name: fmt.Sprintf("target %d", i)}
		target.Counts.Slots = SlotCounts{Seen: 3, Current: 1, Failed: 2}
		target.Counts.AddReason("failed/wrong-type", 2)
		target.Counts.AddOrigin(OriginUnread, 2)
		target.Counts.AddKey("arn:key", KeyCount{Slots: 1})
		read.Targets = append(read.Targets, target)
	}
	return read
}

// newestReads returns the read-only passes in a store, the newest first.
func newestReads(t *testing.T, p *Passes) (all []ReadPass) {
	t.Helper()
	for read, err := range p.ReadPasses(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, read)
	}
	return all
}

// testReadPasses stores read-only passes concurrently, with lost responses. Each has a
// number of its own and is read back as it was stored, and no record of a pass changes.
func testReadPasses(t *testing.T, p testStore) {
	const audits = 12
	pass, err := NewPasses(p.open(), "job").Begin(t.Context(), 0, Pass{Fingerprint: "print"})
	if err != nil {
		t.Fatal(err)
	}
	if p.lose != nil {
		p.lose(audits)
	}
	stored := make([]ReadPass, audits)
	var group sync.WaitGroup
	for i := range audits {
		group.Go(func() {
			read := someRead(1 + i)
			read.Host = fmt.Sprint("host ", i)
			passes := NewPasses(p.open(), "job")
			var err error
			if stored[i], err = passes.StoreReadPass(t.Context(), read); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	passes := NewPasses(p.open(), "job")
	all := newestReads(t, passes)
	slices.SortFunc(stored, func(a, b ReadPass) int { return b.Number - a.Number })
	if !reflect.DeepEqual(all, stored) {
		t.Errorf("read back:\n%+v\nwant:\n%+v", all, stored)
	}
	numbers := map[int]bool{}
	for _, read := range stored {
		numbers[read.Number] = true
	}
	if len(numbers) != audits {
		t.Errorf("%d audits have %d numbers", audits, len(numbers))
	}
	if now, err := passes.Last(t.Context()); err != nil || !reflect.DeepEqual(now, pass) {
		t.Errorf("the last pass is %+v, %v, want %+v", now, err, pass)
	}
	if reads := newestReads(t, NewPasses(p.open(), "other")); len(reads) != 0 {
		t.Errorf("another job has %d read-only passes", len(reads))
	}
}

// A read-only pass with more targets than fit into one record is stored in parts.
func TestReadPassInParts(t *testing.T) {
	store := NewMemory()
	passes := NewPasses(store, "job")
	read := someRead(3000)
	stored, err := passes.StoreReadPass(t.Context(), read)
	if err != nil {
		t.Fatal(err)
	}
	got, err := passes.ReadPass(t.Context(), stored.Number)
	if err != nil || got.Parts < 2 || !reflect.DeepEqual(got.Targets, read.Targets) {
		t.Fatalf("%d parts and %d targets, %v, want several and %d", got.Parts, len(got.Targets),
			err, len(read.Targets))
	}
	delete(store.records, passes.readPartID(stored.Number, 1))
	var corrupt *CorruptError
	if _, err := passes.ReadPass(t.Context(), stored.Number); !errors.As(err, &corrupt) {
		t.Errorf("without a part: %v, want *CorruptError", err)
	}
}

// errCrash is the error of all writes after a crash.
var errCrash = errors.New("crashed")

// crashing is a store whose writes fail after some have succeeded.
type crashing struct {
	Store
	left int
}

func (c *crashing) Create(ctx context.Context, id string, data []byte) (Entry, error) {
	if c.left--; c.left < 0 {
		return Entry{}, errCrash
	}
	return c.Store.Create(ctx, id, data)
}

func (c *crashing) Replace(ctx context.Context, e Entry, data []byte) (Entry, error) {
	if c.left--; c.left < 0 {
		return Entry{}, errCrash
	}
	return c.Store.Replace(ctx, e, data)
}

// A crash after any write leaves a complete read-only pass or none. The next one is stored
// under another number.
func TestCrashWhileReadPassIsStored(t *testing.T) {
	read := someRead(3000)
	for writes := 0; ; writes++ {
		store := NewMemory()
		passes := NewPasses(&crashing{store, writes}, "job")
		_, crashed := passes.StoreReadPass(t.Context(), read)
		if crashed != nil && !errors.Is(crashed, errCrash) {
			t.Fatal(crashed)
		}
		passes = NewPasses(store, "job")
		if all := newestReads(t, passes); crashed != nil && len(all) != 0 ||
			crashed == nil && len(all) != 1 {
			t.Errorf("after %d writes: %d read-only passes, and the error %v", writes, len(all),
				crashed)
		}
		if _, err := passes.StoreReadPass(t.Context(), someRead(1)); err != nil {
			t.Errorf("after %d writes: %v", writes, err)
		}
		if crashed == nil {
			if writes < 3 {
				t.Errorf("a read-only pass in parts took %d writes", writes)
			}
			return
		}
	}
}

// unsure is a store whose first Create is applied but returns an error.
type unsure struct {
	Store
	done bool
}

func (u *unsure) Create(ctx context.Context, id string, data []byte) (Entry, error) {
	e, err := u.Store.Create(ctx, id, data)
	if !u.done && strings.Contains(id, "/read/") {
		u.done = true
		return Entry{}, errors.New("the outcome is unknown")
	}
	return e, err
}

// If the outcome of a write is unknown, the record is read again and compared.
func TestReadPassWithUnknownOutcome(t *testing.T) {
	store := NewMemory()
	passes := NewPasses(&unsure{Store: store}, "job")
	if _, err := passes.StoreReadPass(t.Context(), someRead(1)); err != nil {
		t.Error(err)
	}
	if all := newestReads(t, passes); len(all) != 1 || all[0].Number != 1 {
		t.Errorf("stored: %+v, want number 1", all)
	}
}

// After the head was damaged, read-only passes get free numbers, and no record is lost. A
// head of a newer version is not replaced.
func TestDamagedHeadOfReadPasses(t *testing.T) {
	store := NewMemory()
	passes := NewPasses(store, "job")
	store3 := func() {
		t.Helper()
		for range 3 {
			if _, err := passes.StoreReadPass(t.Context(), someRead(1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	store3()
	head := store.records[passes.readHeadID()]
	head.Data = []byte("damaged")
	store.records[passes.readHeadID()] = head
	if _, err := passes.LastReadPass(t.Context()); !IsUnreadable(err) {
		t.Errorf("LastReadPass: %v, want *CorruptError", err)
	}
	store3()
	if all := newestReads(t, passes); len(all) != 6 {
		t.Errorf("%d read-only passes, want 6", len(all))
	}
	head = store.records[passes.readHeadID()]
	head.Data = []byte(strings.Replace(string(head.Data), `"schema":2`, `"schema":3`, 1))
	store.records[passes.readHeadID()] = head
	if _, err := passes.StoreReadPass(t.Context(), someRead(1)); !IsNewer(err) {
		t.Errorf("with a newer head: %v, want *SchemaError", err)
	}
}

// A record that cannot be read is reported with its number, and the others are returned.
func TestDamagedReadPass(t *testing.T) {
	store := NewMemory()
	passes := NewPasses(store, "job")
	for range 20 {
		if _, err := passes.StoreReadPass(t.Context(), someRead(1)); err != nil {
			t.Fatal(err)
		}
	}
	damaged := store.records[passes.readPassID(7)]
	damaged.Data = []byte("{}")
	store.records[passes.readPassID(7)] = damaged
	good := 0
	for read, err := range passes.ReadPasses(t.Context()) {
		switch {
		case err == nil:
			good++
		case read.Number != 7 || !IsUnreadable(err):
			t.Errorf("number %d: %v", read.Number, err)
		}
	}
	if good != 19 {
		t.Errorf("%d read-only passes, want 19", good)
	}
}

// Figures that contradict each other are never stored: of each record, one changed count is
// noticed.
func TestReadPassSumsBalance(t *testing.T) {
	balanced := func(current, remaining, foreign, failed uint16, change uint8) bool {
		var c Counts
		add := func(n uint16, field *int64, reason string) {
			*field = int64(n)
			c.Slots.Seen += int64(n)
			if reason != "" && n > 0 {
				c.AddReason(reason, int64(n))
			}
		}
		add(current, &c.Slots.Current, "")
		add(remaining, &c.Slots.Remaining, "")
		add(foreign, &c.Slots.Foreign, "foreign/foreign-key")
		add(failed, &c.Slots.Failed, "failed/wrong-type")
		c.AddOrigin(OriginUnread, int64(failed))
		c.AddKey("arn:old", KeyCount{Slots: int64(remaining)})
		read := ReadPass{Targets: []ReadTarget{{Name: "t", Counts: c}}}
		passes := NewPasses(NewMemory(), "job")
		if _, err := passes.StoreReadPass(t.Context(), read); err != nil {
			t.Error(err)
			return false
		}
		wrong := c.clone()
		switch change % 5 {
		case 0:
			wrong.Slots.Seen++
		case 1:
			wrong.Slots.Failed++
		case 2:
			wrong.AddReason("failed/wrong-type", 1)
		case 3:
			wrong.AddOrigin(OriginNone, 1)
		case 4:
			wrong.AddKey("arn:new", KeyCount{Slots: wrong.Slots.Seen + 1})
		}
		read.Targets[0].Counts = wrong
		_, err := passes.StoreReadPass(t.Context(), read)
		return err != nil
	}
	if err := quick.Check(balanced, nil); err != nil {
		t.Error(err)
	}
}

// Every field of a read-only pass survives its stored form.
func TestReadPassFields(t *testing.T) {
	read := someRead(1)
	read.LastPass = &LastPass{Number: 3, ID: "id", Status: Finished, Ended: read.Began}
	read.Accepted = []AcceptedSlots{{Rule: 1, Target: "t", Slots: 2, Because: "known"}}
	read.Examples = []LedgerEntry{{Target: "t", Ref: "r", Outcome: "failed"}}
	text, err := json.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	var again ReadPass
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again, read) {
		t.Errorf("%+v, %v, want %+v", again, err, read)
	}
}
