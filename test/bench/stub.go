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

// counts holds what the stub counted since the previous line of its stdin. The stub prints them
// for each line.
type counts struct {
	Requests   map[string]int64 // by operation
	Statements int64            // of BatchExecuteStatement
	// Connections is the number of connections that were opened, Late that of those opened
	// after a tenth of the items was written. A client that keeps its connections opens none
	// then.
	Connections, Late int64
	Written           int64
	Seconds           []second // of ReEncrypt, from the first request on
	Wrong             []string
	Faults            int // total number of faults; Wrong has the text of the first ones
}

// reEncrypts returns the number of ReEncrypt requests without dry runs, which have a name of
// their own.
func (c counts) reEncrypts() int64 { return c.Requests[reEncrypt] }

func (c counts) total() (n int64) {
	for _, requests := range c.Requests {
		n += requests
	}
	return n
}

// stub is a small AWS for measurements. It implements the operations that the clients of this
// directory and rotator use, with a fixed response time, and checks what is written.
type stub struct {
	items      *stubItems
	store      string
	latency    time.Duration
	unbatched  bool // BatchExecuteStatement is not implemented
	quota      quota
	probes     probes
	statements atomic.Int64
	served     atomic.Int64 // requests

	connections, late atomic.Int64

	mu       sync.Mutex
	requests map[string]*atomic.Int64
}

// response is the result of a handler.
type response struct {
	status  int
	headers map[string]string
	body    []byte
}

// startup is the first line of a stub's output.
type startup struct{ Endpoint, Certificate string }

// newStub returns the stub that the flags describe.
func newStub(args []string) (s *stub, directory string, err error) {
	flags := flag.NewFlagSet("stub", flag.ContinueOnError)
	s = &stub{requests: map[string]*atomic.Int64{}}
	items := flags.Int("items", 20_000, "number of items")
	moved := flags.Bool("moved", false, "the items are already under the destination key")
	same := flags.Int("same", 1, "number of consecutive rows with the same ciphertext")
	flags.StringVar(&s.store, "store", rows, "dynamodb, s3 or s3-metadata")
	flags.BoolVar(&s.unbatched, "unbatched", false, "do not implement BatchExecuteStatement")
	flags.DurationVar(&s.latency, "latency", time.Millisecond, "response time")
	flags.Float64Var(&s.quota.rate, "quota", 0,
		"ReEncrypt requests per second that are served; 0 means all")
	flags.Float64Var(&s.quota.share, "throttle", 0,
		"share of the ReEncrypt requests that are throttled at random")
	flags.StringVar(&directory, "dir", ".", "directory for the certificate")
	if err := flags.Parse(args); err != nil {
		return nil, "", err
	}
	if *same > 1 && s.store != rows {
		return nil, "", errors.New("-same needs -store dynamodb")
	}
	s.items = newStubItems(*items, *moved)
	s.items.same = *same
	return s, directory, nil
}

// runStub serves until stdin ends, and prints counts for each line of stdin.
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
	server := &http.Server{
		Handler:   s,
		ConnState: s.track,
		ErrorLog:  log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
		// An empty map turns HTTP/2 off.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go func() { _ = server.ServeTLS(listener, "", "") }() // ends with the process
	return s.report(startup{Endpoint: "https://" + listener.Addr().String(), Certificate: file})
}

// report prints first, and then the counts for each line of stdin, until stdin ends.
func (s *stub) report(first startup) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(first); err != nil {
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

// newCertificate creates a certificate for 127.0.0.1 and writes it to a file, for AWS_CA_BUNDLE.
func newCertificate(directory string) (tls.Certificate, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
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
	if s.items.written.Load()*10 > int64(len(s.items.state)) {
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
	c := counts{
		Requests:    map[string]int64{},
		Statements:  s.statements.Load(),
		Connections: s.connections.Load(),
		Late:        s.late.Load(),
		Written:     s.items.written.Load(),
		Seconds:     s.quota.takeSeconds(),
	}
	if n := s.probes.left(); n > 0 {
		s.items.fault("%d probe objects were not deleted", n)
	}
	c.Faults, c.Wrong = s.items.faults()
	s.mu.Lock()
	defer s.mu.Unlock()
	for operation, n := range s.requests {
		c.Requests[operation] = n.Load()
	}
	return c
}

// since subtracts what was counted before, except for the faults.
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
		s.items.fault("a request was not signed")
	}
	served := s.served.Add(1)
	var a response
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
		w.Header()[name] = []string{value} // keeps upper and lower case, as boto3 needs it
	}
	// Each response has its own id: rotator stops if KMS repeats one.
	w.Header().Set("X-Amzn-Requestid", fmt.Sprintf("b3f2a1c4-5d6e-4f70-8192-%012x", served))
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.body) // the client reports the error
	}
}

// isHealth reports whether a request is a DynamoDB health check, which is unsigned.
func isHealth(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" && r.Header.Get("Authorization") == ""
}

func (a *response) set(name, value string) {
	if a.headers == nil {
		a.headers = map[string]string{}
	}
	a.headers[name] = value
}

// jsonResponse returns a response in the protocol of KMS and DynamoDB.
func jsonResponse(status int, body []byte) response {
	return response{
		status:  status,
		body:    body,
		headers: map[string]string{"Content-Type": "application/x-amz-json-1.1"},
	}
}

func failure(code string) response { return explained(code, "a response of the stub") }

func explained(code, message string) response {
	body := fmt.Appendf(nil, `{"__type":%q,"message":%q}`, code, message)
	return jsonResponse(http.StatusBadRequest, body)
}
