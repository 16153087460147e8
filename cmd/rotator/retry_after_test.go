package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rotator/internal/fakeaws/fault"
)

// TestRetryAfterIsHonored: a request that failed is not sent again before the time that the service
// states in x-amz-retry-after, for each service, in the preflight and in a run.
func TestRetryAfterIsHonored(t *testing.T) {
	t.Parallel()
	const after = 300 * time.Millisecond // the first backoff without it is at most 25 ms
	for _, test := range []struct {
		operation string
		skip      int
	}{
		{"kms:ReEncrypt", 0}, // a dry run of the preflight
		{"kms:ReEncrypt", 3},
		{"dynamodb:DescribeTable", 0},
		{"dynamodb:Scan", 0},
		{"dynamodb:BatchExecuteStatement", 2}, // after two probes
		{"s3:ListObjectsV2", 1},               // after a search for old probe objects
		{"s3:GetObject", 0},
		{"s3:PutObject", 0},
	} {
		for kind, name := range map[fault.Kind]string{
			fault.Throttle:      "throttled",
			fault.InternalError: "internal error",
		} {
			t.Run(fmt.Sprintf("%s %d %s", test.operation, test.skip, name), func(t *testing.T) {
				t.Parallel()
				m := newMixed(t, 12)
				m.fillTable(t, "rows", 60)
				job := fmt.Sprintf("job: after\ndestination: { key: %q }\nsource: { keys: [%q] }\n"+
					"kms: { rate: 1000 }\nworkers: 1\ntargets:\n%s", m.keys["new"], m.keys["old"],
					targetWith(test.operation))
				file := filepath.Join(t.TempDir(), "job.yaml")
				if err := os.WriteFile(file, []byte(job), 0o600); err != nil {
					t.Fatal(err)
				}
				var times []time.Time
				var mu sync.Mutex
				m.server.Faults().Set(test.operation, fault.Fault{
					Kind:       kind,
					RetryAfter: after,
					Skip:       test.skip,
					Times:      1,
					Of: func(*http.Request) bool {
						mu.Lock()
						defer mu.Unlock()
						times = append(times, time.Now())
						return true
					},
				})
				if code, out, errs := command(t, m.env, "run", "-f", file); code != 0 &&
					code != exitExceptions {
					t.Fatalf("exit code %d: %s%s", code, out, errs)
				}
				if len(times) < test.skip+2 {
					t.Fatalf("%d requests, want at least %d", len(times), test.skip+2)
				}
				if gap := times[test.skip+1].Sub(times[test.skip]); gap < after {
					t.Errorf("the next request came after %s, want at least %s", gap, after)
				}
			})
		}
	}
}

// targetWith returns a job target that causes an operation. The job has only this target, because
// requests for another one would not wait.
func targetWith(operation string) string {
	if strings.HasPrefix(operation, "s3:") {
		return "  - { s3: { bucket: lake }, format: auto }\n"
	}
	return "  - dynamodb: { table: rows, segments: 1 }\n" +
		"    format: raw\n    slots: [{ path: blob }]\n"
}
