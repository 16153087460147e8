package rotate_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/retry"
	"rotator/internal/rotate"
)

// TestRetryThatWaitsIsFencedOff: if the job starts another pass while a retry waits for its share
// of the rate, the retry ends with StopFenced. It must not end successfully, whichever of its
// goroutines reads the members first.
func TestRetryThatWaitsIsFencedOff(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			const lease = 6 * time.Second
			passes := checkpoint.NewPasses(checkpoint.NewMemory(), "job")
			pass, err := passes.Begin(t.Context(), 0, checkpoint.Pass{Status: checkpoint.Running})
			if err != nil {
				t.Fatal(err)
			}
			options := checkpoint.TrackOptions{Worker: "killed", Lease: lease}
			killed, err := passes.Track(t.Context(), pass, options)
			if err != nil {
				t.Fatal(err)
			}
			killed.Engage()
			ctx, kill := context.WithTimeout(t.Context(), time.Second)
			defer kill()
			if err := killed.Run(ctx, ctx.Done()); err != nil {
				t.Fatal(err)
			}
			observer, err := passes.ObservePass(t.Context(), pass.Number, "retry", lease)
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Second, func() {
				next, err := passes.Restart(context.Background(), pass)
				if err == nil {
					_, err = passes.ObservePass(context.Background(), next.Number, "next", lease)
				}
				if err != nil {
					t.Error(err)
				}
			})
			engine := rotate.New(rotate.Config{Rate: 100, Keys: simKeys()})
			err = engine.Retry(t.Context(), passes, pass, observer)
			stop := (*retry.StopError)(nil)
			if !errors.As(err, &stop) || stop.Kind != retry.StopFenced {
				t.Errorf("the retry ends with %v", err)
			}
		})
	}
}
