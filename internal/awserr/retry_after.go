package awserr

import (
	"strconv"
	"time"
)

const (
	// retryAfterHeader contains the time in milliseconds after which a failed request may be
	// sent again. Every AWS service can send it.
	retryAfterHeader = "X-Amz-Retry-After"
	// maxRetryAfter is the maximum time to wait because of the header, as in the retryer of
	// the SDK. After that, the next attempt shows whether the outage continues.
	maxRetryAfter = 5 * time.Second
)

// RetryAfter returns the time, at most retryAfterMost, that the service requests before the
// next attempt after the error err. It is 0 without a valid header.
func RetryAfter(err error) time.Duration {
	ms, invalid := strconv.ParseInt(Header(err, retryAfterHeader), 10, 64)
	if invalid != nil || ms < 0 {
		return 0
	}
	return time.Duration(min(ms, int64(maxRetryAfter/time.Millisecond))) * time.Millisecond
}
