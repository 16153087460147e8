package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// counts is what the stub saw since it was last asked: it prints them for each line
// of its stdin.
type counts struct {
	Requests   map[string]int64 // by operation
	Statements int64            // of BatchExecuteStatement
	// Connections were opened in all, Late of them after a tenth of the items
	// had been written: a client that keeps its connections opens none then.
	Connections, Late int64
	Written           int64
	Seconds           []second // of ReEncrypt, from the first request on
	Wrong             []string
	Faults            int // how many Wrong there were
}

// reEncrypts are the calls that move a slot, or ask about one; those of a dry run
// have a name of their own.
func (c counts) reEncrypts() int64 { return c.Requests[reEncrypt] }

func (c counts) total() (n int64) {
	for _, requests := range c.Requests {
		n += requests
	}
	return n
}

// stub is a small AWS for measurements: it answers what the clients of this
// directory and rotator ask, after a while, and checks what is written.
type stub struct {
	vault      *vault
	store      string
	latency    time.Duration
	unbatched  bool // it does not know BatchExecuteStatement
	quota      quota
	probes     probes
	statements atomic.Int64
	served     atomic.Int64 // requests

	connections, late atomic.Int64

	mu       sync.Mutex
	requests map[string]*atomic.Int64
}

// answer is what a handler returns.
type answer struct {
	status  int
	headers map[string]string
	body    []byte
}

// announced is the line that a stub begins with.
type announced struct{ Endpoint, Certificate string }

// newStub reads the flags of a stub.
func newStub(args []string) (s *stub, directory string, err error) {
	flags := flag.NewFlagSet("stub", flag.ContinueOnError)
	s = &stub{requests: map[string]*atomic.Int64{}}
	items := flags.Int("items", 20_000, "how many items there are")
	moved := flags.Bool("moved", false, "the items are under the destination key already")
	same := flags.Int("same", 1, "how many rows after each other hold one blob")
	flags.StringVar(&s.store, "store", rows, "where the slots stand: dynamodb, s3 or s3-metadata")
	flags.BoolVar(&s.unbatched, "unbatched", false, "do not know BatchExecuteStatement, so that rows are written one by one")
	flags.DurationVar(&s.latency, "latency", time.Millisecond, "time until an answer")
	flags.Float64Var(&s.quota.rate, "quota", 0, "ReEncrypt requests per second that are served; 0 for all")
	flags.Float64Var(&s.quota.share, "throttle", 0, "share of ReEncrypt requests that are throttled, at random")
	flags.StringVar(&directory, "dir", ".", "where the certificate is put")
	if err := flags.Parse(args); err != nil {
		return nil, "", err
	}
	if *same > 1 && s.store != rows {
		return nil, "", errors.New("-same is for rows")
	}
	s.vault = newVault(*items, *moved)
	s.vault.same = *same
	return s, directory, nil
}

// runStub serves until stdin ends, and prints counts for each line of it.
func runStub(args []string) error {
	s, directory, err := newStub(args)
	if err != nil {
		return err
	}
	certificate, file, err := newCertificate(directory)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s, ConnState: s.track, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig:    &tls.Config{Certificates: []tls.Certificate{certificate}},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}} // HTTP/1.1 alone
	go func() { _ = server.ServeTLS(listener, "", "") }() // ends with the process
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(announced{Endpoint: "https://" + listener.Addr().String(), Certificate: file}); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	var before counts
	for lines.Scan() {
		now := s.counts()
		if err := out.Encode(now.since(before)); err != nil {
			return err
		}
		before = now
	}
	return lines.Err()
}

// newCertificate makes a certificate for 127.0.0.1 and puts it into a file, for
// AWS_CA_BUNDLE.
func newCertificate(directory string) (tls.Certificate, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	file, err := os.CreateTemp(directory, "stub-*.pem")
	if err != nil {
		return tls.Certificate{}, "", err
	}
	err = pem.Encode(file, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	if closed := file.Close(); err == nil {
		err = closed
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file.Name(), err
}

func (s *stub) track(_ net.Conn, state http.ConnState) {
	if state != http.StateNew {
		return
	}
	s.connections.Add(1)
	if s.vault.written.Load()*10 > int64(len(s.vault.state)) {
		s.late.Add(1)
	}
}

func (s *stub) count(operation string) {
	s.mu.Lock()
	n := s.requests[operation]
	if n == nil {
		n = &atomic.Int64{}
		s.requests[operation] = n
	}
	s.mu.Unlock()
	n.Add(1)
}

func (s *stub) counts() counts {
	c := counts{Requests: map[string]int64{}, Statements: s.statements.Load(), Connections: s.connections.Load(), Late: s.late.Load(),
		Written: s.vault.written.Load(), Seconds: s.quota.takeSeconds()}
	if n := s.probes.left(); n > 0 {
		s.vault.fault("%d objects were left behind by probes", n)
	}
	c.Faults, c.Wrong = s.vault.faults()
	s.mu.Lock()
	defer s.mu.Unlock()
	for operation, n := range s.requests {
		c.Requests[operation] = n.Load()
	}
	return c
}

// since takes away what was counted before; faults are never forgiven.
func (c counts) since(before counts) counts {
	requests := map[string]int64{}
	for operation, n := range c.Requests {
		requests[operation] = n - before.Requests[operation]
	}
	c.Requests = requests
	c.Statements, c.Written = c.Statements-before.Statements, c.Written-before.Written
	c.Connections, c.Late = c.Connections-before.Connections, c.Late-before.Late
	return c
}

// ServeHTTP implements http.Handler.
func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	if _, err := body.ReadFrom(r.Body); err != nil {
		return
	}
	if isHealth(r) {
		s.count("health checks")
		time.Sleep(s.latency)
		_, _ = w.Write([]byte("healthy: dynamodb.us-east-1.amazonaws.com "))
		return
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=") {
		s.vault.fault("a request was not signed")
	}
	served := s.served.Add(1)
	var a answer
	switch target := r.Header.Get("X-Amz-Target"); {
	case strings.HasPrefix(target, "TrentService."):
		a = s.kms(strings.TrimPrefix(target, "TrentService."), body.Bytes())
	case strings.HasPrefix(target, "DynamoDB_20120810."):
		operation := strings.TrimPrefix(target, "DynamoDB_20120810.")
		s.count(operation)
		a = s.dynamodb(operation, body.Bytes())
		a.set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(a.body)), 10))
	default:
		a = s.s3(r, body.Bytes())
	}
	time.Sleep(s.latency)
	for name, value := range a.headers {
		w.Header()[name] = []string{value} // in the case that it has: boto3 keeps it
	}
	// Each answer has an id of its own: rotator stops when KMS repeats one.
	w.Header().Set("X-Amzn-Requestid", fmt.Sprintf("b3f2a1c4-5d6e-4f70-8192-%012x", served))
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.body) // a client that is gone shows in its own result
	}
}

// isHealth reports whether a request is a DynamoDB health check, which is unsigned.
func isHealth(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" && r.Header.Get("Authorization") == ""
}

func (a *answer) set(name, value string) {
	if a.headers == nil {
		a.headers = map[string]string{}
	}
	a.headers[name] = value
}

// inJSON is an answer in the protocol of KMS and DynamoDB.
func inJSON(status int, body []byte) answer {
	return answer{status: status, body: body, headers: map[string]string{"Content-Type": "application/x-amz-json-1.1"}}
}

func failure(code string) answer { return explained(code, "the stub's answer") }

func explained(code, message string) answer {
	return inJSON(http.StatusBadRequest, fmt.Appendf(nil, `{"__type":%q,"message":%q}`, code, message))
}
