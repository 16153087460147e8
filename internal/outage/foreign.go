package outage

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rotator/internal/awserr"
)

// ForeignError is the error of a response that another server sent in place of the service,
// such as a proxy or a load balancer.
type ForeignError struct {
	Status int   // HTTP status
	Err    error // of the SDK; nil if the SDK did not read the response
}

func (e *ForeignError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return e.cause()
}

func (e *ForeignError) Unwrap() error { return e.Err }

func (e *ForeignError) cause() string {
	return fmt.Sprintf("HTTP %d from another server, such as a proxy", e.Status)
}

// Foreign returns err, as a *ForeignError if it is the error of a response without an error
// code. KMS and DynamoDB send a code with every error. Server errors and responses to too many
// requests are returned unchanged, because they need no code to be understood.
func Foreign(err error) error {
	if code := awserr.Code(err); code != "" && code != awserr.UnknownCode {
		return err
	}
	status := awserr.Status(err)
	if status < http.StatusMultipleChoices || status >= http.StatusInternalServerError ||
		status == http.StatusTooManyRequests {
		return err
	}
	return &ForeignError{Status: status, Err: err}
}

// foreignObjects returns a middleware for the responses to an S3 operation. Without it, the SDK
// reads an HTML page as an empty list of objects, and the status 404 of a proxy as the response
// that an object does not exist. It leaves all other responses to the SDK: a source of
// credentials may refuse a request without XML, and a long body must be read up to its limit.
func foreignObjects(operation string) middleware.DeserializeMiddleware {
	return middleware.DeserializeMiddlewareFunc(middlewareID+"Foreign",
		func(ctx context.Context, in middleware.DeserializeInput,
			next middleware.DeserializeHandler,
		) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			response, ok := out.RawResponse.(*smithyhttp.Response)
			// A client of credentials inherits the service of the request that needs them.
			if err != nil || !ok || response == nil || response.Body == nil ||
				awsmiddleware.GetServiceID(ctx) != "S3" ||
				awsmiddleware.GetOperationName(ctx) != operation {
				return out, metadata, err
			}
			request, _ := in.Request.(*smithyhttp.Request)
			head := request != nil && request.Method == http.MethodHead
			if isForeign(response.Response, head, operation) {
				err = &ForeignError{Status: response.StatusCode}
			}
			return out, metadata, err
		})
}

// pageStart is the number of bytes at the beginning of a body in which an HTML page has its
// first element.
const pageStart = 512

// isForeign reports whether a response to an S3 request is one of another server. S3 names each
// request, and compatible servers send XML documents. Server errors are not examined.
func isForeign(r *http.Response, head bool, operation string) bool {
	succeeded := r.StatusCode < http.StatusMultipleChoices
	switch {
	case r.Header.Get("X-Amz-Request-Id") != "", r.Header.Get("X-Amzn-Requestid") != "",
		r.StatusCode >= http.StatusInternalServerError, r.StatusCode == http.StatusNotModified,
		r.StatusCode == http.StatusTooManyRequests:
		return false
	case head: // has no body, but the length of one
		return r.Header.Get("Etag") == "" && r.ContentLength > 0 &&
			strings.HasPrefix(r.Header.Get("Content-Type"), "text/html")
	case succeeded && operation == "GetObject" && r.Header.Get("Etag") != "":
		return false // an object may be an HTML page
	}
	reader := bufio.NewReaderSize(r.Body, pageStart)
	start, _ := reader.Peek(pageStart) // the next reader gets the error
	r.Body = struct {
		io.Reader
		io.Closer
	}{reader, r.Body}
	page := bytes.Contains(bytes.ToLower(start), []byte("<html"))
	text := bytes.TrimLeft(start, " \t\r\n\ufeff")
	return page || !succeeded && !bytes.HasPrefix(text, []byte("<"))
}
