package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rotator/internal/config"
	"rotator/internal/harness"
	"rotator/internal/outage"
	"rotator/internal/telemetry"
)

// mode is how a front handles requests.
type mode int

const (
	serving mode = iota
	refusing
	silent
	lost // like silent, and a response that is missing also stays missing after the outage
	failed503
	page404 // an HTML page, like that of a proxy that does not find the server
)

// front is a proxy that can simulate an outage of a server.
type front struct {
	address string
	to      *httputil.ReverseProxy

	mu       sync.Mutex
	mode     mode
	changed  chan struct{} // closed when mode changes
	arrivals []time.Time   // of requests or connections while it was away
	listener net.Listener
	server   *http.Server
}

func newFront(t *testing.T, endpoint string) *front {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{changed: make(chan struct{}), to: &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
		}}}
	if f.listen(t, "127.0.0.1:0"); f.listener == nil {
		t.FailNow()
	}
	f.address = f.listener.Addr().String()
	t.Cleanup(func() { _ = f.server.Close() })
	return f
}

func (f *front) listen(t *testing.T, address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	f.listener, f.server = listener, &http.Server{Handler: f}
	go func(s *http.Server) { _ = s.Serve(listener) }(f.server)
}

// set changes the mode. A refusing front closes its connections and its port.
func (f *front) set(t *testing.T, m mode) {
	f.mu.Lock()
	was := f.mode
	f.mode, f.arrivals = m, nil
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	if m == refusing {
		_ = f.server.Close()
	}
	if was == refusing {
		f.listen(t, f.address)
	}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	m, changed := f.mode, f.changed
	if m != serving {
		f.arrivals = append(f.arrivals, time.Now())
	}
	f.mu.Unlock()
	switch m {
	case silent:
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-changed: // requests without a response are lost
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case lost:
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case page404:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<html><body>Not Found</body></html>")
	case failed503:
		http.Error(w, "away", http.StatusServiceUnavailable)
	default:
		f.to.ServeHTTP(w, r)
	}
}

// attempts returns the times of the arrivals since the mode was set.
func (f *front) attempts() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.arrivals)
}

// busiestAfter is like busiest for the times after the given one.
func busiestAfter(times []time.Time, after time.Time) int {
	return busiest(slices.DeleteFunc(slices.Clone(times), func(at time.Time) bool {
		return !at.After(after)
	}))
}

// logLine is one line of the log.
type logLine struct {
	Time      time.Time `json:"time"`
	Level     string    `json:"level"`
	Message   string    `json:"message"`
	Service   string    `json:"service"`
	Error     string    `json:"error"`
	Requests  string    `json:"requests"`
	Meanwhile string    `json:"meanwhile"`
	GivesUpIn string    `json:"gives_up_in"`
	Attempts  int       `json:"vain_attempts"`
}

func outageLines(text string) (lines []logLine) {
	for scanner := bufio.NewScanner(strings.NewReader(text)); scanner.Scan(); {
		var l logLine
		if json.Unmarshal(scanner.Bytes(), &l) == nil && l.Service != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

// awayCase is one kind of outage of one service.
type awayCase struct {
	service string
	mode    mode
	cause   string // expected in the line
	workers int    // 0: the default
}

func awayCases() (cases []awayCase) {
	for _, service := range []string{"KMS", "DynamoDB", "S3", "checkpoint", "credentials"} {
		cases = append(cases,
			awayCase{service: service, mode: refusing, cause: "connection refused"},
			awayCase{service: service, mode: silent, cause: "no answer"},
			awayCase{service: service, mode: failed503, cause: "HTTP 503"})
		if service != "credentials" {
			cases = append(cases, awayCase{
				service: service,
				mode:    page404,
				cause:   "HTTP 404 from another server",
			})
		}
	}
	return append(cases,
		awayCase{service: "S3", mode: lost, cause: "no answer"},
		awayCase{service: "KMS", mode: lost, cause: "no answer", workers: 1})
}

// config returns the configuration of a trial of a case.
func (c awayCase) config() harness.Config {
	config := harness.Config{Rate: 25, MaxOutage: "60s"}
	switch c.service {
	case "checkpoint":
		config.Checkpoint = harness.InTable
	case "DynamoDB":
		config.Workers = 1 // a batch each second
	}
	config.Workers = max(config.Workers, c.workers)
	return config
}

// put places a front in front of the service of a case, for a process.
func (c awayCase) put(t *testing.T, w *harness.Env, p *harness.Process) *front {
	t.Helper()
	if c.service == "credentials" {
		v := w.CredentialServer(t, 500*time.Millisecond)
		v.Env(p)
		i := slices.IndexFunc(p.Env, func(s string) bool {
			return strings.HasPrefix(s, "AWS_CONTAINER_CREDENTIALS_FULL_URI=")
		})
		_, address, _ := strings.Cut(p.Env[i], "=")
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		f := newFront(t, "http://"+u.Host)
		u.Host = f.address
		p.Env[i] = "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + u.String()
		return f
	}
	f := newFront(t, w.Server.Endpoint())
	if c.service == "STS" {
		replaceInJob(t, w, "kms: {", "kms: {role_arn: \"arn:aws:iam::111122223333:role/r\", ")
		f.to.ModifyResponse = expireSoon
	}
	if c.service == "checkpoint" {
		replaceInJob(t, w, harness.InTable, harness.InTable+"?endpoint=http://"+f.address)
		return f
	}
	p.Env = append(p.Env, "AWS_ENDPOINT_URL_"+strings.ToUpper(c.service)+"=http://"+f.address)
	return f
}

// expiration is the time in a response of STS until which credentials are valid.
var expiration = regexp.MustCompile(`<Expiration>[^<]*</Expiration>`)

// expireSoon makes the credentials in a response of STS expire after half a second.
func expireSoon(response *http.Response) error {
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	soon := time.Now().Add(500 * time.Millisecond).UTC().Format(time.RFC3339Nano)
	body = expiration.ReplaceAll(body, []byte("<Expiration>"+soon+"</Expiration>"))
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// awayRun is a run during which a service is unavailable.
type awayRun struct {
	awayCase
	world       *harness.Env
	front       *front
	process     *harness.Process
	began, back time.Time
	attempts    []time.Time // during the outage
}

// TestOutages: if a service becomes unavailable during a run, the log names it within 5 s and
// reports its return within 2 s. It gets at most two requests a second meanwhile. No slot
// fails.
func TestOutages(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("outages take too long for -short")
	}
	for _, c := range awayCases() {
		name := c.service + " " + c.cause
		if c.workers > 0 {
			name += ", one worker"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.try(t)
		})
	}
}

// awayFor is the length of an outage. The log must name the service within 5 s and its return
// within 2 s. The limits are 2 s more, which is the time that the processes of the test take.
const (
	awayFor     = 9 * time.Second
	namedWithin = 7 * time.Second
	returnsIn   = 4 * time.Second
)

func (c awayCase) try(t *testing.T) {
	r := &awayRun{awayCase: c, world: newTrial(t, c.config())}
	r.process = runs(r.world)
	r.front = c.put(t, r.world, r.process)
	r.process.Begin(t)
	until(t, "the first requests", requestsSent(r.world, 15))
	r.began = time.Now()
	r.front.set(t, r.mode)
	time.Sleep(awayFor)
	r.attempts, r.back = r.front.attempts(), time.Now()
	r.front.set(t, serving)
	r.end(t)
}

func (r *awayRun) end(t *testing.T) {
	result := r.process.End(t)
	if result.Code != exitExceptions {
		t.Errorf("want exit code 3: %s", result)
	}
	r.world.Check(t, result.Summary)
	lines := outageLines(result.Log)
	r.check(t, lines, r.began, r.back)
	checkAttempts(t, r.attempts, r.began, lines)
	if t.Failed() {
		t.Log(result.Log)
	}
}

// checkAttempts checks that a service gets at most two requests in any second of an outage.
// The limit holds from 3 s on. On a busy machine the run may begin to apply it later, so the
// requests are counted from the first line about the outage.
func checkAttempts(t *testing.T, attempts []time.Time, began time.Time, lines []logLine) {
	t.Helper()
	from := began.Add(3 * time.Second)
	if !timed() && len(lines) > 0 {
		from = lines[0].Time
	}
	if most := busiestAfter(attempts, from); most > 2 {
		t.Errorf("%d attempts in one second of the outage", most)
	}
}

// check checks the lines about the outage. On a busy machine the run can be without a response for
// so long that the log has lines about further outages.
func (c awayCase) check(t *testing.T, lines []logLine, began, back time.Time) {
	t.Helper()
	if len(lines) < 2 || len(lines) > 2 && timed() {
		t.Fatalf("%d lines about outages, want 2: %+v", len(lines), lines)
	}
	first, last := lines[0], lines[1]
	t.Logf("named after %v, back after %v, %d attempts", first.Time.Sub(began),
		last.Time.Sub(back), last.Attempts)
	name := c.service
	switch name {
	case "STS":
		name = credentialsOfRole
	case "checkpoint":
		name = "DynamoDB"
		if !strings.Contains(first.Requests, "checkpoint") {
			t.Errorf("the line does not name the checkpoint: %+v", first)
		}
	}
	switch {
	case first.Level != "warn" || !strings.Contains(first.Service, name),
		!strings.HasSuffix(first.Message, "gives no usable answer"):
		t.Errorf("the first line: %+v", first)
	case !strings.Contains(first.Error, c.cause) ||
		(first.GivesUpIn == "") != (c.service == "checkpoint"):
		t.Errorf("want the error %q and, unless the service is the checkpoint, the time until "+
			"the run gives up: %+v",
			c.cause, first)
	}
	if late := first.Time.Sub(began); late > namedWithin+slack() {
		t.Errorf("the outage was reported after %v", late)
	}
	if last.Level != "info" || !strings.HasSuffix(last.Message, "answers again") {
		t.Errorf("the last line: %+v", last)
	}
	if late := last.Time.Sub(back); late > returnsIn+slack() {
		t.Errorf("the end of the outage was reported after %v", late)
	}
}

// TestOutageLines: the lines about an outage, in JSON and as text.
func TestOutageLines(t *testing.T) {
	t.Parallel()
	notices := []outage.Notice{
		{Kind: outage.Began, Service: "KMS at http://kms.internal", For: 4100 * time.Millisecond,
			Err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED), Attempts: 9,
			GivesUpIn: 595900 * time.Millisecond},
		{Kind: outage.Continues, Service: "S3 at s3.eu-west-1.amazonaws.com", Requests: "writes",
			For: 34 * time.Second, Attempts: 40},
		{Kind: outage.Ended, Service: "KMS at http://kms.internal", For: 83 * time.Second,
			Attempts: 83},
	}
	want := map[bool][]string{
		true: {
			`WARN  KMS at http://kms.internal gives no usable answer  {"service": "KMS at ` +
				`http://kms.internal", "for": "4s", "error": "connection refused", ` +
				`"vain_attempts": 9, "meanwhile": "requests wait; one attempt a second", ` +
				`"gives_up_in": "9m56s"}`,
			`WARN  S3 at s3.eu-west-1.amazonaws.com still gives no usable answer  {"service": ` +
				`"S3 at s3.eu-west-1.amazonaws.com", "requests": "writes", "for": "34s", ` +
				`"error": "no answer", "vain_attempts": 40, ` +
				`"meanwhile": "requests wait; one attempt a second"}`,
			`INFO  KMS at http://kms.internal answers again  {"service": "KMS at ` +
				`http://kms.internal", "away": "1m23s", "vain_attempts": 83}`,
		},
		false: {
			`"message":"KMS at http://kms.internal gives no usable answer","service":"KMS at ` +
				`http://kms.internal","for":"4s","error":"connection refused",` +
				`"vain_attempts":9,"meanwhile":"requests wait; one attempt a second",` +
				`"gives_up_in":"9m56s"}`,
			`"message":"S3 at s3.eu-west-1.amazonaws.com still gives no usable answer",`,
			`"message":"KMS at http://kms.internal answers again","service":"KMS at ` +
				`http://kms.internal","away":"1m23s","vain_attempts":83}`,
		},
	}
	for people, lines := range want {
		var out strings.Builder
		logger := telemetry.NewLogger(telemetry.Config{Output: &out, People: people})
		for _, n := range notices {
			logOutage(logger, n)
		}
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(got) != len(lines) {
			t.Fatalf("%d lines: %s", len(got), out.String())
		}
		for i, line := range got {
			if !strings.Contains(line, lines[i]) {
				t.Errorf("people %v: line %d is\n%s\nwant\n%s", people, i, line, lines[i])
			}
		}
	}
}

// earlyCase is a service that is unavailable from the beginning.
type earlyCase struct {
	command, service string
	mode             mode
	cause            string
}

func earlyCases() []earlyCase {
	return []earlyCase{
		{"run", "KMS", refusing, "connection refused"},
		{"audit", "KMS", silent, "no answer"},
		{"verify", "KMS", failed503, "HTTP 503"},
		{"run", "KMS", serving, "no such host"}, // a name that does not exist
		{"run", "DynamoDB", refusing, "connection refused"},
		{"audit", "DynamoDB", failed503, "HTTP 503"},
		{"verify", "S3", refusing, "connection refused"},
		{"run", "S3", silent, "no answer"},
		{"run", "checkpoint", refusing, "connection refused"},
		{"run", "checkpoint", silent, "no answer"},
		{"status", "checkpoint", refusing, "connection refused"},
		{"run", "STS", refusing, "connection refused"},
		{"audit", "STS", failed503, "HTTP 503"},
	}
}

// begin begins the command of a case.
func (c earlyCase) begin(t *testing.T, w *harness.Env) (*front, *harness.Process) {
	t.Helper()
	f := newFront(t, w.Server.Endpoint())
	endpoint := "http://" + f.address
	if c.mode == serving {
		endpoint = "http://kms.test.invalid"
	}
	p := w.Command(c.command, "-o", "json")
	switch c.service {
	case "checkpoint":
		replaceInJob(t, w, harness.InTable, harness.InTable+"?endpoint="+endpoint)
	case "STS":
		replaceInJob(t, w, "kms: {", "kms: {role_arn: \"arn:aws:iam::111122223333:role/r\", ")
	}
	p.Env = append(p.Env, "AWS_ENDPOINT_URL_"+strings.ToUpper(c.service)+"="+endpoint)
	if c.mode != serving {
		f.set(t, c.mode)
	}
	return f, p.Begin(t)
}

// TestOutagesBeforeAPass: if a service is unavailable from the beginning, the log names it and
// its endpoint within 5 s. The command exits with 69 after its time limit, and its message
// does not mention a pass.
func TestOutagesBeforeAPass(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("outages take too long for -short")
	}
	for _, c := range earlyCases() {
		t.Run(fmt.Sprintf("%s %s %s", c.command, c.service, c.cause), func(t *testing.T) {
			t.Parallel()
			c.try(t)
		})
	}
	if patienceBefore(&config.Job{MaxOutage: config.DefaultMaxOutage}) != 30*time.Second {
		t.Error("want a limit of 30 s before a pass, for any max_outage")
	}
}

func (c earlyCase) try(t *testing.T) {
	world := fewer()
	world.MaxOutage = "7s"
	if c.service == "checkpoint" {
		world.Checkpoint = harness.InTable
	}
	w := newTrial(t, world)
	began := time.Now()
	f, p := c.begin(t, w)
	r := p.End(t)
	c.check(t, r, f.address)
	lines := outageLines(r.Log)
	checkAttempts(t, f.attempts(), began, lines)
	if len(lines) > 0 {
		if late := lines[0].Time.Sub(began); late > namedWithin+slack() {
			t.Errorf("the outage was reported after %v", late)
		}
	}
	if t.Failed() {
		t.Log(r)
	}
}

func (c earlyCase) check(t *testing.T, r harness.Result, address string) {
	t.Helper()
	where := address
	if c.mode == serving {
		where = "kms.test.invalid"
	}
	if r.Code != exitUnavailable || r.Took > 15*time.Second+slack() && c.service != "checkpoint" {
		t.Errorf("exit code %d after %v, want %d", r.Code, r.Took, exitUnavailable)
	}
	lines := outageLines(r.Log)
	if len(lines) == 0 || !strings.Contains(lines[0].Service+lines[0].Error, where) ||
		!strings.Contains(lines[0].Error, c.cause) {
		t.Errorf("want a line with %s and %q: %+v", where, c.cause, lines)
	}
	_, last, _ := strings.Cut(r.Log, "rotator: ")
	if !strings.Contains(last, where) || !strings.Contains(last, c.cause) ||
		strings.Contains(last, "pass") || !strings.Contains(last, "when the service is available") {
		t.Errorf("the last message: %s", last)
	}
}
