// Package report turns what a pass counted into what people and programs read:
// one Summary, rendered as text or JSON, and the progress of a run. The audit
// log that the evidence rests on is the sub-package auditlog.
package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rotator/internal/checkpoint"
)

// Summary is the result of audit, run, verify, retry and report. Its JSON field
// names are a contract (docs/json.md).
type Summary struct {
	Job       string   `json:"job"`
	Command   string   `json:"command"`
	Mode      Mode     `json:"mode"`
	Pass      int      `json:"pass"` // 0: an audit or verify, which belongs to no pass
	Status    string   `json:"status"`
	Converged bool     `json:"converged"`
	Slots     Slots    `json:"slots"`
	Items     Items    `json:"items"`
	KMS       KMS      `json:"kms"`
	Keys      []Key    `json:"keys"`
	Reasons   []Reason `json:"reasons"`
	Targets   []Target `json:"targets"`
	Search    Search   `json:"search"`
	// Accepted has one entry for each accept rule of the job file.
	Accepted []Accepted `json:"accepted,omitempty"`
	// SourceKeys report for each source key whether it can be disabled.
	SourceKeys []SourceKey `json:"source_keys"`
	// NotProven are the targets and rules in which no ciphertext was found.
	NotProven []Unproven `json:"not_proven"`
	Account   string     `json:"account,omitempty"` // of the caller
	// AsOf is the time at which the pass began to read. Values stored later are
	// not covered.
	AsOf           time.Time `json:"as_of"`
	Started        time.Time `json:"started"`
	Ended          time.Time `json:"ended"`
	DestinationKey string    `json:"destination_key"`
	// DestinationMaterial is the id of the key material to which a refresh moves.
	DestinationMaterial string `json:"destination_material,omitempty"`
	Version             string `json:"version"`
	// Notes are facts that qualify the figures: what could not be checked, who
	// still writes under a source key.
	Notes []string `json:"notes,omitempty"`

	doubts   []string
	doubtful bool // some figures rest on headers that are not to be relied on
	sources  []checkpoint.Key
	any      bool // every key but the destination is a source key
	total    checkpoint.Counts
	filtered int64 // items that were left out without complete
}

// The values of Summary.Status.
const (
	Complete = "complete"
	Stopped  = "stopped"
)

// ByHeader is the value of Key.How for what KMS was not asked about in full.
const ByHeader = "header"

// Slots counts slots by outcome; Seen is the sum of all others.
type Slots struct {
	Seen      int64 `json:"seen"`
	Rotated   int64 `json:"rotated"`
	Current   int64 `json:"current"`
	Remaining int64 `json:"remaining"`
	Foreign   int64 `json:"foreign"`
	Failed    int64 `json:"failed"`
	Conflict  int64 `json:"conflict"`
	Gone      int64 `json:"gone"`
}

// Items counts items.
type Items struct {
	Seen        int64 `json:"seen"`
	Written     int64 `json:"written"`
	WithoutSlot int64 `json:"without_slot"`
	// Excluded counts listed items that include and exclude left out. It is not
	// part of Seen.
	Excluded int64 `json:"excluded"`
	// Own counts recognised files of rotator itself, which were left out. It is
	// not part of Seen.
	Own int64 `json:"own"`
}

// KMS counts the ReEncrypt requests of this process, dry runs included.
type KMS struct {
	Requests  int64 `json:"requests"`
	Throttled int64 `json:"throttled"`
	// Header counts the slots that the header of their blob decided, without a
	// request; Checked the requests whose answers were compared with a header; and
	// Shared the slots that the request for another slot with the same blob and
	// contexts answered.
	Header  int64 `json:"header"`
	Checked int64 `json:"checked"`
	Shared  int64 `json:"shared"`
}

// Key counts the slots that were found under one key. How says who told: "kms", or
// "header" when the headers of blobs alone have told it of some of them.
type Key struct {
	Key   string `json:"key"`
	Slots int64  `json:"slots"`
	How   string `json:"how"`
}

// Reason counts the slots that are failed, foreign or in conflict for one reason.
type Reason struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
	Slots   int64  `json:"slots"`
	// Examples are a few of these slots.
	Examples []Example `json:"examples,omitempty"`
}

// Target is the share of one target in a Summary.
type Target struct {
	counts checkpoint.Counts
	Name   string `json:"name"`
	// Place is the place of the target; nil for a pass of an earlier version.
	Place   *checkpoint.Place `json:"place,omitempty"`
	Rules   []Rule            `json:"rules"`
	Slots   Slots             `json:"slots"`
	Items   Items             `json:"items"`
	Keys    []Key             `json:"keys"`
	Reasons []Reason          `json:"reasons"`
	Search  Search            `json:"search"`
}

// Accepted is the result of one accept rule of the job file. Its slots are also
// counted in Slots.Failed or Slots.Foreign.
type Accepted struct {
	Rule    int    `json:"rule"` // from 1, in the order of the job file
	Target  string `json:"target"`
	Slots   int64  `json:"slots"`
	Because string `json:"because"`
	// Misfits counts those of Slots that Summary.Misfits counts.
	Misfits int64 `json:"-"`
	// Barred counts slots that match the rule and that no rule accepts, because they
	// are, or may be, under a source key.
	Barred int64 `json:"-"`
	// Void is the reason why the rule accepts none of its slots.
	Void string `json:"void,omitempty"`
}

// SetAccepted sets the results of the accept rules. It must be called before
// Conclude.
func (s *Summary) SetAccepted(rules []Accepted) { s.Accepted = rules }

// Unaccepted counts the slots in the ledger that no accept rule covers.
func (s *Summary) Unaccepted() int64 {
	n := s.Slots.Exceptions()
	for _, a := range s.Accepted {
		if a.Void == "" {
			n -= a.Slots
		}
	}
	return n
}

// noteAccepted notes the rules that had no effect in a complete pass.
func (s *Summary) noteAccepted() {
	for _, a := range s.Accepted {
		switch {
		case a.Void != "":
			s.Notes = append(s.Notes, fmt.Sprintf(
				"accept[%d] accepts nothing: %s", a.Rule-1, a.Void))
		case a.Barred > 0:
			s.Notes = append(s.Notes, fmt.Sprintf(
				"accept[%d] matches %s in target %s under a source key, or under an unknown key "+
					"that may be one; no rule accepts them", a.Rule-1, slots(a.Barred), a.Target))
		case a.Slots == 0 && s.Status == Complete:
			s.Notes = append(s.Notes, fmt.Sprintf(
				"accept[%d] matched no slot in target %s; remove it if it is no longer needed",
				a.Rule-1, a.Target))
		}
	}
}

// Exceptions counts the slots that the ledger holds.
func (s Slots) Exceptions() int64 { return s.Foreign + s.Failed + s.Conflict }

// slots returns a count of slots with the noun.
func slots(n int64) string { return count(int(n), "slot") }

// UnacceptedMisfits counts the misfits that no accept rule covers.
func (s *Summary) UnacceptedMisfits() int64 {
	n := s.Misfits()
	for _, a := range s.Accepted {
		if a.Void == "" {
			n -= a.Misfits
		}
	}
	return n
}

// Misfits counts the slots that failed, and the foreign slots other than those
// under another key.
func (s *Summary) Misfits() int64 {
	n := s.Slots.Failed + s.Slots.Conflict
	for _, r := range s.Reasons {
		if r.Outcome == "foreign" && r.Reason != "foreign-key" {
			n += r.Slots
		}
	}
	return n
}

// SetTargets fills in the figures per target and their sum, from what was
// counted for each target, in the order of the infos.
func (s *Summary) SetTargets(infos []TargetInfo, counts map[string]checkpoint.Counts) {
	s.total, s.filtered = checkpoint.Counts{}, 0
	s.Targets, s.NotProven = []Target{}, []Unproven{}
	for _, info := range infos {
		c := counts[info.Name]
		s.total.Add(c)
		if n := c.Items.Excluded; info.Complete == "" {
			s.filtered += n
		} else if n > 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("target %s: include and exclude left out %s; "+
				"the job file states why that is complete: %s",
				info.Name, count(int(n), "item"), info.Complete))
		}
		s.NotProven = append(s.NotProven, unproven(c, info)...)
		s.Targets = append(s.Targets, Target{
			Name:    info.Name,
			Place:   info.Place,
			Rules:   rulesOf(c, info),
			Slots:   slotsOf(c),
			Items:   itemsOf(c),
			Keys:    keysOf(c),
			Reasons: reasonsOf(c),
			Search:  searchOf(c),
			counts:  c,
		})
	}
	s.Slots, s.Items = slotsOf(s.total), itemsOf(s.total)
	s.Keys, s.Reasons = keysOf(s.total), reasonsOf(s.total)
	s.Search = searchOf(s.total)
	if stale := s.total.StaleKeys; stale.Slots > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("%d ciphertexts have the id of a source key next "+
			"to them, which rotator does not change (the first: %s): a reader that decrypts with "+
			"this id fails with IncorrectKeyException after the move; change these ids too, or "+
			"have the reader send no key id",
			stale.Slots, stale.First))
	}
}

// SetSources sets the source keys of the job. With any, every key except the
// destination is one.
func (s *Summary) SetSources(keys []checkpoint.Key, any bool) { s.sources, s.any = keys, any }

// ResolveTokens replaces header tokens by the ARNs that keyOf returns. It keeps
// a token for which keyOf returns "". It must be called after SetTargets.
func (s *Summary) ResolveTokens(keyOf func(token string) string) {
	for origin, n := range maps.Clone(s.total.Origins) {
		token, ok := origin.Token()
		if !ok {
			continue
		}
		if key := keyOf(token); key != "" {
			s.total.AddOrigin(origin, -n)
			s.total.AddOrigin(checkpoint.Origin(key), n)
		}
	}
}

// SetHeaders says which runs counted slots by headers without a checked sample that
// agreed, after SetTargets. Figures that do not rest on headers are not in doubt.
func (s *Summary) SetHeaders(runs []checkpoint.HeaderRun) {
	if !slices.ContainsFunc(s.Keys, func(k Key) bool { return k.How == ByHeader }) {
		return
	}
	unchecked := 0
	for _, run := range runs {
		s.doubtful = true
		if run.Wrong == "" {
			unchecked++
			continue
		}
		s.Notes = append(s.Notes, fmt.Sprintf("headers of ciphertexts do not tell what they should (%s): what this pass counted by them is no evidence, and may not have been moved; run again with --exact", run.Wrong))
	}
	if unchecked > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("%s counted slots by headers of ciphertexts and "+
			"ended before a sample of them was checked, so these figures are "+
			"not evidence; run verify",
			count(unchecked, "run")))
	}
}

// Conclude sets Converged: a complete pass in which every rule found something, nothing
// was to be moved, and nothing is an exception. A pass that moved anything is never itself
// the proof, since items can have been added behind its cursor. It also answers for each
// source key.
func (s *Summary) Conclude() {
	s.noteAccepted()
	if s.Status != Complete { // the rest may hold what was not found so far
		s.NotProven = slices.DeleteFunc(s.NotProven, func(u Unproven) bool {
			return u.Reason != NotCounted
		})
	}
	for i := range s.NotProven {
		s.NotProven[i].finish()
	}
	s.Converged = s.Status == Complete && s.Slots.Rotated == 0 && s.Slots.Remaining == 0 &&
		s.Unaccepted() == 0 && len(s.NotProven) == 0 && !s.doubtful
	s.SourceKeys = []SourceKey{}
	for _, key := range s.sourceKeys() {
		s.SourceKeys = append(s.SourceKeys, decideKey(s.factsOf(key)))
	}
}

// sourceKeys returns the source keys that the job names, or with any those that
// were found.
func (s *Summary) sourceKeys() []checkpoint.Key {
	if !s.any {
		return s.sources
	}
	var keys []checkpoint.Key
	for _, k := range s.Keys {
		if k.Key != s.DestinationKey {
			keys = append(keys, checkpoint.Key{ARN: k.Key, Algorithm: symmetricAlgorithm})
		}
	}
	return keys
}

func (s *Summary) factsOf(key checkpoint.Key) keyFacts {
	f := keyFacts{
		key:         key,
		destination: s.DestinationKey,
		mode:        s.Mode,
		counts:      s.total,
		complete:    s.Status == Complete,
		pass:        s.Pass,
		asOf:        s.AsOf,
		unproven:    len(s.NotProven),
		filtered:    s.filtered,
		doubtful:    s.doubtful,
	}
	for _, t := range s.Targets {
		f.byTarget = append(f.byTarget, targetSlots{t.Name, left(t.counts, key.ARN)})
	}
	return f
}

func slotsOf(c checkpoint.Counts) Slots {
	n := c.Slots
	return Slots{Seen: n.Seen, Rotated: n.Rotated, Current: n.Current, Remaining: n.Remaining,
		Foreign: n.Foreign, Failed: n.Failed, Conflict: n.Conflict, Gone: n.Gone}
}

func itemsOf(c checkpoint.Counts) Items {
	return Items{
		Seen:        c.Items.Seen,
		Written:     c.Items.Written,
		WithoutSlot: c.Items.WithoutSlot,
		Excluded:    c.Items.Excluded,
		Own:         c.Items.Own,
	}
}

// keysOf lists the keys, the one with most slots first.
func keysOf(c checkpoint.Counts) []Key {
	keys := []Key{}
	for arn, n := range c.Keys {
		keys = append(keys, Key{Key: arn, Slots: n.Slots, How: n.How()})
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(b.Slots, a.Slots), cmp.Compare(a.Key, b.Key))
	})
	return keys
}

// reasonsOf lists the reasons, the commonest first.
func reasonsOf(c checkpoint.Counts) []Reason {
	reasons := []Reason{}
	for name, n := range c.Reasons {
		outcome, reason, _ := strings.Cut(name, "/")
		reasons = append(reasons, Reason{Outcome: outcome, Reason: reason, Slots: n})
	}
	slices.SortFunc(reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Slots, a.Slots), cmp.Compare(a.Outcome+a.Reason, b.Outcome+b.Reason))
	})
	return reasons
}
