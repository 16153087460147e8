package rotate_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// runGroup is several runs on one pass of one target, in virtual time. The services have a latency
// but no faults. Real processes on a busy test machine could not prove that several runs are as
// fast as one.
type runGroup struct {
	rate       float64
	partitions int
	items      int // of each partition
	lease      time.Duration
	workers    int           // 0 means the default of the engine
	latency    time.Duration // of KMS and of the target

	// storeLatency is the maximum latency of the checkpoint store. 0 means latency.
	storeLatency time.Duration

	format *ciphertext.Compiled
	store  checkpoint.Store

	mu       sync.Mutex
	began    time.Time
	requests []request      // of KMS, in order
	moved    map[string]int // writes by item
	opened   map[string]time.Duration
	ended    map[string]time.Duration
	counts   checkpoint.Counts
}

type request struct {
	at time.Duration
	by string
}

func newRunGroup(t *testing.T, rate float64, partitions, items int) *runGroup {
	return &runGroup{
		rate:       rate,
		partitions: partitions,
		items:      items,
		lease:      30 * time.Second,
		latency:    8 * time.Millisecond,
		format:     format(t, map[string]string{"name": "${name}"}, nil),
		moved:      map[string]int{},
		opened:     map[string]time.Duration{},
		ended:      map[string]time.Duration{},
	}
}

const pageItems = 250

// groupRun implements the services for one run of a group.
type groupRun struct {
	*runGroup
	id string
}

var (
	_ rotate.Lister         = groupRun{}
	_ rotate.Writer         = groupRun{}
	_ reencrypt.Reencrypter = groupRun{}
	_ rotate.Recorder       = groupRun{}
)

func (c groupRun) Partitions(context.Context) (list []scan.Partition, err error) {
	for i := range c.partitions {
		list = append(list, scan.Partition{Name: fmt.Sprint(i), Spec: json.RawMessage("{}")})
	}
	return list, nil
}

func (c groupRun) Page(
	_ context.Context, p scan.Partition, cursor scan.Cursor,
) (page scan.Page, err error) {
	time.Sleep(c.latency)
	first := 0
	if len(cursor) > 0 {
		if _, err := fmt.Sscan(string(cursor), &first); err != nil {
			return page, err
		}
	}
	end := min(first+pageItems, c.items)
	for i := first; i < end; i++ {
		name := fmt.Sprintf("%s/%d", p.Name, i)
		blob := cipher{Key: oldKey, Plaintext: name, Context: contextOf(name)}.blob()
		page.Items = append(page.Items, scan.Item{
			Ref: scan.Ref(name),
			Payload: &scan.Row{Attributes: map[string]scan.Value{
				"name": {Kind: scan.KindS, Text: name},
				"slot": {Kind: scan.KindB, Bytes: blob},
			}},
		})
	}
	page.Next, page.Last = scan.Cursor(fmt.Sprint(end)), end == c.items
	return page, nil
}

func (c groupRun) Load(context.Context, scan.Ref) (scan.Item, error) {
	return scan.Item{}, scan.ErrGone
}

func (c groupRun) Replace(_ context.Context, changes []scan.Change) []scan.Result {
	time.Sleep(c.latency)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range changes {
		c.moved[string(change.Item.Ref)]++
	}
	return make([]scan.Result, len(changes))
}

func (c groupRun) ReEncrypt(_ context.Context, q reencrypt.Request) (reencrypt.Response, error) {
	c.mu.Lock()
	c.requests = append(c.requests, request{time.Since(c.began), c.id})
	serial := fmt.Sprint(len(c.requests))
	c.mu.Unlock()
	time.Sleep(c.latency)
	was, _ := open(q.Blob)
	next := cipher{Key: newKey, Plaintext: was.Plaintext, Context: was.Context, Serial: serial}
	return reencrypt.Response{Blob: next.blob(), Source: was.Key, Destination: newKey}, nil
}

func (c groupRun) Authorized(context.Context, reencrypt.Key) (bool, error) { return true, nil }

func (groupRun) Intend([]rotate.Record) error { return nil }
func (groupRun) Record([]rotate.Record) error { return nil }
func (groupRun) Sync() error                  { return nil }
func (groupRun) Find(string, scan.Ref, string) (rotate.Trace, bool) {
	return rotate.Trace{}, false
}

// slowStore is a store with a random latency for each request.
type slowStore struct {
	checkpoint.Store
	most time.Duration
	mu   sync.Mutex
	n    int
}

func (s *slowStore) wait() {
	s.mu.Lock()
	s.n++
	d := s.most/4 + s.most*time.Duration(s.n*7919%101)/101
	s.mu.Unlock()
	time.Sleep(d)
}

func (s *slowStore) Fetch(ctx context.Context, id string) (checkpoint.Entry, error) {
	s.wait()
	return s.Store.Fetch(ctx, id)
}

func (s *slowStore) Create(ctx context.Context, id string, data []byte) (checkpoint.Entry, error) {
	s.wait()
	defer s.wait()
	return s.Store.Create(ctx, id, data)
}

func (s *slowStore) Replace(
	ctx context.Context, e checkpoint.Entry, data []byte,
) (checkpoint.Entry, error) {
	s.wait()
	defer s.wait()
	return s.Store.Replace(ctx, e, data)
}

// run executes one run of the group.
func (c *runGroup) run(t *testing.T, id string) {
	run := groupRun{c, id}
	target := rotate.Target{Name: "target", Lister: run, Writer: run, Format: c.format, Batch: 25}
	passes := checkpoint.NewPasses(c.store, "job")
	plan := rotate.Plan{Job: "job", Keys: simKeys(), Targets: []rotate.Target{target}}
	opened, err := rotate.OpenPass(t.Context(), passes, plan, false)
	if err != nil {
		t.Errorf("%s: %v", id, err)
		return
	}
	options := checkpoint.TrackOptions{Worker: id, Lease: c.lease}
	tracker, err := passes.Track(t.Context(), opened.Pass, options)
	if err != nil {
		t.Errorf("%s: %v", id, err)
		return
	}
	engine := rotate.New(rotate.Config{
		Targets:     []rotate.Target{target},
		Keys:        simKeys(),
		KMS:         run,
		Rate:        c.rate,
		Workers:     c.workers,
		MostWorkers: 256,
		MaxOutage:   time.Minute,
		Settle:      time.Second,
		Pass:        opened.Pass.Number,
		Recorder:    run,
		Exact:       true,
	})
	c.mu.Lock()
	c.opened[id] = time.Since(c.began)
	c.mu.Unlock()
	if err := engine.Run(t.Context(), tracker, opened.Partitions); err != nil {
		t.Errorf("%s: %v", id, err)
	}
	c.mu.Lock()
	c.ended[id] = time.Since(c.began)
	c.mu.Unlock()
	totals, err := passes.Totals(t.Context(), opened.Pass)
	if err != nil {
		t.Errorf("%s: %v", id, err)
	}
	c.mu.Lock()
	c.counts = totals["target"]
	c.mu.Unlock()
}

// work executes all runs of the group. Run i starts after starts[i]. It returns the total time.
func (c *runGroup) work(t *testing.T, starts ...time.Duration) (took time.Duration) {
	t.Helper()
	c.began = time.Now()
	c.store = &slowStore{Store: checkpoint.NewMemory(), most: cmp.Or(c.storeLatency, c.latency)}
	var group sync.WaitGroup
	for i, start := range starts {
		group.Go(func() {
			time.Sleep(start)
			c.run(t, fmt.Sprint("run-", i))
		})
	}
	group.Wait()
	for _, ended := range c.ended {
		took = max(took, ended)
	}
	items := c.partitions * c.items
	if s := c.counts.Slots; s.Rotated != int64(items) || s.Seen != s.Rotated {
		t.Errorf("the pass counts %+v of %d slots", s, items)
	}
	for name, n := range c.moved {
		if n != 1 {
			t.Errorf("%s was written %d times", name, n)
		}
	}
	// Each run sends one more request, which checks its first response.
	if n := len(starts); len(c.moved) != items || len(c.requests) > items+n {
		t.Errorf("%d items were written with %d requests, want %d", len(c.moved), len(c.requests),
			items)
	}
	return took
}

// busiest returns the maximum number of requests in any second.
func busiest(requests []request) (most int) {
	first := 0
	for i := range requests {
		for requests[i].at-requests[first].at >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// rateLimit returns the maximum number of requests in any second at a rate.
func rateLimit(rate float64) float64 { return rate + max(1, rate/100) }

// groupSizes returns the numbers of runs that TestSeveralRunsAreAsFastAsOne compares over a number
// of items. Large targets take much processor time: they are compared with -full only.
func groupSizes(items int) []int {
	large := items > 10_000
	switch {
	case *full && large:
		return []int{1, 4}
	case *full:
		return []int{1, 2, 3, 4}
	case large:
		return nil
	case testing.Short():
		return []int{1, 3}
	default:
		return []int{1, 4}
	}
}

// TestSeveralRunsAreAsFastAsOne: two, three and four runs take at most 1.05 times the time
// of one run, over a bucket, which is one partition, and over tables of few and of many
// segments. Together they stay within the rate in every second, and use at least 95% of it
// from the third second to the last but one. This also holds if the checkpoint is slow.
func TestSeveralRunsAreAsFastAsOne(t *testing.T) {
	for _, target := range []struct {
		name              string
		rate              float64
		partitions, items int
		slow              bool // a write of the checkpoint takes about 50 ms, as in S3
	}{
		{"a bucket", 400, 1, 4000, false},
		{"a bucket, checkpoint in S3", 1000, 1, 10_000, true},
		{"a table of 64 segments", 1000, 64, 320, false},
		{"a table of 64 larger segments", 2000, 64, 625, false},
		{"a table of 64 small segments", 400, 64, 63, false},
		{"a table of 8 segments", 400, 8, 700, false},
		{"a table of 8 larger segments", 1000, 8, 2500, false},
		{"a table of 2 segments", 400, 2, 4000, false},
		{"a table of 8 segments, checkpoint in S3", 1000, 8, 1250, true},
		{"a table of 64 segments, checkpoint in S3", 2000, 64, 625, true},
	} {
		t.Run(target.name, func(t *testing.T) {
			var alone time.Duration
			sizes := groupSizes(target.partitions * target.items)
			if sizes == nil {
				t.Skip("make simulate compares large targets")
			}
			for _, n := range sizes {
				synctest.Test(t, func(t *testing.T) {
					c := newRunGroup(t, target.rate, target.partitions, target.items)
					bounds := groupBounds{time: 1.05, used: 0.95, second: 0.7}
					if target.slow {
						c.storeLatency = slowStoreLatency
					}
					took := c.work(t,
						[]time.Duration{0, 100, 200 * time.Millisecond, time.Second}[:n]...)
					if n == 1 {
						alone = took
					}
					t.Logf("%d runs: %v, at most %d in a second", n, took, busiest(c.requests))
					if took.Seconds() > bounds.time*alone.Seconds() {
						t.Errorf("%d runs took %v, but one run took %v", n, took, alone)
					}
					if got := busiest(c.requests); float64(got) > rateLimit(target.rate) {
						t.Errorf("%d runs: %d requests in a second at a rate of %v", n, got,
							target.rate)
					}
					c.used(t, n, bounds)
				})
			}
		})
	}
}

// slowStoreLatency makes a write take 50 ms on average, because it has two latencies.
const slowStoreLatency = 33 * time.Millisecond

// groupBounds are the promised results of several runs. At the end of a pass, runs have too
// little work left to use their shares.
type groupBounds struct {
	time   float64 // the maximum time, in multiples of the time of one run
	used   float64 // the minimum part of the rate from the third second on
	second float64 // the same in each full second
}

// used checks that the runs use the rate from the third second to the last.
func (c *runGroup) used(t *testing.T, n int, bounds groupBounds) {
	t.Helper()
	end := c.requests[len(c.requests)-1].at
	perSecond, sum := make([]int, int(end/time.Second)+1), 0
	for _, r := range c.requests {
		perSecond[r.at/time.Second]++
		if r.at >= 2*time.Second {
			sum++
		}
	}
	if used := float64(sum) / (end - 2*time.Second).Seconds() / c.rate; used < bounds.used {
		t.Errorf("%d runs use %.1f%% of the rate of %v: %v", n, 100*used, c.rate, perSecond)
	}
	for i, got := range perSecond[:len(perSecond)-1] {
		if i >= 2 && float64(got) < bounds.second*c.rate {
			t.Errorf("%d runs: %d requests in second %d at a rate of %v: %v",
				n, got, i+1, c.rate, perSecond)
		}
	}
}

// TestWorkIsHandedOver: a run that joins gets unread segments within two seconds, although the
// first run holds all segments and has read ahead to its limit.
func TestWorkIsHandedOver(t *testing.T) {
	for _, test := range []struct {
		partitions, workers int
		after               time.Duration
	}{
		{8, 0, 300 * time.Millisecond},
		{8, 0, 7 * time.Second},
		{8, 64, 5 * time.Second},
		{2, 0, 3 * time.Second},
	} {
		name := fmt.Sprintf("%d segments, %d workers, after %v", test.partitions, test.workers,
			test.after)
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newRunGroup(t, 500, test.partitions, 8000/test.partitions)
				c.workers = test.workers
				c.work(t, 0, test.after)
				i := slices.IndexFunc(c.requests, func(r request) bool { return r.by == "run-1" })
				if i < 0 {
					t.Fatal("the second run got no work")
				}
				waited := c.requests[i].at - c.opened["run-1"]
				t.Logf("the first request of the second run came %v after it joined", waited)
				if waited > 2*time.Second {
					t.Errorf("the first request of the second run came %v after it joined", waited)
				}
				share, seconds := 0,
					math.Floor((c.requests[len(c.requests)-1].at - c.requests[i].at).Seconds())
				for _, r := range c.requests[i:] {
					if r.by == "run-1" {
						share++
					}
				}
				if float64(share) < 0.3*c.rate*seconds {
					t.Errorf("the second run sent %d requests in %v seconds at a rate of %v",
						share, seconds,
						c.rate)
				}
			})
		})
	}
}
