package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"rotator/internal/config"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
)

// falling is a KMS, or a proxy in front of it, that responds to some requests and then stops:
// without a response, or with an incomplete one.
type falling struct {
	answers int
	half    bool

	mu     sync.Mutex
	hosts  []string // of the requests
	remote []string // client addresses of the connections
}

func (f *falling) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	f.mu.Lock()
	f.hosts, f.remote = append(f.hosts, r.Host), append(f.remote, r.RemoteAddr)
	answered := len(f.hosts) <= f.answers
	f.mu.Unlock()
	const answer = `{"CiphertextBlob":"AQID","KeyId":"arn:to","SourceKeyId":"arn:from"}`
	switch {
	case answered:
		_, _ = io.WriteString(w, answer)
		return
	case f.half:
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, answer)
		_ = http.NewResponseController(w).Flush()
	}
	<-r.Context().Done() // the client has closed the connection
}

// TestHangingKMS: a request to KMS without a response, or with an incomplete one, ends after the
// timeout. Its error has the class of requests with an unknown outcome.
func TestHangingKMS(t *testing.T) {
	const timeout = 300 * time.Millisecond
	reEncrypt := func(ctx context.Context, k *reencrypt.KMS) error {
		_, err := k.ReEncrypt(ctx, reencrypt.Request{Blob: []byte{1}})
		return err
	}
	authorized := func(ctx context.Context, k *reencrypt.KMS) error {
		known, err := k.Authorized(ctx, reencrypt.Key{
			ARN:       "arn:from",
			Algorithm: reencrypt.Symmetric,
		})
		if !known {
			t.Error("a silent KMS reported that it does not support dry runs")
		}
		return err
	}
	for name, c := range map[string]struct {
		sdkOnly, proxy, half bool
		own                  bool // the fast client opens its own connection
		ask                  func(context.Context, *reencrypt.KMS) error
	}{
		"sdk":                    {sdkOnly: true, ask: reEncrypt},
		"sdk, half a response":   {sdkOnly: true, half: true, ask: reEncrypt},
		"sdk, authorized":        {sdkOnly: true, ask: authorized},
		"light":                  {own: true, ask: reEncrypt},
		"fast, half a response":  {half: true, own: true, ask: reEncrypt},
		"fast, authorized":       {own: true, ask: authorized},
		"proxy":                  {proxy: true, ask: reEncrypt},
		"proxy, half a response": {proxy: true, half: true, ask: reEncrypt},
		"proxy, authorized":      {proxy: true, ask: authorized},
	} {
		t.Run(name, func(t *testing.T) {
			service := &falling{answers: 1, half: c.half}
			server := httptest.NewServer(service)
			defer server.Close()
			kms := hangingKMS(t, server.URL, timeout, c.sdkOnly, c.proxy)
			// The fast client learns the form of a request from this one.
			if err := reEncrypt(t.Context(), kms); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*timeout)
			defer cancel()
			began := time.Now()
			err := c.ask(ctx, kms)
			if class := retry.Classify(err); class != retry.KindUnknown || ctx.Err() != nil ||
				time.Since(began) < timeout/2 {
				t.Errorf("ends after %v in class %d: %v", time.Since(began), class, err)
			}
			service.mu.Lock()
			defer service.mu.Unlock()
			if len(service.hosts) != 2 || (service.hosts[1] == "kms.test") != c.proxy {
				t.Errorf("requests to %q", service.hosts)
			}
			if c.own && len(slices.Compact(service.remote)) != 2 {
				t.Error("the fast client did not send")
			}
		})
	}
}

// setCredentials sets an environment that contains only the given credentials.
func setCredentials(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID":           "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY":       "secret",
		"AWS_SESSION_TOKEN":           "",
		"AWS_CONFIG_FILE":             "/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
		"AWS_PROFILE":                 "",
	} {
		t.Setenv(name, value)
	}
}

// hangingKMS returns the same as wireKMS, with another timeout.
func hangingKMS(
	t *testing.T, address string, timeout time.Duration, sdkOnly, proxy bool,
) *reencrypt.KMS {
	t.Helper()
	setCredentials(t)
	base, err := newStreams(nil, io.Discard, io.Discard).loadAWS(t.Context(), 1, timeout)
	if err != nil {
		t.Fatal(err)
	}
	if proxy {
		client, ok := base.HTTPClient.(*awshttp.BuildableClient)
		there, err := url.Parse(address)
		if !ok || err != nil {
			t.Fatalf("a %T, %v", base.HTTPClient, err)
		}
		base.HTTPClient = client.WithTransportOptions(func(tr *http.Transport) {
			tr.Proxy = http.ProxyURL(there)
		})
		address = "http://kms.test"
	}
	w := &wiring{job: &config.Job{Workers: 1}, sdkOnly: sdkOnly}
	_, reEncrypt := w.kmsClient(withTarget(base, "eu-central-1", address, ""))
	return reencrypt.NewKMS(reEncrypt,
		reencrypt.Key{ARN: "arn:to", Algorithm: reencrypt.Symmetric}, nil)
}
