package fakes3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"rotator/internal/fakeaws/awsspec"
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
	awsspec.S3(t, cfg, true)
}

func newBucket(t testing.TB, cfg aws.Config) (*s3.Client, *string) {
	t.Helper()
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	bucket := aws.String("bucket")
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{
		Bucket: bucket,
	}); err != nil {
		t.Fatal(err)
	}
	return client, bucket
}

// TestFaults: each fault is applied or not, as its kind says.
func TestFaults(t *testing.T) {
	_, faults, cfg := start(t)
	client, bucket := newBucket(t, cfg)
	for key, test := range map[string]struct {
		kind    fault.Kind
		code    string // "" when the connection breaks
		applied bool
	}{
		"throttle": {fault.Throttle, "SlowDown", false},
		"error":    {fault.InternalError, "InternalError", false},
		"reset":    {fault.Reset, "", false}, "lost": {fault.LostResponse, "", true},
	} {
		faults.Set("s3:PutObject", fault.Fault{Kind: test.kind, Times: 1})
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: bucket,
			Key:    &key,
			Body:   strings.NewReader("x"),
		})
		var api smithy.APIError
		if err == nil || errors.As(err, &api) != (test.code != "") || api != nil &&
			api.ErrorCode() != test.code {
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
	_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: bucket,
		Key:    aws.String("k"),
	})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "AccessDenied" {
		t.Errorf("PutObject: %v, want AccessDenied", err)
	}
	if _, err = client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: bucket,
		Key:    aws.String("l"),
	}); err != nil {
		t.Error(err)
	}
}

// TestOperationsHaveNames: Operation returns the IAM name of each request.
func TestOperationsHaveNames(t *testing.T) {
	service, _, _ := start(t)
	for request, want := range map[string]string{
		"PUT /b/k":                         "s3:PutObject",
		"GET /b/k":                         "s3:GetObject",
		"HEAD /b/k":                        "s3:HeadObject",
		"DELETE /b/k":                      "s3:DeleteObject",
		"PUT /b/k?tagging":                 "s3:PutObjectTagging",
		"GET /b/k?acl":                     "s3:GetObjectAcl",
		"POST /b/k?uploads":                "s3:CreateMultipartUpload",
		"PUT /b/k?partNumber=1&uploadId=u": "s3:UploadPart",
		"GET /b?list-type=2":               "s3:ListObjectsV2",
		"GET /b?versions":                  "s3:ListObjectVersions",
		"HEAD /b":                          "s3:HeadBucket",
		"GET /":                            "s3:ListBuckets",
		"GET /b?versioning":                "s3:GetBucketVersioning",
	} {
		method, path, _ := strings.Cut(request, " ")
		r, err := http.NewRequest(method, "http://127.0.0.1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := service.Operation(r); got != want {
			t.Errorf("name of %s: %s, want %s", request, got, want)
		}
	}
}

// TestListing: the pages of a list, of any size and from any start, contain every matching
// key once, in order.
func TestListing(t *testing.T) {
	_, _, cfg := start(t)
	client, bucket := newBucket(t, cfg)
	alphabet := []string{"a", "b", "/", " ", "+", "%", "ü", "\n", "..", "日"}
	var keys []string
	for range 1 {
		gen := rapid.SliceOfNDistinct(rapid.StringOfN(rapid.RuneFrom([]rune(strings.Join(alphabet,
			""))), 1, 5, -1), 40, 40, rapid.ID[string])
		keys = gen.Example(7)
	}
	for _, key := range keys {
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: bucket,
			Key:    &key,
		}); err != nil {
			t.Fatalf("%q: %v", key, err)
		}
	}
	slices.Sort(keys)
	rapid.Check(t, func(r *rapid.T) {
		in := &s3.ListObjectsV2Input{
			Bucket:     bucket,
			MaxKeys:    aws.Int32(rapid.Int32Range(1, 50).Draw(r, "most")),
			Prefix:     aws.String(rapid.SampledFrom(alphabet).Draw(r, "prefix")),
			StartAfter: aws.String(rapid.SampledFrom(keys).Draw(r, "after")),
		}
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

// checkLastZeros reads the last n bytes of an object of a size, which must be zeros.
func checkLastZeros(t *testing.T, client *s3.Client, in *s3.GetObjectInput, size, n int64) {
	t.Helper()
	in.Range = aws.String(fmt.Sprintf("bytes=%d-", size-n))
	out, err := client.GetObject(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(out.Body)
	_ = out.Body.Close()
	if err != nil || int64(len(body)) != n || !bytes.Equal(body, make([]byte, n)) {
		t.Errorf("GET of the last bytes: %d bytes, %v", len(body), err)
	}
}

// TestZeros: an object of many gigabytes takes no memory. CopyObject refuses objects over 5
// GiB, a copy with the same parts has the same ETag and checksum, and Traffic counts the body
// bytes.
func TestZeros(t *testing.T) {
	service, _, cfg := start(t)
	client, bucket := newBucket(t, cfg)
	key, size, partSize := aws.String("k"), int64(6<<30+5), int64(1<<30)
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket:            bucket,
		Key:               key,
		Body:              strings.NewReader("x"),
		Metadata:          map[string]string{"a": "b"},
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	}); err != nil {
		t.Fatal(err)
	}
	if err := service.Zeros("bucket", "k", size, partSize); err != nil {
		t.Fatal(err)
	}
	head := func() *s3.HeadObjectOutput {
		t.Helper()
		out, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{
			Bucket:       bucket,
			Key:          key,
			ChecksumMode: types.ChecksumModeEnabled,
		})
		if err != nil || aws.ToInt64(out.ContentLength) != size || out.Metadata["a"] != "b" {
			t.Fatalf("HEAD: %v, %+v", err, out)
		}
		return out
	}
	before := head()
	in := &s3.CopyObjectInput{
		Bucket:            bucket,
		Key:               key,
		CopySource:        aws.String("bucket/k"),
		MetadataDirective: types.MetadataDirectiveReplace,
	}
	var api smithy.APIError
	if _, err := client.CopyObject(t.Context(), in); !errors.As(err, &api) ||
		api.ErrorCode() != "InvalidRequest" {
		t.Errorf("CopyObject over 5 GiB: %v, want InvalidRequest", err)
	}
	copyInParts(t, client, bucket, key, before, partSize)
	after := head()
	if *after.ETag != *before.ETag ||
		aws.ToString(after.ChecksumCRC32) != aws.ToString(before.ChecksumCRC32) ||
		after.ChecksumType != types.ChecksumTypeComposite {
		t.Errorf("ETag %s, checksum %s after the copy; before: %s, %s", *after.ETag,
			aws.ToString(after.ChecksumCRC32), *before.ETag, aws.ToString(before.ChecksumCRC32))
	}
	_, sent := service.Traffic()
	const stretch = 1 << 20
	checkLastZeros(t, client, &s3.GetObjectInput{Bucket: bucket, Key: key}, size, stretch)
	if _, now := service.Traffic(); now-sent != stretch || sent > stretch {
		t.Errorf("%d bytes sent before the GET, %d by a GET of %d", sent, now-sent, stretch)
	}
}

// copyInParts copies an object onto itself by a multipart upload.
func copyInParts(
	t *testing.T, client *s3.Client, bucket, key *string, before *s3.HeadObjectOutput,
	partSize int64,
) {
	t.Helper()
	size := *before.ContentLength
	up, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket:            bucket,
		Key:               key,
		Metadata:          before.Metadata,
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	})
	if err != nil {
		t.Fatal(err)
	}
	var parts []types.CompletedPart
	for n, first := int32(1), int64(0); first < size; n, first = n+1, first+partSize {
		out, err := client.UploadPartCopy(t.Context(), &s3.UploadPartCopyInput{
			Bucket:     bucket,
			Key:        key,
			UploadId:   up.UploadId,
			PartNumber: aws.Int32(n),
			CopySource: aws.String("bucket/k"),
			CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", first,
				min(size, first+partSize)-1)),
		})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{
			PartNumber:    aws.Int32(n),
			ETag:          out.CopyPartResult.ETag,
			ChecksumCRC32: out.CopyPartResult.ChecksumCRC32,
		})
	}
	if _, err := client.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket:          bucket,
		Key:             key,
		UploadId:        up.UploadId,
		IfMatch:         before.ETag,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}); err != nil {
		t.Fatal(err)
	}
}
