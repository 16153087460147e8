package rotate

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// asked is the error of a response whose header requests a delay.
func asked(value string) error {
	header := http.Header{}
	if value != "" {
		header.Set("x-amz-retry-after", value)
	}
	return fmt.Errorf("wrapped: %w", &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{Header: header}},
		Err:      errors.New("no"),
	}})
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":                     0,
		"0":                    0,
		"1500":                 1500 * time.Millisecond,
		"3600000":              retryAfterMost,
		"9223372036854775807":  retryAfterMost,
		"-1":                   0,
		"1.5":                  0,
		"soon":                 0,
		"99999999999999999999": 0,
	} {
		if got := retryAfter(asked(value)); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	if got := retryAfter(errors.New("no response")); got != 0 {
		t.Errorf("without a response: %s", got)
	}
}

// TestLimiterHeedsRetryAfter: if most requests fail, no request passes until the time that
// the service states, with and without a rate. If most requests succeed, all others pass.
func TestLimiterHeedsRetryAfter(t *testing.T) {
	for _, rate := range []float64{1000, math.Inf(1)} {
		for class, served := range map[Class]int{
			ClassThrottled: 0,
			ClassUnknown:   0,
			ClassTransient: 100,
			ClassNone:      100, // throttled, see below
		} {
			name := fmt.Sprintf("rate %v, class %d, %d served", rate, class, served)
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					limiter := NewLimiter(rate)
					for range served {
						limiter.Passed()
						time.Sleep(time.Millisecond)
					}
					if class == ClassNone {
						class = ClassThrottled
					}
					limiter.heed(class, asked("2000"))
					began := time.Now()
					if limiter.Free() && served == 0 || limiter.Try(1) && served == 0 {
						t.Error("a request passes without waiting")
					}
					if err := limiter.Wait(t.Context()); err != nil {
						t.Fatal(err)
					}
					waited := time.Since(began)
					if held := waited >= 2*time.Second; held != (served == 0) || waited > 2*time.Second {
						t.Errorf("the next request waited %s after %d were served", waited, served)
					}
				})
			})
		}
	}
}
