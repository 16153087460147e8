package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Pruned replaces the record of a pass or of a read-only pass when its records are deleted, so
// that its number is never used again and the deletion is visible.
type Pruned struct {
	Kind   string    `json:"kind"` // KindPass or KindReadPass
	Number int       `json:"number"`
	ID     string    `json:"id,omitempty"`
	Status Status    `json:"status,omitempty"`
	Began  time.Time `json:"began,omitzero"`
	Ended  time.Time `json:"ended,omitzero"`
	At     time.Time `json:"pruned"`
	By     string    `json:"pruned_by"` // caller or host
}

// The values of Pruned.Kind.
const (
	KindPass     = "pass"
	KindReadPass = "read-only pass"
)

// PrunedError means that the records of a pass or of a read-only pass were deleted by Prune.
// errors.Is(err, ErrNotFound) is true.
type PrunedError struct{ Pruned }

func (e *PrunedError) Error() string {
	return fmt.Sprintf("the records of %s %d were deleted by rotator checkpoint prune (%s, by %s)",
		e.Kind, e.Number, e.At.Format(time.RFC3339), e.By)
}

// Is implements errors.Is.
func (e *PrunedError) Is(target error) bool { return target == ErrNotFound }

// isPruned reports whether err means that records were deleted by Prune.
func isPruned(err error) bool { return errors.As(err, new(*PrunedError)) }

// prunedKind is the kind of the record of a Pruned. A program that does not know it reports the
// record as corrupt, and never as absent.
const prunedKind = "pruned"

// fetchKept is fetch for a record that Prune can have replaced. The error is then a *PrunedError.
func (p *Passes) fetchKept(ctx context.Context, id, kind string, v any) (Entry, error) {
	e, err := p.fetch(ctx, id, kind, v)
	return e, findPruned(e, err)
}

// findPruned returns a *PrunedError if a record could not be decoded, with the error err, because
// it is a Pruned. Otherwise it returns err.
func findPruned(e Entry, err error) error {
	var pruned Pruned
	corrupt := (*CorruptError)(nil)
	if errors.As(err, &corrupt) && Decode(e.ID, prunedKind, e.Data, &pruned) == nil {
		return &PrunedError{pruned}
	}
	return err
}

// Retained is a pass or a read-only pass in the checkpoint, with the size of its records.
type Retained struct {
	Kind    string    `json:"kind"`
	Number  int       `json:"number"`
	Status  Status    `json:"status,omitempty"`
	Began   time.Time `json:"began,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Records int       `json:"records"`
	Bytes   int64     `json:"bytes"`
	// Kept is the reason why Prune keeps it; empty if Prune deletes its records.
	Kept string `json:"kept,omitempty"`
	// Pruned is set if its records were deleted before. Records and Bytes then count what
	// replaced them, and what an interrupted Prune left.
	Pruned *Pruned `json:"pruned,omitempty"`

	id       string   // passes.ID or ReadPass.ID
	entry    Entry    // its main record
	rest     []string // ids of its other records
	before   *LastPass
	missing  bool // it has no main record
	readings []Reading
}

// Retention is what the checkpoint of a job contains.
type Retention struct {
	Items []Retained `json:"items"` // passes, then read-only passes, each by number
	// Records and Bytes count the records that belong to no pass: heads, members, and copies
	// of damaged records. They are always kept.
	Records int   `json:"other_records"`
	Bytes   int64 `json:"other_bytes"`
}

// Retention lists the records of the job and decides which of them Prune deletes. It keeps the
// last passes of which keep are complete, at least 1, the pass before the last one, and the
// read-only passes since then, with the one before them. It also keeps the last complete pass that
// read a target, and later ones that were stopped: a verdict counts what is left in targets that
// the job no longer has. The error is not nil if the store
// cannot list records.
func (p *Passes) Retention(ctx context.Context, keep int) (Retention, error) {
	store, ok := p.store.(Prunable)
	if !ok {
		return Retention{}, fmt.Errorf("the store %T cannot list its records", p.store)
	}
	last, err := p.LastNumber(ctx)
	if err != nil {
		return Retention{}, err
	}
	r, err := p.group(ctx, store)
	if err != nil {
		return Retention{}, err
	}
	for i := range r.Items {
		if err := p.describe(ctx, &r.Items[i]); err != nil {
			return Retention{}, err
		}
	}
	cut := cutOf(r.Items, max(keep, 1), last)
	decidePasses(r.Items, cut, last)
	decideReads(r.Items, cut)
	decideTargets(r.Items)
	return r, nil
}

// group lists the records of the job by the pass to which they belong.
func (p *Passes) group(ctx context.Context, store Prunable) (r Retention, err error) {
	type key struct {
		kind   string
		number int
	}
	found := map[key]*Retained{}
	prefix := "jobs/" + p.job + "/"
	for record, err := range store.List(ctx, prefix) {
		if err != nil {
			return r, err
		}
		kind, number, main := ownerOf(strings.TrimPrefix(record.ID, prefix))
		if kind == "" {
			r.Records, r.Bytes = r.Records+1, r.Bytes+record.Bytes
			continue
		}
		item := found[key{kind, number}]
		if item == nil {
			item = &Retained{Kind: kind, Number: number, missing: true}
			found[key{kind, number}] = item
		}
		item.Records, item.Bytes = item.Records+1, item.Bytes+record.Bytes
		if main {
			item.missing = false
		} else {
			item.rest = append(item.rest, record.ID)
		}
	}
	for _, item := range found {
		slices.Sort(item.rest)
		r.Items = append(r.Items, *item)
	}
	slices.SortFunc(r.Items, func(a, b Retained) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Number, b.Number))
	})
	return r, nil
}

// ownerOf returns the pass to which a record belongs, from its id without the prefix of the job.
// kind is "" if it belongs to none. main reports whether it is the record of the pass itself.
func ownerOf(id string) (kind string, number int, main bool) {
	parts := strings.SplitN(id, "/", 3)
	if len(parts) < 2 {
		return "", 0, false
	}
	kind = map[string]string{"pass": KindPass, "read": KindReadPass}[parts[0]]
	number, err := strconv.Atoi(parts[1])
	if err != nil || kind == "" {
		return "", 0, false
	}
	return kind, number, len(parts) == 2
}

// describe reads the main record of an item. An unreadable item is kept.
func (p *Passes) describe(ctx context.Context, item *Retained) error {
	if item.missing {
		return nil
	}
	var pass Pass
	var read ReadPass
	var err error
	if item.Kind == KindPass {
		item.entry, err = p.fetchKept(ctx, p.passID(item.Number), "pass", &pass)
		item.id, item.Status = pass.ID, pass.Status
		item.Began, item.Ended = pass.Started, pass.Ended
		item.readings = pass.Readings()
	} else {
		item.entry, err = p.fetchKept(ctx, p.readPassID(item.Number), "read-pass", &read)
		item.id, item.Status, item.Began, item.Ended = read.ID, read.Status, read.Began, read.Ended
		item.before = read.LastPass
		if err == nil && read.Parts > 0 {
			read, err = p.ReadPass(ctx, item.Number)
		}
		item.readings = read.Readings()
	}
	pruned := (*PrunedError)(nil)
	switch {
	case errors.As(err, &pruned):
		item.Pruned = &pruned.Pruned
		item.Status, item.Began, item.Ended = pruned.Status, pruned.Began, pruned.Pruned.Ended
	case IsUnreadable(err):
		item.Kept = "its record cannot be read"
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	}
	return nil
}

// cutOf returns the number of the first pass that is kept.
func cutOf(items []Retained, keep, last int) (cut int) {
	for _, item := range slices.Backward(items) {
		if item.Kind != KindPass || item.Status != Finished || item.Pruned != nil ||
			item.Number > last || keep == 0 {
			continue
		}
		if keep--; keep == 0 {
			cut = item.Number
		}
	}
	return min(cut, last-1) // runs compare their figures with the pass before the last one
}

func decidePasses(items []Retained, cut, last int) {
	for i := range items {
		item := &items[i]
		switch {
		case item.Kind != KindPass || item.Kept != "":
		case item.Number > last:
			item.Kept = "it has not begun"
		case item.missing:
			item.Kept = "its record is missing"
		case item.Number >= cut:
			item.Kept = "one of the last passes"
		case item.Pruned != nil && len(item.rest) == 0:
			item.Kept = "its records were deleted"
		}
	}
}

// decideReads decides about the read-only passes. One whose last pass is unknown is as old as
// those with higher numbers.
func decideReads(items []Retained, cut int) {
	old := 0 // the last read-only pass before cut
	for _, item := range items {
		if item.Kind != KindReadPass || item.Pruned != nil || item.missing {
			continue
		}
		if item.before != nil && item.before.Number < cut {
			old = max(old, item.Number)
		}
	}
	before := 0 // the last complete one before cut, which may be the last complete one at all
	for _, item := range items {
		if item.Kind == KindReadPass && item.Status == Finished && item.Number <= old &&
			item.Pruned == nil {
			before = max(before, item.Number)
		}
	}
	for i := range items {
		item := &items[i]
		switch {
		case item.Kind != KindReadPass || item.Kept != "":
		case item.Number > old || item.before != nil && item.before.Number >= cut:
			item.Kept = "it belongs to one of the last passes"
		case item.Number == before:
			item.Kept = "the last complete one before the passes that are kept"
		case item.Pruned != nil && len(item.rest) == 0:
			item.Kept = "its records were deleted"
		}
	}
}

// decideTargets keeps the passes that read a target which no later complete pass has read.
func decideTargets(items []Retained) {
	var order []*Retained
	for i := range items {
		if item := &items[i]; !item.missing && item.Pruned == nil {
			order = append(order, item)
		}
	}
	slices.SortFunc(order, func(a, b *Retained) int {
		return cmp.Or(b.Began.Compare(a.Began), cmp.Compare(b.Kind, a.Kind),
			cmp.Compare(b.Number, a.Number))
	})
	var read Readings
	for _, item := range order {
		for _, one := range item.readings {
			if item.Kept == "" && !read.Has(one) {
				item.Kept = "no later pass read this data of target " + one.Target
			}
		}
		for _, one := range item.readings {
			if item.Status == Finished {
				read.Add(one)
			}
		}
	}
}

// Deleted counts what Prune deleted.
type Deleted struct {
	Passes    int   `json:"passes"`
	ReadOnly  int   `json:"read_only_passes"`
	Records   int   `json:"records"`
	Bytes     int64 `json:"bytes"` // of the records before
	Conflicts int   `json:"conflicts"`
}

// Prune deletes the records of all items of a Retention that are not kept. It first replaces the
// record of the pass with a Pruned, by compare-and-swap, so that no reader takes the rest for a
// pass, and then deletes the other records, each only if it is unchanged. After a crash, the next
// Prune deletes what is left. Runs of passes that are kept are not affected. A run that still
// works on a deleted pass was fenced off before, because the job is at a later pass. If another
// process changes a record at the same time, Prune counts a conflict and leaves the item.
func (p *Passes) Prune(ctx context.Context, r Retention, by string) (d Deleted, err error) {
	store, ok := p.store.(Prunable)
	if !ok {
		return d, fmt.Errorf("the store %T cannot delete records", p.store)
	}
	for _, item := range r.Items {
		if item.Kept != "" {
			continue
		}
		err := p.pruneItem(ctx, store, item, by, &d)
		if errors.Is(err, ErrConflict) {
			d.Conflicts++
			continue
		}
		if err != nil {
			return d, err
		}
	}
	return d, nil
}

func (p *Passes) pruneItem(
	ctx context.Context, store Prunable, item Retained, by string, d *Deleted,
) error {
	if item.Pruned == nil && !item.missing {
		pruned := Pruned{
			Kind:   item.Kind,
			Number: item.Number,
			ID:     item.id,
			Status: item.Status,
			Began:  item.Began,
			Ended:  item.Ended,
			At:     time.Now().UTC(),
			By:     by,
		}
		_, err := p.swap(ctx, item.entry, item.entry.ID, prunedKind, pruned)
		if err != nil {
			return err
		}
	}
	for _, id := range item.rest {
		e, err := store.Fetch(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil && !e.Exists() {
			return err
		}
		if err := store.Delete(ctx, e); err != nil {
			return err
		}
		d.Records++
	}
	d.Bytes += item.Bytes
	if item.Kind == KindPass {
		d.Passes++
	} else {
		d.ReadOnly++
	}
	return nil
}
