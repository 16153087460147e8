package watch

import (
	"context"
	"fmt"
	"strings"

	"rotator/internal/awserr"
	"rotator/internal/retry"
)

// question is one kind of fact and the call that reads it.
type question struct {
	what       string // for the reader
	service    string
	permission string
}

func stateOfKey() question {
	return question{"the state of the key", "KMS", "kms:DescribeKey"}
}

func lastUse() question {
	return question{"the last use of the key", "KMS", "kms:GetKeyLastUsage"}
}

func grantsOfKey() question { return question{"the grants on the key", "KMS", "kms:ListGrants"} }

func aliasesOfKey() question {
	return question{"the aliases of the key", "KMS", "kms:ListAliases"}
}

func rotationOfKey() question {
	return question{"the rotation status of the key", "KMS", "kms:GetKeyRotationStatus"}
}

func materialsOfKey() question {
	return question{"the key materials", "KMS", "kms:ListKeyRotations"}
}

func callersOfKey() question {
	return question{"the callers of the key", "CloudTrail", "cloudtrail:LookupEvents"}
}

func timeOfDisabling() question {
	return question{"the time at which the key was disabled", "CloudTrail",
		"cloudtrail:LookupEvents"}
}

// ask makes a call and retries it. If it fails, ask adds an entry to what could not be seen of
// the key. The error is one that ends the round.
func (w *Watcher) ask(
	ctx context.Context, k *Key, about func() question, call func(context.Context) error,
) error {
	q := about()
	unseen, err := w.call(ctx, q, call)
	if unseen != nil {
		k.CannotSee = append(k.CannotSee, *unseen)
	}
	return err
}

// call makes a call and retries it. unseen is nil if the call succeeded. The error is one that
// ends the round.
func (w *Watcher) call(
	ctx context.Context, q question, call func(context.Context) error,
) (unseen *Unseen, err error) {
	var last error // of the service; that of WithRetry can be the end of the time
	err = retry.WithRetry(ctx, w.config.Patience, q.service, func(ctx context.Context) error {
		failed := call(ctx)
		if failed != nil && (last == nil || ctx.Err() == nil) {
			last = failed
		}
		return failed
	})
	switch {
	case err == nil:
		return nil, nil
	case ctx.Err() != nil:
		return nil, err
	case retry.Classify(last) == retry.KindCredentials:
		return nil, last
	}
	return q.unseen(last), nil
}

// unseen describes why the fact could not be read.
func (q question) unseen(err error) *Unseen {
	u := &Unseen{What: q.what, Permission: q.permission}
	switch code := awserr.Code(err); retry.Classify(err) {
	case retry.KindDenied:
		u.Reason = "access-denied"
		u.Sentence = fmt.Sprintf("access denied; allow %s%s", q.permission, q.where())
	case retry.KindThrottled:
		u.Reason = "throttled"
		u.Sentence = fmt.Sprintf("%s throttled %s until rotator gave up; ask again later",
			q.service, q.operation())
	case retry.KindTransient, retry.KindUnknown, retry.KindStopped:
		u.Reason = "no-answer"
		u.Sentence = fmt.Sprintf("%s gave no usable answer to %s; ask again later", q.service,
			q.operation())
	default:
		u.Reason = "error"
		if code != "" {
			u.Reason = code
			u.Sentence = fmt.Sprintf("%s refused %s: %s: %s", q.service, q.operation(), code,
				awserr.Message(err))
			break
		}
		u.Sentence = fmt.Sprintf("%s failed: %v", q.operation(), err)
	}
	return u
}

// operation returns the name of the call.
func (q question) operation() string {
	return q.permission[strings.IndexByte(q.permission, ':')+1:]
}

// where returns where the permission is granted, if this is not obvious.
func (q question) where() string {
	switch q.operation() {
	case "GetKeyLastUsage":
		return " in the key policy or in the IAM policy of the caller; it does not work for a " +
			"key of another account"
	case "ListAliases", "LookupEvents":
		return " on the resource *"
	}
	return ""
}
