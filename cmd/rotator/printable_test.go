package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// hostileNames returns names that together contain every character that must not be printed.
func hostileNames() (names []string) {
	var all []rune
	for r := rune(1); r < 0xa0; r++ {
		if unicode.IsControl(r) {
			all = append(all, r)
		}
	}
	for _, table := range []*unicode.RangeTable{
		unicode.Cf, unicode.Zl, unicode.Zp,
		unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point,
	} {
		for _, r := range table.R16 {
			all = append(all, rune(r.Lo), rune(r.Hi))
		}
		for _, r := range table.R32 {
			all = append(all, rune(r.Lo), rune(r.Hi))
		}
	}
	for some := range slices.Chunk(all, 12) {
		names = append(names, "evil "+string(some)+"\x1b[2J end")
	}
	return names
}

// unprintable returns the characters in a text that must not be printed.
func unprintable(text string) (found []rune) {
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		if r != '\n' && (!unicode.IsPrint(r) || unicode.Is(unicode.Variation_Selector, r) ||
			r == utf8.RuneError && size == 1) {
			found = append(found, r)
		}
	}
	return found
}

// hostileWorld has targets and items with hostile names. Under each name there is one ciphertext
// that can be moved and one that cannot.
type hostileWorld struct {
	server *fakeaws.Server
	good   []byte
	job    string // the path of its job file
	log    string
}

func newHostileWorld(t *testing.T) *hostileWorld {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w := &hostileWorld{server: server}
	old, err := server.KMS().CreateKey(fakekms.Symmetric)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := server.KMS().CreateKey(fakekms.Symmetric)
	if err != nil {
		t.Fatal(err)
	}
	if w.good, err = server.KMS().Encrypt(old, []byte("plain"), nil); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "evil\u202e\ufeff\u200b")
	w.job, w.log = filepath.Join(dir, "job\u202e\u009b.yaml"),
		filepath.Join(dir, "audit\u2066.jsonl")
	w.fill(t, filepath.Join(dir, "files"))
	quoted := func(s string) string { // returns a double-quoted scalar of YAML
		text, _ := json.Marshal(s)
		return string(text)
	}
	job := fmt.Sprintf(`job: hostile
destination: { key: %q }
source: { keys: [%q] }
max_outage: 1s
audit_log: "audit\u2066.jsonl"
targets:
  - { name: "table\u202e", dynamodb: { table: customers }, format: raw, slots: [ { path: %s } ] }
  - { name: "bucket\u009b", s3: { bucket: vault }, format: base64, slots: [{}] }
  - { name: "files\u2028", files: { root: files }, format: base64, slots: [{}] }
`, moved, old, quoted(`["at`+"\u200b\u202e"+`"]`))
	if err := os.WriteFile(w.job, []byte(job), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *hostileWorld) fill(t *testing.T, files string) {
	t.Helper()
	cfg := aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(w.server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", ""),
	}
	tables := dynamodb.NewFromConfig(cfg)
	objects := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := tables.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String("customers"),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash},
		},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
		},
	})
	must(err)
	_, err = objects.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("vault")})
	must(err)
	must(os.MkdirAll(files, 0o700))
	bad := bytes.Repeat([]byte{7, 77}, 80)
	for _, name := range append(hostileNames(), "evil\xff\xfe\x80") {
		for suffix, blob := range map[string][]byte{".good": w.good, ".bad": bad} {
			text := []byte(base64.StdEncoding.EncodeToString(blob))
			must(os.WriteFile(filepath.Join(files, strings.ReplaceAll(name, "/", "-")+suffix), text,
				0o600))
			if !utf8.ValidString(name) {
				continue
			}
			_, err = tables.PutItem(t.Context(), &dynamodb.PutItemInput{
				TableName: aws.String("customers"),
				Item: map[string]types.AttributeValue{
					"id":             &types.AttributeValueMemberS{Value: name + suffix},
					"at\u200b\u202e": &types.AttributeValueMemberB{Value: blob},
				},
			})
			must(err)
			_, err = objects.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String("vault"),
				Key:    aws.String(name + suffix),
				Body:   bytes.NewReader(text),
			})
			must(err)
		}
	}
}

// TestNothingUnprintable: with any names and any text from servers, all
// printed, logged and stored text is free of control and invisible characters,
// and programs that read the JSON get the original names.
func TestNothingUnprintable(t *testing.T) {
	t.Parallel()
	w := newHostileWorld(t)
	odd := fault.Answer{Code: "Odd\u202e\u009bCode", Message: "odd\x7f\u2067 text"}
	w.server.Faults().Set("s3:GetBucketVersioning", fault.Fault{Kind: fault.Refusal, Answer: odd})
	w.server.Faults().Set("s3:GetObject", fault.Fault{Kind: fault.Refusal, Times: 1, Answer: odd})
	outputs := map[string]string{}
	try := func(args ...string) string {
		code, out, errs := command(t, w.server.AWSEnv(), args...)
		name := strings.Join(args, " ")
		outputs[name] = out + errs
		if !strings.Contains(out+errs, "\\u") && code != exitDone {
			t.Errorf("%q: nothing is escaped: exit code %d, %s%s", name, code, out, errs)
		}
		return out
	}
	try("audit", "-v", "-f", w.job)
	try("run", "-f", w.job, "-o", "json")
	try("retry", "-v", "-f", w.job)
	try("verify", "-f", w.job, "-o", "json")
	try("status", "-f", w.job)
	try("status", "-f", w.job, "-o", "json")
	try("report", "-f", w.job, "--check")
	try("report", "-f", w.job, "--ledger")
	ledger := try("report", "-f", w.job, "--ledger", "-o", "json")
	w.server.Faults().Set("kms:DescribeKey", fault.Fault{Kind: fault.Refusal, Answer: odd})
	try("run", "-f", w.job)
	try("run", "-f", w.job+"\x1b]0;\u202e\n\xff\u200b")
	try("evil\u202e\x1b")
	try("run", "-o", "\u202e", "-f", w.job)
	try("run", "--evil\u202e=\x1b", "-f", w.job)
	wrong := filepath.Join(filepath.Dir(w.job), "wrong\u202e.yaml")
	for _, text := range []string{
		"job: \"\\e\\u202e\"\nevil\u202e: \u200b\n",
		"job: [\u202e\u2066\n",
		"job: a\ntargets:\n  - name: \"\\e\"\n    \"x\\u202e\": 1\n",
	} {
		if err := os.WriteFile(wrong, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		try("run", "-f", wrong)
		outputs["run -f wrong "+text] = outputs["run -f "+wrong]
	}
	stored, err := os.ReadFile(w.log)
	if err != nil {
		t.Fatal(err)
	}
	outputs["the audit log"] = string(stored)
	log := try("log", "export", "-f", w.job)
	for name, output := range outputs {
		if found := unprintable(output); len(found) > 0 || output == "" {
			t.Errorf("%q prints %q: %.3000q", name, string(found), output)
		}
	}
	checkNames(t, ledger)
	checkNames(t, log)
}

// checkNames checks that the JSON lines contain every name unchanged.
func checkNames(t *testing.T, lines string) {
	t.Helper()
	refs := map[string]bool{}
	for line := range strings.Lines(lines) {
		var one checkpoint.LedgerEntry
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		refs[one.Ref] = true
	}
	for _, name := range hostileNames() {
		found := 0
		for ref := range refs {
			var item struct{ ID struct{ S string } }
			if json.Unmarshal([]byte(ref), &item) == nil {
				ref = item.ID.S
			}
			if strings.HasPrefix(ref, name) {
				found++
			}
		}
		if found < 2 {
			t.Errorf("%d refs contain %q", found, name)
		}
	}
}
