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

	"rotator/internal/awserr"
)

// Client is a KMS client. Its ReEncrypt does not build a middleware stack, and uses
// connections that have no goroutines. All other operations are those of the
// SDK. A Client is safe for concurrent use.
//
// The URL and the headers of a request are taken from the first ReEncrypt request of the SDK.
// Errors are those of the SDK. The SDK sends the request before that, if the call has options,
// if the request cannot be signed in the known way, and after a signature was refused, because
// the SDK corrects for the clock. The headers are then taken again, a few times. Middlewares in
// APIOptions do not see the requests of ReEncrypt.
type Client struct {
	*kms.Client
	fast *fastSender
}

// New returns a Client. The retries of cfg must be off. Failed is called with each error
// of a request that was not sent by the SDK; it may be nil. Most is the expected maximum
// number of concurrent requests, 0 if unknown.
func New(cfg aws.Config, failed func(error), most int) *Client {
	var l *fastSender
	sdk := kms.NewFromConfig(cfg, func(o *kms.Options) {
		l = newFastSender(o, failed, most)
		o.HTTPClient = l
	})
	return &Client{Client: sdk, fast: l}
}

// SetPermits sets the permits of requests that the SDK does not send. It must be called
// before the first request.
func (c *Client) SetPermits(p *Permits) { c.fast.permits = p }

// SetBegin sets the hook for requests that the SDK does not send. It must be called before
// the first request.
func (c *Client) SetBegin(begin Begin) { c.fast.begin = begin }

// ReEncrypt calls API_ReEncrypt.
func (c *Client) ReEncrypt(
	ctx context.Context, in *kms.ReEncryptInput, options ...func(*kms.Options),
) (*kms.ReEncryptOutput, error) {
	taken := time.Now()
	l := c.fast
	f := l.template.Load()
	if f == nil || len(options) > 0 || l.disabled.Load() ||
		in == nil || in.DestinationKeyId == nil { // the SDK returns an error for these
		return c.Client.ReEncrypt(ctx, in, options...)
	}
	out, request, err := l.send(ctx, f, in, taken)
	if errors.Is(err, errDisabled) {
		return c.Client.ReEncrypt(ctx, in)
	}
	if err != nil {
		l.failed(err)
		if clockOrSignature(err) {
			l.invalidate(f)
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
// the error for the caller. giveUp ends all requests in flight to the URL, as by a timeout; it
// is nil if they cannot be ended. Calls with the same URL have the same giveUp.
type Begin func(to *url.URL, giveUp func()) (end func(error) error, err error)

// fastSender sends the requests of a Client. It is safe for concurrent use.
type fastSender struct {
	credentials aws.CredentialsProvider
	sdk         kms.HTTPClient // sends the other requests
	failed      func(error)
	most        int // expected maximum number of concurrent requests
	permits     *Permits
	begin       Begin
	protocol    *awsjson.Protocol
	schema      *smithy.OperationSchema
	template    atomic.Pointer[requestTemplate]
	refusals    atomic.Int32 // of signatures
	disabled    atomic.Bool  // the SDK sends all requests
}

// requestTemplate holds the parts that all requests have in common.
type requestTemplate struct {
	*signing
	method    string
	url       *url.URL
	host      string
	header    http.Header
	sender    kms.HTTPClient
	giveUp    func()        // see Begin
	clockSkew time.Duration // clock skew: the SDK signs with a time that is later by this
}

func newFastSender(o *kms.Options, failed func(error), most int) *fastSender {
	if failed == nil {
		failed = func(error) {}
	}
	return &fastSender{
		credentials: o.Credentials,
		sdk:         o.HTTPClient,
		failed:      failed,
		most:        most,
		protocol:    awsjson.New11(schemas.TrentService),
		schema: smithy.NewOperationSchema(schemas.ReEncrypt, schemas.ReEncryptRequest,
			schemas.ReEncryptResponse),
	}
}

// maxRefusals is the number of refused signatures that can be caused by a wrong clock. After
// more, the SDK sends all requests.
const maxRefusals = 3

// invalidate makes the SDK send the next request, because the signature of a request from
// template f was refused.
func (l *fastSender) invalidate(f *requestTemplate) {
	if l.template.CompareAndSwap(f, nil) && l.refusals.Add(1) >= maxRefusals {
		l.disabled.Store(true)
	}
}

// clockOrSignature reports whether the service refused the signature or its time.
func clockOrSignature(err error) bool {
	return slices.Contains([]string{
		"AuthFailure",
		"IncompleteSignature",
		"IncompleteSignatureException",
		"InvalidSignatureException",
		"RequestExpired",
		"RequestInTheFuture",
		"RequestTimeTooSkewed",
		"SignatureDoesNotMatch",
	}, awserr.Code(err))
}

// targetHeader is the header with the operation of a request. reEncryptTarget is its value for
// ReEncrypt.
const (
	targetHeader    = "X-Amz-Target"
	reEncryptTarget = "TrentService.ReEncrypt"
)

// Do implements kms.HTTPClient for the requests of the SDK, and takes the template from them.
func (l *fastSender) Do(r *http.Request) (*http.Response, error) {
	if l.template.Load() == nil && r.Header.Get(targetHeader) == reEncryptTarget {
		l.learn(r)
	}
	return l.sdk.Do(r)
}

func (l *fastSender) learn(r *http.Request) {
	how, ok := newSigning(r)
	if !ok {
		l.disabled.Store(true)
		return
	}
	f := &requestTemplate{
		signing:   how,
		method:    r.Method,
		url:       r.URL,
		host:      r.Host,
		header:    r.Header.Clone(),
		sender:    l.senderTo(r.URL),
		clockSkew: clockSkewOf(time.Now(), r),
	}
	if direct, ok := f.sender.(*Direct); ok {
		f.giveUp = direct.GiveUp
	}
	for _, name := range []string{authHeader, dateHeader} {
		f.header.Del(name)
	}
	attempt, _, found := strings.Cut(f.header.Get(attemptHeader), "; ttl=")
	if found { // the deadline of that request
		f.header.Set(attemptHeader, attempt)
	}
	l.template.CompareAndSwap(nil, f)
}

// attemptHeader holds the number of the attempt, and may hold the deadline of the client
// (aws/retry, MetricsHeader).
const attemptHeader = "Amz-Sdk-Request"

// clockSkewOf returns the clock skew with which the SDK signed a request. It returns 0 for less
// than 10 s, which can be the time since the signature.
func clockSkewOf(now time.Time, r *http.Request) time.Duration {
	at, err := time.Parse(timeFormat, r.Header.Get(dateHeader))
	if ahead := at.Sub(now); err == nil && ahead.Abs() > 10*time.Second {
		return ahead
	}
	return 0
}

// senderTo returns the client for requests to target: a Direct if it can replace the client of
// the SDK, otherwise the client of the SDK.
func (l *fastSender) senderTo(target *url.URL) kms.HTTPClient {
	if client, ok := l.sdk.(*awshttp.BuildableClient); ok {
		timeout := cmp.Or(client.GetTimeout(), defaultTimeout)
		if direct := newDirect(target, client.GetTransport(), timeout, l.most); direct != nil {
			return direct
		}
	}
	return l.sdk
}

// defaultTimeout is the time limit of a request if the client sets none.
const defaultTimeout = time.Minute

// invocationHeader is the header with the random ID of a call.
const invocationHeader = "Amz-Sdk-Invocation-Id"

// errDisabled is the error of a request that was not sent, and that the SDK must send.
var errDisabled = errors.New("the SDK must send this request")

// send sends one request, with a permit that was taken at the given time. It also returns
// the request id of KMS.
func (l *fastSender) send(
	ctx context.Context, f *requestTemplate, in *kms.ReEncryptInput, taken time.Time,
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
		l.disabled.Store(true) // credentials of another kind than in the template
		return nil, "", errDisabled
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
		if end, err = l.begin(f.url, f.giveUp); err != nil {
			return nil, "", err
		}
	}
	out, request, err = l.deliver(ctx, f, message{header, body, credentials},
		l.permits.until(taken))
	return out, request, end(err)
}

// message is a request that is not yet signed.
type message struct {
	header      http.Header
	body        []byte
	credentials aws.Credentials
}

// deliver signs and sends a message. If its permit expires first, deliver takes another one.
func (l *fastSender) deliver(
	ctx context.Context, f *requestTemplate, m message, until time.Time,
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
		if n == maxRenewals {
			until = time.Time{}
		}
		f.sign(m.header, m.body, m.credentials, now.Add(f.clockSkew))
		out, request, err = l.receive(ctx, f, f.request(ctx, m), until)
		if !errors.Is(err, errLate) {
			return out, request, err
		}
	}
}

func (f *requestTemplate) request(ctx context.Context, m message) *http.Request {
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

// body returns the body of a request. The SDK writes the bodies that appendInput does not
// support.
func (l *fastSender) body(ctx context.Context, in *kms.ReEncryptInput) ([]byte, error) {
	if body, ok := appendInput(make([]byte, 0, sizeOf(in)), in); ok {
		return body, nil
	}
	request := &smithyhttp.Request{Request: &http.Request{
		URL:    &url.URL{Path: "/"},
		Header: http.Header{},
	}}
	if err := l.protocol.SerializeRequest(ctx, l.schema, in, request); err != nil {
		return nil, err
	}
	return io.ReadAll(request.GetStream())
}

// receive sends a request and reads its response. It returns the errors of the SDK.
func (l *fastSender) receive(
	ctx context.Context, f *requestTemplate, sent *http.Request, until time.Time,
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
	err = l.protocol.DeserializeResponse(ctx, l.schema, kms.TypeRegistry,
		&smithyhttp.Response{Response: &again}, out)
	if err != nil {
		return nil, "", responseError(answer, err)
	}
	return out, answer.Header.Get(requestHeader), nil
}

// bodyOf reads the body of a response, with one allocation if its length is known.
func bodyOf(answer *http.Response) ([]byte, error) {
	if answer.ContentLength < 0 || answer.ContentLength > maxBody {
		return readBody(answer.Body, answer.ContentLength)
	}
	text := make([]byte, answer.ContentLength)
	_, err := io.ReadFull(answer.Body, text)
	return text, err
}

func responseError(answer *http.Response, err error) error {
	return &awshttp.ResponseError{
		RequestID: answer.Header.Get(requestHeader),
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: answer},
			Err:      err,
		},
	}
}

// newID returns a random UUID.
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
