// Package reencrypt decides about slots: whether the ciphertext of a slot must move to the
// destination key, and to which new ciphertext. Stack is the entry point. It asks three layers
// in turn: the predictor uses ciphertext headers, the response cache shares responses for equal
// ciphertexts, and the asker sends requests to KMS. The package also resolves and checks the
// keys of a job before a run.
package reencrypt

import (
	"context"

	"rotator/internal/ciphertext"
	"rotator/internal/flowcontrol"
	"rotator/internal/retry"
)

// StackConfig is what a Stack needs. All fields but KeyState and KnownTokens are required.
type StackConfig struct {
	Keys    Keys
	KMS     Reencrypter
	Limiter *flowcontrol.Limiter // of the requests to KMS
	Retry   *retry.Retrier
	Hints   HintConfig
	// Exact sends a request for every slot: no header and no response for another slot decides.
	Exact bool
	// KeyState returns the state of a key. If it is nil, an error about a key that may be the
	// key of a slot stops the run.
	KeyState KeyStateFunc
	// KnownTokens maps header tokens (kmsblob.Token.String) to the keys that KMS named in
	// earlier passes. They are used if a source key is disabled, so that KMS cannot be asked.
	KnownTokens map[string]string
}

// Stack decides about slots in layers. A slot goes through them once, in this order:
//
//	predict  decides by the header of the blob, if KMS has shown the key of its token
//	share    uses the verdict on another slot with the same blob and contexts
//	ask      sends requests to KMS
//
// Its methods can be called concurrently.
type Stack struct {
	asker *asker
	cache *responseCache // nil with Exact
	hints *keyHints
	first Decider
}

var _ Decider = (*Stack)(nil)

// NewStack returns a Stack.
func NewStack(c StackConfig) *Stack {
	hints := newKeyHints(c.Keys, c.Exact, c.Hints)
	s := &Stack{hints: hints, asker: &asker{
		keys:        c.Keys,
		kms:         c.KMS,
		jobKeys:     newJobKeys(c.Keys, c.KeyState),
		hints:       hints,
		knownTokens: c.KnownTokens,
		history:     newResponseHistory(),
		proven:      newProvenTokens(),
		limiter:     c.Limiter,
		retry:       c.Retry,
	}}
	var next Decider = s.asker
	if !c.Exact {
		s.cache = newResponseCache(next)
		next = s.cache
	}
	s.first = &predictor{hints: hints, next: next}
	return s
}

// Decide decides about a slot.
func (s *Stack) Decide(ctx context.Context, subject Subject) (Verdict, error) {
	return s.first.Decide(ctx, subject)
}

// Confirm asks KMS whether a slot has moved. It returns false if KMS does not confirm it, for
// any reason.
func (s *Stack) Confirm(ctx context.Context, slot ciphertext.Slot) (bool, error) {
	return s.asker.confirm(ctx, slot)
}

// Broken returns the error of a response of KMS that did not belong to its request, or nil. After
// such a response nothing must be written.
func (s *Stack) Broken() *retry.StopError { return s.asker.broken.Load() }

// Requests returns the number of requests that were sent, including dry runs, and of those that
// were throttled.
func (s *Stack) Requests() (sent, throttled int64) {
	return s.asker.requests.Load(), s.asker.throttled.Load()
}

// Savings are the numbers of slots for which no request was sent.
type Savings struct {
	Decided int64 // predicted by their header, whether or not KMS was asked as well
	Header  int64 // decided by their header
	Checked int64 // predictions that were compared with a response of KMS
	Shared  int64 // decided by the response for another slot with the same blob and contexts
}

// Savings returns the savings so far.
func (s *Stack) Savings() Savings {
	s.hints.mu.Lock()
	defer s.hints.mu.Unlock()
	saved := Savings{
		Decided: s.hints.decided,
		Header:  s.hints.unchecked,
		Checked: s.hints.checked,
	}
	if s.cache != nil {
		saved.Shared = s.cache.served.Load()
	}
	return saved
}

// HintsAgree reports whether the whole sample of predicted slots was checked and agreed. If not,
// wrong is what a check has found, or "".
func (s *Stack) HintsAgree() (agree bool, wrong string) {
	s.hints.mu.Lock()
	defer s.hints.mu.Unlock()
	return s.hints.agree, s.hints.wrong
}

// CheckSample checks the rest of the sample of predicted slots, with a number of workers.
func (s *Stack) CheckSample(ctx context.Context, workers int) error {
	return s.hints.check(ctx, workers, s.asker)
}

// DisableHints stops the use of headers for verdicts.
func (s *Stack) DisableHints() { s.hints.disable() }

// KeyOf returns the key that KMS has named for the header of a blob, or "".
func (s *Stack) KeyOf(blob []byte) string { return s.hints.keyOf(blob) }

// KeyOfToken returns the key that KMS has named for a token in text form, or "".
func (s *Stack) KeyOfToken(text string) string { return s.hints.keyOfToken(text) }

// NamedTokens maps at most n header tokens to the keys that KMS has named for them. Tokens of
// source keys are preferred.
func (s *Stack) NamedTokens(n int) map[string]string { return s.hints.namedTokens(n) }

// Searcher returns a searcher that sends its requests as the Stack does, or nil if ciphertexts
// under the source keys have no header.
func (s *Stack) Searcher(exact bool) *Searcher { return newSearcher(s.asker, exact) }
