//go:build e2e

// Package e2e runs the rotator binary as a user does, against third-party servers. A boto3 program
// stores the data and reads it back.
package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"rotator/internal/harness"
)

const job = `job: e2e
destination: {key: alias/new}
source: {keys: [alias/old]}
kms: {rate: 500}
workers: 8
targets:
  - name: customers
    dynamodb: {table: customers, segments: 4}
    format: raw
    slots:
      - path: ssn
        context: {tenant: "${tenant}"}
      - path: profile.docs[*].key
        context: {tenant: "${tenant}"}
  - name: secrets
    s3: {bucket: secrets, prefix: prod/}
    format: base64
    slots:
      - context: {app: pay}
`

// slots is the number of slots that store.py seeds: 2,000 in the table and 300 in the bucket.
const slots = 2300

type result struct {
	Status    string
	Converged bool
	Slots     struct{ Seen, Rotated, Current, Remaining, Foreign, Failed, Conflict, Gone int }
}

func TestMoto(t *testing.T) {
	server, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("SKIPPED: moto_server is not installed (pip install 'moto[server]')")
	}
	if err := exec.Command("python3", "-c", "import boto3").Run(); err != nil {
		t.Skip("SKIPPED: python3 has no boto3 (pip install boto3)")
	}
	dir := t.TempDir()
	endpoint := startMoto(t, server)
	manifest := filepath.Join(dir, "manifest.json")
	script(t, "seed", endpoint, manifest)

	binary := filepath.Join(dir, "rotator")
	command(t, exec.Command("go", "build", "-o", binary, "rotator/cmd/rotator"))
	r := newRotator(t, binary, endpoint)
	r.canaries(t, manifest)

	r.guards.ReadOnly(true)
	before := r.expect(t, 4, "audit", "--fail-on-remaining")
	if before.Slots.Seen != slots || before.Slots.Remaining != slots {
		t.Fatalf("audit before: %+v, want all %d slots remaining", before.Slots, slots)
	}
	r.guards.ReadOnly(false)
	r.killHalfWay(t)
	run := r.expect(t, 0, "run")
	if run.Status != "complete" || run.Slots.Seen != slots ||
		run.Slots.Rotated+run.Slots.Current != slots {
		t.Fatalf("run after the kill: %+v", run)
	}
	r.guards.ReadOnly(true)
	verify := r.expect(t, 0, "verify")
	if !verify.Converged || verify.Slots.Current != slots {
		t.Fatalf("verify: %+v, want all %d slots current and converged", verify, slots)
	}
	r.guards.ReadOnly(false)
	script(t, "poison", endpoint, manifest)
	if last := r.expect(t, 3, "run"); last.Slots.Failed != 1 || last.Slots.Current != slots {
		t.Fatalf("run with a corrupt slot: %+v, want one slot failed", last.Slots)
	}
	for _, args := range [][]string{{"report", "--ledger"}, {"report"}, {"status"}} {
		r.run(t, args...)
	}
	r.checkGuards(t)
	script(t, "check", endpoint, manifest)
}

// startMoto starts the server on a free loopback port and stops it when the test ends. It returns
// the endpoint.
func startMoto(t *testing.T, server string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr)
	_ = listener.Close()
	cmd := exec.Command(server, "-H", "127.0.0.1", "-p", fmt.Sprint(address.Port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a wrapper may start the real server
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	endpoint := "http://" + address.String()
	for range 300 {
		if answer, err := http.Get(endpoint + "/moto-api/"); err == nil {
			_ = answer.Body.Close()
			return endpoint
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("moto_server did not answer within 30 s")
	return ""
}

func script(t *testing.T, args ...string) {
	t.Helper()
	command(t, exec.Command("python3", append([]string{"store.py"}, args...)...))
}

func command(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", bytes.TrimSpace(out))
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
}

// rotator runs the binary with the environment that a user sets. The endpoint is the proxy of
// guards.
type rotator struct {
	binary, dir, endpoint string
	secret, token         string // its credentials
	guards                *harness.Watcher
}

func newRotator(t *testing.T, binary, endpoint string) *rotator {
	t.Helper()
	r := &rotator{
		binary: binary,
		dir:    t.TempDir(),
		secret: "worker-secret-" + rand.Text(),
		token:  "worker-session-" + rand.Text(),
		guards: harness.NewWatcher(t),
	}
	r.endpoint = r.guards.Proxy(t, endpoint)
	if err := os.WriteFile(filepath.Join(r.dir, "job.yaml"), []byte(job), 0o600); err != nil {
		t.Fatal(err)
	}
	r.guards.AddSecret("the secret access key", r.secret)
	r.guards.AddSecret("the session token", r.token)
	return r
}

// canaries adds all plaintexts of the manifest to the secrets of the guards.
func (r *rotator) canaries(t *testing.T, manifest string) {
	t.Helper()
	var stored struct {
		Plain, Nested map[string]struct{ Secrets []string }
		Objects       map[string]struct{ Secret string }
	}
	text, err := os.ReadFile(manifest)
	if err == nil {
		err = json.Unmarshal(text, &stored)
	}
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	add := func(secrets ...string) {
		for _, secret := range secrets {
			r.guards.AddSecret("a plaintext", secret)
			n++
		}
	}
	for _, item := range stored.Plain {
		add(item.Secrets...)
	}
	for _, item := range stored.Nested {
		add(item.Secrets...)
	}
	for _, object := range stored.Objects {
		add(object.Secret)
	}
	if n != slots {
		t.Fatalf("the manifest holds %d plaintexts, want %d", n, slots)
	}
}

// checkGuards checks that the guards observed the requests, and that no output of rotator contains
// a secret. The guards report violations when the test ends.
func (r *rotator) checkGuards(t *testing.T) {
	t.Helper()
	for operation, least := range map[string]int{
		"kms:ReEncrypt":                  slots,
		"dynamodb:BatchExecuteStatement": 1,
		"s3:PutObject":                   300,
	} {
		if n := r.guards.Seen(operation); n < least {
			t.Errorf("the guards observed %d requests of %s, want at least %d", n, operation, least)
		}
	}
	r.guards.Outputs(t, r.dir)
}

func (r *rotator) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.binary, append(args, "-f", "job.yaml", "-v")...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+r.endpoint, "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=AKIAWORKERWORKER0000", "AWS_SECRET_ACCESS_KEY="+r.secret,
		"AWS_SESSION_TOKEN="+r.token)
	return cmd
}

// run runs a command and returns its stdout, its stderr and its exit code.
func (r *rotator) run(t *testing.T, args ...string) (text []byte, log string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := r.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("rotator %v: %v", args, err)
	}
	r.guards.Printed(out.String(), errs.String())
	return out.Bytes(), errs.String(), cmd.ProcessState.ExitCode()
}

// expect runs a command that must end with exit code want, and returns its result.
func (r *rotator) expect(t *testing.T, want int, args ...string) (answer result) {
	t.Helper()
	out, log, code := r.run(t, append(args, "-o", "json")...)
	if code != want {
		t.Fatalf("rotator %v: exit code %d, want %d\n%s\n%s", args, code, want, out, log)
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatalf("rotator %v: %v in %q", args, err, out)
	}
	t.Logf("rotator %v: exit %d, %+v", args, code, answer)
	return answer
}

// killHalfWay starts a run and kills it when its checkpoint shows that a tenth of the slots is
// rotated.
func (r *rotator) killHalfWay(t *testing.T) {
	t.Helper()
	cmd := r.command(t.Context(), "run", "-o", "json")
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		r.guards.Printed(out.String(), log.String())
	}()
	for range 300 {
		out, _, code := r.run(t, "status", "-o", "json")
		var status result
		if code == 0 && json.Unmarshal(out, &status) == nil && status.Slots.Rotated > slots/10 {
			if status.Slots.Rotated == slots {
				t.Fatal("the run ended before it could be killed")
			}
			t.Logf("killed when %d slots were saved as rotated", status.Slots.Rotated)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the run saved no progress within 15 s")
}
