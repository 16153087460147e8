// Package report summarises the counts of a pass as one Summary, in text or JSON. The
// subpackage auditlog writes and verifies the audit log.
package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/plural"
	"rotator/internal/verdict"
)

// Summary is the result of audit, run, verify, retry and report. The names of its JSON fields
// are part of the public interface (docs/json.md).
type Summary struct {
	Job     string `json:"job"`
	Command string `json:"command"`
	Mode    Mode   `json:"mode"`
	Pass    int    `json:"pass"` // 0 for audit and verify, which belong to no pass
	// ReadPass is the number of a stored read-only pass, or 0.
	ReadPass  int    `json:"read_pass,omitempty"`
	Status    string `json:"status"`
	Converged bool   `json:"converged"`
	// Convergence states whether the pass has converged, and why. It is empty before Conclude.
	Convergence string   `json:"convergence,omitempty"`
	Slots       Slots    `json:"slots"`
	Items       Items    `json:"items"`
	KMS         KMS      `json:"kms"`
	Sample      Sample   `json:"sample"`
	Keys        []Key    `json:"keys"`
	Reasons     []Reason `json:"reasons"`
	Targets     []Target `json:"targets"`
	Search      Search   `json:"search"`
	// Accepted has one entry for each accept rule of the job file.
	Accepted []Accepted `json:"accepted,omitempty"`
	// SourceKeys has one entry per source key: whether the key can be disabled.
	SourceKeys []SourceKey `json:"source_keys"`
	// Verdicts has one entry per source key. Unlike SourceKeys it takes other passes, the age of
	// the proof and the state of the key into account.
	Verdicts []verdict.Verdict `json:"verdicts"`
	// NotProven are the targets and rules in which no ciphertext was found.
	NotProven []Unproven `json:"not_proven"`
	Account   string     `json:"account,omitempty"` // of the caller
	// Caller is the ARN of the caller, or of the caller that began the pass.
	Caller string `json:"caller,omitempty"`
	// AsOf is the time at which the pass started to read. Values stored later are not
	// covered.
	AsOf           time.Time `json:"as_of"`
	Started        time.Time `json:"started"`
	Ended          time.Time `json:"ended"`
	DestinationKey string    `json:"destination_key"`
	// DestinationMaterial is the ID of the key material to which mode refresh moves.
	DestinationMaterial string `json:"destination_material,omitempty"`
	Version             string `json:"version"`
	// Newer is a read-only pass that began later than the pass of this result; nil if none is
	// known.
	Newer *Newer `json:"newer,omitempty"`
	// LogCheck is the result of report --check; nil without it.
	LogCheck *LogCheck `json:"log_check,omitempty"`
	// Notes qualify the figures: for example, checks that failed, or a writer that still uses
	// a source key.
	Notes []string `json:"notes,omitempty"`

	doubts   []string
	doubtful bool // some figures are not evidence
	sources  []checkpoint.Key
	any      bool // all keys except the destination are source keys
	total    checkpoint.Counts
	filtered int64 // items that include and exclude skipped, without complete
}

// LogCheck is the result of a check of the audit logs of a pass that found nothing wrong.
type LogCheck struct {
	// Intact is true if each log has an intact chain of hashes and all recorded lines. It is false
	// if there is no log to check.
	Intact bool  `json:"intact"`
	Logs   int   `json:"logs"`
	Lines  int64 `json:"lines"` // that the checkpoint has recorded, in all logs
}

// Newer is a read-only pass, and the command that prints its result.
type Newer struct {
	ReadPass int    `json:"read_pass"`
	Command  string `json:"command"`
}

// The values of Summary.Status.
const (
	Complete = "complete"
	Stopped  = "stopped"
)

// ByHeader is the value of Key.How if ciphertext headers identified the key of some slots.
const ByHeader = "header"

// Slots counts slots by outcome. Seen is the sum of the other counts.
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
	// Excluded counts listed items that include and exclude skipped. They are not counted
	// in Seen.
	Excluded int64 `json:"excluded"`
	// Own counts skipped files of rotator itself, such as its checkpoint. They are not
	// counted in Seen.
	Own int64 `json:"own"`
}

// KMS counts the ReEncrypt requests of this process, including dry runs.
type KMS struct {
	Requests  int64 `json:"requests"`
	Throttled int64 `json:"throttled"`
	// Header counts slots that were decided by ciphertext header, without a request.
	// Checked counts requests whose responses were compared with the header. Shared counts
	// slots that used the response for another slot with the same blob and contexts.
	Header  int64 `json:"header"`
	Checked int64 `json:"checked"`
	Shared  int64 `json:"shared"`
}

// Sample describes the random samples of the slots that headers decided: in a pass, those of all
// runs that ended normally.
type Sample struct {
	checkpoint.Sample
	// Parts are the samples of the runs, if there are several. Each run draws its own sample.
	Parts []checkpoint.Sample `json:"parts,omitempty"`
}

// SetSamples sets the samples of the runs of a pass.
func (s *Summary) SetSamples(samples []checkpoint.Sample) {
	s.Sample = Sample{}
	for _, one := range samples {
		s.Sample.Population += one.Population
		s.Sample.Checked += one.Checked
		s.Sample.Disagreed += one.Disagreed
	}
	if len(samples) > 1 {
		s.Sample.Parts = samples
	}
}

// Key counts the slots under one key. How is "kms" if KMS identified the key of all these
// slots, and "header" if ciphertext headers identified the key of some of them.
type Key struct {
	Key   string `json:"key"`
	Slots int64  `json:"slots"`
	How   string `json:"how"`
}

// Reason counts the failed, foreign or conflicting slots with one reason.
type Reason struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
	Slots   int64  `json:"slots"`
	// Examples are a few of these slots.
	Examples []Example `json:"examples,omitempty"`
}

// Target is the part of a Summary about one target.
type Target struct {
	counts   checkpoint.Counts
	complete string // TargetInfo.Complete
	Name     string `json:"name"`
	// Location is the location of the target. It is nil in passes of earlier versions.
	Location *checkpoint.Location `json:"place,omitempty"`
	Rules    []Rule               `json:"rules"`
	Slots    Slots                `json:"slots"`
	Items    Items                `json:"items"`
	Keys     []Key                `json:"keys"`
	Reasons  []Reason             `json:"reasons"`
	Search   Search               `json:"search"`
	// ContentDigest is nil without --content-digest.
	ContentDigest *checkpoint.ContentDigest `json:"content_digest,omitempty"`
	// Versions are the old versions of objects. It is nil if they were not read.
	Versions *Versions `json:"versions,omitempty"`
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
	// Barred counts slots that match the rule but cannot be accepted, because they are or may
	// be under a source key.
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

// noteAccepted adds notes about accept rules that had no effect or a limited effect.
func (s *Summary) noteAccepted() {
	for _, a := range s.Accepted {
		switch {
		case a.Void != "":
			s.Notes = append(s.Notes, fmt.Sprintf(
				"accept[%d] accepts nothing: %s", a.Rule-1, a.Void))
		case a.Barred > 0:
			s.Notes = append(s.Notes, fmt.Sprintf(
				"accept[%d] matches %s in target %s under a source key, or under an unknown key "+
					"that may be a source key; these cannot be accepted", a.Rule-1,
				slots(a.Barred), a.Target))
		case a.Slots == 0 && s.Status == Complete:
			s.Notes = append(s.Notes, fmt.Sprintf(
				"accept[%d] matched no slot in target %s; remove it if it is no longer needed",
				a.Rule-1, a.Target))
		}
	}
}

// Exceptions counts the slots in the ledger.
func (s Slots) Exceptions() int64 { return s.Foreign + s.Failed + s.Conflict }

// slots returns a count of slots with the noun.
func slots(n int64) string { return plural.Count(n, "slot") }

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

// SetTargets sets the figures of all targets, in the order of infos, and their sum. counts are
// by name of the target.
func (s *Summary) SetTargets(infos []TargetInfo, counts map[string]checkpoint.Counts) {
	s.total, s.filtered = checkpoint.Counts{}, 0
	s.Targets, s.NotProven = []Target{}, []Unproven{}
	for _, info := range infos {
		c := counts[info.Name]
		s.total.Add(c)
		if n := c.Items.Excluded; info.Complete == "" {
			s.filtered += n
		} else if n > 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("target %s: include and exclude skipped %s. The "+
				"job file states why these contain no ciphertext under a source key: %s",
				info.Name, plural.Count(n, "item"), info.Complete))
		}
		s.NotProven = append(s.NotProven, unproven(c, info)...)
		s.Targets = append(s.Targets, Target{
			Name:     info.Name,
			Location: info.Location,
			Rules:    rulesOf(c, info),
			Slots:    slotsOf(c),
			Items:    itemsOf(c),
			Keys:     keysOf(c),
			Reasons:  reasonsOf(c),
			Search:   searchOf(c),
			counts:   c,
			complete: info.Complete,
		})
	}
	s.Slots, s.Items = slotsOf(s.total), itemsOf(s.total)
	s.Keys, s.Reasons = keysOf(s.total), reasonsOf(s.total)
	s.Search = searchOf(s.total)
	if stale := s.total.StaleKeys; stale.Slots > 0 {
		s.Notes = append(s.Notes, staleKeyNote(stale.Slots, stale.First))
	}
}

// staleKeyNote returns the note about n ciphertexts next to the name of a source key.
func staleKeyNote(n int64, first string) string {
	return fmt.Sprintf("The ID of a source key is stored next to %s, and rotator does not "+
		"change it "+
		"(first: %s). A reader that decrypts with this ID fails with IncorrectKeyException "+
		"after the move: update the ID, or have the reader pass no key ID", ciphertexts(n), first)
}

// SetSources sets the source keys of the job. If any is true, all keys except the destination
// are source keys.
func (s *Summary) SetSources(keys []checkpoint.Key, any bool) { s.sources, s.any = keys, any }

// Sources returns the source keys of the job; none with source.any.
func (s *Summary) Sources() []checkpoint.Key { return s.sources }

// ResolveTokens replaces header tokens by the ARNs that keyOf returns. It keeps a token if
// keyOf returns "". It must be called after SetTargets.
func (s *Summary) ResolveTokens(keyOf func(token string) string) {
	resolveTokens(&s.total, keyOf)
	for i := range s.Targets {
		resolveTokens(&s.Targets[i].counts, keyOf)
		if v := s.Targets[i].Versions; v != nil {
			resolveTokens(&v.counts, keyOf)
		}
	}
}

// resolveTokens is ResolveTokens for one Counts. It does not change the map of origins, which
// may be shared.
func resolveTokens(c *checkpoint.Counts, keyOf func(token string) string) {
	before := c.Origins
	c.Origins = maps.Clone(before)
	for origin, n := range before {
		token, ok := origin.Token()
		if !ok {
			continue
		}
		if key := keyOf(token); key != "" {
			c.AddOrigin(origin, -n)
			c.AddOrigin(checkpoint.Origin(key), n)
		}
	}
}

// SetHeaders sets the runs that counted slots by ciphertext header without a sample that
// confirmed the headers. If the figures depend on headers, they are not evidence. It must be
// called after SetTargets.
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
		s.Notes = append(s.Notes, fmt.Sprintf("ciphertext headers disagree with KMS (%s). "+
			"Counts by "+
			"header in this pass are not evidence, and slots may not have been moved; run again "+
			"with --exact", run.Wrong))
	}
	if unchecked > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("%s counted slots by ciphertext header and ended "+
			"before a sample was checked. These counts are not evidence; run rotator verify",
			plural.Count(unchecked, "run")))
	}
}

// Conclude sets Converged and SourceKeys. A pass has converged if it is complete, every rule
// found a ciphertext, no ciphertext had to be moved, and there are no unaccepted exceptions. A
// pass that moved ciphertexts is not a proof, because items may have been added after its
// cursor passed them.
func (s *Summary) Conclude() {
	s.noteAccepted()
	if s.Status != Complete { // the unread rest may contain ciphertexts
		s.NotProven = slices.DeleteFunc(s.NotProven, func(u Unproven) bool {
			return u.Reason != NotCounted
		})
	}
	for i := range s.NotProven {
		s.NotProven[i].finish(s.missingContext(s.NotProven[i]))
	}
	s.Converged = s.Status == Complete && s.Slots.Rotated == 0 && s.Slots.Remaining == 0 &&
		s.Unaccepted() == 0 && len(s.NotProven) == 0 && !s.doubtful && s.OldVersionsLeft() == 0
	s.Convergence = s.convergence()
	s.SourceKeys, s.Verdicts = []SourceKey{}, []verdict.Verdict{}
	for _, key := range s.sourceKeys() {
		s.SourceKeys = append(s.SourceKeys, decideKey(s.factsOf(key)))
	}
}

// sourceKeys returns the source keys of the job, or with source.any the keys that were found.
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
		if t.Versions != nil {
			f.versions = append(f.versions, t.Versions.counts)
		}
		f.byTarget = append(f.byTarget, targetSlots{t.Name, left(t.counts, key.ARN)})
	}
	return f
}

func slotsOf(c checkpoint.Counts) Slots {
	n := c.Slots
	return Slots{
		Seen:      n.Seen,
		Rotated:   n.Rotated,
		Current:   n.Current,
		Remaining: n.Remaining,
		Foreign:   n.Foreign,
		Failed:    n.Failed,
		Conflict:  n.Conflict,
		Gone:      n.Gone,
	}
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

// keysOf lists the keys by number of slots, most first.
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

// reasonsOf lists the reasons by number of slots, most first.
func reasonsOf(c checkpoint.Counts) []Reason {
	reasons := []Reason{}
	for name, n := range c.Reasons {
		outcome, reason, _ := strings.Cut(name, "/")
		reasons = append(reasons, Reason{Outcome: outcome, Reason: reason, Slots: n})
	}
	slices.SortFunc(reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Slots, a.Slots),
			cmp.Compare(a.Outcome+a.Reason, b.Outcome+b.Reason))
	})
	return reasons
}
