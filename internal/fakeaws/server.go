// Package fakeaws serves a small AWS from one process, for tests and for the demo: KMS,
// DynamoDB, S3, the event history of CloudTrail with the requests to KMS, and the parts of STS,
// Service Quotas and AWS Backup that are needed to assume a role, to read a quota and to list
// recovery points. All services share one loopback HTTP port. The real SDK clients use it with
// their default settings.
//
// It keeps everything in memory, does not verify signatures and must never hold real data.
// The cases of package awsspec define its behaviour; each case names the page of the API
// reference that it follows. Faults sets failures for each operation while the server runs.
package fakeaws

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"rotator/internal/fakeaws/fakecloudtrail"
	"rotator/internal/fakeaws/fakedynamodb"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/fakeaws/fault"
)

// Config is the configuration of a Server. The zero value is valid.
type Config struct {
	Region  string // default us-east-1
	Account string // owner of all resources, 12 digits; default 111122223333
	Address string // host:port to listen on; default 127.0.0.1:0, a free port
	// SM2 creates the key pairs of SM2 keys (package fakesm2), in a China Region. If it is
	// nil, there are no SM2 keys.
	SM2 func() (fakekms.SM2Key, error)
	// Seed determines which requests are hit by faults that apply to a share of them.
	Seed uint64
	// Listen opens the listener; the default is net.Listen.
	Listen func(network, address string) (net.Listener, error)
}

// Server is a running fake AWS. It is safe for concurrent use.
type Server struct {
	config   Config
	endpoint string

	faults  *fault.Injector
	signers *signers
	kms     *fakekms.Service
	dynamo  *fakedynamodb.Service
	s3      *fakes3.Service
	trail   *fakecloudtrail.Service
	quotas  *quotaService
	backups *backupService
	kinesis *kinesisService

	http   *http.Server
	conns  sync.WaitGroup // open connections
	served chan error     // the error that Serve returned
	close  func() error   // runs once
}

// Start starts a server. It runs until Close.
func Start(config Config) (*Server, error) {
	config.Region = cmp.Or(config.Region, "us-east-1")
	config.Account = cmp.Or(config.Account, "111122223333")
	config.Address = cmp.Or(config.Address, "127.0.0.1:0")
	if config.Listen == nil {
		config.Listen = net.Listen
	}
	listener, err := config.Listen("tcp", config.Address)
	if err != nil {
		return nil, fmt.Errorf(
			"start the fake AWS on %s: %w (give another address, or port 0 for a free one)",
			config.Address, err,
		)
	}
	tokens := newTokens(config.Account)
	trail := fakecloudtrail.New(fakecloudtrail.Config{
		Region:  config.Region,
		Account: config.Account,
	})
	s := &Server{
		config:   config,
		endpoint: "http://" + listener.Addr().String(),
		faults:   fault.New(config.Seed),
		signers:  &signers{expired: map[string]bool{}},
		kms: fakekms.New(fakekms.Config{
			Region:    config.Region,
			Account:   config.Account,
			Principal: tokens.principal,
			SM2:       config.SM2,
			Trail:     func(e fakekms.Event) { trail.Record(eventOf(e)) },
		}),
		dynamo: fakedynamodb.New(fakedynamodb.Config{
			Region:  config.Region,
			Account: config.Account,
		}),
		s3:      fakes3.New(fakes3.Config{Region: config.Region, Account: config.Account}),
		trail:   trail,
		quotas:  &quotaService{known: map[string]Quota{}},
		backups: &backupService{points: map[string][]RecoveryPoint{}},
		kinesis: &kinesisService{retention: map[string]time.Duration{}},
		served:  make(chan error, 1),
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:     s.dispatch(tokens),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState:   s.track,
	}
	s.close = sync.OnceValue(func() error {
		cancel() // ends the delays that faults added
		err := s.http.Close()
		if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		s.conns.Wait()
		return err
	})
	go func() { s.served <- s.http.Serve(listener) }()
	return s, nil
}

// Endpoint returns the base URL of all services, such as "http://127.0.0.1:40001".
func (s *Server) Endpoint() string { return s.endpoint }

// Faults returns the Injector, which sets faults and counts the requests of all services.
func (s *Server) Faults() *fault.Injector { return s.faults }

// KMS returns the fake KMS, to create keys and to set its quota and policy.
func (s *Server) KMS() *fakekms.Service { return s.kms }

// DynamoDB returns the fake DynamoDB.
func (s *Server) DynamoDB() *fakedynamodb.Service { return s.dynamo }

// S3 returns the fake S3.
func (s *Server) S3() *fakes3.Service { return s.s3 }

// CloudTrail returns the fake CloudTrail. It has the requests to KMS, also refused ones, but not
// those that a fault kept from KMS.
func (s *Server) CloudTrail() *fakecloudtrail.Service { return s.trail }

// eventOf returns the event of a request to KMS.
func eventOf(e fakekms.Event) fakecloudtrail.Event {
	return fakecloudtrail.Event{
		ID:           e.ID,
		At:           e.At,
		Source:       "kms.amazonaws.com",
		Name:         e.Operation,
		AccessKeyID:  e.AccessKeyID,
		Principal:    e.Principal,
		UserAgent:    e.UserAgent,
		SourceIP:     e.SourceIP,
		RequestID:    e.RequestID,
		ReadOnly:     e.ReadOnly(),
		Code:         e.Code,
		Message:      e.Message,
		Resources:    e.Resources,
		ResourceType: "AWS::KMS::Key",
		Parameters:   e.Parameters,
	}
}

// AWSEnv returns environment variables, in the form "NAME=value", that direct the AWS SDKs
// and the CLI in a child process to this server. The credentials are invented. Other
// variables of the child, such as a profile or the endpoint of one service, can take
// precedence; the caller must remove them.
func (s *Server) AWSEnv() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + s.endpoint,
		"AWS_REGION=" + s.config.Region,
		"AWS_DEFAULT_REGION=" + s.config.Region, // for version 1 of the AWS CLI, and boto3
		"AWS_ACCESS_KEY_ID=AKIAFAKEAWSFAKEAWS00",
		"AWS_SECRET_ACCESS_KEY=not-a-secret",
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// Close stops the server, closes open connections and waits until all goroutines of the
// server have ended. It may be called more than once.
func (s *Server) Close() error { return s.close() }

// track counts the open connections, so that Close can wait for their goroutines. net/http
// reports the state New before Serve returns, so the count is complete after that.
func (s *Server) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}

// dispatch returns a handler that passes each request to its service.
func (s *Server) dispatch(t *tokens) http.Handler {
	kms := s.faults.Handler(s.signers.json(s.kms))
	dynamo := s.faults.Handler(s.signers.json(s.dynamo))
	s3 := s.faults.Handler(s.signers.rest(s.s3))
	quotas := s.faults.Handler(s.signers.json(s.quotas))
	trail := s.faults.Handler(s.signers.json(s.trail))
	backups := s.faults.Handler(s.signers.json(s.backups))
	kinesis := s.faults.Handler(s.signers.json(s.kinesis))
	sts := s.faults.Handler(s.signers.query(&stsService{tokens: t}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amzn-Requestid", newRequestID())
		w.Header().Set("Date", s.signers.now().UTC().Format(http.TimeFormat))
		choose(r, kms, dynamo, trail, quotas, backups, kinesis, sts, s3).ServeHTTP(w, r)
	})
}

// Operation returns the IAM name of a request of an SDK client, such as "kms:ReEncrypt". The
// request need not be served by a Server of this package.
func Operation(r *http.Request) string {
	return choose[fault.Service](r, &fakekms.Service{}, &fakedynamodb.Service{},
		&fakecloudtrail.Service{}, &quotaService{}, &backupService{}, &kinesisService{},
		&stsService{}, &fakes3.Service{}).Operation(r)
}

// choose returns the argument of the service that a request is for. SDK clients that use JSON
// send a target header; STS requests have a form body. All other requests are for S3 (path
// style), except those that are signed for AWS Backup, and the health check of DynamoDB.
func choose[T any](r *http.Request, kms, dynamo, trail, quotas, backups, kinesis, sts, s3 T) T {
	target := r.Header.Get("X-Amz-Target")
	switch {
	case strings.HasPrefix(target, "TrentService."):
		return kms
	case strings.HasPrefix(target, "DynamoDB_20120810."):
		return dynamo
	case strings.Contains(target, "CloudTrail_20131101."):
		return trail
	case strings.HasPrefix(target, quotaTarget):
		return quotas
	case strings.HasPrefix(target, kinesisTarget):
		return kinesis
	case isBackup(r):
		return backups
	case fakedynamodb.IsHealth(r):
		return dynamo
	case r.Method == http.MethodPost &&
		strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		return sts
	}
	return s3
}

// newRequestID returns a random UUID, the form of the request ids of AWS.
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
