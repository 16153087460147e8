package copies

import (
	"context"
	"fmt"
	"strings"

	"rotator/internal/awserr"
	"rotator/internal/retry"
)

// call is one operation of a service.
type call struct {
	service    string // "S3"
	operation  string
	permission string // the IAM action
}

func s3Call(operation, action string) call { return call{"S3", operation, "s3:" + action} }

func tableCall(operation string) call {
	return call{"DynamoDB", operation, "dynamodb:" + operation}
}

// unseen is why a fact could not be read.
type unseen struct {
	permission string // the missing one, or ""
	sentence   string
}

// mark sets the state of a row whose call failed.
func (u *unseen) mark(r *Row) {
	r.State, r.MissingPermission, r.Detail = CannotSee, u.permission, u.sentence
}

// ask makes a call and retries it. why is nil if it succeeded. The error is one that ends the
// whole report.
func (f *finder) ask(
	ctx context.Context, c call, do func(context.Context) error,
) (why *unseen, err error) {
	var last error // of the service; that of WithRetry can be the end of the time
	err = retry.WithRetry(ctx, f.Patience, c.service, func(ctx context.Context) error {
		failed := do(ctx)
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
	return c.unseen(last), nil
}

// askRow is ask for a call without which the row cannot be filled in.
func (f *finder) askRow(
	ctx context.Context, r *Row, c call, do func(context.Context) error,
) (done bool, err error) {
	if r.API == "" {
		r.API = c.operation
	}
	why, err := f.ask(ctx, c, do)
	if why != nil {
		why.mark(r)
	}
	return why == nil && err == nil, err
}

// unseen describes why a call failed.
func (c call) unseen(err error) *unseen {
	code := awserr.Code(err)
	switch retry.Classify(err) {
	case retry.KindDenied:
		return &unseen{c.permission, "Access denied; allow " + c.permission + "."}
	case retry.KindThrottled:
		return &unseen{"", fmt.Sprintf("%s throttled %s until rotator gave up; try again later.",
			c.service, c.operation)}
	case retry.KindTransient, retry.KindUnknown, retry.KindStopped:
		return &unseen{"", fmt.Sprintf("%s gave no usable answer to %s; try again later.",
			c.service, c.operation)}
	}
	if code == "" {
		return &unseen{"", fmt.Sprintf("%s failed: %v", c.operation, err)}
	}
	return &unseen{"", fmt.Sprintf("%s refused %s: %s: %s", c.service, c.operation, code,
		strings.TrimSuffix(awserr.Message(err), "."))}
}

// hasCode reports whether a service answered that there is no such configuration.
func hasCode(err error, code string) bool { return err != nil && awserr.Code(err) == code }
