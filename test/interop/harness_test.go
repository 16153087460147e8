package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/harness"
)

// binary is rotator, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rotator-clients-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "rotator")
	build := exec.Command("go", "build", "-o", binary, "./cmd/rotator")
	build.Dir = filepath.Join("..", "..") // the main module, with its own dependencies
	code := 1
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build rotator: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// Trial is one migration: a fake AWS of its own, key A, under which a client stores
// its data, and key B, to which rotator moves it.
type Trial struct {
	*testing.T
	AWS  *fakeaws.Server
	A, B string // ARNs
	Dir  string // holds the job file; the client may use it too

	guards *harness.Watcher
}

// workerSecret is the secret access key with which rotator signs.
const workerSecret = "worker-secret-of-the-clients-module"

// NewTrial starts a fake AWS until the end of the test, and makes it that of every
// client in this process and its children.
func NewTrial(t *testing.T) *Trial {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	made := &Trial{T: t, AWS: server, Dir: t.TempDir(), guards: harness.Watch(t, server)}
	made.guards.AddSecret("the secret access key", workerSecret)
	for _, pair := range server.AWSEnv() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", harness.ApplicationKey)
	for _, name := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ROLE_ARN"} {
		made.Unset(name)
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(made.Dir, "no-config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(made.Dir, "no-credentials"))
	made.A, made.B = made.NewKey(), made.NewKey()
	return made
}

// Unset takes a variable out of the environment until the end of the test.
func (t *Trial) Unset(name string) {
	t.Helper()
	t.Setenv(name, "") // which puts it back at the end
	t.Must(os.Unsetenv(name))
}

// NewKey makes one more symmetric key.
func (t *Trial) NewKey() (arn string) {
	t.Helper()
	arn, err := t.AWS.KMS().CreateKey(fakekms.Symmetric)
	t.Must(err)
	return arn
}

// Must ends the test on an error.
func (t *Trial) Must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Config is that of an SDK client of the fake AWS.
func (t *Trial) Config() aws.Config {
	return aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(t.AWS.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey, "not-a-secret", "")}
}

// KMS, DynamoDB and S3 are ordinary SDK clients.
func (t *Trial) KMS() *kms.Client           { return kms.NewFromConfig(t.Config()) }
func (t *Trial) DynamoDB() *dynamodb.Client { return dynamodb.NewFromConfig(t.Config()) }
func (t *Trial) S3() *s3.Client {
	return s3.NewFromConfig(t.Config(), func(o *s3.Options) { o.UsePathStyle = true })
}

// Subject is what a test has to say of one client.
type Subject struct {
	// Targets are those of the job file: YAML, a list.
	Targets string
	// Slots is how many ciphertexts rotator has to move.
	Slots int
	// Exit is the exit code of run: 3 where slots under other keys are by design.
	Exit int
	// Read are the reads of the real client, by name. Each returns an error unless
	// the plaintext is the one that was stored.
	Read map[string]func() error
	// All are clients that read everything in one process of theirs: "" or what went
	// wrong, by name.
	All map[string]func() map[string]string
}

// Judge takes the data of a client, which is stored already, through a migration.
func (t *Trial) Judge(s Subject) {
	t.Helper()
	t.each(s, "under A", true)
	t.disable(true)
	t.each(s, "with A disabled and nothing moved", false)
	t.disable(false)

	t.Must(os.WriteFile(filepath.Join(t.Dir, "job.yaml"), []byte(fmt.Sprintf(
		"job: clients\ndestination: {key: %q}\nsource: {keys: [%q]}\nkms: {rate: 500}\ntargets:\n%s", t.B, t.A, s.Targets)), 0o600))
	out := t.rotator(s.Exit, "run")
	var report struct{ Slots struct{ Rotated int } }
	t.Must(json.Unmarshal([]byte(out), &report))
	if report.Slots.Rotated != s.Slots {
		t.Errorf("rotator moved %d slots, want %d", report.Slots.Rotated, s.Slots)
	}
	t.guards.ReadOnly(true)
	t.rotator(0, "audit", "--fail-on-remaining")
	t.checkGuards(s)
	t.disable(true)
	t.each(s, "with A disabled, after rotator", true)
}

// checkGuards says whether the guards saw the work, and what of its secrets is where
// it must not be: in what rotator printed, or in its state. What broke their rules they
// tell by themselves.
func (t *Trial) checkGuards(s Subject) {
	t.Helper()
	if n := t.guards.Seen("kms:ReEncrypt"); n < s.Slots {
		t.Errorf("the guards saw %d requests to KMS, and there are %d slots", n, s.Slots)
	}
	t.guards.Outputs(t.T, filepath.Join(t.Dir, ".rotator"))
}

// each reads everything; all of it has to succeed, or all has to fail.
func (t *Trial) each(s Subject, when string, want bool) {
	t.Helper()
	check := func(name string, wrong string) {
		t.Helper()
		switch {
		case wrong != "" && want:
			t.Errorf("%s, %s: %s", when, name, wrong)
		case wrong == "" && !want:
			t.Errorf("%s, %s can be read: the test shows nothing", when, name)
		}
	}
	for name, read := range s.Read {
		wrong := ""
		if err := read(); err != nil {
			wrong = err.Error()
		}
		check(name, wrong)
	}
	for client, read := range s.All {
		answers := read()
		if len(answers) == 0 {
			t.Errorf("%s, %s read nothing", when, client)
		}
		for name, wrong := range answers {
			check(client+": "+name, wrong)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

func (t *Trial) disable(yes bool) {
	t.Helper()
	state := fakekms.Enabled
	if yes {
		state = fakekms.Disabled
	}
	t.Must(t.AWS.KMS().SetState(t.A, state))
}

// rotator runs a command that has to end with an exit code, and returns stdout.
func (t *Trial) rotator(code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "-f", "job.yaml", "-o", "json", "-v")...)
	cmd.Dir = t.Dir
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKIAWORKERWORKER0000", "AWS_SECRET_ACCESS_KEY="+workerSecret)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	t.guards.Printed(out.String(), log.String())
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("rotator %v: %v, want exit code %d\n%s\n%s", args, err, code, out.Bytes(), tail(log.String()))
	}
	return out.String()
}

// Run runs a program of a client in the trial's directory and returns its stdout;
// an error holds the end of what it said.
func (t *Trial) Run(name string, args ...string) (string, error) { return t.run("", name, args...) }

func (t *Trial) run(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdin = t.Dir, strings.NewReader(stdin)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", filepath.Base(name), err, tail(log.String()))
	}
	return out.String(), nil
}

// Ask sends a script of this package a request, and reads its answer; both are JSON.
func (t *Trial) Ask(answer, request any, script ...string) {
	t.Helper()
	text, err := json.Marshal(request)
	t.Must(err)
	out, err := t.run(string(text), script[0], script[1:]...)
	t.Must(err)
	t.Must(json.Unmarshal([]byte(out), answer))
}

// Same is an error unless the plaintexts are equal.
func Same(got, want string) error {
	if got != want {
		return fmt.Errorf("reads as %d bytes that are not the %d bytes stored", len(got), len(want))
	}
	return nil
}

func tail(text string) string { return text[max(0, len(text)-2000):] }
