package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
	"rotator/internal/report/document"
)

// TestMain builds the program, for scripts and for tests that start and kill it: os.Args[0] is
// then its path, and rotator is the first program of this name in PATH. It starts faster than
// the test binary, which the tests start about 2,000 times.
func TestMain(m *testing.M) {
	waitInParallel()
	collectLess()
	dir, err := os.MkdirTemp("", "rotator-program")
	if err == nil {
		err = build(filepath.Join(dir, "rotator"))
	}
	if err != nil {
		log.Fatalf("build rotator for the tests: %v", err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir) // the directory is temporary
	os.Exit(code)
}

// build builds the program and makes it the one that the tests start.
func build(path string) error {
	args := []string{"build", "-buildvcs=false", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	os.Args[0] = path
	return os.Setenv("PATH", filepath.Dir(path)+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// collectLess makes garbage collections of the test binary rarer. The fake services of all tests
// that run in parallel allocate much, and their heap is small.
func collectLess() {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(2 << 30)
}

// waitInParallel raises the default of -parallel. The tests of this package start processes and
// mostly wait for them, for leases and for outages, so more tests can run concurrently than there
// are processors. The flag on the command line still takes precedence, because the flags have not
// been parsed yet.
func waitInParallel() {
	perProcessor := 6
	if raceEnabled {
		perProcessor = 1 // the race detector needs the processors
	}
	n := strconv.Itoa(perProcessor * runtime.GOMAXPROCS(0))
	if err := flag.Set("test.parallel", n); err != nil {
		panic(err) // package testing has defined the flag
	}
}

// TestScripts runs testdata/*.txtar: the commands of a user, with a separate fake AWS for each
// script. In addition to the commands of package testscript there are
//
//	exits CODE rotator ARG...   run a command that must exit with a code
//	writes N                    check that the targets received N write requests
//	disable KEY                 disable a key: old, new or third
//	disablekey KEY              disable it with a request, which CloudTrail records
//	enable KEY                  enable it again
//	retire KEY                  schedule the deletion of a key
//	renew KEY [N]               rotate a key to new material, after N more requests to KMS
//	repoint ALIAS KEY           point an alias at another key
//	rewrite ID KEY              store a new ciphertext in an item, or an object prod/N
//	edit ID ATTRIBUTE TEXT      set another attribute of an item, or create the item
//	damage ID                   change the last byte of an item's ciphertext
//	store KEY [FILE]            store an object in the bucket vault: empty, or with a file's text
//	versioning                  enable versioning of the bucket vault
//	erase NAME                  delete an object of the bucket vault
//	expire                      delete the old versions in the bucket vault
//	lifecycle DAYS              let a rule delete them after some days
//	archive NAME                store an object of the bucket vault in an archive
//	pose KEY AS                 give new ciphertexts under KEY the headers of key AS
//	share KEY ID...             store the same new ciphertext in several items
//	quota CODE APPLIED DEFAULT  set the quotas of KMS; 0 means that there is none
//	call KEY                    encrypt under a key as another caller than rotator
//	hold PATH                   lock a checkpoint like another run
//	deny OPERATION              refuse an operation: dynamodb:Scan
//	allow OPERATION             allow it again
//	valid FILE                  check that a report is valid by its JSON Schema
//	kept FILE                   check that the read-only pass whose JSON result is in stdout
//	                            is printed again by report with the job file FILE
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup:               func(env *testscript.Env) error { return setup(t, env) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      exits,
			"writes":     writes,
			"disable":    inWorld((*world).disable),
			"enable":     inWorld((*world).enable),
			"disablekey": inWorld((*world).disableKey),
			"retire":     inWorld((*world).retire),
			"renew":      inWorld((*world).renew),
			"repoint":    inWorld((*world).repoint),
			"rewrite":    inWorld((*world).rewrite),
			"edit":       inWorld((*world).edit),
			"damage":     inWorld((*world).damage),
			"store":      inWorld((*world).store),
			"seal":       inWorld((*world).seal),
			"body":       inWorld((*world).body),
			"versioning": inWorld((*world).versioning),
			"erase":      inWorld((*world).erase),
			"expire":     inWorld((*world).expire),
			"lifecycle":  inWorld((*world).lifecycle),
			"archive":    inWorld((*world).archive),
			"pose":       inWorld((*world).pose),
			"share":      inWorld((*world).share),
			"call":       inWorld((*world).call),
			"hold":       hold,
			"kept":       kept,
			"valid":      valid,
			"deny": func(ts *testscript.TestScript, _ bool, args []string) {
				of(ts).server.Faults().Set(args[0],
					fault.Fault{
						Kind:   fault.Refusal,
						Answer: fault.Answer{Code: "AccessDeniedException"},
					})
			},
			"allow": func(ts *testscript.TestScript, _ bool, args []string) {
				of(ts).server.Faults().Clear(args[0])
			},
			"quota": inWorld((*world).quota),
		},
	})
}

// world is the environment of a script: 20 items and 5 objects under the old key, one ciphertext
// that KMS cannot decrypt, and one under a third key.
type world struct {
	server          *fakeaws.Server
	dynamodb        *dynamodb.Client
	s3              *s3.Client
	old, new, third string
}

type worldKey struct{}

func of(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// inWorld returns the command of a script that calls a method of its world.
func inWorld(
	do func(*world, *testscript.TestScript, []string),
) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) { do(of(ts), ts, args) }
}

func setup(t *testing.T, env *testscript.Env) error {
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		return err
	}
	env.Defer(func() { _ = server.Close() })
	harness.Watch(t, server, "dynamodb:CreateTable", // of checkpoint create-table
		"servicequotas:GetServiceQuota", "servicequotas:GetAWSDefaultServiceQuota") // of kms.quota
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", "")}
	w := &world{server: server, dynamodb: dynamodb.NewFromConfig(cfg),
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })}
	env.Values[worldKey{}] = w
	env.Vars = append(env.Vars, server.AWSEnv()...)
	server.SetQuota("kms", symmetricQuota, fakeaws.Quota{Applied: 10000})
	if err := w.fill(); err != nil {
		return err
	}
	env.Vars = append(env.Vars, "OLD="+w.old, "NEW="+w.new, "THIRD="+w.third)
	return nil
}

// kept compares the result in stdout with that of report --read-pass.
func kept(ts *testscript.TestScript, _ bool, args []string) {
	result := func() (fields map[string]any) {
		valid(ts, false, []string{"stdout"})
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &fields))
		for _, own := range []string{"command", "generated", "exceptions"} {
			delete(fields, own) // a stored pass has fewer exceptions by name
		}
		return fields
	}
	want := result()
	number := fmt.Sprint(want["read_pass"])
	ts.Check(ts.Exec("rotator", "report", "-f", args[0], "--read-pass", number, "-o", "json"))
	if got := result(); !reflect.DeepEqual(got, want) {
		ts.Fatalf("read-only pass %s is stored as\n%v\nbut was printed as\n%v", number, got, want)
	}
}

// valid checks a report by its JSON Schema, and reads it.
func valid(ts *testscript.TestScript, _ bool, args []string) {
	text, err := document.JSONSchema()
	ts.Check(err)
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	ts.Check(err)
	compiler := jsonschema.NewCompiler()
	ts.Check(compiler.AddResource("report.json", parsed))
	schema, err := compiler.Compile("report.json")
	ts.Check(err)
	report := ts.ReadFile(args[0])
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(report))
	ts.Check(err)
	ts.Check(schema.Validate(value))
	_, err = document.Read(args[0], strings.NewReader(report))
	ts.Check(err)
}

func (w *world) quota(ts *testscript.TestScript, args []string) {
	var q fakeaws.Quota
	if _, err := fmt.Sscan(strings.Join(args[1:], " "), &q.Applied, &q.Default); err != nil {
		ts.Fatalf("quota: %v", err)
	}
	w.server.SetQuota("kms", args[0], q)
}

func (w *world) fill() error {
	for alias, arn := range map[string]*string{"old": &w.old, "new": &w.new, "third": &w.third} {
		made, err := w.server.KMS().CreateKey(fakekms.Symmetric)
		if err != nil {
			return err
		}
		*arn = made
		if err := w.server.KMS().SetAlias("alias/"+alias, made); err != nil {
			return err
		}
	}
	sealed, err := w.server.KMS().CreateKey(fakekms.RSA2048)
	if err != nil {
		return err
	}
	if err := w.server.KMS().SetAlias("alias/sealed", sealed); err != nil {
		return err
	}
	ctx := context.Background()
	for table, key := range map[string]string{"customers": "id", "sessions": "session"} {
		if _, err := w.dynamodb.CreateTable(ctx, &dynamodb.CreateTableInput{
			TableName:   &table,
			BillingMode: types.BillingModePayPerRequest,
			KeySchema: []types.KeySchemaElement{{
				AttributeName: &key,
				KeyType:       types.KeyTypeHash,
			}},
			AttributeDefinitions: []types.AttributeDefinition{{
				AttributeName: &key,
				AttributeType: types.ScalarAttributeTypeS,
			}},
		}); err != nil {
			return err
		}
	}
	for i := range 20 {
		if err := w.put(fmt.Sprintf("item-%02d", i), w.old); err != nil {
			return err
		}
	}
	if _, err := w.s3.CreateBucket(ctx,
		&s3.CreateBucketInput{Bucket: aws.String("vault")}); err != nil {
		return err
	}
	for i := range 5 {
		if err := w.putObject(fmt.Sprintf("prod/%d", i), w.old); err != nil {
			return err
		}
	}
	return nil
}

// putObject stores an object under a key.
func (w *world) putObject(name, key string) error {
	blob, err := w.server.KMS().Encrypt(key, []byte("secret"), map[string]string{"app": "pay"})
	if err != nil {
		return err
	}
	_, err = w.s3.PutObject(context.Background(), &s3.PutObjectInput{
		Bucket: aws.String("vault"),
		Key:    &name,
		Body:   strings.NewReader(base64.StdEncoding.EncodeToString(blob)),
	})
	return err
}

// put stores an item under a key. The key "poison" does not exist: the ciphertext cannot be
// decrypted.
func (w *world) put(id, key string) error {
	blob := []byte(strings.Repeat("poison", 30))
	if key != "poison" {
		var err error
		if blob, err = w.server.KMS().Encrypt(key, []byte("secret of "+id),
			map[string]string{"tenant": "t1"}); err != nil {
			return err
		}
	}
	return w.putBlob(id, blob)
}

func (w *world) putBlob(id string, blob []byte) error {
	_, err := w.dynamodb.PutItem(context.Background(), &dynamodb.PutItemInput{
		TableName: aws.String("customers"),
		Item: map[string]types.AttributeValue{
			"id":     &types.AttributeValueMemberS{Value: id},
			"tenant": &types.AttributeValueMemberS{Value: "t1"},
			"ssn":    &types.AttributeValueMemberB{Value: blob}},
	})
	return err
}

func (w *world) arn(ts *testscript.TestScript, name string) string {
	arn, ok := map[string]string{
		"old":    w.old,
		"new":    w.new,
		"third":  w.third,
		"poison": "poison",
	}[name]
	if !ok {
		ts.Fatalf("there is no key %s", name)
	}
	return arn
}

func (w *world) edit(ts *testscript.TestScript, args []string) {
	_, err := w.dynamodb.UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
		TableName: aws.String("customers"),
		Key: map[string]types.AttributeValue{
			"id": &types.AttributeValueMemberS{Value: args[0]},
		},
		UpdateExpression:         aws.String("SET #a = :t"),
		ExpressionAttributeNames: map[string]string{"#a": args[1]},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":t": &types.AttributeValueMemberS{Value: args[2]},
		},
	})
	ts.Check(err)
}

func (w *world) disable(ts *testscript.TestScript, args []string) {
	ts.Check(w.server.KMS().SetState(w.arn(ts, args[0]), fakekms.Disabled))
}

func (w *world) disableKey(ts *testscript.TestScript, args []string) {
	arn := w.arn(ts, args[0])
	_, err := w.kms().DisableKey(context.Background(), &kms.DisableKeyInput{KeyId: &arn})
	ts.Check(err)
}

// kms returns a client of another caller than rotator.
func (w *world) kms() *kms.Client {
	cfg := w.dynamodb.Options()
	return kms.New(kms.Options{
		Region:       cfg.Region,
		BaseEndpoint: cfg.BaseEndpoint,
		Credentials:  cfg.Credentials,
		Retryer:      aws.NopRetryer{},
	})
}

func (w *world) call(ts *testscript.TestScript, args []string) {
	arn := w.arn(ts, args[0])
	_, err := w.kms().Encrypt(context.Background(),
		&kms.EncryptInput{KeyId: &arn, Plaintext: []byte("text")})
	if disabled := (*kmstypes.DisabledException)(nil); !errors.As(err, &disabled) {
		ts.Check(err)
	}
}

func (w *world) enable(ts *testscript.TestScript, args []string) {
	ts.Check(w.server.KMS().SetState(w.arn(ts, args[0]), fakekms.Enabled))
}

func (w *world) retire(ts *testscript.TestScript, args []string) {
	ts.Check(w.server.KMS().SetState(w.arn(ts, args[0]), fakekms.PendingDeletion))
}

func (w *world) renew(ts *testscript.TestScript, args []string) {
	arn := w.arn(ts, args[0])
	rotate := func() {
		_, err := w.server.KMS().Rotate(arn)
		ts.Check(err)
	}
	if len(args) == 1 {
		rotate()
		return
	}
	after, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	var seen atomic.Int64
	w.server.Faults().Set("kms:ReEncrypt", fault.Fault{Before: func(*http.Request, []byte) {
		if seen.Add(1) == after {
			rotate()
		}
	}})
}

func (w *world) repoint(ts *testscript.TestScript, args []string) {
	ts.Check(w.server.KMS().SetAlias("alias/"+args[0], w.arn(ts, args[1])))
}

func (w *world) rewrite(ts *testscript.TestScript, args []string) {
	if strings.HasPrefix(args[0], "prod/") {
		ts.Check(w.putObject(args[0], w.arn(ts, args[1])))
		return
	}
	ts.Check(w.put(args[0], w.arn(ts, args[1])))
}

func (w *world) share(ts *testscript.TestScript, args []string) {
	blob, err := w.server.KMS().Encrypt(w.arn(ts, args[0]), []byte("data key"),
		map[string]string{"tenant": "t1"})
	ts.Check(err)
	for _, id := range args[1:] {
		ts.Check(w.putBlob(id, blob))
	}
}

func (w *world) damage(ts *testscript.TestScript, args []string) {
	out, err := w.dynamodb.GetItem(context.Background(), &dynamodb.GetItemInput{
		TableName: aws.String("customers"),
		Key: map[string]types.AttributeValue{
			"id": &types.AttributeValueMemberS{Value: args[0]}},
	})
	ts.Check(err)
	blob := out.Item["ssn"].(*types.AttributeValueMemberB).Value
	blob[len(blob)-1] ^= 1
	ts.Check(w.putBlob(args[0], blob))
}

func (w *world) store(ts *testscript.TestScript, args []string) {
	body := ""
	if len(args) > 1 {
		body = ts.ReadFile(args[1])
	}
	_, err := w.s3.PutObject(context.Background(), &s3.PutObjectInput{
		Bucket: aws.String("vault"),
		Key:    &args[0],
		Body:   strings.NewReader(body),
	})
	ts.Check(err)
}

// seal stores an object from a file. In the file, <N> is replaced by the base64
// of N bytes that are encrypted under the old key, <N-> by the same without
// padding, OLD by the ARN of the key, and \xHH by a byte.
func (w *world) seal(ts *testscript.TestScript, args []string) {
	body := regexp.MustCompile(`<\d+-?>`).
		ReplaceAllStringFunc(ts.ReadFile(args[1]), func(mark string) string {
			n, err := strconv.Atoi(strings.Trim(mark, "<->"))
			ts.Check(err)
			blob, err := w.server.KMS().Encrypt(w.old, make([]byte, n), nil)
			ts.Check(err)
			if strings.Contains(mark, "-") {
				return base64.RawStdEncoding.EncodeToString(blob)
			}
			return base64.StdEncoding.EncodeToString(blob)
		})
	body = strings.ReplaceAll(strings.TrimSuffix(body, "\n"), "OLD", w.old)
	body = regexp.MustCompile(`\\x[0-9a-f]{2}`).
		ReplaceAllStringFunc(body, func(escape string) string {
			b, err := hex.DecodeString(escape[2:])
			ts.Check(err)
			return string(b)
		})
	_, err := w.s3.PutObject(context.Background(), &s3.PutObjectInput{
		Bucket: aws.String("vault"),
		Key:    &args[0],
		Body:   strings.NewReader(body),
	})
	ts.Check(err)
}

// body compares an object with a regular expression.
func (w *world) body(ts *testscript.TestScript, args []string) {
	out, err := w.s3.GetObject(context.Background(), &s3.GetObjectInput{
		Bucket: aws.String("vault"),
		Key:    &args[0],
	})
	ts.Check(err)
	got, err := io.ReadAll(out.Body)
	ts.Check(err)
	if !regexp.MustCompile(args[1]).Match(got) {
		ts.Fatalf("%s is %q, want a match of %s", args[0], got, args[1])
	}
}

func (w *world) pose(ts *testscript.TestScript, args []string) {
	key, as := w.arn(ts, args[0]), w.arn(ts, args[1])
	w.server.KMS().SetHeaders(func(arn string) string {
		if arn == key {
			return as
		}
		return ""
	})
}

// exits runs a command and compares its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%v exited with %d, want %d", args[1:], got, want)
	}
}

// writes compares the number of write requests since the data was stored.
func writes(ts *testscript.TestScript, _ bool, args []string) {
	counts := of(ts).server.Faults().Counts()
	const puts, objects = 20, 5 // of fill
	got := counts["dynamodb:PutItem"] - puts + counts["s3:PutObject"] - objects
	for _, operation := range []string{"dynamodb:UpdateItem", "dynamodb:DeleteItem",
		"dynamodb:BatchWriteItem", "dynamodb:BatchExecuteStatement",
		"dynamodb:ExecuteStatement", "dynamodb:TransactWriteItems", "s3:CopyObject",
		"s3:DeleteObject", "s3:CreateMultipartUpload",
		"s3:PutObjectTagging", "s3:PutObjectAcl"} {
		got += counts[operation]
	}
	if args[0] != strconv.Itoa(got) {
		ts.Fatalf("%d write requests, want %s: %v", got, args[0], counts)
	}
}

// hold takes the lock of a checkpoint until the script ends.
func hold(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(strings.TrimSuffix(path, "/state.db"), 0o700))
	lock, err := checkpoint.AcquireLock(path)
	ts.Check(err)
	ts.Defer(func() { _ = lock.Release() })
}
