package reencrypt

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
	return slices.DeleteFunc(slices.Clone(k.Sources), func(s Key) bool {
		return s.Unusable.State != ""
	})
}

// knownKey returns the key that KMS has named for the header token of a blob,
// in this pass or in an earlier pass of the job, or "".
func (a *asker) knownKey(blob []byte) string {
	token, ok := kmsblob.ReadToken(blob)
	if !ok {
		return ""
	}
	return a.keyOfToken(token)
}

func (a *asker) keyOfToken(token kmsblob.Token) string {
	fact, _ := a.hints.factOf(token)
	return cmp.Or(fact.key, a.knownTokens[token.String()])
}

// decideRetired decides a slot of a read-only pass in which some source keys
// cannot be used. A refusal of KMS shows the state of the key of a blob, but
// not the key. A slot therefore counts as under such a key only if KMS has
// named the key for its token before. A slot with an unknown key fails. Only an
// response of KMS makes a slot current.
func (a *asker) decideRetired(ctx context.Context, slot ciphertext.Slot) (Verdict, error) {
	known := a.knownKey(slot.Blob)
	retired := func(s Key) bool { return s.ARN == known && s.Unusable.State != "" }
	if slices.ContainsFunc(a.keys.Sources, retired) {
		return Verdict{Outcome: Remaining, Key: known, Header: true}, nil
	}
	to := a.keys.DestinationContext(slot)
	response, err := a.ask(ctx, Request{Blob: slot.Blob, Source: a.keys.Destination,
		Context: to, DestinationContext: to})
	if err == nil && response.Source == a.keys.Destination.ARN {
		return a.underDestination(ctx, slot, response)
	}
	if err == nil {
		return a.judge(ctx, slot, response) // a server that does not enforce the pin
	}
	if fatal(err) {
		return Verdict{}, err
	}
	last := refusal{a.keys.Destination, err}
	candidates := []Key{{}}
	if a.keys.SourceAlgorithm != Symmetric {
		candidates = a.keys.usableSources()
	}
	var refusals []refusal
	for _, source := range candidates {
		response, err := a.ask(ctx, Request{Blob: slot.Blob, Source: source,
			Context: a.keys.SourceContext(slot), DestinationContext: to})
		if err == nil {
			return a.judge(ctx, slot, response)
		}
		if fatal(err) {
			return Verdict{}, err
		}
		refusals = append(refusals, refusal{source, err})
	}
	if v, ok := a.unchecked(slot, known, refusals, last); ok {
		return v, nil
	}
	if len(refusals) == 0 {
		refusals = []refusal{last}
	}
	return a.refused(ctx, slot, refusals, last)
}

// unchecked returns the verdict on a slot whose key KMS could not check. ok is
// false if KMS gave a response about the slot.
func (a *asker) unchecked(
	slot ciphertext.Slot, known string, refusals []refusal, last refusal,
) (Verdict, bool) {
	v := Verdict{Outcome: Failed, Reason: reasonKeyDisabled,
		Detail: "the key of this ciphertext is disabled or pending deletion, and so is a source " +
			"key; it is unknown whether they are the same, because KMS has not named the key of " +
			"its header before"}
	switch {
	case slices.ContainsFunc(refusals, func(r refusal) bool {
		return slotKeyOf(r.err) != nil && !slotKeyOf(r.err).unknown
	}):
		if known != "" {
			v.Key, v.Reason = known, reasonKeyUnusable
			v.Detail = "the key of this ciphertext, which the job does not name, is disabled or " +
				"pending deletion"
		}
		return v, true
	case a.keys.SourceAlgorithm != Symmetric && !readable(slot) && !last.incorrectKey():
		v.Detail = "a source key is disabled or pending deletion, and it is unknown whether this " +
			"ciphertext is under it: ciphertexts under asymmetric keys have no header"
		return v, true
	}
	return Verdict{}, false
}
