package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/scan"
)

// Early holds the conditions under which a run stops early because of the outcomes of slots.
type Early struct {
	// Proven reports whether a rule of a target had a success in the last complete pass with
	// the same fingerprint. Such a rule never stops a run. Proven is called only when a rule
	// would stop the run. Nil means that no rule had a success.
	Proven func(target, rule string) bool
	// Warn is called once for each rule whose first slots are all alike, and the pass
	// continues. If it is nil, the run stops.
	Warn func(*AlikeError)
	// Accepted reports whether an accept rule covers an exception. Such exceptions are not
	// counted. Nil means that there are no accept rules.
	Accepted func(checkpoint.LedgerEntry) bool
	// Most is the maximum number of slots that may fail; nil means no limit.
	Most *Failures
}

// Failures is a maximum number or percentage of slots that fail.
type Failures struct {
	Slots int64
	Share float64 // of 1; used instead of Slots if Percent is set
	// Percent selects Share. The share is checked from percentFrom slots on.
	Percent bool
}

// percentFrom is the number of slots from which a share of failures is checked.
const percentFrom = 1000

func (f Failures) String() string {
	if f.Percent {
		return fmt.Sprintf("%g%%", f.Share*100)
	}
	return fmt.Sprint(f.Slots)
}

// exceededBy reports whether there are more failures than allowed.
func (f Failures) exceededBy(failed, seen int64) bool {
	if f.Percent {
		return seen >= percentFrom && float64(failed) > f.Share*float64(seen)
	}
	return failed > f.Slots
}

// AlikeError is the error that the first slots of a rule all have the same outcome and reason,
// which an error in the job file can cause.
type AlikeError struct {
	Target  string
	Entry   int // of Target.StopAfter
	Slots   int64
	Outcome reencrypt.Outcome
	Reason  string
	Key     string // of the first slot, if known
	Ref     scan.Ref
	Path    string // in the item
	Detail  string // of the first slot of this run
}

func (e *AlikeError) Error() string {
	return fmt.Sprintf("target %s: the first %d slots are all %s/%s (the first: %s)",
		e.Target, e.Slots, e.Outcome, e.Reason, e.Ref)
}

// FailuresError is the error that more slots failed than allowed.
type FailuresError struct {
	Failed, Seen int64
	Most         Failures
	// Example is one of the slots with its reason; "" if all of them failed in earlier runs.
	Example string
}

func (e *FailuresError) Error() string {
	text := fmt.Sprintf("%d of %d slots failed, which is more than --max-failures %s",
		e.Failed, e.Seen, e.Most)
	if e.Example != "" {
		text += fmt.Sprintf(" (for example %s)", e.Example)
	}
	return text
}

// early decides whether a run stops early. It is safe for concurrent use.
type early struct {
	config  Early
	proofs  map[string]*proof
	targets map[string][]*firstSlots // by target, as Target.StopAfter

	seen, failed atomic.Int64           // slots of the pass
	example      atomic.Pointer[string] // FailuresError.Example
}

// firstSlots counts the first slots of one entry of Target.StopAfter.
type firstSlots struct {
	most     int64
	disabled atomic.Bool // the rule can no longer stop the run
	stop     atomic.Pointer[retry.StopError]

	mu       sync.Mutex
	alike    AlikeError
	deciding int64         // slots between admit and leave
	changed  chan struct{} // closed and replaced by leave
}

func newEarly(c Config, proofs map[string]*proof) *early {
	e := &early{config: c.Early, proofs: proofs, targets: map[string][]*firstSlots{}}
	for _, t := range c.Targets {
		for i, most := range t.StopAfter {
			f := &firstSlots{most: int64(most), changed: make(chan struct{})}
			f.alike.Target, f.alike.Entry = t.Name, i
			f.disabled.Store(most <= 0)
			e.targets[t.Name] = append(e.targets[t.Name], f)
		}
	}
	return e
}

// firstSlotsOf returns the counts for a rule of a target, or nil if there are none.
func (e *early) firstSlotsOf(target string, rule int) *firstSlots {
	entries := e.targets[target]
	if len(entries) == 0 || rule < 0 {
		return nil
	}
	return entries[min(rule, len(entries)-1)]
}

// turnOff prevents all rules from stopping the run.
func (e *early) turnOff() {
	for _, entries := range e.targets {
		for _, f := range entries {
			f.disabled.Store(true)
		}
	}
}

// resume adds the counts that the pass has saved so far.
func (e *early) resume(states []checkpoint.State) {
	totals := map[string]*checkpoint.Counts{}
	for _, state := range states {
		if totals[state.Target] == nil {
			totals[state.Target] = &checkpoint.Counts{}
		}
		totals[state.Target].Add(state.Counts)
		e.seen.Add(state.Counts.Slots.Seen)
		e.failed.Add(state.Counts.Slots.Failed + state.Counts.Slots.Conflict)
	}
	for target, entries := range e.targets {
		if counts := totals[target]; counts != nil {
			e.resumeTarget(target, entries, counts)
		}
	}
}

// proven reports whether a rule of an entry had a success in the last complete pass.
func (e *early) proven(target string, f *firstSlots) bool {
	for rule, r := range e.rulesOf(target) {
		if e.config.Proven != nil && e.firstSlotsOf(target, rule) == f &&
			e.config.Proven(target, r.Name) {
			return true
		}
	}
	return false
}

func (e *early) rulesOf(target string) []ciphertext.Rule {
	if p := e.proofs[target]; p != nil && len(e.targets[target]) > 0 {
		return p.rules
	}
	return nil
}

func (e *early) resumeTarget(target string, entries []*firstSlots, counts *checkpoint.Counts) {
	if !Accounted(*counts) {
		for _, f := range entries {
			f.disabled.Store(true)
		}
	}
	for rule, r := range e.rulesOf(target) {
		f, n := e.firstSlotsOf(target, rule), counts.Rules[r.Name]
		if n.Good > 0 {
			f.disabled.Store(true)
		}
		for what, slots := range n.Alike {
			f.add(what, slots)
		}
	}
}

// Accounted reports whether the successes of a target are counted by rule. An earlier
// version did not count them.
func Accounted(counts checkpoint.Counts) bool {
	s := counts.Slots
	good := s.Rotated + s.Current + s.Remaining
	for _, n := range counts.Rules {
		good -= n.Good
	}
	return good <= 0
}

// add adds slots with the same outcome and reason. It reports whether there are enough to stop
// the run.
func (f *firstSlots) add(what string, slots int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	outcome, reason, _ := strings.Cut(what, "/")
	if f.alike.Slots > 0 && (string(f.alike.Outcome) != outcome || f.alike.Reason != reason) {
		f.disabled.Store(true) // the first slots differ
		return false
	}
	f.alike.Outcome, f.alike.Reason = reencrypt.Outcome(outcome), reason
	f.alike.Slots += slots
	return f.alike.Slots >= f.most
}

// admit waits until a slot may be decided. Before the first success, at most f.most slots are
// decided or being decided. A run that stops has therefore decided no other slots, for any
// number of workers. After admit has returned nil, leave must be called.
func (f *firstSlots) admit(ctx context.Context) error {
	for {
		f.mu.Lock()
		stop, changed := f.stop.Load(), f.changed
		if stop == nil &&
			(f.disabled.Load() || f.deciding == 0 || f.alike.Slots+f.deciding < f.most) {
			f.deciding++
			f.mu.Unlock()
			return nil
		}
		f.mu.Unlock()
		if stop != nil {
			return stop
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// leave ends what admit began.
func (f *firstSlots) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deciding--
	close(f.changed)
	f.changed = make(chan struct{})
}

// decideFirst is like decideOnce, for a slot that may be one of the first of its rule.
func (w *worker) decideFirst(
	ctx context.Context, target *Target, t *task, i int,
) (reencrypt.Verdict, error) {
	slot := t.slots[i]
	f := w.early.firstSlotsOf(target.Name, slot.Rule)
	if t.noted || f == nil || f.disabled.Load() {
		return w.decideOnce(ctx, target, t, i)
	}
	if err := w.permit.ReleaseWhile(func() error { return f.admit(ctx) }); err != nil {
		return reencrypt.Verdict{}, err
	}
	defer f.leave()
	v, err := w.decideOnce(ctx, target, t, i)
	if err == nil {
		err = w.early.countVerdict(target.Name, t.item.Ref, slot, v)
	}
	return v, err
}

// countVerdict counts the verdict on a slot. An error ends the run.
func (e *early) countVerdict(
	target string, ref scan.Ref, slot ciphertext.Slot, v reencrypt.Verdict,
) error {
	f := e.firstSlotsOf(target, slot.Rule)
	what := e.suspectOutcome(target, ref, slot, v)
	switch {
	case what == "" && v.Fits():
		f.disabled.Store(true)
		return nil
	case what == "" || f.disabled.Load():
		return nil
	}
	f.mu.Lock()
	if f.alike.Ref == "" {
		f.alike.Ref, f.alike.Path, f.alike.Key = ref, reencrypt.Clip(slot.Path), v.Key
		f.alike.Detail = reencrypt.Clip(v.Detail)
	}
	f.mu.Unlock()
	if !f.add(what, 1) || f.disabled.Load() {
		return nil
	}
	if e.proven(target, f) {
		f.disabled.Store(true)
		return nil
	}
	f.mu.Lock()
	alike := f.alike
	f.mu.Unlock()
	if e.config.Warn != nil {
		if f.disabled.CompareAndSwap(false, true) {
			e.config.Warn(&alike)
		}
		return nil
	}
	f.stop.CompareAndSwap(nil, &retry.StopError{
		Kind: retry.StopEarly,
		What: "stopped early",
		Err:  &alike,
	})
	return f.stop.Load()
}

// suspectOutcome returns the outcome and reason of a slot if an error in the job file can cause
// them, or "".
func (e *early) suspectOutcome(
	target string, ref scan.Ref, slot ciphertext.Slot, v reencrypt.Verdict,
) string {
	if v.Outcome != reencrypt.Failed && v.Outcome != reencrypt.Foreign || !ofJobFile(v.Reason) {
		return ""
	}
	if e.config.Accepted != nil && e.config.Accepted(entry(target, ref, slot, v)) {
		return ""
	}
	return string(v.Outcome) + "/" + v.Reason
}

// ofJobFile reports whether a wrong context, format or key in the job file can cause a reason
// for every slot of a rule. Reasons that are properties of single items do not count.
func ofJobFile(reason string) bool {
	return strings.HasPrefix(reason, "not-") || slices.Contains([]string{
		reencrypt.ReasonInvalidCiphertext, reencrypt.ReasonSourceContext,
		reencrypt.ReasonDestinationContext,
		reencrypt.ReasonOtherContext, reencrypt.ReasonForeignKey, reencrypt.ReasonPlaintextTooLong,
		"missing-context",
		"wrong-type", "key-pattern", "encoded-twice", "indented-base64", "part-of-text",
		"text-around",
	}, reason)
}

// count adds the slots of an item to the counts of their rules.
func (e *early) count(rules *ruleCounts, target string, t *task) {
	if rules == nil || t.unread {
		return
	}
	for i, v := range t.verdicts {
		rule := t.slots[i].Rule
		if i >= t.named || rule < 0 || rule >= len(rules.rules) {
			continue
		}
		n := &rules.rules[rule]
		if v.Fits() {
			n.Good++
		} else if f := e.firstSlotsOf(target, rule); f != nil && !f.disabled.Load() {
			if what := e.suspectOutcome(target, t.item.Ref, t.slots[i], v); what != "" {
				n.AddAlike(what, 1)
			}
		}
	}
}

// countTried counts the slots of an item that were decided, for Early.Most. An error ends the run.
func (e *early) countTried(target string, t *task) error {
	if e.config.Most == nil {
		return nil
	}
	e.seen.Add(int64(len(t.slots)))
	return e.countWritten(target, t)
}

// countWritten is like tried, for an item that was counted before it was written.
func (e *early) countWritten(target string, t *task) error {
	if e.config.Most == nil {
		return nil
	}
	now := e.failures(target, t)
	failed, seen := e.failed.Add(now-t.failed), e.seen.Load()
	t.failed = now
	if !e.config.Most.exceededBy(failed, seen) {
		return nil
	}
	err := &FailuresError{Failed: failed, Seen: seen, Most: *e.config.Most}
	if example := e.example.Load(); example != nil {
		err.Example = *example
	}
	return &retry.StopError{Kind: retry.StopEarly, What: "stopped early", Err: err}
}

// failures counts the slots of an item that failed and are not accepted.
func (e *early) failures(target string, t *task) (n int64) {
	for i, v := range t.verdicts {
		if (v.Outcome == reencrypt.Failed || v.Outcome == reencrypt.Conflict) &&
			(e.config.Accepted == nil ||
				!e.config.Accepted(entry(target, t.item.Ref, t.slots[i], v))) {
			n++
			if e.example.Load() == nil {
				text := fmt.Sprintf("target %s, %s, %s: %s/%s", target, t.item.Ref,
					reencrypt.Clip(t.slots[i].Path), v.Outcome, v.Reason)
				e.example.CompareAndSwap(nil, &text)
			}
		}
	}
	return n
}

// stopsEarly reports whether err means that the run stops early. Slots that were decided are
// still written.
func stopsEarly(err error) bool {
	stop := (*retry.StopError)(nil)
	return errors.As(err, &stop) && stop.Kind == retry.StopEarly
}
