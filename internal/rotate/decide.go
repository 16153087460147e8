package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"rotator/internal/ciphertext"
	"rotator/internal/flowcontrol"
)

// Keys is what the job asks for, resolved.
type Keys struct {
	Destination Key
	// Sources are the keys whose slots move; empty with Any.
	Sources []Key
	// SourceAlgorithm is the one algorithm of all sources.
	SourceAlgorithm string
	// Any moves slots under whatever key they stand.
	Any bool
	// Mode is what the job does; "" is ModeMove.
	Mode Mode
	// ChangesContext reports whether slots get another encryption context.
	ChangesContext bool
}

// Mode is what a job does.
type Mode string

// The modes. In all modes except ModeMove, one key is both source and
// destination.
const (
	ModeMove    Mode = "move"    // from the source keys to the destination key
	ModeRefresh Mode = "refresh" // to the newest material of the key
	ModeContext Mode = "context" // to another encryption context under the key
)

// refresh reports whether slots under the destination key are moved to its
// newest material.
func (k Keys) refresh() bool { return k.Mode == ModeRefresh }

func (k Keys) isSource(arn string) bool {
	return k.Any || slices.ContainsFunc(k.Sources, func(s Key) bool { return s.ARN == arn })
}

// candidates are the pins to try in turn: the keys themselves where there is
// one, or where blobs do not name their key; else one unpinned question, whose
// answer names the key.
func (k Keys) candidates() []Key {
	if k.SourceAlgorithm == Symmetric && (k.Any || len(k.Sources) > 1) {
		return []Key{{}}
	}
	return k.Sources
}

// verdict is what was found out about one slot.
type verdict struct {
	// outcome is empty when the slot is to move, and blob then holds what to
	// put in its place.
	outcome        Outcome
	blob           []byte
	key            string // ARN of the key under which it was found, if known
	reason, detail string
	// header is true when the header of the blob has told it, and KMS was not asked.
	header bool
	// before and after are the digests of the slot's blob and of that to put in its
	// place, once somebody asked for them.
	before, after string
	// binding ties the lines of the audit log about the slot to the pass.
	binding string
}

func (v verdict) moves() bool { return v.outcome == "" }

// excepted says whether the slot belongs in the ledger.
func (v verdict) excepted() bool {
	return v.outcome == Failed || v.outcome == Foreign || v.outcome == Conflict
}

// decider finds out where a slot stands and what to do about it, by asking KMS.
// It is shared by all workers.
type decider struct {
	keys    Keys
	kms     Reencrypter
	jobKeys *jobKeys
	headers *headers          // learns from every answer
	kept    map[string]string // Config.KnownTokens
	answers *answerHistory
	proven  *provenTokens
	// broken is set once an answer of KMS did not belong to its request. Nothing
	// more is written then.
	broken  atomic.Pointer[StopError]
	limiter *flowcontrol.Limiter
	retry   *retrier
	denials streak
	// changed is true if the last slot of a ModeContext job already had the new
	// context. Then that context is tried first, because a header does not show
	// the context.
	changed   atomic.Bool
	requests  atomic.Int64
	throttled atomic.Int64
}

// decide asks KMS about one slot. An error ends the work on the slot without an
// outcome: a *StopError, or ctx's own.
func (d *decider) decide(ctx context.Context, slot ciphertext.Slot) (verdict, error) {
	if slot.Refused != nil {
		return verdict{outcome: Failed, reason: slot.Refused.Reason, detail: slot.Refused.Detail}, nil
	}
	if d.keys.retired() {
		return d.decideRetired(ctx, slot)
	}
	if v, ok, err := d.likely(ctx, slot); ok || err != nil {
		return v, err
	}
	var refusals []refusal
	for _, source := range d.keys.candidates() {
		answer, err := d.ask(ctx, Question{Blob: slot.Blob, Source: source,
			Context: d.sourceContext(slot), DestinationContext: d.destinationContext(slot)})
		if err == nil {
			return d.judge(ctx, slot, answer)
		}
		if fatal(err) {
			return verdict{}, err
		}
		refusals = append(refusals, refusal{source, err})
	}
	return d.opposite(ctx, slot, refusals)
}

// likely asks first what the header of the blob makes likely, where that is another
// question than the first in turn. What KMS says decides: a header that lies costs a
// request. It is false when the answer settles nothing.
func (d *decider) likely(ctx context.Context, slot ciphertext.Slot) (v verdict, ok bool, err error) {
	key := d.headers.keyOf(slot.Blob)
	from, to := d.sourceContext(slot), d.destinationContext(slot)
	q := Question{Blob: slot.Blob, Context: from, DestinationContext: to}
	switch {
	case key == "" || d.keys.refresh() || d.keys.Mode == ModeContext && !d.changed.Load():
		return verdict{}, false, nil
	case key != d.keys.Destination.ARN && d.keys.isSource(key):
		return verdict{}, false, nil
	case key == d.keys.Destination.ARN:
		q.Source, q.Context = d.keys.Destination, to
	}
	answer, err := d.ask(ctx, q)
	switch {
	case err != nil && fatal(err):
		return verdict{}, false, err
	case err != nil || answer.Source != key:
		return verdict{}, false, nil
	case key == d.keys.Destination.ARN:
		v, err = d.underDestination(ctx, slot, answer)
		return v, true, err
	}
	return d.elsewhere(key), true, nil
}

// opposite asks whether the slot is already where the job wants it: after a
// crash between a write and its checkpoint the same slot is met again, now
// under the destination's key, context and algorithm.
func (d *decider) opposite(
	ctx context.Context, slot ciphertext.Slot, refusals []refusal,
) (verdict, error) {
	to := d.destinationContext(slot)
	answer, err := d.ask(ctx, Question{Blob: slot.Blob, Source: d.keys.Destination,
		Context: to, DestinationContext: to})
	switch {
	case err != nil && fatal(err):
		return verdict{}, err
	case err == nil && answer.Source == d.keys.Destination.ARN:
		d.changed.Store(d.keys.Mode == ModeContext)
		return d.underDestination(ctx, slot, answer)
	case err == nil:
		return d.elsewhere(answer.Source), nil // a server that does not enforce the pin
	}
	return d.refused(ctx, slot, refusals, refusal{d.keys.Destination, err})
}

// elsewhere returns the verdict on a slot under a key that the job does not
// name. arn is "" if KMS does not name the key.
func (d *decider) elsewhere(arn string) verdict {
	if arn == d.keys.Destination.ARN {
		return verdict{outcome: Foreign, key: arn, reason: reasonOtherContext,
			detail: "it is under the destination key, but with the source context " +
				"instead of destination_context"}
	}
	return verdict{outcome: Foreign, key: arn, reason: reasonForeignKey,
		detail: "it is under a key that source.keys does not name"}
}

// judge decides from the answer to the first question. What KMS says decides,
// not what was asked.
func (d *decider) judge(
	ctx context.Context, slot ciphertext.Slot, answer Answer,
) (verdict, error) {
	if answer.Source == d.keys.Destination.ARN {
		same := maps.Equal(d.sourceContext(slot), d.destinationContext(slot)) && d.keys.SourceAlgorithm == d.keys.Destination.Algorithm
		switch {
		case same:
			return d.underDestination(ctx, slot, answer)
		case !d.keys.isSource(answer.Source):
			return d.elsewhere(answer.Source), nil
		}
	} else if !d.keys.isSource(answer.Source) {
		return d.elsewhere(answer.Source), nil
	}
	return d.move(ctx, slot, answer)
}

// move is the verdict on a slot that is to hold the answer's blob. Nothing is
// written that KMS does not say is under the destination key.
func (d *decider) move(
	ctx context.Context, slot ciphertext.Slot, answer Answer,
) (verdict, error) {
	if answer.Destination != d.keys.Destination.ARN {
		return verdict{}, &StopError{Kind: StopInternal,
			What: fmt.Sprintf("KMS encrypted under %s instead of the destination key %s; nothing was written", answer.Destination, d.keys.Destination.ARN)}
	}
	if err := d.prove(ctx, answer, d.destinationContext(slot)); err != nil {
		if stopped(err) || ctx.Err() != nil {
			return verdict{}, err
		}
		reason, detail := reasonOf(err)
		return verdict{outcome: Failed, key: answer.Source, reason: reason, detail: detail}, nil
	}
	d.changed.Store(false)
	return verdict{blob: answer.Blob, key: answer.Source}, nil
}

// underDestination is the verdict on a slot that has the destination's key,
// context and algorithm. It moves only in a refresh, and only when an older
// material made it.
func (d *decider) underDestination(
	ctx context.Context, slot ciphertext.Slot, answer Answer,
) (verdict, error) {
	material := d.keys.Destination.Material
	if !d.keys.refresh() || material == "" || answer.SourceMaterial == material {
		return verdict{outcome: Current, key: answer.Source}, nil
	}
	if answer.SourceMaterial == "" {
		return verdict{}, &StopError{Kind: StopInternal, What: "KMS does not tell which key material a blob is under, so a refresh cannot be decided; nothing was written"}
	}
	return d.move(ctx, slot, answer)
}

// sourceContext and destinationContext drop what an asymmetric key cannot have.
func (d *decider) sourceContext(slot ciphertext.Slot) map[string]string {
	if d.keys.SourceAlgorithm != Symmetric {
		return nil
	}
	return slot.Context
}

func (d *decider) destinationContext(slot ciphertext.Slot) map[string]string {
	if !d.keys.Destination.Symmetric() {
		return nil
	}
	return slot.DestinationContext
}

// ask sends one question, through the limiter and the retry layer, and sorts
// out what is the run's trouble (a *StopError) from what is the slot's.
func (d *decider) ask(ctx context.Context, q Question) (Answer, error) {
	var answer Answer
	err := d.retry.do(ctx, flowcontrol.Permit{}, Asking, "KMS", func(ctx context.Context) (err error) {
		answer, err = d.once(ctx, q)
		if err != nil {
			if own := d.ofSlot(ctx, q, err); own != nil {
				return own // there is no reason to ask again
			}
		}
		return err
	})
	switch {
	case slotKeyOf(err) != nil:
		return Answer{}, err
	case err == nil:
		d.denials.reset()
		if err := d.check(q, answer); err != nil {
			return Answer{}, err
		}
		return answer, d.headers.fact(q.Blob, answer)
	}
	switch Classify(err) {
	case ClassKeyState, ClassCredentials:
		return Answer{}, &StopError{Kind: StopAccess, What: "a key or the credentials of this job cannot be used", Err: err}
	case ClassDenied:
		return Answer{}, d.denied(ctx, q, err)
	}
	return Answer{}, err
}

// complete stops the run for an answer that ReEncrypt never gives: one without a key or
// without a ciphertext. It would be found to be under any key that the job asks for, and
// nothing be put in the place of a ciphertext that is then counted as moved.
func (d *decider) complete(answer Answer) error {
	missing := ""
	switch {
	case answer.Source == "":
		missing = "which key a ciphertext is under"
	case answer.Destination == "":
		missing = "under which key it encrypted"
	case len(answer.Blob) == 0:
		missing = "the new ciphertext"
	default:
		return nil
	}
	return &StopError{Kind: StopInternal, What: fmt.Sprintf("KMS re-encrypted to %s and does not tell %s; nothing was written", d.keys.Destination.ARN, missing)}
}

// once is one request on the wire.
func (d *decider) once(ctx context.Context, q Question) (Answer, error) {
	sent, err := d.limiter.Begin(ctx)
	if err != nil {
		return Answer{}, err
	}
	answer, err := d.kms.ReEncrypt(ctx, q)
	d.observe(sent, err)
	return answer, err
}

// observe counts a request that has ended, and reports its result to the limiter.
func (d *decider) observe(sent time.Time, err error) {
	class := Classify(err)
	if heldOf(err) == nil { // it was sent
		d.requests.Add(1)
	}
	if class == ClassThrottled {
		d.throttled.Add(1)
	}
	d.limiter.End(sent, responseTo(err), retryAfter(err))
}

// denied tells a slot that may not be touched from a run that may not touch
// anything: by a dry run where that can tell, else by counting. A dry run carries
// no encryption context, so its denial says nothing of a slot that has one:
// policies may ask for it.
func (d *decider) denied(ctx context.Context, q Question, err error) error {
	source := q.Source
	switch {
	case source.ARN == "" && len(d.keys.usableSources()) > 0:
		source = d.keys.usableSources()[0]
	case source.ARN == "":
		source = d.keys.Destination
	}
	known, refused := d.mayUse(ctx, source)
	bare := len(q.Context)+len(q.DestinationContext) == 0
	if known && bare && Classify(refused) == ClassDenied {
		return &StopError{Kind: StopAccess, Err: refused,
			What: fmt.Sprintf("not allowed to re-encrypt from %s to %s (kms:ReEncryptFrom, kms:ReEncryptTo)", source.ARN, d.keys.Destination.ARN)}
	}
	if known && refused == nil {
		return err
	}
	if d.denials.add(Asking).Do == Stop {
		return &StopError{Kind: StopAccess, Err: err,
			What: fmt.Sprintf("KMS denied one request after the other; allow kms:ReEncryptFrom on %s and kms:ReEncryptTo on %s", source.ARN, d.keys.Destination.ARN)}
	}
	return err
}

// mayUse asks for permission by a dry run, which counts as a request like others.
func (d *decider) mayUse(ctx context.Context, source Key) (known bool, err error) {
	sent, err := d.limiter.Begin(ctx)
	if err != nil {
		return false, err
	}
	known, err = d.kms.Authorized(ctx, source)
	d.observe(sent, err)
	return known, err
}

// fatal says whether an error ends the run rather than the slot.
func fatal(err error) bool {
	if slotKeyOf(err) != nil {
		return false
	}
	if wrong := (*HeaderError)(nil); errors.As(err, &wrong) {
		return true
	}
	class := Classify(err)
	// What may pass has been tried often enough when it gets here.
	return stopped(err) || Decide(Event{Doing: Asking, Class: class, Failures: attemptsTransient}).Do == Stop
}
