package awserr

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// responseError returns the error of a response whose header requests a delay.
func responseError(value string) error {
	header := http.Header{}
	if value != "" {
		header.Set("x-amz-retry-after", value)
	}
	return fmt.Errorf("wrapped: %w", &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{Header: header}},
			Err:      errors.New("no"),
		},
	})
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":                     0,
		"0":                    0,
		"1500":                 1500 * time.Millisecond,
		"3600000":              maxRetryAfter,
		"9223372036854775807":  maxRetryAfter,
		"-1":                   0,
		"1.5":                  0,
		"soon":                 0,
		"99999999999999999999": 0,
	} {
		if got := RetryAfter(responseError(value)); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	if got := RetryAfter(errors.New("no response")); got != 0 {
		t.Errorf("without a response: %s", got)
	}
}
