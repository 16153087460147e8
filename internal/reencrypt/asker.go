package reencrypt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"rotator/internal/awserr"
	"rotator/internal/ciphertext"
	"rotator/internal/flowcontrol"
	"rotator/internal/retry"
)

// asker is the last layer. It sends requests to KMS and decides a slot by the responses.
type asker struct {
	keys        Keys
	kms         Reencrypter
	jobKeys     *jobKeys
	hints       *keyHints         // learns from every response
	knownTokens map[string]string // StackConfig.KnownTokens
	history     *responseHistory
	proven      *provenTokens
	// broken is set once a response of KMS did not belong to its request. Then nothing more is
	// written.
	broken  atomic.Pointer[retry.StopError]
	limiter *flowcontrol.Limiter
	retry   *retry.Retrier
	denials retry.DenialCounter
	// changed is true if the last slot of a ModeContext job already had the new context. Then
	// that context is tried first, because a header does not show the context.
	changed   atomic.Bool
	requests  atomic.Int64
	throttled atomic.Int64
	recent    recentRequests
}

var _ Decider = (*asker)(nil)

// Decide asks KMS about one slot. An error ends the work on the slot without a verdict: a
// *StopError, or that of ctx.
func (a *asker) Decide(ctx context.Context, s Subject) (Verdict, error) {
	slot := s.slot
	if slot.Refused != nil {
		return Verdict{Outcome: Failed, Reason: slot.Refused.Reason,
			Detail: slot.Refused.Detail}, nil
	}
	if a.keys.retired() {
		return a.decideRetired(ctx, slot)
	}
	if v, ok, err := a.tryHint(ctx, slot); ok || err != nil {
		return v, err
	}
	var refusals []refusal
	for _, source := range a.keys.candidates() {
		response, err := a.ask(ctx, Request{Blob: slot.Blob, Source: source,
			Context:            a.keys.SourceContext(slot),
			DestinationContext: a.keys.DestinationContext(slot)})
		if err == nil {
			return a.judge(ctx, slot, response)
		}
		if fatal(err) {
			return Verdict{}, err
		}
		refusals = append(refusals, refusal{source, err})
	}
	return a.checkAlreadyMoved(ctx, slot, refusals)
}

// tryHint sends the request that the header of the blob suggests, if it differs from the regular
// first request. KMS decides, so a wrong header costs only one request. ok is false if the
// response does not decide the slot.
func (a *asker) tryHint(ctx context.Context, slot ciphertext.Slot) (v Verdict, ok bool, err error) {
	key := a.hints.keyOf(slot.Blob)
	from, to := a.keys.SourceContext(slot), a.keys.DestinationContext(slot)
	q := Request{Blob: slot.Blob, Context: from, DestinationContext: to}
	switch {
	case key == "" || a.keys.Refresh() || a.keys.Mode == ModeContext && !a.changed.Load():
		return Verdict{}, false, nil
	case key != a.keys.Destination.ARN && a.keys.IsSource(key):
		return Verdict{}, false, nil
	case key == a.keys.Destination.ARN:
		q.Source, q.Context = a.keys.Destination, to
	}
	response, err := a.ask(ctx, q)
	switch {
	case err != nil && fatal(err):
		return Verdict{}, false, err
	case err != nil || response.Source != key:
		return Verdict{}, false, nil
	case key == a.keys.Destination.ARN:
		v, err = a.underDestination(ctx, slot, response)
		return v, true, err
	}
	return a.foreignVerdict(key), true, nil
}

// checkAlreadyMoved asks whether the slot is already under the destination key, with its context
// and algorithm. After a crash between a write and its checkpoint, moved slots are read again.
func (a *asker) checkAlreadyMoved(
	ctx context.Context, slot ciphertext.Slot, refusals []refusal,
) (Verdict, error) {
	to := a.keys.DestinationContext(slot)
	response, err := a.ask(ctx, Request{Blob: slot.Blob, Source: a.keys.Destination,
		Context: to, DestinationContext: to})
	switch {
	case err != nil && fatal(err):
		return Verdict{}, err
	case err == nil && response.Source == a.keys.Destination.ARN:
		a.changed.Store(a.keys.Mode == ModeContext)
		return a.underDestination(ctx, slot, response)
	case err == nil:
		return a.foreignVerdict(response.Source), nil // a server that does not enforce the pin
	}
	return a.refused(ctx, slot, refusals, refusal{a.keys.Destination, err})
}

// foreignVerdict returns the verdict on a slot under a key that the job does not
// name. arn is "" if KMS does not name the key.
func (a *asker) foreignVerdict(arn string) Verdict {
	if arn == a.keys.Destination.ARN {
		return Verdict{Outcome: Foreign, Key: arn, Reason: ReasonOtherContext,
			Detail: "it is under the destination key, but with the source context " +
				"instead of destination_context"}
	}
	return Verdict{Outcome: Foreign, Key: arn, Reason: ReasonForeignKey,
		Detail: "it is under a key that source.keys does not name"}
}

// judge decides from the response to the first request. The key in the response decides, not the
// key in the request.
func (a *asker) judge(
	ctx context.Context, slot ciphertext.Slot, response Response,
) (Verdict, error) {
	if response.Source == a.keys.Destination.ARN {
		same := a.keys.SourceAlgorithm == a.keys.Destination.Algorithm &&
			maps.Equal(a.keys.SourceContext(slot), a.keys.DestinationContext(slot))
		switch {
		case same:
			return a.underDestination(ctx, slot, response)
		case !a.keys.IsSource(response.Source):
			return a.foreignVerdict(response.Source), nil
		}
	} else if !a.keys.IsSource(response.Source) {
		return a.foreignVerdict(response.Source), nil
	}
	return a.move(ctx, slot, response)
}

// move returns the verdict on a slot that is to hold the blob of a response. Nothing is written
// unless KMS reports that it is under the destination key.
func (a *asker) move(
	ctx context.Context, slot ciphertext.Slot, response Response,
) (Verdict, error) {
	if response.Destination != a.keys.Destination.ARN {
		return Verdict{}, &retry.StopError{Kind: retry.StopInternal,
			What: fmt.Sprintf("KMS encrypted under %s instead of the destination key %s; nothing "+
				"was written", response.Destination, a.keys.Destination.ARN)}
	}
	if err := a.prove(ctx, response, a.keys.DestinationContext(slot)); err != nil {
		if retry.Stopped(err) || ctx.Err() != nil {
			return Verdict{}, err
		}
		reason, detail := retry.ReasonOf(err)
		return Verdict{Outcome: Failed, Key: response.Source, Reason: reason, Detail: detail}, nil
	}
	a.changed.Store(false)
	return Verdict{
		Blob: response.Blob,
		Key:  response.Source,
		Origin: Origin{
			RequestID:    response.RequestID,
			FromMaterial: response.SourceMaterial,
			ToMaterial:   response.DestinationMaterial,
		},
	}, nil
}

// underDestination returns the verdict on a slot with the key, context and algorithm of the
// destination. It moves only in a refresh, and only if it is under older key material.
func (a *asker) underDestination(
	ctx context.Context, slot ciphertext.Slot, response Response,
) (Verdict, error) {
	material := a.keys.Destination.Material
	if !a.keys.Refresh() || material == "" || response.SourceMaterial == material {
		return Verdict{Outcome: Current, Key: response.Source}, nil
	}
	if response.SourceMaterial == "" {
		return Verdict{}, &retry.StopError{
			Kind: retry.StopInternal,
			What: "KMS does not report the key " +
				"material of a ciphertext, so a refresh is not possible; nothing was written",
		}
	}
	return a.move(ctx, slot, response)
}

// ask sends one request, through the limiter and the retry layer. Errors that concern the run
// are *StopError; others concern the slot.
func (a *asker) ask(ctx context.Context, q Request) (Response, error) {
	var response Response
	err := a.retry.Do(ctx, flowcontrol.Permit{}, retry.Asking, "KMS", func(
		ctx context.Context,
	) (err error) {
		response, err = a.once(ctx, q)
		if err != nil {
			if slotErr := a.slotError(ctx, q, err); slotErr != nil {
				return slotErr // a retry would fail again
			}
		}
		return err
	})
	switch {
	case slotKeyOf(err) != nil:
		return Response{}, err
	case err == nil:
		a.denials.Reset()
		if err := a.check(q, response); err != nil {
			return Response{}, err
		}
		return response, a.hints.fact(q.Blob, response)
	}
	switch retry.Classify(err) {
	case retry.KindKeyState, retry.KindCredentials:
		return Response{}, &retry.StopError{Kind: retry.StopAccess, Err: err,
			What: "a key or the credentials of this job cannot be used"}
	case retry.KindDenied:
		return Response{}, a.denied(ctx, q, err)
	}
	return Response{}, err
}

// validateResponse returns an error that ends the run for a response that ReEncrypt never gives:
// one without a key or without a ciphertext. With such a response, a slot would be replaced by
// nothing and counted as moved.
func (a *asker) validateResponse(response Response) error {
	missing := ""
	switch {
	case response.Source == "":
		missing = "which key a ciphertext is under"
	case response.Destination == "":
		missing = "under which key it encrypted"
	case len(response.Blob) == 0:
		missing = "the new ciphertext"
	default:
		return nil
	}
	return &retry.StopError{
		Kind: retry.StopInternal,
		What: fmt.Sprintf("KMS re-encrypted to %s and does not "+
			"report %s; nothing was written", a.keys.Destination.ARN, missing),
	}
}

// once sends one request.
func (a *asker) once(ctx context.Context, q Request) (Response, error) {
	sent, err := a.limiter.Begin(ctx)
	if err != nil {
		return Response{}, err
	}
	response, err := a.kms.ReEncrypt(ctx, q)
	a.observe(sent, err)
	if err == nil {
		a.note(response)
	}
	return response, err
}

// observe counts a request that has ended, and reports its result to the limiter.
func (a *asker) observe(sent time.Time, err error) {
	class := retry.Classify(err)
	if retry.HeldOf(err) == nil { // it was sent
		a.requests.Add(1)
	}
	if class == retry.KindThrottled {
		a.throttled.Add(1)
	}
	a.limiter.End(sent, retry.ResponseTo(err), awserr.RetryAfter(err))
}

// denied decides whether a denial concerns the slot or the run: by a dry run if it can show that,
// otherwise by the number of denials. A dry run has no encryption context, so its denial shows
// nothing about a slot with a context, which a policy can require.
func (a *asker) denied(ctx context.Context, q Request, err error) error {
	source := q.Source
	switch {
	case source.ARN == "" && len(a.keys.usableSources()) > 0:
		source = a.keys.usableSources()[0]
	case source.ARN == "":
		source = a.keys.Destination
	}
	known, refused := a.mayUse(ctx, source)
	bare := len(q.Context)+len(q.DestinationContext) == 0
	if known && bare && retry.Classify(refused) == retry.KindDenied {
		return &retry.StopError{Kind: retry.StopAccess, Err: refused,
			What: fmt.Sprintf("not allowed to re-encrypt from %s to %s (kms:ReEncryptFrom, "+
				"kms:ReEncryptTo)", source.ARN, a.keys.Destination.ARN)}
	}
	if known && refused == nil {
		return err
	}
	if a.denials.Add(retry.Asking).Do == retry.Stop {
		return &retry.StopError{Kind: retry.StopAccess, Err: err,
			What: fmt.Sprintf("KMS denied one request after the other; allow kms:ReEncryptFrom on "+
				"%s and kms:ReEncryptTo on %s", source.ARN, a.keys.Destination.ARN)}
	}
	return err
}

// mayUse asks for permission with a dry run, which counts as a request.
func (a *asker) mayUse(ctx context.Context, source Key) (known bool, err error) {
	sent, err := a.limiter.Begin(ctx)
	if err != nil {
		return false, err
	}
	known, err = a.kms.Authorized(ctx, source)
	a.observe(sent, err)
	return known, err
}

// fatal reports whether an error concerns the run, not only the slot.
func fatal(err error) bool {
	if slotKeyOf(err) != nil {
		return false
	}
	if wrong := (*HeaderError)(nil); errors.As(err, &wrong) {
		return true
	}
	class := retry.Classify(err)
	// The retry loop has already repeated the request after a temporary error.
	return retry.Stopped(err) || retry.Decide(retry.Event{
		Operation: retry.Asking,
		Kind:      class,
		Failures:  retry.MaxAttempts,
	}).Do == retry.Stop
}

// confirm asks KMS, by one request with the destination key as SourceKeyId,
// whether a slot has moved. It returns false if KMS does not confirm it, for
// any reason.
func (a *asker) confirm(ctx context.Context, slot ciphertext.Slot) (bool, error) {
	to := a.keys.DestinationContext(slot)
	response, err := a.ask(ctx, Request{
		Blob:               slot.Blob,
		Source:             a.keys.Destination,
		Context:            to,
		DestinationContext: to,
	})
	if err != nil {
		if fatal(err) {
			return false, err
		}
		return false, nil
	}
	if response.Source != a.keys.Destination.ARN {
		return false, nil
	}
	v, err := a.underDestination(ctx, slot, response)
	return v.Outcome == Current, err
}
