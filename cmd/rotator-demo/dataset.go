package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
)

// Names of the data. jobFile uses them.
const (
	table      = "customers"
	bucket     = "vault"
	oldAlias   = "alias/demo-old"
	newAlias   = "alias/demo-new"
	thirdAlias = "alias/demo-third"
	jobName    = "job.yaml"
)

// concurrency is the maximum number of concurrent requests of the demo's own clients.
const concurrency = 16

// batch is the maximum number of items in a BatchWriteItem request.
const batch = 25

const jobFile = `job: demo
destination:
  key: alias/demo-new
source:
  keys: [alias/demo-old]
kms:
  rate: 20000
workers: 32
targets:
  - name: customers
    dynamodb: {table: customers, segments: 4}
    format: raw
    slots:
      - path: ssn
        context: {tenant: "${tenant}", purpose: pii}
  - name: vault
    s3: {bucket: vault, prefix: prod/}
    format: base64
    slots:
      - context: {app: demo}
`

// amounts are the numbers of entries to create. Each entry has one slot. The ratio of poison
// to foreign to moved is 1 to 2 to 4.
type amounts struct {
	items   int // in the DynamoDB table
	objects int // in the S3 bucket
	poison  int // of all: not ciphertexts
	moved   int // of all: under the new key
	foreign int // of all: under a third key
}

// kind is how an entry was created.
type kind int

const (
	ordinary  kind = iota // under the old key
	exception             // poison or foreign: must stay unchanged
	current               // under the new key
)

// entry is one item or object with the values that were stored last.
type entry struct {
	kind   kind
	secret string // plaintext
	blob   []byte // of an exception
	note   string // another attribute, or metadata of the object
}

// dataset is the data that the demo's application has stored, and clients to store and read
// it. The entries may be changed by one writer at a time.
type dataset struct {
	amounts
	server   *fakeaws.Server
	kms      *kms.Client
	dynamodb *dynamodb.Client
	s3       *s3.Client
	old, new string // key ARNs
	third    string
	entries  []*entry // items, then objects
}

// seed creates the keys, the table and the bucket, and stores all entries.
func seed(ctx context.Context, server *fakeaws.Server, n amounts) (*dataset, error) {
	cfg := aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(
			"AKIAFAKEAWSFAKEAWS00", "not-a-secret", ""),
	}
	d := &dataset{
		amounts:  n,
		server:   server,
		kms:      kms.NewFromConfig(cfg),
		dynamodb: dynamodb.NewFromConfig(cfg),
		s3:       s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
	}
	for alias, arn := range map[string]*string{
		oldAlias:   &d.old,
		newAlias:   &d.new,
		thirdAlias: &d.third,
	} {
		created, err := server.KMS().CreateKey(fakekms.Symmetric)
		if err != nil {
			return nil, err
		}
		if err := server.KMS().SetAlias(alias, created); err != nil {
			return nil, err
		}
		*arn = created
	}
	if err := d.createTargets(ctx); err != nil {
		return nil, err
	}
	if err := d.fill(); err != nil {
		return nil, err
	}
	return d, d.storeAll(ctx)
}

// createTargets creates the table and the bucket.
func (d *dataset) createTargets(ctx context.Context) error {
	id := aws.String("id")
	_, err := d.dynamodb.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   aws.String(table),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema:   []types.KeySchemaElement{{AttributeName: id, KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: id, AttributeType: types.ScalarAttributeTypeS},
		},
	})
	if err != nil {
		return err
	}
	_, err = d.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	return err
}

// fill creates the entries. It spreads those that are not ordinary evenly.
func (d *dataset) fill() error {
	special := d.poison + d.moved + d.foreign
	every := (d.items + d.objects) / special
	d.entries = make([]*entry, d.items+d.objects)
	for i := range d.entries {
		e := &entry{secret: randomText(), note: "first"}
		d.entries[i] = e
		key := d.old
		switch n := i / every; {
		case i%every != 0 || n >= special:
		case n%7 == 0: // one of seven
			e.kind = exception
			e.blob = append([]byte{0}, randomBytes(179)...) // no ciphertext starts with 0
			continue
		case n%7 <= 2: // two of seven
			e.kind, key = exception, d.third
		default: // four of seven
			e.kind, key = current, d.new
		}
		blob, err := d.server.KMS().Encrypt(key, []byte(e.secret), d.contextOf(i))
		if err != nil {
			return err
		}
		e.blob = blob
	}
	return nil
}

func (d *dataset) storeAll(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(concurrency)
	for first := 0; first < d.items; first += batch {
		group.Go(func() error { return d.putItems(ctx, first, min(first+batch, d.items)) })
	}
	for i := d.items; i < len(d.entries); i++ {
		group.Go(func() error { return d.putObject(ctx, i, d.entries[i].blob) })
	}
	return group.Wait()
}

// putItems stores the items from first up to end.
func (d *dataset) putItems(ctx context.Context, first, end int) error {
	var requests []types.WriteRequest
	for i := first; i < end; i++ {
		item := itemKey(i)
		item["tenant"] = &types.AttributeValueMemberS{Value: tenantOf(i)}
		item["note"] = &types.AttributeValueMemberS{Value: d.entries[i].note}
		item["ssn"] = &types.AttributeValueMemberB{Value: d.entries[i].blob}
		requests = append(requests,
			types.WriteRequest{PutRequest: &types.PutRequest{Item: item}})
	}
	_, err := d.dynamodb.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
		RequestItems: map[string][]types.WriteRequest{table: requests},
	})
	return err
}

func (d *dataset) putObject(ctx context.Context, i int, blob []byte) error {
	body := base64.StdEncoding.EncodeToString(blob) + "\n"
	_, err := d.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket:      aws.String(bucket),
		Key:         aws.String(objectKey(i)),
		Body:        bytes.NewReader([]byte(body)),
		ContentType: aws.String(contentType),
		Metadata:    map[string]string{"note": d.entries[i].note},
		Tagging:     aws.String("stage=prod"),
	})
	return err
}

func (d *dataset) disableOld(ctx context.Context) error {
	_, err := d.kms.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &d.old})
	return err
}

const contentType = "text/x-secret" // of all objects

func itemID(i int) string    { return fmt.Sprintf("customer-%06d", i) }
func objectKey(i int) string { return fmt.Sprintf("prod/%06d.enc", i) }
func tenantOf(i int) string  { return fmt.Sprintf("tenant-%d", i%11) }

func itemKey(i int) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: itemID(i)}}
}

// address returns the name of an entry in the ledger.
func (d *dataset) address(i int) string {
	if i < d.items {
		return fmt.Sprintf(`customers {"id":{"S":"%s"}}`, itemID(i))
	}
	return "vault " + objectKey(i)
}

// contextOf returns the encryption context of an entry.
func (d *dataset) contextOf(i int) map[string]string {
	if i < d.items {
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
