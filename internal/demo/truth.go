package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
)

const (
	table  = "customers"
	bucket = "vault"
	// workers is how many requests the demo's own clients have under way.
	workers = 16
)

// kind says what an entry was made as.
type kind int

const (
	ordinary  kind = iota // under the old key
	untouched             // poison or foreign: must stay as it is
	current               // under the new key from the start
)

// entry is one item or object, and what was last stored in it.
type entry struct {
	kind   kind
	secret string // plaintext
	blob   []byte // of what must stay as it is
	note   string // another attribute, or the metadata of an object
}

// truth is what the application, which is the demo itself, believes is stored.
type truth struct {
	server   *fakeaws.Server
	kms      *kms.Client
	dynamodb *dynamodb.Client
	s3       *s3.Client
	old, new string // key ARNs
	third    string
	entries  []*entry // items first, then objects
}

// seed makes keys, a table, a bucket, and stores every entry.
func seed(ctx context.Context, server *fakeaws.Server) (*truth, error) {
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAFAKEAWSFAKEAWS00", "not-a-secret", "")}
	t := &truth{server: server, kms: kms.NewFromConfig(cfg), dynamodb: dynamodb.NewFromConfig(cfg),
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })}
	for alias, arn := range map[string]*string{"alias/demo-old": &t.old, "alias/demo-new": &t.new, "alias/demo-third": &t.third} {
		made, err := server.KMS().CreateKey(fakekms.Symmetric)
		if err != nil {
			return nil, err
		}
		if err := server.KMS().SetAlias(alias, made); err != nil {
			return nil, err
		}
		*arn = made
	}
	if err := t.places(ctx); err != nil {
		return nil, err
	}
	if err := t.fill(); err != nil {
		return nil, err
	}
	return t, t.storeAll(ctx)
}

func (t *truth) places(ctx context.Context) error {
	_, err := t.dynamodb.CreateTable(ctx, &dynamodb.CreateTableInput{TableName: aws.String(table), BillingMode: types.BillingModePayPerRequest,
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}}})
	if err != nil {
		return err
	}
	_, err = t.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	return err
}

// fill decides what every entry holds: the odd ones are spread evenly.
func (t *truth) fill() error {
	odd := (items + objects) / (poison + moved + foreign)
	t.entries = make([]*entry, items+objects)
	for i := range t.entries {
		e := &entry{secret: randomText(), note: "first"}
		t.entries[i] = e
		key := t.old
		switch n := i / odd; {
		case i%odd != 0 || n >= poison+moved+foreign:
		case n%7 == 0: // 50 of 350
			e.kind = untouched
			e.blob = append([]byte{0}, randomBytes(179)...) // no layout begins so
			continue
		case n%7 <= 2: // 100
			e.kind, key = untouched, t.third
		default: // 200
			e.kind, key = current, t.new
		}
		blob, err := t.server.KMS().Encrypt(key, []byte(e.secret), contextOf(i))
		if err != nil {
			return err
		}
		e.blob = blob
	}
	return nil
}

func (t *truth) storeAll(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(workers)
	for first := 0; first < items; first += 25 {
		group.Go(func() error { return t.storeItems(ctx, first, min(first+25, items)) })
	}
	for i := items; i < items+objects; i++ {
		group.Go(func() error { return t.putObject(ctx, i, t.entries[i].blob) })
	}
	return group.Wait()
}

func (t *truth) storeItems(ctx context.Context, first, end int) error {
	var requests []types.WriteRequest
	for i := first; i < end; i++ {
		requests = append(requests, types.WriteRequest{PutRequest: &types.PutRequest{Item: map[string]types.AttributeValue{
			"id": &types.AttributeValueMemberS{Value: itemID(i)}, "tenant": &types.AttributeValueMemberS{Value: tenantOf(i)},
			"note": &types.AttributeValueMemberS{Value: t.entries[i].note}, "ssn": &types.AttributeValueMemberB{Value: t.entries[i].blob}}}})
	}
	_, err := t.dynamodb.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: requests}})
	return err
}

func (t *truth) putObject(ctx context.Context, i int, blob []byte) error {
	body := base64.StdEncoding.EncodeToString(blob) + "\n"
	_, err := t.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(objectKey(i)),
		Body: bytes.NewReader([]byte(body)), ContentType: aws.String("text/x-secret"),
		Metadata: map[string]string{"note": t.entries[i].note}, Tagging: aws.String("stage=prod")})
	return err
}

func (t *truth) disableOld(ctx context.Context) error {
	_, err := t.kms.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &t.old})
	return err
}

// check reads every entry and compares it with what was last stored. In the
// ledger, by address, must be those that cannot be moved, and no others.
func (t *truth) check(ctx context.Context, ledger map[string]bool) (findings, error) {
	results := make([]findings, len(t.entries))
	var group errgroup.Group
	group.SetLimit(workers)
	for i, e := range t.entries {
		group.Go(func() error {
			blob, note, err := t.read(ctx, i)
			if err != nil {
				return err
			}
			results[i] = t.judge(ctx, i, e, blob, note, ledger[address(i)])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return findings{}, err
	}
	var sum findings
	for _, r := range results {
		sum.readable += r.readable
		sum.unreadable += r.unreadable
		sum.lost += r.lost
		sum.damaged += r.damaged
		sum.untouched += r.untouched
		sum.touched += r.touched
	}
	return sum, nil
}

func (t *truth) judge(ctx context.Context, i int, e *entry, blob []byte, note string, listed bool) (f findings) {
	if note != e.note {
		f.damaged++
	}
	if e.kind == untouched {
		if bytes.Equal(blob, e.blob) && listed {
			f.untouched++
		} else {
			f.touched++
		}
		return f
	}
	out, err := t.kms.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: contextOf(i)})
	switch {
	case err != nil || aws.ToString(out.KeyId) != t.new || listed:
		f.unreadable++
	case string(out.Plaintext) != e.secret:
		f.lost++
	default:
		f.readable++
	}
	return f
}

// read returns the blob of an entry and its other attribute.
func (t *truth) read(ctx context.Context, i int) (blob []byte, note string, err error) {
	if i < items {
		out, err := t.dynamodb.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String(table), ConsistentRead: aws.Bool(true), Key: itemKey(i)})
		if err != nil {
			return nil, "", err
		}
		slot, _ := out.Item["ssn"].(*types.AttributeValueMemberB)
		other, _ := out.Item["note"].(*types.AttributeValueMemberS)
		if slot == nil || other == nil || len(out.Item) != 4 {
			return nil, "damaged", nil
		}
		return slot.Value, other.Value, nil
	}
	out, err := t.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(objectKey(i)), ChecksumMode: s3types.ChecksumModeEnabled})
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = out.Body.Close() }()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		return nil, "", err
	}
	if aws.ToString(out.ContentType) != "text/x-secret" || aws.ToInt32(out.TagCount) != 1 {
		return nil, "damaged", nil
	}
	blob, err = base64.StdEncoding.DecodeString(string(bytes.TrimSpace(body)))
	return blob, out.Metadata["note"], err
}

func itemID(i int) string    { return fmt.Sprintf("customer-%06d", i) }
func objectKey(i int) string { return fmt.Sprintf("prod/%06d.enc", i) }
func tenantOf(i int) string  { return fmt.Sprintf("tenant-%d", i%11) }

func itemKey(i int) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: itemID(i)}}
}

// address is how the ledger names an entry.
func address(i int) string {
	if i < items {
		return fmt.Sprintf(`customers {"id":{"S":"%s"}}`, itemID(i))
	}
	return "vault " + objectKey(i)
}

func contextOf(i int) map[string]string {
	if i < items {
		return map[string]string{"tenant": tenantOf(i), "purpose": "pii"}
	}
	return map[string]string{"app": "demo"}
}

func randomText() string { return hex.EncodeToString(randomBytes(12)) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
