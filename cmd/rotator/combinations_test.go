package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakesm2"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// keyKind is a key spec and an encryption algorithm.
type keyKind struct {
	name      string
	spec      fakekms.KeySpec
	algorithm string // as in a job file; "" for a symmetric key
}

func keyKinds() []keyKind {
	return []keyKind{
		{"symmetric", fakekms.Symmetric, ""},
		{"RSA", fakekms.RSA2048, "RSAES_OAEP_SHA_256"},
		{"SM2", fakekms.SM2, "SM2PKE"},
	}
}

// member returns the algorithm as a member of a mapping in a job file.
func (k keyKind) member() string {
	if k.algorithm == "" {
		return ""
	}
	return ", algorithm: " + k.algorithm
}

// The numbers of ciphertexts of each combination.
const (
	combinedRows    = 60 // of a table, in more than one batch of writes
	combinedObjects = 8
)

// TestKeyCombinations moves the rows of a table and the objects of a bucket between keys
// of every kind. The run is killed twice, before it gets the response: when the table has
// applied a batch of writes, and when the bucket has stored an object. The third run must
// complete the pass without moving again what was written. verify must find no ciphertext
// under the old key. Every ciphertext must decrypt under the new key only.
func TestKeyCombinations(t *testing.T) {
	t.Parallel()
	rows := make(chan string, 9)
	t.Run("move", func(t *testing.T) {
		for _, from := range keyKinds() {
			for _, to := range keyKinds() {
				t.Run(from.name+" to "+to.name, func(t *testing.T) {
					t.Parallel()
					rows <- tryCombination(t, from, to)
				})
			}
		}
	})
	close(rows)
	t.Log("source     destination  kills  pass  moved  current  verified  decrypted")
	printed := 0
	for row := range rows {
		t.Log(row)
		printed++
	}
	if printed != len(keyKinds())*len(keyKinds()) {
		t.Errorf("%d combinations passed", printed)
	}
}

func tryCombination(t *testing.T, from, to keyKind) (row string) {
	b := newCombination(t, from, to)
	b.fill(t)
	b.server.Faults().Set("s3:PutObject", fault.Fault{Delay: time.Minute})
	b.killAt(t, "dynamodb:BatchExecuteStatement", 2)
	b.server.Faults().Clear("s3:PutObject")
	b.killAt(t, "s3:PutObject", 3)
	const all = combinedRows + combinedObjects
	moved := b.result(t, exitDone, "run")
	if want := (report.Slots{Seen: all, Rotated: all}); moved.Slots != want || moved.Pass != 1 {
		t.Errorf("pass %d counted %+v, want %+v", moved.Pass, moved.Slots, want)
	}
	b.result(t, exitDone, "report", "--check")
	again := b.result(t, exitDone, "run", "--exact")
	if want := (report.Slots{Seen: all, Current: all}); again.Slots != want {
		t.Errorf("the next pass counted %+v, want %+v", again.Slots, want)
	}
	verified := b.result(t, exitDone, "verify")
	if !verified.Converged || len(verified.SourceKeys) != 1 ||
		verified.SourceKeys[0].Answer != "yes" {
		t.Errorf("verify: converged %v, %+v", verified.Converged, verified.SourceKeys)
	}
	return fmt.Sprintf("%-10s %-12s %5d  %4d  %5d  %7d  %8v  %9d", from.name, to.name, b.kills,
		moved.Pass, moved.Slots.Rotated, again.Slots.Current, verified.Converged, b.decrypted(t))
}

// combination is a table and a bucket of ciphertexts under a key of one kind, and a job
// that moves them to a key of another kind.
type combination struct {
	server   *fakeaws.Server
	from, to keyKind
	old, new string // ARNs
	dynamodb *dynamodb.Client
	s3       *s3.Client
	dir      string
	kills    int
}

func newCombination(t *testing.T, from, to keyKind) *combination {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{Region: "cn-north-1", SM2: fakesm2.New})
	must(t, err)
	t.Cleanup(func() { _ = server.Close() })
	harness.Watch(t, server)
	cfg := aws.Config{Region: "cn-north-1", BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(
			harness.ApplicationKey, "not-a-secret", "")}
	b := &combination{
		server:   server,
		from:     from,
		to:       to,
		dynamodb: dynamodb.NewFromConfig(cfg),
		s3:       s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
		dir:      t.TempDir(),
	}
	b.old, err = server.KMS().CreateKey(from.spec)
	must(t, err)
	b.new, err = server.KMS().CreateKey(to.spec)
	must(t, err)
	b.createTargets(t)
	must(t, os.WriteFile(filepath.Join(b.dir, "job.yaml"), []byte(b.job()), 0o600))
	return b
}

func (b *combination) job() string {
	contexts := ""
	if b.from.algorithm == "" {
		contexts += `, context: { purpose: pii }`
	}
	if b.to.algorithm == "" {
		contexts += `, destination_context: { purpose: moved }`
	} else if b.from.algorithm == "" {
		contexts += `, destination_context: {}`
	}
	return fmt.Sprintf(`job: combination
source: { keys: ["%s"]%s }
destination: { key: "%s"%s }
kms: { region: cn-north-1 }
workers: 32
targets:
  - dynamodb: { table: rows, segments: 1 }
    format: raw
    slots: [{ path: sealed%s }]
  - s3: { bucket: vault }
    format: base64
    slots: [{ padding: always%s }]
`, b.old, b.from.member(), b.new, b.to.member(), contexts, contexts)
}

func combinedSecret(i int) string { return fmt.Sprintf("plaintext %d", i) }

// places creates the table and the bucket.
func (b *combination) createTargets(t *testing.T) {
	t.Helper()
	id := aws.String("id")
	_, err := b.dynamodb.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String("rows"),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema:   []types.KeySchemaElement{{AttributeName: id, KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: id, AttributeType: types.ScalarAttributeTypeS}}})
	must(t, err)
	_, err = b.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("vault")})
	must(t, err)
}

// putRow stores a ciphertext in a new row.
func (b *combination) putRow(t *testing.T, id string, blob []byte) {
	t.Helper()
	_, err := b.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{
		TableName: aws.String("rows"),
		Item: attributes{
			"id":     &types.AttributeValueMemberS{Value: id},
			"sealed": &types.AttributeValueMemberB{Value: blob},
		}})
	must(t, err)
}

// putObject stores a ciphertext in base64 in a new object.
func (b *combination) putObject(t *testing.T, key string, blob []byte) {
	t.Helper()
	_, err := b.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("vault"),
		Key: &key, Body: strings.NewReader(base64.StdEncoding.EncodeToString(blob))})
	must(t, err)
}

// row returns the ciphertext of a row.
func (b *combination) row(t *testing.T, id string) []byte {
	t.Helper()
	var row struct{ Sealed struct{ B []byte } }
	item := b.server.DynamoDB().Items("rows")[fmt.Sprintf(`{"id":{"S":%q}}`, id)]
	must(t, json.Unmarshal(item, &row))
	return row.Sealed.B
}

// object returns the ciphertext of an object.
func (b *combination) object(t *testing.T, key string) []byte {
	t.Helper()
	object, err := b.s3.GetObject(t.Context(),
		&s3.GetObjectInput{Bucket: aws.String("vault"), Key: &key})
	must(t, err)
	var text bytes.Buffer
	_, err = text.ReadFrom(object.Body)
	must(t, err)
	blob, err := base64.StdEncoding.DecodeString(text.String())
	must(t, err)
	return blob
}

// fill stores the ciphertexts of TestKeyCombinations.
func (b *combination) fill(t *testing.T) {
	t.Helper()
	var context map[string]string
	if b.from.algorithm == "" {
		context = map[string]string{"purpose": "pii"}
	}
	seal := func(i int) []byte {
		blob, err := b.server.KMS().Encrypt(b.old, []byte(combinedSecret(i)), context)
		must(t, err)
		return blob
	}
	for i := range combinedRows {
		b.putRow(t, fmt.Sprint(i), seal(i))
	}
	for i := combinedRows; i < combinedRows+combinedObjects; i++ {
		b.putObject(t, fmt.Sprint(i), seal(i))
	}
}

func (b *combination) command(
	t *testing.T,
	args ...string,
) (cmd *exec.Cmd, out, log *bytes.Buffer) {
	cmd = exec.CommandContext(t.Context(), os.Args[0], append(args, "-f", "job.yaml")...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), b.server.AWSEnv()...)
	out, log = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, log
	return cmd, out, log
}

// killAt runs rotator and kills it after the n-th request of an operation was applied,
// before the response is sent.
func (b *combination) killAt(t *testing.T, operation string, n int64) {
	t.Helper()
	cmd, _, log := b.command(t, "run")
	dead := make(chan struct{})
	var process atomic.Pointer[os.Process]
	var count atomic.Int64
	b.server.Faults().Set(operation, fault.Fault{
		Of: func(r *http.Request) bool { return !strings.Contains(r.URL.Path, ".rotator") },
		Change: func(_ *http.Request, _ http.Header, answer []byte) []byte {
			if count.Add(1) >= n {
				_ = process.Load().Kill()
				<-dead
			}
			return answer
		}})
	defer b.server.Faults().Clear(operation)
	must(t, cmd.Start())
	process.Store(cmd.Process)
	err := cmd.Wait()
	close(dead)
	if cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("not killed at %s: %v\n%s", operation, err, log)
	}
	b.kills++
}

// result runs a command that must end with an exit code, and returns its result.
func (b *combination) result(t *testing.T, code int, args ...string) (s report.Summary) {
	t.Helper()
	cmd, out, log := b.command(t, append(args, "-o", "json")...)
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != code {
		t.Fatalf("%v: %v, want exit code %d\n%s%s", args, err, code, out, log)
	}
	if out.Len() > 0 {
		must(t, json.Unmarshal(out.Bytes(), &s))
	}
	return s
}

// decrypted returns the number of ciphertexts. It fails the test unless all of them decrypt
// under the new key.
func (b *combination) decrypted(t *testing.T) (n int) {
	t.Helper()
	var context map[string]string
	if b.to.algorithm == "" {
		context = map[string]string{"purpose": "moved"}
	}
	for i := range combinedRows + combinedObjects {
		read := b.row
		if i >= combinedRows {
			read = b.object
		}
		plaintext, key, err := b.server.KMS().Decrypt(b.new, read(t, fmt.Sprint(i)), context)
		if err != nil || string(plaintext) != combinedSecret(i) || key != b.new {
			t.Errorf("%d is %q under %s, %v", i, plaintext, key, err)
			continue
		}
		n++
	}
	return n
}
