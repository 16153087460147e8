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

// client is a loop over the SDK that a user could write instead of using rotator. It retries,
// stores and checks nothing.
type client struct {
	kms      *kms.Client
	dynamodb *dynamodb.Client
	s3       *s3.Client
	items    int
}

// allocations is what a client prints when it exits.
type allocations struct{ Mallocs, Bytes uint64 }

// runClient runs one of the loops over a store.
func runClient(kind string, args []string) error {
	flags := flag.NewFlagSet(kind, flag.ContinueOnError)
	items := flags.Int("items", 20_000, "number of items")
	store := flags.String("store", rows, "dynamodb, s3 or s3-metadata")
	idle := flags.Int("idle", 2*workers, "idle connections of the minimal loop to one host")
	checksums := flags.Bool("checksums", false,
		"let the minimal loop use checksums wherever they are supported, as the SDK's default")
	if err := flags.Parse(args); err != nil {
		return err
	}
	profiled, err := profiling(os.Getenv(profileInto))
	if err != nil {
		return err
	}
	var options []func(*awsconfig.LoadOptions) error
	if kind == kindMinimal {
		options = tuned(*idle, *checksums)
	}
	ctx := context.Background()
	c, err := newClient(ctx, *items, options)
	if err != nil {
		return err
	}
	if err := c.run(ctx, kind, *store); err != nil {
		return err
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if err := profiled(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(allocations{
		Mallocs: memory.Mallocs,
		Bytes:   memory.TotalAlloc,
	})
}

// tuned returns the options that the documentation of the SDK recommends for many requests.
func tuned(idle int, checksums bool) []func(*awsconfig.LoadOptions) error {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, idle
	})
	options := []func(*awsconfig.LoadOptions) error{awsconfig.WithHTTPClient(transport)}
	if !checksums {
		const required = aws.RequestChecksumCalculationWhenRequired
		options = append(options, awsconfig.WithRequestChecksumCalculation(required),
			awsconfig.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired))
	}
	return options
}

func newClient(
	ctx context.Context, items int, options []func(*awsconfig.LoadOptions) error,
) (*client, error) {
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	return &client{
		kms:      kms.NewFromConfig(cfg),
		dynamodb: dynamodb.NewFromConfig(cfg),
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) {
			o.UsePathStyle, o.DisableLogOutputChecksumValidationSkipped = true, true
		}),
		items: items,
	}, nil
}

func (c *client) run(ctx context.Context, kind, store string) error {
	move := map[string]func(context.Context, string) error{
		bodies:  c.moveBody,
		headers: c.moveHeader,
	}[store]
	switch {
	case kind == kindMinimal && store == rows:
		return c.minimalRows(ctx)
	case store == rows:
		return c.simpleRows(ctx)
	case move == nil:
		return fmt.Errorf("unknown store %q", store)
	case kind == kindMinimal:
		return c.minimalObjects(ctx, move)
	}
	return c.simpleObjects(ctx, move)
}

func (c *client) move(ctx context.Context, blob []byte, pairs map[string]string) ([]byte, error) {
	out, err := c.kms.ReEncrypt(ctx, &kms.ReEncryptInput{
		CiphertextBlob:               blob,
		SourceKeyId:                  aws.String(sourceKey),
		DestinationKeyId:             aws.String(destinationKey),
		SourceEncryptionContext:      pairs,
		DestinationEncryptionContext: pairs,
	})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}
