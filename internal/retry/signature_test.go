package retry

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"

	"rotator/internal/flowcontrol"
)

// TestSignatureOfOneRequest: if the signature of one request is refused while others with the
// same credentials succeed, the slot fails. If no request succeeds, the credentials are wrong.
func TestSignatureOfOneRequest(t *testing.T) {
	refused := &smithy.GenericAPIError{Code: "SignatureDoesNotMatch"}
	for _, c := range []struct {
		others bool
		want   ErrorKind
		within time.Duration
	}{
		{true, KindUnexpected, 20 * time.Second},
		{false, KindCredentials, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := New(10*time.Minute, 30*time.Second, func(n int64) int64 { return n / 2 })
			read := func(ctx context.Context, err error) error {
				return r.Do(ctx, flowcontrol.Permit{}, Reading, "objects", func(
					context.Context,
				) error {
					return err
				})
			}
			_ = read(t.Context(), nil)
			ctx, cancel := context.WithCancel(t.Context())
			var others sync.WaitGroup
			others.Go(func() {
				for ctx.Err() == nil && c.others {
					time.Sleep(100 * time.Millisecond)
					_ = read(ctx, nil)
				}
			})
			began := time.Now()
			err := read(t.Context(), refused)
			took := time.Since(began)
			cancel()
			others.Wait()
			if Classify(err) != c.want || took > c.within || !errors.Is(err, refused) {
				t.Errorf("others %v: class %d after %v: %v", c.others, Classify(err), took, err)
			}
			if reason, _ := ReasonOf(err); reason != "signatureDoesNotMatch" {
				t.Errorf("the reason in the ledger is %q", reason)
			}
		})
	}
}
