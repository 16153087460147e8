package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

const (
	workers   = 64
	batchSize = 25
)

// client is a loop over the SDK that somebody could have written instead of
// using rotator: nothing is retried by it, remembered, or checked.
type client struct {
	kms      *kms.Client
	dynamodb *dynamodb.Client
	s3       *s3.Client
	items    int
}

// allocations is what a client prints at its end.
type allocations struct{ Mallocs, Bytes uint64 }

// runClient is the loops "bare" and "naive", each over "dynamodb" or "s3".
func runClient(kind string, args []string) error {
	flags := flag.NewFlagSet(kind, flag.ContinueOnError)
	items := flags.Int("items", 20_000, "how many items there are")
	store := flags.String("store", "dynamodb", "dynamodb or s3")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var options []func(*awsconfig.LoadOptions) error
	if kind == "bare" { // what a careful reader of the SDK's documentation sets
		options = append(options, awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 2*workers
		})), awsconfig.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
			awsconfig.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired))
	}
	ctx := context.Background()
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return err
	}
	c := &client{kms: kms.NewFromConfig(cfg), dynamodb: dynamodb.NewFromConfig(cfg), items: *items,
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle, o.DisableLogOutputChecksumValidationSkipped = true, true })}
	loops := map[string]func(context.Context) error{"bare dynamodb": c.bareRows, "naive dynamodb": c.naiveRows, "bare s3": c.bareObjects, "naive s3": c.naiveObjects}
	if err := loops[kind+" "+*store](ctx); err != nil {
		return err
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return json.NewEncoder(os.Stdout).Encode(allocations{Mallocs: memory.Mallocs, Bytes: memory.TotalAlloc})
}

// bareRows makes the calls that cannot be avoided, and no others: it does not
// even scan, since it knows what is in the table.
func (c *client) bareRows(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for first := 0; first < c.items; first += batchSize {
		group.Go(func() error {
			in := &dynamodb.BatchExecuteStatementInput{}
			for i := first; i < min(first+batchSize, c.items); i++ {
				old := blobOf(sourceKey, i)
				new, err := c.move(ctx, old, contextOf(i))
				if err != nil {
					return err
				}
				in.Statements = append(in.Statements, types.BatchStatementRequest{Statement: aws.String(statement), Parameters: []types.AttributeValue{
					&types.AttributeValueMemberB{Value: new}, &types.AttributeValueMemberS{Value: idOf(i)}, &types.AttributeValueMemberB{Value: old}}})
			}
			out, err := c.dynamodb.BatchExecuteStatement(ctx, in)
			if err == nil && slices.ContainsFunc(out.Responses, func(r types.BatchStatementResponse) bool { return r.Error != nil }) {
				err = errors.New("a statement failed")
			}
			return err
		})
	}
	return group.Wait()
}

func (c *client) move(ctx context.Context, blob []byte, pairs map[string]string) ([]byte, error) {
	out, err := c.kms.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: blob, SourceKeyId: aws.String(sourceKey), DestinationKeyId: aws.String(destinationKey),
		SourceEncryptionContext: pairs, DestinationEncryptionContext: pairs})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

// naiveRows scans, and moves item by item.
func (c *client) naiveRows(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	pages := dynamodb.NewScanPaginator(c.dynamodb, &dynamodb.ScanInput{TableName: aws.String(place)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		for _, item := range page.Items {
			group.Go(func() error { return c.naiveRow(ctx, item) })
		}
	}
	return group.Wait()
}

func (c *client) naiveRow(ctx context.Context, item map[string]types.AttributeValue) error {
	old, ok := item["secret"].(*types.AttributeValueMemberB)
	tenant, named := item["tenant"].(*types.AttributeValueMemberS)
	if !ok || !named {
		return errors.New("an item without secret or tenant")
	}
	new, err := c.move(ctx, old.Value, map[string]string{"tenant": tenant.Value, "purpose": "pii"})
	if err != nil {
		return err
	}
	_, err = c.dynamodb.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: aws.String(place), Key: map[string]types.AttributeValue{"id": item["id"]},
		UpdateExpression: aws.String("SET secret = :n0"), ConditionExpression: aws.String("secret = :o0"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":o0": old, ":n0": &types.AttributeValueMemberB{Value: new}}})
	return err
}

// bareObjects reads and writes objects whose keys it knows.
func (c *client) bareObjects(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i := range c.items {
		group.Go(func() error { return c.moveObject(ctx, idOf(i)) })
	}
	return group.Wait()
}

// naiveObjects lists them first.
func (c *client) naiveObjects(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	pages := s3.NewListObjectsV2Paginator(c.s3, &s3.ListObjectsV2Input{Bucket: aws.String(place)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		for _, object := range page.Contents {
			group.Go(func() error { return c.moveObject(ctx, aws.ToString(object.Key)) })
		}
	}
	return group.Wait()
}

func (c *client) moveObject(ctx context.Context, key string) error {
	out, err := c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(place), Key: &key})
	if err != nil {
		return err
	}
	body, err := io.ReadAll(out.Body)
	_ = out.Body.Close()
	if err != nil {
		return err
	}
	var document struct {
		Tenant string
		Secret []byte
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return err
	}
	new, err := c.move(ctx, document.Secret, map[string]string{"tenant": document.Tenant, "purpose": "pii"})
	if err != nil {
		return err
	}
	old, _ := json.Marshal(document.Secret) // base64 in quotes
	written, _ := json.Marshal(new)
	replaced := bytes.Replace(body, old, written, 1)
	if bytes.Equal(body, replaced) {
		return fmt.Errorf("object %s: its secret was not found again", key)
	}
	_, err = c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(place), Key: &key, Body: bytes.NewReader(replaced),
		IfMatch: out.ETag, ContentType: out.ContentType, Metadata: out.Metadata})
	return err
}
