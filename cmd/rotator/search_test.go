package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/harness"
	"rotator/internal/report"
)

// searchJob is a table, a bucket and a directory, each with the line for search.
const searchJob = `  - dynamodb: {table: rows, segments: 1}
    format: raw
    %[1]s
    slots: [{path: doc.key}]
  - s3: {bucket: things}
    format: s3-encryption-client
    %[1]s
    may_be_empty: true
  - name: lake
    files: {root: export}
    format: auto
    %[1]s
`

// TestSearch: ciphertexts under the old key outside of slots keep a job from being converged. Data
// that the format does not need is searched only with search: all; otherwise it counts as not
// searched.
func TestSearch(t *testing.T) {
	t.Parallel()
	v := newVault(t, fmt.Sprintf(searchJob, ""))
	v.searchFiles()

	// In the table, one ciphertext is in doc, which is read for its key, and one in another
	// attribute. In the bucket, one is in the metadata and one in each body.
	for _, test := range []struct {
		search               string
		rows, things, lake   int64
		rowsLeft, bodiesLeft int64
	}{
		// first, because an object whose body was read is moved by a copy
		{"search: all", 2, 3, 6, 0, 0},
		{"", 1, 1, 6, 1, 2},
	} {
		v.file("job.yaml",
			"job: vault\ndestination: {key: alias/new}\nsource: {keys: [alias/old]}\n"+
				"targets:\n"+fmt.Sprintf(searchJob, test.search))
		for _, args := range [][]string{{"run"}, {"verify"}, {"report"}} {
			code := exitExceptions
			if args[0] == "report" {
				code = 0
			}
			s := v.rotator(code, args...)
			want := []int64{test.rows, test.things, test.lake}
			for i, target := range s.Targets {
				if n := target.Slots.Failed; n != want[i] || unrecognised(target) != want[i] {
					t.Errorf("%s %v: %s has %d failed slots, want %d: %+v", test.search, args,
						target.Name, n, want[i], target.Reasons)
				}
			}
			n := s.Search.NotSearched
			if s.Converged || n.RowsInPart != test.rowsLeft || n.Bodies != test.bodiesLeft ||
				n.Items != 0 {
				t.Errorf("%s %v: converged %v, %+v", test.search, args, s.Converged, s.Search)
			}
			if s.Search.OtherKeys != 0 || s.Search.Items != s.Items.Seen || s.Search.Bytes == 0 {
				t.Errorf("%s %v: %+v of %+v", test.search, args, s.Search, s.Items)
			}
		}
	}
	out, err := v.command("report").CombinedOutput()
	const note = "the search cannot find ciphertexts under asymmetric keys"
	if err != nil || !bytes.Contains(out, []byte(note)) {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = v.command("report", "--ledger").CombinedOutput()
	leaked := bytes.Contains(out, []byte("AQIC"))
	if err != nil || !bytes.Contains(out, []byte("own with format: jsonl")) || leaked {
		t.Errorf("%v\n%s", err, out)
	}
}

func unrecognised(target report.Target) (n int64) {
	for _, r := range target.Reasons {
		if r.Reason == "unrecognised-ciphertext" {
			n += r.Slots
		}
	}
	return n
}

// searchFiles stores ciphertexts outside of slots: in files, a table and a bucket.
func (v *vault) searchFiles() {
	blob := func() string {
		raw, err := v.server.KMS().Encrypt(v.old, []byte("x"), map[string]string{"who": "knows"})
		v.must(err)
		return string(raw)
	}
	v.searchStores(blob)
	b64 := func() string { return std64([]byte(blob())) }
	v.file("export/a.jsonl", fmt.Sprintf("{\"k\":%q}\n{\"k\":%q}\n", b64(), b64()))
	v.file("export/b.bin", blob()+strings.Repeat("stream", 100))
	v.file("export/c.bin", blob()+"\n")
	v.file("export/d.json",
		fmt.Sprintf("{\n  \"CiphertextBlob\": %q,\n  \"KeyId\": %q\n}\n", b64(), v.old))
	v.file("export/e.txt", hex.EncodeToString([]byte(blob())))
	v.file("export/f.txt", "nothing")
}

// searchStores stores one row in a table and two objects in a bucket. Of one object, only the
// metadata is read.
func (v *vault) searchStores(blob func() string) {
	cfg := aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(v.server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", ""),
	}
	ctx := v.t.Context()
	rows := dynamodb.NewFromConfig(cfg)
	objects := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	_, err := rows.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:            aws.String("rows"),
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: stringKey("id"),
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash},
		},
	})
	v.must(err)
	named, err := v.server.KMS().Encrypt(v.old, []byte("x"), nil)
	v.must(err)
	doc := attributes{"key": binaryOf(named), "backup": textOf(std64([]byte(blob())))}
	_, err = rows.PutItem(ctx,
		&dynamodb.PutItemInput{TableName: aws.String("rows"), Item: attributes{
			"id":   textOf("a"),
			"doc":  &types.AttributeValueMemberM{Value: doc},
			"note": binaryOf([]byte(blob())),
		}})
	v.must(err)
	_, err = objects.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("things")})
	v.must(err)
	wrapped, err := v.server.KMS().Encrypt(v.old, []byte("data key"),
		map[string]string{"kms_cmk_id": v.old})
	v.must(err)
	sealed := map[string]string{
		"x-amz-key-v2":   std64(wrapped),
		"x-amz-iv":       std64([]byte("iv of 12 byt")),
		"x-amz-wrap-alg": "kms",
		"x-amz-cek-alg":  "AES/GCM/NoPadding",
		"x-amz-tag-len":  "128",
		"x-amz-matdesc":  fmt.Sprintf(`{"kms_cmk_id":%q}`, v.old),
	}
	plain := map[string]string{"x-backup": std64([]byte(blob()))}
	for key, metadata := range map[string]map[string]string{"sealed": sealed, "plain": plain} {
		_, err = objects.PutObject(ctx, &s3.PutObjectInput{
			Bucket:   aws.String("things"),
			Key:      &key,
			Metadata: metadata,
			Body:     strings.NewReader("body " + blob()),
		})
		v.must(err)
	}
}
