package main

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// fieldCase is one way in which users store ciphertexts. Its texts contain marks, see fieldText.
// NAME represents the name of the case in the job file and in the keys of objects, OLD and NEW the
// ARNs of the keys.
type fieldCase struct {
	name     string
	from, to string // aliases of the keys; "": old and new
	head     string // source and destination in the job file; "": these keys
	targets  string // in the job file
	files    map[string]string
	objects  []fieldObject
	key      []types.AttributeDefinition // of the table; nil: id, S
	rows     []fieldRow
	want     fieldWant
}

// fieldObject is an object of the bucket "field" with the prefix NAME/.
type fieldObject struct {
	key, body string
	contexts  fieldContexts
	header    s3.PutObjectInput        // stored in addition to the body
	encode    func(text string) []byte // of the whole body, which must then not change
}

// fieldRow is an item of the table NAME. Its texts and binaries contain marks.
type fieldRow struct {
	item     attributes
	contexts fieldContexts
}

// fieldContexts are the encryption contexts of stored ciphertexts before and after the run; nil:
// same as before.
type fieldContexts struct{ before, after map[string]string }

// fieldWant is the expected result. The number of ciphertexts that move, and whether one still
// depends on the old key, follow from the stored data.
type fieldWant struct {
	run, verify int // exit codes; verify 0: as run
	reasons     map[string]int64
	texts       []string // regular expressions, found in details, notes and errors of a run
}

// TestFieldCases runs rotator and verify for each case. A ciphertext that moves decrypts to the
// same plaintext under the new key with its context, independently of rotator. No other byte
// changes. A refused ciphertext does not change and has a reason, and verify does not report that
// nothing depends on the old key.
func TestFieldCases(t *testing.T) {
	t.Parallel()
	b := newFieldBench(t)
	for _, c := range slices.Concat(objectCases(), documentCases(), pulumiCases(), rowCases()) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b.try(t, c)
		})
	}
}

// fieldBench is the fake AWS of all cases.
type fieldBench struct {
	server   *fakeaws.Server
	dynamodb *dynamodb.Client
	s3       *s3.Client
	keys     map[string]string // ARNs by alias
}

func newFieldBench(t *testing.T) *fieldBench {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{})
	must(t, err)
	t.Cleanup(func() { _ = server.Close() })
	harness.Watch(t, server)
	cfg := aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(
			harness.ApplicationKey, "not-a-secret", ""),
	}
	b := &fieldBench{
		server:   server,
		dynamodb: dynamodb.NewFromConfig(cfg),
		s3:       s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
		keys:     map[string]string{},
	}
	for alias, spec := range map[string]fakekms.KeySpec{
		"old": fakekms.Symmetric, "new": fakekms.Symmetric,
		"old-rsa": fakekms.RSA2048, "new-rsa": fakekms.RSA2048,
	} {
		b.keys[alias], err = server.KMS().CreateKey(spec)
		must(t, err)
		must(t, server.KMS().SetAlias("alias/"+alias, b.keys[alias]))
	}
	_, err = b.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("field")})
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// try stores the data of a case, runs the commands and checks the stored data afterwards.
func (b *fieldBench) try(t *testing.T, c fieldCase) {
	c.from, c.to = cmp.Or(c.from, "old"), cmp.Or(c.to, "new")
	names := strings.NewReplacer("NAME", c.name, "OLD", b.keys[c.from], "NEW", b.keys[c.to])
	seal := &fieldSeal{kms: b.server.KMS(), old: b.keys[c.from], new: b.keys[c.to], names: names}
	checks := b.store(t, c, seal)
	dir := t.TempDir()
	for name, text := range c.files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	head := cmp.Or(c.head, fieldHead(c.from, c.to))
	job := names.Replace("job: NAME\n" + head + "targets:\n" + c.targets)
	must(t, os.WriteFile(filepath.Join(dir, "job.yaml"), []byte(job), 0o600))

	run, log := b.command(t, dir, c.want.run, "run")
	checkFieldRun(t, c.want, seal, run, log)
	for _, check := range checks {
		check()
	}
	verify, _ := b.command(t, dir, cmp.Or(c.want.verify, c.want.run), "verify")
	if c.want.run != exitJob {
		checkFieldAnswer(t, verify, seal.staying > 0, cmp.Or(c.want.verify, c.want.run) == exitDone)
	}
}

// fieldHead returns the part of a job file that names the keys, by their aliases.
func fieldHead(from, to string) string {
	algorithm := func(alias string) string {
		if strings.HasSuffix(alias, "-rsa") {
			return ", algorithm: RSAES_OAEP_SHA_256"
		}
		return ""
	}
	return fmt.Sprintf("source: { keys: [alias/%s]%s }\ndestination: { key: alias/%s%s }\n",
		from, algorithm(from), to, algorithm(to))
}

// command runs rotator, which must exit with the given code.
func (b *fieldBench) command(
	t *testing.T, dir string, code int, name string,
) (s report.Summary, log string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], name, "-f", "job.yaml", "-o", "json")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), b.server.AWSEnv()...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, _ := cmd.Output()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("%s ended with %d, want %d\n%s%s", name, got, code, out, &stderr)
	}
	if len(out) > 0 {
		must(t, json.Unmarshal(out, &s))
	}
	return s, stderr.String()
}

// checkFieldRun checks the counts and the messages of a run.
func checkFieldRun(t *testing.T, want fieldWant, seal *fieldSeal, s report.Summary, log string) {
	t.Helper()
	slots, reasons := report.Slots{Rotated: seal.moving}, map[string]int64{}
	printed := append([]string{log}, s.Notes...)
	for _, r := range s.Reasons {
		reasons[r.Reason] = r.Slots
		for _, e := range r.Examples {
			printed = append(printed, e.Detail)
		}
	}
	for _, n := range want.reasons {
		slots.Failed += n
	}
	slots.Seen = slots.Rotated + slots.Failed
	if want.run == exitJob {
		slots = report.Slots{}
	}
	if diff := gocmp.Diff(slots, s.Slots); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(want.reasons, reasons, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	for _, texts := range want.texts {
		if text := strings.Join(printed, "\n"); !regexp.MustCompile(texts).MatchString(text) {
			t.Errorf("no message matches %q:\n%s", texts, text)
		}
	}
}

// checkFieldAnswer compares the verdict of verify on the old key with the stored data.
func checkFieldAnswer(t *testing.T, s report.Summary, depends, clean bool) {
	t.Helper()
	if s.Converged != clean || s.Converged && depends {
		t.Errorf("verify: converged %v", s.Converged)
	}
	for _, key := range s.SourceKeys {
		if yes := key.Answer == "yes"; yes && depends || !yes && clean {
			t.Errorf("verify reports %q, but ciphertexts under the old key exist: %v",
				key.Sentence, depends)
		}
	}
	if len(s.SourceKeys) == 0 {
		t.Error("verify does not mention the old key")
	}
}

// store stores the data of a case. It returns functions that check the data afterwards.
func (b *fieldBench) store(t *testing.T, c fieldCase, seal *fieldSeal) (checks []func()) {
	t.Helper()
	for _, o := range c.objects {
		checks = append(checks, b.putObject(t, o, seal))
	}
	if len(c.rows) == 0 {
		return checks
	}
	if c.key == nil {
		c.key = stringKey("id")
	}
	table := &dynamodb.CreateTableInput{
		TableName:            &c.name,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: c.key,
	}
	kinds := []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}
	for i, k := range c.key {
		table.KeySchema = append(table.KeySchema,
			types.KeySchemaElement{AttributeName: k.AttributeName, KeyType: kinds[i]})
	}
	_, err := b.dynamodb.CreateTable(t.Context(), table)
	must(t, err)
	for _, row := range c.rows {
		checks = append(checks, b.putRow(t, c, row, seal))
	}
	return checks
}

func (b *fieldBench) putObject(t *testing.T, o fieldObject, seal *fieldSeal) (check func()) {
	t.Helper()
	text := seal.text(t, o.body, o.contexts, o.encode != nil)
	body := []byte(text.stored)
	if o.encode != nil {
		body = o.encode(text.stored)
	}
	put := o.header
	put.Bucket, put.Key = aws.String("field"), aws.String(seal.names.Replace("NAME/")+o.key)
	put.Body = bytes.NewReader(body)
	_, err := b.s3.PutObject(t.Context(), &put)
	must(t, err)
	return func() {
		got, err := b.s3.GetObject(t.Context(),
			&s3.GetObjectInput{Bucket: put.Bucket, Key: put.Key})
		must(t, err)
		after, err := io.ReadAll(got.Body)
		must(t, err)
		if o.encode != nil && bytes.Equal(after, body) {
			after = []byte(text.stored)
		}
		text.check(t, o.key, string(after))
		if !maps.Equal(got.Metadata, put.Metadata) ||
			aws.ToString(put.ContentType) != "" &&
				*put.ContentType != aws.ToString(got.ContentType) ||
			aws.ToString(put.ContentEncoding) != aws.ToString(got.ContentEncoding) {
			t.Errorf("%s: metadata %v, type %v", o.key, got.Metadata, aws.ToString(got.ContentType))
		}
	}
}

func (b *fieldBench) putRow(
	t *testing.T, c fieldCase, row fieldRow, seal *fieldSeal,
) (check func()) {
	t.Helper()
	texts, stored := map[string]*fieldText{}, attributes{}
	for name, v := range row.item {
		stored[name] = eachText(v, name, func(path, text string) string {
			texts[path] = seal.text(t, text, row.contexts, false)
			return texts[path].stored
		})
	}
	_, err := b.dynamodb.PutItem(t.Context(),
		&dynamodb.PutItemInput{TableName: &c.name, Item: stored})
	must(t, err)
	key := attributes{}
	for _, k := range c.key {
		key[*k.AttributeName] = stored[*k.AttributeName]
	}
	return func() {
		got, err := b.dynamodb.GetItem(t.Context(),
			&dynamodb.GetItemInput{TableName: &c.name, Key: key})
		must(t, err)
		rest := attributes{}
		for name, v := range got.Item {
			rest[name] = eachText(v, name, func(path, text string) string {
				if texts[path] == nil {
					t.Errorf("%s was added", path)
					return text
				}
				texts[path].check(t, path, text)
				return texts[path].stored
			})
		}
		if !reflect.DeepEqual(stored, rest) {
			t.Errorf("the rest of the item changed from %v to %v", stored, rest)
		}
	}
}

// eachText returns a copy of a value in which f has replaced each text and binary.
func eachText(
	v types.AttributeValue, path string, f func(path, text string) string,
) types.AttributeValue {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return textOf(f(path+" S", v.Value))
	case *types.AttributeValueMemberB:
		return binaryOf([]byte(f(path+" B", string(v.Value))))
	case *types.AttributeValueMemberL:
		list := make([]types.AttributeValue, len(v.Value))
		for i, member := range v.Value {
			list[i] = eachText(member, fmt.Sprintf("%s[%d]", path, i), f)
		}
		return &types.AttributeValueMemberL{Value: list}
	case *types.AttributeValueMemberM:
		members := attributes{}
		for name, member := range v.Value {
			members[name] = eachText(member, fmt.Sprintf("%s.%q", path, name), f)
		}
		return &types.AttributeValueMemberM{Value: members}
	}
	return v
}

// fieldSeal replaces the marks of texts, and counts the ciphertexts that must move and those that
// must stay under the old key.
type fieldSeal struct {
	kms             *fakekms.Service
	old, new        string
	names           *strings.Replacer
	moving, staying int64
}

// fieldText is a text whose marks were replaced: <CODEC:N> is a ciphertext of N bytes in a codec,
// <!CODEC:N> is one that is not moved, and <was A now B> is a text that changes with a ciphertext.
type fieldText struct {
	seal     *fieldSeal
	contexts fieldContexts
	stored   string
	sealed   []fieldSealed // the ciphertexts that move
	around   []string      // the texts around them afterwards, one more than ciphertexts
}

type fieldSealed struct {
	codec     fieldCodec
	plaintext []byte
}

var fieldMark = regexp.MustCompile(`<(!?)([a-z0-9-]+):(\d+)>|<was (.*?) now (.*?)>`)

// text replaces the marks of a text. If stays is set, nothing in it moves.
func (s *fieldSeal) text(t *testing.T, text string, contexts fieldContexts, stays bool) *fieldText {
	t.Helper()
	text = s.names.Replace(text)
	made := &fieldText{seal: s, contexts: contexts}
	around, at := "", 0
	put := func(stored, after string) {
		made.stored += stored
		around += after
	}
	for _, m := range fieldMark.FindAllStringSubmatchIndex(text, -1) {
		put(text[at:m[0]], text[at:m[0]])
		at = m[1]
		if m[8] >= 0 {
			was, now := text[m[8]:m[9]], text[m[10]:m[11]]
			if stays {
				now = was
			}
			put(was, now)
			continue
		}
		size, err := strconv.Atoi(text[m[6]:m[7]])
		must(t, err)
		codec := fieldCodecs()[text[m[4]:m[5]]]
		plaintext := bytes.Repeat([]byte{byte(len(made.sealed) + 1)}, size)
		blob, err := s.kms.Encrypt(s.old, plaintext, contexts.before)
		must(t, err)
		if stays || m[3] > m[2] {
			s.staying++
			put(codec.encode(blob), codec.encode(blob))
			continue
		}
		s.moving++
		put(codec.encode(blob), "")
		made.sealed = append(made.sealed, fieldSealed{codec, plaintext})
		made.around, around = append(made.around, around), ""
	}
	put(text[at:], text[at:])
	made.around = append(made.around, around)
	return made
}

// check compares the text with the stored one.
func (f *fieldText) check(t *testing.T, name, now string) {
	t.Helper()
	last := len(f.sealed)
	if last == 0 && now == f.around[0] {
		return
	}
	rest, begins := strings.CutPrefix(now, f.around[0])
	rest, ends := strings.CutSuffix(rest, f.around[last])
	if !begins || !ends || last == 0 {
		t.Errorf("%s: %q is now %q", name, f.stored, now)
		return
	}
	context := f.contexts.after
	if context == nil {
		context = f.contexts.before
	}
	for i, sealed := range f.sealed {
		text := rest
		if i+1 < last {
			text, rest, _ = strings.Cut(rest, f.around[i+1])
		}
		blob, err := sealed.codec.decode(text)
		if err != nil {
			t.Errorf("%s: %q is now %q: %v", name, f.stored, now, err)
			return
		}
		got, key, err := f.seal.kms.Decrypt(f.seal.new, blob, context)
		if err != nil || key != f.seal.new || !bytes.Equal(got, sealed.plaintext) {
			t.Errorf("%s: ciphertext %d decrypts to %x under %s, %v", name, i, got, key, err)
		}
	}
}

// fieldCodec is an encoding in which clients store a ciphertext.
type fieldCodec struct {
	encode func(blob []byte) string
	decode func(text string) ([]byte, error)
}

func fieldCodecs() map[string]fieldCodec {
	standard, urls := base64.StdEncoding.Strict(), base64.RawURLEncoding.Strict()
	return map[string]fieldCodec{
		"raw": {
			encode: func(blob []byte) string { return string(blob) },
			decode: func(text string) ([]byte, error) { return []byte(text), nil },
		},
		"hex":       {encode: hex.EncodeToString, decode: hex.DecodeString},
		"base64":    {encode: standard.EncodeToString, decode: standard.DecodeString},
		"base64url": {encode: urls.EncodeToString, decode: urls.DecodeString},
		"twice": {
			encode: func(blob []byte) string { return std64([]byte(std64(blob))) },
			decode: func(text string) ([]byte, error) {
				inner, err := standard.DecodeString(text)
				if err != nil {
					return nil, err
				}
				return standard.DecodeString(string(inner))
			},
		},
		"lines":      lineCodec("\n"),
		"json-lines": lineCodec(`\n`),
		"pydynox": {encode: func(blob []byte) string { // must not change
			frame := append([]byte{1, 0, byte(len(blob))}, blob...)
			return "ENC:" + std64(append(frame, "nonce and payload"...))
		}},
		"json": { // every character that JSON can escape in base64 is escaped
			encode: func(blob []byte) string {
				return strings.NewReplacer("/", `\/`, "+", `\u002b`, "=", `\u003d`).
					Replace(std64(blob))
			},
			decode: func(text string) (blob []byte, err error) {
				return blob, json.Unmarshal([]byte(`"`+text+`"`), &blob)
			},
		},
	}
}

// lineCodec is base64 in lines of 60 characters, each with a line break after it, like
// Base64.encode64 of Ruby.
func lineCodec(end string) fieldCodec {
	encode := func(blob []byte) string {
		var text strings.Builder
		for line := range slices.Chunk([]byte(std64(blob)), 60) {
			text.Write(append(line, end...))
		}
		return text.String()
	}
	return fieldCodec{encode: encode, decode: func(text string) ([]byte, error) {
		blob, err := base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(text, end, ""))
		if err == nil && encode(blob) != text {
			err = errors.New("the lines differ")
		}
		return blob, err
	}}
}
