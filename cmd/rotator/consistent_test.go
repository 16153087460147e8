package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// TestVerifyReadsTablesConsistently: verify reads tables with strongly consistent reads. The other
// commands do not, because such reads consume twice the capacity.
func TestVerifyReadsTablesConsistently(t *testing.T) {
	t.Parallel()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	cfg := aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", ""),
	}
	w := &world{
		server:   server,
		dynamodb: dynamodb.NewFromConfig(cfg),
		s3:       objectClient(cfg, "vault"),
	}
	if err := w.fill(); err != nil {
		t.Fatal(err)
	}
	job := filepath.Join(t.TempDir(), "job.yaml")
	text := "job: demo\ndestination: {key: alias/new}\nsource: {keys: [alias/old]}\ntargets:\n" +
		"  - dynamodb: {table: customers}\n    format: raw\n" +
		"    slots: [{path: ssn, context: {tenant: t1}}]\n"
	if err := os.WriteFile(job, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		command    string
		consistent bool
	}{{"audit", false}, {"run", false}, {"verify", true}} {
		scans, consistent := scansOf(t, server, test.command, job)
		if scans == 0 || test.consistent != (consistent == scans) ||
			!test.consistent && consistent > 0 {
			t.Errorf("%s: %d of %d scans are consistent, want all: %v", test.command, consistent,
				scans, test.consistent)
		}
	}
}

// scansOf runs a command and counts its Scan requests, and those with consistent reads.
func scansOf(t *testing.T, server *fakeaws.Server, name, job string) (scans, consistent int) {
	t.Helper()
	var mu sync.Mutex
	server.Faults().Watch(func(e fault.Exchange) {
		var in struct{ ConsistentRead bool }
		mu.Lock()
		defer mu.Unlock()
		if e.Operation == "dynamodb:Scan" && json.Unmarshal(e.Body, &in) == nil {
			scans++
			if in.ConsistentRead {
				consistent++
			}
		}
	})
	if code, out, log := command(t, server.AWSEnv(), name, "-f", job); code != 0 {
		t.Fatalf("%s ended with %d\n%s%s", name, code, out, log)
	}
	return scans, consistent
}
