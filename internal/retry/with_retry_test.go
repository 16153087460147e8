package retry

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestCauseIsNotTheTimeLimit: if the time limit of WithRetry ends the last attempt, the error names
// the failure of the attempts before, not the time limit.
func TestCauseIsNotTheTimeLimit(t *testing.T) {
	const limit = 5 * time.Second
	for want, refusedFor := range map[string]time.Duration{
		"connection refused": limit - time.Second, // then there is no response
		"no answer in time":  0,                   // there never is one
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := WithRetry(t.Context(), limit, "KMS", func(ctx context.Context) error {
				if time.Since(began) < refusedFor {
					return syscall.ECONNREFUSED
				}
				<-ctx.Done()
				return ctx.Err()
			})
			var stop *StopError
			if !errors.As(err, &stop) || stop.Kind != StopUnavailable ||
				!strings.Contains(err.Error(), want) {
				t.Errorf("after %v: %v, want %q", time.Since(began), err, want)
			}
		})
	}
}
