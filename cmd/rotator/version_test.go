package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"rotator/internal/config"
	"rotator/internal/fakeaws"
	"rotator/internal/version"
)

// TestUserAgent: requests of the SDK clients and of ReEncrypt name rotator and its version.
func TestUserAgent(t *testing.T) {
	var mu sync.Mutex
	var agents []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		agents = append(agents, fakeaws.Operation(r)+" "+r.Header.Get("User-Agent"))
		http.Error(w, "{}", http.StatusBadRequest)
	}))
	defer server.Close()
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
	base, err := newStreams(nil, io.Discard, io.Discard).loadAWS(t.Context(), 1, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	client, reEncrypt := (&wiring{job: &config.Job{}}).kmsClient(base)
	_, _ = tableClient(base).ListTables(t.Context(), &dynamodb.ListTablesInput{})
	_, _ = client.ListKeys(t.Context(), &kms.ListKeysInput{})
	_, _ = reEncrypt(t.Context(), &kms.ReEncryptInput{
		CiphertextBlob:   []byte("blob"),
		DestinationKeyId: new("alias/new"),
	})
	mu.Lock()
	defer mu.Unlock()
	for _, operation := range []string{"dynamodb:ListTables", "kms:ListKeys", "kms:ReEncrypt"} {
		sent := slices.IndexFunc(agents, func(agent string) bool {
			return strings.HasPrefix(agent, operation+" ") &&
				strings.Contains(agent, " rotator/"+version.String())
		})
		if sent < 0 {
			t.Errorf("no %s request has the version of rotator: %q", operation, agents)
		}
	}
}

// TestDemoCommand: the former command refers to the program that replaced it.
func TestDemoCommand(t *testing.T) {
	for _, args := range [][]string{{"demo"}, {"demo", "--dir", "x"}, {"demo", "--help"}} {
		var stderr strings.Builder
		code := run(t.Context(), args, newStreams(nil, io.Discard, &stderr))
		if code != exitUsage || !strings.Contains(stderr.String(), "rotator-demo") {
			t.Errorf("%v: exit code %d, stderr %q", args, code, stderr.String())
		}
	}
}
