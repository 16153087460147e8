package outage

import (
	"context"
	"net/url"
	"strings"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const middlewareID = "Outage"

// longBody is the length in bytes from which a request body makes a request a long one.
const longBody = 256 << 10

// Install returns an option of the SDK (aws.Config.APIOptions) that passes the requests to
// KMS, DynamoDB and S3 through gates, and paces requests for credentials. use is the purpose
// of requests that pass no rate limiter, such as "checkpoint". The error of such an operation
// states the last failure if its context ends during an outage. A later option replaces an
// earlier one.
func (m *Monitor) Install(use string) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		if use != "" {
			if err := stack.Initialize.Add(lastFailures(), middleware.Before); err != nil {
				return err
			}
		}
		if err := addInner(stack); err != nil {
			return err
		}
		through := middleware.DeserializeMiddlewareFunc(middlewareID,
			func(ctx context.Context, in middleware.DeserializeInput,
				next middleware.DeserializeHandler,
			) (middleware.DeserializeOutput, middleware.Metadata, error) {
				return m.through(ctx, in, next, stack.ID(), use)
			})
		if _, ok := stack.Deserialize.Get(middlewareID); ok {
			_, err := stack.Deserialize.Swap(middlewareID, through)
			return err
		}
		return stack.Deserialize.Add(through, middleware.Before)
	}
}

// addInner adds the middlewares for responses that the SDK has not read.
func addInner(stack *middleware.Stack) error {
	inner := []middleware.DeserializeMiddleware{foreignObjects(stack.ID()), arrivals()}
	for _, m := range inner {
		if _, ok := stack.Deserialize.Get(m.ID()); ok {
			continue
		}
		if err := stack.Deserialize.Add(m, middleware.After); err != nil {
			return err
		}
	}
	return nil
}

func (m *Monitor) through(
	ctx context.Context, in middleware.DeserializeInput,
	next middleware.DeserializeHandler, operation, use string,
) (out middleware.DeserializeOutput, metadata middleware.Metadata, err error) {
	request, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return next.HandleDeserialize(ctx, in)
	}
	service := awsmiddleware.GetServiceID(ctx)
	// A client of credentials inherits the values of the request that needs them.
	nested := awsmiddleware.GetOperationName(ctx) != operation
	switch {
	case nested, service == "STS", service == "SSO", service == "SSO OIDC":
		return m.paced(ctx, in, next, request.URL.Host)
	case service != "KMS" && service != "DynamoDB" && service != "S3":
		return next.HandleDeserialize(ctx, in)
	}
	choose := m.Gate
	if use != "" {
		choose = m.RareGate
	}
	name := Name(service, request.URL)
	gate := choose(name, requestsOf(service, operation, use)).At(request.URL)
	sent, cancel := context.WithCancel(ctx)
	var attempt Attempt
	if request.ContentLength > longBody || takesLong(operation) {
		attempt, err = gate.Begin(true)
	} else {
		attempt, err = gate.BeginFor(cancel)
	}
	if err == nil {
		out, metadata, err = next.HandleDeserialize(
			context.WithValue(sent, attemptKey{}, attempt), in)
		if service != "S3" {
			err = Foreign(err)
		}
		err = attempt.End(err)
	}
	if err != nil || !gate.watchBody(out, cancel) {
		cancel()
	}
	m.noteFailure(ctx, name, err)
	return out, metadata, err
}

// takesLong reports whether a service may need a long time to respond to an operation.
func takesLong(operation string) bool {
	switch operation {
	case "CopyObject", "UploadPartCopy", "CompleteMultipartUpload":
		return true
	}
	return false
}

// requestsOf names the kind of an operation. Reads and writes have separate gates,
// because a service may respond to only one of them.
func requestsOf(service, operation, use string) string {
	if service == "KMS" {
		return use
	}
	kind := "writes"
	for _, verb := range []string{"Get", "List", "Head", "Describe", "Scan", "Query"} {
		if strings.HasPrefix(operation, verb) {
			kind = "reads"
		}
	}
	if use != "" {
		kind = use + " " + kind
	}
	return kind
}

// Name names a service by its endpoint: "KMS at http://127.0.0.1:4566". Buckets of one
// Region are one service.
func Name(service string, endpoint *url.URL) string {
	host := endpoint.Host
	if service == "S3" && strings.Contains(host, ".amazonaws.com") {
		labels := strings.Split(host, ".")
		for i, label := range labels {
			if label == "s3" || strings.HasPrefix(label, "s3-") {
				host = strings.Join(labels[i:], ".")
				break
			}
		}
	}
	if endpoint.Scheme == "http" || endpoint.Port() != "" {
		host = endpoint.Scheme + "://" + host
	}
	return service + " at " + host
}
