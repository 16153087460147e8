package rotate

import (
	"cmp"
	"context"
	"slices"

	"rotator/internal/ciphertext"
	"rotator/internal/kmsblob"
)

// retired reports whether a source key cannot be used. Only read-only passes
// have such keys. KMS cannot decrypt ciphertexts under them.
func (k Keys) retired() bool {
	return slices.ContainsFunc(k.Sources, func(s Key) bool { return s.Unusable.State != "" })
}

// usableSources returns the source keys that KMS can use.
func (k Keys) usableSources() []Key {
	return slices.DeleteFunc(slices.Clone(k.Sources), func(s Key) bool { return s.Unusable.State != "" })
}

// knownKey returns the key that KMS has named for the header token of a blob,
// in this pass or in an earlier pass of the job, or "".
func (d *decider) knownKey(blob []byte) string {
	token, ok := kmsblob.ReadToken(blob)
	if !ok {
		return ""
	}
	return d.keyOfToken(token)
}

func (d *decider) keyOfToken(token kmsblob.Token) string {
	fact, _ := d.headers.factOf(token)
	return cmp.Or(fact.key, d.kept[token.String()])
}

// decideRetired decides a slot of a read-only pass in which some source keys
// cannot be used. A refusal of KMS shows the state of the key of a blob, but
// not the key. A slot therefore counts as under such a key only if KMS has
// named the key for its token before. A slot with an unknown key fails. Only an
// answer of KMS makes a slot current.
func (d *decider) decideRetired(ctx context.Context, slot ciphertext.Slot) (verdict, error) {
	known := d.knownKey(slot.Blob)
	retired := func(s Key) bool { return s.ARN == known && s.Unusable.State != "" }
	if slices.ContainsFunc(d.keys.Sources, retired) {
		return verdict{outcome: Remaining, key: known, header: true}, nil
	}
	to := d.destinationContext(slot)
	answer, err := d.ask(ctx, Question{Blob: slot.Blob, Source: d.keys.Destination,
		Context: to, DestinationContext: to})
	if err == nil && answer.Source == d.keys.Destination.ARN {
		return d.underDestination(ctx, slot, answer)
	}
	if err == nil {
		return d.judge(ctx, slot, answer) // a server that does not enforce the pin
	}
	if fatal(err) {
		return verdict{}, err
	}
	last := refusal{d.keys.Destination, err}
	candidates := []Key{{}}
	if d.keys.SourceAlgorithm != Symmetric {
		candidates = d.keys.usableSources()
	}
	var refusals []refusal
	for _, source := range candidates {
		answer, err := d.ask(ctx, Question{Blob: slot.Blob, Source: source,
			Context: d.sourceContext(slot), DestinationContext: to})
		if err == nil {
			return d.judge(ctx, slot, answer)
		}
		if fatal(err) {
			return verdict{}, err
		}
		refusals = append(refusals, refusal{source, err})
	}
	if v, ok := d.unasked(slot, known, refusals, last); ok {
		return v, nil
	}
	if len(refusals) == 0 {
		refusals = []refusal{last}
	}
	return d.refused(ctx, slot, refusals, last)
}

// unasked returns the verdict on a slot whose key KMS could not check. ok is
// false if KMS gave an answer about the slot.
func (d *decider) unasked(
	slot ciphertext.Slot, known string, refusals []refusal, last refusal,
) (verdict, bool) {
	v := verdict{outcome: Failed, reason: reasonKeyDisabled,
		detail: "the key of this ciphertext is disabled or pending deletion, and so is a source " +
			"key; it is unknown whether they are the same, because KMS has not named the key of " +
			"its header before"}
	switch {
	case slices.ContainsFunc(refusals, func(r refusal) bool {
		return slotKeyOf(r.err) != nil && !slotKeyOf(r.err).unknown
	}):
		if known != "" {
			v.key, v.reason = known, reasonKeyUnusable
			v.detail = "the key of this ciphertext, which the job does not name, is disabled or " +
				"pending deletion"
		}
		return v, true
	case d.keys.SourceAlgorithm != Symmetric && !readable(slot) && !last.incorrectKey():
		v.detail = "a source key is disabled or pending deletion, and it is unknown whether this " +
			"ciphertext is under it: ciphertexts under asymmetric keys have no header"
		return v, true
	}
	return verdict{}, false
}
