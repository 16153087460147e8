package awsclient

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/schemas"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
)

// KMS sends ReEncrypt as kms.Client does, without the stack of some twenty
// middlewares that the client builds and walks for every call. It takes the form
// of its requests (URL, headers, what is signed) from the first one that the
// client sends, and the SDK's own protocol writes the body, reads the answer and
// makes the errors. Where it would not do the same, it leaves the call to the
// client: before that first request, when a request looks otherwise than it knows
// how to sign, and for good once a signature was refused, since the client corrects
// for a clock that is off.
//
// It is safe for concurrent use. The client's own retries must be off.
type KMS struct {
	client   *kms.Client
	options  kms.Options
	sender   kms.HTTPClient
	refused  func(error) // told of every error
	protocol *awsjson.Protocol
	schema   *smithy.OperationSchema
	form     atomic.Pointer[form]
	aside    atomic.Bool // all is left to the client
}

// form is what all requests have in common.
type form struct {
	*signing
	method string
	url    *url.URL
	host   string
	header http.Header
	sender kms.HTTPClient
}

// NewKMS makes a KMS over a client. Failed, which may be nil, is called with every
// error, as a middleware of the client would see it.
func NewKMS(client *kms.Client, failed func(error)) *KMS {
	if failed == nil {
		failed = func(error) {}
	}
	k := &KMS{client: client, options: client.Options(), sender: client.Options().HTTPClient, refused: failed, protocol: awsjson.New11(schemas.TrentService),
		schema: smithy.NewOperationSchema(schemas.ReEncrypt, schemas.ReEncryptRequest, schemas.ReEncryptResponse)}
	if wrapped, ok := k.sender.(OneWrite); ok { // which our bodies do not need
		k.sender = wrapped.Client
	}
	return k
}

// ReEncrypt is kms.Client.ReEncrypt: the same request, the same result, errors of
// the same types.
func (k *KMS) ReEncrypt(ctx context.Context, in *kms.ReEncryptInput, options ...func(*kms.Options)) (*kms.ReEncryptOutput, error) {
	f := k.form.Load()
	if f == nil || len(options) > 0 || k.aside.Load() || in.DestinationKeyId == nil {
		return k.client.ReEncrypt(ctx, in, append(slices.Clip(options), k.watch)...)
	}
	out, err := k.send(ctx, f, in)
	if err != nil {
		k.refused(err)
		if clockOrSignature(err) {
			k.aside.Store(true)
		}
		return nil, &smithy.OperationError{ServiceID: kms.ServiceID, OperationName: "ReEncrypt", Err: err}
	}
	return out, nil
}

// clockOrSignature says that the service took offence at the signature, or at the
// time in it.
func clockOrSignature(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains([]string{"InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed",
		"RequestExpired", "RequestInTheFuture", "AuthFailure", "IncompleteSignature", "IncompleteSignatureException"}, api.ErrorCode())
}

// watch has a request of the client looked at on its way out.
func (k *KMS) watch(o *kms.Options) {
	if k.form.Load() == nil {
		o.HTTPClient = watcher{next: o.HTTPClient, kms: k}
	}
}

// watcher learns the form of requests.
type watcher struct {
	next kms.HTTPClient
	kms  *KMS
}

// Do implements kms.HTTPClient.
func (w watcher) Do(r *http.Request) (*http.Response, error) {
	if how, ok := newSigning(r); ok {
		f := &form{signing: how, method: r.Method, url: r.URL, host: r.Host, header: r.Header.Clone()}
		for _, name := range []string{authHeader, dateHeader} {
			f.header.Del(name)
		}
		f.sender = w.kms.senderTo(r.URL)
		w.kms.form.CompareAndSwap(nil, f)
	} else {
		w.kms.aside.Store(true)
	}
	return w.next.Do(r)
}

// senderTo is what sends requests to a place: Direct where it can stand in for the
// SDK's own client, else that client.
func (k *KMS) senderTo(target *url.URL) kms.HTTPClient {
	if client, ok := k.sender.(*awshttp.BuildableClient); ok {
		if direct := newDirect(target, client.GetTransport(), cmp.Or(client.GetTimeout(), defaultTimeout)); direct != nil {
			return direct
		}
	}
	return k.sender
}

// defaultTimeout bounds a request where the client sets no limit.
const defaultTimeout = time.Minute

// invocationHeader tells the requests of different calls apart.
const invocationHeader = "Amz-Sdk-Invocation-Id"

// send makes one request.
func (k *KMS) send(ctx context.Context, f *form, in *kms.ReEncryptInput) (*kms.ReEncryptOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	request := &smithyhttp.Request{Request: &http.Request{URL: &url.URL{Path: "/"}, Header: http.Header{}}}
	if err := k.protocol.SerializeRequest(ctx, k.schema, in, request); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(request.GetStream())
	if err != nil {
		return nil, err
	}
	credentials, err := k.options.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("get identity: %w", err)
	}
	if (credentials.SessionToken != "") != slices.Contains(f.headers, "x-amz-security-token") {
		k.aside.Store(true) // other credentials than those that the form was learned from
		return nil, &smithyhttp.RequestSendError{Err: errors.New("the kind of credentials has changed")}
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
	f.sign(header, body, credentials, time.Now())
	sent := (&http.Request{Method: f.method, URL: f.url, Host: f.host, Header: header, ContentLength: int64(len(body)),
		Body: io.NopCloser(bytes.NewReader(body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	return k.receive(ctx, f, sent)
}

// receive sends a request and reads its answer, with errors as the SDK makes them.
func (k *KMS) receive(ctx context.Context, f *form, sent *http.Request) (*kms.ReEncryptOutput, error) {
	answer, err := f.sender.Do(sent)
	if err != nil {
		err = &smithyhttp.RequestSendError{Err: err}
		if ctx.Err() != nil {
			err = &smithy.CanceledError{Err: ctx.Err()}
		}
		return nil, responseError(&http.Response{Header: http.Header{}, Body: http.NoBody}, err)
	}
	out := &kms.ReEncryptOutput{}
	err = k.protocol.DeserializeResponse(ctx, k.schema, kms.TypeRegistry, &smithyhttp.Response{Response: answer}, out)
	_, _ = io.Copy(io.Discard, answer.Body) // so that the connection can be used again
	_ = answer.Body.Close()
	if err != nil {
		return nil, responseError(answer, err)
	}
	return out, nil
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
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
