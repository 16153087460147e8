package s3scan

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/awserr"
	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// A clock difference before the last HEAD is not reported as denied access, and denied access
// is reported whatever the clock is.
func TestClockJumpsBeforeHead(t *testing.T) {
	for _, c := range []struct {
		name   string
		jumps  []time.Duration // clock differences, one for each write
		denied bool
	}{
		{"fast clock", []time.Duration{20 * time.Minute}, false},
		{"slow clock", []time.Duration{-20 * time.Minute}, false},
		{"fast clock, then corrected", []time.Duration{20 * time.Minute, 0}, false},
		{"fast clock and denied", []time.Duration{20 * time.Minute}, true},
		{"denied without a clock difference", []time.Duration{0}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, source := newClockedBucket(t)
			for _, jump := range c.jumps {
				item, err := source.Load(t.Context(), "k")
				if err != nil {
					t.Fatal(err)
				}
				server.Faults().Watch(func(e fault.Exchange) {
					if e.Operation == "s3:GetObjectTagging" { // the last request before the HEAD
						server.SetClock(jump)
					}
				})
				if c.denied {
					server.S3().SetPolicy(func(call fakes3.Call) bool {
						return call.Action != "s3:HeadObject"
					})
				}
				before := server.Faults().Counts()["s3:HeadObject"]
				err = source.Replace(t.Context(), []scan.Change{
					{Item: item, New: splice(item.Payload, []byte(jump.String()))},
				})[0].Err
				if c.denied != (awserr.Status(err) == http.StatusForbidden) ||
					!c.denied && err != nil {
					t.Errorf("clock difference %s: %v, want access denied: %v", jump, err, c.denied)
				}
				if sent := server.Faults().Counts()["s3:HeadObject"] - before; sent > 3 ||
					!c.denied && sent > 2 {
					t.Errorf("clock difference %s: %d HEAD requests", jump, sent)
				}
			}
		})
	}
}

// A HEAD that is refused while credentials are refreshed is repeated.
func TestCredentialsChangeBeforeHead(t *testing.T) {
	server, source := newClockedBucket(t)
	item, err := source.Load(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int64
	server.S3().SetPolicy(func(call fakes3.Call) bool {
		return call.Action != "s3:HeadObject" || refused.Add(1) > 1
	})
	if err := source.Replace(t.Context(), []scan.Change{
		{Item: item, New: splice(item.Payload, []byte("new"))},
	})[0].Err; err != nil || refused.Load() < 2 {
		t.Errorf("%v after %d HEAD requests", err, refused.Load())
	}
}

// newClockedBucket returns a server whose clock can be set, and a bucket with the object "k".
func newClockedBucket(t *testing.T) (*fakeaws.Server, *Bucket) {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	client := s3.NewFromConfig(aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.Endpoint()),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:   &http.Client{Transport: transport},
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	}, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{
		Bucket: aws.String(bucketName),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket:  aws.String(bucketName),
		Key:     aws.String("k"),
		Tagging: aws.String("a=b"),
	}); err != nil {
		t.Fatal(err)
	}
	return server, New(Config{Client: client, Bucket: bucketName})
}
