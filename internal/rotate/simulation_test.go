package rotate_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/report"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

var (
	oneSeed = flag.Uint64("seed", 0, "simulate this seed alone, and print its history with -v")
	seeds   = flag.Uint64("seeds", 400, "how many seeds to simulate")
)

// The adapters through which the engine sees the universe.
type (
	simSource struct{ *simProcess }
	simKMS    struct{ *simProcess }
	simStore  struct {
		*simProcess
		store checkpoint.Store
	}
)

var (
	_ rotate.Lister      = simSource{}
	_ rotate.Writer      = simSource{}
	_ rotate.Reencrypter = simKMS{}
	_ checkpoint.Store   = simStore{}
)

func (s simSource) Partitions(context.Context) (list []scan.Partition, err error) {
	for i := range simPartitions {
		list = append(list, scan.Partition{Name: fmt.Sprint(i), Spec: json.RawMessage(fmt.Sprint(i))})
	}
	return list, nil
}

func (s simSource) Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (page scan.Page, err error) {
	err = s.do(ctx, "page", p.Name+"/"+string(cursor), false, func() error {
		var part int
		_, err := fmt.Sscan(p.Name, &part)
		page = s.page(part, cursor)
		return err
	})
	return page, err
}

func (s simSource) Load(ctx context.Context, ref scan.Ref) (item scan.Item, err error) {
	err = s.do(ctx, "load", string(ref), false, func() (err error) {
		item, err = s.load(ref)
		return err
	})
	return item, err
}

// Replace writes the changes one by one, as a batch of statements does.
func (s simSource) Replace(ctx context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		results[i].Err = s.do(ctx, "replace", string(change.Item.Ref), true, func() error {
			results[i] = s.replace(change)
			return results[i].Err
		})
		if !errors.Is(results[i].Err, scan.ErrChanged) {
			results[i].Current = nil // the answer that held it is lost
		}
	}
	return results
}

func (k simKMS) ReEncrypt(ctx context.Context, q rotate.Question) (answer rotate.Answer, err error) {
	about := fmt.Sprintf("%x from %q", sha256.Sum256(q.Blob), q.Source.ARN)
	err = k.do(ctx, "reencrypt", about, false, func() (err error) {
		answer, err = k.reencrypt(q)
		return err
	})
	if err != nil {
		answer = rotate.Answer{}
	}
	return answer, err
}

func (k simKMS) Authorized(context.Context, rotate.Key) (bool, error) { return true, nil }

func (s simStore) Fetch(ctx context.Context, id string) (e checkpoint.Entry, err error) {
	err = s.do(ctx, "fetch", id, false, func() (err error) {
		e, err = s.store.Fetch(ctx, id)
		return err
	})
	return e, err
}

func (s simStore) Create(ctx context.Context, id string, data []byte) (e checkpoint.Entry, err error) {
	err = s.do(ctx, "store", id, true, func() (err error) {
		e, err = s.store.Create(ctx, id, data)
		return err
	})
	return e, err
}

func (s simStore) Replace(ctx context.Context, old checkpoint.Entry, data []byte) (e checkpoint.Entry, err error) {
	err = s.do(ctx, "store", old.ID, true, func() (err error) {
		e, err = s.store.Replace(ctx, old, data)
		return err
	})
	return e, err
}

// simDisk holds the audit logs of a machine. What was appended outlives the death
// of its process; only what was synced outlives the loss of power.
type simDisk struct {
	mu    sync.Mutex
	lines []simLine
}

type simLine struct {
	record          rotate.Record
	written, synced bool
	by              string // process
}

// blackout takes what was not synced.
func (d *simDisk) blackout() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = slices.DeleteFunc(d.lines, func(l simLine) bool { return !l.synced })
}

// rotated counts the slots that the logs say a pass has moved.
func (h *history) rotated(pass int) int64 {
	slots := map[string]bool{}
	for _, disk := range h.disks {
		disk.mu.Lock()
		for _, l := range disk.lines {
			if l.written && l.record.Pass == pass {
				slots[string(l.record.Ref)+" "+l.record.After] = true
			}
		}
		disk.mu.Unlock()
	}
	return int64(len(slots))
}

// simLog is a process's hold on the audit log. It knows what was there when it was
// opened.
type simLog struct {
	*simProcess
	disk  *simDisk
	found map[simPlace]simLine
}

// simPlace is where a blob, of this digest, was put.
type simPlace struct {
	ref   scan.Ref
	after string
}

var _ rotate.Recorder = (*simLog)(nil)

func (d *simDisk) open(p *simProcess) *simLog {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := &simLog{simProcess: p, disk: d, found: map[simPlace]simLine{}}
	for i, line := range d.lines {
		d.lines[i].synced = true // what is trusted has to stay
		at := simPlace{line.record.Ref, line.record.After}
		line.written = line.written || l.found[at].written
		l.found[at] = line
	}
	return l
}

func (l *simLog) append(records []rotate.Record, written bool) error {
	if !l.step(true, false) {
		return errDead
	}
	l.disk.mu.Lock()
	for _, r := range records {
		l.disk.lines = append(l.disk.lines, simLine{record: r, written: written, by: l.id})
	}
	l.disk.mu.Unlock()
	if !l.step(true, true) {
		return errDead
	}
	return nil
}

func (l *simLog) Intend(records []rotate.Record) error { return l.append(records, false) }
func (l *simLog) Record(records []rotate.Record) error { return l.append(records, true) }

func (l *simLog) Find(_ string, ref scan.Ref, after string) (rotate.Record, bool, bool) {
	line, ok := l.found[simPlace{ref, after}]
	return line.record, line.written, ok
}

func (l *simLog) Sync() error {
	if !l.alive() {
		return errDead
	}
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	for i := range l.disk.lines {
		l.disk.lines[i].synced = l.disk.lines[i].synced || l.disk.lines[i].by == l.id
	}
	return nil
}

// history is one story: a universe, and what outlives its processes.
type history struct {
	*universe
	store  checkpoint.Store
	disks  [simMachines]*simDisk // one process at a time works on each
	format *ciphertext.Compiled
	shared bool
	doubt  bool // a pass has said that figures which rest on headers are no evidence
	// interval is that of saving; 0 is the engine's own.
	interval time.Duration
}

func newHistory(t *testing.T, u *universe, shared bool) *history {
	h := &history{universe: u, store: checkpoint.NewMemory(), shared: shared,
		format: format(t, map[string]string{"name": "${name}"}, nil)}
	for i := range h.disks {
		h.disks[i] = &simDisk{}
	}
	return h
}

const (
	simLease    = 9 * time.Second
	simMachines = 3
)

// run is the life of one process, as cmd/rotator's is.
func (h *history) run(ctx context.Context, p *simProcess) (checkpoint.Pass, error) {
	source := simSource{p}
	target, keys := h.target(source), simKeys()
	target.Writer = source
	passes := checkpoint.NewPasses(simStore{p, h.store}, "job")
	opened, err := rotate.OpenPass(ctx, passes, rotate.Plan{Job: "job", Keys: keys, Targets: []rotate.Target{target}}, false)
	if err != nil {
		return checkpoint.Pass{}, err
	}
	log := h.disks[p.machine].open(p)
	options := checkpoint.TrackOptions{Interval: h.interval, Worker: p.id, BeforeSave: func(context.Context) error { return log.Sync() }}
	if h.shared {
		options.Lease = simLease
	}
	tracker, err := passes.Track(ctx, opened.Pass, options)
	if err != nil {
		return opened.Pass, err
	}
	config := h.config(p, target)
	config.Pass, config.Recorder = opened.Pass.Number, log
	config.BeginHeaders = func(ctx context.Context) (may bool, err error) {
		_, err = passes.Update(ctx, opened.Pass.Number, func(pass *checkpoint.Pass) { may = pass.BeginHeaders(p.id) })
		return may, err
	}
	engine := rotate.New(config)
	worked := engine.Run(ctx, tracker, opened.Partitions)
	if stop := (*rotate.StopError)(nil); errors.As(worked, &stop) && stop.Kind == rotate.StopFenced {
		return opened.Pass, worked
	}
	sent, throttled, _ := engine.Requests()
	end := checkpoint.RunEnd{ID: p.id, Requests: sent, Throttled: throttled}
	end.HeadersAgree, end.HeadersWrong = engine.Headers()
	record, err := rotate.ClosePass(context.WithoutCancel(ctx), passes, opened.Pass, end, worked == nil)
	return record, errors.Join(worked, err)
}

// target is the one target, without a writer. What headers decide, and what is shared,
// takes no time: then only chunks of one page each begin at times that differ, without
// which no history could be told twice.
func (h *history) target(source rotate.Lister) rotate.Target {
	batch := 3
	if !h.ask.exact {
		batch = simPage
	}
	return rotate.Target{Name: "target", Lister: source, Format: h.format, Batch: batch}
}

func simKeys() rotate.Keys {
	return rotate.Keys{Destination: rotate.Key{ARN: newKey, Algorithm: rotate.Symmetric},
		Sources: []rotate.Key{{ARN: oldKey, Algorithm: rotate.Symmetric}}, SourceAlgorithm: rotate.Symmetric}
}

func (h *history) config(p *simProcess, target rotate.Target) rotate.Config {
	return rotate.Config{Targets: []rotate.Target{target}, Keys: simKeys(), KMS: simKMS{p}, Rate: 1e5, Workers: 4,
		MaxOutage: time.Minute, Settle: time.Second, Exact: h.ask.exact || h.doubt, Sample: h.ask.sample,
		Draw: func(n int64) int64 { return int64(p.number(int(n), p.id, "jitter", time.Since(p.began))) }}
}

// look is an audit of a world at rest, as cmd/rotator does it. It returns what the
// report says, but for how keys became known.
func (h *history) look(t *testing.T, name string, exact bool) string {
	t.Helper()
	p, ctx := h.process(t.Context(), name)
	defer p.cancel()
	target := h.target(simSource{p})
	config := h.config(p, target)
	config.Exact, config.Recorder = exact, noTrail{}
	passes := checkpoint.NewPasses(checkpoint.NewMemory(), "look")
	opened, err := rotate.OpenPass(ctx, passes, rotate.Plan{Job: "look", Keys: config.Keys, Targets: config.Targets}, false)
	if err != nil {
		t.Fatal(err)
	}
	tracker, err := passes.Track(ctx, opened.Pass, checkpoint.TrackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = rotate.New(config).Run(ctx, tracker, opened.Partitions)
	if wrong := (*rotate.HeaderError)(nil); errors.As(err, &wrong) && !exact {
		if !h.lies {
			t.Errorf("headers that do not lie are disbelieved: %v", err)
		}
		return h.look(t, name+" again", true)
	}
	if err != nil {
		t.Fatal(err)
	}
	summary := h.summary(t, passes, opened.Pass)
	for i := range summary.Keys {
		summary.Keys[i].How = ""
	}
	return fmt.Sprintf("%+v %v %v", summary.Slots, summary.Keys, summary.Reasons)
}

// noTrail is the audit log of a pass that changes nothing.
type noTrail struct{}

func (noTrail) Intend([]rotate.Record) error   { return errors.New("a look was to change something") }
func (n noTrail) Record([]rotate.Record) error { return n.Intend(nil) }
func (noTrail) Find(string, scan.Ref, string) (rotate.Record, bool, bool) {
	return rotate.Record{}, false, false
}
func (noTrail) Sync() error { return nil }

// summary is the report of a finished pass.
func (h *history) summary(t *testing.T, passes *checkpoint.Passes, pass checkpoint.Pass) *report.Summary {
	t.Helper()
	totals, err := passes.Totals(t.Context(), pass)
	if err != nil {
		t.Fatal(err)
	}
	s := &report.Summary{Status: report.Complete}
	s.SetTargets([]string{"target"}, totals)
	s.SetHeaders(pass.Headers)
	s.Conclude()
	return s
}

// believe holds against the truth, in a world at rest, what a finished pass proves.
func (h *history) believe(t *testing.T, pass checkpoint.Pass) {
	t.Helper()
	s := h.summary(t, checkpoint.NewPasses(h.store, "job"), pass)
	if !s.Converged {
		return
	}
	for _, thing := range h.things {
		if c, ok := open(thing.slot); thing.slot != nil && (!ok || c.Key != newKey || thing.stray) {
			t.Errorf("pass %d converged, and %s is %+v", pass.Number, thing.name, c)
		}
	}
}

// process makes a process that nothing happens to.
func (h *history) process(ctx context.Context, id string) (*simProcess, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	return &simProcess{universe: h.universe, id: id, cancel: cancel, calls: map[string]int{}}, ctx
}

// doomed lives one process that is killed, loses power, is told to end, is stopped
// for a while, or is left alone.
func (h *history) doomed(ctx context.Context, id string, machine int) {
	p, ctx := h.process(ctx, id)
	defer p.cancel()
	p.faulty, p.machine = true, machine
	now := time.Since(h.began)
	at := h.span(3*time.Second, id, "when")
	switch h.number(5, id, "fate") {
	case 0:
		timer := time.AfterFunc(at, p.die)
		defer timer.Stop()
	case 1:
		timer := time.AfterFunc(at, func() {
			p.die()
			h.disks[machine].blackout()
		})
		defer timer.Stop()
	case 2:
		timer := time.AfterFunc(at, p.cancel)
		defer timer.Stop()
	case 3:
		p.stopped = [2]time.Duration{now + at, now + at + h.span(3*simLease, id, "stopped")}
	}
	_, _ = h.run(ctx, p)
}

// generation runs some processes, that begin one after the other, to their ends.
func (h *history) generation(ctx context.Context, n int) {
	var group sync.WaitGroup
	processes := 1
	if h.shared {
		processes += h.number(simMachines, "processes", n)
	}
	for i := range processes {
		group.Go(func() {
			id := fmt.Sprintf("run-%d-%d", n, i)
			time.Sleep(h.span(2*time.Second, id, "start"))
			h.doomed(ctx, id, i)
		})
	}
	group.Wait()
}

// finish runs without faults until the pass that is open is finished. Where that says
// that some of its figures are no evidence, the passes after it are exact.
func (h *history) finish(t *testing.T, name string) checkpoint.Pass {
	t.Helper()
	p, ctx := h.process(t.Context(), name)
	defer p.cancel()
	pass, err := h.run(ctx, p)
	if err != nil || pass.Status != checkpoint.Finished {
		t.Fatalf("%s ended with %v, pass %d %s", name, err, pass.Number, pass.Status)
	}
	h.doubt = h.doubt || len(pass.Headers) > 0
	return pass
}

// evidence checks what a finished pass says of itself.
func (h *history) evidence(t *testing.T, pass checkpoint.Pass) checkpoint.Counts {
	t.Helper()
	passes := checkpoint.NewPasses(h.store, "job")
	if done, err := passes.Done(t.Context(), pass); err != nil || !done {
		t.Errorf("pass %d is finished, and its partitions are not (%v)", pass.Number, err)
	}
	totals, err := passes.Totals(t.Context(), pass)
	if err != nil {
		t.Fatal(err)
	}
	counts := totals["target"]
	s := counts.Slots
	if !counts.Balanced() || s.Remaining != 0 || s.Seen != counts.Items.Seen {
		t.Errorf("pass %d counts %+v", pass.Number, counts)
	}
	if logged := h.rotated(pass.Number); logged < s.Rotated {
		t.Errorf("pass %d counts %d slots as rotated, and the audit logs have %d", pass.Number, s.Rotated, logged)
	}
	entries, named := 0, map[string]bool{}
	for chunk, err := range passes.Ledger(t.Context(), pass) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range chunk.Entries {
			entries++
			if named[e.Ref] {
				t.Errorf("pass %d: %s is in the ledger twice", pass.Number, e.Ref)
			}
			named[e.Ref] = true
		}
	}
	if int64(entries) != s.Failed+s.Foreign+s.Conflict {
		t.Errorf("pass %d: the ledger has %d entries, and counted are %+v", pass.Number, entries, s)
	}
	return counts
}

// simulate tells the history of a seed and returns it, with its universe.
func simulate(t *testing.T, seed uint64) (string, *universe) {
	u := newUniverse(seed)
	h := newHistory(t, u, u.chance(600, "shared"))
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for _, a := range u.applications(20 * time.Second) {
			time.Sleep(a.at - time.Since(u.began))
			u.apply(a)
		}
	})
	for n := range u.number(6, "generations") {
		h.generation(t.Context(), n)
	}
	first := h.finish(t, "last")
	writer.Wait()
	kept := h.evidence(t, first)
	for n := 1; n < first.Number; n++ { // what was closed before stays closed
		pass, err := checkpoint.NewPasses(h.store, "job").Pass(t.Context(), n)
		if err != nil || pass.Status != checkpoint.Finished {
			t.Errorf("pass %d, before the last, is %s (%v)", n, pass.Status, err)
		}
		h.evidence(t, pass)
	}
	total, gone := int64(len(u.things)), int64(0)
	for _, thing := range u.things {
		if thing.slot == nil {
			gone++
		}
	}
	if first.Number == 1 && (kept.Slots.Seen > total || kept.Slots.Seen < total-gone) {
		t.Errorf("pass 1 counts %d slots of %d, of which %d were deleted", kept.Slots.Seen, total, gone)
	}
	for _, broken := range u.check(false) {
		t.Error(broken)
	}
	h.believe(t, h.finish(t, "second")) // moves what was written behind the cursor
	h.believe(t, h.finish(t, "third"))  // moves what headers had hidden from the second
	proof := h.finish(t, "verify")
	h.believe(t, proof)
	last := h.evidence(t, proof)
	if told, said := h.look(t, "look", false), h.look(t, "exact look", true); told != said {
		t.Errorf("by headers: %s\nby KMS:     %s", told, said)
	}
	if last.Slots.Rotated+last.Slots.Conflict+last.Slots.Gone != 0 || last.Slots.Seen != total-gone {
		t.Errorf("the last pass, in a world at rest, counts %+v of %d", last.Slots, total-gone)
	}
	for _, broken := range u.check(true) {
		t.Error(broken)
	}
	return u.history(), u
}

// TestSimulation tells one history for each seed: a universe of items, an
// application that goes on writing, faults of every service, and generations of
// processes that are killed, stopped, told to end, or work side by side; until one
// is left alone to finish. Nothing may be lost, and all that is said must be true.
func TestSimulation(t *testing.T) {
	first, last := uint64(1), *seeds
	if *oneSeed > 0 {
		first, last = *oneSeed, *oneSeed
	}
	seed := first
	defer func() {
		if t.Failed() {
			t.Logf("replay it: go test ./internal/rotate -run 'TestSimulation$' -v -args -seed=%d", seed)
		}
	}()
	began, met := time.Now(), map[string]int{}
	for ; seed <= last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			told, u := simulate(t, seed)
			for what, n := range u.met {
				met[what] += n
			}
			if *oneSeed > 0 {
				t.Log(told)
			}
		})
	}
	t.Logf("%d histories in %s, which met %v", seed-first, time.Since(began).Round(time.Second), met)
	for _, what := range []string{"fetch refused", "store refused", "store lost", "replace refused", "replace lost", "reencrypt refused", "reencrypt lost",
		"load refused", "load lost", "page refused", "page lost"} {
		if seed-first >= 100 && met[what] == 0 {
			t.Errorf("no history met %q: its faults have no effect", what)
		}
	}
}

// TestSimulationReplays: a seed tells the same history each time, unless items share
// data keys. Where two goroutines are ready in the same instant of virtual time the
// scheduler chooses, so that one seed in some hundreds tells another history now and
// then: one of those tried here may.
func TestSimulationReplays(t *testing.T) {
	var differ []string
	for seed, n := uint64(1), 0; n < 20; seed++ {
		if newUniverse(seed).shares {
			continue
		}
		n++
		var told [2]string
		for i := range told {
			synctest.Test(t, func(t *testing.T) { told[i], _ = simulate(t, seed) })
		}
		if told[0] != told[1] {
			differ = append(differ, fmt.Sprintf("seed %d, of %d and %d bytes", seed, len(told[0]), len(told[1])))
		}
	}
	if len(differ) > 1 {
		t.Errorf("these tell two histories: %v", differ)
	}
}

// The seeds of TestCrashSweep: of a universe in which KMS is asked about every slot, and
// of one in which headers are used and data keys shared.
const (
	sweepExact   = 5
	sweepHeaders = 1
)

// TestCrashSweep kills a small pass at every one of its durable steps (writes of
// items, of the audit log, of the ledger, of the checkpoint), before and after the
// step is applied, lets another process finish it, and checks everything.
func TestCrashSweep(t *testing.T) {
	for _, test := range []struct {
		shared bool
		seed   uint64
	}{{false, sweepExact}, {true, sweepExact}, {false, sweepHeaders}, {true, sweepHeaders}} {
		t.Run(fmt.Sprintf("shared %v, seed %d", test.shared, test.seed), func(t *testing.T) {
			steps, kills := 1, 0
			for at := 1; at <= steps; at++ {
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						if n := sweep(t, test.seed, test.shared, at, after); at == 1 && !after {
							steps = n
						}
					})
					kills++
				}
				if t.Failed() {
					t.Fatalf("at step %d of %d", at, steps)
				}
			}
			t.Logf("killed at each of %d durable steps, before and after: %d histories", steps, kills)
		})
	}
}

// sweep kills at one step, and returns how many there are in a pass without a
// kill, when asked for the first.
func sweep(t *testing.T, seed uint64, shared bool, at int, after bool) (steps int) {
	if at == 1 && !after { // count them
		h := newHistory(t, newUniverse(seed), shared)
		h.interval = time.Nanosecond
		p, ctx := h.process(t.Context(), "counted")
		if _, err := h.run(ctx, p); err != nil {
			t.Fatal(err)
		}
		steps = p.steps
	}
	h := newHistory(t, newUniverse(seed), shared)
	h.interval = time.Nanosecond
	p, ctx := h.process(t.Context(), "counted")
	p.killAt, p.killAfter = at, after
	_, err := h.run(ctx, p)
	p.cancel()
	if p.alive() {
		t.Errorf("the process outlived step %d of %d (%v)", at, p.steps, err)
	}
	pass := h.finish(t, "heir")
	counts := h.evidence(t, pass)
	for _, broken := range h.check(true) {
		t.Error(broken)
	}
	var want checkpoint.SlotCounts
	if h.lies {
		t.Fatal("what headers hide is not to be seen in one pass; take another seed")
	}
	for _, thing := range h.things {
		want.Seen++
		switch thing.key {
		case oldKey:
			want.Rotated++
		case newKey:
			want.Current++
		case otherKey:
			want.Foreign++
		default:
			want.Failed++
		}
	}
	// A pass that was closed before the kill leaves the heir nothing to move.
	if pass.Number == 1 && counts.Slots != want {
		t.Errorf("killed at step %d, after %v: counts %+v, want %+v", at, after, counts.Slots, want)
	}
	return steps
}
