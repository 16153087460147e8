package rotate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/flowcontrol"
	"rotator/internal/scan"
)

// How a run stops: scanning at once, chunks under way within drainTime, writes
// in flight within graceTime. Both fit a 10 s termination grace period.
const (
	drainTime = 5 * time.Second
	graceTime = 8 * time.Second
)

// Scanners is how many partitions are read at the same time, at most.
const Scanners = 8

// Config is what a Rotator needs. All fields but Logger and Draw are required.
type Config struct {
	Targets []Target
	Keys    Keys
	KMS     Reencrypter
	// KeyState returns the state of a key. If it is nil, an error about a key that may be the
	// key of a slot stops the run.
	KeyState KeyStateFunc
	// Rate is the most ReEncrypt requests per second, retries included.
	Rate float64
	// Limiter limits the rate if several Rotators, or a preflight, share one limiter. If it
	// is nil, New creates one from Rate.
	Limiter *flowcontrol.Limiter
	// Shares calls its argument with the share of the rate, now and after each change. If it
	// is nil, the share is that of the tracker.
	Shares func(use func(checkpoint.Share))
	// Workers is how many chunks are worked on at the same time. At 0 the run finds
	// out how many its rate needs, up to MostWorkers.
	Workers, MostWorkers int
	// MaxOutage is how long a service may give no usable answer.
	MaxOutage time.Duration
	// Settle is how long an unusable key is looked at again before the run
	// stops, since the state of KMS keys is eventually consistent.
	Settle time.Duration
	// Pass is the number of the pass, for the audit log.
	Pass int
	// Identity is the identity of the pass (checkpoint.Pass.Identity). It binds
	// the lines of the audit log to the pass. Without it, no line of the log is
	// used.
	Identity string
	Recorder Recorder
	Logger   *zap.Logger // nil: silent
	// Exact asks KMS about every slot, each by a request of its own. Without it, a
	// slot from which nothing has to be moved may be decided by the header of its
	// blob, with a sample checked, and slots with one blob and one context share one
	// answer.
	Exact  bool
	Sample Sample
	// BeginHeaders is called before the first slot is decided by its header, so that
	// the record of the pass says so from then on; false forbids it. Nil allows it,
	// for a pass that leaves no record.
	BeginHeaders func(ctx context.Context) (bool, error)
	// KnownTokens maps header tokens (kmsblob.Token.String) to the keys that KMS
	// named in earlier passes. They are used if a source key is disabled and KMS
	// cannot be asked.
	KnownTokens map[string]string
	// Draw returns a number from 0 to below n, for the jitter of retries and the choice
	// of a sample. Nil draws
	// at random; a simulation repeats itself.
	Draw func(n int64) int64
	// Early holds the conditions under which the run stops early.
	Early Early
	// Exceptions receives the exceptions of targets without a Writer, which have
	// no ledger. It is never called concurrently. An error ends the run. If nil,
	// they are dropped.
	Exceptions func([]checkpoint.LedgerEntry) error
}

// Rotator works on one pass. It is made for one call of Run or Retry.
type Rotator struct {
	config  Config
	decider *decider
	headers *headers
	shared  *shared
	search  *searcher
	retry   *retrier
	logger  *zap.Logger
	sides   map[string]*sides // by target
	proofs  map[string]*proof // by target
	items   atomic.Int64      // with an outcome
	runs    atomic.Int64      // number of runs that divide the rate, as logged last
	early   *early

	reporting sync.Mutex // held while Config.Exceptions is called
}

// New makes a Rotator.
func New(c Config) *Rotator {
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Draw == nil {
		c.Draw = rand.Int64N
	}
	if c.Limiter == nil {
		c.Limiter = flowcontrol.NewLimiter(c.Rate)
	}
	retry := newRetrier(c.MaxOutage, c.Settle, c.Draw)
	headers := newHeaders(c)
	decider := &decider{keys: c.Keys, kms: c.KMS, jobKeys: newJobKeys(c.Keys, c.KeyState),
		headers: headers, limiter: c.Limiter, retry: retry,
		answers: newAnswerHistory(), kept: c.KnownTokens,
		proven: newProvenTokens()}
	r := &Rotator{config: c, retry: retry, logger: c.Logger, sides: map[string]*sides{}, decider: decider,
		headers: headers, shared: newShared(decider.decide), proofs: map[string]*proof{}}
	r.search = newSearcher(decider, c.Exact)
	for _, t := range c.Targets {
		r.sides[t.Name] = newSides()
		r.proofs[t.Name] = newProof(t.Format)
	}
	r.early = newEarly(c, r.proofs)
	return r
}

// Requests returns how many ReEncrypt requests this Rotator sent, dry runs
// included, how many of them were throttled, and the rate in force now. The rate is 0 while
// the run has no share of it.
func (r *Rotator) Requests() (sent, throttled int64, perSecond float64) {
	if r.runs.Load() > 0 {
		perSecond = r.decider.limiter.Rate()
	}
	return r.decider.requests.Load(), r.decider.throttled.Load(), perSecond
}

// Savings says of how many slots KMS was not asked.
type Savings struct {
	Header  int64 // their header decided
	Checked int64 // how many answers of KMS were compared with what a header said
	Shared  int64 // KMS was asked about another with the same blob and contexts
}

// Savings returns what was saved so far.
func (r *Rotator) Savings() Savings {
	r.headers.mu.Lock()
	defer r.headers.mu.Unlock()
	return Savings{Header: r.headers.alone, Checked: r.headers.checked, Shared: r.shared.served.Load()}
}

// Headers says whether the sample of the slots that headers decided was checked to the
// end and agreed, and what a check has found if not.
func (r *Rotator) Headers() (agree bool, wrong string) {
	r.headers.mu.Lock()
	defer r.headers.mu.Unlock()
	return r.headers.agree, r.headers.wrong
}

// checkHeaders ends the check of the sample, unless the run is stopping: then what it
// counted by headers stays no evidence.
func (r *Rotator) checkHeaders(life *phases, tracker *checkpoint.Tracker) {
	if life.scan.Err() != nil {
		return
	}
	defer tracker.Engage()()
	err := r.headers.check(r.workers(), func(slot ciphertext.Slot) (verdict, error) { return r.decider.decide(life.work, slot) })
	if err != nil {
		life.stop(err)
	}
}

// phases are the phases in which a run stops. First scan ends, then work after drainTime, and
// then write after graceTime.
type phases struct {
	// scan ends when the run has to stop. Pages are read with it, and its cause is the reason.
	scan  context.Context
	work  context.Context // of chunks in progress
	write context.Context // of writes in flight
	stop  context.CancelCauseFunc
}

// shutdownPhases derives the contexts of a run. release frees them.
func shutdownPhases(ctx context.Context) (life *phases, release func()) {
	scan, stop := context.WithCancelCause(ctx)
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	write, stopWrite := context.WithCancel(context.WithoutCancel(ctx))
	var drain, grace *time.Timer
	var mu sync.Mutex
	stopAfter := context.AfterFunc(scan, func() {
		mu.Lock()
		defer mu.Unlock()
		drain, grace = time.AfterFunc(drainTime, stopWork), time.AfterFunc(graceTime, stopWrite)
	})
	return &phases{scan: scan, work: work, write: write, stop: stop}, func() {
		stopAfter()
		mu.Lock()
		if drain != nil {
			drain.Stop()
			grace.Stop()
		}
		mu.Unlock()
		stop(nil)
		stopWork()
		stopWrite()
	}
}

// group returns an errgroup for the scanners and the workers. Its first error stops the run.
func (p *phases) group() *errgroup.Group {
	group, failed := errgroup.WithContext(p.scan)
	context.AfterFunc(failed, func() {
		// The context also ends with the group, and its cause is then context.Canceled.
		if err := context.Cause(failed); err != context.Canceled {
			p.stop(err)
		}
	})
	return group
}

// Run works on the partitions of the tracker that other runs have not claimed. It returns when
// all partitions of the pass are done, when ctx ends, or when an error stops the run; the error
// is then a *StopError. partitions[i] is the i-th partition of the tracker. When Run returns,
// everything that could be saved is saved, and the tracker is closed.
func (r *Rotator) Run(
	ctx context.Context, tracker *checkpoint.Tracker, partitions []Partition,
) error {
	if r.config.Shares == nil {
		tracker.OnShare(r.divide)
	} else {
		r.config.Shares(r.divide)
	}
	r.early.resume(tracker.Snapshot())
	life, release := shutdownPhases(ctx)
	defer release()
	done := make(chan struct{})
	var saver sync.WaitGroup
	saver.Go(func() {
		if err := tracker.Run(life.write, done); err != nil {
			life.stop(storeError(err))
		}
	})
	r.work(life, tracker, partitions)
	r.checkHeaders(life, tracker)
	close(done)
	saver.Wait()
	if fenced(context.Cause(life.scan)) {
		return r.exitReason(ctx, life, nil) // other runs have the partitions now
	}
	return r.exitReason(ctx, life, tracker.Close(life.write))
}

// work runs the scanners and the workers until all partitions are done, or the run has to stop.
func (r *Rotator) work(life *phases, tracker *checkpoint.Tracker, partitions []Partition) {
	defer r.watchThrottling()()
	group := life.group()
	pool := flowcontrol.NewPool(group, r.workers())
	defer r.autosize(life.work, pool)()
	var scanners sync.WaitGroup
	for range min(Scanners, len(partitions)) {
		scanners.Add(1)
		group.Go(func() error {
			defer scanners.Done()
			return r.scan(life, pool, tracker, partitions)
		})
	}
	scanners.Wait()
	pool.Close()
	if err := group.Wait(); err != nil {
		life.stop(err) // without effect if the context of the group was faster
	}
}

// workers returns the number of chunks that are processed concurrently at the beginning.
func (r *Rotator) workers() int {
	if r.config.Workers > 0 {
		return r.config.Workers
	}
	return flowcontrol.InitialSize(r.config.MostWorkers)
}

// autosize adapts the size of the pool, if no size is given, until stop is called.
func (r *Rotator) autosize(ctx context.Context, pool *flowcontrol.Pool) (stop func()) {
	if r.config.Workers > 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var sizer sync.WaitGroup
	sizer.Go(func() {
		flowcontrol.Autosize(ctx, pool, r.config.MostWorkers, r.decider.limiter,
			func() flowcontrol.Progress {
				return flowcontrol.Progress{
					Requests: r.decider.requests.Load(),
					Items:    r.items.Load(),
				}
			}, r.logger)
	})
	return func() {
		cancel()
		sizer.Wait()
	}
}

// watchThrottling logs the throttling of all services until stop is called.
func (r *Rotator) watchThrottling() (stop func()) {
	all := []flowcontrol.Watched{
		{Service: "KMS", Requests: " requests", Limiter: r.decider.limiter}}
	for name, s := range r.sides {
		service := "the service of target " + name
		all = append(all,
			flowcontrol.Watched{Service: service, Requests: " reads", Limiter: s.reading.limiter},
			flowcontrol.Watched{Service: service, Requests: " writes", Limiter: s.writing.limiter})
	}
	slices.SortFunc(all, func(a, b flowcontrol.Watched) int {
		return strings.Compare(a.Service+a.Requests, b.Service+b.Requests)
	})
	return flowcontrol.WatchThrottling(r.logger, all)
}

// divide applies a share of the rate.
func (r *Rotator) divide(share checkpoint.Share) {
	before := r.runs.Swap(int64(share.Runs))
	r.decider.limiter.Divide(share.Runs, share.Until)
	if int64(share.Runs) != before {
		r.logger.Debug("share of the rate", zap.Int("busy", share.Runs),
			zap.Float64("per_second", r.decider.limiter.Rate()))
	}
}

func fenced(err error) bool {
	stop := (*StopError)(nil)
	return errors.As(err, &stop) && stop.Kind == StopFenced
}

// scan reads one partition after the other, until none is left.
func (r *Rotator) scan(
	life *phases, pool *flowcontrol.Pool, tracker *checkpoint.Tracker, partitions []Partition,
) error {
	for {
		claimed, ok, err := tracker.Claim(life.scan)
		if err != nil && life.scan.Err() == nil {
			return storeError(err)
		}
		if err != nil || !ok {
			return err
		}
		err = r.walk(life, pool, tracker, claimed, partitions[claimed.Index])
		if err != nil && !errors.Is(err, checkpoint.ErrYield) {
			return err
		}
	}
}

// exitReason returns the error of a run that has ended. flush is the error of the last save of
// the checkpoint, or nil; it is logged in any case.
func (r *Rotator) exitReason(ctx context.Context, life *phases, flush error) error {
	if flush != nil {
		r.logger.Warn("not everything could be saved in the checkpoint: the next run finds the "+
			"slots again that were moved after the last save", zap.Error(flush))
	}
	cause := context.Cause(life.scan)
	if stop := (*StopError)(nil); errors.As(cause, &stop) {
		return stop
	}
	if flush != nil {
		return storeError(flush)
	}
	if ctx.Err() != nil {
		return &StopError{Kind: StopInterrupted, What: "stopped before the end"}
	}
	return cause
}

// storeError is the error of a run whose checkpoint could not be read or saved. When
// the time for it was over since the run is to stop, nobody knows what is wrong with
// the checkpoint, if anything is.
func storeError(err error) error {
	if stopped(err) {
		return err
	}
	if errors.Is(err, checkpoint.ErrFenced) {
		return &StopError{Kind: StopFenced, What: "save the checkpoint", Err: err}
	}
	switch Classify(err) {
	case ClassDenied, ClassCredentials:
		return &StopError{Kind: StopAccess, What: "save the checkpoint", Err: err}
	case ClassStopped:
		return &StopError{
			Kind: StopInterrupted,
			What: "stopped before the checkpoint could be read or saved",
			Err:  err,
		}
	}
	if CheckpointAway(err) {
		return &StopError{Kind: StopUnavailable, What: "save the checkpoint", Err: err}
	}
	return &StopError{Kind: StopStorage, What: "save the checkpoint", Err: err}
}

// CheckpointError returns the *StopError of a command that cannot go on because of an error of
// its checkpoint.
func CheckpointError(err error) error { return storeError(err) }

// Partition is one partition of the pass.
type Partition struct {
	Target int // index into Config.Targets
	Spec   scan.Partition
}

// walk reads one partition page by page and hands its items to the pool. The
// tracker keeps it a bounded number of pages ahead of what is saved.
func (r *Rotator) walk(
	life *phases, pool *flowcontrol.Pool, tracker *checkpoint.Tracker,
	claimed checkpoint.Claim, p Partition,
) error {
	target := &r.config.Targets[p.Target]
	cursor := scan.Cursor(claimed.Cursor)
	for {
		ticket, err := tracker.Begin(life.scan, claimed.Index)
		if err != nil {
			return err
		}
		page, err := r.page(life.scan, target, p.Spec, cursor)
		if err != nil {
			return err
		}
		if !r.feed(life, pool, target, page, ticket, claimed.HandOver) {
			return checkpoint.ErrYield
		}
		if page.Last {
			return nil
		}
		cursor = page.Next
	}
}

// page reads one page. No page can be skipped, so whatever goes wrong for good
// ends the run.
func (r *Rotator) page(ctx context.Context, target *Target, spec scan.Partition, cursor scan.Cursor) (page scan.Page, err error) {
	err = r.retry.do(ctx, flowcontrol.Permit{}, Listing, target.Name, func(ctx context.Context) error {
		return r.sides[target.Name].reading.read(ctx, flowcontrol.Permit{}, func() error {
			page, err = target.Lister.Page(ctx, spec, cursor)
			return err
		})
	})
	if err == nil || stopped(err) || ctx.Err() != nil {
		return page, err
	}
	return page, &StopError{Kind: Decide(Event{Doing: Listing, Class: Classify(err)}).Stop, Err: err,
		What: fmt.Sprintf("list target %s, %s", target.Name, spec.Name)}
}

// feed divides a page into chunks for the pool. It blocks while all workers are busy, which
// delays the scanner. Once give is closed, a page of which no chunk was begun is withdrawn, and
// feed returns false. The chunks of a page that was begun then have priority.
func (r *Rotator) feed(
	life *phases, pool *flowcontrol.Pool, target *Target, page scan.Page, ticket *checkpoint.PageTicket,
	give <-chan struct{},
) bool {
	rules := newRuleCounts(r.proofs[target.Name])
	work := &pageWork{engine: r, ticket: ticket, page: page, rules: rules}
	chunks := slices.Collect(slices.Chunk(page.Items, target.Batch))
	work.open = len(chunks)
	work.counts.Items.Excluded = page.Excluded
	countIncluded(&work.counts, page.Included)
	if len(chunks) == 0 {
		work.complete()
		return true
	}
	ctx := flowcontrol.WithUrgency(life.work, give)
	for i, items := range chunks {
		begun := pool.Submit(target.Name, give, i == 0, func(permit flowcontrol.Permit) error {
			if life.scan.Err() != nil {
				return nil // stopping: the page stays open and is read again
			}
			tasks, err := r.worker(life, permit).process(ctx, target, items)
			if err != nil {
				return err
			}
			r.items.Add(int64(len(tasks)))
			return work.add(target, tasks)
		})
		if !begun {
			ticket.Withdraw()
			return false
		}
	}
	return true
}

// worker returns a worker with a permit.
func (r *Rotator) worker(life *phases, permit flowcontrol.Permit) *worker {
	w := &worker{
		decider:  r.decider,
		headers:  r.headers,
		shared:   r.shared,
		retry:    r.retry,
		recorder: r.config.Recorder,
		pass:     r.config.Pass,
		identity: r.config.Identity,
		sides:    r.sides,
		proofs:   r.proofs,
		permit:   permit,
		hard:     life.write,
		searcher: r.search,
		sweep:    newSweep(),
		early:    r.early,
	}
	if r.config.Exact {
		w.shared = nil
	}
	return w
}

// pageWork gathers the outcomes of a page's chunks.
type pageWork struct {
	engine *Rotator
	ticket *checkpoint.PageTicket
	page   scan.Page

	mu     sync.Mutex
	open   int // chunks without outcome
	counts checkpoint.Counts
	rules  *ruleCounts
	ledger []checkpoint.LedgerEntry
}

// add counts a chunk. Its error stops the run. If the exceptions of the chunk cannot be
// reported, the page stays open.
func (p *pageWork) add(target *Target, tasks []*task) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var exceptions []checkpoint.LedgerEntry
	var early error // the page is counted in spite of it
	for _, t := range tasks {
		exceptions = append(exceptions, p.engine.tally(&p.counts, p.rules, target.Name, t)...)
		early = cmp.Or(p.engine.early.written(target.Name, t), early)
	}
	if target.Writer != nil {
		p.ledger = append(p.ledger, exceptions...)
	} else if err := p.engine.report(exceptions); err != nil {
		return err
	}
	if p.open--; p.open == 0 {
		p.complete()
	}
	return early
}

func (p *pageWork) complete() {
	p.rules.into(&p.counts)
	p.ticket.Complete(p.page.Next, p.page.Last, p.counts, p.ledger)
}

// report passes on exceptions that go into no ledger, so that memory use stays
// constant.
func (r *Rotator) report(exceptions []checkpoint.LedgerEntry) error {
	if len(exceptions) == 0 || r.config.Exceptions == nil {
		return nil
	}
	r.reporting.Lock()
	defer r.reporting.Unlock()
	if err := r.config.Exceptions(exceptions); err != nil {
		return &StopError{Kind: StopStorage, What: "write the exceptions", Err: err}
	}
	return nil
}

// tally counts an item and its slots, and returns its exceptions.
func (r *Rotator) tally(
	counts *checkpoint.Counts, rules *ruleCounts, target string, t *task,
) []checkpoint.LedgerEntry {
	if t.own {
		counts.Items.Own++
		return nil
	}
	counts.Items.Seen++
	counts.Items.Ruled++
	counts.Search.Add(t.search)
	if len(t.slots) == 0 {
		counts.Items.WithoutSlot++
	}
	if t.written || t.recovered {
		counts.Items.Written++
	}
	if !t.unread { // an unread item has one slot of no rule
		rules.add(t)
		r.early.count(rules, target, t)
	}
	var exceptions []checkpoint.LedgerEntry
	for i, v := range t.verdicts {
		origin := r.count(counts, t.slots[i], v)
		countStaleKey(counts, target, t.item.Ref, t.slots[i], v)
		if v.excepted() {
			e := entry(target, t.item.Ref, t.slots[i], v)
			e.Origin, e.Unread = origin, t.unread
			exceptions = append(exceptions, e)
		}
	}
	return exceptions
}

// countStaleKey counts a slot that leaves a source key and has the id of a
// source key next to it.
func countStaleKey(
	counts *checkpoint.Counts, target string, ref scan.Ref, slot ciphertext.Slot, v verdict,
) {
	if slot.StaleKey == "" || v.outcome != Rotated && v.outcome != Remaining {
		return
	}
	counts.StaleKeys.Slots++
	if counts.StaleKeys.First == "" {
		counts.StaleKeys.First = clip(
			fmt.Sprintf("%s of %s in target %s", slot.StaleKey, ref, target))
	}
}

func entry(target string, ref scan.Ref, slot ciphertext.Slot, v verdict) checkpoint.LedgerEntry {
	e := checkpoint.LedgerEntry{Target: target, Ref: string(ref), Path: clip(slot.Path), Outcome: string(v.outcome),
		Reason: v.reason, Detail: v.detail, Key: v.key, Attempts: 1, At: time.Now().UTC()}
	if len(slot.Blob) > 0 {
		e.Blob = digest(slot.Blob)
	}
	return e
}

// clip bounds what a document, whose names may be of any length, puts into
// records.
func clip(path string) string {
	const most = 4096
	if len(path) <= most {
		return path
	}
	return strings.ToValidUTF8(path[:most], "") // not half a character
}

// count counts one slot under exactly one outcome. It returns the known origin
// of a slot that failed or is in conflict.
func (r *Rotator) count(
	counts *checkpoint.Counts, slot ciphertext.Slot, v verdict,
) (origin checkpoint.Origin) {
	if v.outcome == Failed || v.outcome == Conflict {
		origin = r.originOf(slot, v)
	}
	countAs(counts, v, origin)
	return origin
}

// countAs is count for a slot whose origin is known.
func countAs(counts *checkpoint.Counts, v verdict, origin checkpoint.Origin) {
	slots := &counts.Slots
	slots.Seen++
	n := checkpoint.KeyCount{Slots: 1}
	switch v.outcome {
	case Rotated:
		slots.Rotated++
		n.Rotated = 1
	case Current:
		slots.Current++
	case Remaining:
		slots.Remaining++
	case Foreign:
		slots.Foreign++
	case Failed:
		slots.Failed++
		if v.reason == reasonSourceContext || v.reason == reasonDestinationContext {
			n.Unreadable = 1
		}
	case Conflict:
		slots.Conflict++
	case Gone:
		slots.Gone++
	}
	if v.header {
		n.Header = 1
	}
	if v.key != "" {
		counts.AddKey(v.key, n)
	}
	if origin != "" {
		counts.AddOrigin(origin, 1)
	}
	if v.excepted() {
		counts.AddReason(string(v.outcome)+"/"+v.reason, 1)
	}
}
