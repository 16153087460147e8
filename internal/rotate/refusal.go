package rotate

import (
	"cmp"
	"context"
	"slices"

	"rotator/internal/ciphertext"
	"rotator/internal/kmsblob"
)

// refusal is an error that KMS gave for a question about one slot, and the key that was
// pinned in the question; the zero Key when KMS had to find it.
type refusal struct {
	source Key
	err    error
}

// incorrectKey reports whether KMS found the blob to be under another key than the pinned
// one.
func (r refusal) incorrectKey() bool { return Classify(r.err) == ClassIncorrectKey }

// invalid reports whether KMS could not decrypt the blob. Under a pinned symmetric key KMS
// compares the key before it decrypts, so the key has matched, unless the blob has no
// header that KMS can read.
func (r refusal) invalid() bool { return code(r.err) == "InvalidCiphertextException" }

// refused is the verdict on a slot that KMS decrypted neither as a source nor as the
// destination. Last is the refusal of the question with the destination pinned.
func (d *decider) refused(
	ctx context.Context, slot ciphertext.Slot, first []refusal, last refusal,
) (verdict, error) {
	all := append(slices.Clip(first), last)
	key := cmp.Or(matched(slot, all), d.hinted(slot, first[0], last))
	if key == "" && first[0].invalid() && first[0].source.ARN == "" {
		more, err := d.pinSources(ctx, slot)
		if err != nil {
			return verdict{}, err
		}
		all = append(all, more...)
		key = matched(slot, all)
	}
	if key != "" {
		return d.otherContext(key), nil
	}
	return d.unmatched(ctx, slot, all)
}

// hinted returns the key of the job that the header of a blob stands for, where that fits
// how KMS refused the blob.
func (d *decider) hinted(slot ciphertext.Slot, first, last refusal) string {
	key := d.headers.keyOf(slot.Blob)
	switch {
	case !first.invalid() && !last.invalid():
		return ""
	case key == d.keys.Destination.ARN && last.invalid():
		return key
	case key != d.keys.Destination.ARN && d.keys.isSource(key) && first.invalid():
		return key
	}
	return ""
}

// matched returns the key that KMS found to be that of the blob, although it could not
// decrypt it; "" when the refusals do not tell. Servers other than AWS may refuse a blob
// in the same way under every key, and so does KMS where the header cannot be read: two
// keys that match are none.
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

// pinSources asks about a slot under each source key in turn, until one matches: an
// unpinned question that KMS refuses does not name the key.
func (d *decider) pinSources(ctx context.Context, slot ciphertext.Slot) ([]refusal, error) {
	var refusals []refusal
	for _, source := range d.keys.Sources {
		if source.ARN == d.keys.Destination.ARN || source.Unusable != "" {
			continue
		}
		_, err := d.ask(ctx, Question{Blob: slot.Blob, Source: source,
			Context: d.sourceContext(slot), DestinationContext: d.destinationContext(slot)})
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

// otherContext is the verdict on a slot under a key of the job with a context that the job
// does not give.
func (d *decider) otherContext(key string) verdict {
	v := verdict{outcome: Failed, key: key, reason: reasonSourceContext,
		detail: "it is under a source key, but KMS cannot decrypt it with the encryption " +
			"context of the job file: its context is different, or it is corrupt"}
	switch {
	case key == d.keys.Destination.ARN && d.keys.Mode == ModeContext:
		v.detail = "it is under the key of this job, but KMS can decrypt it neither with " +
			"context nor with destination_context: its context is different, or it is corrupt"
	case key == d.keys.Destination.ARN && !d.keys.refresh():
		v.reason = reasonDestinationContext
		v.detail = "it is under the destination key, but KMS cannot decrypt it with " +
			"destination_context (context, if there is none): its context is different, or it " +
			"is corrupt"
	}
	return v
}

// unmatched is the verdict on a slot that no key of the job matched. The first refusal is
// that of the first question.
func (d *decider) unmatched(
	ctx context.Context, slot ciphertext.Slot, all []refusal,
) (verdict, error) {
	first, known := all[0], d.headers.keyOf(slot.Blob)
	if d.foreign(all) {
		return d.name(ctx, slot, known)
	}
	if first.incorrectKey() { // and the destination did not get to compare keys
		first = all[len(all)-1]
	}
	switch class := Classify(first.err); {
	case class == ClassDenied:
		return verdict{outcome: Failed, key: known, reason: reasonAccessDenied,
			detail: "KMS denies access to the key of this ciphertext, or the key does not exist in " +
				"this account and Region"}, nil
	case ofUnusableKey(first.err):
		return verdict{outcome: Failed, key: known, reason: reasonKeyUnusable,
			detail: "the key of this ciphertext, which the job does not name, is disabled or " +
				"pending deletion"}, nil
	case d.keys.Any && first.invalid() && d.notDestination(slot, all):
		v := d.otherContext("")
		v.detail = "it is not under the destination key, and KMS cannot decrypt it with the " +
			"encryption context of the job file: its context is different, or it is corrupt"
		return v, nil
	case class == ClassInvalidCiphertext:
		return verdict{outcome: Failed, reason: reasonInvalidCiphertext,
			detail: "KMS cannot decrypt it: it is corrupt, or its encryption context or " +
				"algorithm differs from the job file" + d.plaintextHint(slot.Blob)}, nil
	}
	reason, detail := reasonOf(first.err)
	return verdict{outcome: Failed, reason: reason, detail: detail}, nil
}

// plaintextHint is what to add about bytes that KMS cannot decrypt and that do not begin as
// ciphertexts under symmetric keys do. It is no more than a hint: other servers than AWS
// have layouts of their own.
func (d *decider) plaintextHint(blob []byte) string {
	_, known := kmsblob.ReadToken(blob)
	if known || d.keys.SourceAlgorithm != Symmetric || holdsBlob(blob) {
		return ""
	}
	return "; it has no header of a KMS ciphertext, so it may be plaintext that was never encrypted"
}

// notDestination reports whether a blob is under another key than the destination: KMS says
// so, or the blob has a header, which the ciphertexts of an RSA destination do not have.
func (d *decider) notDestination(slot ciphertext.Slot, all []refusal) bool {
	if !d.keys.Destination.Symmetric() {
		return readable(slot)
	}
	return slices.ContainsFunc(all, func(r refusal) bool {
		return r.source.ARN == d.keys.Destination.ARN && r.incorrectKey()
	})
}

// foreign reports whether KMS compared the key of a blob with every key of the job, and
// found it to be none of them. An RSA key is not compared: what is under it has no header
// that KMS could call another key's.
func (d *decider) foreign(all []refusal) bool {
	if d.keys.Any {
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
	for _, key := range append(slices.Clip(d.keys.Sources), d.keys.Destination) {
		if key.Symmetric() && key.Unusable == "" && !compared[key.ARN] {
			return false
		}
	}
	return len(compared) > 0
}

// name asks KMS, without a pin, under which key a foreign slot stands. The new blob is
// discarded. Known is the key that the header of the blob stands for, "" if that is not
// known; it is used where KMS does not name the key.
func (d *decider) name(ctx context.Context, slot ciphertext.Slot, known string) (verdict, error) {
	from := d.sourceContext(slot)
	if d.keys.SourceAlgorithm != Symmetric {
		from = d.destinationContext(slot)
	}
	answer, err := d.ask(ctx, Question{Blob: slot.Blob, Context: from,
		DestinationContext: d.destinationContext(slot)})
	if err != nil && fatal(err) {
		return verdict{}, err
	}
	if err != nil {
		return d.elsewhere(known), nil
	}
	return d.elsewhere(answer.Source), nil
}
