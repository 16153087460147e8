package s3scan

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Over TLS, where the SDK does not sign bodies, each PUT has a checksum with the algorithm of
// the replaced object. The fake verifies it.
func TestBodiesHaveAChecksum(t *testing.T) {
	for algorithm, header := range map[types.ChecksumAlgorithm]string{
		"none":                           "Crc32",
		types.ChecksumAlgorithmCrc32:     "Crc32",
		types.ChecksumAlgorithmCrc32c:    "Crc32c",
		types.ChecksumAlgorithmCrc64nvme: "Crc64nvme",
		types.ChecksumAlgorithmSha1:      "Sha1",
		types.ChecksumAlgorithmSha256:    "Sha256",
	} {
		store := newStore(t, nil)
		put := store.untaggedObjects()
		store.options = func(in *s3.PutObjectInput) {
			if in.Tagging = nil; algorithm != "none" {
				in.ChecksumAlgorithm = algorithm
			}
		}
		sum := ""
		server := httptest.NewTLSServer(http.HandlerFunc(func(
			w http.ResponseWriter, r *http.Request,
		) {
			if algorithm == "none" {
				r.Header.Del("X-Amz-Checksum-Mode")
			}
			if r.Method == http.MethodPut && !strings.Contains(r.URL.Path, probeName) {
				sum = r.Header.Get("X-Amz-Checksum-" + header)
			}
			store.fake.ServeHTTP(w, r)
		}))
		source := store.source(func(c *Config) {
			c.Client = s3.New(store.client.Options(), func(o *s3.Options) {
				o.BaseEndpoint, o.HTTPClient = &server.URL, server.Client()
				o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
				o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
			})
		})
		store.rewrite(source, put(0))
		if sum == "" {
			t.Errorf("%s: a PUT has no checksum", algorithm)
		}
		server.Close()
	}
}
