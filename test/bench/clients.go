package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
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

// runClient is the loops "bare" and "naive", each over any of the stores.
func runClient(kind string, args []string) error {
	flags := flag.NewFlagSet(kind, flag.ContinueOnError)
	items := flags.Int("items", 20_000, "how many items there are")
	store := flags.String("store", rows, "dynamodb, s3 or s3-metadata")
	idle := flags.Int("idle", 2*workers, "how many idle connections to one host the bare loop keeps")
	checksums := flags.Bool("checksums", false, "leave the bare loop the SDK's default of checksums where they are supported")
	if err := flags.Parse(args); err != nil {
		return err
	}
	profiled, err := profiling(os.Getenv(profileInto))
	if err != nil {
		return err
	}
	var options []func(*awsconfig.LoadOptions) error
	if kind == "bare" { // what a careful reader of the SDK's documentation sets
		options = append(options, awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, *idle
		})))
	}
	if kind == "bare" && !*checksums {
		options = append(options, awsconfig.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
			awsconfig.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired))
	}
	ctx := context.Background()
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return err
	}
	c := &client{kms: kms.NewFromConfig(cfg), dynamodb: dynamodb.NewFromConfig(cfg), items: *items,
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle, o.DisableLogOutputChecksumValidationSkipped = true, true })}
	if err := c.run(ctx, kind, *store); err != nil {
		return err
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if err := profiled(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(allocations{Mallocs: memory.Mallocs, Bytes: memory.TotalAlloc})
}

func (c *client) run(ctx context.Context, kind, store string) error {
	one := map[string]func(context.Context, string) error{bodies: c.moveBody, headers: c.moveHeader}[store]
	switch {
	case kind == "bare" && store == rows:
		return c.bareRows(ctx)
	case store == rows:
		return c.naiveRows(ctx)
	case one == nil:
		return fmt.Errorf("%q is none of the stores", store)
	case kind == "bare":
		return c.bareObjects(ctx, one)
	}
	return c.naiveObjects(ctx, one)
}

func (c *client) move(ctx context.Context, blob []byte, pairs map[string]string) ([]byte, error) {
	out, err := c.kms.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: blob, SourceKeyId: aws.String(sourceKey), DestinationKeyId: aws.String(destinationKey),
		SourceEncryptionContext: pairs, DestinationEncryptionContext: pairs})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}
