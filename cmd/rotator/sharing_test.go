package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// load describes what several runs of one pass work on together.
type load struct {
	bucket     int    // objects of one bucket, which is one partition
	table      int    // items of one table
	segments   int    // of the table; 0 means the default
	rate       int    // of ReEncrypt requests per second, for all runs together
	checkpoint string // location of the shared checkpoint
	lease      string // default 3s
	sources    int    // additional source keys, for which each preflight sends a dry run
}

func (l load) String() string {
	kind, _, _ := strings.Cut(l.checkpoint, ":")
	text := fmt.Sprintf("%d objects, %d items", l.bucket, l.table)
	if l.segments > 0 {
		text += fmt.Sprintf(" in %d segments", l.segments)
	}
	return fmt.Sprintf("%s, rate %d, checkpoint %s", text, l.rate, kind)
}

// ideal returns the time that the requests take at exactly the rate.
func (l load) ideal() time.Duration {
	return time.Duration(float64(l.bucket+l.table) / float64(l.rate) * float64(time.Second))
}

// sharingBench is a fake AWS with the targets of a load, whose ciphertexts are under an old
// key, and a job for them. It records the requests of each run and their times.
type sharingBench struct {
	load     load
	server   *fakeaws.Server
	aws      aws.Config
	old, new string
	dir      string

	departures *departures

	began time.Time // when the first of under was started
	under []sharer

	mu       sync.Mutex
	arrivals []arrival       // of ReEncrypt, dry runs included
	moves    map[string]int  // without dry runs, by run
	opened   map[string]bool // the runs that have read the partitions of the pass
	joined   map[string]time.Time
}

// arrival is one request to KMS.
type arrival struct {
	at   time.Time // when it arrived
	left time.Time // when it was sent, if the system records this
	run  string    // the access key of the run that sent it
	dry  bool
}

const (
	sharedBucket = "vault"
	sharedTable  = "customers"
	sharedState  = "state"
)

func newSharing(t *testing.T, l load) *sharingBench {
	t.Helper()
	if raceEnabled {
		t.Skip("with the race detector the processors limit the requests, not the rate")
	}
	departures := &departures{last: map[string]time.Time{}}
	server, err := fakeaws.Start(fakeaws.Config{Listen: departures.listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	s := &sharingBench{load: l, server: server, dir: t.TempDir(), departures: departures,
		opened: map[string]bool{}, moves: map[string]int{}, joined: map[string]time.Time{}}
	s.aws = aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", "")}
	for _, arn := range []*string{&s.old, &s.new} {
		if *arn, err = server.KMS().CreateKey(fakekms.Symmetric); err != nil {
			t.Fatal(err)
		}
	}
	sources := strconv.Quote(s.old)
	for range l.sources {
		key, err := server.KMS().CreateKey(fakekms.Symmetric)
		if err != nil {
			t.Fatal(err)
		}
		sources += ", " + strconv.Quote(key)
	}
	job := fmt.Sprintf("job: sharing\ndestination: {key: %q}\nsource: {keys: [%s]}\n"+
		"kms: {rate: %d}\n"+
		"checkpoint: %s\nlease: %s\ntargets:\n",
		s.new, sources, l.rate, l.checkpoint, cmp.Or(l.lease, "3s"))
	if l.table > 0 {
		s.fillTable(t)
		segments := ""
		if l.segments > 0 {
			segments = fmt.Sprintf(", segments: %d", l.segments)
		}
		job += fmt.Sprintf("  - dynamodb: {table: %s%s}\n    format: raw\n"+
			"    slots: [{path: blob}]\n", sharedTable, segments)
	}
	if l.bucket > 0 {
		s.fillBucket(t)
		job += fmt.Sprintf("  - s3: {bucket: %s}\n    format: raw\n    slots: [{}]\n", sharedBucket)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "job.yaml"), []byte(job), 0o600); err != nil {
		t.Fatal(err)
	}
	s.makeState(t)
	server.Faults().Set("kms:ReEncrypt", fault.Fault{Before: s.reEncrypt})
	for _, operation := range []string{"dynamodb:PutItem", "s3:PutObject"} {
		server.Faults().Set(operation, fault.Fault{Before: s.put})
	}
	for _, operation := range []string{"dynamodb:GetItem", "s3:GetObject"} {
		server.Faults().Set(operation, fault.Fault{Before: s.get})
	}
	return s
}

// makeState creates the table or bucket of the checkpoint.
func (s *sharingBench) makeState(t *testing.T) {
	t.Helper()
	if strings.HasPrefix(s.load.checkpoint, "s3:") {
		s.createBucket(t, sharedState)
		return
	}
	s.createTable(t, sharedState, "id")
}

func (s *sharingBench) createTable(t *testing.T, name, key string) *dynamodb.Client {
	t.Helper()
	client := dynamodb.NewFromConfig(s.aws)
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest}
	in.KeySchema = []types.KeySchemaElement{{AttributeName: &key, KeyType: types.KeyTypeHash}}
	in.AttributeDefinitions = []types.AttributeDefinition{
		{AttributeName: &key, AttributeType: types.ScalarAttributeTypeS},
	}
	if _, err := client.CreateTable(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return client
}

func (s *sharingBench) objects() *s3.Client {
	return s3.NewFromConfig(s.aws, func(o *s3.Options) { o.UsePathStyle = true })
}

func (s *sharingBench) createBucket(t *testing.T, name string) *s3.Client {
	t.Helper()
	client := s.objects()
	if _, err := client.CreateBucket(t.Context(),
		&s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return client
}

func sharedPlaintext(i int) string { return fmt.Sprintf("plaintext-%06d", i) }

func (s *sharingBench) fillTable(t *testing.T) {
	t.Helper()
	const batch = 25
	client := s.createTable(t, sharedTable, "id")
	for first := 0; first < s.load.table; first += batch {
		var puts []types.WriteRequest
		for i := first; i < min(first+batch, s.load.table); i++ {
			blob, err := s.server.KMS().Encrypt(s.old, []byte(sharedPlaintext(i)), nil)
			if err != nil {
				t.Fatal(err)
			}
			item := map[string]types.AttributeValue{
				"id":   textOf(crashID(i)),
				"blob": binaryOf(blob),
			}
			puts = append(puts, types.WriteRequest{PutRequest: &types.PutRequest{Item: item}})
		}
		in := &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{sharedTable: puts},
		}
		if _, err := client.BatchWriteItem(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *sharingBench) fillBucket(t *testing.T) {
	t.Helper()
	client := s.createBucket(t, sharedBucket)
	var group errgroup.Group
	group.SetLimit(8)
	for i := range s.load.bucket {
		group.Go(func() error {
			blob, err := s.server.KMS().Encrypt(s.old, []byte(sharedPlaintext(i)), nil)
			if err != nil {
				return err
			}
			_, err = client.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String(sharedBucket),
				Key:    aws.String(crashID(i)),
				Body:   bytes.NewReader(blob),
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// signer returns the access key that signed a request.
func signer(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	return id
}

// reEncrypt records a request to KMS.
func (s *sharingBench) reEncrypt(r *http.Request, body []byte) {
	dry := bytes.Contains(body, []byte(`"DryRun":true`))
	a := arrival{at: time.Now(), left: s.departures.of(r), run: signer(r), dry: dry}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrivals = append(s.arrivals, a)
	if !dry {
		s.moves[a.run]++
	}
}

// get records that a run has read a partition of the pass.
func (s *sharingBench) get(r *http.Request, body []byte) {
	if bytes.Contains(body, []byte("/partition/")) || strings.Contains(r.URL.Path, "/partition/") {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.opened[signer(r)] = true
	}
}

// put records the first time that a run writes the roster as a member that claims partitions.
// Its preflight wrote the roster before.
func (s *sharingBench) put(r *http.Request, body []byte) {
	run := signer(r)
	if !bytes.Contains(body, []byte("/roster")) && !strings.Contains(r.URL.Path, "/roster") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened[run] && s.joined[run].IsZero() {
		s.joined[run] = time.Now()
	}
}

// runKey returns the access key of the n-th run.
func runKey(n int) string { return fmt.Sprintf("AKIARUN%013d", n) }

// sharer is one of several runs. A goroutine waits for its end from the start, to record the
// time.
type sharer struct {
	process
	ended *atomic.Pointer[time.Time]
	over  chan struct{} // closed when the process has ended
}

// summary waits for the run and reads its result.
func (r sharer) summary(t *testing.T, code int) (s report.Summary) {
	t.Helper()
	<-r.over
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("exit code %d, want %d\n%s", got, code, r.log)
	}
	if r.out.Len() > 0 {
		if err := json.Unmarshal(r.out.Bytes(), &s); err != nil {
			t.Fatalf("%v in %q", err, r.out)
		}
	}
	return s
}

// start starts the n-th run.
func (s *sharingBench) start(t *testing.T, n int) sharer {
	t.Helper()
	return s.startCommand(t, n, "run")
}

// startCommand starts a command as the n-th process.
func (s *sharingBench) startCommand(t *testing.T, n int, args ...string) sharer {
	t.Helper()
	if len(args) == 1 {
		args = append(args, "-f", "job.yaml")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], append(args, "-o", "json")...)
	cmd.Dir = s.dir
	cmd.Env = slices.Concat(os.Environ(), s.server.AWSEnv(),
		[]string{"AWS_ACCESS_KEY_ID=" + runKey(n)})
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := sharer{process{cmd, &out, &log}, new(atomic.Pointer[time.Time]), make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the exit code is checked later
		now := time.Now()
		r.ended.Store(&now)
		close(r.over)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-r.over
	})
	return r
}

// seen returns the requests to KMS that moved a ciphertext, in the order in which they
// arrived.
func (s *sharingBench) seen() []arrival {
	s.mu.Lock()
	list := slices.Clone(s.arrivals)
	s.mu.Unlock()
	list = slices.DeleteFunc(list, func(a arrival) bool { return a.dry })
	slices.SortFunc(list, func(a, b arrival) int { return a.at.Compare(b.at) })
	return list
}

// rates returns the maximum number of requests in any second, including dry runs.
type rates struct{ departures, arrivals int }

func (s *sharingBench) busiest() rates {
	var left, at []time.Time
	s.mu.Lock()
	for _, a := range s.arrivals {
		left, at = append(left, a.left), append(at, a.at)
	}
	s.mu.Unlock()
	return rates{busiest(left), busiest(at)}
}

// busiest returns the maximum number of times within any second.
func busiest(list []time.Time) (most int) {
	slices.SortFunc(list, time.Time.Compare)
	first := 0
	for i, at := range list {
		for at.Sub(list[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// exceeds describes the limit that the requests exceed, or returns "". In any second, at most
// the rate plus 1% (or one request) may be sent, and the rate plus 5% (or one) may arrive. Both
// limits are multiplied by wider.
func (r rates) exceeds(rate int, wider float64) string {
	if most := int(float64(rate+max(1, rate/100)) * wider); r.departures > most {
		return fmt.Sprintf("%d requests were sent in a second, want at most %d", r.departures, most)
	}
	if most := int(float64(rate+max(1, rate/20)) * wider); r.arrivals > most {
		return fmt.Sprintf("%d requests arrived in a second, want at most %d", r.arrivals, most)
	}
	return ""
}

// span returns the times of the first and the last request of the n-th run that move a
// ciphertext. They are zero if it sent none.
func (s *sharingBench) span(n int) (first, last time.Time) {
	for _, a := range s.seen() {
		if a.run != runKey(n) {
			continue
		}
		if first.IsZero() {
			first = a.at
		}
		last = a.at
	}
	return first, last
}

// sent returns the number of requests of the n-th run that moved a ciphertext.
func (s *sharingBench) sent(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moves[runKey(n)]
}

// joinedAt returns the time when the n-th run first wrote the roster.
func (s *sharingBench) joinedAt(n int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joined[runKey(n)]
}

// delivered returns the mean rate of the requests between two times.
func delivered(list []arrival, from, to time.Time) float64 {
	n := 0
	for _, a := range list {
		if !a.at.Before(from) && a.at.Before(to) {
			n++
		}
	}
	return float64(n) / to.Sub(from).Seconds()
}

// perSecond returns the number of requests in each second, from the first request on.
func perSecond(list []arrival) (counts []int) {
	for _, a := range list {
		second := int(a.at.Sub(list[0].at) / time.Second)
		for len(counts) <= second {
			counts = append(counts, 0)
		}
		counts[second]++
	}
	return counts
}

// check reads all ciphertexts. Each must be under the new key and have its old plaintext. No
// more requests than necessary may have been sent.
func (s *sharingBench) check(t *testing.T) {
	t.Helper()
	read := s.tableBlobs(t)
	for i := range s.load.table {
		s.checkBlob(t, i, read[crashID(i)])
	}
	client := s.objects()
	for i := range s.load.bucket {
		out, err := client.GetObject(t.Context(),
			&s3.GetObjectInput{Bucket: aws.String(sharedBucket), Key: aws.String(crashID(i))})
		if err != nil {
			t.Fatal(err)
		}
		blob, err := io.ReadAll(out.Body)
		if err != nil {
			t.Fatal(err)
		}
		s.checkBlob(t, i, blob)
	}
}

func (s *sharingBench) tableBlobs(t *testing.T) map[string][]byte {
	t.Helper()
	blobs := map[string][]byte{}
	for _, text := range s.server.DynamoDB().Items(sharedTable) {
		var item struct {
			ID   struct{ S string } `json:"id"`
			Blob struct{ B []byte } `json:"blob"`
		}
		if err := json.Unmarshal(text, &item); err != nil {
			t.Fatal(err)
		}
		blobs[item.ID.S] = item.Blob.B
	}
	return blobs
}

func (s *sharingBench) checkBlob(t *testing.T, i int, blob []byte) {
	t.Helper()
	plaintext, key, err := s.server.KMS().Decrypt("", blob, nil)
	if err != nil || string(plaintext) != sharedPlaintext(i) || key != s.new {
		t.Errorf("%s holds %q under %s, %v", crashID(i), plaintext, key, err)
	}
}

// group holds the measurements of several runs that were started together.
type group struct {
	runs      int
	wall      time.Duration // from the start of the first process to the end of the last
	delivered float64       // share of the rate from the third second to the last
	busiest   rates
	requests  int // number of requests that move a ciphertext
	seconds   []int
}

func (g group) String() string {
	return fmt.Sprintf("%d runs: %.2f s, %.1f%% of the rate, in the busiest second %d departures "+
		"and %d arrivals, %d requests: %v", g.runs, g.wall.Seconds(), 100*g.delivered,
		g.busiest.departures, g.busiest.arrivals, g.requests, g.seconds)
}

// together starts several runs on a new load, waits for them, and checks the outcome.
func together(t *testing.T, l load, runs int) group {
	t.Helper()
	s := newSharing(t, l)
	s.startAll(t, runs)
	return s.finish(t)
}

// startAll starts several runs at the same time.
func (s *sharingBench) startAll(t *testing.T, runs int) {
	t.Helper()
	s.began = time.Now()
	for n := range runs {
		s.under = append(s.under, s.start(t, n))
	}
}

// finish waits for the runs, checks the outcome, and returns the measurements.
func (s *sharingBench) finish(t *testing.T) group {
	t.Helper()
	l, g := s.load, group{runs: len(s.under)}
	for i, p := range s.under {
		summary := p.summary(t, exitDone)
		g.wall = max(g.wall, p.ended.Load().Sub(s.began))
		all := int64(l.bucket + l.table)
		if want := (report.Slots{Seen: all, Rotated: all}); summary.Pass != 1 ||
			summary.Slots != want {
			t.Errorf("run %d of %d ended pass %d and counted %+v, want %+v",
				i, len(s.under), summary.Pass, summary.Slots, want)
		}
	}
	moves := s.seen()
	g.requests, g.seconds = len(moves), perSecond(moves)
	g.busiest = s.busiest()
	from, to := moves[0].at.Add(2*time.Second), moves[len(moves)-1].at
	g.delivered = delivered(moves, from, to) / float64(l.rate)
	s.check(t)
	return g
}
