// Package answerlimit bounds what is read of the answers of services. Without a bound, a
// server that is broken, or is none of the service that was asked, can make the process
// take all memory of its machine.
//
// The limits are several times what the services send. Bodies are counted as they are read
// by the SDK: behind the decompression and without the framing of chunks. How long an
// answer takes is bounded by the time limit of the HTTP client.
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
	// Headers is for the head of an answer: status, headers, and the interim answers
	// before it. S3 has at most 8 KB of headers with 2 KB of metadata among them.
	Headers = 64 << 10
	// Body is for all bodies that are not named below.
	Body = 1 << 20
	// Scan is for a page of Scan, which ends at 1 MB of items, of which JSON makes ten
	// times as much at worst (lists of empty strings).
	Scan = 16 << 20
	// Batch is for an answer to BatchExecuteStatement, in which there may be 25 items whose
	// conditions failed, and Item for one item, which has at most 400 KB.
	Batch = 16 << 20
	Item  = 5 << 20
	// S3 is for answers of S3 that are no objects. A page of 1,000 keys of 1,024 bytes, each
	// with three characters for a byte, has about 4 MB.
	S3 = 8 << 20
	// ReEncrypt is for answers to ReEncrypt, which have at most some 10 KB.
	ReEncrypt = 128 << 10
)

// Answers are usually far below their limits, and there may be a thousand of them at the
// same time. So only few may be large at once.
const (
	// usual and usualScan are how much of an answer is read without a permit.
	usual     = 1 << 20
	usualScan = 4 << 20
	// permits is how many answers may be larger than that at once.
	permits = 2
)

// TooLongError says that an answer is longer than its limit. It is an error of the
// transport (net.Error): what the request came to is unknown.
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

// Allow lets limit bytes be read from now on. What names them in the error.
func (r *Reader) Allow(what string, limit int64) {
	r.what, r.limit, r.left, r.err = what, limit, limit, nil
}

// Err returns the error of a read that went beyond the limit since Allow: what a parser
// says of a text that was cut may be something else.
func (r *Reader) Err() error { return r.err }

// More lets n more bytes be read.
func (r *Reader) More(n int64) { r.left += n }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if int64(len(p)) > r.left {
		if r.left <= 0 {
			// An answer of exactly the limit ends here.
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

// Bounds bounds the bodies of the answers to all clients that use it. It is safe for
// concurrent use.
type Bounds struct{ permits chan struct{} }

// New returns Bounds.
func New() *Bounds { return &Bounds{permits: make(chan struct{}, permits)} }

// Install is an option of the SDK (aws.Config.APIOptions). It leaves the body of an object
// to the caller of GetObject.
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

// limitOf is the limit of an answer, 0 for none, and how much of it needs no permit.
func limitOf(service, operation string, status int) (limit, free int64) {
	succeeded := status >= 200 && status < 300
	switch service + "." + operation {
	case "S3.GetObject":
		if succeeded {
			return 0, 0
		}
	case "DynamoDB.Scan":
		if succeeded {
			return Scan, usualScan
		}
	case "DynamoDB.BatchExecuteStatement":
		return Batch, usual
	case "DynamoDB.GetItem", "DynamoDB.UpdateItem": // an error may hold the item
		return Item, usual
	case "KMS.ReEncrypt":
		return ReEncrypt, usual
	}
	if succeeded && service == "S3" {
		return S3, usual
	}
	return Body, usual
}

// body is the body of an answer with a limit.
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
