package fastkms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"rotator/internal/retry"
)

// receivedRequest is a request as the server received it.
type receivedRequest struct {
	request *http.Request
	body    []byte
}

// counter is a server that sends the same response to every request and stores the last request.
type counter struct {
	mu     sync.Mutex
	all    []receivedRequest
	status int
	body   string
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, receivedRequest{request: r, body: body})
	w.Header().Set("X-Amzn-Requestid", "an-id")
	w.WriteHeader(c.status)
	_, _ = io.WriteString(w, c.body)
}

func (c *counter) last() receivedRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[len(c.all)-1]
}

func (c *counter) answer(status int, body string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.body = status, body
}

const served = `{"CiphertextBlob":"AQID","KeyId":"arn:to","SourceKeyId":"arn:from",` +
	`"SourceKeyMaterialId":"m\u0041","DestinationEncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`

// configOf returns the configuration for a server, with static credentials.
func configOf(server, token string) aws.Config {
	return aws.Config{
		Region:       "eu-central-1",
		BaseEndpoint: aws.String(server),
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", token),
		HTTPClient:   awshttp.NewBuildableClient(),
	}
}

// pair returns a client of the SDK and a Client for the same server.
func pair(t testing.TB, token string, failed func(error)) (
	server *counter, sdk *kms.Client, own *Client, l *fastSender,
) {
	server = &counter{status: http.StatusOK, body: served}
	at := httptest.NewServer(server)
	t.Cleanup(at.Close)
	cfg := configOf(at.URL, token)
	sdk = kms.NewFromConfig(cfg)
	own = New(cfg, failed, 0)
	l = own.fast
	first := &kms.ReEncryptInput{CiphertextBlob: []byte{1}, DestinationKeyId: aws.String("k")}
	if _, err := own.ReEncrypt(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	if l.template.Load() == nil || l.disabled.Load() {
		t.Fatal("there is no request template")
	}
	if _, ok := l.template.Load().sender.(*Direct); !ok {
		t.Fatalf("requests are sent by a %T", l.template.Load().sender)
	}
	return server, sdk, own, l
}

// TestSameRequests: a Client sends the same requests as the SDK, except for the ID of the call and
// the time. The signer of the SDK computes the same signature for that time.
func TestSameRequests(t *testing.T) {
	for _, token := range []string{"", "a-session-token"} {
		server, client, own, l := pair(t, token, nil)
		rapid.Check(t, func(t *rapid.T) {
			in := input(t)
			want, err := client.ReEncrypt(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			sdk := server.last()
			got, err := own.ReEncrypt(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			own := server.last()
			id, _ := awsmiddleware.GetRequestIDMetadata(got.ResultMetadata)
			theirID, _ := awsmiddleware.GetRequestIDMetadata(want.ResultMetadata)
			if id == "" || id != theirID {
				t.Fatalf("the request id is %q, but %q with the SDK", id, theirID)
			}
			want.ResultMetadata = middleware.Metadata{} // only the SDK sets it
			got.ResultMetadata = middleware.Metadata{}
			if d := cmp.Diff(want, got,
				cmpopts.IgnoreUnexported(kms.ReEncryptOutput{}, middleware.Metadata{})); d != "" {
				t.Fatal(d)
			}
			if !bytes.Equal(own.body, sdk.body) {
				t.Fatalf("%s\nbut the SDK sends\n%s", own.body, sdk.body)
			}
			compare(t, own, sdk, token)
		})
		if l.disabled.Load() {
			t.Fatal("the SDK sent the last requests")
		}
	}
}

// input draws a request. Contexts have at most one pair, because the order of pairs is
// undefined.
func input(t *rapid.T) *kms.ReEncryptInput {
	in := &kms.ReEncryptInput{CiphertextBlob: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "blob"),
		DestinationKeyId: aws.String(rapid.StringN(1, 20, -1).Draw(t, "key"))}
	if rapid.Bool().Draw(t, "pinned") {
		in.SourceKeyId = aws.String(rapid.String().Draw(t, "source"))
		in.SourceEncryptionAlgorithm = "SYMMETRIC_DEFAULT"
	}
	if rapid.Bool().Draw(t, "context") {
		in.SourceEncryptionContext = map[string]string{
			rapid.String().Draw(t, "name"): rapid.String().Draw(t, "value"),
		}
		in.DestinationEncryptionContext = in.SourceEncryptionContext
	}
	if rapid.Bool().Draw(t, "granted") {
		in.GrantTokens = []string{"t"}
	}
	return in
}

func compare(t *rapid.T, own, sdk receivedRequest, token string) {
	a := slices.Sorted(maps.Keys(own.request.Header))
	b := slices.Sorted(maps.Keys(sdk.request.Header))
	if !slices.Equal(a, b) {
		t.Fatalf("headers %v, but the SDK sends %v", a, b)
	}
	for name, values := range sdk.request.Header {
		if own := own.request.Header[name]; name != invocationHeader && name != dateHeader &&
			name != authHeader && !slices.Equal(own, values) {
			t.Fatalf("%s: %v, but the SDK sends %v", name, own, values)
		}
	}
	if own.request.Method != sdk.request.Method ||
		own.request.RequestURI != sdk.request.RequestURI ||
		own.request.Host != sdk.request.Host {
		t.Fatalf("%s %s to %s", own.request.Method, own.request.RequestURI, own.request.Host)
	}
	if len(own.request.Header.Get(invocationHeader)) !=
		len(sdk.request.Header.Get(invocationHeader)) ||
		own.request.Header.Get(invocationHeader) == sdk.request.Header.Get(invocationHeader) {
		t.Fatalf("the id of the call is %q", own.request.Header.Get(invocationHeader))
	}
	at, err := time.Parse(timeFormat, own.request.Header.Get(dateHeader))
	if err != nil || time.Since(at).Abs() > time.Minute {
		t.Fatalf("signed at %v", at)
	}
	again := own.request.Clone(context.Background())
	again.Header = own.request.Header.Clone()
	for _, name := range []string{
		authHeader,
		"Accept-Encoding",
		"Content-Length",
	} { // the transport adds the last two
		again.Header.Del(name)
	}
	sum := sha256.Sum256(own.body)
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{
		AccessKeyID:     "AKIDEXAMPLE",
		SecretAccessKey: "secret",
		SessionToken:    token,
	},
		again, hex.EncodeToString(sum[:]), "kms", "eu-central-1", at)
	if want := again.Header.Get(authHeader); err != nil ||
		own.request.Header.Get(authHeader) != want {
		t.Fatalf("%s\nbut the SDK signs\n%s (%v)", own.request.Header.Get(authHeader), want, err)
	}
}

// TestSameErrors: an error response, or an unusable response, gives an error with the same chain
// of types and the same text as the SDK.
func TestSameErrors(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"modelled":     {400, `{"__type":"IncorrectKeyException","message":"other"}`},
		"ciphertext":   {400, `{"__type":"com.amazonaws.kms#InvalidCiphertextException"}`},
		"denied":       {400, `{"__type":"AccessDeniedException","Message":"no"}`},
		"throttled":    {400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`},
		"unavailable":  {503, `<html>`},
		"internal":     {500, `{"__type":"KMSInternalException"}`},
		"empty":        {500, ``},
		"not an error": {200, `{"CiphertextBlob":`},
		"not base64":   {200, `{"CiphertextBlob":"***"}`},
	} {
		t.Run(name, func(t *testing.T) {
			server, client, fast, _ := pair(t, "", nil)
			server.answer(c.status, c.body)
			in := &kms.ReEncryptInput{CiphertextBlob: []byte{1}, DestinationKeyId: aws.String("k")}
			_, sdk := client.ReEncrypt(context.Background(), in)
			_, own := fast.ReEncrypt(context.Background(), in)
			if a, b := chain(own), chain(sdk); a != b || own == nil {
				t.Errorf("%s\nbut the error of the SDK is\n%s", a, b)
			}
		})
	}
}

func TestSameErrorsWithoutAnswer(t *testing.T) {
	_, client, fast, _ := pair(t, "", nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	in := &kms.ReEncryptInput{CiphertextBlob: []byte{1}, DestinationKeyId: aws.String("k")}
	_, sdk := client.ReEncrypt(ctx, in)
	_, own := fast.ReEncrypt(ctx, in)
	if a, b := chain(own), chain(sdk); a != b {
		t.Errorf("%s\nbut the error of the SDK is\n%s", a, b)
	}
}

// TestSameErrorKinds: what goes wrong on the way is of the class that it is of with the SDK.
func TestSameErrorKinds(t *testing.T) {
	raw := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"not HTTP":           raw("SSH-2.0-OpenSSH\r\n\r\n"),
		"a broken header":    raw("HTTP/1.1 200 OK\r\nwhat is this\r\n\r\n"),
		"a broken chunk":     raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
		"an incomplete body": raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
		"no response":        raw(""),
	} {
		_, client, fast, l := pair(t, "", nil)
		at := httptest.NewServer(handler)
		t.Cleanup(at.Close)
		there, err := url.Parse(at.URL)
		if err != nil {
			t.Fatal(err)
		}
		f := *l.template.Load()
		f.url, f.sender = there, l.senderTo(there)
		l.template.Store(&f)
		in := &kms.ReEncryptInput{CiphertextBlob: []byte{1}, DestinationKeyId: aws.String("k")}
		_, sdk := client.ReEncrypt(t.Context(), in, func(o *kms.Options) {
			o.BaseEndpoint = &at.URL
		})
		_, own := fast.ReEncrypt(t.Context(), in)
		if a, b := retry.Classify(own), retry.Classify(sdk); a != b || own == nil {
			t.Errorf("%s: %v (%v), but with the SDK %v (%v)", name, a, own, b, sdk)
		}
	}
}

// chain prints the types and texts of an error.
func chain(err error) (text string) {
	for ; err != nil; err = errors.Unwrap(err) {
		text += fmt.Sprintf("%T: %v\n", err, err)
	}
	return text
}

// TestRefusedSignature: after a refused signature, the SDK sends the next request, because it
// corrects for a wrong clock.
func TestRefusedSignature(t *testing.T) {
	told := 0
	server, _, client, l := pair(t, "", func(error) { told++ })
	server.answer(400,
		`{"__type":"InvalidSignatureException","message":"Signature not yet current"}`)
	in := &kms.ReEncryptInput{CiphertextBlob: []byte{1}, DestinationKeyId: aws.String("k")}
	if _, err := client.ReEncrypt(context.Background(), in); err == nil || told != 1 {
		t.Fatalf("%v, reported %d times", err, told)
	}
	if l.template.Load() != nil {
		t.Error("the SDK did not send the next request")
	}
	for range 2 * maxRefusals {
		if _, err := client.ReEncrypt(context.Background(), in); err == nil {
			t.Fatal("an error response was reported as success")
		}
	}
	if !l.disabled.Load() {
		t.Error(
			"signatures were refused repeatedly, and rotator still did not use the SDK",
		)
	}
}

// TestOtherClock: the clock skew that the SDK has detected also applies to the requests of a
// Client.
func TestOtherClock(t *testing.T) {
	for _, ahead := range []time.Duration{20 * time.Minute, -20 * time.Minute} {
		refused := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			now := time.Now().Add(ahead)
			w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
			if at, err := time.Parse(timeFormat, r.Header.Get(dateHeader)); err != nil ||
				now.Sub(at).Abs() > 5*time.Minute {
				refused++
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w,
					`{"__type":"InvalidSignatureException","message":"Signature expired"}`)
				return
			}
			_, _ = io.WriteString(w, served)
		}))
		defer server.Close()
		client := New(configOf(server.URL, ""), nil, 0)
		_, _ = client.DescribeKey(t.Context(), &kms.DescribeKeyInput{
			KeyId: aws.String("k"),
		}) // the SDK detects the skew
		in := &kms.ReEncryptInput{CiphertextBlob: []byte{1}, DestinationKeyId: aws.String("k")}
		for range 3 {
			if _, err := client.ReEncrypt(t.Context(), in); err != nil {
				t.Errorf("%s ahead: %v", ahead, err)
			}
		}
		if refused != 1 {
			t.Errorf("%s ahead: %d requests were refused, want only the first", ahead, refused)
		}
	}
}

// BenchmarkReEncrypt measures one request: by the SDK; with the template through net/http, as
// with a proxy; and with the template through Direct.
func BenchmarkReEncrypt(b *testing.B) {
	for _, name := range []string{"sdk", "template", "template and Direct"} {
		b.Run(name, func(b *testing.B) {
			_, sdk, fast, l := pair(b, "", nil)
			call := fast.ReEncrypt
			switch name {
			case "sdk":
				call = sdk.ReEncrypt
			case "template":
				f := *l.template.Load()
				f.sender = l.sdk
				l.template.Store(&f)
			}
			in := &kms.ReEncryptInput{
				CiphertextBlob:          make([]byte, 250),
				DestinationKeyId:        aws.String("k"),
				SourceEncryptionContext: map[string]string{"a": "b"},
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := call(context.Background(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
