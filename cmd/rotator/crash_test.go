package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// crashBench is a table of ciphertexts under an old key, and a job over it.
type crashBench struct {
	server   *fakeaws.Server
	aws      aws.Config
	client   *dynamodb.Client
	old, new string
	dir      string
	slots    int
}

func newCrashBench(t *testing.T, slots int, rate int) *crashBench {
	t.Helper()
	return newCrashBenchOf(t, slots, rate, 2)
}

func newCrashBenchOf(t *testing.T, slots, rate, segments int) *crashBench {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	// of checkpoint create-table, and of evidence --sign
	harness.Watch(t, server, "dynamodb:CreateTable", "kms:GetPublicKey", "kms:Sign")
	b := &crashBench{server: server, dir: t.TempDir(), slots: slots, aws: aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", "")}}
	b.client = dynamodb.NewFromConfig(b.aws)
	for _, arn := range []*string{&b.old, &b.new} {
		if *arn, err = server.KMS().CreateKey(fakekms.Symmetric); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String("customers"),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{{
			AttributeName: aws.String("id"),
			KeyType:       types.KeyTypeHash,
		}},
		AttributeDefinitions: []types.AttributeDefinition{{
			AttributeName: aws.String("id"),
			AttributeType: types.ScalarAttributeTypeS,
		}},
	}); err != nil {
		t.Fatal(err)
	}
	for first := 0; first < slots; first += 25 {
		b.fill(t, first, min(first+25, slots))
	}
	job := fmt.Sprintf(`job: crash
destination: {key: "%s"}
source: {keys: ["%s"]}
kms: {rate: %d}
workers: 8
targets:
  - name: customers
    dynamodb: {table: customers, segments: %d}
    format: raw
    slots: [{path: ssn, context: {purpose: pii}}]
`, b.new, b.old, rate, segments)
	if err := os.WriteFile(filepath.Join(b.dir, "job.yaml"), []byte(job), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func crashID(i int) string { return fmt.Sprintf("item-%05d", i) }

// crashSecret is the plaintext of the slot of an item. The tests search for it in all output.
func crashSecret(i int) string { return fmt.Sprintf("plaintext-%05d", i) }

func (b *crashBench) fill(t *testing.T, first, end int) {
	t.Helper()
	var puts []types.WriteRequest
	for i := first; i < end; i++ {
		blob, err := b.server.KMS().Encrypt(b.old, []byte(crashSecret(i)),
			map[string]string{"purpose": "pii"})
		if err != nil {
			t.Fatal(err)
		}
		puts = append(puts,
			types.WriteRequest{PutRequest: &types.PutRequest{Item: map[string]types.AttributeValue{
				"id":     &types.AttributeValueMemberS{Value: crashID(i)},
				"ssn":    &types.AttributeValueMemberB{Value: blob},
				"visits": &types.AttributeValueMemberN{Value: "0"}}}})
	}
	if _, err := b.client.BatchWriteItem(t.Context(),
		&dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{"customers": puts},
		}); err != nil {
		t.Fatal(err)
	}
}

// command returns rotator as a child process, see TestMain.
func (b *crashBench) command(
	ctx context.Context,
	args ...string,
) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), b.server.AWSEnv()...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	return cmd, &out, &log
}

func (b *crashBench) requests() int { return b.server.Faults().Counts()["kms:ReEncrypt"] }

// writer changes another attribute of random items until ctx ends. It returns the number of changes
// of each item.
func (b *crashBench) writer(ctx context.Context) map[int]int {
	visits := map[int]int{}
	for ctx.Err() == nil {
		i := rand.IntN(b.slots)
		if _, err := b.client.UpdateItem(context.WithoutCancel(ctx), &dynamodb.UpdateItemInput{
			TableName: aws.String("customers"),
			Key: map[string]types.AttributeValue{
				"id": &types.AttributeValueMemberS{Value: crashID(i)},
			},
			UpdateExpression: aws.String("ADD visits :one"),
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":one": &types.AttributeValueMemberN{Value: "1"},
			},
		}); err != nil {
			return nil
		}
		visits[i]++
		time.Sleep(time.Millisecond)
	}
	return visits
}

// check reads every item. Its slot must be readable under the new key, and no change of the writer
// may be lost.
func (b *crashBench) check(t *testing.T, visits map[int]int) {
	t.Helper()
	items := b.server.DynamoDB().Items("customers")
	if len(items) != b.slots {
		t.Fatalf("%d items, want %d", len(items), b.slots)
	}
	for i := range b.slots {
		var item struct {
			SSN    struct{ B []byte }
			Visits struct{ N string }
		}
		id := fmt.Sprintf(`{"id":{"S":%q}}`, crashID(i))
		if err := json.Unmarshal(items[id], &item); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		plaintext, key, err := b.server.KMS().Decrypt("", item.SSN.B,
			map[string]string{"purpose": "pii"})
		if err != nil || string(plaintext) != crashSecret(i) || key != b.new {
			t.Errorf("%s holds %q under %s, %v", id, plaintext, key, err)
		}
		if item.Visits.N != fmt.Sprint(visits[i]) {
			t.Errorf("an update was lost: %s has %s visits, want %d", id, item.Visits.N, visits[i])
		}
	}
}

// TestKilledTwentyTimes kills one pass over 5,000 items at random moments while another client
// writes. The last run completes the pass.
func TestKilledTwentyTimes(t *testing.T) {
	t.Parallel()
	const kills = 20
	b := newCrashBench(t, 5000, 1500)
	var moves, confirmations atomic.Int64
	b.server.KMS().SetPolicy(func(c fakekms.Call) bool {
		switch {
		case c.Action == "kms:ReEncryptFrom" && c.KeyARN == b.old:
			moves.Add(1)
		case c.Action == "kms:ReEncryptFrom" && c.KeyARN == b.new:
			confirmations.Add(1)
		}
		return true
	})
	writing, stop := context.WithCancel(t.Context())
	defer stop()
	visits := make(chan map[int]int, 1)
	go func() { visits <- b.writer(writing) }()
	killed := b.killRuns(t, kills)
	cmd, out, log := b.command(t.Context(), "run", "-f", "job.yaml", "-o", "json")
	if err := cmd.Run(); err != nil {
		t.Fatalf("the last run: %v\n%s", err, log)
	}
	stop()
	b.check(t, <-visits)
	var summary report.Summary
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil {
		t.Fatal(err)
	}
	if want := (report.Slots{
		Seen:    int64(b.slots),
		Rotated: int64(b.slots),
	}); summary.Slots != want || summary.Pass != 1 {
		t.Errorf("pass %d counted %+v, want %+v", summary.Pass, summary.Slots, want)
	}
	// After a kill, only responses without an intended write are requested again: at most a chunk
	// of each worker. Slots that were written are not moved again. Those written after the last
	// save of the checkpoint are confirmed by one request each, in at most 4 pages of 250 items in
	// each of the 2 segments.
	const inFlight, unsaved = 8 * 25, 2 * 4 * 250
	requests := int(moves.Load()) - kills - 1 // without the dry run of each run
	t.Logf("killed %d times; %d requests to move %d slots, at most %d expected; %d confirmations",
		killed, requests, b.slots, b.slots+inFlight*kills, confirmations.Load())
	if killed < kills/2 {
		t.Errorf("only %d of %d runs were killed; the others ended first", killed, kills)
	}
	if requests > b.slots+inFlight*kills {
		t.Errorf("more requests than slots and responses in progress")
	}
	if n := int(confirmations.Load()); n > unsaved*kills+kills+1 {
		t.Errorf("%d confirmations, more than slots in unsaved pages", n)
	}
	if cmd, _, log := b.command(t.Context(), "report", "-f", "job.yaml",
		"--check"); cmd.Run() != nil {
		t.Errorf("the audit log is not intact: %s", log)
	}
}

// killRuns starts runs and kills each after a random time. It returns the number of runs that had
// not ended before.
func (b *crashBench) killRuns(t *testing.T, runs int) (killed int) {
	t.Helper()
	for range runs {
		cmd, _, _ := b.command(t.Context(), "run", "-f", "job.yaml")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() == -1 {
			killed++
		}
	}
	return killed
}

// TestDrains: after SIGTERM a run ends in time, reports this, and can be resumed.
func TestDrains(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 1000, 200)
	cmd, out, log := b.command(t.Context(), "run", "-f", "job.yaml", "-o", "json")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for b.requests() < 50 {
		time.Sleep(5 * time.Millisecond)
	}
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if took := time.Since(began); cmd.ProcessState.ExitCode() != exitInterrupted ||
		took > stopPatience+slack() {
		t.Fatalf("SIGTERM: %v after %s, want exit code %d within 10 s\n%s", err, took,
			exitInterrupted, log)
	}
	var summary report.Summary
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil ||
		summary.Status != report.Stopped {
		t.Errorf("result %+v, %v, want status stopped", summary, err)
	}
	cmd, _, log = b.command(t.Context(), "run", "-f", "job.yaml")
	if err := cmd.Run(); err != nil {
		t.Fatalf("resumed: %v\n%s", err, log)
	}
	b.check(t, map[int]int{})
}

// TestAliasMovedWhileStopped: a run does not continue under another key, and its advice works.
func TestAliasMovedWhileStopped(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 500, 100)
	if err := b.server.KMS().SetAlias("alias/moving", b.new); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.dir, "job.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path,
		bytes.Replace(text, []byte(`"`+b.new+`"`), []byte("alias/moving"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, _, _ := b.command(t.Context(), "run", "-f", "job.yaml")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for b.requests() < 20 {
		time.Sleep(5 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	third, err := b.server.KMS().CreateKey(fakekms.Symmetric)
	if err == nil {
		err = b.server.KMS().SetAlias("alias/moving", third)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd, _, log := b.command(t.Context(), "run", "-f", "job.yaml")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitJob ||
		!bytes.Contains(log.Bytes(), []byte("alias/moving was "+b.new)) {
		t.Errorf("after the alias moved: %v, want exit code %d\n%s", err, exitJob, log)
	}
	// After following the advice, every ciphertext is under the key of the alias.
	advice := "add " + b.new + " to source.keys, because ciphertexts are under it, and begin a " +
		"new pass with rotator run --restart"
	if !strings.Contains(log.String(), advice) {
		t.Errorf("want the advice %q\n%s", advice, log)
	}
	b.edit(t, "source: {keys: [", `source: {keys: ["`+b.new+`", `)
	b.new = third
	b.rotator(t, exitDone, "run", "--restart")
	b.check(t, map[int]int{})
}

// TestLostResponses loses the responses to half of all writes after they were applied.
func TestLostResponses(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 1000, 5000)
	b.server.Faults().Set("dynamodb:BatchExecuteStatement", fault.Fault{
		Kind:  fault.LostResponse,
		Share: 0.5,
	})
	cmd, out, log := b.command(t.Context(), "run", "-f", "job.yaml", "-o", "json")
	if err := cmd.Run(); err != nil {
		t.Fatalf("run: %v\n%s", err, log)
	}
	var summary report.Summary
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil {
		t.Fatal(err)
	}
	if want := (report.Slots{Seen: 1000, Rotated: 1000}); summary.Slots != want {
		t.Errorf("counted %+v, want %+v", summary.Slots, want)
	}
	b.check(t, map[int]int{})
}

// TestEarlyFaults throttles the first requests of every kind. The run succeeds.
func TestEarlyFaults(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 20, 1000)
	for _, operation := range []string{"kms:DescribeKey", "kms:ReEncrypt",
		"dynamodb:DescribeTable", "dynamodb:Scan", "dynamodb:BatchExecuteStatement"} {
		b.server.Faults().Set(operation, fault.Fault{Kind: fault.Throttle, Times: 2})
	}
	cmd, _, log := b.command(t.Context(), "run", "-f", "job.yaml")
	if err := cmd.Run(); err != nil {
		t.Fatalf("run: %v\n%s", err, log)
	}
	b.check(t, map[int]int{})
}

// TestNoCredentials: a run without credentials ends with the exit code for denied access, and no
// slot fails.
func TestNoCredentials(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 20, 1000)
	cmd, _, log := b.command(t.Context(), "run", "-f", "job.yaml")
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool {
		return strings.HasPrefix(v, "AWS_ACCESS_KEY_ID") || strings.HasPrefix(v, "AWS_SECRET")
	})
	cmd.Env = append(cmd.Env, "AWS_CONFIG_FILE=/nowhere", "AWS_SHARED_CREDENTIALS_FILE=/nowhere")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitAccess ||
		!strings.Contains(log.String(), "rotator: no credentials found") {
		t.Errorf("run: %v, want exit code %d\n%s", err, exitAccess, log)
	}
}

// TestLowWriteCapacity: a write limit far below the speed of the workers slows a run down but
// causes no failure.
func TestLowWriteCapacity(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 400, 5000)
	path := filepath.Join(b.dir, "job.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path,
		bytes.Replace(text, []byte("segments:"), []byte("write_capacity: 100, segments:"), 1),
		0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cmd, _, log := b.command(t.Context(), "run", "-f", "job.yaml")
	if err := cmd.Run(); err != nil {
		t.Fatalf("run: %v\n%s", err, log)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("400 units at 100 per second took only %s", took)
	}
	b.check(t, map[int]int{})
}

// TestNoSecretsInOutput searches for plaintexts, ciphertexts and credentials in all that a run
// prints and stores, with exceptions, faults and debug logs.
func TestNoSecretsInOutput(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 200, 5000)
	var canaries [][]byte
	canary := func(secret []byte) {
		canaries = append(canaries, secret, []byte(base64.StdEncoding.EncodeToString(secret)),
			[]byte(hex.EncodeToString(secret)))
	}
	canary([]byte("not-a-secret")) // the secret access key of AWSEnv
	canary([]byte("plaintext-"))
	blobs := func() {
		for _, text := range b.server.DynamoDB().Items("customers") {
			var item struct{ SSN struct{ B []byte } }
			if err := json.Unmarshal(text, &item); err != nil {
				t.Fatal(err)
			}
			canary(item.SSN.B[38:]) // after the header, which is the same for all blobs of a key
		}
	}
	poison := bytes.Repeat([]byte("poison blob "), 12)
	if _, err := b.client.PutItem(t.Context(), &dynamodb.PutItemInput{
		TableName: aws.String("customers"),
		Item: map[string]types.AttributeValue{
			"id":  &types.AttributeValueMemberS{Value: "poison"},
			"ssn": &types.AttributeValueMemberB{Value: poison}},
	}); err != nil {
		t.Fatal(err)
	}
	blobs()
	b.server.Faults().Set("dynamodb:BatchExecuteStatement", fault.Fault{
		Kind:  fault.LostResponse,
		Share: 0.3,
	})
	b.server.Faults().Set("kms:ReEncrypt", fault.Fault{Kind: fault.InternalError, Share: 0.1})
	var seen bytes.Buffer
	for _, args := range [][]string{{"audit"}, {"run", "-v"}, {"run", "-o", "json"}, {"retry"},
		{"status"}, {"report", "--ledger"}, {"report", "--check"}} {
		cmd, out, log := b.command(t.Context(), append(args, "-f", "job.yaml")...)
		_ = cmd.Run() // most runs exit with 3 because of the poison item
		fmt.Fprintf(&seen, "%s\n%s\n", out, log)
	}
	blobs()
	files, err := filepath.Glob(filepath.Join(b.dir, ".rotator", "*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("state files: %v, %v, want 3", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen.Write(text)
	}
	for _, secret := range canaries {
		if bytes.Contains(seen.Bytes(), secret) {
			t.Errorf("the output contains the secret %q", secret)
		}
	}
}
