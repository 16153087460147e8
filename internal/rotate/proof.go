package rotate

import (
	"cmp"
	"sync/atomic"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/kmsblob"
	"rotator/internal/reencrypt"
	"rotator/internal/scan"
)

// prover is a Format with rules, each of which must find a ciphertext.
type prover interface {
	Rules() []ciphertext.Rule
	Explain(item scan.Item, rule int, near bool) ciphertext.Miss
}

// nearItems is the maximum number of items in which similar names are searched
// for a rule that has found nothing.
const nearItems = 64

// proof tracks the rules of one target that have found a ciphertext in this
// run. It is safe for concurrent use.
type proof struct {
	format prover
	rules  []ciphertext.Rule
	states []ruleState
}

type ruleState struct {
	found    atomic.Bool
	searched atomic.Int32 // number of items in which similar names were searched
}

// newProof returns nil for a format that is not a prover.
func newProof(format ciphertext.Format) *proof {
	f, ok := format.(prover)
	if !ok {
		return nil
	}
	rules := f.Rules()
	return &proof{format: f, rules: rules, states: make([]ruleState, len(rules))}
}

// miss is the reason why one rule found no slot in an item.
type miss struct {
	rule int
	ciphertext.Miss
}

// misses returns the reasons why rules found no slot in an item, except if the
// item only lacks the first name of the path.
func (p *proof) misses(item scan.Item, slots []ciphertext.Slot) (list []miss) {
	if p == nil || len(p.rules) == 1 && len(slots) > 0 {
		return nil
	}
	for rule := range p.rules {
		if p.rules[rule].Optional || hasRule(slots, rule) {
			continue
		}
		state := &p.states[rule]
		near := !state.found.Load() && state.searched.Load() < nearItems
		m := p.format.Explain(item, rule, near)
		if near && m.Missing != "" {
			state.searched.Add(1)
		}
		if m.Kind != "" || m.Missing != "" {
			list = append(list, miss{rule, m})
		}
	}
	return list
}

func hasRule(slots []ciphertext.Slot, rule int) bool {
	for i := range slots {
		if slots[i].Rule == rule {
			return true
		}
	}
	return false
}

// ruleCounts counts the rules of one target, by the index of the rule.
type ruleCounts struct {
	proof *proof
	rules []checkpoint.RuleCounts
	seen  []found // of the item that is being counted
}

// found is the result of a rule in one item; the largest value is counted.
type found int8

const (
	nothing found = iota
	refused
	ciphertextFound
)

func newRuleCounts(p *proof) *ruleCounts {
	if p == nil {
		return nil
	}
	n := len(p.rules)
	return &ruleCounts{
		proof: p,
		rules: make([]checkpoint.RuleCounts, n),
		seen:  make([]found, n),
	}
}

// add counts the slots of one item and the reasons of missing ones.
func (c *ruleCounts) add(t *task) {
	if c == nil {
		return
	}
	clear(c.seen)
	for i := range t.slots {
		rule := t.slots[i].Rule
		if rule < 0 || rule >= len(c.seen) {
			continue // the slot belongs to no rule
		}
		what := ciphertextFound
		if t.slots[i].Refused != nil || isNone(t.slots[i], t.verdicts[i]) {
			what = refused
		}
		c.seen[rule] = max(c.seen[rule], what)
		switch t.slots[i].Padding {
		case ciphertext.PaddingAlways:
			c.rules[rule].Padded++
		case ciphertext.PaddingNever:
			c.rules[rule].Unpadded++
		}
	}
	for rule, what := range c.seen {
		switch what {
		case refused:
			c.rules[rule].Refused++
		case ciphertextFound:
			c.rules[rule].Found++
			if state := &c.proof.states[rule]; !state.found.Load() {
				state.found.Store(true)
			}
		}
	}
	for _, m := range t.misses {
		near := map[string]int{}
		for _, n := range m.Near {
			near[n.Text] = n.Distance
		}
		c.rules[m.rule].Saw(m.Kind, m.At, m.Missing, near)
	}
}

// isNone reports whether KMS rejected a value that does not look like a ciphertext at all.
// The path of the rule may be the path of another value, which proves nothing.
func isNone(slot ciphertext.Slot, v reencrypt.Verdict) bool {
	if v.Outcome != reencrypt.Failed || v.Key != "" || len(slot.Blob) == 0 {
		return false
	}
	_, ok := kmsblob.ReadToken(slot.Blob)
	return !ok && !kmsblob.MayHold(slot.Blob)
}

// into adds the counts to counts by the names of the rules. It includes rules
// without any count, so that the record of a pass lists them.
func (c *ruleCounts) into(counts *checkpoint.Counts) {
	if c == nil {
		return
	}
	for i, rule := range c.proof.rules {
		n := c.rules[i]
		if rule.Optional && n.Found == 0 {
			continue
		}
		n.Place = checkpoint.ClipPlace(rule.Place)
		counts.AddRule(rule.Name, n)
	}
}

// countIncluded counts the patterns that chose items as rules of the target, because
// a pattern that matches nothing proves nothing.
func countIncluded(counts *checkpoint.Counts, included []scan.Matches) {
	for i, m := range included {
		counts.AddRule(checkpoint.IncludeRule(i), checkpoint.RuleCounts{
			Place: checkpoint.ClipPlace(m.Pattern),
			Found: m.Items,
		})
	}
}

// originOf returns what is known about the key of a slot that failed or is in
// conflict.
func (r *Rotator) originOf(slot ciphertext.Slot, v reencrypt.Verdict) checkpoint.Origin {
	blob := blobOf(slot)
	switch {
	case v.Key != "":
		return checkpoint.Origin(v.Key)
	case slot.Refused != nil && slot.Refused.Reason == "empty":
		return checkpoint.OriginNone
	case len(blob) == 0:
		return checkpoint.OriginUnread
	}
	token, ok := kmsblob.ReadToken(blob)
	switch {
	case ok:
		if key := r.decisions.KeyOf(blob); key != "" {
			return checkpoint.Origin(key)
		}
		return checkpoint.TokenOrigin(token.String())
	case kmsblob.MayHold(blob):
		return checkpoint.OriginUnknown
	}
	return checkpoint.OriginNone
}

// blobOf returns the ciphertext of a slot, or the part of its value that could be read.
func blobOf(slot ciphertext.Slot) []byte {
	if slot.Refused != nil {
		return slot.Held
	}
	return slot.Blob
}

// headerKeyOf returns checkpoint.LedgerEntry.HeaderKey of a slot. If KMS has named the key of this
// ciphertext, the header names this key.
func (r *Rotator) headerKeyOf(slot ciphertext.Slot, v reencrypt.Verdict) string {
	blob := blobOf(slot)
	if len(blob) == 0 {
		return ""
	}
	if key := r.decisions.KeyOf(blob); key != "" {
		return key
	}
	_, ok := kmsblob.ReadToken(blob)
	switch {
	case ok:
		return cmp.Or(v.Key, checkpoint.HeaderUnknown)
	case kmsblob.MayHold(blob):
		return checkpoint.HeaderUnknown
	}
	return checkpoint.HeaderNone
}

// KeyOfToken returns the ARN of the key that KMS named for a header token in
// this run, or "" if KMS named none.
func (r *Rotator) KeyOfToken(text string) string { return r.decisions.KeyOfToken(text) }

// NamedTokens maps at most n header tokens to the keys that KMS named for them
// in this run. Tokens of source keys are preferred.
func (r *Rotator) NamedTokens(n int) map[string]string { return r.decisions.NamedTokens(n) }

// RecentRequests returns the last requests that used a source key, the oldest first.
func (r *Rotator) RecentRequests() []reencrypt.SentRequest { return r.decisions.RecentRequests() }
