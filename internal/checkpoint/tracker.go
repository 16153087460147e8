package checkpoint

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// The defaults of TrackOptions.
const (
	defaultWindow   = 4
	defaultInterval = time.Second
)

// TrackOptions are the settings of a Tracker.
type TrackOptions struct {
	// Window is the maximum number of pages of one partition that are begun and not
	// saved. The default is 4. It bounds the work that must be repeated after a crash.
	Window int
	// Interval is the minimum time between two saves, unless a scanner waits for a
	// save. The default is 1 s.
	Interval time.Duration
	// Worker is the id of this run. It must be unique among all processes that ever worked on the
	// job.
	Worker string
	// Lease is the time without a heartbeat after which other processes take over
	// the partitions of this one. With a Lease of 0 the caller guarantees that no
	// other process works on the pass.
	Lease time.Duration
	// BeforeSave, if not nil, is called before any cursor moves. It makes the audit
	// log durable and returns its last durable line, which is saved with the cursors.
	BeforeSave func(ctx context.Context) (AuditLog, error)
}

// Tracker moves the cursors of a pass. Pages complete in any order; a cursor
// moves past a page only if that page and all pages before it are complete. The
// counts and ledger entries of a page become durable together with the cursor.
//
// If several processes work on one pass, each works on the partitions that it has
// claimed, and hands partitions over to processes that join.
//
// Claim, Begin, Complete and Snapshot may be called concurrently. Run, Flush and
// Close must not be called concurrently with each other.
type Tracker struct {
	passes     *Passes
	pass       int
	options    TrackOptions
	logs       []AuditLog  // as recorded when the tracker was made
	membership *membership // nil: no other process works on the pass
	claiming   ctxLock     // serializes claims of partitions
	// round is incremented when all partitions that are not done may be read again, last at
	// lookedAt. Both are guarded by claiming.
	round      int
	roundBegan time.Time
	// wake holds a token if there is something to save, urgent if a scanner waits
	// for the save.
	wake, urgent chan struct{}

	// failed is the error after which nothing is saved any more. After a save with an
	// unknown outcome, the ledger chunks that it wrote may be valid already, so they
	// must not change.
	failed error // used only by Flush and Close

	mu         sync.Mutex
	partitions []*tracked
	saved      chan struct{} // closed and replaced by every save
	waiting    int           // scanners without a partition
	noneFree   bool          // no partition was free at the last read
	engaged    int           // uses of the rate without a partition
	uses       int           // uses of the rate, as last passed to the membership
	pace       pace          // of this run
}

// tracked is one partition. All fields are guarded by Tracker.mu, except that only
// the saving goroutine uses the entry of a partition that is held.
type tracked struct {
	target       string
	t, i         int
	held         bool // this run has claimed it
	handingOver  bool // to be released when its open pages are saved
	entry        Entry
	pending      Progress      // the state with all complete pages up to the first incomplete one
	ledger       []LedgerEntry // of the pages in pending that are not saved
	unsaved      int           // pages in pending that are not saved
	open         []*PageTicket // begun and not in pending, in order
	hasWaiters   bool
	handOver     chan struct{} // Claim.HandOver
	scannerDone  bool          // its scanner begins no more pages, because it yields
	handedOverAt time.Time     // when it was handed over last
	triedIn      claimRound    // when another run was last found to hold it
}

// drained reports whether a partition that is to be handed over has no open page and will have
// none.
func (p *tracked) drained() bool { return p.handingOver && p.scannerDone && len(p.open) == 0 }

// PageTicket is one page in progress.
type PageTicket struct {
	tracker *Tracker
	part    *tracked
	done    bool
	next    []byte
	last    bool
	counts  Counts
	ledger  []LedgerEntry
}

// Logs returns the audit log lines that were recorded in the pass when the tracker was made
// (Records.Logs).
func (t *Tracker) Logs() []AuditLog { return t.logs }

// Track returns a Tracker of the partitions of a pass, in the order of its targets,
// with their saved progress.
func (p *Passes) Track(ctx context.Context, pass Pass, options TrackOptions) (*Tracker, error) {
	if options.Window == 0 {
		options.Window = defaultWindow
	}
	if options.Interval == 0 {
		options.Interval = defaultInterval
	}
	t := &Tracker{
		passes:   p,
		pass:     pass.Number,
		options:  options,
		claiming: make(ctxLock, 1),
		wake:     make(chan struct{}, 1),
		urgent:   make(chan struct{}, 1),
		saved:    make(chan struct{}),
	}
	records, err := p.Records(ctx, pass)
	if err != nil {
		return nil, err
	}
	t.logs = records.Logs()
	for _, r := range records.all {
		t.partitions = append(t.partitions, &tracked{
			target:  pass.Targets[r.target].Name,
			t:       r.target,
			i:       r.index,
			entry:   r.entry,
			pending: r.Progress,
		})
	}
	if options.Lease > 0 {
		t.membership = newMembership(p, pass.Number, options.Worker, options.Lease)
		t.membership.state, t.membership.handOver = t.state, t.handOver
		if err := t.membership.heartbeat(ctx); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Begin announces the next page of a claimed partition. It blocks while Window pages of the
// partition are not saved. It returns the error of ctx if ctx ends first, or ErrYield if the
// partition must be handed over to another run.
func (t *Tracker) Begin(ctx context.Context, partition int) (*PageTicket, error) {
	part := t.partitions[partition]
	for {
		t.mu.Lock()
		if part.handingOver || t.held() > t.share() && t.hasEnough() {
			part.handingOver, part.scannerDone = true, true
			t.saveIfAwaited(part)
			t.updateUses()
			t.mu.Unlock()
			return nil, ErrYield
		}
		if len(part.open)+part.unsaved < t.options.Window {
			ticket := &PageTicket{tracker: t, part: part}
			part.open = append(part.open, ticket)
			t.mu.Unlock()
			return ticket, nil
		}
		part.hasWaiters = true
		saved, give, urgent := t.saved, part.handOver, part.unsaved > 0
		t.mu.Unlock()
		if urgent {
			signal(t.urgent)
		}
		select {
		case <-saved:
		case <-give:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Withdraw withdraws a page whose processing has not begun, because the partition is to be handed
// over. The page must be the last one that was announced for the partition. No other page may be
// announced afterwards.
func (p *PageTicket) Withdraw() {
	t := p.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	if last := len(p.part.open) - 1; last >= 0 && p.part.open[last] == p {
		p.part.open = p.part.open[:last]
	}
	p.part.scannerDone = true
	t.saveIfAwaited(p.part)
	t.updateUses()
}

// Complete records that every slot of the page has an outcome. next is the cursor
// after the page. last is true if the page is the last one of the partition.
func (p *PageTicket) Complete(next []byte, last bool, counts Counts, ledger []LedgerEntry) {
	t := p.tracker
	t.mu.Lock()
	p.done, p.next, p.last, p.counts, p.ledger = true, next, last, counts, ledger
	moved := p.part.advance()
	t.pace.add(counts.Items.Seen, time.Now())
	urgent := moved && p.part.hasWaiters
	t.saveIfAwaited(p.part)
	t.updateUses()
	t.mu.Unlock()
	if urgent { // first, so that the next save includes this page
		signal(t.urgent)
	}
	if moved {
		signal(t.wake)
	}
}

// advance adds the complete pages at the front to pending, and reports whether there
// were any.
func (p *tracked) advance() bool {
	moved := false
	for len(p.open) > 0 && p.open[0].done {
		page := p.open[0]
		p.open = p.open[1:]
		p.pending.Cursor, p.pending.Done = page.next, page.last
		p.pending.Counts.Add(page.counts)
		p.ledger = append(p.ledger, page.ledger...)
		p.unsaved++
		moved = true
	}
	return moved
}

// Run saves complete pages and renews the lease until enough is closed. It finishes a save in
// progress first, because the outcome of an interrupted save is unknown. ctx is the context of all
// requests. After an error the caller must stop its work on the pass. The error is ErrFenced if
// another run has taken over a partition.
func (t *Tracker) Run(ctx context.Context, enough <-chan struct{}) error {
	var both errgroup.Group
	failed := make(chan struct{})
	var once sync.Once
	fail := func(err error) error {
		if err != nil {
			once.Do(func() { close(failed) })
		}
		return err
	}
	both.Go(func() error { return fail(t.saves(ctx, enough, failed)) })
	both.Go(func() error { return fail(t.membership.keepAlive(ctx, enough, failed)) })
	return both.Wait()
}

// saves is the part of Run that saves.
func (t *Tracker) saves(ctx context.Context, enough, failed <-chan struct{}) error {
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		select {
		case <-t.wake:
		case <-enough:
			return nil
		case <-failed:
			return nil
		}
		select {
		case <-pace.C:
		case <-t.urgent:
		case <-enough:
			return nil
		case <-failed:
			return nil
		}
		if closed(enough) {
			return nil
		}
		select { // the save that follows is the urgent one
		case <-t.urgent:
		default:
		}
		if err := t.Flush(ctx); err != nil {
			return err
		}
		pace.Reset(t.options.Interval)
	}
}

// Flush saves all complete pages. It must not be called while Run runs. After an error
// every later call returns that error.
func (t *Tracker) Flush(ctx context.Context) error {
	if t.failed == nil {
		t.failed = t.flush(ctx)
	}
	return t.failed
}

func (t *Tracker) flush(ctx context.Context) error {
	batch := t.collect()
	if len(batch) == 0 {
		return nil
	}
	var log *AuditLog
	if t.options.BeforeSave != nil {
		durable, err := t.options.BeforeSave(ctx)
		if err != nil {
			return err
		}
		log = &durable
	}
	for _, s := range batch {
		s.progress.setLog(log)
		if err := t.save(ctx, s); err != nil {
			return err
		}
	}
	t.mu.Lock()
	close(t.saved)
	t.saved = make(chan struct{})
	t.mu.Unlock()
	return nil
}

// snapshot is the state of a partition that one save makes durable.
type snapshot struct {
	part     *tracked
	progress Progress
	ledger   []LedgerEntry
	pages    int
	releases bool // this save releases the partition
}

func (t *Tracker) collect() []snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	var batch []snapshot
	for _, part := range t.partitions {
		if part.held && (part.unsaved > 0 || part.drained()) {
			batch = append(batch, part.snapshot())
		}
	}
	// Other runs may wait for a partition that is released.
	slices.SortStableFunc(batch, func(a, b snapshot) int {
		switch {
		case a.releases == b.releases:
			return 0
		case a.releases:
			return -1
		}
		return 1
	})
	return batch
}

// snapshot must be called with Tracker.mu held.
func (p *tracked) snapshot() snapshot {
	s := snapshot{part: p, progress: p.pending, ledger: p.ledger, pages: p.unsaved}
	s.progress.Counts, s.progress.Chunks = p.pending.Counts.clone(), slices.Clone(p.pending.Chunks)
	s.releases = p.pending.Done || p.drained()
	return s
}

// save writes the ledger chunks first. A chunk is valid only if the progress record counts it. The
// id of a chunk contains the epoch, so that a run that has lost the partition without knowing it
// does not write to chunks of its successor.
func (t *Tracker) save(ctx context.Context, s snapshot) error {
	next := &s.progress
	for _, entries := range chunks(s.ledger) {
		id := t.passes.chunkID(t.pass, s.part.t, s.part.i, next.addChunk())
		if err := t.passes.put(ctx, id, "ledger", LedgerChunk{Entries: entries}); err != nil {
			return err
		}
	}
	next.Saved = time.Now().UTC()
	if s.releases {
		next.Owner = ""
	}
	id := t.passes.partitionID(t.pass, s.part.t, s.part.i)
	entry, err := t.passes.save(ctx, s.part.entry, id, "progress", *next)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.part.entry = entry
	s.part.pending.Chunks, s.part.pending.Saved = next.Chunks, next.Saved
	s.part.pending.Owner, s.part.pending.Log = next.Owner, next.Log
	s.part.pending.Earlier = next.Earlier
	s.part.ledger = s.part.ledger[len(s.ledger):]
	s.part.unsaved -= s.pages
	s.part.hasWaiters = false
	if s.releases {
		s.part.held = false
		if s.part.handingOver {
			s.part.handedOverAt = time.Now()
		}
		t.updateUses()
		t.membership.changed()
	}
	return nil
}

// maxChunk is the maximum estimated size of the entries of one chunk in bytes. It is
// well below MaxRecord.
const maxChunk = MaxRecord / 4

// chunks divides ledger entries into chunks that fit into records.
func chunks(entries []LedgerEntry) (cut [][]LedgerEntry) {
	first, size := 0, 0
	for i, e := range entries {
		n := 200 + len(e.Target) + len(e.Ref) + len(e.Path) + len(e.Reason) + len(e.Detail) +
			len(e.Key)
		if size+n > maxChunk && i > first {
			cut = append(cut, entries[first:i])
			first, size = i, 0
		}
		size += n
	}
	if first < len(entries) {
		cut = append(cut, entries[first:])
	}
	return cut
}

// State is the progress of one partition, including pages that are not saved.
type State struct {
	Target string
	Done   bool
	Counts Counts
}

// Snapshot returns the progress of every partition.
func (t *Tracker) Snapshot() []State {
	t.mu.Lock()
	defer t.mu.Unlock()
	states := make([]State, len(t.partitions))
	for i, part := range t.partitions {
		states[i] = State{
			Target: part.target,
			Done:   part.pending.Done,
			Counts: part.pending.Counts.clone(),
		}
	}
	return states
}

// closed reports whether c is closed. It gives c priority over other cases of a select.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// signal puts a token into c if there is none.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
