package reencrypt

import (
	"context"
	"errors"
	"rotator/internal/awserr"
	"rotator/internal/retry"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// KeyStateFunc returns the state of a key (API_DescribeKey, KeyState), such as "Enabled".
type KeyStateFunc func(ctx context.Context, arn string) (state string, err error)

// DescribeKeyState returns the KeyStateFunc of a client that sends grant tokens.
func DescribeKeyState(client *kms.Client, tokens []string) KeyStateFunc {
	return func(ctx context.Context, arn string) (string, error) {
		meta, err := describeKey(ctx, client, arn, tokens)
		if err != nil {
			return "", err
		}
		return string(meta.KeyState), nil
	}
}

// slotKeyError is an error of KMS about the key of a ciphertext that is not a key of the job.
// The slot fails, and the run does not stop.
type slotKeyError struct {
	err error
	// unknown is true if the server does not know the key. Some servers also return this
	// error for a value that is not a ciphertext.
	unknown bool
}

func (e *slotKeyError) Error() string { return e.err.Error() }

// slotKeyOf returns the slotKeyError in err, or nil.
func slotKeyOf(err error) *slotKeyError {
	var own *slotKeyError
	errors.As(err, &own)
	return own
}

// existFor is the time for which the keys of the job are known to exist after DescribeKey found
// them. KMS deletes a key seven days after the deletion was scheduled, at the earliest.
const existFor = time.Minute

// jobKeys decides whether an error about a key can be about a key of the job.
type jobKeys struct {
	keys  Keys
	state KeyStateFunc // nil: unknown

	requestTurn chan struct{} // held during a request to KMS
	mu          sync.Mutex
	found       time.Time // when all keys were found to exist
}

func newJobKeys(keys Keys, state KeyStateFunc) *jobKeys {
	return &jobKeys{keys: keys, state: state, requestTurn: make(chan struct{}, 1)}
}

// exist reports whether all keys of the job exist.
func (j *jobKeys) exist(ctx context.Context) bool {
	if j.state == nil {
		return false
	}
	select {
	case j.requestTurn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-j.requestTurn }()
	if found := j.foundAt(); !found.IsZero() && time.Since(found) < existFor {
		return true
	}
	began := time.Now()
	for _, key := range append([]Key{j.keys.Destination}, j.keys.Sources...) {
		if _, err := j.state(ctx, key.ARN); err != nil {
			return false
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.found = began
	return true
}

func (j *jobKeys) foundAt() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.found
}

// enabled reports whether all keys that the job uses are enabled; ok is false if that is
// unknown.
func (j *jobKeys) enabled(ctx context.Context) (enabled, ok bool) {
	if j.state == nil {
		return false, false
	}
	for _, key := range append([]Key{j.keys.Destination}, j.keys.usableSources()...) {
		state, err := j.state(ctx, key.ARN)
		if err != nil {
			return false, awserr.Code(err) != ""
		}
		if state != string(types.KeyStateEnabled) {
			return false, true
		}
	}
	return true, true
}

// slotError returns a *slotKeyError if the error of a request is about the key of the slot's
// ciphertext. It returns nil if the error is, or may be, about a key of the job.
func (a *asker) slotError(ctx context.Context, q Request, err error) error {
	switch class := retry.Classify(err); {
	case awserr.Code(err) == "InvalidGrantTokenException": // the tokens are the job's
		return nil
	case class == retry.KindMissing, awserr.Code(err) == "NotFoundException":
		if key := a.hints.keyOf(q.Blob); key == a.keys.Destination.ARN || a.isNamed(key) {
			return nil
		}
		if a.jobKeys.exist(ctx) {
			return &slotKeyError{err: err, unknown: true}
		}
		return nil
	case class != retry.KindKeyState:
		return nil
	case a.keys.retired() && q.Source.ARN == "":
		return &slotKeyError{err: err} // the destination key has just been used
	}
	return a.unusable(ctx, q, err)
}

// isNamed reports whether source.keys names a key.
func (a *asker) isNamed(arn string) bool {
	for _, source := range a.keys.Sources {
		if source.ARN == arn && arn != "" {
			return true
		}
	}
	return false
}

// unusable returns a *slotKeyError if the key that cannot be used is the key of the ciphertext.
// A dry run shows this, if the server supports dry runs: it reaches the same hosts as the
// request. If the request names a key, such a server compares the keys first, so the error is
// about a key of the job.
func (a *asker) unusable(ctx context.Context, q Request, err error) error {
	dryRuns := false
	for _, source := range append([]Key{a.keys.Destination}, a.keys.usableSources()...) {
		known, refused := a.mayUse(ctx, source)
		if refused != nil {
			return nil
		}
		dryRuns = dryRuns || known
	}
	if dryRuns && q.Source.ARN != "" {
		return nil
	}
	if !dryRuns {
		if enabled, ok := a.jobKeys.enabled(ctx); !enabled && (ok || q.Source.ARN != "") {
			return nil
		}
	}
	return &slotKeyError{err: err}
}
