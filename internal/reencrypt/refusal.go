package reencrypt

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"rotator/internal/awserr"
	"rotator/internal/ciphertext"
	"rotator/internal/kmsblob"
	"rotator/internal/retry"
)

// refusal is an error of KMS for a request about one slot, with the key that
// was pinned in the request (its SourceKeyId), or the zero Key if none was.
type refusal struct {
	source Key
	err    error
}

// incorrectKey reports whether the blob is under another key than the pinned
// one.
func (r refusal) incorrectKey() bool { return retry.Classify(r.err) == retry.KindIncorrectKey }

// invalid reports whether KMS could not decrypt the blob. With a pinned
// symmetric key, KMS compares the key before it decrypts. The key has therefore
// matched, unless KMS cannot read the header of the blob.
func (r refusal) invalid() bool { return awserr.Code(r.err) == "InvalidCiphertextException" }

// refused returns the verdict on a slot that KMS decrypted neither under a
// source key nor under the destination key. last is the refusal of the request
// with the destination key pinned.
func (a *asker) refused(
	ctx context.Context, slot ciphertext.Slot, first []refusal, last refusal,
) (Verdict, error) {
	all := append(slices.Clip(first), last)
	key := cmp.Or(matched(slot, all), a.keyOfHeader(slot, first[0], last))
	if key == "" && first[0].invalid() && first[0].source.ARN == "" {
		more, err := a.pinSources(ctx, slot)
		if err != nil {
			return Verdict{}, err
		}
		all = append(all, more...)
		key = matched(slot, all)
	}
	if key == a.keys.Destination.ARN && first[0].source.ARN != "" {
		if v, ok, err := a.underSourceContext(ctx, slot); ok || err != nil {
			return v, err
		}
	}
	if key != "" {
		return a.otherContext(key), nil
	}
	return a.unmatched(ctx, slot, all)
}

// underSourceContext asks KMS whether a slot under the destination key has the source context.
// This is needed if all requests named a key: the requests with the source context then named
// a source key. ok is false if the slot has another context.
func (a *asker) underSourceContext(
	ctx context.Context, slot ciphertext.Slot,
) (v Verdict, ok bool, err error) {
	from, to := a.keys.SourceContext(slot), a.keys.DestinationContext(slot)
	if a.keys.Mode == ModeContext || a.keys.SourceAlgorithm != Symmetric || maps.Equal(from, to) {
		return Verdict{}, false, nil
	}
	response, err := a.ask(ctx, Request{Blob: slot.Blob, Source: a.keys.Destination, Context: from,
		DestinationContext: to})
	switch {
	case err != nil && fatal(err):
		return Verdict{}, false, err
	case err != nil || response.Source != a.keys.Destination.ARN:
		return Verdict{}, false, nil
	}
	return a.foreignVerdict(response.Source), true, nil
}

// keyOfHeader returns the key of the job that the header of a blob names, if this agrees with the
// refusals of KMS, and otherwise "".
func (a *asker) keyOfHeader(slot ciphertext.Slot, first, last refusal) string {
	key := a.hints.keyOf(slot.Blob)
	switch {
	case !first.invalid() && !last.invalid():
		return ""
	case key == a.keys.Destination.ARN && last.invalid():
		return key
	case key != a.keys.Destination.ARN && a.keys.IsSource(key) && first.invalid():
		return key
	}
	return ""
}

// matched returns the key that KMS identified as that of the blob although it
// could not decrypt the blob, or "" if the refusals do not show it. Servers
// other than AWS may refuse a blob in the same way under every key, and so does
// KMS if it cannot read the header. Two matching keys therefore count as none.
func matched(slot ciphertext.Slot, refusals []refusal) string {
	key, compared := "", readable(slot)
	for _, r := range refusals {
		switch {
		case !r.source.pinnedSymmetric():
		case r.incorrectKey():
			compared = true
		case r.invalid() && key != "" && key != r.source.ARN:
			return ""
		case r.invalid():
			key = r.source.ARN
		}
	}
	if !compared {
		return ""
	}
	return key
}

func readable(slot ciphertext.Slot) bool {
	_, ok := kmsblob.ReadToken(slot.Blob)
	return ok
}

// pinSources sends requests with each source key pinned in turn, until one
// matches. It is needed because a refused request without a pinned key does not
// name the key.
func (a *asker) pinSources(ctx context.Context, slot ciphertext.Slot) ([]refusal, error) {
	var refusals []refusal
	for _, source := range a.keys.Sources {
		if source.ARN == a.keys.Destination.ARN || source.Unusable.State != "" {
			continue
		}
		_, err := a.ask(ctx, Request{Blob: slot.Blob, Source: source,
			Context:            a.keys.SourceContext(slot),
			DestinationContext: a.keys.DestinationContext(slot)})
		if err != nil && fatal(err) {
			return nil, err
		}
		r := refusal{source, err}
		if refusals = append(refusals, r); err == nil || readable(slot) && r.invalid() {
			break
		}
	}
	return refusals, nil
}

// otherContext returns the verdict on a slot under a key of the job that KMS
// cannot decrypt with the contexts of the job.
func (a *asker) otherContext(key string) Verdict {
	v := Verdict{Outcome: Failed, Key: key, Reason: ReasonSourceContext,
		Detail: "it is under a source key, but KMS cannot decrypt it with the encryption " +
			"context of the job file: its context is different, or it is corrupt"}
	switch {
	case key == a.keys.Destination.ARN && a.keys.Mode == ModeContext:
		v.Detail = "it is under the key of this job, but KMS can decrypt it neither with " +
			"context nor with destination_context: its context is different, or it is corrupt"
	case key == a.keys.Destination.ARN && !a.keys.Refresh():
		v.Reason = ReasonDestinationContext
		v.Detail = "it is under the destination key, but KMS cannot decrypt it with " +
			"destination_context (context, if there is none): its context is different, or it " +
			"is corrupt"
	}
	return v
}

// unmatched returns the verdict on a slot that no key of the job matched. all
// begins with the refusal of the first request.
func (a *asker) unmatched(
	ctx context.Context, slot ciphertext.Slot, all []refusal,
) (Verdict, error) {
	first, known := all[0], a.hints.keyOf(slot.Blob)
	if refusedAs(known, all) {
		known = ""
	}
	if a.foreign(all) {
		return a.identifyKey(ctx, slot, known)
	}
	if first.incorrectKey() { // the request with the destination key failed before a comparison
		first = all[len(all)-1]
	}
	slotErr := slotKeyOf(first.err)
	switch class := retry.Classify(first.err); {
	case slotErr != nil && slotErr.unknown:
		return Verdict{Outcome: Failed, Key: known, Reason: reasonKeyUnknown,
			Detail: "the server does not know the key of this value, but it knows all keys of " +
				"the job: the value is not a KMS ciphertext, or its key does not exist there"}, nil
	case class == retry.KindDenied:
		return Verdict{Outcome: Failed, Key: known, Reason: retry.ReasonAccessDenied,
			Detail: "KMS denies access to the key of this ciphertext, or the key does not " +
				"exist in this account and Region"}, nil
	case slotErr != nil:
		return Verdict{Outcome: Failed, Key: known, Reason: reasonKeyUnusable,
			Detail: "the key of this ciphertext, which the job does not name, is disabled or " +
				"pending deletion"}, nil
	case a.keys.Any && first.invalid() && a.notDestination(slot, all):
		v := a.otherContext("")
		v.Detail = "it is not under the destination key, and KMS cannot decrypt it with the " +
			"encryption context of the job file: its context is different, or it is corrupt"
		return v, nil
	case slices.ContainsFunc(all, func(r refusal) bool { return a.tooLong(slot, r) }):
		return Verdict{Outcome: Failed, Key: known, Reason: ReasonPlaintextTooLong,
			Detail: fmt.Sprintf("KMS refused to re-encrypt it, most likely because its plaintext "+
				"is longer than the %d bytes that the destination key encrypts with %s",
				a.keys.Destination.maxPlaintext(), a.keys.Destination.Algorithm)}, nil
	case class == retry.KindInvalidCiphertext:
		return Verdict{Outcome: Failed, Reason: ReasonInvalidCiphertext,
			Detail: "KMS cannot decrypt it: it is corrupt, or its encryption context or " +
				"algorithm differs from the job file" + a.plaintextHint(slot.Blob)}, nil
	}
	reason, detail := retry.ReasonOf(first.err)
	return Verdict{Outcome: Failed, Reason: reason, Detail: detail}, nil
}

// tooLong reports whether KMS refused a request probably because the plaintext is too long for
// the destination key: KMS called the request invalid, the blob has the form of a ciphertext
// under the source key of the request, and its plaintext can be that long.
func (a *asker) tooLong(slot ciphertext.Slot, r refusal) bool {
	limit := a.keys.Destination.maxPlaintext()
	if limit == 0 || awserr.Code(r.err) != "ValidationException" ||
		r.source.ARN == a.keys.Destination.ARN || len(slot.Blob) > kmsblob.MaxSize {
		return false
	}
	_, most := plaintextBounds(Request{Blob: slot.Blob, Source: r.source})
	switch {
	case r.source.sm2():
		return most > limit && kmsblob.IsSM2(slot.Blob)
	case r.source.Size > 0:
		return most > limit && len(slot.Blob) == r.source.Size
	}
	return most > limit && readable(slot)
}

// refusedAs reports whether KMS has answered that the blob is not under key. A header can
// name another key than KMS; KMS decides.
func refusedAs(key string, refusals []refusal) bool {
	return slices.ContainsFunc(refusals, func(r refusal) bool {
		return r.source.ARN == key && r.incorrectKey()
	})
}

// plaintextHint returns a hint about bytes that KMS cannot decrypt and that do
// not look like ciphertexts under keys of the kind of the source keys. It is only a
// hint, because servers other than AWS have other layouts.
func (a *asker) plaintextHint(blob []byte) string {
	_, known := kmsblob.ReadToken(blob)
	sm2 := Key{Algorithm: a.keys.SourceAlgorithm}.sm2()
	switch {
	case sm2 && !known && !kmsblob.IsSM2(blob):
		return "; it is not an SM2 ciphertext in ASN.1 DER, the only form that KMS accepts, so " +
			"it may have the raw form (C1C3C2 or C1C2C3)"
	case known || a.keys.SourceAlgorithm != Symmetric || kmsblob.MayHold(blob):
		return ""
	}
	return "; it has no header of a KMS ciphertext, so it may be plaintext that was never encrypted"
}

// notDestination reports whether a blob is under another key than the
// destination. KMS reports this, or the blob has a header, which ciphertexts
// under an asymmetric destination key do not have.
func (a *asker) notDestination(slot ciphertext.Slot, all []refusal) bool {
	if !a.keys.Destination.Symmetric() {
		return readable(slot)
	}
	return slices.ContainsFunc(all, func(r refusal) bool {
		return r.source.ARN == a.keys.Destination.ARN && r.incorrectKey()
	})
}

// foreign reports whether KMS compared the key of a blob with every key of the
// job and none matched. KMS does not compare asymmetric keys, because ciphertexts
// under them have no header.
func (a *asker) foreign(all []refusal) bool {
	if a.keys.Any {
		return false
	}
	compared := map[string]bool{}
	for _, r := range all {
		switch {
		case r.incorrectKey():
			compared[r.source.ARN] = true
		case r.source.ARN != "" && (r.source.Symmetric() || !r.invalid()):
			return false
		}
	}
	for _, key := range append(slices.Clip(a.keys.Sources), a.keys.Destination) {
		if key.Symmetric() && key.Unusable.State == "" && !compared[key.ARN] {
			return false
		}
	}
	return len(compared) > 0
}

// identifyKey asks KMS, without a pinned key, for the key of a foreign slot, and
// discards the new blob. known is the key that the header of the blob names, or
// ""; it is used if KMS does not name the key.
func (a *asker) identifyKey(
	ctx context.Context, slot ciphertext.Slot, known string,
) (Verdict, error) {
	from := a.keys.SourceContext(slot)
	if a.keys.SourceAlgorithm != Symmetric {
		from = a.keys.DestinationContext(slot)
	}
	response, err := a.ask(ctx, Request{Blob: slot.Blob, Context: from,
		DestinationContext: a.keys.DestinationContext(slot)})
	if err != nil && fatal(err) {
		return Verdict{}, err
	}
	if err != nil {
		return a.foreignVerdict(known), nil
	}
	return a.foreignVerdict(response.Source), nil
}
