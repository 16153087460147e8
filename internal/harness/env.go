// Package harness sets up an environment in which rotator is tested: a fake AWS with keys, a
// table and a bucket that hold ciphertexts of every kind, an application that keeps writing, and
// rotator as a child process. Only tests may import it.
//
// An Env knows the expected final state of every slot: the plaintext, its context and its key,
// or, for slots that must not change, the bytes. It also knows what else each item holds. Check
// compares this with the stored data and with the figures that rotator printed. Three more
// checks apply to all tests:
//
//   - Guards: rotator sends no write without a precondition, no unnecessary or repeated write,
//     and no call that could return a plaintext.
//   - Secrets: nothing that rotator printed or stored contains a plaintext, a ciphertext or a
//     credential.
//   - Check rejects figures whose sums are wrong.
//
// The application signs its requests with a different access key than rotator. Guards and faults
// use the key to tell the requests apart: the application is trusted, and faults that are set
// with ByWorker do not apply to it.
package harness

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fault"
)

// The table and the bucket of an Env, and the names of its targets in the job file.
const (
	Table     = "customers" // target of the items
	Bucket    = "vault"
	Objects   = "vault"     // target of the objects whose body is one ciphertext
	Documents = "documents" // target of the JSON objects

	objectPrefix   = "prod/"
	documentPrefix = "docs/"
)

// Kind is the kind of an entry.
type Kind int

// The kinds of entries. Items and Objects of a Config give the number of each.
const (
	Ordinary Kind = iota // its slot is under the old key
	Nested               // an item with four slots: two under the old key, one current, one poison
	Poison               // KMS cannot decrypt its slot: random, truncated, or another context
	Foreign              // under a third key
	Current              // under the new key from the start
	Bare                 // an item without a slot
	Archived             // an object in an archive
	Document             // a JSON object with one slot under the old key
	// Bound is an item with a slot under the old key whose context uses no
	// attribute. It moves to a context that is made from two attributes.
	Bound
	kinds             // the number of kinds
	accessKey         = ApplicationKey
	workerKey         = "AKIAWORKERWORKER0000"
	region            = "us-east-1"
	applicationSecret = "application-secret-access-key-000000000"
)

// BucketKind is the kind of a bucket.
type BucketKind int

// The kinds of buckets.
const (
	Plain     BucketKind = iota
	Versioned            // noncurrent versions are kept
	Locked               // versioned, with Object Lock: every object under retention and legal hold
)

// Config configures an Env. The zero value creates about a hundred entries of all kinds except
// Archived.
type Config struct {
	// Items and Objects are the number of entries of each kind. nil means the default mix,
	// which Mix(1) returns. An empty map means no entries.
	Items, Objects map[Kind]int
	Bucket         BucketKind
	// Padding is the number of padding bytes outside the slots of each item, ObjectPadding of
	// each document.
	Padding, ObjectPadding int
	// Plaintext is the minimum length of plaintexts in bytes.
	Plaintext int

	// The fields up to Extra determine the job file. Aliases makes it name the keys by alias.
	Aliases    bool
	Rate       int    // default 5000
	Workers    int    // default 8
	Segments   int    // default 2
	MaxOutage  string // default 20s
	Checkpoint string // default file:.rotator/state.db; or InTable, InBucket
	// Extra is added to the job file at the top level.
	Extra string

	// Memory measures the peak memory of commands (Result.MaxRSS). This takes processor time
	// while they run.
	Memory bool

	// Command is the command line that runs rotator. Env has more environment variables for it.
	// The default is os.Args[0] with ROTATOR_TEST_RUN=1: the program, if TestMain has built it
	// and set os.Args[0], otherwise the test binary, whose TestMain must run rotator if the
	// variable is set.
	Command []string
	Env     []string
}

// Mix returns n times the default number of items and objects.
func Mix(n int) (items, objects map[Kind]int) {
	return map[Kind]int{
			Ordinary: 45 * n,
			Nested:   10 * n,
			Poison:   3 * n,
			Foreign:  3 * n,
			Current:  5 * n,
			Bare:     3 * n,
		},
		map[Kind]int{
			Ordinary: 15 * n,
			Poison:   2 * n,
			Foreign:  2 * n,
			Current:  3 * n,
			Document: 5 * n,
		}
}

// Env is one environment. Its methods may be called concurrently.
type Env struct {
	Server *fakeaws.Server
	// Old, New and Third are key ARNs: the source key, the destination key, and a key that the
	// job does not name. Their aliases are alias/old, alias/new and alias/third.
	Old, New, Third string
	// Dir is the directory of the job file and of the files that the worker writes.
	Dir string

	config      Config
	dynamodb    *dynamodb.Client // the application's
	s3          *s3.Client
	secret      string // the worker's secret access key
	token       string // the worker's session token
	guard       *guard
	secrets     *secrets
	retainUntil time.Time // the retention date of locked objects

	mu         sync.Mutex
	entries    []*Entry
	nextNumber int // the minimum number of the next entry that is added
	byID       map[string]*Entry
	countsVary bool // set by CountsVary
}

// Start creates an Env with everything in it. It is closed when the test ends.
func Start(t testing.TB, c Config) *Env {
	t.Helper()
	c = c.withDefaults()
	server, err := fakeaws.Start(fakeaws.Config{Region: region})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w := &Env{
		Server:      server,
		Dir:         t.TempDir(),
		config:      c,
		byID:        map[string]*Entry{},
		retainUntil: time.Now().Add(24 * time.Hour).Truncate(time.Second),
		secret:      "worker-secret-" + rand.Text(),
		token:       "worker-session-" + rand.Text(),
	}
	w.guard = newGuard(w)
	w.secrets = w.guard.secrets
	w.secrets.add("the worker's secret access key", w.secret)
	w.secrets.add("the worker's session token", w.token)
	cfg := aws.Config{Region: region, BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, applicationSecret, "")}
	w.dynamodb = dynamodb.NewFromConfig(cfg)
	w.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	server.Faults().Watch(w.guard.watch)
	for alias, arn := range map[string]*string{
		"alias/old":   &w.Old,
		"alias/new":   &w.New,
		"alias/third": &w.Third,
	} {
		if *arn, err = server.KMS().CreateKey(fakekms.Symmetric); err == nil {
			err = server.KMS().SetAlias(alias, *arn)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.createTargets(t), w.createCheckpoint(t.Context())); err != nil {
		t.Fatalf("create the table and the bucket: %v", err)
	}
	if err := w.seed(t); err != nil {
		t.Fatalf("store the entries: %v", err)
	}
	w.WriteJob(t, w.Job())
	return w
}

func (c Config) withDefaults() Config {
	items, objects := Mix(1)
	if c.Items == nil {
		c.Items = items
	}
	if c.Objects == nil {
		c.Objects = objects
	}
	setDefault := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	setDefault(&c.Rate, 5000)
	setDefault(&c.Workers, 8)
	setDefault(&c.Segments, 2)
	if c.MaxOutage == "" {
		c.MaxOutage = "20s"
	}
	if c.Checkpoint == "" {
		c.Checkpoint = "file:.rotator/state.db"
	}
	if c.Command == nil {
		c.Command, c.Env = []string{os.Args[0]}, append([]string{"ROTATOR_TEST_RUN=1"}, c.Env...)
	}
	return c
}

func (w *Env) createTargets(t testing.TB) error {
	_, err := w.dynamodb.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String(Table),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash},
		},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
		},
	})
	if err != nil {
		return err
	}
	create := &s3.CreateBucketInput{Bucket: aws.String(Bucket)}
	if w.config.Bucket == Locked {
		create.ObjectLockEnabledForBucket = aws.Bool(true)
	}
	if _, err := w.s3.CreateBucket(t.Context(), create); err != nil ||
		w.config.Bucket != Versioned {
		return err
	}
	_, err = w.s3.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: aws.String(Bucket),
		VersioningConfiguration: &s3types.VersioningConfiguration{
			Status: s3types.BucketVersioningStatusEnabled,
		},
	})
	return err
}

// Job returns the text of the job file. It has a target for each table or bucket with entries.
func (w *Env) Job() string {
	c := w.config
	from, to := w.Old, w.New
	if c.Aliases {
		from, to = "alias/old", "alias/new"
	}
	var b strings.Builder
	fmt.Fprintf(&b,
		"job: trial\ndestination: {key: %q}\nsource: {keys: [%q]}\nkms: {rate: %d}\nworkers: "+
			"%d\nmax_outage: %s\ncheckpoint: %q\n%s\ntargets:\n",
		to, from, c.Rate, c.Workers, c.MaxOutage, c.Checkpoint, c.Extra)
	if w.count(Table) > 0 {
		fmt.Fprintf(&b, `  - name: customers
    dynamodb: {table: customers, segments: %d}
    format: raw
    slots:
      - path: ssn
        context: {tenant: "${tenant}", purpose: pii}
      - path: profile.cards[*].secret
        format: base64
        context: {tenant: "${tenant}", purpose: card}
        may_be_empty: %v
`, c.Segments, c.Items[Nested] == 0)
	}
	if c.Items[Bound] > 0 {
		b.WriteString(`      - path: pin
        context: {purpose: pin}
        destination_context: {purpose: pin, region: "${region}", city: "${home.city}"}
`)
	}
	if w.count(Objects) > 0 {
		b.WriteString(`  - name: vault
    s3: {bucket: vault, prefix: prod/}
    format: base64
    slots:
      - context: {app: trial, tenant: "${metadata.tenant}"}
`)
	}
	if w.count(Documents) > 0 {
		b.WriteString(`  - name: documents
    s3: {bucket: vault, prefix: docs/}
    format: json
    slots:
      - path: database.password
        context: {app: trial, tenant: "${metadata.tenant}"}
`)
	}
	return b.String()
}

// count returns the number of entries of a target.
func (w *Env) count(target string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		if e.Target == target {
			n++
		}
	}
	return n
}

// WriteJob writes the job file.
func (w *Env) WriteJob(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.Dir, "job.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ByWorker reports whether a request is not from the application. Use it as fault.Fault.Of.
func ByWorker(r *http.Request) bool { return keyOf(r) != accessKey }

func keyOf(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	return id
}

// Fault sets a fault that applies to requests of rotator only.
func (w *Env) Fault(operation string, f fault.Fault) {
	of := f.Of
	f.Of = func(r *http.Request) bool { return ByWorker(r) && (of == nil || of(r)) }
	w.Server.Faults().Set(operation, f)
}

// Requests returns the number of requests of an operation so far.
func (w *Env) Requests(operation string) int { return w.Server.Faults().Counts()[operation] }

// Entries returns the entries for which keep returns true, in the order of their creation. If
// keep is nil, it returns all entries.
func (w *Env) Entries(keep func(*Entry) bool) (list []*Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		if keep == nil || keep(e) {
			list = append(list, e)
		}
	}
	return list
}

// Of returns a filter for Entries that keeps the entries of a kind in a target.
func Of(target string, kind Kind) func(*Entry) bool {
	return func(e *Entry) bool { return e.Target == target && e.Kind == kind }
}

// CountsVary declares that the outcomes are no longer known in advance. Check then compares only
// their sums. Writes of the application call it.
func (w *Env) CountsVary() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.countsVary = true
}
