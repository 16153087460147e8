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

// TrackOptions say how a Tracker saves.
type TrackOptions struct {
	// Window is how many pages of one partition may be begun and not yet saved;
	// default 4. It bounds what a crash makes the next run do again.
	Window int
	// Interval is the least time between two saves, unless a scanner waits for
	// one; default 1 s.
	Interval time.Duration
	// Worker is the id of this process, unique among all that ever worked on the
	// job, and Lease how long it may be silent until others take its partitions
	// over. With a Lease of 0 the caller promises that no other process works on
	// the pass.
	Worker string
	Lease  time.Duration
	// BeforeSave runs before any cursor moves. It makes the audit log durable and
	// returns its last durable line, which is saved with the cursors. It may be
	// nil.
	BeforeSave func(ctx context.Context) (AuditLog, error)
}

// Tracker moves the cursors of a pass. Pages complete in any order; a cursor
// moves past a page only when that page and all before it are complete, and
// counts and ledger entries of a page become durable together with the cursor.
//
// Of several processes on one pass, each works on the partitions that it has
// claimed, and hands some over when others join.
//
// Claim, Begin, Complete and Snapshot may be called from many goroutines, Run and
// Close from one.
type Tracker struct {
	passes     *Passes
	pass       int
	options    TrackOptions
	membership *membership // nil: no other process works on the pass
	claiming   ctxLock     // serializes claims of partitions
	// looks is incremented when all partitions that are not done may be read again, last at
	// lookedAt. Both are guarded by claiming.
	round      int
	roundBegan time.Time
	// wake holds a token when there is something to save, urgent when a scanner
	// waits for it.
	wake, urgent chan struct{}

	// failed is why nothing is saved any more. After a save of unknown outcome the
	// ledger chunks that it wrote may count already, so they must stay as they are.
	failed error // used by Flush and Close alone

	mu         sync.Mutex
	partitions []*tracked
	saved      chan struct{} // closed and replaced by every save
	waiting    int           // scanners without a partition
	noneFree   bool          // no partition was free at the last read
	engaged    int           // uses of the rate without a partition
	uses       int           // uses of the rate, as last passed to the membership
}

// tracked is one partition. All is guarded by Tracker.mu; the entry of one that
// is held is the saver's alone.
type tracked struct {
	target       string
	t, i         int
	held         bool // ours to work on
	handingOver  bool // to be given up when its open pages are saved
	entry        Entry
	pending      Progress      // with every page that is complete, and all before it
	ledger       []LedgerEntry // of the pages in ahead that are not saved
	unsaved      int           // pages in ahead that are not saved
	open         []*PageTicket // begun and not in ahead, in order
	hasWaiters   bool
	handOver     chan struct{} // Claim.HandOver
	scannerDone  bool          // its scanner begins no more pages, because it yields
	handedOverAt time.Time     // when it was handed over last
	triedIn      claimRound    // when another run was last found to hold it
}

// drained reports whether a partition that is to be handed over has no open page and will have
// none.
func (p *tracked) drained() bool { return p.handingOver && p.scannerDone && len(p.open) == 0 }

// PageTicket stands for one page that is being worked on.
type PageTicket struct {
	tracker *Tracker
	part    *tracked
	done    bool
	next    []byte
	last    bool
	counts  Counts
	ledger  []LedgerEntry
}

// Track makes a Tracker over the partitions of a pass, in the order of its
// targets, from where they were saved last.
func (p *Passes) Track(ctx context.Context, pass Pass, options TrackOptions) (*Tracker, error) {
	if options.Window == 0 {
		options.Window = defaultWindow
	}
	if options.Interval == 0 {
		options.Interval = defaultInterval
	}
	t := &Tracker{passes: p, pass: pass.Number, options: options, claiming: make(ctxLock, 1), wake: make(chan struct{}, 1),
		urgent: make(chan struct{}, 1), saved: make(chan struct{})}
	all, err := p.readAll(ctx, pass)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
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

// Begin announces the next page of a partition that was claimed. It blocks while
// too many pages of the partition are not saved, and returns ctx's error when that
// ends first, or ErrYield when another worker is to go on with the partition.
func (t *Tracker) Begin(ctx context.Context, partition int) (*PageTicket, error) {
	part := t.partitions[partition]
	for {
		t.mu.Lock()
		if part.handingOver || t.held() > t.share() {
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

// Withdraw takes back a page that was not begun, because the partition is to be handed over.
// The page must be the last one that was announced for the partition. No other page may be
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

// Complete says that every slot of the page has its outcome. Next is the cursor
// after the page; last says that the partition ends with it.
func (p *PageTicket) Complete(next []byte, last bool, counts Counts, ledger []LedgerEntry) {
	t := p.tracker
	t.mu.Lock()
	p.done, p.next, p.last, p.counts, p.ledger = true, next, last, counts, ledger
	moved := p.part.advance()
	urgent := moved && p.part.hasWaiters
	t.saveIfAwaited(p.part)
	t.updateUses()
	t.mu.Unlock()
	if urgent { // first, so that the save which follows is the one that was waited for
		signal(t.urgent)
	}
	if moved {
		signal(t.wake)
	}
}

// advance takes complete pages off the front, and is true when there were any.
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

// Run saves, and tells the others that this worker is alive, until enough is
// closed. A save that has begun then ends first, since one that is cut off in the
// middle has an unknown outcome; ctx is for all requests. An error means that the
// pass cannot go on: ErrFenced when others took the partitions over.
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

// saves is the saving half of Run.
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
		select { // it is answered now
		case <-t.urgent:
		default:
		}
		if err := t.Flush(ctx); err != nil {
			return err
		}
		pace.Reset(t.options.Interval)
	}
}

// Flush saves what is complete now. It must not run beside Run. Once it has failed
// it fails for good.
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
		s.progress.Log = log
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

// snapshot is what one save makes durable of a partition.
type snapshot struct {
	part     *tracked
	progress Progress
	ledger   []LedgerEntry
	pages    int
	releases bool // the partition is no longer ours afterwards
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
	return batch
}

// snapshot wants the tracker's mu.
func (p *tracked) snapshot() snapshot {
	s := snapshot{part: p, progress: p.pending, ledger: p.ledger, pages: p.unsaved}
	s.progress.Counts, s.progress.Chunks = p.pending.Counts.clone(), slices.Clone(p.pending.Chunks)
	s.releases = p.pending.Done || p.drained()
	return s
}

// save writes the ledger first: chunks that the progress record does not count
// do not exist yet. Their ids hold the epoch, so that a worker which does not know
// yet that it lost the partition writes none that its successor counts.
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
	entry, err := t.passes.save(ctx, s.part.entry, t.passes.partitionID(t.pass, s.part.t, s.part.i), "progress", *next)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.part.entry = entry
	s.part.pending.Chunks, s.part.pending.Saved, s.part.pending.Owner = next.Chunks, next.Saved, next.Owner
	s.part.pending.Log = next.Log
	s.part.ledger = s.part.ledger[len(s.ledger):]
	s.part.unsaved -= s.pages
	s.part.hasWaiters = false
	if s.releases {
		s.part.held = false
		if s.part.handingOver {
			s.part.handedOverAt = time.Now()
		}
		t.updateUses()
		t.membership.announce()
	}
	return nil
}

// maxChunk is how many bytes of entries one chunk takes, counted roughly, to
// stay well inside MaxRecord.
const maxChunk = MaxRecord / 4

// chunks cuts ledger entries into records.
func chunks(entries []LedgerEntry) (cut [][]LedgerEntry) {
	first, size := 0, 0
	for i, e := range entries {
		n := 200 + len(e.Target) + len(e.Ref) + len(e.Path) + len(e.Reason) + len(e.Detail) + len(e.Key)
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

// State is how far one partition is, with what is not saved yet.
type State struct {
	Target string
	Done   bool
	Counts Counts
}

// Snapshot returns how far every partition is.
func (t *Tracker) Snapshot() []State {
	t.mu.Lock()
	defer t.mu.Unlock()
	states := make([]State, len(t.partitions))
	for i, part := range t.partitions {
		states[i] = State{Target: part.target, Done: part.pending.Done, Counts: part.pending.Counts.clone()}
	}
	return states
}

// closed says whether c is closed: of several things that are ready select takes any.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// signal leaves a token where there is none.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
