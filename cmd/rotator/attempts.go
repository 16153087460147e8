package main

import (
	"errors"
	"math"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"rotator/internal/awserr"
	"rotator/internal/outage"
)

// Every client has one of the retryers of this file. All figures are stated here, because
// the defaults of the SDK differ by service and change with its releases. AWS_MAX_ATTEMPTS
// and AWS_RETRY_MODE have no effect: LoadDefaultConfig does not read them if it is given a
// retryer.
const (
	// retryBase is the upper bound of the first delay. The SDK doubles the bound with each
	// attempt and chooses a random delay below it. After a throttling error the first bound
	// is 1 s.
	retryBase = 50 * time.Millisecond
	// retryMost is the upper bound of each delay. It is less than the 20 s of the SDK,
	// because leases depend on the requests to the checkpoint.
	retryMost = 2 * time.Second
	// mostAttempts is the number of attempts of fewAttempts.
	mostAttempts = 3
)

// singleAttempts returns the retryer of the clients of KMS and of targets. The SDK makes
// one attempt. The engine retries, because every attempt must pass a limiter.
func singleAttempts() aws.Retryer { return aws.NopRetryer{} }

// fewAttempts returns the retryer of the clients of STS, Service Quotas and the providers
// of credentials. Their requests are few and pass no limiter.
func fewAttempts() aws.Retryer { return standardAttempts(mostAttempts) }

// patientAttempts returns the retryer of the clients of a checkpoint. It retries until the
// context of the operation ends. The requests of a checkpoint are few and pass no limiter.
// During an outage the service gets one attempt a second, from all requests together.
func patientAttempts() aws.Retryer {
	return heldAttempts{standardAttempts(math.MaxInt32)} // 0 would mean 3
}

// heldAttempts delays a request that was held back until the next attempt is due.
type heldAttempts struct{ aws.RetryerV2 }

// RetryDelay implements aws.Retryer.
func (h heldAttempts) RetryDelay(attempt int, err error) (time.Duration, error) {
	var held *outage.HeldError
	if errors.As(err, &held) {
		return held.Delay(), nil
	}
	return h.RetryerV2.RetryDelay(attempt, err)
}

// standardAttempts returns a retryer without the SDK's bucket of retry tokens. The bucket
// would end retries too early if many requests fail at the same time. Every response with
// status 429 counts as throttling, as in the SDK's client of the container credentials
// endpoint.
func standardAttempts(most int) aws.RetryerV2 {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = most
		o.BaseDelay = retryBase
		o.MaxBackoff = retryMost
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables, retry.RetryableHTTPStatusCode{
			Codes: map[int]struct{}{http.StatusTooManyRequests: {}},
		})
		o.Throttles = append(o.Throttles, retry.IsErrorThrottleFunc(tooManyRequests))
	})
}

func tooManyRequests(err error) aws.Ternary {
	if awserr.Status(err) == http.StatusTooManyRequests {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}
