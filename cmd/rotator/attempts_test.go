package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"

	"rotator/internal/config"
)

// failing is an HTTP client whose responses all have the same status. It records the times
// of the requests.
type failing struct {
	status int
	at     []time.Time
}

func (f *failing) Do(r *http.Request) (*http.Response, error) {
	f.at = append(f.at, time.Now())
	return &http.Response{
		StatusCode: f.status,
		Header:     http.Header{},
		Body:       io.NopCloser(strings.NewReader("not an error of the service")),
		Request:    r,
	}, nil
}

// TestAttempts: each client makes the number of attempts that attempts.go states, for a server
// error and for a 429 without an error code. The environment has no effect.
func TestAttempts(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID":     "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY": "not-a-secret",
		"AWS_REGION":            "eu-west-1",
		"AWS_MAX_ATTEMPTS":      "7",
		"AWS_RETRY_MODE":        "adaptive",
	} {
		t.Setenv(name, value)
	}
	const patience = 10 * time.Minute
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		for _, client := range clientsOfAttempts() {
			t.Run(fmt.Sprintf("%s/%d", client.name, status), func(t *testing.T) {
				std := newStreams(nil, io.Discard, io.Discard)
				base, err := std.loadAWS(t.Context(), 1, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					server := &failing{status: status}
					cfg := base.Copy()
					cfg.HTTPClient = server
					client.call(ctx, cfg)
					client.check(t, server.at)
				})
			})
		}
	}
}

// attemptsOf is a client and the number of attempts of one call; 0 means attempts until the
// context ends.
type attemptsOf struct {
	name string
	call func(ctx context.Context, cfg aws.Config)
	want int
}

func clientsOfAttempts() []attemptsOf {
	kmsCall := func(sdkOnly bool) func(context.Context, aws.Config) {
		return func(ctx context.Context, cfg aws.Config) {
			w := &wiring{job: &config.Job{Workers: 1}, sdkOnly: sdkOnly}
			_, reEncrypt := w.kmsClient(cfg)
			_, _ = reEncrypt(ctx, &kms.ReEncryptInput{
				CiphertextBlob:   []byte("blob"),
				DestinationKeyId: aws.String("new"),
			})
		}
	}
	rows := func(client func(aws.Config) *dynamodb.Client) func(context.Context, aws.Config) {
		return func(ctx context.Context, cfg aws.Config) {
			_, _ = client(cfg).DescribeTable(ctx,
				&dynamodb.DescribeTableInput{TableName: aws.String("t")})
		}
	}
	objects := func(client func(aws.Config) *s3.Client) func(context.Context, aws.Config) {
		return func(ctx context.Context, cfg aws.Config) {
			_, _ = client(cfg).HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("bucket")})
		}
	}
	return []attemptsOf{
		{"KMS", kmsCall(false), 1},
		{"KMS by the SDK", kmsCall(true), 1},
		{"tables", rows(tableClient), 1},
		{"buckets",
			objects(func(cfg aws.Config) *s3.Client { return objectClient(cfg, "bucket") }), 1},
		{"checkpoint in a table", rows(stateTable), 0},
		{"checkpoint in a bucket", objects(stateBucket), 0},
		{"quotas", func(ctx context.Context, cfg aws.Config) {
			code := aws.String(symmetricQuota)
			_, _ = quotaClient(cfg).GetServiceQuota(ctx,
				&servicequotas.GetServiceQuotaInput{
					ServiceCode: aws.String("kms"),
					QuotaCode:   code,
				})
		}, mostAttempts},
		{"role", func(ctx context.Context, cfg aws.Config) {
			assumed := withTarget(cfg, "", "", "arn:aws:iam::111122223333:role/r")
			_, _ = assumed.Credentials.Retrieve(ctx)
		}, mostAttempts},
		{"caller", func(ctx context.Context, cfg aws.Config) {
			_, _ = callerOf(ctx, cfg)
		}, mostAttempts},
	}
}

func (a attemptsOf) check(t *testing.T, at []time.Time) {
	t.Helper()
	least := a.want
	if a.want == 0 {
		least = 100 // at most 2 s apart, in 10 minutes
	}
	if n := len(at); n < least || a.want > 0 && n > a.want {
		t.Errorf("%d attempts, want %d", n, least)
	}
	for i := 1; i < len(at); i++ {
		if gap := at[i].Sub(at[i-1]); gap > retryMost {
			t.Errorf("%s between attempts %d and %d, want at most %s", gap, i, i+1, retryMost)
		}
	}
}

// providerCase is a credential provider, a temporary error, and the response with credentials.
type providerCase struct {
	name     string
	status   int
	response string
	env      func(url, token string) map[string]string
}

func providerCases() []providerCase {
	const role = `<AssumeRoleWithWebIdentityResponse ` +
		`xmlns="https://sts.amazonaws.com/doc/2011-06-15/">` +
		`<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKIDEXAMPLE</AccessKeyId>` +
		`<SecretAccessKey>not-a-secret</SecretAccessKey><SessionToken>token</SessionToken>` +
		`<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>` +
		`</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
	const container = `{"AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "not-a-secret",` +
		` "Token": "token", "Expiration": "2099-01-01T00:00:00Z"}`
	return []providerCase{
		{"web identity", http.StatusServiceUnavailable, role,
			func(url, token string) map[string]string {
				return map[string]string{
					"AWS_ROLE_ARN":                "arn:aws:iam::111122223333:role/r",
					"AWS_WEB_IDENTITY_TOKEN_FILE": token,
					"AWS_ENDPOINT_URL_STS":        url,
				}
			}},
		{"container", http.StatusTooManyRequests, container, func(url, _ string) map[string]string {
			return map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
		}},
	}
}

// TestCredentialProvidersRetry: the credential providers retry after a temporary error.
func TestCredentialProvidersRetry(t *testing.T) {
	for _, test := range providerCases() {
		t.Run(test.name, func(t *testing.T) {
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(
				w http.ResponseWriter,
				r *http.Request,
			) {
				if requests.Add(1) < mostAttempts {
					w.WriteHeader(test.status)
					return
				}
				_, _ = io.WriteString(w, test.response)
			}))
			defer server.Close()
			token := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(token, []byte("a token"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
				"AWS_PROFILE"} {
				t.Setenv(name, "")
			}
			t.Setenv("AWS_REGION", "eu-west-1")
			for name, value := range test.env(server.URL, token) {
				t.Setenv(name, value)
			}
			cfg, err := newStreams(nil, io.Discard, io.Discard).loadAWS(t.Context(), 1, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			held, err := cfg.Credentials.Retrieve(t.Context())
			if err != nil || held.AccessKeyID != "AKIDEXAMPLE" {
				t.Errorf("after %d requests: %v", requests.Load(), err)
			}
		})
	}
}
