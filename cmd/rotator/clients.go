package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rotator/internal/answerlimit"
	"rotator/internal/fastkms"
	"rotator/internal/flowcontrol"
	"rotator/internal/reencrypt"
	"rotator/internal/version"
)

// loadAWS reads the AWS configuration of the environment. The HTTP client keeps as many idle
// connections as there are workers: with the default of 10, most requests would open a new
// connection. Each request, including its response, ends after timeout; the SDK sets no limit.
// For the retries of the clients see attempts.go.
func (s streams) loadAWS(
	ctx context.Context, workers int, timeout time.Duration,
) (aws.Config, error) {
	if workers == 0 {
		workers = mostWorkers()
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx,
		awsconfig.WithHTTPClient(newHTTPClient(workers, timeout)),
		awsconfig.WithRetryer(fewAttempts), // for the clients that fetch credentials
		awsconfig.WithLogger(sdkLogger{s.logger}),
		awsconfig.WithAPIOptions([]func(*middleware.Stack) error{
			answerlimit.New().Install,
			s.outages.Install(""),
			awsmiddleware.AddUserAgentKeyValue("rotator", version.String()),
		}))
	if err != nil {
		return aws.Config{}, fmt.Errorf("read the AWS configuration: %w",
			unreadableSettings(settingsOf(nil), err))
	}
	cfg.Retryer = singleAttempts
	cfg.Credentials = named(cfg.Credentials, credentialsContext{
		settings: settingsOf(cfg.ConfigSources), identity: s.identity, learn: s.learn,
		gate: s.outages.StrictGate(credentialsName, "")})
	renewing(&cfg)
	keepingConnections(&cfg)
	if client, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		s.outages.UseTransport(client.GetTransport())
	}
	return cfg, nil
}

// newHTTPClient returns a client that keeps its connections until the server closes them. It
// detects a connection that was lost without notice, for example by a NAT, within 30 s.
func newHTTPClient(workers int, timeout time.Duration) *awshttp.BuildableClient {
	const idle, interval, count = 15 * time.Second, 5 * time.Second, 3
	client := awshttp.NewBuildableClient().WithTimeout(timeout)
	return client.WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxConnsPerHost, t.IdleConnTimeout = 0, 0, 0 // no limit
		// a worker can send several updates
		t.MaxIdleConnsPerHost = 2*workers + 8
		t.MaxResponseHeaderBytes = answerlimit.Headers
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: idle, PingTimeout: count * interval}
	}).WithDialerOptions(func(d *net.Dialer) {
		d.KeepAliveConfig = net.KeepAliveConfig{
			Enable:   true,
			Idle:     idle,
			Interval: interval,
			Count:    count,
		}
	})
}

// keepingConnections hides that the body of a request is an io.WriterTo. The SDK closes the
// body when it has the response, possibly before net/http has reached the end of the body.
// WriteTo then returns io.EOF (smithy-go 1.28, transport/http/internal/io/safe.go), which only
// Read may return. net/http treats this as a failed write and closes the connection. With
// responses in about 1 ms, this happens once in some thousand requests. The middleware runs
// after the hash of the body is computed, because that needs no buffer for an io.WriterTo.
func keepingConnections(cfg *aws.Config) {
	const hashing = "ComputePayloadHash" // aws/signer/v4
	keep := middleware.FinalizeMiddlewareFunc("KeepConnection", keepConnection)
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), func(stack *middleware.Stack) error {
		if _, ok := stack.Finalize.Get(hashing); ok {
			return stack.Finalize.Insert(keep, hashing, middleware.After)
		}
		return stack.Finalize.Add(keep, middleware.Before)
	})
}

// keepConnection is the middleware of keepingConnections.
func keepConnection(
	ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
) (middleware.FinalizeOutput, middleware.Metadata, error) {
	if request, ok := in.Request.(*smithyhttp.Request); ok {
		if body, ok := request.GetStream().(io.ReadSeeker); ok {
			read, err := request.SetStream(struct{ io.ReadSeeker }{body})
			if err != nil {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, err
			}
			in.Request = read
		}
	}
	return next.HandleFinalize(ctx, in)
}

// renewing makes the next request fetch new credentials after a service has refused them. They
// may have been replaced, or have expired before their stated time.
func renewing(cfg *aws.Config) {
	cache, ok := cfg.Credentials.(namedCredentials)
	if !ok {
		return
	}
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), func(stack *middleware.Stack) error {
		renew := middleware.DeserializeMiddlewareFunc("RenewCredentials", func(
			ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
		) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			cache.refused(awsmiddleware.GetServiceID(ctx), err)
			return out, metadata, err
		})
		return stack.Deserialize.Add(renew, middleware.Before)
	})
}

const (
	// requestTimeout is the maximum time for one request with its response.
	requestTimeout = 30 * time.Second
	// keyTimeout is the same for KMS, whose requests are small. A worker must not wait long
	// for a lost response before it sends the request again.
	keyTimeout = 10 * time.Second
)

// kmsClient returns a KMS client, and a function that sends its ReEncrypt requests. Almost
// all requests of a run are ReEncrypt requests. Unless --sdk is set, the function needs less
// CPU time than the method of the client.
func (w *wiring) kmsClient(cfg aws.Config) (*kms.Client, reencrypt.ReEncryptFunc) {
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), w.permits.Install)
	usual, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if ok && usual.GetTimeout() > keyTimeout {
		cfg.HTTPClient = usual.WithTimeout(keyTimeout)
	}
	cache, ok := cfg.Credentials.(namedCredentials)
	if w.sdkOnly || !ok {
		client := kms.NewFromConfig(cfg)
		return client, client.ReEncrypt
	}
	refused := func(err error) { cache.refused(kms.ServiceID, err) }
	client := fastkms.New(cfg, refused, w.workers())
	client.SetPermits(&w.permits)
	client.SetBegin(w.begin)
	return client.Client, client.ReEncrypt
}

// workers returns the number of workers at the start.
func (w *wiring) workers() int { return cmp.Or(w.job.Workers, flowcontrol.FirstSize) }

// withTarget returns base with the Region, endpoint and role of a target, of the checkpoint,
// or of KMS. An empty value leaves that of base.
func withTarget(base aws.Config, region, endpoint, role string) aws.Config {
	cfg := base.Copy()
	if region != "" {
		cfg.Region = region
	}
	if role != "" {
		roles := sts.NewFromConfig(cfg, func(o *sts.Options) { o.Retryer = fewAttempts() })
		about := credentialsContext{identity: &identity{}, learn: func(aws.Credentials) {}}
		if n, ok := base.Credentials.(namedCredentials); ok {
			about = n.credentialsContext
			about.gate = about.gate.Beside(credentialsOfRole + role)
		}
		about.settings.role = role
		cfg.Credentials = named(stscreds.NewAssumeRoleProvider(roles, role,
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "rotator" }), about)
		renewing(&cfg)
	}
	if endpoint != "" {
		cfg.BaseEndpoint = aws.String(endpoint)
	}
	return cfg
}

// tableClient returns a client for the items of a table.
func tableClient(cfg aws.Config) *dynamodb.Client { return dynamodb.NewFromConfig(cfg) }

// objectClient returns a client for the objects of a bucket. By default, it neither sends nor
// verifies checksums: s3scan requests both for every body, and those of the SDK would be
// redundant.
func objectClient(cfg aws.Config, bucket string) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		// Most other S3 servers do not have a host name per bucket. An access point always has
		// a host name.
		o.UsePathStyle = (o.UsePathStyle || o.BaseEndpoint != nil) &&
			!strings.HasPrefix(bucket, "arn:")
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
}
