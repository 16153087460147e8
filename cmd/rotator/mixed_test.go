package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// mixedObjects returns the number of objects of the mixed bucket. make timing uses 10,000, which
// take a minute of processor time; 1,000 also contain every kind.
func mixedObjects() int {
	if timed() {
		return 10_000
	}
	return 1000
}

// variety is one kind of object: how it is written for a ciphertext, and the expected result.
type variety struct {
	name    string
	suffix  string // of the key
	context map[string]string
	// write makes the object. If it is nil, the object has no ciphertext of the test.
	write func(blob []byte, key string) written
	// reason is the reason of the refusal; "" if the object is moved, "none" if it has no slot.
	reason string
	under  string // "third": under a key that is not a source key
	put    func(*s3.PutObjectInput)
	few    bool // one of them is enough
}

// written is the content of an object.
type written struct {
	body     []byte
	metadata map[string]string
}

// writer returns the content of an object for a ciphertext and the ARN of its key.
type writer func(blob []byte, key string) written

// inText replaces BLOB and KEY in a text.
func inText(format string) writer {
	return func(blob []byte, key string) written {
		text := base64.StdEncoding.EncodeToString(blob)
		return written{
			body: []byte(strings.NewReplacer("BLOB", text, "KEY", key).Replace(format)),
		}
	}
}

// inMetadata replaces BLOB in the values of metadata entries.
func inMetadata(pairs ...string) writer {
	return func(blob []byte, _ string) written {
		metadata := map[string]string{"owner": "me"}
		text := base64.StdEncoding.EncodeToString(blob)
		for i := 0; i < len(pairs); i += 2 {
			metadata[pairs[i]] = strings.ReplaceAll(pairs[i+1], "BLOB", text)
		}
		return written{body: []byte("the sealed body\x00\xff"), metadata: metadata}
	}
}

// plainBody writes a body without a ciphertext.
func plainBody(body string) writer {
	return func([]byte, string) written {
		return written{body: []byte(body), metadata: map[string]string{"owner": "me"}}
	}
}

// framedBody writes the length of a ciphertext, the ciphertext and a payload.
func framedBody(blob []byte, _ string) written {
	length := binary.BigEndian.AppendUint32(nil, uint32(len(blob)))
	return written{body: slices.Concat(length, blob, []byte("sealed"))}
}

func withSSE(in *s3.PutObjectInput) {
	in.ServerSideEncryption = types.ServerSideEncryptionAwsKms
}

// varieties returns all formats and all refusals of format auto.
func varieties() []variety {
	return slices.Concat(s3ecVarieties(), movedVarieties(), unsupportedVarieties(),
		refusedVarieties())
}

func s3ecVarieties() []variety {
	return []variety{
		{
			name:    "s3ec-v2",
			context: map[string]string{"tenant": "t1"},
			write: inMetadata("x-amz-key-v2", "BLOB", "x-amz-iv", "aXY=", "x-amz-wrap-alg",
				"kms+context", "x-amz-matdesc", `{"tenant":"t1"}`),
		},
		{
			name:    "s3ec-v2-kms",
			context: map[string]string{"tenant": "t1"},
			write: inMetadata("x-amz-key-v2", "BLOB", "x-amz-iv", "aXY=", "x-amz-wrap-alg", "kms",
				"x-amz-matdesc", `{"tenant":"t1"}`),
			put: withSSE,
		},
		{
			name:    "s3ec-v3",
			context: map[string]string{"tenant": "t1"},
			write: inMetadata("x-amz-3", "BLOB", "x-amz-w", "12", "x-amz-t", `{"tenant":"t1"}`,
				"x-amz-c", "115", "x-amz-d", "ZA==", "x-amz-i", "aQ=="),
		},
		{
			name:   "s3ec-v3-split",
			write:  inMetadata("x-amz-c", "115", "x-amz-d", "ZA==", "x-amz-i", "aQ=="),
			reason: "none",
		},
		{
			name:    "s3ec-file",
			suffix:  ".instruction",
			context: map[string]string{"tenant": "t1"},
			write:   inText(`{"x-amz-3":"BLOB", "x-amz-w":"12","x-amz-t":"{\"tenant\":\"t1\"}"}`),
		},
		{
			name:    "s3ec-foreign",
			context: map[string]string{"tenant": "t1"},
			under:   "third",
			reason:  "foreign",
			write: inMetadata("x-amz-key-v2", "BLOB", "x-amz-iv", "aXY=", "x-amz-wrap-alg", "kms",
				"x-amz-matdesc", `{"tenant":"t1"}`),
		},
	}
}

func movedVarieties() []variety {
	return []variety{
		{
			name:    "raw",
			context: map[string]string{"app": "pay"},
			write:   func(blob []byte, _ string) written { return written{body: blob} },
		},
		{name: "base64", context: map[string]string{"app": "pay"}, write: inText("BLOB\n")},
		{
			name:   "sops-yaml",
			suffix: ".yaml",
			write: inText("# mine\nsops:\n    kms:\n        - arn: KEY\n" +
				"          created_at: \"2026-03-01T12:00:00Z\"\n          enc: BLOB\n" +
				"    lastmodified: \"2026-03-01T12:00:00Z\"\n    mac: ENC[x]\n" +
				"    version: 3.13.3\n"),
		},
		{
			name:   "sops-json",
			suffix: ".json",
			write: inText(`{"a": "ENC[x]", "sops": {"kms": [{"arn": "KEY", "created_at": ` +
				`"2026-03-01T12:00:00Z", "enc": "BLOB"}], "lastmodified": ` +
				`"2026-03-01T12:00:00Z", "mac": "ENC[x]", "version": "3.13.3"}}`),
		},
		{
			name:    "ejson",
			suffix:  ".json",
			context: map[string]string{"Secret": "password"},
			write: inText(`{"encryption_context":{},"kms_key_id":"KEY",` +
				`"secrets":[{"name":"password","description":"","ciphertext":"EJK1;BLOB;YWJj"}],` +
				`"version":1}`),
		},
		{
			name:   "pulumi",
			suffix: ".json",
			write: inText(`{"version":3,"checkpoint":{"stack":"s",` +
				`"latest":{"secrets_providers":{"type":"cloud",` +
				`"state":{"url":"awskms:///KEY?region=us-east-1","encryptedkey":"BLOB"}}}}}`),
		},
		{
			name:    "biscuit",
			suffix:  ".yml",
			context: map[string]string{"SecretName": "db"},
			write: inText("_keys:\n- key_id: KEY\n  key_manager: kms\n  algorithm: aesgcm256\n" +
				"db:\n- key_id: KEY\n  key_manager: kms\n  algorithm: aesgcm256\n" +
				"  key_ciphertext: BLOB\n  ciphertext: QQ==\n"),
		},
		{
			name:   "tink-keyset",
			suffix: ".json",
			write: inText(`{"encryptedKeyset":"BLOB","keysetInfo":{"primaryKeyId":1,` +
				`"keyInfo":[]}}`),
		},
	}
}

// unsupportedVarieties returns objects without a slot, and objects of formats that cannot be moved.
func unsupportedVarieties() []variety {
	return []variety{
		{name: "plain", write: plainBody("hello"), reason: "none"},
		{name: "empty", write: plainBody(""), reason: "none"},
		{
			name:   "s3ec-v1",
			write:  inMetadata("x-amz-key", "cmF3", "x-amz-iv", "aXY=", "x-amz-matdesc", "{}"),
			reason: "s3ec-v1",
		},
		{
			name: "s3ec-rsa",
			write: inMetadata("x-amz-key-v2", "cmF3", "x-amz-iv", "aXY=", "x-amz-wrap-alg",
				"RSA-OAEP-SHA1", "x-amz-matdesc", "{}"),
			reason: "s3ec-raw-key",
		},
		{
			name: "esdk",
			write: plainBody("\x02\x05\x78" + strings.Repeat("m", 32) +
				"\x00\x00\x00\x01\x00\x07aws-kms\x00\x01k\x00\x01w"),
			reason: "esdk-message",
		},
		{name: "sneaker", suffix: ".aes", write: framedBody, reason: "sneaker"},
		{
			name:   "_KEY_MATERIAL_FOR_part",
			suffix: ".parquet.json",
			reason: "parquet-key-material",
			write: inText(`{"footerKey":"{\"keyMaterialType\":\"PKMT1\",` +
				`\"isFooterKey\":\"true\",\"masterKeyID\":\"k\",` +
				`\"doubleWrapping\":\"false\",\"wrappedDEK\":\"BLOB\"}"}`),
		},
		{
			name:   "parquet",
			suffix: ".parquet",
			write:  plainBody("PARE\x00sealed\x00PARE"),
			reason: "parquet-key-material",
		},
	}
}

// refusedVarieties returns objects that are refused for other reasons.
func refusedVarieties() []variety {
	return []variety{
		{name: "framed", write: framedBody, reason: "ambiguous"},
		{name: "sse-kms", write: plainBody("hello"), put: withSSE, reason: "sse-kms-only"},
		{
			name:   "sse-c",
			write:  plainBody("hello"),
			reason: "sse-c",
			put: func(in *s3.PutObjectInput) {
				key := []byte(strings.Repeat("k", 32))
				sum := md5.Sum(key)
				in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = aws.String(
					"AES256"), aws.String(base64.StdEncoding.EncodeToString(key)),
					aws.String(base64.StdEncoding.EncodeToString(sum[:]))
			},
		},
		{
			name:   "archived",
			write:  plainBody("hello"),
			reason: "archived",
			put:    func(in *s3.PutObjectInput) { in.StorageClass = types.StorageClassGlacier },
		},
		{
			name:   "too-large",
			write:  func([]byte, string) written { return written{body: make([]byte, 64<<20+1)} },
			reason: "too-large",
			few:    true,
		},
		{
			name:    "poison",
			context: map[string]string{"app": "other"},
			write:   func(blob []byte, _ string) written { return written{body: blob} },
			reason:  "source-other-context",
		},
	}
}

// mixed is a bucket with objects of every variety.
type mixed struct {
	server  *fakeaws.Server
	env     []string // of rotator
	client  *s3.Client
	keys    map[string]string // ARNs of old, new and third
	entries map[string]variety
}

const mixedBucket = "lake"

func newMixed(t *testing.T, n int) *mixed {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	harness.Watch(t, server)
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", "")}
	m := &mixed{
		server:  server,
		env:     server.AWSEnv(),
		client:  s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
		keys:    map[string]string{},
		entries: map[string]variety{},
	}
	for _, name := range []string{"old", "new", "third"} {
		if m.keys[name], err = server.KMS().CreateKey(fakekms.Symmetric); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.client.CreateBucket(t.Context(),
		&s3.CreateBucketInput{Bucket: aws.String(mixedBucket)}); err != nil {
		t.Fatal(err)
	}
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	kinds := varieties()
	for i := range n {
		v := kinds[i%len(kinds)]
		if v.few && i >= len(kinds) {
			v = kinds[0]
		}
		key := fmt.Sprintf("%05d/%s%s", i, v.name, v.suffix)
		m.entries[key] = v
		group.Go(func() error { return m.put(ctx, key, v) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mixed) put(ctx context.Context, key string, v variety) error {
	under := m.keys["old"]
	if v.under != "" {
		under = m.keys[v.under]
	}
	blob, err := m.server.KMS().Encrypt(under, []byte("secret of "+key), v.context)
	for err == nil && v.name == "base64" && !strings.ContainsAny(std64(blob), "+/") {
		// the text would also be base64url
		blob, err = m.server.KMS().Encrypt(under, []byte("secret of "+key), v.context)
	}
	if err != nil {
		return err
	}
	w := v.write(blob, under)
	in := &s3.PutObjectInput{
		Bucket:      aws.String(mixedBucket),
		Key:         &key,
		Body:        bytes.NewReader(w.body),
		Metadata:    w.metadata,
		ContentType: aws.String("application/x-thing"),
		Tagging:     aws.String("team=pay"),
	}
	if v.put != nil {
		v.put(in)
	}
	if _, err = m.client.PutObject(ctx, in); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// command runs rotator as a child process, with env in addition to the environment of the
// test. It returns the exit code and both outputs. Tests that call it can run in parallel,
// because the environment of the test itself does not change.
func command(t *testing.T, env []string, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = slices.Concat(os.Environ(), env)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

var longBase64 = regexp.MustCompile(`[A-Za-z0-9+/]{150,}=*`)

// blobIn finds the ciphertext of an object without knowledge of its format: the longest text in
// base64 in its metadata or body, otherwise the body.
func blobIn(v fakes3.Version) []byte {
	for name := range v.Headers {
		if text := longBase64.FindString(v.Headers.Get(name)); text != "" {
			blob, _ := base64.StdEncoding.DecodeString(text)
			return blob
		}
	}
	if text := longBase64.Find(v.Body); text != nil {
		blob, _ := base64.StdEncoding.DecodeString(string(text))
		return blob
	}
	return v.Body
}

// check compares an object with its state before the run.
func (m *mixed) check(key string, v variety, before, after []fakes3.Version) string {
	if reflect.DeepEqual(before, after) && v.reason != "" {
		return ""
	}
	if v.reason != "" {
		return cmp.Diff(before, after)
	}
	if len(after) != 1 {
		return fmt.Sprintf("%d versions", len(after))
	}
	blob := blobIn(after[0])
	plaintext, under, err := m.server.KMS().Decrypt(m.keys["new"], blob, v.context)
	if err != nil || string(plaintext) != "secret of "+key || under != m.keys["new"] {
		return fmt.Sprintf("the ciphertext is under %s and decrypts to %q, %v", under, plaintext,
			err)
	}
	// The object must be as if the writer had used the new key from the start.
	want := v.write(blob, m.keys["new"])
	headers := maps.Clone(before[0].Headers)
	for name, value := range want.metadata {
		headers.Set("X-Amz-Meta-"+name, value)
	}
	expected := before[0]
	expected.ID, expected.Headers, expected.Body, expected.Size = after[0].ID, headers, want.body,
		int64(len(want.body))
	return cmp.Diff(expected, after[0])
}

// TestMixedBucket: with format auto, a bucket contains objects of every format of S3 and of
// everything that is refused. Each object is moved, and is then as its own writer would have
// written it, or it does not change and is in the ledger with its reason. A second pass finds
// nothing to move.
func TestMixedBucket(t *testing.T) {
	t.Parallel()
	m := newMixed(t, mixedObjects())
	before := m.server.S3().Versions(mixedBucket)
	file := filepath.Join(t.TempDir(), "job.yaml")
	job := fmt.Sprintf("job: mixed\ndestination: { key: %q }\nsource: { keys: [%q] }\n"+
		"kms: { rate: 100000 }\ntargets:\n  - s3: { bucket: %s }\n    format: auto\n"+
		"    context: { app: pay }\n",
		m.keys["new"], m.keys["old"], mixedBucket)
	if err := os.WriteFile(file, []byte(job), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, m.env, "run", "-f", file, "-o", "json")
	var summary report.Summary
	if err := json.Unmarshal([]byte(out), &summary); err != nil || code != exitExceptions {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, errs)
	}
	after := m.server.S3().Versions(mixedBucket)
	moved, none, refused := 0, 0, map[string]string{}
	for key, v := range m.entries {
		switch v.reason {
		case "":
			moved++
		case "none":
			none++
		default:
			refused[key] = v.reason
		}
		if diff := m.check(key, v, before[key], after[key]); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	if len(before) != len(after) {
		t.Errorf("the bucket had %d objects and has %d", len(before), len(after))
	}
	if summary.Slots.Rotated != int64(moved) || summary.Items.Seen != int64(len(m.entries)) ||
		summary.Items.WithoutSlot != int64(none) {
		t.Errorf("rotated %d of %d, items %+v of %d, %d without slot", summary.Slots.Rotated,
			moved, summary.Items, len(m.entries), none)
	}
	if diff := cmp.Diff(refused, m.reasonsIn(t, file)); diff != "" {
		t.Errorf("ledger (-want +got):\n%s", diff)
	}
	code, out, errs = command(t, m.env, "run", "-f", file, "-o", "json")
	if err := json.Unmarshal([]byte(out), &summary); err != nil || code != exitExceptions ||
		summary.Slots.Rotated != 0 || summary.Slots.Current != int64(moved) {
		t.Errorf("the second pass: exit code %d, %v: %+v %s", code, err, summary.Slots, errs)
	}
}

// reasonsIn returns the reason of each object in the ledger.
func (m *mixed) reasonsIn(t *testing.T, file string) map[string]string {
	t.Helper()
	code, out, errs := command(t, m.env, "report", "-f", file, "-o", "json", "--ledger")
	if code != exitDone {
		t.Fatalf("report: exit code %d: %s", code, errs)
	}
	reasons := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var entry checkpoint.LedgerEntry
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		reasons[entry.Ref] = entry.Reason
		if entry.Outcome == "foreign" {
			reasons[entry.Ref] = "foreign"
		}
	}
	return reasons
}
