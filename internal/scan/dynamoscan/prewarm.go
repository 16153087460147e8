package dynamoscan

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rotator/internal/scan/prewarm"
)

// maxHealth is the maximum number of bytes that are read from the response to a health
// check. A connection is kept only if the whole response was read.
const maxHealth = 64 << 10

// connect opens the connections that concurrent writes and scans can need. It opens none if
// the table has only one page, and it is called before the first write only.
//
// Each connection is opened by a GET request to the endpoint, which DynamoDB treats as a
// health check. The request is not signed, names no table, uses no capacity, and does not
// count as an API call. The status of the response is ignored.
func (t *Table) connect(ctx context.Context) {
	t.mu.Lock()
	pages, endpoint := t.severalPages, t.endpoint
	t.mu.Unlock()
	if !pages || endpoint == "" || t.config.Connections == 0 {
		return
	}
	client := t.config.Client.Options().HTTPClient
	prewarm.Connections(ctx, t.config.Connections, nil, func(ctx context.Context) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
		if err != nil {
			return
		}
		response, err := client.Do(request)
		if err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, response.Body, maxHealth)
		_ = response.Body.Close()
	})
}

// recordEndpoint is an option of a request that records the endpoint that the SDK resolved
// for it.
func (t *Table) recordEndpoint(o *dynamodb.Options) {
	record := middleware.FinalizeMiddlewareFunc("RecordEndpoint", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if request, ok := in.Request.(*smithyhttp.Request); ok {
			endpoint := url.URL{
				Scheme: request.URL.Scheme,
				Host:   request.URL.Host,
				Path:   request.URL.Path,
			}
			t.mu.Lock()
			t.endpoint = endpoint.String()
			t.mu.Unlock()
		}
		return next.HandleFinalize(ctx, in)
	})
	o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
		return stack.Finalize.Add(record, middleware.After) // after the endpoint is resolved
	})
}
