package rotate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakesm2"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/kmsblob"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// TestMain fails if the tests leave goroutines behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cloud is a fake KMS with an HTTP endpoint, and an SDK client for it.
type cloud struct {
	fake   *fakekms.Service
	faults *fault.Injector
	client *kms.Client
}

// cloudRegion is a Region that has every kind of key.
const cloudRegion = "cn-north-1"

// algorithmOf returns the algorithm in a job file for keys of a spec.
func algorithmOf(spec fakekms.KeySpec) string {
	switch spec {
	case fakekms.Symmetric:
		return ""
	case fakekms.SM2:
		return "SM2PKE"
	}
	return "RSAES_OAEP_SHA_256"
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	fake := fakekms.New(fakekms.Config{
		Region:  cloudRegion,
		Account: "111122223333",
		SM2:     fakesm2.New,
	})
	c := &cloud{fake: fake, faults: fault.New(1)}
	server := httptest.NewServer(c.faults.Handler(c.fake))
	t.Cleanup(server.Close)
	c.client = kms.NewFromConfig(aws.Config{
		Region:       cloudRegion,
		BaseEndpoint: aws.String(server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	})
	return c
}

func (c *cloud) key(t *testing.T, spec fakekms.KeySpec) string {
	t.Helper()
	arn, err := c.fake.CreateKey(spec)
	if err != nil {
		t.Fatal(err)
	}
	return arn
}

func (c *cloud) encrypt(t *testing.T, key, plaintext string, context map[string]string) []byte {
	t.Helper()
	blob, err := c.fake.Encrypt(key, []byte(plaintext), context)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func (c *cloud) resolve(t *testing.T, request reencrypt.KeyRequest) reencrypt.Keys {
	t.Helper()
	keys, err := reencrypt.ResolveKeys(t.Context(), c.client, request)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// memoryTarget is a target in memoryTarget: one partition, small pages, and writes that
// succeed only when the row is still what was read.
type memoryTarget struct {
	mu     sync.Mutex
	rows   map[string]map[string]scan.Value
	writes int
	// objects are the items that are objects. rows has entries for their names.
	objects map[string]*scan.Object
	// before is called before each write, without the lock. It simulates a concurrent writer.
	before func(ref scan.Ref)
	// unreadable is the error of Load. If it is set, pages list items without content.
	unreadable error
	// loseResponse makes Replace return an error after the write was applied.
	loseResponse func(ref scan.Ref) bool
	// refuse returns the error of a write that is not applied, or nil.
	refuse func(change scan.Change) error
	// goneAsChanged makes a write to a deleted item fail like a write to a changed item.
	goneAsChanged bool
}

func (m *memoryTarget) payload(name string) scan.Payload {
	if object := m.objects[name]; object != nil {
		return object
	}
	return &scan.Row{Attributes: m.rows[name]}
}

func newMemory() *memoryTarget { return &memoryTarget{rows: map[string]map[string]scan.Value{}} }

func (m *memoryTarget) Partitions(context.Context) ([]scan.Partition, error) {
	return []scan.Partition{{Name: "all", Spec: json.RawMessage("{}")}}, nil
}

func (m *memoryTarget) Page(
	_ context.Context, _ scan.Partition, cursor scan.Cursor,
) (page scan.Page, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(m.rows)) {
		if name <= string(cursor) {
			continue
		}
		if len(page.Items) == 10 {
			return page, nil
		}
		item := scan.Item{Ref: scan.Ref(name), Payload: m.payload(name)}
		if m.unreadable != nil {
			item.Payload = nil
		}
		page.Items = append(page.Items, item)
		page.Next = scan.Cursor(name)
	}
	page.Last = true
	return page, nil
}

func (m *memoryTarget) Load(_ context.Context, ref scan.Ref) (scan.Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row, ok := m.rows[string(ref)]
	if m.unreadable != nil {
		return scan.Item{}, m.unreadable
	}
	if !ok {
		return scan.Item{}, scan.ErrGone
	}
	return scan.Item{Ref: ref, Payload: &scan.Row{Attributes: row}}, nil
}

func (m *memoryTarget) Replace(_ context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		if m.before != nil {
			m.before(change.Item.Ref)
		}
		results[i].Err = m.replace(change)
	}
	return results
}

func (m *memoryTarget) replace(change scan.Change) error {
	if m.refuse != nil {
		if err := m.refuse(change); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now, ok := m.rows[string(change.Item.Ref)]
	if !ok && !m.goneAsChanged {
		return scan.ErrGone
	}
	if !ok || !cmp.Equal(now["slot"], change.Item.Payload.(*scan.Row).Attributes["slot"]) {
		return scan.ErrChanged
	}
	m.rows[string(change.Item.Ref)] = change.New.(*scan.Row).Attributes
	m.writes++
	if m.loseResponse != nil && m.loseResponse(change.Item.Ref) {
		return context.DeadlineExceeded
	}
	return nil
}

func (m *memoryTarget) put(name string, blob []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[name] = map[string]scan.Value{"slot": {Kind: scan.KindB, Bytes: blob}}
}

func (m *memoryTarget) blob(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rows[name]["slot"].Bytes
}

// memoryLog is an audit log in memory.
type memoryLog struct {
	mu       sync.Mutex
	intended map[string]rotate.Record
	records  []rotate.Record
	// find returns the records of an earlier process. Nil means that there are none.
	find func(ref scan.Ref, after string) (rotate.Trace, bool)
}

func newLog() *memoryLog { return &memoryLog{intended: map[string]rotate.Record{}} }

func (t *memoryLog) Intend(records []rotate.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range records {
		t.intended[r.After] = r
	}
	return nil
}

func (t *memoryLog) Record(records []rotate.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records = append(t.records, records...)
	return nil
}

func (t *memoryLog) Find(_ string, ref scan.Ref, after string) (rotate.Trace, bool) {
	if t.find == nil {
		return rotate.Trace{}, false
	}
	return t.find(ref, after)
}

func (t *memoryLog) Sync() error { return nil }

// testPass is one pass over a memoryTarget with an empty checkpoint.
type testPass struct {
	cloud     *cloud
	keys      reencrypt.Keys
	format    *ciphertext.Compiled
	target    *memoryTarget
	memoryLog *memoryLog
	settle    time.Duration
	inspect   bool
	wrong     *wrongKMS // nil: the fake KMS is not changed
	exact     bool
	engine    *rotate.Rotator // of the last run
	store     checkpoint.Store
	passes    *checkpoint.Passes
	workers   int // at least 4
	// stopAfter and early are the conditions under which the run stops early.
	stopAfter []int
	early     rotate.Early
	// identity is the identity of the pass, to which the records of the log are bound.
	identity string
	contents rotate.Contents
}

func (b *testPass) run(t *testing.T) (checkpoint.Counts, error) {
	t.Helper()
	target := rotate.Target{Name: "target", Lister: b.target, Format: b.format, Batch: 3,
		StopAfter: b.stopAfter}
	if !b.inspect {
		target.Writer = b.target
	}
	return b.runOn(t, target)
}

// runOn is like run, over another target.
func (b *testPass) runOn(t *testing.T, target rotate.Target) (checkpoint.Counts, error) {
	t.Helper()
	if b.memoryLog == nil {
		b.memoryLog = newLog()
	}
	store := b.store
	if store == nil {
		store = checkpoint.NewMemory()
	}
	b.passes = checkpoint.NewPasses(store, "job")
	opened, err := rotate.OpenPass(t.Context(), b.passes, rotate.Plan{
		Job:     "job",
		Keys:    b.keys,
		Targets: []rotate.Target{target},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	tracker, err := b.passes.Track(t.Context(), opened.Pass, checkpoint.TrackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.engine = b.rotator(target, opened.Pass.Number)
	ran := b.engine.Run(t.Context(), tracker, opened.Partitions)
	totals, err := b.passes.Totals(t.Context(), opened.Pass)
	if err != nil {
		t.Fatal(err)
	}
	counts := totals["target"]
	if !counts.Balanced() {
		t.Fatalf("slots without an outcome, or with two: %+v", counts.Slots)
	}
	return counts, ran
}

// openPass begins or resumes the pass of a plan, and opens its tracker.
func openPass(
	t *testing.T, passes *checkpoint.Passes, plan rotate.Plan,
) (*rotate.OpenedPass, *checkpoint.Tracker) {
	t.Helper()
	opened, err := rotate.OpenPass(t.Context(), passes, plan, false)
	if err != nil {
		t.Fatal(err)
	}
	tracker, err := passes.Track(t.Context(), opened.Pass, checkpoint.TrackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return opened, tracker
}

func (b *testPass) rotator(target rotate.Target, pass int) *rotate.Rotator {
	if b.settle == 0 {
		b.settle = 200 * time.Millisecond
	}
	var asked reencrypt.Reencrypter = reencrypt.NewKMS(b.cloud.client.ReEncrypt,
		b.keys.Destination, nil)
	if b.wrong != nil {
		b.wrong.Reencrypter = asked
		asked = b.wrong
	}
	return rotate.New(rotate.Config{
		Targets:   []rotate.Target{target},
		Keys:      b.keys,
		KMS:       asked,
		KeyState:  reencrypt.DescribeKeyState(b.cloud.client, nil),
		Rate:      100000,
		Workers:   max(b.workers, 4),
		MaxOutage: 2 * time.Second,
		Settle:    b.settle,
		Pass:      pass,
		Identity:  b.identity,
		Recorder:  b.memoryLog,
		Exact:     b.exact,
		Early:     b.early,
		Contents:  b.contents,
	})
}

func format(t *testing.T, from, to map[string]string) *ciphertext.Compiled {
	t.Helper()
	template, err := ciphertext.Compile(ciphertext.Spec{
		Format: "raw",
		Kind:   ciphertext.Rows,
		Slots:  []ciphertext.SlotSpec{{Path: "slot", Context: from, DestinationContext: to}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return template.Bind(ciphertext.Keys{})
}

// TestAlreadyMoved covers a crash between a write and its checkpoint, for every combination of
// contexts, kinds of keys and pins. The checkpoint is lost after a complete pass, and every slot
// must be recognised as current.
func TestAlreadyMoved(t *testing.T) {
	cloud := newCloud(t)
	kinds := []fakekms.KeySpec{fakekms.Symmetric, fakekms.RSA2048, fakekms.SM2}
	for _, from := range kinds {
		for _, to := range kinds {
			for _, changed := range []bool{false, true} {
				for _, pinned := range []bool{true, false} {
					name := fmt.Sprintf("%s to %s, changed context %v, pinned %v", from, to,
						changed, pinned)
					t.Run(name, func(t *testing.T) {
						testAlreadyMoved(t, cloud, from, to, changed, pinned)
					})
				}
			}
		}
	}
}

func testAlreadyMoved(
	t *testing.T, cloud *cloud, from, to fakekms.KeySpec, changed, pinned bool,
) {
	source, destination := cloud.key(t, from), cloud.key(t, to)
	request := reencrypt.KeyRequest{Destination: destination, DestinationAlgorithm: algorithmOf(to),
		Sources: []string{source}, SourceAlgorithm: algorithmOf(from)}
	if !pinned { // with several source keys, the first request names none
		request.Sources = []string{cloud.key(t, from), source}
	}
	before := map[string]string{"tenant": "a"}
	after := before
	if changed {
		after = map[string]string{"tenant": "a", "v": "2"}
	}
	if from != fakekms.Symmetric {
		before = nil
	}
	target := newMemory()
	for i := range 25 {
		target.put(fmt.Sprintf("item-%02d", i),
			cloud.encrypt(t, source, fmt.Sprintf("plaintext %d", i), before))
	}
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, request),
		format: format(t, before, after),
		target: target,
	}
	counts, err := b.run(t)
	if err != nil || counts.Slots.Rotated != 25 {
		t.Fatalf("first pass: %+v, %v, want 25 rotated", counts.Slots, err)
	}
	moved := maps.Clone(target.rows)
	counts, err = b.run(t) // another store: the checkpoint is lost
	if err != nil || counts.Slots.Current != 25 || counts.Slots.Seen != 25 {
		t.Fatalf("after the loss of the checkpoint: %+v, %v, want 25 current", counts.Slots, err)
	}
	if to != fakekms.Symmetric {
		after = nil
	}
	for i := range 25 {
		name := fmt.Sprintf("item-%02d", i)
		if !bytes.Equal(moved[name]["slot"].Bytes, target.blob(name)) {
			t.Errorf("%s was written again", name)
		}
		plaintext, key, err := cloud.fake.Decrypt(destination, target.blob(name), after)
		if err != nil || string(plaintext) != fmt.Sprintf("plaintext %d", i) || key != destination {
			t.Errorf("%s: %q under %s, %v", name, plaintext, key, err)
		}
	}
}

func TestRefreshMovesToTheNewestMaterialOnly(t *testing.T) {
	cloud := newCloud(t)
	key := cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	for i := range 20 {
		target.put(fmt.Sprintf("item-%02d", i), cloud.encrypt(t, key, "old material", nil))
	}
	if _, err := cloud.fake.Rotate(key); err != nil {
		t.Fatal(err)
	}
	for i := 20; i < 30; i++ {
		target.put(fmt.Sprintf("item-%02d", i), cloud.encrypt(t, key, "new material", nil))
	}
	b := &testPass{
		cloud: cloud,
		keys: cloud.resolve(t,
			reencrypt.KeyRequest{
				Destination: key,
				Sources:     []string{key},
				Mode:        reencrypt.ModeRefresh,
			}),
		format: format(t, nil, nil),
		target: target,
	}
	counts, err := b.run(t)
	if err != nil || counts.Slots.Rotated != 20 || counts.Slots.Current != 10 {
		t.Fatalf("%+v, %v, want 20 rotated and 10 current", counts.Slots, err)
	}
	counts, err = b.run(t)
	if err != nil || counts.Slots.Current != 30 {
		t.Fatalf("again: %+v, %v, want 30 current", counts.Slots, err)
	}
}

// eachOutcome returns a target with one item for each outcome of a slot, and one without a slot.
func eachOutcome(
	t *testing.T, cloud *cloud, old, new, third string, context map[string]string,
) *memoryTarget {
	t.Helper()
	target := newMemory()
	target.put("a-mine", cloud.encrypt(t, old, "mine", context))
	target.put("b-moved", cloud.encrypt(t, new, "moved", context))
	target.put("c-foreign", cloud.encrypt(t, third, "foreign", context))
	target.put("d-context", cloud.encrypt(t, old, "context", map[string]string{"app": "other"}))
	target.put("e-random", bytes.Repeat([]byte{7}, 200))
	target.put("f-empty", nil)
	target.put("g-long", bytes.Repeat([]byte{1}, kmsblob.MaxSize+1))
	target.rows["h-type"] = map[string]scan.Value{"slot": {Kind: scan.KindN, Text: "1"}}
	target.rows["i-none"] = map[string]scan.Value{"other": {Kind: scan.KindS, Text: "x"}}
	return target
}

// failure is a part of a ledger entry.
type failure struct{ reason, headerKey string }

// checkLedger compares the ledger of the last pass with the wanted failures by item.
func (b *testPass) checkLedger(t *testing.T, want map[string]failure) {
	t.Helper()
	last, err := b.passes.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]failure{}
	for chunk, err := range b.passes.Ledger(t.Context(), last) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range chunk.Entries {
			got[e.Ref] = failure{e.Reason, e.HeaderKey}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("ledger: %v\nwant:   %v", got, want)
	}
}

func TestEachSlotHasItsOutcome(t *testing.T) {
	cloud := newCloud(t)
	old := cloud.key(t, fakekms.Symmetric)
	new := cloud.key(t, fakekms.Symmetric)
	third := cloud.key(t, fakekms.Symmetric)
	context := map[string]string{"app": "a"}
	target := eachOutcome(t, cloud, old, new, third, context)
	before := maps.Clone(target.rows)
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, context, nil),
		target: target,
		store:  checkpoint.NewMemory(),
	}
	counts, err := b.run(t)
	if err != nil {
		t.Fatal(err)
	}
	want := checkpoint.Counts{
		Slots: checkpoint.SlotCounts{Seen: 8, Rotated: 1, Current: 1, Foreign: 1, Failed: 5},
		Items: checkpoint.ItemCounts{Seen: 9, Written: 1, WithoutSlot: 1, Ruled: 9},
	}
	if counts.Slots != want.Slots || counts.Items != want.Items {
		t.Errorf("counted %+v, want %+v", counts, want)
	}
	if n := counts.Keys[third].Slots; n != 1 {
		t.Errorf("%d slots under the third key, want 1", n)
	}
	// The origins: the header of d-context names the old key; e-random,
	// f-empty and g-long cannot be under any; what h-type is was not read.
	origins := map[checkpoint.Origin]int64{
		checkpoint.Origin(old):  1,
		checkpoint.OriginNone:   3,
		checkpoint.OriginUnread: 1,
	}
	if diff := cmp.Diff(origins, counts.Origins); diff != "" {
		t.Errorf("origins (-want +got):\n%s", diff)
	}
	rule := checkpoint.RuleCounts{Place: "slot", Found: 4, Refused: 4, Good: 2}
	if diff := cmp.Diff(map[string]checkpoint.RuleCounts{"slots[0]": rule},
		counts.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for name := range before {
		if name != "a-mine" && !bytes.Equal(before[name]["slot"].Bytes, target.blob(name)) {
			t.Errorf("%s was changed", name)
		}
	}
	b.checkLedger(t, map[string]failure{
		"c-foreign": {"foreign-key", third},
		"d-context": {"source-other-context", old},
		"e-random":  {"invalid-ciphertext", checkpoint.HeaderNone},
		"f-empty":   {"empty", ""},
		"g-long":    {"too-large", checkpoint.HeaderNone},
		"h-type":    {"wrong-type", ""},
	})
}

// TestOneSlotThatCannotBeReplaced: if the new ciphertext of a slot cannot replace the old one,
// only this slot fails. The other slots of the item move.
func TestOneSlotThatCannotBeReplaced(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.RSA4096)
	long, short := cloud.encrypt(t, old, "long", nil), cloud.encrypt(t, old, "short", nil)
	template, err := ciphertext.Compile(ciphertext.Spec{
		Format: "raw",
		Kind:   ciphertext.Rows,
		Slots: []ciphertext.SlotSpec{
			{Path: "short", Format: "length-prefixed-u8"},
			{Path: "long"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	compiled := template.Bind(ciphertext.Keys{})
	target := newMemory()
	framed := append([]byte{byte(len(short))}, short...)
	target.rows["a"] = map[string]scan.Value{
		"short": {Kind: scan.KindB, Bytes: framed},
		"long":  {Kind: scan.KindB, Bytes: long},
	}
	target.rows["b"] = map[string]scan.Value{"short": {Kind: scan.KindB, Bytes: framed}}
	b := &testPass{
		cloud:  cloud,
		format: compiled,
		target: target,
		keys: cloud.resolve(t, reencrypt.KeyRequest{
			Destination:          new,
			DestinationAlgorithm: "RSAES_OAEP_SHA_256",
			Sources:              []string{old},
		}),
	}
	counts, err := b.run(t)
	if err != nil {
		t.Fatal(err)
	}
	if want := (checkpoint.SlotCounts{
		Seen:    3,
		Rotated: 1,
		Failed:  2,
	}); counts.Slots != want || counts.Items.Written != 1 {
		t.Errorf("counted %+v, want %+v", counts, want)
	}
	if plaintext, under, err := cloud.fake.Decrypt(new, target.rows["a"]["long"].Bytes,
		nil); err != nil || string(plaintext) != "long" || under != new {
		t.Errorf("the other slot has the plaintext %q under %s, %v", plaintext, under, err)
	}
	for _, name := range []string{"a", "b"} {
		if !bytes.Equal(target.rows[name]["short"].Bytes, framed) {
			t.Errorf("the slot of %s changed", name)
		}
	}
}

func TestConcurrentWriterWins(t *testing.T) {
	for _, goneAsChanged := range []bool{false, true} {
		t.Run(fmt.Sprintf("gone as changed %v", goneAsChanged), func(t *testing.T) {
			testConcurrentWriterWins(t, goneAsChanged)
		})
	}
}

func testConcurrentWriterWins(t *testing.T, goneAsChanged bool) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	target.goneAsChanged = goneAsChanged
	for _, name := range []string{"always", "deleted", "once", "never"} {
		target.put(name, cloud.encrypt(t, old, name, nil))
	}
	var raced bool
	target.before = func(ref scan.Ref) {
		switch ref {
		case "always":
			target.put("always", cloud.encrypt(t, old, "always, again", nil))
		case "once":
			if !raced {
				raced = true
				target.put("once", cloud.encrypt(t, old, "once, by another writer", nil))
			}
		case "deleted":
			target.mu.Lock()
			delete(target.rows, "deleted")
			target.mu.Unlock()
		}
	}
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
	}
	counts, err := b.run(t)
	if want := (checkpoint.SlotCounts{
		Seen:     4,
		Rotated:  2,
		Conflict: 1,
		Gone:     1,
	}); err != nil || counts.Slots != want {
		t.Fatalf("%+v, %v, want %+v", counts.Slots, err, want)
	}
	for name, want := range map[string]string{
		"always": "always, again",
		"once":   "once, by another writer",
		"never":  "never",
	} {
		plaintext, _, err := cloud.fake.Decrypt("", target.blob(name), nil)
		if err != nil || string(plaintext) != want {
			t.Errorf("%s holds %q, %v, want %q", name, plaintext, err, want)
		}
	}
	if _, ok := target.rows["deleted"]; ok {
		t.Error("the deleted item was created again")
	}
}

// TestLostResponseIsRecognised: a write whose response is lost is recognised, counted once, and
// not repeated.
func TestLostResponseIsRecognised(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	for i := range 30 {
		target.put(fmt.Sprintf("item-%02d", i), cloud.encrypt(t, old, "x", nil))
	}
	target.loseResponse = func(scan.Ref) bool { return target.writes%2 == 0 }
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
	}
	counts, err := b.run(t)
	if err != nil || counts.Slots.Rotated != 30 || counts.Items.Written != 30 {
		t.Fatalf("%+v, %v, want 30 rotated and written", counts, err)
	}
	if target.writes != 30 || len(b.memoryLog.records) != 30 {
		t.Errorf("%d writes and %d audit records, want 30 of each", target.writes,
			len(b.memoryLog.records))
	}
}

// stopKind returns the kind of a *StopError, or "" for nil.
func stopKind(t *testing.T, err error) retry.StopKind {
	t.Helper()
	var stop *retry.StopError
	if err != nil && !errors.As(err, &stop) {
		t.Fatalf("%v is not a *StopError", err)
	}
	if stop == nil {
		return ""
	}
	return stop.Kind
}

// runErrorCase damages a cloud or a key, and repairs it.
type runErrorCase struct {
	name   string
	damage func(c *cloud, old string)
	repair func(c *cloud, old string)
	want   retry.StopKind
}

func runErrorCases() []runErrorCase {
	deny := func(action string) func(*cloud, string) {
		return func(c *cloud, _ string) {
			c.fake.SetPolicy(func(call fakekms.Call) bool { return call.Action != action })
		}
	}
	return []runErrorCase{
		{"source disabled", func(c *cloud, old string) {
			_ = c.fake.SetState(old, fakekms.Disabled)
		},
			func(c *cloud, old string) {
				_ = c.fake.SetState(old, fakekms.Enabled)
			}, retry.StopAccess},
		{"source pending deletion", func(c *cloud, old string) {
			_ = c.fake.SetState(old, fakekms.PendingDeletion)
		},
			func(c *cloud, old string) {
				_ = c.fake.SetState(old, fakekms.Enabled)
			}, retry.StopAccess},
		{"ReEncryptFrom denied", deny("kms:ReEncryptFrom"), func(c *cloud, _ string) {
			c.fake.SetPolicy(nil)
		}, retry.StopAccess},
		{"ReEncryptTo denied", deny("kms:ReEncryptTo"), func(c *cloud, _ string) {
			c.fake.SetPolicy(nil)
		}, retry.StopAccess},
		{"KMS returns 500", func(c *cloud, _ string) {
			c.faults.Set("kms:ReEncrypt", fault.Fault{Kind: fault.InternalError})
		},
			func(c *cloud, _ string) { c.faults.Clear("") }, retry.StopUnavailable},
		{"KMS is unreachable", func(c *cloud, _ string) {
			c.faults.Set("kms:ReEncrypt", fault.Fault{Kind: fault.Reset})
		},
			func(c *cloud, _ string) { c.faults.Clear("") }, retry.StopUnavailable},
	}
}

// TestErrorsOfTheRunFailNoSlot: an error that concerns the whole run stops the run and fails no
// slot. The pass can be resumed after the cause is fixed.
func TestErrorsOfTheRunFailNoSlot(t *testing.T) {
	for _, test := range runErrorCases() {
		t.Run(test.name, func(t *testing.T) {
			cloud := newCloud(t)
			old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
			target := newMemory()
			for i := range 40 {
				target.put(fmt.Sprintf("item-%02d", i), cloud.encrypt(t, old, "x", nil))
			}
			b := &testPass{
				cloud: cloud,
				keys: cloud.resolve(t, reencrypt.KeyRequest{
					Destination: new,
					Sources:     []string{old},
				}),
				format: format(t, nil, nil),
				target: target,
				store:  checkpoint.NewMemory(),
			}
			test.damage(cloud, old)
			counts, err := b.run(t)
			if got := stopKind(t, err); got != test.want ||
				counts.Slots.Failed+counts.Slots.Foreign > 0 {
				t.Fatalf("stopped for %q (%v) with %+v, want %q and no failed slot", got, err,
					counts.Slots, test.want)
			}
			test.repair(cloud, old)
			counts, err = b.run(t)
			if err != nil || counts.Slots.Rotated != 40 {
				t.Fatalf("after the fix: %+v, %v, want 40 rotated", counts.Slots, err)
			}
		})
	}
}

// TestTemporaryErrorsFailNoSlot: throttling and temporary errors delay the run but fail no slot.
func TestTemporaryErrorsFailNoSlot(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	for i := range 300 {
		target.put(fmt.Sprintf("item-%03d", i), cloud.encrypt(t, old, "x", nil))
	}
	cloud.fake.SetReEncryptQuota(200)
	cloud.faults.Set("kms:ReEncrypt", fault.Fault{Kind: fault.InternalError, Share: 0.05})
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
	}
	counts, err := b.run(t)
	if err != nil || counts.Slots.Rotated != 300 {
		t.Fatalf("%+v, %v, want 300 rotated", counts.Slots, err)
	}
}

// TestDenialFailsOnlyItsSlot: a policy can deny some slots and allow others. Only denied slots
// fail.
func TestDenialFailsOnlyItsSlot(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	for i := range 10 {
		target.rows[fmt.Sprintf("item-%02d", i)] = map[string]scan.Value{
			"tenant": {Kind: scan.KindS, Text: fmt.Sprint(i % 2)},
			"slot": {
				Kind:  scan.KindB,
				Bytes: cloud.encrypt(t, old, "x", map[string]string{"tenant": fmt.Sprint(i % 2)}),
			},
		}
	}
	// Like a policy with a condition on the context, it also denies requests without a context.
	cloud.fake.SetPolicy(func(c fakekms.Call) bool {
		return c.Action == "kms:DescribeKey" || c.EncryptionContext["tenant"] == "0"
	})
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, map[string]string{"tenant": "${tenant}"}, nil),
		target: target,
	}
	counts, err := b.run(t)
	if want := (checkpoint.SlotCounts{
		Seen:    10,
		Rotated: 5,
		Failed:  5,
	}); err != nil || counts.Slots != want {
		t.Fatalf("%+v, %v, want %+v", counts.Slots, err, want)
	}
}

// wrongKMS is a KMS that returns wrong responses.
type wrongKMS struct {
	reencrypt.Reencrypter
	source, destination string
	corrupt             func(
		reencrypt.Request, *reencrypt.Response,
	) // nil: the other fields stay unchanged
	authorized func() error // nil: dry runs go to KMS unchanged
}

func (l wrongKMS) Authorized(ctx context.Context, source reencrypt.Key) (bool, error) {
	if l.authorized != nil {
		return true, l.authorized()
	}
	return l.Reencrypter.Authorized(ctx, source)
}

func (l wrongKMS) ReEncrypt(ctx context.Context, q reencrypt.Request) (reencrypt.Response, error) {
	answer, err := l.Reencrypter.ReEncrypt(ctx, q)
	if err == nil && l.source != "" {
		answer.Source = l.source
	}
	if err == nil && l.destination != "" {
		answer.Destination = l.destination
	}
	if err == nil && l.corrupt != nil {
		l.corrupt(q, &answer)
	}
	return answer, err
}

// TestKeyInResponseDecides: nothing is written if a response names another source or destination
// key than the request.
func TestKeyInResponseDecides(t *testing.T) {
	cloud := newCloud(t)
	old := cloud.key(t, fakekms.Symmetric)
	new := cloud.key(t, fakekms.Symmetric)
	third := cloud.key(t, fakekms.Symmetric)
	for _, test := range []struct {
		name     string
		wrongKMS wrongKMS
		want     retry.StopKind
		slot     checkpoint.SlotCounts
	}{
		{
			"another destination",
			wrongKMS{destination: third},
			retry.StopInternal,
			checkpoint.SlotCounts{},
		},
		{"another source", wrongKMS{source: third}, "", checkpoint.SlotCounts{Seen: 1, Foreign: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := newMemory()
			target.put("item", cloud.encrypt(t, old, "x", nil))
			b := &testPass{
				cloud: cloud,
				keys: cloud.resolve(t, reencrypt.KeyRequest{
					Destination: new,
					Sources:     []string{old},
				}),
				format: format(t, nil, nil),
				target: target,
				wrong:  &test.wrongKMS,
			}
			counts, err := b.run(t)
			if got := stopKind(t, err); got != test.want || counts.Slots != test.slot ||
				target.writes != 0 {
				t.Errorf("%q (%v) with %+v and %d writes, want %q with %+v and none", got, err,
					counts.Slots, target.writes, test.want, test.slot)
			}
		})
	}
}

// TestIncompleteResponses: a response without a key or without a ciphertext ends the run before
// the item is written or counted. This holds even if another slot of the item has a complete
// response, and if the slot would not move.
func TestIncompleteResponses(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	listed := reencrypt.KeyRequest{Destination: new, Sources: []string{old}}
	anyKey := reencrypt.KeyRequest{Destination: new, Any: true}
	slots := func(key string, n int) (row map[string]scan.Value) {
		row = map[string]scan.Value{"slot": {Kind: scan.KindBS}}
		for i := range n {
			v := row["slot"]
			v.ByteSet = append(v.ByteSet, cloud.encrypt(t, key, fmt.Sprint(i), nil))
			row["slot"] = v
		}
		return row
	}
	corruptions := map[string]func(*reencrypt.Response){
		"no ciphertext":       func(a *reencrypt.Response) { a.Blob = nil },
		"an empty ciphertext": func(a *reencrypt.Response) { a.Blob = []byte{} },
		"no source key":       func(a *reencrypt.Response) { a.Source = "" },
		"no destination key":  func(a *reencrypt.Response) { a.Destination = "" },
		"nothing but metadata": func(a *reencrypt.Response) {
			*a = reencrypt.Response{SourceMaterial: a.SourceMaterial}
		},
	}
	for _, request := range []reencrypt.KeyRequest{listed, anyKey} {
		for _, key := range []string{old, new} {
			for _, n := range []int{1, 2} {
				for name, corrupt := range corruptions {
					target := newMemory()
					target.rows["item"] = slots(key, n)
					last := target.rows["item"]["slot"].ByteSet[n-1]
					b := &testPass{
						cloud:  cloud,
						keys:   cloud.resolve(t, request),
						format: format(t, nil, nil),
						target: target,
						exact:  key == new, // otherwise the header decides a slot
						wrong: &wrongKMS{corrupt: func(q reencrypt.Request, a *reencrypt.Response) {
							if bytes.Equal(q.Blob, last) {
								corrupt(a)
							}
						}},
					}
					before := target.rows["item"]
					counts, err := b.run(t)
					if got := stopKind(t, err); got != retry.StopInternal ||
						counts.Slots.Seen != 0 || target.writes != 0 ||
						!cmp.Equal(before, target.rows["item"]) || len(b.memoryLog.records) != 0 {
						t.Errorf(
							"any %v, under the destination %v, slot %d: %s: stopped for %q (%v) "+
								"with %+v and %d writes", request.Any, key == new, n, name, got,
							err, counts.Slots, target.writes,
						)
					}
				}
			}
		}
	}
}

// TestThrottledDryRunsAreCounted: throttled dry runs count like other throttled requests.
func TestThrottledDryRunsAreCounted(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	target.put("item", cloud.encrypt(t, old, "x", nil))
	var asked atomic.Int64
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
		wrong: &wrongKMS{authorized: func() error {
			asked.Add(1)
			return apiError("ThrottlingException")
		}},
	}
	cloud.fake.SetPolicy(func(call fakekms.Call) bool { return call.Action != "kms:ReEncryptFrom" })
	counts, err := b.run(t)
	if _, throttled, _ := b.engine.Requests(); err != nil || asked.Load() == 0 ||
		throttled != asked.Load() {
		t.Errorf("%+v, %v: %d dry runs were throttled, and %d requests counted as such",
			counts.Slots, err, asked.Load(), throttled)
	}
}

// TestReadOnlyPassWritesNothing: a pass without a Writer moves nothing.
func TestReadOnlyPassWritesNothing(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	for i := range 30 {
		target.put(fmt.Sprintf("item-%02d", i), cloud.encrypt(t, old, "x", nil))
	}
	b := &testPass{
		cloud:   cloud,
		keys:    cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format:  format(t, nil, nil),
		target:  target,
		inspect: true,
	}
	counts, err := b.run(t)
	if err != nil || counts.Slots != (checkpoint.SlotCounts{
		Seen:      30,
		Remaining: 30,
	}) || target.writes != 0 || len(b.memoryLog.records)+len(b.memoryLog.intended) > 0 {
		t.Errorf("%+v, %v, with %d writes", counts.Slots, err, target.writes)
	}
}
