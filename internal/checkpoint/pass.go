package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Status says whether a pass has reached its end.
type Status string

// The states of a pass.
const (
	Running  Status = "running" // begun and not finished, whether or not a run works on it now
	Finished Status = "complete"
)

// Pass is one complete walk over all partitions of a job. Its partitions are
// frozen here when it begins.
type Pass struct {
	Number      int          `json:"number"`
	Fingerprint string       `json:"fingerprint"` // of what the job means
	Destination Key          `json:"destination"`
	Sources     []Key        `json:"sources,omitempty"`
	Any         bool         `json:"any,omitempty"`
	Targets     []PassTarget `json:"targets"`
	Status      Status       `json:"status"`
	Started     time.Time    `json:"started"`
	Ended       time.Time    `json:"ended,omitzero"`
	// Requests and Throttled count the ReEncrypt requests of the runs that
	// ended in order; what a killed run had sent is not known.
	Requests  int64 `json:"requests"`
	Throttled int64 `json:"throttled"`
	// AuditLines and AuditHead say how far the audit log went when the pass was
	// last saved in order, so that a log cut short is found.
	AuditLines int64  `json:"audit_lines"`
	AuditHead  string `json:"audit_head,omitempty"`
}

// Key is a KMS key as it was resolved when the pass began.
type Key struct {
	Given    string `json:"given"` // as in the job file
	ARN      string `json:"arn"`
	Material string `json:"material,omitempty"` // id of its current key material
}

// PassTarget is a target with its frozen partitions.
type PassTarget struct {
	Name       string      `json:"name"`
	Partitions []Partition `json:"partitions"`
}

// Partition is one unit of scanning; Spec is known to its source alone.
type Partition struct {
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"`
}

// Progress is how far a pass is in one partition. Everything before Cursor has
// a durable outcome, and is in Counts and in the ledger, once.
type Progress struct {
	Cursor []byte    `json:"cursor,omitempty"` // empty: at the start
	Done   bool      `json:"done,omitempty"`
	Counts Counts    `json:"counts"`
	Chunks int       `json:"chunks,omitempty"` // how many ledger chunks belong to this partition
	Saved  time.Time `json:"saved,omitzero"`
}

// LedgerEntry is one slot that could not be moved.
type LedgerEntry struct {
	Target string `json:"target"`
	Ref    string `json:"ref"`  // address of the item
	Path   string `json:"path"` // of the slot in the item; "" is its body
	// Blob is the SHA-256 of the ciphertext, hex; "" when there was none to read.
	// It finds the slot again where paths move, as in sets.
	Blob     string    `json:"blob_sha256,omitempty"`
	Outcome  string    `json:"outcome"`
	Reason   string    `json:"reason"`
	Detail   string    `json:"detail"`
	Key      string    `json:"key,omitempty"` // ARN under which it stands, if known
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"`
}

// LedgerChunk is some of the entries of one partition. Adjust is what retries
// changed in the counts of the partition since its pages were counted.
type LedgerChunk struct {
	Entries []LedgerEntry `json:"entries"`
	Adjust  Counts        `json:"adjust"`
}

// head says at which pass a job is.
type head struct {
	Pass int `json:"pass"`
}

// Passes keeps the passes of one job in a Store.
type Passes struct {
	store Store
	job   string
}

// NewPasses returns the passes of a job.
func NewPasses(store Store, job string) *Passes { return &Passes{store: store, job: job} }

func (p *Passes) headID() string           { return "jobs/" + p.job + "/head" }
func (p *Passes) passID(number int) string { return fmt.Sprintf("jobs/%s/pass/%d", p.job, number) }

// partitionID names a target by its place in the pass, since names of targets
// may have letters that ids do not.
func (p *Passes) partitionID(number, target, partition int) string {
	return fmt.Sprintf("%s/partition/%d/%d", p.passID(number), target, partition)
}

func (p *Passes) chunkID(number, target, partition, chunk int) string {
	return fmt.Sprintf("%s/ledger/%d/%d/%d", p.passID(number), target, partition, chunk)
}

// Last returns the pass that began last; ErrNotFound when none ever did.
func (p *Passes) Last(ctx context.Context) (Pass, error) {
	var h head
	if _, err := p.fetch(ctx, p.headID(), "head", &h); err != nil {
		return Pass{}, err
	}
	pass, err := p.Pass(ctx, h.Pass)
	if errors.Is(err, ErrNotFound) {
		return Pass{}, &CorruptError{ID: p.passID(h.Pass), Detail: "it is missing"}
	}
	return pass, err
}

// Pass returns one pass; ErrNotFound when there is none of that number.
func (p *Passes) Pass(ctx context.Context, number int) (pass Pass, err error) {
	_, err = p.fetch(ctx, p.passID(number), "pass", &pass)
	return pass, err
}

// Begin makes pass the last one. A pass counts from the moment the head names
// it, so a crash in between leaves at most a record that nothing refers to.
func (p *Passes) Begin(ctx context.Context, pass Pass) error {
	var h head
	before, err := p.fetch(ctx, p.headID(), "head", &h)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if h.Pass >= pass.Number {
		return ErrFenced
	}
	if err := p.put(ctx, p.passID(pass.Number), "pass", pass); err != nil {
		return err
	}
	_, err = p.save(ctx, before, p.headID(), "head", head{Pass: pass.Number})
	return err
}

// Update replaces the record of a pass.
func (p *Passes) Update(ctx context.Context, pass Pass) error {
	return p.put(ctx, p.passID(pass.Number), "pass", pass)
}

// Progress returns how far a pass is in the partition of a target, both counted
// from 0; a partition that was never saved is at its start.
func (p *Passes) Progress(ctx context.Context, number, target, partition int) (Progress, error) {
	progress, _, err := p.progress(ctx, number, target, partition)
	return progress, err
}

func (p *Passes) progress(ctx context.Context, number, target, partition int) (progress Progress, e Entry, err error) {
	e, err = p.fetch(ctx, p.partitionID(number, target, partition), "progress", &progress)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return progress, e, err
}

// Totals returns what the pass counted so far, by target, with what retries
// changed since.
func (p *Passes) Totals(ctx context.Context, pass Pass) (map[string]Counts, error) {
	totals := map[string]Counts{}
	for t, target := range pass.Targets {
		var sum Counts
		for i := range target.Partitions {
			progress, err := p.Progress(ctx, pass.Number, t, i)
			if err != nil {
				return nil, err
			}
			sum.Add(progress.Counts)
		}
		totals[target.Name] = sum
	}
	for chunk, err := range p.Ledger(ctx, pass) {
		if err != nil {
			return nil, err
		}
		sum := totals[chunk.target]
		sum.Add(chunk.Adjust)
		totals[chunk.target] = sum
	}
	return totals, nil
}

// Chunk is a LedgerChunk with its place in the store.
type Chunk struct {
	LedgerChunk
	target string
	entry  Entry
}

// Ledger walks over the ledger of a pass.
func (p *Passes) Ledger(ctx context.Context, pass Pass) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		for t, target := range pass.Targets {
			for i := range target.Partitions {
				progress, err := p.Progress(ctx, pass.Number, t, i)
				if err != nil {
					yield(Chunk{}, err)
					return
				}
				for n := range progress.Chunks {
					chunk := Chunk{target: target.Name}
					chunk.entry, err = p.fetch(ctx, p.chunkID(pass.Number, t, i, n), "ledger", &chunk.LedgerChunk)
					if errors.Is(err, ErrNotFound) {
						err = &CorruptError{ID: p.chunkID(pass.Number, t, i, n), Detail: "it is missing"}
					}
					if !yield(chunk, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// ReplaceChunk saves a chunk that was changed: its entries and its adjustment
// become durable together. ErrFenced when somebody else changed it.
func (p *Passes) ReplaceChunk(ctx context.Context, chunk Chunk) error {
	_, err := p.save(ctx, chunk.entry, chunk.entry.ID, "ledger", chunk.LedgerChunk)
	return err
}

func (p *Passes) fetch(ctx context.Context, id, kind string, v any) (Entry, error) {
	e, err := p.store.Fetch(ctx, id)
	if err != nil {
		return Entry{}, err
	}
	return e, Decode(id, kind, e.Data, v)
}

// save replaces before, or creates the record when before is none. Whoever
// comes second is fenced off.
func (p *Passes) save(ctx context.Context, before Entry, id, kind string, v any) (Entry, error) {
	data, err := Encode(kind, v)
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	if before.Exists() {
		e, err = p.store.Replace(ctx, before, data)
	} else {
		e, err = p.store.Create(ctx, id, data)
	}
	if errors.Is(err, ErrConflict) {
		return Entry{}, ErrFenced
	}
	return e, err
}

// put writes a record whether or not it is there already.
func (p *Passes) put(ctx context.Context, id, kind string, v any) error {
	before, err := p.store.Fetch(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	_, err = p.save(ctx, before, id, kind, v)
	return err
}
