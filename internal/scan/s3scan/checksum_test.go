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

// Over TLS, where the SDK does not sign a body, each PUT of one has a checksum, by the
// algorithm that the object had; the fake computes it again, and refuses another one.
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
		put := store.plain()
		store.dress = func(in *s3.PutObjectInput) {
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
		store.move(source, put(0))
		if sum == "" {
			t.Errorf("%s: a body was PUT without a checksum", algorithm)
		}
		server.Close()
	}
}
