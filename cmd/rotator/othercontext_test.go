package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
)

// matchingKey is a slot whose key KMS identifies although the job has another context or key
// for it, and the expected outcome, reason and key.
type matchingKey struct {
	name, key     string
	context       map[string]string
	outcome, want string
	named         string // the key in the report; "" for none
}

func matchingKeys() []matchingKey {
	source, other := map[string]string{"app": "pay"}, map[string]string{"app": "other"}
	return []matchingKey{
		{"source", "old", other, "failed", "source-other-context", "old"},
		{"destination", "new", other, "failed", "destination-other-context", "new"},
		{"source-context", "new", source, "foreign", "other-context", "new"},
		{"third", "third", source, "foreign", "foreign-key", "third"},
		{"fourth-other", "fourth", other, "foreign", "foreign-key", ""},
	}
}

// TestMatchingKeyOtherContext: a slot under a key of the job with another context has a reason
// and a key that state this: in tables, buckets and directories, with one source key and with
// several, and in each command.
func TestMatchingKeyOtherContext(t *testing.T) {
	t.Parallel()
	for _, sources := range []string{"old", "old, second"} {
		t.Run(sources, func(t *testing.T) {
			t.Parallel()
			m := newMixed(t, 0)
			keys, file := otherContextJob(t, m, strings.Split(sources, ", "))
			for _, words := range [][]string{{"audit"}, {"audit", "--exact"}, {"verify"},
				{"verify", "--exact"}} {
				list := filepath.Join(t.TempDir(), "list")
				args := append(slices.Clip(words), "-f", file, "--exceptions", list)
				code, _, errs := command(t, m.env, args...)
				if code != exitDone && code != exitExceptions {
					t.Fatalf("%q: exit code %d: %s", words, code, errs)
				}
				text, err := os.ReadFile(list)
				if err != nil {
					t.Fatal(err)
				}
				checkMatchingKeys(t, strings.Join(words, " "), keys, string(text))
			}
			for _, words := range [][]string{{"run"}, {"retry"}, {"retry", "--exact"},
				{"run", "--exact"}} {
				code, _, errs := command(t, m.env, append(slices.Clip(words), "-f", file)...)
				if code != exitExceptions {
					t.Fatalf("%q: exit code %d: %s", words, code, errs)
				}
				_, ledger, _ := command(t, m.env, "report", "--ledger", "-f", file, "-o", "json")
				checkMatchingKeys(t, strings.Join(words, " "), keys, ledger)
			}
		})
	}
}

// checkMatchingKeys checks the entries of a list of exceptions, for each target.
func checkMatchingKeys(t *testing.T, command string, keys map[string]string, list string) {
	t.Helper()
	found := map[string]checkpoint.LedgerEntry{}
	for line := range strings.Lines(list) {
		var e checkpoint.LedgerEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v in %q", command, err, line)
		}
		for _, slot := range matchingKeys() {
			if strings.HasSuffix(strings.Trim(e.Ref, `{}"`), slot.name) {
				found[e.Target+" "+slot.name] = e
			}
		}
	}
	for _, target := range []string{"rows", "objects", "documents"} {
		for _, slot := range matchingKeys() {
			e := found[target+" "+slot.name]
			if e.Outcome != slot.outcome || e.Reason != slot.want || e.Key != keys[slot.named] {
				t.Errorf("%s: %s %s is %s/%s under %q, want %s/%s under %q", command, target,
					slot.name, e.Outcome, e.Reason, e.Key, slot.outcome, slot.want,
					keys[slot.named])
			}
		}
	}
}

// otherContextJob stores the slots in three targets and returns the keys by name and a job file.
func otherContextJob(
	t *testing.T, m *mixed, sources []string,
) (keys map[string]string, file string) {
	t.Helper()
	dir, ctx := t.TempDir(), context.Background()
	keys = m.keys
	for _, name := range []string{"second", "fourth"} {
		arn, err := m.server.KMS().CreateKey(fakekms.Symmetric)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = arn
	}
	rows, name, err := m.rowsTable(ctx)
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "documents"), 0o700)
	}
	for _, slot := range matchingKeys() {
		var blob []byte
		if err == nil {
			blob, err = m.server.KMS().Encrypt(keys[slot.key], []byte("x"), slot.context)
		}
		text := base64.StdEncoding.EncodeToString(blob)
		if err == nil {
			_, err = rows.PutItem(ctx, &dynamodb.PutItemInput{TableName: name, Item: attributes{
				"id": textOf(slot.name), "secret": &types.AttributeValueMemberB{Value: blob}}})
		}
		if err == nil {
			_, err = m.client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(mixedBucket),
				Key: aws.String("prod/" + slot.name), Body: bytes.NewReader([]byte(text))})
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "documents", slot.name), []byte(text), 0o600)
		}
	}
	arns := make([]string, len(sources))
	for i, source := range sources {
		arns[i] = fmt.Sprintf("%q", keys[source])
	}
	const slot = "context: {app: pay}, destination_context: {app: pay, v: \"2\"}"
	job := fmt.Sprintf("job: contexts\ndestination: { key: %q }\nsource: { keys: [%s] }\n"+
		"targets:\n"+
		"  - name: rows\n    dynamodb: { table: rows }\n    format: raw\n"+
		"    slots: [{ path: secret, "+slot+" }]\n"+
		"  - name: objects\n    s3: { bucket: %s }\n    format: base64\n    slots: [{ "+slot+
		" }]\n"+
		"  - name: documents\n    files: { root: documents }\n    format: base64\n"+
		"    slots: [{ "+slot+" }]\n", keys["new"], strings.Join(arns, ", "), mixedBucket)
	file = filepath.Join(dir, "job.yaml")
	if err == nil {
		err = os.WriteFile(file, []byte(job), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keys, file
}

// rowsTable creates the table rows and returns a client for it and its name.
func (m *mixed) rowsTable(ctx context.Context) (*dynamodb.Client, *string, error) {
	client := dynamodb.New(dynamodb.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(m.server.Endpoint()),
		Credentials:  m.client.Options().Credentials,
	})
	name := aws.String("rows")
	_, err := client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   name,
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{{
			AttributeName: aws.String("id"),
			KeyType:       types.KeyTypeHash,
		}},
		AttributeDefinitions: []types.AttributeDefinition{{
			AttributeName: aws.String("id"),
			AttributeType: types.ScalarAttributeTypeS,
		}},
	})
	return client, name, err
}
