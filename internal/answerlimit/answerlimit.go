// Package answerlimit limits the size of the responses of services. Without a
// limit, a broken or wrong server could make the process use all memory.
//
// The limits are several times the size of the largest real responses.
// Bodies are counted as the SDK reads them: after decompression and without
// chunk framing. The timeout of the HTTP client limits the duration of a
// response.
package answerlimit

import (
	"context"
	"fmt"
	"io"
	"net"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// The limits in bytes.
const (
	// Headers is the limit of a response head: the status line, headers and
	// interim responses. S3 sends at most 8 KB of headers, including 2 KB of
	// metadata.
	Headers = 64 << 10
	// Body is the limit of all bodies that are not listed below.
	Body = 1 << 20
	// Scan is the limit of a page of Scan. A page has at most 1 MB of items, whose
	// JSON is at most ten times as long (lists of empty strings).
	Scan = 16 << 20
	// Batch is the limit of a response to BatchExecuteStatement, which may contain
	// 25 items whose conditions failed. Item is the limit for one item, which has
	// at most 400 KB.
	Batch = 16 << 20
	Item  = 5 << 20
	// S3 is the limit of S3 responses other than objects. A page of 1,000 keys of
	// 1,024 bytes, with three characters per byte, has about 4 MB.
	S3 = 8 << 20
	// ReEncrypt is the limit of responses to ReEncrypt, which have at most about
	// 10 KB.
	ReEncrypt = 128 << 10
)

// Responses are usually far below their limits, and a thousand may be read at
// the same time. Only a few of them may be large at the same time.
const (
	// normalSize and normalScanSize are the numbers of bytes that are read without a permit.
	normalSize     = 1 << 20
	normalScanSize = 4 << 20
	// permits is the maximum number of larger responses at the same time.
	permits = 2
)

// TooLongError reports that a response is longer than its limit. It is an error
// of the transport (net.Error): the outcome of the request is unknown.
type TooLongError struct {
	What  string // "the body of the response"
	Limit int64
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("%s is longer than the limit of %d bytes", e.What, e.Limit)
}

var _ net.Error = (*TooLongError)(nil)

// Timeout implements net.Error.
func (e *TooLongError) Timeout() bool { return false }

// Temporary implements net.Error.
func (e *TooLongError) Temporary() bool { return true }

// Reader reads at most a number of bytes, and then fails with *TooLongError.
type Reader struct {
	r     io.Reader
	what  string
	limit int64
	left  int64
	err   error
}

// NewReader returns a Reader with no bytes left.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Allow permits limit bytes to be read from now on. what names them in the
// error.
func (r *Reader) Allow(what string, limit int64) {
	r.what, r.limit, r.left, r.err = what, limit, limit, nil
}

// Err returns the *TooLongError of a read since Allow, or nil. The error of a
// parser that received the shortened text may be a different one.
func (r *Reader) Err() error { return r.err }

// More permits n more bytes to be read.
func (r *Reader) More(n int64) { r.left += n }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if int64(len(p)) > r.left {
		if r.left <= 0 {
			// A response of exactly the limit ends here.
			n, err := r.r.Read(make([]byte, min(1, len(p))))
			if n == 0 {
				return 0, err
			}
			r.err = &TooLongError{What: r.what, Limit: r.limit}
			return 0, r.err
		}
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.left -= int64(n)
	return n, err
}

// Bounds limits the bodies of the responses to all clients that share it. It is
// safe for concurrent use.
type Bounds struct{ permits chan struct{} }

// New returns Bounds.
func New() *Bounds { return &Bounds{permits: make(chan struct{}, permits)} }

// Install is an option of the SDK (aws.Config.APIOptions). It does not limit
// the body of an object; the caller of GetObject must do this.
func (b *Bounds) Install(stack *middleware.Stack) error {
	bound := middleware.DeserializeMiddlewareFunc("BoundAnswer", b.bound)
	return stack.Deserialize.Add(bound, middleware.After)
}

func (b *Bounds) bound(
	ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
) (middleware.DeserializeOutput, middleware.Metadata, error) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	response, ok := out.RawResponse.(*smithyhttp.Response)
	if !ok || response == nil || response.Body == nil {
		return out, metadata, err
	}
	service, operation := awsmiddleware.GetServiceID(ctx), awsmiddleware.GetOperationName(ctx)
	limit, free := limitOf(service, operation, response.StatusCode)
	if limit > 0 {
		limited := &body{
			Reader:  NewReader(response.Body),
			closer:  response.Body,
			ctx:     ctx,
			permits: b.permits,
			free:    free,
		}
		limited.Allow("the body of the response", limit)
		response.Body = limited
	}
	return out, metadata, err
}

// limitOf returns the limit of a response, or 0 for none, and the part that
// needs no permit.
func limitOf(service, operation string, status int) (limit, free int64) {
	succeeded := status >= 200 && status < 300
	switch service + "." + operation {
	case "S3.GetObject":
		if succeeded {
			return 0, 0
		}
	case "DynamoDB.Scan":
		if succeeded {
			return Scan, normalScanSize
		}
	case "DynamoDB.BatchExecuteStatement":
		return Batch, normalSize
	case "DynamoDB.GetItem", "DynamoDB.UpdateItem": // an error may contain the item
		return Item, normalSize
	case "KMS.ReEncrypt":
		return ReEncrypt, normalSize
	}
	if succeeded && service == "S3" {
		return S3, normalSize
	}
	return Body, normalSize
}

// body is the body of a response with a limit.
type body struct {
	*Reader
	closer  io.Closer
	ctx     context.Context // of the request
	permits chan struct{}
	free    int64 // bytes until a permit is needed
	holds   bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if !b.holds && b.free <= 0 {
		select {
		case b.permits <- struct{}{}:
			b.holds = true
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	if !b.holds && int64(len(p)) > b.free {
		p = p[:b.free]
	}
	n, err := b.Reader.Read(p)
	b.free -= int64(n)
	if err != nil {
		b.release()
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.release()
	return b.closer.Close()
}

func (b *body) release() {
	if b.holds {
		b.holds = false
		<-b.permits
	}
}
