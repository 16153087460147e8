// Package fakeaws is a small AWS in one process: KMS, DynamoDB, S3, the part of
// STS that assuming a role needs, and that of Service Quotas that reading a quota
// needs, behind one loopback HTTP port, for tests and for the demo. The real SDK clients talk to it with their default settings.
//
// It keeps everything in memory, checks no signatures and must never hold real
// data. What it does is pinned by the cases of the conformance package, each of
// which names the page of the API reference that it follows. What goes wrong is
// set with Faults, at run time, per operation.
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

	"rotator/internal/fakeaws/fakedynamodb"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/fakeaws/fault"
)

// Config says what to start. The zero value is usable.
type Config struct {
	Region  string // default us-east-1
	Account string // owner of everything, 12 digits; default 111122223333
	Address string // host:port to listen on; default 127.0.0.1:0, a free port
	// SM2 creates the key pairs of SM2 keys (package fakesm2), in a China Region. If it is
	// nil, there are no SM2 keys.
	SM2 func() (fakekms.SM2Key, error)
	// Seed feeds the draws of faults that hit only a share of the requests.
	Seed uint64
	// Listen makes the listener; default net.Listen.
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
	quotas  *quotaService

	http   *http.Server
	conns  sync.WaitGroup // open connections
	served chan error     // what Serve returned
	close  func() error   // runs once
}

// Start listens and serves until Close.
func Start(config Config) (*Server, error) {
	config.Region = cmp.Or(config.Region, "us-east-1")
	config.Account = cmp.Or(config.Account, "111122223333")
	config.Address = cmp.Or(config.Address, "127.0.0.1:0")
	if config.Listen == nil {
		config.Listen = net.Listen
	}
	listener, err := config.Listen("tcp", config.Address)
	if err != nil {
		return nil, fmt.Errorf("start the fake AWS on %s: %w (give another address, or port 0 for a free one)", config.Address, err)
	}
	tokens := newTokens(config.Account)
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
		}),
		dynamo: fakedynamodb.New(fakedynamodb.Config{Region: config.Region, Account: config.Account}),
		s3:     fakes3.New(fakes3.Config{Region: config.Region, Account: config.Account}),
		quotas: &quotaService{known: map[string]Quota{}},
		served: make(chan error, 1),
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:     s.dispatch(tokens),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState:   s.track,
	}
	s.close = sync.OnceValue(func() error {
		cancel() // ends the delays that faults have added
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

// Endpoint is the base URL of every service: "http://127.0.0.1:40001".
func (s *Server) Endpoint() string { return s.endpoint }

// Faults sets what goes wrong and counts the requests of all services.
func (s *Server) Faults() *fault.Injector { return s.faults }

// KMS is the fake KMS, to seed it and to set its quota and policy.
func (s *Server) KMS() *fakekms.Service { return s.kms }

// DynamoDB is the fake DynamoDB.
func (s *Server) DynamoDB() *fakedynamodb.Service { return s.dynamo }

// S3 is the fake S3.
func (s *Server) S3() *fakes3.Service { return s.s3 }

// AWSEnv returns the environment variables, as "NAME=value", with which the AWS
// SDKs and the CLI of a child process use this server. The credentials are made
// up. They do not undo what else is set in the child's environment, such as a
// profile or an endpoint of one service.
func (s *Server) AWSEnv() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + s.endpoint,
		"AWS_REGION=" + s.config.Region,
		"AWS_ACCESS_KEY_ID=AKIAFAKEAWSFAKEAWS00",
		"AWS_SECRET_ACCESS_KEY=not-a-secret",
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// Close stops serving, cuts open connections and returns when no goroutine of
// the server is left. It may be called again.
func (s *Server) Close() error { return s.close() }

// track counts the connections whose goroutines Close has to wait for. New is
// reported before Serve returns, so the count is complete once it has.
func (s *Server) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}

// dispatch sends each request to its service.
func (s *Server) dispatch(t *tokens) http.Handler {
	kms := s.faults.Handler(s.signers.json(s.kms))
	dynamo := s.faults.Handler(s.signers.json(s.dynamo))
	s3 := s.faults.Handler(s.signers.rest(s.s3))
	quotas := s.faults.Handler(s.signers.json(s.quotas))
	sts := s.faults.Handler(s.signers.query(&stsService{tokens: t}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amzn-Requestid", newRequestID())
		w.Header().Set("Date", s.signers.now().UTC().Format(http.TimeFormat))
		choose(r, kms, dynamo, quotas, sts, s3).ServeHTTP(w, r)
	})
}

// Operation returns the IAM name of a request of an SDK client, such as "kms:ReEncrypt". The
// request need not be served by a Server of this package.
func Operation(r *http.Request) string {
	return choose[fault.Service](r, &fakekms.Service{}, &fakedynamodb.Service{}, &quotaService{}, &stsService{}, &fakes3.Service{}).Operation(r)
}

// choose tells services apart by the marks that the protocols of the SDK clients
// leave: a target header for those that speak JSON, a form for STS. What has none
// is S3, path style, but for a health check of DynamoDB.
func choose[T any](r *http.Request, kms, dynamo, quotas, sts, s3 T) T {
	target := r.Header.Get("X-Amz-Target")
	switch {
	case strings.HasPrefix(target, "TrentService."):
		return kms
	case strings.HasPrefix(target, "DynamoDB_20120810."):
		return dynamo
	case strings.HasPrefix(target, quotaTarget):
		return quotas
	case fakedynamodb.IsHealth(r):
		return dynamo
	case r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		return sts
	}
	return s3
}

// newRequestID has the form of the services' own: a random UUID.
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
