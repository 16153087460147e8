package s3scan

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"go.uber.org/goleak"

	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
	"rotator/internal/scan/scantest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	bucketName = "secrets"
	prefix     = "prod +%/"
)

// store is a bucket of a fake S3.
type store struct {
	t              *testing.T
	fake           *fakes3.Service
	faults         *fault.Injector
	url            string     // of the fake, without faults
	client         *s3.Client // sends requests through the faults
	direct         *s3.Client
	options        func(*s3.PutObjectInput) // changes the request that creates an object
	reshape        func(key string)         // changes the body of a new object
	ignoredHeaders []string                 // headers that rest omits
}

func newClient(t *testing.T, h http.Handler) *s3.Client {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return s3.NewFromConfig(aws.Config{
		Region:       "eu-west-1",
		BaseEndpoint: &server.URL,
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:   &http.Client{Transport: transport},
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	}, func(o *s3.Options) { o.UsePathStyle = true })
}

func newStore(t *testing.T, make func(*s3.CreateBucketInput)) *store {
	st := &store{
		t:              t,
		faults:         fault.New(1),
		fake:           fakes3.New(fakes3.Config{Region: "eu-west-1", Account: "111122223333"}),
		options:        func(*s3.PutObjectInput) {},
		reshape:        func(string) {},
		ignoredHeaders: []string{"Content-Length", "Etag", "Checksum"},
	}
	st.client = newClient(t, st.faults.Handler(st.fake))
	st.direct = newClient(t, st.fake)
	st.url = *st.direct.Options().BaseEndpoint
	in := &s3.CreateBucketInput{
		Bucket: aws.String(bucketName),
		CreateBucketConfiguration: &types.CreateBucketConfiguration{
			LocationConstraint: "eu-west-1",
		},
	}
	if make != nil {
		make(in)
	}
	if _, err := st.direct.CreateBucket(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return st
}

func (s *store) source(change func(*Config)) *Bucket {
	c := Config{Client: s.client, Bucket: bucketName, Prefix: prefix, PageLimit: 7}
	if change != nil {
		change(&c)
	}
	return New(c)
}

// through returns a configuration in which handle receives each request before the fake. If
// handle returns true, the fake does not receive the request.
func (s *store) through(handle func(w http.ResponseWriter, r *http.Request) bool) func(*Config) {
	client := newClient(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !handle(w, r) {
			s.faults.Handler(s.fake).ServeHTTP(w, r)
		}
	}))
	return func(c *Config) { c.Client = client }
}

// put stores the n-th object. Its key contains characters that must be escaped.
func (s *store) put(n int) scan.Ref {
	ref := scan.Ref(fmt.Sprintf("%s%c/%d é+%%2B &?#=<'\">\n//%d", prefix, 'a'+n%5, n%5, n))
	s.write(ref, fmt.Sprintf("body %d", n))
	return ref
}

// write stores an object that has every property that a rewrite must preserve.
func (s *store) write(ref scan.Ref, body string, options ...func(*s3.Options)) {
	in := &s3.PutObjectInput{
		Bucket:                  aws.String(bucketName),
		Key:                     aws.String(string(ref)),
		Body:                    strings.NewReader(body),
		CacheControl:            aws.String("no-store"),
		ContentDisposition:      aws.String(`attachment; filename="a;b.txt"`),
		ContentEncoding:         aws.String("gzip"),
		ContentLanguage:         aws.String("de, en"),
		ContentType:             aws.String("text/x-odd; charset=latin1"),
		WebsiteRedirectLocation: aws.String("/else where"),
		StorageClass:            types.StorageClassStandardIa,
		Metadata:                map[string]string{"tenant": "acme", "odd-name": "a, b; c=\"d\""},
		Tagging:                 aws.String("team=a+b%26c&empty=&z=1"),
	}
	s.options(in)
	options = append(options, func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("Expires", "never, so far"))
	})
	if _, err := s.direct.PutObject(s.t.Context(), in, options...); err != nil {
		s.t.Fatal(err)
	}
	s.reshape(string(ref))
}

func (s *store) remove(ref scan.Ref) {
	if _, err := s.direct.DeleteObject(s.t.Context(), &s3.DeleteObjectInput{
		Bucket: aws.String(bucketName),
		Key:    aws.String(string(ref)),
	}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) tag(ref scan.Ref, key, value string) {
	if _, err := s.direct.PutObjectTagging(s.t.Context(), &s3.PutObjectTaggingInput{
		Bucket:  aws.String(bucketName),
		Key:     aws.String(string(ref)),
		Tagging: &types.Tagging{TagSet: []types.Tag{{Key: &key, Value: &value}}},
	}); err != nil {
		s.t.Fatal(err)
	}
}

// rest returns everything that the server returns for an object, except what every write
// changes. It uses plain HTTP requests, so that it is independent of the source.
func (s *store) rest(ref scan.Ref) string {
	var b strings.Builder
	for _, query := range []string{"", "?tagging", "?acl", "?retention", "?legal-hold"} {
		u := s.url + "/" + bucketName + "/" + url.PathEscape(string(ref)) + query
		method := http.MethodGet
		if query == "" {
			method = http.MethodHead
		}
		request, err := http.NewRequestWithContext(s.t.Context(), method, u, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		request.Header.Set("X-Amz-Checksum-Mode", "ENABLED")
		transport := &http.Transport{DisableKeepAlives: true}
		response, err := transport.RoundTrip(request)
		if err != nil {
			s.t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if _ = response.Body.Close(); err != nil {
			s.t.Fatal(err)
		}
		if query == "" && response.StatusCode == http.StatusNotFound {
			return ""
		}
		fmt.Fprintf(&b, "%s %d\n%s%s\n", query, response.StatusCode,
			s.printHeaders(response.Header), body)
	}
	return b.String()
}

// printHeaders prints headers, except ignored ones and those that differ in each response.
func (s *store) printHeaders(h http.Header) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		switch name {
		case "Date", "Last-Modified", "X-Amz-Version-Id", "X-Amz-Request-Id", "X-Amz-Id-2":
			continue
		}
		if slices.Contains(s.ignoredHeaders, name) {
			continue
		}
		value := strings.Join(h[name], " | ")
		if slices.Contains(s.ignoredHeaders, "Checksum") &&
			strings.HasPrefix(name, "X-Amz-Checksum-") &&
			name != "X-Amz-Checksum-Type" {
			value = "(of the body)"
		}
		fmt.Fprintf(&b, "%s: %s\n", name, value)
	}
	return b.String()
}

func splice(p scan.Payload, value []byte) scan.Payload {
	object := *p.(*scan.Object)
	object.Body = value
	return &object
}

// checkPrecondition returns an error for a write without a condition. A PUT must replace what
// was read or, for a probe, create an object. Only probe objects may be deleted.
func checkPrecondition(r *http.Request, _ []byte) error {
	probe := strings.Contains(r.URL.Path, probeName)
	switch {
	case r.Method == http.MethodPut && strings.HasPrefix(r.Header.Get("If-Match"), `"`):
	case r.Method == http.MethodPut && probe && r.Header.Get("If-None-Match") == "*":
	case r.Method == http.MethodDelete && probe:
	default:
		return fmt.Errorf("%s %s has no condition", r.Method, r.URL)
	}
	return nil
}

func (s *store) subject() scantest.Subject {
	return scantest.Subject{
		Source: s.source(nil),
		Faults: s.faults,
		Reads: []string{"s3:HeadBucket", "s3:GetBucketVersioning", "s3:GetBucketOwnershipControls",
			"s3:ListObjectsV2",
			"s3:GetObject", "s3:HeadObject", "s3:GetObjectTagging", "s3:GetObjectAcl"},
		Writes:            []string{"s3:PutObject", "s3:DeleteObject"},
		CheckPrecondition: checkPrecondition,
		Put:               s.put,
		Delete:            s.remove,
		Rest:              s.rest,
		Splice:            splice,
		Rewrite:           func(ref scan.Ref) { s.write(ref, "other") },
		Touch:             func(ref scan.Ref) { s.tag(ref, "touched", "yes") },
		Slot:              func(p scan.Payload) []byte { return p.(*scan.Object).Body },
	}
}

func TestConformance(t *testing.T) {
	owner := func(o types.ObjectOwnership) func(*s3.CreateBucketInput) {
		return func(in *s3.CreateBucketInput) { in.ObjectOwnership = o }
	}
	for _, c := range []struct {
		name  string
		make  func(*s3.CreateBucketInput)
		dress func(*s3.PutObjectInput)
	}{
		{"plain", nil, func(*s3.PutObjectInput) {}},
		{"SSE-KMS, SHA-256", nil, func(in *s3.PutObjectInput) {
			in.ServerSideEncryption = types.ServerSideEncryptionAwsKms
			in.SSEKMSKeyId = aws.String("arn:aws:kms:eu-west-1:111122223333:key/k")
			in.BucketKeyEnabled = aws.Bool(true)

			in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
		}},
		{
			"Object Lock",
			func(in *s3.CreateBucketInput) { in.ObjectLockEnabledForBucket = aws.Bool(true) },
			func(in *s3.PutObjectInput) {
				in.ObjectLockMode = types.ObjectLockModeGovernance
				in.ObjectLockRetainUntilDate = aws.Time(
					time.Now().Add(time.Hour).Truncate(time.Second))

				in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn
				in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
			},
		},
		{"ACLs", owner(types.ObjectOwnershipObjectWriter), func(in *s3.PutObjectInput) {
			in.GrantFullControl = aws.String(`id="owner-111122223333"`)
			in.GrantRead = aws.String(
				`id="friend", uri="http://acs.amazonaws.com/groups/global/AuthenticatedUsers"`)
			in.GrantReadACP = aws.String(`id="friend"`)
			in.GrantWriteACP = aws.String(`id="auditor"`)

		}},
		{
			"default ACL",
			owner(types.ObjectOwnershipBucketOwnerPreferred),
			func(*s3.PutObjectInput) {},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			scantest.Run(t, func(t *testing.T) scantest.Subject {
				store := newStore(t, c.make)
				store.options = c.dress
				return store.subject()
			})
		})
	}
}

// A body is not decoded, whatever its Content-Encoding is.
func TestBodyIsNotDecoded(t *testing.T) {
	store := newStore(t, nil)
	source := store.source(nil)
	body := "\x1f\x8b\x08 not gzip at all\x00\xff"
	ref := store.put(0)
	store.write(ref, body)
	item, err := source.Load(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if got := item.Payload.(*scan.Object).Body; !bytes.Equal(got, []byte(body)) {
		t.Errorf("body %q, want %q", got, body)
	}
}
