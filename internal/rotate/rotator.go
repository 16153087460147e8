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
	"rotator/internal/contentdigest"
	"rotator/internal/flowcontrol"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/scan"
)

// Time limits of a shutdown, from the request to stop. Scanning stops immediately, chunks in
// progress stop after drainTime, and writes in flight stop after graceTime. Both fit into a
// termination grace period of 10 s.
const (
	drainTime = 5 * time.Second
	graceTime = 8 * time.Second
)

// Scanners is the maximum number of partitions that a run reads concurrently.
const Scanners = 8

// Config is what a Rotator needs. All fields but Logger and Draw are required.
type Config struct {
	Targets []Target
	Keys    reencrypt.Keys
	KMS     reencrypt.Reencrypter
	// KeyState returns the state of a key. If it is nil, an error about a key that may be the
	// key of a slot stops the run.
	KeyState reencrypt.KeyStateFunc
	// Rate is the maximum number of ReEncrypt requests per second, including retries.
	Rate float64
	// Limiter limits the rate if several Rotators, or a preflight, share one limiter. If it
	// is nil, New creates one from Rate.
	Limiter *flowcontrol.Limiter
	// Shares calls its argument with the share of the rate, now and after each change. If it
	// is nil, the share is that of the tracker.
	Shares func(use func(checkpoint.Share))
	// Workers is the number of chunks that are processed concurrently. If it is 0, the run
	// adapts the number to its rate, up to MostWorkers.
	Workers, MostWorkers int
	// MaxOutage is the time without a usable response of a service after which the run stops.
	MaxOutage time.Duration
	// Settle is the time for which requests are retried if a key is not usable or the
	// credentials are refused. After that the run stops. The state of KMS keys is eventually
	// consistent.
	Settle time.Duration
	// Pass is the number of the pass, for the audit log.
	Pass int
	// Identity is the identity of the pass (checkpoint.Pass.Identity). It binds
	// the lines of the audit log to the pass. If it is empty, no line of the log is
	// used.
	Identity string
	Recorder Recorder
	Logger   *zap.Logger // nil: silent
	// Exact sends one request to KMS for every slot. Without it, the header of a ciphertext
	// may decide a slot that need not move, and a sample of these slots is checked with KMS.
	// Slots with the same ciphertext and contexts then share one answer.
	Exact  bool
	Sample reencrypt.Sample // of the slots that headers decide
	// BeginHeaders is called before the first slot is decided by its header, so that the
	// record of the pass states this. If it returns false, headers decide no slot. Nil
	// allows headers, for a pass without a record.
	BeginHeaders func(ctx context.Context) (bool, error)
	// KnownTokens maps header tokens (kmsblob.Token.String) to the keys that KMS
	// named in earlier passes. They are used if a source key is disabled and KMS
	// cannot be asked.
	KnownTokens map[string]string
	// Draw returns a number in [0, n), for the jitter of retries and the choice of a sample.
	// Nil means rand.Int64N. Simulations use a deterministic function.
	Draw func(n int64) int64
	// Early holds the conditions under which the run stops early.
	Early Early
	// Exceptions receives the exceptions of targets without a Writer, which have
	// no ledger. It is never called concurrently. An error ends the run. If nil,
	// they are dropped.
	Exceptions func([]checkpoint.LedgerEntry) error
	// Contents receives a digest of the content of each item, in a pass without writers. If nil,
	// none are computed.
	Contents Contents
}

// Rotator works on one pass. A Rotator can be used for one call of Run, Retry or RetryWhere.
type Rotator struct {
	config    Config
	decisions *reencrypt.Stack
	searcher  *reencrypt.Searcher
	retry     *retry.Retrier
	logger    *zap.Logger
	targets   map[string]*targetState // by target
	proofs    map[string]*proof       // by target
	items     atomic.Int64            // number of items whose slots have outcomes
	runs      atomic.Int64            // number of runs that divide the rate, as last logged
	early     *early

	reporting sync.Mutex // held while Config.Exceptions is called
}

// New returns a Rotator.
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
	r := &Rotator{
		config:  c,
		retry:   retry.New(c.MaxOutage, c.Settle, c.Draw),
		logger:  c.Logger,
		targets: map[string]*targetState{},
		proofs:  map[string]*proof{},
	}
	r.decisions = reencrypt.NewStack(reencrypt.StackConfig{
		Keys:        c.Keys,
		KMS:         c.KMS,
		Limiter:     c.Limiter,
		Retry:       r.retry,
		Exact:       c.Exact,
		KeyState:    c.KeyState,
		KnownTokens: c.KnownTokens,
		Hints: reencrypt.HintConfig{
			ReadOnly: !slices.ContainsFunc(c.Targets,
				func(t Target) bool { return t.Writer != nil }),
			Sample: c.Sample,
			Salt:   uint64(c.Draw(1 << 62)),
			Begin:  beginHints(c.BeginHeaders),
			Logger: c.Logger,
		},
	})
	r.searcher = r.decisions.Searcher(c.Exact)
	for _, t := range c.Targets {
		r.targets[t.Name] = newTargetState()
		r.proofs[t.Name] = newProof(t.Format)
	}
	r.early = newEarly(c, r.proofs)
	return r
}

// beginHints returns a function that calls begin and converts its error with storeError.
func beginHints(
	begin func(context.Context) (bool, error),
) func(context.Context) (bool, error) {
	if begin == nil {
		return nil
	}
	return func(ctx context.Context) (bool, error) {
		allowed, err := begin(ctx)
		if err != nil {
			return false, storeError(err)
		}
		return allowed, nil
	}
}

// Requests returns the number of ReEncrypt requests that this Rotator sent, including dry runs,
// the number of these that were throttled, and the current rate limit in requests per second.
// The rate is 0 while the run has no share of it.
func (r *Rotator) Requests() (sent, throttled int64, perSecond float64) {
	if r.runs.Load() > 0 {
		perSecond = r.config.Limiter.Rate()
	}
	sent, throttled = r.decisions.Requests()
	return sent, throttled, perSecond
}

// Savings returns the number of slots, by reason, for which no request was sent so far.
func (r *Rotator) Savings() reencrypt.Savings { return r.decisions.Savings() }

// Headers reports whether the whole sample of the slots that headers decided was checked, and
// KMS agreed with every header. wrong describes a difference that a check found, or is "".
func (r *Rotator) Headers() (agree bool, wrong string) { return r.decisions.HintsAgree() }

// checkHeaders checks the rest of the sample, unless the run is stopping. Without this check,
// the counts by headers are not evidence.
func (r *Rotator) checkHeaders(life *phases, tracker *checkpoint.Tracker) {
	if life.scan.Err() != nil {
		return
	}
	defer tracker.Engage()()
	if err := r.decisions.CheckSample(life.work, r.workers()); err != nil {
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
		// The context also ends with the group. Its cause is then context.Canceled itself;
		// the error of a job can wrap it, and must stop the run.
		err := context.Cause(failed)
		if err != context.Canceled { //nolint:errorlint // a wrapped one is the error of a job
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
		flowcontrol.Autosize(ctx, pool, r.config.MostWorkers, r.config.Limiter,
			func() flowcontrol.Progress {
				sent, _ := r.decisions.Requests()
				return flowcontrol.Progress{Requests: sent, Items: r.items.Load()}
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
		{Service: "KMS", Requests: " requests", Limiter: r.config.Limiter}}
	for name, s := range r.targets {
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
	r.config.Limiter.Divide(share.Runs, share.Until)
	if int64(share.Runs) != before {
		r.logger.Debug("share of the rate", zap.Int("busy", share.Runs),
			zap.Float64("per_second", r.config.Limiter.Rate()))
	}
}

func fenced(err error) bool {
	stop := (*retry.StopError)(nil)
	return errors.As(err, &stop) && stop.Kind == retry.StopFenced
}

// scan claims and reads partitions until none is left.
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

// exitReason returns the error of a run that has ended, or nil. flush is the error of the last
// save of the checkpoint, or nil. It is logged in any case.
func (r *Rotator) exitReason(ctx context.Context, life *phases, flush error) error {
	if flush != nil {
		r.logger.Warn("not everything could be saved in the checkpoint: the next run processes "+
			"the items again that were written after the last save", zap.Error(flush))
	}
	cause := context.Cause(life.scan)
	if stop := (*retry.StopError)(nil); errors.As(cause, &stop) {
		return stop
	}
	if flush != nil {
		return storeError(flush)
	}
	if ctx.Err() != nil {
		return &retry.StopError{Kind: retry.StopInterrupted, What: "stopped before the end"}
	}
	return cause
}

// storeError returns the error of a run that could not read or save its checkpoint. If the
// time limit of a shutdown interrupted the request, the state of the checkpoint is unknown.
func storeError(err error) error {
	if retry.Stopped(err) {
		return err
	}
	if errors.Is(err, checkpoint.ErrFenced) {
		return &retry.StopError{Kind: retry.StopFenced, What: "save the checkpoint", Err: err}
	}
	switch retry.Classify(err) {
	case retry.KindDenied, retry.KindCredentials:
		return &retry.StopError{Kind: retry.StopAccess, What: "save the checkpoint", Err: err}
	case retry.KindStopped:
		return &retry.StopError{
			Kind: retry.StopInterrupted,
			What: "stopped before the checkpoint could be read or saved",
			Err:  err,
		}
	}
	if CheckpointAway(err) {
		return &retry.StopError{Kind: retry.StopUnavailable, What: "save the checkpoint", Err: err}
	}
	return &retry.StopError{Kind: retry.StopStorage, What: "save the checkpoint", Err: err}
}

// CheckpointAway reports whether err means that the service of the checkpoint, DynamoDB or S3,
// gave no usable response for the time that the store retries. It is false for a checkpoint in a
// file, because its errors are not temporary.
func CheckpointAway(err error) bool {
	service := (*checkpoint.ServiceError)(nil)
	if !errors.As(err, &service) {
		return false
	}
	switch retry.Classify(service) {
	case retry.KindThrottled, retry.KindTransient, retry.KindUnknown:
		return true
	}
	return false
}

// CheckpointError returns the *retry.StopError of a command that cannot continue because of an
// error of its checkpoint.
func CheckpointError(err error) error { return storeError(err) }

// Partition is one partition of the pass.
type Partition struct {
	Target int // index into Config.Targets
	Spec   scan.Partition
}

// walk reads one partition page by page and submits its items to the pool. The tracker limits
// the number of pages that are read but not saved. walk returns checkpoint.ErrYield if the
// partition is handed over to another run.
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
		if !r.submitPage(life, pool, target, page, ticket, claimed.HandOver) {
			return checkpoint.ErrYield
		}
		if page.Last {
			return nil
		}
		cursor = page.Next
	}
}

// page reads one page. A page cannot be skipped, so every error that remains after the retries
// ends the run.
func (r *Rotator) page(
	ctx context.Context, target *Target, spec scan.Partition, cursor scan.Cursor,
) (page scan.Page, err error) {
	err = r.retry.Do(ctx, flowcontrol.Permit{}, retry.Listing, target.Name,
		func(ctx context.Context) error {
			return r.targets[target.Name].reading.read(ctx, flowcontrol.Permit{}, func() error {
				page, err = target.Lister.Page(ctx, spec, cursor)
				return err
			})
		})
	if err == nil || retry.Stopped(err) || ctx.Err() != nil {
		return page, err
	}
	return page, &retry.StopError{
		Kind: retry.Decide(retry.Event{
			Operation: retry.Listing,
			Kind:      retry.Classify(err),
		}).Stop,
		What: fmt.Sprintf("list target %s, %s", target.Name, spec.Name),
		Err:  err,
	}
}

// submitPage divides a page into chunks and submits them to the pool. It blocks while all workers
// are busy, which slows down the scanner. handOver is closed when the partition must be handed
// over. If no chunk of the page has started by then, feed withdraws the page and returns false.
// Otherwise the chunks of the page have priority from then on.
func (r *Rotator) submitPage(
	life *phases, pool *flowcontrol.Pool, target *Target, page scan.Page,
	ticket *checkpoint.PageTicket, handOver <-chan struct{},
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
	ctx := flowcontrol.WithUrgency(life.work, handOver)
	for i, items := range chunks {
		begun := pool.Submit(target.Name, handOver, i == 0, func(permit flowcontrol.Permit) error {
			if life.scan.Err() != nil {
				return nil // the run stops: the page stays open and is read again
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

// worker returns a worker that holds permit.
func (r *Rotator) worker(life *phases, permit flowcontrol.Permit) *worker {
	return &worker{
		decisions: r.decisions,
		keys:      r.config.Keys,
		retry:     r.retry,
		recorder:  r.config.Recorder,
		pass:      r.config.Pass,
		identity:  r.config.Identity,
		targets:   r.targets,
		proofs:    r.proofs,
		permit:    permit,
		writeCtx:  life.write,
		searcher:  r.searcher,
		sweep:     newSweep(),
		early:     r.early,
		digests:   r.config.Contents != nil,
	}
}

// pageWork collects the outcomes of the chunks of a page and completes its ticket.
type pageWork struct {
	engine *Rotator
	ticket *checkpoint.PageTicket
	page   scan.Page

	mu     sync.Mutex
	open   int // number of chunks that are not finished
	counts checkpoint.Counts
	rules  *ruleCounts
	ledger []checkpoint.LedgerEntry
	// contents are the content digests of the items so far.
	contents []contentdigest.Entry
}

// add counts a chunk. It completes the page after the last chunk. An error stops the run. If the
// exceptions of the chunk cannot be reported, the page stays open.
func (p *pageWork) add(target *Target, tasks []*task) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var exceptions []checkpoint.LedgerEntry
	var early error // does not prevent counting the page
	for _, t := range tasks {
		exceptions = append(exceptions, p.engine.tally(&p.counts, p.rules, target.Name, t)...)
		early = cmp.Or(p.engine.early.countWritten(target.Name, t), early)
		if t.content != nil {
			p.contents = append(p.contents, *t.content)
		}
	}
	if target.Writer != nil {
		p.ledger = append(p.ledger, exceptions...)
	} else if err := p.engine.report(exceptions); err != nil {
		return err
	}
	if p.open--; p.open == 0 {
		if err := p.engine.contents(target.Name, p.contents); err != nil {
			return err
		}
		p.complete()
	}
	return early
}

func (p *pageWork) complete() {
	p.rules.into(&p.counts)
	p.ticket.Complete(p.page.Next, p.page.Last, p.counts, p.ledger)
}

// report passes the exceptions of a target without a ledger to Config.Exceptions. They are not
// collected, so memory use does not grow with their number.
func (r *Rotator) report(exceptions []checkpoint.LedgerEntry) error {
	if len(exceptions) == 0 || r.config.Exceptions == nil {
		return nil
	}
	r.reporting.Lock()
	defer r.reporting.Unlock()
	if err := r.config.Exceptions(exceptions); err != nil {
		return &retry.StopError{Kind: retry.StopStorage, What: "write the exceptions", Err: err}
	}
	return nil
}

// tally counts an item and its slots. It returns the exceptions as ledger entries.
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
	if !t.unread { // the slot of an unread item belongs to no rule
		rules.add(t)
		r.early.count(rules, target, t)
	}
	var exceptions []checkpoint.LedgerEntry
	for i, v := range t.verdicts {
		origin := r.count(counts, t.slots[i], v)
		countStaleKey(counts, target, t.item.Ref, t.slots[i], v)
		if v.Excepted() {
			e := entry(target, t.item.Ref, t.slots[i], v)
			e.Origin, e.Unread, e.HeaderKey = origin, t.unread, r.headerKeyOf(t.slots[i], v)
			exceptions = append(exceptions, e)
		}
	}
	return exceptions
}

// countStaleKey counts a slot under a source key if the item also stores the id of a source
// key next to the ciphertext. rotator does not change such an id.
func countStaleKey(
	counts *checkpoint.Counts, target string, ref scan.Ref, slot ciphertext.Slot,
	v reencrypt.Verdict,
) {
	if slot.StaleKey == "" || v.Outcome != reencrypt.Rotated && v.Outcome != reencrypt.Remaining {
		return
	}
	counts.StaleKeys.Slots++
	if counts.StaleKeys.First == "" {
		counts.StaleKeys.First = reencrypt.Clip(
			fmt.Sprintf("%s of %s in target %s", slot.StaleKey, ref, target))
	}
}

// entry returns the ledger entry of an exception.
func entry(
	target string, ref scan.Ref, slot ciphertext.Slot, v reencrypt.Verdict,
) checkpoint.LedgerEntry {
	e := checkpoint.LedgerEntry{
		Target:   target,
		Ref:      string(ref),
		Path:     reencrypt.Clip(slot.Path),
		Outcome:  string(v.Outcome),
		Reason:   v.Reason,
		Detail:   v.Detail,
		Key:      v.Key,
		ByHeader: v.Header,
		Attempts: 1,
		At:       time.Now().UTC(),
	}
	if len(slot.Blob) > 0 {
		e.Blob = digest(slot.Blob)
	}
	return e
}

// count counts one slot under exactly one outcome. For the outcomes Failed and Conflict it
// returns the origin of the slot, otherwise "".
func (r *Rotator) count(
	counts *checkpoint.Counts, slot ciphertext.Slot, v reencrypt.Verdict,
) (origin checkpoint.Origin) {
	if v.Outcome == reencrypt.Failed || v.Outcome == reencrypt.Conflict {
		origin = r.originOf(slot, v)
	}
	countAs(counts, v, origin)
	return origin
}

// countAs counts one slot with a known origin under exactly one outcome.
func countAs(counts *checkpoint.Counts, v reencrypt.Verdict, origin checkpoint.Origin) {
	slots := &counts.Slots
	slots.Seen++
	n := checkpoint.KeyCount{Slots: 1}
	switch v.Outcome {
	case reencrypt.Rotated:
		slots.Rotated++
		n.Rotated = 1
	case reencrypt.Current:
		slots.Current++
	case reencrypt.Remaining:
		slots.Remaining++
	case reencrypt.Foreign:
		slots.Foreign++
	case reencrypt.Failed:
		slots.Failed++
		if v.Reason == reencrypt.ReasonSourceContext ||
			v.Reason == reencrypt.ReasonDestinationContext {
			n.Unreadable = 1
		}
	case reencrypt.Conflict:
		slots.Conflict++
	case reencrypt.Gone:
		slots.Gone++
	}
	if v.Header {
		n.Header = 1
	}
	if v.Key != "" {
		counts.AddKey(v.Key, n)
	}
	if origin != "" {
		counts.AddOrigin(origin, 1)
	}
	if v.Excepted() {
		counts.AddReason(string(v.Outcome)+"/"+v.Reason, 1)
	}
}
