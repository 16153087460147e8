package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/config"
	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakesm2"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// example is a job file in the documentation.
type example struct{ name, text string }

func examples(t *testing.T) (all []example) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, example{filepath.Base(file), string(text)})
	}
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(documents) == 0 {
		t.Fatalf("documents: %v, %v", documents, err)
	}
	for _, document := range append(documents, "../../README.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for n, block := range strings.Split(string(text), "```yaml\n")[1:] {
			body, _, _ := strings.Cut(block, "```")
			all = append(all, example{fmt.Sprintf("%s#%d", filepath.Base(document), n), body})
		}
	}
	return all
}

// stage is a fake AWS with what one example needs.
type stage struct {
	server *fakeaws.Server
	guards *harness.Watcher
	dir    string
	keys   []string // ARNs of the source keys
	seals  int
	dynamo *dynamodb.Client
	s3     *s3.Client
	kms    *kms.Client
}

// seal encrypts under the source keys in turn.
func (s *stage) seal(t *testing.T, pairs ...string) []byte {
	t.Helper()
	context := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		context[pairs[i]] = pairs[i+1]
	}
	blob, err := s.server.KMS().Encrypt(s.keys[s.seals%len(s.keys)], []byte("secret"), context)
	if err != nil {
		t.Fatal(err)
	}
	s.seals++
	return blob
}

// TestExamples runs every job file of the documentation over one item per target.
// examples_items_test.go builds these items independently of the job files. All their ciphertexts
// must be moved, so a wrong path, pattern, prefix or context fails.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, e := range examples(t) {
		t.Run(e.name, func(t *testing.T) { runExample(t, e) })
	}
}

// anyToken is an environment that contains the grant token of the examples.
func anyToken(name string) (value string, ok bool) {
	return "token", name == "ROTATOR_GRANT_TOKEN"
}

var keyARN = regexp.MustCompile(`arn:aws(-cn)?:kms:[a-z0-9-]+:[0-9]+:(key|alias)/[A-Za-z0-9-]+`)

func runExample(t *testing.T, e example) {
	t.Parallel()
	region := "us-east-1"
	for _, other := range []string{"eu-west-1", "cn-north-1"} {
		if strings.Contains(e.text, "region: "+other) {
			region = other
		}
	}
	s := newStage(t, region)
	text := s.makeKeys(t, strings.ReplaceAll(e.text, "root: /srv/vault", "root: vault"))
	file := filepath.Join(s.dir, "job.yaml")
	contexts, err := os.ReadFile("../../deploy/examples/contexts.csv")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"job.yaml": []byte(text),
		"contexts.csv": contexts} {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	job, err := config.Load(file, anyToken)
	if err != nil {
		t.Fatal(err)
	}
	slots := 0
	for _, target := range job.Targets {
		slots += max(1, len(target.Slots))
		s.fill(t, e.name, target)
	}
	if s.seals < slots {
		t.Fatalf("%d ciphertexts for %d slots, so some slots are not tested", s.seals, slots)
	}
	env := append(s.server.AWSEnv(), "ROTATOR_GRANT_TOKEN="+s.grant(t))
	if job.Destination.Key == job.Source.Keys[0] {
		if _, err := s.server.KMS().Rotate(s.keys[0]); err != nil {
			t.Fatal(err)
		}
	}
	if job.CheckpointLocation().Shared() {
		if code, out, errs := command(t, env, "checkpoint", "create-table", "-f",
			file); code != exitDone {
			t.Fatalf("create-table: exit %d: %s%s", code, out, errs)
		}
	}
	if place, ok := job.EvidenceLocation(); ok {
		_, _ = s.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &place.Bucket})
	}
	checkDigests := s.beforeRun(t, env, file)
	code, out, errs := command(t, env, "run", "-f", file, "-o", "json")
	s.guards.Printed(out, errs)
	s.guards.Outputs(t)
	checkDigests()
	var summary report.Summary
	if err := json.Unmarshal([]byte(out), &summary); err != nil || code != exitDone {
		t.Fatalf("exit %d, %v: %s%s", code, err, out, errs)
	}
	if summary.Slots.Rotated != int64(s.seals) || summary.Slots.Seen != int64(s.seals) {
		t.Errorf("%+v, want all %d rotated", summary.Slots, s.seals)
	}
}

func newStage(t *testing.T, region string) *stage {
	server, err := fakeaws.Start(fakeaws.Config{Region: region, SM2: fakesm2.New})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	cfg := aws.Config{
		Region:       region,
		BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", ""),
	}
	guards := harness.Watch(t, server, "dynamodb:CreateTable") // of checkpoint create-table
	return &stage{
		server: server,
		guards: guards,
		dir:    t.TempDir(),
		dynamo: dynamodb.NewFromConfig(cfg),
		s3:     s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
		kms:    kms.NewFromConfig(cfg),
	}
}

// grant returns the token of a grant on a source key.
func (s *stage) grant(t *testing.T) string {
	t.Helper()
	out, err := s.kms.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &s.keys[0],
		GranteePrincipal: aws.String("arn:aws:iam::111122223333:role/mover"),
		Operations:       []kmstypes.GrantOperation{kmstypes.GrantOperationReEncryptFrom}})
	must(t, err)
	return *out.GrantToken
}

// makeKeys creates the keys that a job names. A key cannot be created with a given ARN, so ARNs in
// the job are replaced by those of new keys.
func (s *stage) makeKeys(t *testing.T, text string) string {
	t.Helper()
	must := func(arn string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return arn
	}
	specs := map[string]fakekms.KeySpec{ // by algorithm
		config.DefaultAlgorithm: fakekms.Symmetric,
		"RSAES_OAEP_SHA_256":    fakekms.RSA2048,
		"SM2PKE":                fakekms.SM2,
	}
	file := filepath.Join(t.TempDir(), "keys.yaml")
	must("", os.WriteFile(file, []byte(text), 0o600))
	must("", os.WriteFile(filepath.Join(filepath.Dir(file), "contexts.csv"), nil, 0o600))
	job, err := config.Load(file, anyToken)
	must("", err)
	known := map[string]string{}
	for i, key := range append([]string{job.Destination.Key}, job.Source.Keys...) {
		algorithm := job.Source.Algorithm
		if i == 0 {
			algorithm = job.Destination.Algorithm
		}
		if known[key] == "" {
			known[key] = must(s.server.KMS().CreateKey(specs[algorithm]))
		}
		if strings.HasPrefix(key, "alias/") {
			must("", s.server.KMS().SetAlias(key, known[key]))
		}
	}
	text = keyARN.ReplaceAllStringFunc(text, func(given string) string {
		if known[given] == "" {
			known[given] = must(s.server.KMS().CreateKey(fakekms.Symmetric))
		}
		return known[given]
	})
	for _, key := range job.Source.Keys {
		arn := key
		if known[key] != "" {
			arn = known[key]
		}
		s.keys = append(s.keys, arn)
	}
	return text
}

// fill stores the item of a target.
func (s *stage) fill(t *testing.T, name string, target config.Target) {
	t.Helper()
	place := ""
	switch {
	case target.DynamoDB != nil:
		place = target.DynamoDB.Table
	case target.S3 != nil:
		place = target.S3.Bucket
	default:
		place = target.Files.Root
		if filepath.IsAbs(place) {
			place = filepath.Base(place)
		}
	}
	build, ok := exampleItems()[name+" "+place]
	if !ok {
		build, ok = exampleItems()[place+" "+target.Format]
	}
	if !ok {
		t.Fatalf("exampleItems has no item for target %s of format %s", place, target.Format)
	}
	switch item := build(t, s); {
	case target.DynamoDB != nil:
		s.table(t, place, item.key, item.row)
	case target.S3 != nil:
		// the bucket may exist
		_, _ = s.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &place})
		for key, o := range item.objects {
			if _, err := s.s3.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket:   &place,
				Key:      aws.String(key),
				Body:     bytes.NewReader(o.body),
				Metadata: o.metadata,
			}); err != nil {
				t.Fatal(err)
			}
		}
	default:
		for key, o := range item.objects {
			file := filepath.Join(s.dir, place, key)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, o.body, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (s *stage) table(t *testing.T, name string, key []types.AttributeDefinition, row attributes) {
	t.Helper()
	in := &dynamodb.CreateTableInput{
		TableName:            &name,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: key,
	}
	for i, k := range key {
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{
			AttributeName: k.AttributeName,
			KeyType:       []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}[i],
		})
	}
	if _, err := s.dynamo.CreateTable(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := s.dynamo.PutItem(t.Context(),
		&dynamodb.PutItemInput{TableName: &name, Item: row}); err != nil {
		t.Fatal(err)
	}
}
