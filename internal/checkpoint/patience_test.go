package checkpoint

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// TestSetPatience: the maximum time of operations can change while another goroutine uses the
// store. The next operation has the new limit. The race detector checks the first part.
func TestSetPatience(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) testStore{
		"dynamodb": inDynamoDB,
		"s3":       inS3,
	} {
		t.Run(name, func(t *testing.T) {
			store := open(t).open()
			var reads sync.WaitGroup
			reads.Go(func() {
				for range 20 {
					if _, err := store.Fetch(t.Context(), "pass"); !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
				}
			})
			setter := store.(interface{ SetPatience(time.Duration) })
			setter.SetPatience(time.Minute)
			reads.Wait()
			setter.SetPatience(time.Nanosecond)
			_, err := store.Fetch(t.Context(), "pass")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Fetch with a limit of 1 ns: %v, want context.DeadlineExceeded", err)
			}
		})
	}
}
