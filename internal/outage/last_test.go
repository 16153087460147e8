package outage

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"
)

// readsFail refuses reads, and responds to no write.
type readsFail struct{}

func (readsFail) Do(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GetItem") {
		return nil, errAway
	}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestLastFailureOfOtherRequests: the context of a write ends before its first attempt has failed.
// Its error names the failure of the reads from the same service, if there is an outage.
func TestLastFailureOfOtherRequests(t *testing.T) {
	for name, reads := range map[string]int{"outage of reads": 2, "no outage": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, stop := newTestService(t, 0)
				defer stop()
				client := dynamodb.NewFromConfig(aws.Config{
					Region:      "eu-west-1",
					HTTPClient:  readsFail{},
					Credentials: aws.AnonymousCredentials{},
					Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
					APIOptions:  []func(*middleware.Stack) error{w.Install("checkpoint")},
				})
				for range reads {
					_, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{
						TableName: aws.String("t"), Key: map[string]types.AttributeValue{},
					})
					if !errors.Is(err, errAway) {
						t.Fatalf("a read: %v", err)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
				_, err := client.PutItem(ctx, &dynamodb.PutItemInput{
					TableName: aws.String("t"), Item: map[string]types.AttributeValue{},
				})
				var over *OverError
				if errors.As(err, &over) != (reads > 0) || !errors.Is(err, ctx.Err()) {
					t.Fatalf("a write: %v", err)
				}
				if over == nil {
					return
				}
				service, last := over.Last()
				if !strings.HasPrefix(service, "DynamoDB at ") || !errors.Is(last, errAway) {
					t.Errorf("the last failure: %q, %v", service, last)
				}
			})
		})
	}
}
