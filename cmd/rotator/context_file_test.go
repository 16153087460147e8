package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"rotator/internal/report"
)

// TestContextAdded: a row fails because the context file does not contain its name. After the name
// is added, retry moves the row in the same pass. With a wrong context, KMS refuses the request and
// nothing is changed.
func TestContextAdded(t *testing.T) {
	t.Parallel()
	b := newRowBench(t)
	first := b.run(t).Slots
	c := credstashClient()
	missed := b.rows[c.format][slices.IndexFunc(b.rows[c.format], func(r clientRow) bool {
		return r.refused == "missing-context"
	})]
	retry := func(contexts string) (s report.Summary) {
		t.Helper()
		b.write(t, "contexts.csv",
			"name,key,value\ndb/password,env,prod\ndb/password,role,db\nplain,,\n"+contexts)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "retry", "-f", "job.yaml", "-o", "json")
		cmd.Dir = b.dir
		cmd.Env = append(os.Environ(), b.server.AWSEnv()...)
		var log bytes.Buffer
		cmd.Stderr = &log
		out, _ := cmd.Output()
		if err := json.Unmarshal(out, &s); err != nil {
			t.Fatalf("%v, exit code %d: %s\n%s", err, cmd.ProcessState.ExitCode(), out, &log)
		}
		return s
	}
	if s := retry("not/listed,env,dev\n"); s.Slots != first {
		t.Errorf("with a wrong context: %+v", s.Slots)
	}
	if s := retry("not/listed,,\n"); s.Slots.Rotated != first.Rotated+1 ||
		s.Slots.Failed != first.Failed-1 {
		t.Errorf("with the right context: %+v", s.Slots)
	}
	b.disable(t, true)
	missed.row["name"] = textOf("not/listed")
	if got, err := b.read(t.Context(), c, missed); err != nil || got != "k4" {
		t.Errorf("the row is decrypted to %q, %v", got, err)
	}
}

// TestContextFileIsReadOnce: a change of the context file after the first request to AWS
// does not affect the run. The keys of the job are unknown until then.
func TestContextFileIsReadOnce(t *testing.T) {
	b := newRowBench(t)
	address, err := url.Parse(b.server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	var change sync.Once
	forward := httputil.NewSingleHostReverseProxy(address)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		change.Do(func() { b.write(t, "contexts.csv", "not a context file") })
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "audit", "-f", "job.yaml", "-o", "json")
	cmd.Dir = b.dir
	cmd.Env = append(append(os.Environ(), b.server.AWSEnv()...),
		"AWS_ENDPOINT_URL="+proxy.URL)
	var log strings.Builder
	cmd.Stderr = &log
	out, _ := cmd.Output()
	var s report.Summary
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v, exit code %d\n%s", err, cmd.ProcessState.ExitCode(), log.String())
	}
	if changed, _ := os.ReadFile(b.dir + "/contexts.csv"); string(changed) != "not a context file" {
		t.Fatal("audit sent no request through the proxy")
	}
	credstash := slices.IndexFunc(s.Targets, func(target report.Target) bool {
		return target.Name == credstashClient().format
	})
	if credstash < 0 || s.Targets[credstash].Slots.Remaining == 0 {
		t.Errorf("KMS accepted no ciphertext with the contexts of the file: %+v", s.Targets)
	}
}
