package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan/s3scan"
)

// TestS3Requests: a run costs two S3 requests for each object without tags and ACLs,
// everything else included, and an audit one.
func TestS3Requests(t *testing.T) {
	const objects, workers = 1000, 4
	for format, w := range map[string]func(blob []byte) written{
		"raw": func(blob []byte) written { return written{body: blob} },
		"s3-encryption-client": func(blob []byte) written {
			return written{body: []byte("sealed"), metadata: map[string]string{"x-amz-key-v2": std64(blob), "x-amz-iv": "aXY=",
				"x-amz-wrap-alg": "kms", "x-amz-matdesc": "{}"}}
		},
	} {
		t.Run(format, func(t *testing.T) {
			m := newMixed(t, 0)
			for i := range objects {
				v := variety{name: format, write: func(blob []byte, _ string) written { return w(blob) }, put: func(in *s3.PutObjectInput) { in.Tagging = nil }}
				if err := m.put(t.Context(), fmt.Sprintf("%05d", i), v); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Second) // objects are older than that, as a rule
			file := filepath.Join(t.TempDir(), "job.yaml")
			job := fmt.Sprintf("job: requests\ndestination: { key: %q }\nsource: { keys: [%q] }\nkms: { rate: 100000 }\nworkers: %d\ntargets:\n  - s3: { bucket: %s }\n    format: %s\n%s",
				m.keys["new"], m.keys["old"], workers, mixedBucket, format, map[string]string{"raw": "    slots: [{}]\n"}[format])
			if err := os.WriteFile(file, []byte(job), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				command string
				exit    int
				most    float64
			}{{"audit", 0, 1.05}, {"run", 0, 2.05}} {
				before, listings := m.s3Requests(), m.server.Faults().Counts()["s3:ListObjectsV2"]
				if code, out, errs := command(t, c.command, "-f", file); code != c.exit {
					t.Fatalf("%s: exit %d: %s%s", c.command, code, out, errs)
				}
				if n := m.server.Faults().Counts()["s3:ListObjectsV2"] - listings; n != 1+objects/pageItems+workers+1 {
					t.Errorf("%s: %d listings, want one of probes that are left, one for each page, and one for each connection that is opened beforehand", c.command, n)
				}
				per := float64(m.s3Requests()-before) / objects
				t.Logf("%s: %.3f S3 requests an object", c.command, per)
				if per > c.most {
					t.Errorf("%s: more than %v: %v", c.command, c.most, m.server.Faults().Counts())
				}
			}
		})
	}
}

func (m *mixed) s3Requests() (n int) {
	for operation, count := range m.server.Faults().Counts() {
		if strings.HasPrefix(operation, "s3:") {
			n += count
		}
	}
	return n
}

// TestBodiesAreChecked: a body that came back damaged is none. That a PUT has a checksum
// is tested with package s3scan.
func TestBodiesAreChecked(t *testing.T) {
	sum := sha256.Sum256([]byte("the body of an object"))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("X-Amz-Checksum-Sha256", std64(sum[:]))
		_, _ = io.WriteString(w, "the b0dy of an object")
	}))
	defer server.Close()
	client := objectClient(aws.Config{Region: "eu-west-1", BaseEndpoint: &server.URL, HTTPClient: server.Client(),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "not-a-secret", ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} }})
	source := s3scan.New(s3scan.Config{Client: client, Bucket: "b"})
	if item, err := source.Load(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a damaged body was read: %+v, %v", item.Payload, err)
	}
}
