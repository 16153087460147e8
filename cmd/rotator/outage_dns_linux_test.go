package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"rotator/internal/harness"
)

// nameServer is a DNS server that knows one address for every name, 127.0.0.1.
type nameServer struct {
	address string
	conn    net.PacketConn

	mu      sync.Mutex
	failure dnsmessage.RCode // 0 while it serves
	queries []time.Time      // queries for IPv4 addresses while the server fails
}

func newNameServer(t *testing.T, address string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Skipf("SKIPPED: no DNS server on a loopback address: %v", err)
	}
	s := &nameServer{address: address, conn: conn}
	t.Cleanup(func() { _ = conn.Close() })
	go s.serve()
	return s
}

func (s *nameServer) serve() {
	buffer := make([]byte, 512) // the maximum of DNS over UDP without extensions
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		if response, err := s.respond(m).Pack(); err == nil {
			_, _ = s.conn.WriteTo(response, from)
		}
	}
}

func (s *nameServer) respond(m dnsmessage.Message) *dnsmessage.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	question := m.Questions[0]
	m.Response, m.Authoritative, m.RCode = true, true, s.failure
	m.Answers, m.Authorities, m.Additionals = nil, nil, nil
	if question.Type != dnsmessage.TypeA {
		return &m
	}
	if s.failure != dnsmessage.RCodeSuccess {
		s.queries = append(s.queries, time.Now())
		return &m
	}
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{
			Name:  question.Name,
			Type:  dnsmessage.TypeA,
			Class: dnsmessage.ClassINET,
		},
		Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
	}}
	return &m
}

// fail makes the server fail every query, or serve again with RCodeSuccess.
func (s *nameServer) fail(code dnsmessage.RCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = code
}

// attempts returns the times of the queries since the name server fails.
func (s *nameServer) attempts() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queries)
}

// use makes a process resolve names with the server: /etc/resolv.conf is another file in the
// mount namespace of the process. It skips the test if this is not permitted.
func (s *nameServer) use(t *testing.T, p *harness.Process) {
	t.Helper()
	unshare, err := exec.LookPath("unshare")
	if err == nil {
		err = exec.Command(unshare, "--mount", "true").Run()
	}
	if err != nil {
		t.Skipf("SKIPPED: no mount namespace for another resolv.conf: %v", err)
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	text := "nameserver " + s.address + "\noptions timeout:1 attempts:1\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	const script = `mount --bind "$1" "$(readlink -f /etc/resolv.conf)" && shift && exec "$@"`
	command := []string{"unshare", "--mount", "sh", "-c", script, "sh", file, p.Path}
	p.Args = append(command, p.Args[1:]...)
	p.Path = unshare
	p.Env = append(p.Env, "GODEBUG=netdns=go")
}

// TestNamesThatStopResolving: during a run, connections are lost and the name of the service no
// longer resolves.
func TestNamesThatStopResolving(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("outages take too long for -short")
	}
	const notFound, failed = dnsmessage.RCodeNameError, dnsmessage.RCodeServerFailure
	for i, c := range []struct {
		awayCase
		failure dnsmessage.RCode
	}{
		{awayCase{service: "KMS", cause: "no such host kms.test.invalid"}, notFound},
		{awayCase{service: "DynamoDB", cause: "the lookup of host dynamodb.test.invalid failed"},
			failed},
		{awayCase{service: "S3", cause: "no such host s3.test.invalid"}, notFound},
		{awayCase{service: "checkpoint", cause: "no such host checkpoint.test.invalid"}, notFound},
		{awayCase{service: "STS", cause: "the lookup of host sts.test.invalid failed"}, failed},
		{awayCase{service: "credentials", cause: "no such host credentials.test.invalid"},
			notFound},
	} {
		t.Run(c.service, func(t *testing.T) {
			t.Parallel()
			names := newNameServer(t, fmt.Sprintf("127.77.%d.%d", os.Getpid()%250, i+1))
			c.resolve(t, names, c.failure)
		})
	}
}

func (c awayCase) resolve(t *testing.T, names *nameServer, failure dnsmessage.RCode) {
	r := &awayRun{awayCase: c, world: newTrial(t, c.config())}
	r.process = runs(r.world)
	r.front = c.put(t, r.world, r.process)
	_, port, err := net.SplitHostPort(r.front.address)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(c.service) + ".test.invalid:" + port
	for i, variable := range r.process.Env {
		r.process.Env[i] = strings.ReplaceAll(variable, r.front.address, name)
	}
	if c.service == "checkpoint" {
		replaceInJob(t, r.world, r.front.address, name)
	}
	names.use(t, r.process)
	r.process.Begin(t)
	until(t, "the first requests", func() bool {
		return r.world.Requests("kms:ReEncrypt") > 15
	})
	r.began = time.Now()
	names.fail(failure)
	r.front.set(t, refusing) // closes the connections; there are no new ones without a name
	r.front.set(t, serving)
	time.Sleep(awayFor)
	r.attempts, r.back = names.attempts(), time.Now()
	names.fail(dnsmessage.RCodeSuccess)
	r.end(t)
}
