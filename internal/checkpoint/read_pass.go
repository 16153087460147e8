package checkpoint

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"golang.org/x/sync/errgroup"
)

// Stopped is the status of a read-only pass that did not read all targets to the end.
const Stopped Status = "stopped"

// ReadPass is a read-only pass: one read of all targets by audit or verify. Its record
// is written once, when the command ends, and never changes the record of a Pass.
// Read-only passes have their own numbers, from 1. A number whose record could not be
// stored is not used again.
type ReadPass struct {
	Number  int    `json:"number"`
	ID      string `json:"id"`      // random, unique among all read-only passes
	Command string `json:"command"` // audit or verify

	// Caller is the ARN of the caller, and Account its account; empty if unknown.
	Caller  string `json:"caller,omitempty"`
	Account string `json:"account,omitempty"`
	Host    string `json:"host"`

	// Began is the time at which reading began: the record covers nothing that was
	// stored later.
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	Status Status    `json:"status"` // Finished or Stopped

	Exact   bool     `json:"exact,omitempty"` // KMS was asked about every slot
	Flags   []string `json:"flags,omitempty"` // of the command, that were set
	Version string   `json:"version"`         // of rotator

	Fingerprint string `json:"fingerprint"` // of the meaning of the job file
	Mode        string `json:"mode,omitempty"`
	Destination Key    `json:"destination"`
	Sources     []Key  `json:"sources,omitempty"`
	Any         bool   `json:"any,omitempty"`

	// LastPass is the last pass that could write when reading began, and LastPassAtEnd
	// that when reading ended. Nil means that the checkpoint could not be read then.
	LastPass      *LastPass `json:"last_pass,omitempty"`
	LastPassAtEnd *LastPass `json:"last_pass_at_end,omitempty"`

	KMS ReadRequests `json:"kms"`
	// RequestIDs are the ids of the last ReEncrypt requests that used a source key, the newest
	// first. They are all since RequestsFrom, which is zero if the record has no ids because an
	// earlier version wrote it.
	RequestIDs   []string  `json:"request_ids,omitempty"`
	RequestsFrom time.Time `json:"request_ids_from,omitzero"`

	Sample Sample `json:"sample"`
	// HeadersWrong describes how a header disagreed with KMS. The counts are then those
	// of a second read without headers.
	HeadersWrong string `json:"headers_wrong,omitempty"`

	// TokenKeys maps header tokens in Counts.Origins to the ARNs of their keys.
	TokenKeys map[string]string `json:"token_keys,omitempty"`
	Accepted  []AcceptedSlots   `json:"accepted,omitempty"`
	Examples  []LedgerEntry     `json:"examples,omitempty"` // some exceptions of each reason
	// Failed are the first failed slots that may be under a source key, for waivers.
	Failed []LedgerEntry `json:"failed,omitempty"`
	Near   []NearNames   `json:"near,omitempty"`
	// Doubts are reasons why the counts are no proof.
	Doubts []string `json:"doubts,omitempty"`
	Notes  []string `json:"notes,omitempty"`

	// Targets are in the order of the job file.
	Targets []ReadTarget `json:"targets,omitempty"`
	// Parts is the number of further records with the targets, if they do not fit into
	// this one.
	Parts int `json:"parts,omitempty"`
}

// LastPass identifies the last pass of the job at some time. Number is 0 if there was
// none.
type LastPass struct {
	Number int       `json:"number"`
	ID     string    `json:"id,omitempty"`
	Status Status    `json:"status,omitempty"`
	Ended  time.Time `json:"ended,omitzero"`
}

// ReadTarget is the result of a read-only pass for one target, with what the job file
// stated about it.
type ReadTarget struct {
	Name       string    `json:"name"`
	Location   *Location `json:"place,omitempty"`
	MayBeEmpty bool      `json:"may_be_empty,omitempty"`
	EmptyRules []string  `json:"empty_rules,omitempty"` // rules that may find no ciphertext
	Complete   string    `json:"complete,omitempty"`    // why skipped items do not matter
	Counts     Counts    `json:"counts"`
	// Content is nil without --content-digest, and if the pass was stopped.
	Content *ContentDigest `json:"content_digest,omitempty"`
	// Versions are the counts of the old versions of objects. It is nil if they were not read.
	Versions *Counts `json:"versions,omitempty"`
}

// ReadRequests counts the requests of a read-only pass, and the slots that needed none.
type ReadRequests struct {
	Requests  int64 `json:"requests"`
	Throttled int64 `json:"throttled,omitempty"`
	Header    int64 `json:"header,omitempty"`
	Checked   int64 `json:"checked,omitempty"`
	Shared    int64 `json:"shared,omitempty"`
}

// Sample describes the random sample of the slots that headers decided in one process.
type Sample struct {
	Population int64 `json:"population"` // slots that a header decided
	Checked    int64 `json:"checked"`    // slots of the population that KMS was asked about
	// Disagreed is 1 if KMS contradicted a header, which ends the use of headers.
	Disagreed int64 `json:"disagreed"`
}

// AcceptedSlots is the result of one accept rule of the job file.
type AcceptedSlots struct {
	Rule    int    `json:"rule"` // from 1
	Target  string `json:"target"`
	Slots   int64  `json:"slots"`
	Because string `json:"because"`
	Misfits int64  `json:"misfits,omitempty"`
	Barred  int64  `json:"barred,omitempty"`
	Void    string `json:"void,omitempty"`
}

// NearNames are the existing names that are most similar to a name in the job file that was
// not found.
type NearNames struct {
	Target string   `json:"target"`
	Rule   string   `json:"rule,omitempty"` // empty for the whole target
	Names  []string `json:"names"`
}

// Totals returns the counts by target.
func (r ReadPass) Totals() map[string]Counts {
	totals := map[string]Counts{}
	for _, target := range r.Targets {
		totals[target.Name] = target.Counts
	}
	return totals
}

// Check returns an error if figures of the record contradict each other.
func (r ReadPass) Check() error {
	if s := r.Sample; s.Checked > s.Population {
		return fmt.Errorf("the sample has %d checks of %d slots", s.Checked, s.Population)
	}
	for _, target := range r.Targets {
		if err := target.Counts.check(); err != nil {
			return fmt.Errorf("target %s: %w", target.Name, err)
		}
		if v := target.Versions; v != nil {
			if err := v.check(); err != nil {
				return fmt.Errorf("old versions of target %s: %w", target.Name, err)
			}
		}
	}
	return nil
}

// Versions returns the counts of old versions by target, without targets whose old versions were
// not read.
func (r ReadPass) Versions() map[string]Counts {
	versions := map[string]Counts{}
	for _, target := range r.Targets {
		if target.Versions != nil {
			versions[target.Name] = *target.Versions
		}
	}
	return versions
}

// check returns an error if sums of the counts of a read-only pass are wrong.
func (c Counts) check() error {
	exceptions := c.Slots.Foreign + c.Slots.Failed + c.Slots.Conflict
	var reasons, keys, origins int64
	for _, n := range c.Reasons {
		reasons += n
	}
	for arn, n := range c.Keys {
		if n.Header > n.Slots || n.Unreadable > n.Slots {
			return fmt.Errorf("more slots by header or unreadable than slots under %s", arn)
		}
		keys += n.Slots
	}
	for _, n := range c.Origins {
		origins += n
	}
	switch {
	case !c.Balanced():
		return fmt.Errorf("%d slots were seen, and the outcomes have another sum", c.Slots.Seen)
	case reasons != exceptions:
		return fmt.Errorf("the reasons count %d slots, and the outcomes %d", reasons, exceptions)
	case keys > c.Slots.Seen:
		return fmt.Errorf("the keys count %d slots, and %d were seen", keys, c.Slots.Seen)
	case origins != c.Slots.Failed+c.Slots.Conflict:
		return fmt.Errorf("the origins count %d slots, and %d failed", origins,
			c.Slots.Failed+c.Slots.Conflict)
	}
	return nil
}

// readHead is the record that contains the last number of a read-only pass.
type readHead struct {
	Last int `json:"last"`
}

// partRecord contains some targets of a read-only pass.
type partRecord struct {
	ID      string       `json:"id"` // of the read-only pass
	Targets []ReadTarget `json:"targets"`
}

func (p *Passes) readHeadID() string { return "jobs/" + p.job + "/reads" }

func (p *Passes) readPassID(number int) string {
	return fmt.Sprintf("jobs/%s/read/%d", p.job, number)
}

func (p *Passes) readPartID(number, part int) string {
	return fmt.Sprintf("%s/part/%d", p.readPassID(number), part)
}

// maxInline is the maximum size of the targets in the record of a read-only pass, and of
// those in one part. The rest of the record has fewer than 130 KB.
const maxInline = 150 << 10

// StoreReadPass stores a read-only pass under the next number and returns the stored
// record. It reserves the number first, so concurrent audits never use the same number.
// The record exists only when it is complete: parts are stored before it. The error is
// not nil if figures of the record contradict each other.
func (p *Passes) StoreReadPass(ctx context.Context, read ReadPass) (ReadPass, error) {
	if err := read.Check(); err != nil {
		return ReadPass{}, fmt.Errorf("the read-only pass was not stored, because its figures "+
			"contradict each other (this is a bug): %w", err)
	}
	if read.ID == "" {
		read.ID = rand.Text()
	}
	parts, err := split(read.Targets)
	if err != nil {
		return ReadPass{}, err
	}
	for range swapAttempts {
		if read.Number, err = p.reserveRead(ctx); err != nil {
			return ReadPass{}, err
		}
		err = p.writeRead(ctx, read, parts)
		// After the head was lost, a reserved number may have a record already.
		if !errors.Is(err, ErrConflict) {
			return read, err
		}
	}
	return ReadPass{}, err
}

// split divides targets into parts of at most maxInline bytes. It returns nil if one part
// is enough.
func split(targets []ReadTarget) (parts [][]ReadTarget, err error) {
	size := 0
	for _, target := range targets {
		text, err := json.Marshal(target)
		if err != nil {
			return nil, err
		}
		if size += len(text); len(parts) == 0 || size > maxInline {
			parts, size = append(parts, nil), len(text)
		}
		last := len(parts) - 1
		parts[last] = append(parts[last], target)
	}
	if len(parts) <= 1 {
		return nil, nil
	}
	return parts, nil
}

// writeRead creates the records of a read-only pass under its number. The error is
// ErrConflict if the number has a record of another read-only pass.
func (p *Passes) writeRead(ctx context.Context, read ReadPass, parts [][]ReadTarget) error {
	if read.Parts = len(parts); read.Parts > 0 {
		read.Targets = nil
	}
	for i, targets := range parts {
		part := partRecord{ID: read.ID, Targets: targets}
		if err := p.createOnce(ctx, p.readPartID(read.Number, i), "read-part", part); err != nil {
			return err
		}
	}
	return p.createOnce(ctx, p.readPassID(read.Number), "read-pass", read)
}

// createOnce creates a record. If the outcome is unknown, it reads the record: if the
// content is the same, this call or an earlier attempt has created it.
func (p *Passes) createOnce(ctx context.Context, id, kind string, v any) error {
	data, err := Encode(kind, v)
	if err != nil {
		return err
	}
	if _, err = p.store.Create(ctx, id, data); err == nil {
		return nil
	}
	if now, reading := p.store.Fetch(ctx, id); reading == nil && bytes.Equal(now.Data, data) {
		return nil
	}
	return err
}

// reserveRead returns the next number of a read-only pass. No other call returns the same
// number, unless the record of the last number was damaged.
func (p *Passes) reserveRead(ctx context.Context) (int, error) {
	for n := range swapAttempts {
		var head readHead
		before, broken, err := p.fetchToReplace(ctx, p.readHeadID(), "read-head", &head)
		if err == nil && broken {
			head.Last, err = p.repairReads(ctx, before)
		}
		if err != nil {
			return 0, err
		}
		head.Last++
		_, err = p.swap(ctx, before, p.readHeadID(), "read-head", head)
		if !errors.Is(err, ErrConflict) {
			return head.Last, err
		}
		if err := pause(ctx, time.Duration(n)*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("other processes reserved numbers of read-only passes %d times in a row",
		swapAttempts)
}

// repairReads keeps a copy of an unreadable head of the read-only passes, and returns a
// number from which free numbers are searched. A head of a newer version is not replaced.
func (p *Passes) repairReads(ctx context.Context, before Entry) (last int, err error) {
	var head readHead
	if err := Decode(before.ID, "read-head", before.Data, &head); IsNewer(err) {
		return 0, err
	}
	if err := p.backUp(ctx, before); err != nil {
		return 0, err
	}
	for last = 1; last < maxRestartStep; last *= 2 {
		_, err := p.store.Fetch(ctx, p.readPassID(last))
		if errors.Is(err, ErrNotFound) {
			return last - 1, nil
		}
		if err != nil && !IsUnreadable(err) {
			return 0, err
		}
	}
	return 0, &CorruptError{ID: before.ID, Detail: "it does not name the read-only passes"}
}

// LastReadPass returns the last number of a read-only pass that was reserved, or 0.
func (p *Passes) LastReadPass(ctx context.Context) (int, error) {
	var head readHead
	_, err := p.fetch(ctx, p.readHeadID(), "read-head", &head)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return head.Last, err
}

// ReadPass returns the read-only pass with a number. The error is ErrNotFound if there is
// none.
func (p *Passes) ReadPass(ctx context.Context, number int) (read ReadPass, err error) {
	if _, err := p.fetchKept(ctx, p.readPassID(number), "read-pass", &read); err != nil {
		return read, err
	}
	for i := range read.Parts {
		id, part := p.readPartID(number, i), partRecord{}
		_, err := p.fetch(ctx, id, "read-part", &part)
		switch {
		case errors.Is(err, ErrNotFound):
			return read, &CorruptError{ID: id, Detail: "it is missing"}
		case err != nil:
			return read, err
		case part.ID != read.ID:
			return read, &CorruptError{ID: id, Detail: "it belongs to another read-only pass"}
		}
		read.Targets = append(read.Targets, part.Targets...)
	}
	return read, nil
}

// ReadPasses iterates over the stored read-only passes, the newest first. It skips
// numbers without a record. After an error for one record, which the ReadPass names by
// its number, the iteration continues; an error without a number is the last element.
func (p *Passes) ReadPasses(ctx context.Context) iter.Seq2[ReadPass, error] {
	return func(yield func(ReadPass, error) bool) {
		last, err := p.LastReadPass(ctx)
		if err != nil {
			yield(ReadPass{}, err)
			return
		}
		for high := last; high > 0; high -= readers {
			for _, r := range p.readWindow(ctx, high) {
				if errors.Is(r.err, ErrNotFound) {
					continue
				}
				if !yield(r.ReadPass, r.err) {
					return
				}
			}
		}
	}
}

// readResult is a read-only pass, or the error of reading it.
type readResult struct {
	ReadPass
	err error
}

// readWindow reads the read-only passes from number high downwards, concurrently.
func (p *Passes) readWindow(ctx context.Context, high int) []readResult {
	results := make([]readResult, min(high, readers))
	var group errgroup.Group
	for i := range results {
		group.Go(func() error {
			r := &results[i]
			r.ReadPass, r.err = p.ReadPass(ctx, high-i)
			r.Number = high - i
			return nil
		})
	}
	_ = group.Wait()
	return results
}

// LastPass returns the last pass of the job for the record of a read-only pass.
func (p *Passes) LastPass(ctx context.Context) (*LastPass, error) {
	last, err := p.Last(ctx)
	if errors.Is(err, ErrNotFound) {
		return &LastPass{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &LastPass{
		Number: last.Number,
		ID:     last.ID,
		Status: last.Status,
		Ended:  last.Ended,
	}, nil
}
