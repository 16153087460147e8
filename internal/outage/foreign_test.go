package outage

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"

	"rotator/internal/awserr"
)

const (
	htmlPage = "<!DOCTYPE html>\n<html><head></head><body><hr>nginx</body></html>"
	noSuch   = `<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>`
	listing  = `<?xml version="1.0"?><ListBucketResult></ListBucketResult>`
)

// foreignCase is a response to an S3 request.
type foreignCase struct {
	operation string
	status    int
	header    [2]string // name and value; "" for none
	body      string
	foreign   bool // another server sent it
}

// TestForeignResponses: a response to an S3 request that another server sent is an outage. In
// particular it is neither an empty list nor the response that there is no such object.
func TestForeignResponses(t *testing.T) {
	for _, c := range []foreignCase{
		{"List", 200, [2]string{"Content-Type", "text/html"}, htmlPage, true},
		{"List", 200, [2]string{}, listing, false},
		{"List", 404, [2]string{}, "404 page not found", true},
		{"List", 302, [2]string{"Location", "/login"}, "", true},
		{"Get", 404, [2]string{}, htmlPage, true},
		{"Get", 403, [2]string{}, htmlPage, true},
		{"Get", 404, [2]string{}, "", true}, // Envoy
		{"Get", 404, [2]string{}, `{"error":"no route"}`, true},
		{"Get", 404, [2]string{}, noSuch, false},
		{"Get", 404, [2]string{"X-Amz-Request-Id", "1"}, "", false},
		{"Get", 200, [2]string{"Content-Type", "text/html"}, htmlPage, true},
		{"Get", 200, [2]string{"ETag", `"1"`}, htmlPage, false}, // an object
		{"Put", 200, [2]string{}, htmlPage, true},
		{"Put", 200, [2]string{"ETag", `"1"`}, "", false},
		{"Head", 404, [2]string{"Content-Type", "text/html"}, htmlPage, true},
		{"Head", 404, [2]string{}, "", false},
		{"Get", 503, [2]string{}, htmlPage, false}, // an error of the service by its status
	} {
		err := c.send(t)
		var foreign *ForeignError
		if errors.As(err, &foreign) != c.foreign {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestOnlyObjectsAreExamined: the responses to requests for credentials and to other services
// than S3 are read by the SDK. A source of credentials may refuse without XML, and such a
// refusal is not an outage.
func TestOnlyObjectsAreExamined(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "the role is not allowed", http.StatusForbidden)
		}))
	defer server.Close()
	m := New(Config{Judge: judge, Report: func(Notice) {}})
	source := endpointcreds.New(server.URL, func(o *endpointcreds.Options) {
		o.APIOptions = append(o.APIOptions, m.Install(""))
		o.Retryer = aws.NopRetryer{}
	})
	config := aws.Config{
		Region:       "eu-west-1",
		BaseEndpoint: &server.URL,
		Credentials:  source,
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
		APIOptions:   []func(*middleware.Stack) error{m.Install("")},
	}
	path := func(o *s3.Options) { o.UsePathStyle = true }
	_, alone := source.Retrieve(t.Context())
	_, within := s3.NewFromConfig(config, path).HeadBucket(t.Context(),
		&s3.HeadBucketInput{Bucket: aws.String("bucket")})
	config.Credentials = aws.AnonymousCredentials{}
	_, role := sts.NewFromConfig(config).GetCallerIdentity(t.Context(), nil)
	for name, err := range map[string]error{
		"credentials":       alone,
		"credentials of S3": within,
		"security token":    role,
	} {
		var foreign *ForeignError
		if errors.As(err, &foreign) || awserr.Status(err) != http.StatusForbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// send sends a request to a server that gives one response.
func (c foreignCase) send(t *testing.T) (err error) {
	server := httptest.NewServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			if c.header[0] != "" {
				w.Header().Set(c.header[0], c.header[1])
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
	defer server.Close()
	m := New(Config{Judge: judge, Report: func(Notice) {}})
	client := s3.NewFromConfig(aws.Config{
		Region:       "eu-west-1",
		BaseEndpoint: &server.URL,
		Credentials: aws.CredentialsProviderFunc(
			func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
			}),
		Retryer:    func() aws.Retryer { return aws.NopRetryer{} },
		APIOptions: []func(*middleware.Stack) error{m.Install(""), m.Install("checkpoint")},
	}, func(o *s3.Options) { o.UsePathStyle = true })
	bucket, key := aws.String("bucket"), aws.String("key")
	switch c.operation {
	case "List":
		_, err = client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: bucket})
	case "Get":
		var out *s3.GetObjectOutput
		out, err = client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key})
		if err == nil {
			text, _ := io.ReadAll(out.Body)
			if _ = out.Body.Close(); string(text) != c.body {
				t.Errorf("body %q, want %q", text, c.body)
			}
		}
	case "Head":
		_, err = client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: bucket, Key: key})
	case "Put":
		_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key})
	}
	return err
}
