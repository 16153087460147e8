package rotate_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// manyItems is a target of n items that are generated when they are read, and a KMS that counts
// requests.
type manyItems struct {
	n             int
	key           func(i int) string // of the i-th item
	unknownLayout bool               // the headers have an unknown layout
	requests      atomic.Int64
	asked         func(i int)
	made          sync.Map // a blob under each key
}

func (c *manyItems) Partitions(context.Context) (list []scan.Partition, err error) {
	for p := range simPartitions {
		list = append(list, scan.Partition{Name: strconv.Itoa(p), Spec: json.RawMessage("{}")})
	}
	return list, nil
}

func (c *manyItems) Page(
	_ context.Context, p scan.Partition, cursor scan.Cursor,
) (page scan.Page, err error) {
	i, err := strconv.Atoi(p.Name)
	if len(cursor) > 0 {
		i, err = strconv.Atoi(string(cursor))
	}
	for ; i < c.n && len(page.Items) < 250; i += simPartitions {
		blob := c.blob(c.key(i), i)
		page.Items = append(page.Items, scan.Item{
			Ref: scan.Ref(strconv.Itoa(i)),
			Payload: &scan.Row{Attributes: map[string]scan.Value{
				"slot": {Kind: scan.KindB, Bytes: blob}}},
		})
	}
	page.Next, page.Last = scan.Cursor(strconv.Itoa(i)), i >= c.n
	return page, err
}

// blob returns a different blob for each item: its random bytes are the number of the item.
func (c *manyItems) blob(key string, i int) []byte {
	made, ok := c.made.Load(key)
	if !ok {
		made, _ = c.made.LoadOrStore(key, cipher{Key: key, Context: contextOf("all")}.blob())
	}
	blob := bytes.Clone(made.([]byte))
	binary.BigEndian.PutUint64(blob[5+32+1:], uint64(i))
	if c.unknownLayout {
		blob[1] = 9
	}
	return blob
}

func (c *manyItems) Load(context.Context, scan.Ref) (scan.Item, error) {
	return scan.Item{}, scan.ErrGone
}

// Replace returns errors, because no item must be moved.
func (c *manyItems) Replace(_ context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	for i := range results {
		results[i].Err = &scan.RefusedError{Reason: "test", Detail: "it should be current"}
	}
	return results
}

func (c *manyItems) ReEncrypt(_ context.Context, q reencrypt.Request) (reencrypt.Response, error) {
	serial := c.requests.Add(1)
	if c.asked != nil {
		c.asked(int(binary.BigEndian.Uint64(q.Blob[5+32+1:])))
	}
	return (&universe{serial: int(serial)}).reencrypt(q)
}

func (c *manyItems) Authorized(context.Context, reencrypt.Key) (bool, error) { return true, nil }

const crowdWorkers = 8

// pass executes one pass over the items.
func (c *manyItems) pass(
	t *testing.T, readOnly, exact bool,
) (checkpoint.Counts, reencrypt.Savings) {
	t.Helper()
	target := rotate.Target{
		Name:   "target",
		Lister: c,
		Format: format(t, map[string]string{"name": "all"}, nil),
		Batch:  25,
	}
	if !readOnly {
		target.Writer = c
	}
	passes := checkpoint.NewPasses(checkpoint.NewMemory(), "job")
	opened, err := rotate.OpenPass(t.Context(), passes, rotate.Plan{
		Job:     "job",
		Keys:    simKeys(),
		Targets: []rotate.Target{target},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	tracker, err := passes.Track(t.Context(), opened.Pass, checkpoint.TrackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.requests.Store(0)
	engine := rotate.New(rotate.Config{
		Targets:   []rotate.Target{target},
		Keys:      simKeys(),
		KMS:       c,
		Rate:      1e9,
		Workers:   crowdWorkers,
		MaxOutage: time.Second,
		Settle:    time.Second,
		Pass:      1,
		Recorder:  newLog(),
		Exact:     exact,
	})
	if err := engine.Run(t.Context(), tracker, opened.Partitions); err != nil {
		t.Fatal(err)
	}
	totals, err := passes.Totals(t.Context(), opened.Pass)
	if err != nil {
		t.Fatal(err)
	}
	return totals["target"], engine.Savings()
}

// most returns the maximum number of requests that a pass may send for n slots that headers
// decide, with the given number of header tokens. It is the sum of two parts: the random
// sample, with a margin for chance, and the requests that are sent before KMS has named the
// key of a token. Those are up to three per worker and token, because a worker asks about one
// slot at a time.
func most(n int, tokens int64) int64 {
	drawn := 0.0101 * float64(n)
	return max(1000, int64(drawn+5*math.Sqrt(drawn))) + 3*tokens*crowdWorkers
}

// TestHeadersSaveRequests: a run or an audit over slots that need not move sends requests only
// for a sample. Both have the same results as a pass that sends a request for every slot.
func TestHeadersSaveRequests(t *testing.T) {
	const n = 20_000
	everyKey := func(i int) string { return []string{oldKey, newKey, newKey, otherKey}[i%4*2/3] }
	for _, test := range []struct {
		name     string
		readOnly bool
		key      func(int) string
		tokens   int64
	}{
		{"a second run", false, func(int) string { return newKey }, 1},
		{"an audit", true, everyKey, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &manyItems{n: n, key: test.key}
			told, saved := c.pass(t, test.readOnly, false)
			requests := c.requests.Load()
			if limit := most(n, test.tokens); requests > limit || saved.Checked < 1000 {
				t.Errorf("%d requests, want %d at most; %d checks, want 1,000 at least", requests,
					limit, saved.Checked)
			}
			said, none := c.pass(t, test.readOnly, true)
			if exact := c.requests.Load(); exact < n || exact > n+3*test.tokens*crowdWorkers ||
				none.Header+none.Checked+none.Shared != 0 {
				t.Errorf("an exact pass: %d requests for %d slots, %+v", exact, n, none)
			}
			header := int64(0)
			for arn, count := range told.Keys {
				header += count.Header
				told.Keys[arn] = checkpoint.KeyCount{Slots: count.Slots}
				if how := said.Keys[arn].How(); how != "kms" || count.How() != "header" {
					t.Errorf("%s: known by %s, but in the exact pass by %s", arn, count.How(), how)
				}
			}
			if header != saved.Header {
				t.Errorf("%d slots are counted by headers, but headers decided %d", header,
					saved.Header)
			}
			if diff := cmp.Diff(told, said); diff != "" {
				t.Errorf("by headers (-) and by KMS (+):\n%s", diff)
			}
			t.Logf("%d slots: %d requests by headers, %d checks", n, requests, saved.Checked)
		})
	}
}

// TestUnknownLayouts: a pass over ciphertexts with an unknown header layout asks KMS about each
// of them, and has the same results as for other ciphertexts.
func TestUnknownLayouts(t *testing.T) {
	const n = 600
	for _, readOnly := range []bool{false, true} {
		key := func(i int) string { return newKey }
		if readOnly {
			key = func(i int) string { return []string{oldKey, newKey, otherKey}[i%3] }
		}
		c := &manyItems{n: n, key: key, unknownLayout: true}
		told, saved := c.pass(t, readOnly, false)
		if requests := c.requests.Load(); requests < n || saved != (reencrypt.Savings{}) {
			t.Errorf("read-only %v: %d requests for %d slots, %+v", readOnly, requests, n, saved)
		}
		c.unknownLayout, c.made = false, sync.Map{}
		if said, _ := c.pass(t, readOnly, true); !cmp.Equal(told, said) {
			t.Errorf("read-only %v: unknown layouts (-) and known layouts (+):\n%s", readOnly,
				cmp.Diff(told, said))
		}
	}
}

// TestManyCurrentSlots prints the cost of a pass in which nothing must move.
func TestManyCurrentSlots(t *testing.T) {
	n := 300_000
	if testing.Short() {
		n = 50_000
	}
	c := &manyItems{n: n, key: func(int) string { return newKey }}
	began := time.Now()
	counts, saved := c.pass(t, false, false)
	requests := c.requests.Load()
	t.Logf("%d current slots: %d requests (%.3f%%), %d checks, %s", counts.Slots.Current, requests,
		float64(requests)*100/float64(n), saved.Checked, time.Since(began).Round(time.Millisecond))
	if counts.Slots.Current != int64(n) || requests > most(n, 1) || saved.Checked < int64(n)/100 {
		t.Errorf(
			"%+v with %d requests and %d checks, want %d requests at most, and %d checks at least",
			counts.Slots, requests, saved.Checked, most(n, 1), n/100,
		)
	}
}

// TestSampleIsEven: all slots have the same chance to be checked, wherever they are in the pass.
func TestSampleIsEven(t *testing.T) {
	const n, parts = 100_000, 10
	var mu sync.Mutex
	var checked [parts]int
	c := &manyItems{n: n, key: func(int) string { return newKey }, asked: func(i int) {
		mu.Lock()
		defer mu.Unlock()
		checked[i*parts/n]++
	}}
	if counts, _ := c.pass(t, false, false); counts.Slots.Current != n {
		t.Errorf("%+v", counts.Slots)
	}
	const mean = n / parts / 100
	for _, got := range checked {
		if got < mean-5*10 || got > mean+5*10+3*crowdWorkers { // five standard deviations
			t.Errorf("the checks in each tenth of the pass are %v, want about %d", checked, mean)
			break
		}
	}
}

// withWrongHeaders returns a pass whose target has slots under the new key and, among them, slots
// under the old key whose headers have the token of the new key.
func withWrongHeaders(t *testing.T, slots, wrongHeaders int) *testPass {
	t.Helper()
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	cloud.fake.SetHeaders(func(key string) string { return strings.Replace(key, old, new, 1) })
	for i := range slots {
		key := new
		if i%(slots/wrongHeaders) == slots/wrongHeaders/2 {
			key = old
		}
		target.put(fmt.Sprintf("item-%04d", i), cloud.encrypt(t, key, "x", nil))
	}
	cloud.fake.SetHeaders(nil)
	return &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
	}
}

// TestWrongHeaders: if ciphertext headers name wrong keys, a run does not report that headers
// agree with KMS, and an audit makes no statement about it. A pass that asks KMS about every slot
// reports the correct keys, and an exact run corrects the slots.
func TestWrongHeaders(t *testing.T) {
	for _, wrongHeaders := range []int{1, 40} {
		b := withWrongHeaders(t, 120, wrongHeaders)
		counts, err := b.run(t)
		if agree, wrong := b.engine.Headers(); err != nil || agree || wrong == "" ||
			counts.Slots.Seen != 120 {
			t.Errorf("%d wrong headers: a run ends with %v, %+v; headers agree %v, wrong %q",
				wrongHeaders, err,
				counts.Slots, agree, wrong)
		}
		b = withWrongHeaders(t, 120, wrongHeaders)
		b.inspect = true
		_, err = b.run(t)
		if wrong := (*reencrypt.HeaderError)(nil); !errors.As(err, &wrong) {
			t.Errorf("%d wrong headers: an audit ends with %v", wrongHeaders, err)
		}
		b.exact = true
		counts, err = b.run(t)
		if want := (checkpoint.SlotCounts{
			Seen:      120,
			Current:   int64(120 - wrongHeaders),
			Remaining: int64(wrongHeaders),
		}); err != nil || counts.Slots != want {
			t.Errorf("%d wrong headers: an exact audit: %+v, %v, want %+v", wrongHeaders,
				counts.Slots, err, want)
		}
		b.inspect = false
		counts, err = b.run(t)
		if want := (checkpoint.SlotCounts{
			Seen:    120,
			Current: int64(120 - wrongHeaders),
			Rotated: int64(wrongHeaders),
		}); err != nil || counts.Slots != want {
			t.Errorf("%d wrong headers: an exact run: %+v, %v, want %+v", wrongHeaders,
				counts.Slots, err, want)
		}
	}
}

// TestHeadersDoNotShowContexts: correct headers agree with KMS. A wrong encryption context does
// not, because headers do not contain it. This holds for the context of one slot and for the
// context of all slots of a rule.
func TestHeadersDoNotShowContexts(t *testing.T) {
	for _, test := range []struct {
		name       string
		wrong      int
		agree      bool
		exceptions int64 // at least, before an exact pass
	}{{"none", 0, true, 0}, {"one", 1, false, 0}, {"all", 300, true, 300}} {
		cloud := newCloud(t)
		old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
		target := newMemory()
		for i := range 300 {
			context := map[string]string{"app": "pay"}
			if i >= 300-test.wrong {
				context["app"] = "another"
			}
			target.put(fmt.Sprintf("item-%03d", i), cloud.encrypt(t, new, "x", context))
		}
		b := &testPass{
			cloud: cloud,
			keys: cloud.resolve(t, reencrypt.KeyRequest{
				Destination: new,
				Sources:     []string{old},
			}),
			format: format(t, map[string]string{"app": "pay"}, nil),
			target: target,
		}
		counts, err := b.run(t)
		agree, wrong := b.engine.Headers()
		if err != nil || agree != test.agree || agree != (wrong == "") ||
			counts.Slots.Failed+counts.Slots.Foreign < test.exceptions {
			t.Errorf("%s: %+v, %v; headers agree %v, wrong %q", test.name, counts.Slots, err,
				agree, wrong)
		}
	}
}

// TestSharedDataKeys: a data key that is stored in many items needs one request for each context.
// Every item can be decrypted afterwards.
func TestSharedDataKeys(t *testing.T) {
	for _, exact := range []bool{false, true} {
		cloud := newCloud(t)
		old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
		target := newMemory()
		blobs := map[string][]byte{
			"a": cloud.encrypt(t, old, "data key a", map[string]string{"tenant": "t"}),
			"b": cloud.encrypt(t, old, "data key b", map[string]string{"tenant": "t"}),
		}
		for i := range 300 {
			kind := []string{"a", "b"}[i%2]
			target.rows[fmt.Sprintf("item-%03d", i)] = map[string]scan.Value{
				"slot":    {Kind: scan.KindB, Bytes: blobs[kind]},
				"kind":    {Kind: scan.KindS, Text: kind},
				"version": {Kind: scan.KindS, Text: strconv.Itoa(i % 6 / 2)},
			}
		}
		b := &testPass{
			cloud: cloud,
			keys: cloud.resolve(t, reencrypt.KeyRequest{
				Destination: new,
				Sources:     []string{old},
			}),
			exact: exact,
			format: format(t, map[string]string{
				"tenant": "t",
			}, map[string]string{"tenant": "t", "v": "${version}"}),
			target: target,
		}
		counts, err := b.run(t)
		sent, _, _ := b.engine.Requests()
		want := int64(6) // 2 blobs, each with 3 destination contexts
		if exact {
			want = 300
		}
		// One more request checks that the first new ciphertext is under the destination key.
		if err != nil || counts.Slots.Rotated != 300 || sent != want+1 ||
			b.engine.Savings().Shared != 300-want {
			t.Errorf("exact %v: %+v, %v, with %d requests, %+v; want %d requests", exact,
				counts.Slots, err, sent, b.engine.Savings(), want)
		}
		for name, row := range maps.All(target.rows) {
			plaintext, key, err := cloud.fake.Decrypt("", row["slot"].Bytes, map[string]string{
				"tenant": "t",
				"v":      row["version"].Text,
			})
			if err != nil || key != new || string(plaintext) != "data key "+row["kind"].Text {
				t.Fatalf("exact %v: %s holds %q under %s, %v", exact, name, plaintext, key, err)
			}
		}
	}
}
