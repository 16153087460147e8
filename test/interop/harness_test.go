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

// Trial is one migration. It has a separate fake AWS with key A, under which a client stores its
// data, and key B, to which rotator moves it.
type Trial struct {
	*testing.T
	AWS  *fakeaws.Server
	A, B string // ARNs
	Dir  string // holds the job file; the client may use it too

	guards *harness.Watcher
}

// workerSecret is the secret access key with which rotator signs.
const workerSecret = "worker-secret-of-the-clients-module"

// NewTrial starts a fake AWS, which runs until the test ends. It sets the environment so that all
// clients in this process and its children use it.
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
	for _, name := range []string{
		"AWS_PROFILE",
		"AWS_SESSION_TOKEN",
		"AWS_ENDPOINT_URL_KMS",
		"AWS_ENDPOINT_URL_S3",
		"AWS_ENDPOINT_URL_DYNAMODB",
		"AWS_ROLE_ARN",
	} {
		made.Unset(name)
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(made.Dir, "no-config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(made.Dir, "no-credentials"))
	made.A, made.B = made.NewKey(), made.NewKey()
	return made
}

// Unset removes a variable from the environment until the test ends.
func (t *Trial) Unset(name string) {
	t.Helper()
	t.Setenv(name, "") // restores the old value when the test ends
	t.Must(os.Unsetenv(name))
}

// NewKey creates a symmetric key.
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

// Config returns the configuration for an SDK client of the fake AWS.
func (t *Trial) Config() aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(t.AWS.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", ""),
	}
}

// KMS, DynamoDB and S3 return SDK clients of the fake AWS.
func (t *Trial) KMS() *kms.Client           { return kms.NewFromConfig(t.Config()) }
func (t *Trial) DynamoDB() *dynamodb.Client { return dynamodb.NewFromConfig(t.Config()) }
func (t *Trial) S3() *s3.Client {
	return s3.NewFromConfig(t.Config(), func(o *s3.Options) { o.UsePathStyle = true })
}

// Subject describes the data and the readers of one client.
type Subject struct {
	// Targets is the list of targets in the job file, as YAML.
	Targets string
	// Slots is the number of ciphertexts that rotator must move.
	Slots int
	// Exit is the expected exit code of run. It is 3 if the data has slots under other keys.
	Exit int
	// Read are the reads of the real client, by name. Each returns an error unless it gets
	// the plaintext that was stored.
	Read map[string]func() error
	// All are clients that read all data in one process, by the name of the client. Each
	// returns "" or the error for every read.
	All map[string]func() map[string]string
}

// Judge moves the stored data of a client from key A to key B with rotator. It checks that the
// client can read its data before and, with A disabled, after the run, and that it cannot read
// anything with A disabled before the run.
func (t *Trial) Judge(s Subject) {
	t.Helper()
	t.each(s, "under A", true)
	t.disable(true)
	t.each(s, "with A disabled and nothing moved", false)
	t.disable(false)

	job := fmt.Sprintf("job: clients\ndestination: {key: %q}\nsource: {keys: [%q]}\n"+
		"kms: {rate: 500}\ntargets:\n%s", t.B, t.A, s.Targets)
	t.Must(os.WriteFile(filepath.Join(t.Dir, "job.yaml"), []byte(job), 0o600))
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

// checkGuards checks that the guards observed the requests, and that neither the output of rotator
// nor its state contains a secret. The guards report violations when the test ends.
func (t *Trial) checkGuards(s Subject) {
	t.Helper()
	if n := t.guards.Seen("kms:ReEncrypt"); n < s.Slots {
		t.Errorf("the guards observed %d ReEncrypt requests, want at least %d", n, s.Slots)
	}
	t.guards.Outputs(t.T, filepath.Join(t.Dir, ".rotator"))
}

// each runs all reads of s. If want is true, all of them must succeed, otherwise all must fail.
func (t *Trial) each(s Subject, when string, want bool) {
	t.Helper()
	check := func(name string, wrong string) {
		t.Helper()
		switch {
		case wrong != "" && want:
			t.Errorf("%s, %s: %s", when, name, wrong)
		case wrong == "" && !want:
			t.Errorf("%s, %s can be read, so the test proves nothing", when, name)
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

// rotator runs a command that must end with the exit code, and returns its stdout.
func (t *Trial) rotator(code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "-f", "job.yaml", "-o", "json", "-v")...)
	cmd.Dir = t.Dir
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKIAWORKERWORKER0000",
		"AWS_SECRET_ACCESS_KEY="+workerSecret)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	t.guards.Printed(out.String(), log.String())
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("rotator %v: %v, want exit code %d\n%s\n%s",
			args, err, code, out.Bytes(), tail(log.String()))
	}
	return out.String()
}

// Run runs a program of a client in the directory of the trial and returns its stdout. An error
// contains the end of its stderr.
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

// Ask runs a script of this package with request as JSON on stdin, and decodes its stdout, which
// is JSON, into answer.
func (t *Trial) Ask(answer, request any, script ...string) {
	t.Helper()
	text, err := json.Marshal(request)
	t.Must(err)
	out, err := t.run(string(text), script[0], script[1:]...)
	t.Must(err)
	t.Must(json.Unmarshal([]byte(out), answer))
}

// Same returns an error unless the plaintexts are equal. The error does not contain them.
func Same(got, want string) error {
	if got != want {
		return fmt.Errorf("reads as %d bytes that are not the %d bytes stored", len(got), len(want))
	}
	return nil
}

func tail(text string) string { return text[max(0, len(text)-2000):] }
