// Package fastkms sends ReEncrypt requests with less CPU time than the AWS SDK. The
// requests are the same, except for the order of headers. Without it, rotator works in
// the same way but slower.
package fastkms

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/schemas"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
)

// Client is a KMS client. Its ReEncrypt does not build a middleware stack, and uses
// connections without goroutines of their own. All other operations are those of the
// SDK. A Client is safe for concurrent use.
//
// The form of a request (URL, headers, signed headers) is learned from the first
// ReEncrypt request of the SDK. Errors are those of the SDK. A call is left to the SDK
// before that first request, if the call has options, if a request cannot be signed in
// the known way, and after a signature was refused, because the SDK corrects for the
// clock. The form is then learned again, a few times. Middlewares in APIOptions do not
// see the requests of ReEncrypt.
type Client struct {
	*kms.Client
	light *light
}

// New returns a Client. The retries of cfg must be off. Failed is called with each error
// of a request that was not sent by the SDK; it may be nil. Most is the expected maximum
// number of concurrent requests, 0 if unknown.
func New(cfg aws.Config, failed func(error), most int) *Client {
	var l *light
	sdk := kms.NewFromConfig(cfg, func(o *kms.Options) {
		l = newLight(o, failed, most)
		o.HTTPClient = l
	})
	return &Client{Client: sdk, light: l}
}

// SetPermits sets the permits of requests that the SDK does not send. It must be called
// before the first request.
func (c *Client) SetPermits(p *Permits) { c.light.permits = p }

// SetBegin sets the hook for requests that the SDK does not send. It must be called before
// the first request.
func (c *Client) SetBegin(begin Begin) { c.light.begin = begin }

// ReEncrypt calls API_ReEncrypt.
func (c *Client) ReEncrypt(
	ctx context.Context, in *kms.ReEncryptInput, options ...func(*kms.Options),
) (*kms.ReEncryptOutput, error) {
	taken := time.Now()
	l := c.light
	f := l.form.Load()
	if f == nil || len(options) > 0 || l.aside.Load() ||
		in == nil || in.DestinationKeyId == nil { // the SDK returns an error for these
		return c.Client.ReEncrypt(ctx, in, options...)
	}
	out, request, err := l.send(ctx, f, in, taken)
	if errors.Is(err, errAside) {
		return c.Client.ReEncrypt(ctx, in)
	}
	if err != nil {
		l.failed(err)
		if clockOrSignature(err) {
			l.doubt(f)
		}
		return nil, &smithy.OperationError{
			ServiceID:     kms.ServiceID,
			OperationName: "ReEncrypt",
			Err:           err,
		}
	}
	if request != "" {
		awsmiddleware.SetRequestIDMetadata(&out.ResultMetadata, request)
	}
	return out, nil
}

// Begin is called before a request to a URL is sent. If it returns an error, the request
// is not sent. Otherwise end is called with the error of the request, or nil, and returns
// the error for the caller.
type Begin func(to *url.URL) (end func(error) error, err error)

// light sends the requests of a Client. It is safe for concurrent use.
type light struct {
	credentials aws.CredentialsProvider
	sdk         kms.HTTPClient // which sends what light does not
	failed      func(error)
	most        int // requests at once
	permits     *Permits
	begin       Begin
	protocol    *awsjson.Protocol
	schema      *smithy.OperationSchema
	form        atomic.Pointer[form]
	refusals    atomic.Int32 // of signatures
	aside       atomic.Bool  // all is left to the SDK
}

// form is what all requests have in common.
type form struct {
	*signing
	method string
	url    *url.URL
	host   string
	header http.Header
	sender kms.HTTPClient
	ahead  time.Duration // how much later than our clock the SDK signs
}

func newLight(o *kms.Options, failed func(error), most int) *light {
	if failed == nil {
		failed = func(error) {}
	}
	return &light{credentials: o.Credentials, sdk: o.HTTPClient, failed: failed, most: most, protocol: awsjson.New11(schemas.TrentService),
		schema: smithy.NewOperationSchema(schemas.ReEncrypt, schemas.ReEncryptRequest, schemas.ReEncryptResponse)}
}

// mostRefusals of signatures are taken for a clock that is off.
const mostRefusals = 3

// doubt leaves the next request to the SDK, after the signature of one in form f was
// refused.
func (l *light) doubt(f *form) {
	if l.form.CompareAndSwap(f, nil) && l.refusals.Add(1) >= mostRefusals {
		l.aside.Store(true)
	}
}

// clockOrSignature says that the service took offence at the signature, or at the
// time in it.
func clockOrSignature(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains([]string{"InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed",
		"RequestExpired", "RequestInTheFuture", "AuthFailure", "IncompleteSignature", "IncompleteSignatureException"}, api.ErrorCode())
}

// targetHeader names the operation of a request, and reEncryptTarget ours.
const (
	targetHeader    = "X-Amz-Target"
	reEncryptTarget = "TrentService.ReEncrypt"
)

// Do implements kms.HTTPClient for the requests that the SDK sends, and learns their
// form.
func (l *light) Do(r *http.Request) (*http.Response, error) {
	if l.form.Load() == nil && r.Header.Get(targetHeader) == reEncryptTarget {
		l.learn(r)
	}
	return l.sdk.Do(r)
}

func (l *light) learn(r *http.Request) {
	how, ok := newSigning(r)
	if !ok {
		l.aside.Store(true)
		return
	}
	f := &form{signing: how, method: r.Method, url: r.URL, host: r.Host, header: r.Header.Clone(), sender: l.senderTo(r.URL), ahead: aheadOf(time.Now(), r)}
	for _, name := range []string{authHeader, dateHeader} {
		f.header.Del(name)
	}
	if attempt, _, found := strings.Cut(f.header.Get(attemptHeader), "; ttl="); found { // when that request was given up
		f.header.Set(attemptHeader, attempt)
	}
	l.form.CompareAndSwap(nil, f)
}

// attemptHeader says which attempt a request is, and may say when its client gives up
// (aws/retry, MetricsHeader).
const attemptHeader = "Amz-Sdk-Request"

// aheadOf is how much later than now a request was signed, where that is more than the
// moments between: the SDK then knows that the service's clock is another.
func aheadOf(now time.Time, r *http.Request) time.Duration {
	at, err := time.Parse(timeFormat, r.Header.Get(dateHeader))
	if ahead := at.Sub(now); err == nil && ahead.Abs() > 10*time.Second {
		return ahead
	}
	return 0
}

// senderTo is what sends requests to a place: Direct where it can stand in for the
// SDK's own client, else that client.
func (l *light) senderTo(target *url.URL) kms.HTTPClient {
	if client, ok := l.sdk.(*awshttp.BuildableClient); ok {
		if direct := newDirect(target, client.GetTransport(), cmp.Or(client.GetTimeout(), defaultTimeout), l.most); direct != nil {
			return direct
		}
	}
	return l.sdk
}

// defaultTimeout bounds a request where the client sets no limit.
const defaultTimeout = time.Minute

// invocationHeader tells the requests of different calls apart.
const invocationHeader = "Amz-Sdk-Invocation-Id"

// errAside leaves a request, of which nothing was sent, to the SDK.
var errAside = errors.New("left to the SDK")

// send sends one request, with a permit that was taken at the given time. It also returns
// the request id of KMS.
func (l *light) send(
	ctx context.Context, f *form, in *kms.ReEncryptInput, taken time.Time,
) (out *kms.ReEncryptOutput, request string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	body, err := l.body(ctx, in)
	if err != nil {
		return nil, "", err
	}
	credentials, err := l.credentials.Retrieve(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("get identity: %w", err)
	}
	if (credentials.SessionToken != "") != slices.Contains(f.headers, "x-amz-security-token") {
		l.aside.Store(true) // other credentials than those that the form was learned from
		return nil, "", errAside
	}
	header := make(http.Header, len(f.header)+2)
	for name, values := range f.header {
		header[name] = values
	}
	if _, ok := header[invocationHeader]; ok {
		header[invocationHeader] = []string{newID()}
	}
	if credentials.SessionToken != "" {
		header[tokenHeader] = []string{credentials.SessionToken}
	}
	end := func(err error) error { return err }
	if l.begin != nil {
		if end, err = l.begin(f.url); err != nil {
			return nil, "", err
		}
	}
	out, request, err = l.deliver(ctx, f, message{header, body, credentials}, l.permits.until(taken))
	return out, request, end(err)
}

// message is a request that is not yet signed.
type message struct {
	header      http.Header
	body        []byte
	credentials aws.Credentials
}

// deliver signs and sends a message. If its permit expires first, deliver takes another one.
func (l *light) deliver(
	ctx context.Context, f *form, m message, until time.Time,
) (out *kms.ReEncryptOutput, request string, err error) {
	for n := 0; ; n++ {
		now := time.Now()
		if !until.IsZero() && now.After(until) {
			if err := l.permits.Renew(ctx); err != nil {
				return nil, "", err
			}
			now = time.Now()
			until = l.permits.until(now)
		}
		if n == mostRenewals {
			until = time.Time{}
		}
		f.sign(m.header, m.body, m.credentials, now.Add(f.ahead))
		out, request, err = l.receive(ctx, f, f.request(ctx, m), until)
		if !errors.Is(err, errLate) {
			return out, request, err
		}
	}
}

func (f *form) request(ctx context.Context, m message) *http.Request {
	return (&http.Request{
		Method:        f.method,
		URL:           f.url,
		Host:          f.host,
		Header:        m.header,
		ContentLength: int64(len(m.body)),
		Body:          io.NopCloser(bytes.NewReader(m.body)),
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
	}).WithContext(ctx)
}

// body writes the body of a request; the SDK writes those that appendInput does not.
func (l *light) body(ctx context.Context, in *kms.ReEncryptInput) ([]byte, error) {
	if body, ok := appendInput(make([]byte, 0, sizeOf(in)), in); ok {
		return body, nil
	}
	request := &smithyhttp.Request{Request: &http.Request{URL: &url.URL{Path: "/"}, Header: http.Header{}}}
	if err := l.protocol.SerializeRequest(ctx, l.schema, in, request); err != nil {
		return nil, err
	}
	return io.ReadAll(request.GetStream())
}

// receive sends a request and reads its answer, with errors as the SDK makes them.
func (l *light) receive(
	ctx context.Context, f *form, sent *http.Request, until time.Time,
) (out *kms.ReEncryptOutput, request string, err error) {
	answer, err := l.do(f, sent, until)
	if errors.Is(err, errLate) {
		return nil, "", err
	}
	if err != nil {
		err = &smithyhttp.RequestSendError{Err: err}
		if ctx.Err() != nil {
			err = &smithy.CanceledError{Err: ctx.Err()}
		}
		return nil, "", responseError(&http.Response{Header: http.Header{}, Body: http.NoBody}, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := bodyOf(answer)
	if err != nil {
		return nil, "", responseError(answer, &smithy.DeserializationError{Err: err})
	}
	out = &kms.ReEncryptOutput{}
	if answer.StatusCode == http.StatusOK && parseOutput(text, out) {
		return out, answer.Header.Get(requestHeader), nil
	}
	*out = kms.ReEncryptOutput{}
	again := *answer
	again.Body = io.NopCloser(bytes.NewReader(text))
	if err := l.protocol.DeserializeResponse(ctx, l.schema, kms.TypeRegistry, &smithyhttp.Response{Response: &again}, out); err != nil {
		return nil, "", responseError(answer, err)
	}
	return out, answer.Header.Get(requestHeader), nil
}

// bodyOf reads the body of an answer, at once where its length was told.
func bodyOf(answer *http.Response) ([]byte, error) {
	if answer.ContentLength < 0 || answer.ContentLength > mostAnswer {
		return readBody(answer.Body, answer.ContentLength)
	}
	text := make([]byte, answer.ContentLength)
	_, err := io.ReadFull(answer.Body, text)
	return text, err
}

func responseError(answer *http.Response, err error) error {
	return &awshttp.ResponseError{RequestID: answer.Header.Get("X-Amzn-Requestid"),
		ResponseError: &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: answer}, Err: err}}
}

// newID is a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	id := make([]byte, 0, 36)
	for _, part := range [][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if len(id) > 0 {
			id = append(id, '-')
		}
		id = hex.AppendEncode(id, part)
	}
	return string(id)
}
