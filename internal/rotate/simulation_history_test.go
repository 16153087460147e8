package rotate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
	"rotator/internal/retry"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// history is one simulated history: a universe, and the data that survives its processes.
type history struct {
	*universe
	store          checkpoint.Store
	disks          [simMachines]*simDisk // one process at a time works on each
	format         *ciphertext.Compiled
	shared         bool
	headersDoubted bool // a pass reported that counts by headers are not evidence
	// interval is the time between two saves; 0 means the default of the engine.
	interval    time.Duration
	rate        float64       // requests per second of all processes together
	maxLifetime time.Duration // the maximum time until a fault of a process
}

func newHistory(t *testing.T, u *universe, shared bool) *history {
	h := &history{
		universe:    u,
		store:       checkpoint.NewMemory(),
		shared:      shared,
		rate:        1e5,
		maxLifetime: 3 * time.Second,
		format:      format(t, map[string]string{"name": "${name}"}, nil),
	}
	if u.chance(300, "slow") {
		// so that processes with different start times run concurrently
		u.maxKMSDelay, h.maxLifetime = time.Second, 12*time.Second
	}
	for i := range h.disks {
		h.disks[i] = &simDisk{}
	}
	return h
}

const (
	simLease    = 9 * time.Second
	simMachines = 3
)

// run executes one process like the run command of cmd/rotator.
func (h *history) run(ctx context.Context, p *simProcess) (checkpoint.Pass, error) {
	source := simSource{p}
	target, keys := h.target(source), simKeys()
	target.Writer = source
	passes := checkpoint.NewPasses(simStore{p, h.store}, "job")
	opened, err := rotate.OpenPass(ctx, passes, rotate.Plan{
		Job:     "job",
		Keys:    keys,
		Targets: []rotate.Target{target},
	}, false)
	if err != nil {
		return checkpoint.Pass{}, err
	}
	log := h.disks[p.machine].open(p)
	options := checkpoint.TrackOptions{
		Interval:   h.interval,
		Worker:     p.id,
		Lease:      h.lease(),
		BeforeSave: log.save,
	}
	tracker, err := passes.Track(ctx, opened.Pass, options)
	if err != nil {
		return opened.Pass, err
	}
	config := h.config(p, target)
	log.setMarks(h.marks(ctx, opened.Pass))
	config.Pass, config.Identity, config.Recorder = opened.Pass.Number, opened.Pass.Identity(), log
	config.BeginHeaders = func(ctx context.Context) (allowed bool, err error) {
		_, err = passes.Update(ctx, opened.Pass.Number, func(pass *checkpoint.Pass) {
			allowed = pass.BeginHeaders(p.id)
		})
		return allowed, err
	}
	engine := rotate.New(config)
	runErr := engine.Run(ctx, tracker, opened.Partitions)
	if stop := (*retry.StopError)(nil); errors.As(runErr, &stop) && stop.Kind == retry.StopFenced {
		return opened.Pass, runErr
	}
	sent, throttled, _ := engine.Requests()
	end := checkpoint.RunEnd{
		ID: p.id, Requests: sent, Throttled: throttled, Log: log.mark(),
	}
	end.HeadersAgree, end.HeadersWrong = engine.Headers()
	record, err := closePass(context.WithoutCancel(ctx), passes, opened.Pass, end, runErr == nil)
	return record, errors.Join(runErr, err)
}

// marks returns the marks of the audit logs in the checkpoint of a pass. It is read without
// faults.
func (h *history) marks(ctx context.Context, pass checkpoint.Pass) []checkpoint.AuditLog {
	logs, err := checkpoint.NewPasses(h.store, "job").Logs(context.WithoutCancel(ctx), pass)
	if err != nil {
		panic(err) // the store of a simulation never fails
	}
	return logs
}

// lease returns the lease, or 0 if only one process at a time works on the pass.
func (h *history) lease() time.Duration {
	if h.shared {
		return simLease
	}
	return 0
}

// retry executes one process that retries the ledger of the last pass, like the retry command of
// cmd/rotator.
func (h *history) retry(ctx context.Context, p *simProcess) (checkpoint.Pass, error) {
	target := h.target(simSource{p})
	target.Writer = simSource{p}
	passes := checkpoint.NewPasses(simStore{p, h.store}, "job")
	log := h.disks[p.machine].open(p)
	pass, err := passes.Last(ctx)
	if err != nil {
		return pass, err
	}
	observer, err := passes.ObservePass(ctx, pass.Number, p.id, h.lease())
	if err != nil {
		return pass, err
	}
	config := h.config(p, target)
	log.setMarks(h.marks(ctx, pass))
	config.Pass, config.Identity, config.Recorder = pass.Number, pass.Identity(), log
	engine := rotate.New(config)
	runErr := engine.Retry(ctx, passes, pass, observer)
	sent, throttled, _ := engine.Requests()
	end := checkpoint.RunEnd{
		ID: p.id, Requests: sent, Throttled: throttled, Log: log.mark(),
	}
	record, err := closePass(context.WithoutCancel(ctx), passes, pass, end,
		runErr == nil && pass.Status == checkpoint.Finished)
	return record, errors.Join(runErr, err)
}

// closePass ends a run of a pass, like cmd/rotator.
func closePass(
	ctx context.Context, passes *checkpoint.Passes, pass checkpoint.Pass, end checkpoint.RunEnd,
	complete bool,
) (checkpoint.Pass, error) {
	if !complete {
		return rotate.ClosePass(ctx, passes, pass, end, nil)
	}
	records, err := passes.Records(ctx, pass)
	if err != nil {
		return pass, err
	}
	return rotate.ClosePass(ctx, passes, pass, end, records)
}

// target returns the only target, without a writer. Slots that headers or shared answers
// decide take no time. With such slots each chunk is one page, so that chunks begin at
// different times. Otherwise the history could not be reproduced.
func (h *history) target(source rotate.Lister) rotate.Target {
	batch := 3
	if !h.policy.exact {
		batch = simPage
	}
	return rotate.Target{Name: "target", Lister: source, Format: h.format, Batch: batch}
}

func simKeys() reencrypt.Keys {
	return reencrypt.Keys{
		Destination:     reencrypt.Key{ARN: newKey, Algorithm: reencrypt.Symmetric},
		Sources:         []reencrypt.Key{{ARN: oldKey, Algorithm: reencrypt.Symmetric}},
		SourceAlgorithm: reencrypt.Symmetric,
	}
}

func (h *history) config(p *simProcess, target rotate.Target) rotate.Config {
	return rotate.Config{
		Targets:   []rotate.Target{target},
		Keys:      simKeys(),
		KMS:       simKMS{p},
		Rate:      h.rate,
		Workers:   4,
		MaxOutage: time.Minute,
		Settle:    time.Second,
		Exact:     h.policy.exact || h.headersDoubted,
		Sample:    h.policy.sample,
		Draw: func(n int64) int64 {
			return int64(p.number(int(n), p.id, "jitter", time.Since(p.began)))
		},
	}
}

// audit executes an audit like the audit command of cmd/rotator, without concurrent writes. It
// returns the content of the report, except how keys became known.
func (h *history) audit(t *testing.T, name string, exact bool) string {
	t.Helper()
	p, ctx := h.process(t.Context(), name)
	defer p.cancel()
	target := h.target(simSource{p})
	config := h.config(p, target)
	config.Exact, config.Recorder = exact, noChanges{}
	passes := checkpoint.NewPasses(checkpoint.NewMemory(), "audit")
	opened, err := rotate.OpenPass(ctx, passes, rotate.Plan{
		Job:     "audit",
		Keys:    config.Keys,
		Targets: config.Targets,
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	tracker, err := passes.Track(ctx, opened.Pass, checkpoint.TrackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = rotate.New(config).Run(ctx, tracker, opened.Partitions)
	if wrong := (*reencrypt.HeaderError)(nil); errors.As(err, &wrong) && !exact {
		if !h.wrongHeaders {
			t.Errorf("correct headers are reported as wrong: %v", err)
		}
		return h.audit(t, name+" again", true)
	}
	if err != nil {
		t.Fatal(err)
	}
	summary := h.summary(t, passes, opened.Pass)
	totals, err := passes.Totals(ctx, opened.Pass)
	if err != nil {
		t.Fatal(err)
	}
	h.checkStoredRead(t, name, totals)
	// If KMS does not name the key of a foreign slot, the slot has the key of its token only
	// if KMS has named that token before. This depends on the order of the answers.
	keys := slices.DeleteFunc(summary.Keys, func(k report.Key) bool {
		return k.Key != config.Keys.Destination.ARN &&
			!slices.ContainsFunc(config.Keys.Sources, func(s reencrypt.Key) bool {
				return s.ARN == k.Key
			})
	})
	for i := range keys {
		keys[i].How = ""
	}
	return fmt.Sprintf("%+v %v %v", summary.Slots, keys, summary.Reasons)
}

// noChanges is the audit log of a pass that must not change anything.
type noChanges struct{}

func (noChanges) Intend([]rotate.Record) error {
	return errors.New("an audit tried to change an item")
}
func (n noChanges) Record([]rotate.Record) error { return n.Intend(nil) }
func (noChanges) Find(string, scan.Ref, string) (rotate.Trace, bool) {
	return rotate.Trace{}, false
}
func (noChanges) Sync() error { return nil }

// summary returns the report of a finished pass.
func (h *history) summary(
	t *testing.T, passes *checkpoint.Passes, pass checkpoint.Pass,
) *report.Summary {
	t.Helper()
	totals, err := passes.Totals(t.Context(), pass)
	if err != nil {
		t.Fatal(err)
	}
	s := &report.Summary{Status: report.Complete}
	s.SetSources(simSources(), false)
	s.SetTargets([]report.TargetInfo{{Name: "target"}}, totals)
	s.SetHeaders(pass.Headers)
	s.Conclude()
	return s
}

// checkConverged compares the statement of a finished pass with the expected state. Nothing may
// write concurrently.
func (h *history) checkConverged(t *testing.T, pass checkpoint.Pass) {
	t.Helper()
	s := h.summary(t, checkpoint.NewPasses(h.store, "job"), pass)
	if !s.Converged {
		return
	}
	for _, item := range h.items {
		if c, ok := open(item.slot); item.slot != nil &&
			(!ok || c.Key != newKey || item.wrongContext) {
			t.Errorf("pass %d converged, but %s is %+v", pass.Number, item.name, c)
		}
	}
}

// process returns a process without faults.
func (h *history) process(ctx context.Context, id string) (*simProcess, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	return &simProcess{universe: h.universe, id: id, cancel: cancel, calls: map[string]int{}}, ctx
}

// runWithFault executes one process, a run or a retry. The process is killed, loses power,
// receives a stop signal, is paused for a while, or ends by itself.
func (h *history) runWithFault(ctx context.Context, id string, machine int, retries bool) {
	p, ctx := h.process(ctx, id)
	defer p.cancel()
	p.faulty, p.machine = true, machine
	now := time.Since(h.began)
	at := h.span(h.maxLifetime, id, "when")
	switch h.number(5, id, "fate") {
	case 0:
		timer := time.AfterFunc(at, p.die)
		defer timer.Stop()
	case 1:
		timer := time.AfterFunc(at, func() {
			p.die()
			h.disks[machine].losePower()
		})
		defer timer.Stop()
	case 2:
		timer := time.AfterFunc(at, p.cancel)
		defer timer.Stop()
	case 3:
		p.stopped = [2]time.Duration{now + at, now + at + h.span(3*simLease, id, "stopped")}
	}
	p.denied = h.chance(150, id, "denied") // this gives a long ledger
	if retries || h.chance(150, id, "retries") {
		_, _ = h.retry(ctx, p)
		return
	}
	_, _ = h.run(ctx, p)
}

// generation executes several processes with different start times until all have ended. In some
// generations all processes are retries.
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
			h.runWithFault(ctx, id, i, h.chance(300, "retries", n))
		})
	}
	group.Wait()
}

// finish executes a run without faults, which finishes the open pass. If this pass reports that
// counts by headers are not evidence, later passes are exact.
func (h *history) finish(t *testing.T, name string) checkpoint.Pass {
	t.Helper()
	p, ctx := h.process(t.Context(), name)
	defer p.cancel()
	pass, err := h.run(ctx, p)
	if err != nil || pass.Status != checkpoint.Finished {
		t.Fatalf("%s ended with %v, pass %d %s", name, err, pass.Number, pass.Status)
	}
	h.headersDoubted = h.headersDoubted || len(pass.Headers) > 0
	return pass
}

// retryLedger retries the ledger of the last pass without faults.
func (h *history) retryLedger(t *testing.T, name string) checkpoint.Pass {
	t.Helper()
	p, ctx := h.process(t.Context(), name)
	defer p.cancel()
	pass, err := h.retry(ctx, p)
	if err != nil {
		t.Fatalf("%s ended with %v", name, err)
	}
	return pass
}

// checkCounts checks the counts and the ledger of a finished pass, and returns the counts.
func (h *history) checkCounts(t *testing.T, pass checkpoint.Pass) checkpoint.Counts {
	t.Helper()
	passes := checkpoint.NewPasses(h.store, "job")
	if records, err := passes.Records(t.Context(), pass); err != nil || !records.Done() {
		t.Errorf("pass %d is finished, but its partitions are not (%v)", pass.Number, err)
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
	h.checkMoves(t, passes, pass)
	checkSums(t, fmt.Sprint("pass ", pass.Number), h.summary(t, passes, pass))
	var entries []checkpoint.LedgerEntry
	listed := map[string]bool{}
	for chunk, err := range passes.Ledger(t.Context(), pass) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range chunk.Entries {
			entries = append(entries, e)
			if listed[e.Ref] {
				t.Errorf("pass %d: %s is in the ledger twice", pass.Number, e.Ref)
			}
			listed[e.Ref] = true
		}
	}
	if int64(len(entries)) != s.Failed+s.Foreign+s.Conflict {
		t.Errorf("pass %d: the ledger has %d entries, but the counts are %+v", pass.Number,
			len(entries), s)
	}
	checkLedger(t, pass.Number, entries, counts)
	return counts
}
