package fakes3_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"rotator/internal/fakeaws/conformance"
	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/fakeaws/fault"
)

func start(t testing.TB) (*fakes3.Service, *fault.Injector, aws.Config) {
	t.Helper()
	service := fakes3.New(fakes3.Config{Region: "us-west-2", Account: "111122223333"})
	faults := fault.New(1)
	server := httptest.NewServer(faults.Handler(service))
	t.Cleanup(server.Close)
	return service, faults, aws.Config{Region: "us-west-2", BaseEndpoint: aws.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAALICE", "secret", ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} }}
}

func TestConformance(t *testing.T) {
	_, _, cfg := start(t)
	conformance.S3(t, cfg, true)
}

func newBucket(t testing.TB, cfg aws.Config) (*s3.Client, *string) {
	t.Helper()
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	bucket := aws.String("bucket")
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	return client, bucket
}

// TestFaults: what goes wrong is applied or not, as it was set.
func TestFaults(t *testing.T) {
	_, faults, cfg := start(t)
	client, bucket := newBucket(t, cfg)
	for key, test := range map[string]struct {
		kind    fault.Kind
		code    string // "" when the connection breaks
		applied bool
	}{
		"throttle": {fault.Throttle, "SlowDown", false}, "error": {fault.InternalError, "InternalError", false},
		"reset": {fault.Reset, "", false}, "lost": {fault.LostResponse, "", true},
	} {
		faults.Set("s3:PutObject", fault.Fault{Kind: test.kind, Times: 1})
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader("x")})
		var api smithy.APIError
		if err == nil || errors.As(err, &api) != (test.code != "") || api != nil && api.ErrorCode() != test.code {
			t.Errorf("%s: %v, want %q", key, err, test.code)
		}
		_, err = client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: bucket, Key: &key})
		if (err == nil) != test.applied {
			t.Errorf("%s: applied %v, want %v", key, err == nil, test.applied)
		}
	}
}

func TestPolicyDenies(t *testing.T) {
	service, _, cfg := start(t)
	client, bucket := newBucket(t, cfg)
	service.SetPolicy(func(c fakes3.Call) bool {
		return c.Action != "s3:PutObject" || c.Key != "k" || c.AccessKey != "AKIAALICE"
	})
	_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: aws.String("k")})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "AccessDenied" {
		t.Errorf("PutObject: %v, want AccessDenied", err)
	}
	if _, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: aws.String("l")}); err != nil {
		t.Error(err)
	}
}

// TestOperationsHaveNames: every request is counted under the name of its action.
func TestOperationsHaveNames(t *testing.T) {
	service, _, _ := start(t)
	for request, want := range map[string]string{
		"PUT /b/k": "s3:PutObject", "GET /b/k": "s3:GetObject", "HEAD /b/k": "s3:HeadObject", "DELETE /b/k": "s3:DeleteObject",
		"PUT /b/k?tagging": "s3:PutObjectTagging", "GET /b/k?acl": "s3:GetObjectAcl", "POST /b/k?uploads": "s3:CreateMultipartUpload",
		"PUT /b/k?partNumber=1&uploadId=u": "s3:UploadPart", "GET /b?list-type=2": "s3:ListObjectsV2", "GET /b?versions": "s3:ListObjectVersions",
		"HEAD /b": "s3:HeadBucket", "GET /": "s3:ListBuckets", "GET /b?versioning": "s3:GetBucketVersioning",
	} {
		method, path, _ := strings.Cut(request, " ")
		r, err := http.NewRequest(method, "http://127.0.0.1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := service.Operation(r); got != want {
			t.Errorf("%s is %s, want %s", request, got, want)
		}
	}
}

// TestListing: pages of any size, from anywhere, hold every matching key once, in
// order.
func TestListing(t *testing.T) {
	_, _, cfg := start(t)
	client, bucket := newBucket(t, cfg)
	alphabet := []string{"a", "b", "/", " ", "+", "%", "ü", "\n", "..", "日"}
	var keys []string
	for range 1 {
		gen := rapid.SliceOfNDistinct(rapid.StringOfN(rapid.RuneFrom([]rune(strings.Join(alphabet, ""))), 1, 5, -1), 40, 40, rapid.ID[string])
		keys = gen.Example(7)
	}
	for _, key := range keys {
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: &key}); err != nil {
			t.Fatalf("%q: %v", key, err)
		}
	}
	slices.Sort(keys)
	rapid.Check(t, func(r *rapid.T) {
		in := &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(rapid.Int32Range(1, 50).Draw(r, "most")),
			Prefix: aws.String(rapid.SampledFrom(alphabet).Draw(r, "prefix")), StartAfter: aws.String(rapid.SampledFrom(keys).Draw(r, "after"))}
		if rapid.Bool().Draw(r, "all") {
			in.Prefix = nil
		}
		var want, got []string
		for _, key := range keys {
			if strings.HasPrefix(key, aws.ToString(in.Prefix)) && key > *in.StartAfter {
				want = append(want, key)
			}
		}
		for range 100 {
			out, err := client.ListObjectsV2(t.Context(), in)
			if err != nil {
				r.Fatal(err)
			}
			for _, object := range out.Contents {
				got = append(got, *object.Key)
			}
			if !aws.ToBool(out.IsTruncated) {
				break
			}
			in.ContinuationToken = out.NextContinuationToken
		}
		if !slices.Equal(got, want) {
			r.Fatalf("listed %q, want %q", got, want)
		}
	})
}
