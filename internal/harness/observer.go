package harness

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fault"
)

// ApplicationKey is the access key of the application. Requests that are signed with it are
// trusted. All other requests are those of a worker.
const ApplicationKey = "AKIAAPPLICATION00000"

// Watcher checks the requests of workers against rules that hold for all data and all servers:
//
//   - Every write has a precondition, which compares every value that the write replaces.
//   - No value is written twice with the same outcome.
//   - Nothing is deleted except probes of the worker.
//   - No operation is called that a rotation does not need, above all not kms:Decrypt.
//   - No request contains a secret.
//
// It observes the fake AWS (Watch) or any other server (Proxy). An Env has a separate Watcher
// with more rules.
type Watcher struct {
	allowed []string // further operations that are allowed
	// onReplaced, unless nil, is called for each value of an item that a worker replaced.
	onReplaced func(id, path string, before, after []byte)
	// secrets must not be in any output. Secrets other than blobs must not be in any request.
	secrets *secrets

	watcherMu  sync.Mutex // guards the fields below
	violations []string
	readOnly   bool
	requests   map[string]int // requests of workers, by operation
	printed    []string       // the output of commands
	// moves has the result of ReEncrypt by the digest of the blob that it returned.
	moves map[digest]move
	// written has the digests of the values that workers stored, by location.
	written map[string]map[digest]bool
	// objects has bodies and metadata of objects, by path and ETag.
	objects map[string][]byte
}

// NewWatcher returns a Watcher that fails the test for each violation, when the test ends.
// allowed names further operations that a worker may call.
func NewWatcher(t testing.TB, allowed ...string) *Watcher {
	w := newWatcher(allowed...)
	t.Cleanup(func() {
		t.Helper()
		reportProblems(t, w.violationList())
	})
	return w
}

func newWatcher(allowed ...string) *Watcher {
	return &Watcher{
		allowed:  allowed,
		secrets:  newSecrets(),
		requests: map[string]int{},
		moves:    map[digest]move{},
		written:  map[string]map[digest]bool{},
		objects:  map[string][]byte{},
	}
}

// Watch returns a Watcher that observes all requests to server.
func Watch(t testing.TB, server *fakeaws.Server, allowed ...string) *Watcher {
	w := NewWatcher(t, allowed...)
	server.Faults().Watch(w.observe)
	return w
}

// ReadOnly sets whether every further write of a worker is a violation.
func (w *Watcher) ReadOnly(on bool) {
	w.watcherMu.Lock()
	defer w.watcherMu.Unlock()
	w.readOnly = on
}

// Seen returns the number of requests of workers for an operation. A test must check it: a
// Watcher that observes no requests finds no violations.
func (w *Watcher) Seen(operation string) int {
	w.watcherMu.Lock()
	defer w.watcherMu.Unlock()
	return w.requests[operation]
}

func (w *Watcher) addViolation(format string, args ...any) {
	w.watcherMu.Lock()
	defer w.watcherMu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

func (w *Watcher) violationList() []string {
	w.watcherMu.Lock()
	defer w.watcherMu.Unlock()
	return slices.Clone(w.violations)
}

// readOperations returns the operations that change nothing and are always allowed.
func readOperations() []string {
	return []string{"backup:ListRecoveryPointsByResource",
		"dynamodb:DescribeContinuousBackups", "dynamodb:DescribeExport",
		"dynamodb:DescribeKinesisStreamingDestination", "dynamodb:ListBackups",
		"dynamodb:ListExports", "s3:GetBucketLifecycleConfiguration",
		"s3:GetBucketReplication", "s3:GetObjectLockConfiguration",
		"cloudtrail:LookupEvents", "kms:ReEncrypt", "kms:DescribeKey",
		"kms:ListAliases", "kms:ListGrants", "kms:ListKeyRotations", "kms:GetKeyLastUsage",
		"kms:GetKeyRotationStatus",
		"dynamodb:DescribeTable", "dynamodb:Scan", "dynamodb:GetItem", "dynamodb:Query",
		"dynamodb:BatchGetItem", "dynamodb:ListTables",
		"dynamodb:Health",
		"s3:ListBuckets", "s3:HeadBucket", "s3:GetBucketLocation", "s3:GetBucketVersioning",
		"s3:GetBucketOwnershipControls",
		"s3:ListObjectsV2", "s3:ListObjectVersions", "s3:ListMultipartUploads", "s3:GetObject",
		"s3:HeadObject", "s3:GetObjectTagging",
		"s3:GetObjectAcl", "s3:GetObjectRetention", "s3:GetObjectLegalHold", "sts:AssumeRole",
		"sts:GetCallerIdentity",
		"sts:Incomplete"}
}

// observe checks one request of a worker. It must be called for requests of the application
// too, because some rules depend on their results.
func (w *Watcher) observe(e fault.Exchange) {
	w.record(e)
	if !ByWorker(e.Request) {
		return
	}
	w.watcherMu.Lock()
	w.requests[e.Operation]++
	readOnly := w.readOnly
	w.watcherMu.Unlock()
	w.checkSecrets(e)
	if slices.Contains(readOperations(), e.Operation) || slices.Contains(w.allowed, e.Operation) {
		return
	}
	if readOnly {
		w.addViolation("a command that must not write sent %s", e.Operation)
	}
	if e.Request.Header.Get("X-Amz-Bypass-Governance-Retention") != "" {
		w.addViolation("%s bypasses the retention of Object Lock", e.Operation)
	}
	switch e.Operation {
	case "dynamodb:BatchExecuteStatement":
		w.checkBatch(e)
	case "dynamodb:UpdateItem", "dynamodb:PutItem", "dynamodb:DeleteItem":
		w.checkUpdate(e)
	case "s3:PutObject", "s3:CopyObject", "s3:CompleteMultipartUpload":
		w.checkObject(e)
	case "s3:UploadPart", "s3:UploadPartCopy", "s3:CreateMultipartUpload",
		"s3:AbortMultipartUpload":
		// CompleteMultipartUpload has the precondition.
	case "s3:DeleteObject":
		prunes := strings.Contains(e.Request.URL.Path, "/jobs/") &&
			e.Request.Header.Get("If-Match") != ""
		if !isProbe(e.Request.URL.Path) && !prunes {
			w.addViolation("the worker deletes %s", e.Request.URL.Path)
		}
	default:
		w.addViolation("the worker called %s", e.Operation)
	}
}

// checkObject checks the preconditions of a write to S3.
func (w *Watcher) checkObject(e fault.Exchange) {
	h, key := e.Request.Header, keyOfPath(e.Request)
	switch {
	case e.Operation == "s3:CopyObject" && isProbe(e.Request.URL.Path):
		// The copy of a probe tests whether the server enforces conditions.
	case h.Get("If-Match") == "" && h.Get("If-None-Match") != "*":
		w.addViolation("%s of %s has no precondition", e.Operation, key)
	case e.Operation == "s3:CopyObject" && h.Get("X-Amz-Copy-Source-If-Match") == "" &&
		h.Get("X-Amz-Copy-Source-If-Unmodified-Since") == "":
		w.addViolation("%s of %s has no precondition on its source", e.Operation, key)
	}
	if e.Operation != "s3:CompleteMultipartUpload" {
		w.checkReplacement(e)
	}
}

// checkSecrets searches a request of a worker for secrets. It ignores blobs, which requests must
// contain, and the session token in its own header.
func (w *Watcher) checkSecrets(e fault.Exchange) {
	header := e.Request.Header.Clone()
	header.Del("X-Amz-Security-Token")
	for where, text := range map[string]string{
		"address": e.Request.URL.String(),
		"header":  fmt.Sprint(header),
		"body":    string(e.Body),
	} {
		for _, c := range w.secrets.find(text) {
			if !c.blob {
				w.addViolation("%s of %s contains %s in its %s", e.Operation, e.Request.URL.Path,
					c, where)
			}
		}
	}
}

func keyOfPath(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return key
}

// statement is one statement of BatchExecuteStatement. Its values are JSON.
type statement struct {
	Statement  string
	Parameters []json.RawMessage
}

// checkBatch checks that every UPDATE of a batch compares all values that it sets with their old
// values. It ignores INSERT, which fails if the item exists.
func (w *Watcher) checkBatch(e fault.Exchange) {
	var in struct{ Statements []statement }
	var out struct {
		Responses []struct{ Error json.RawMessage }
	}
	if err := json.Unmarshal(e.Body, &in); err != nil && e.Body != nil {
		w.addViolation("a batch cannot be read: %v", err)
	}
	_ = json.Unmarshal(e.Answer, &out) // without a response, nothing counts as applied
	for i, s := range in.Statements {
		applied := e.Served && e.Status == http.StatusOK &&
			i < len(out.Responses) && len(out.Responses[i].Error) == 0
		if strings.HasPrefix(s.Statement, "SELECT ") ||
			strings.HasPrefix(s.Statement, "INSERT ") {
			continue
		}
		sets, wheres, ok := s.parse()
		if !ok {
			w.addViolation("the condition of a statement cannot be parsed: %s", s.Statement)
			continue
		}
		_, table, _ := strings.Cut(s.Statement, `"`)
		table, _, _ = strings.Cut(table, `"`)
		w.checkComparisons(change{
			e.Operation,
			table,
			keyOfItem(sets, wheres),
			applied,
		}, sets, wheres)
	}
}

// parse returns the values that an UPDATE sets and compares, by path. ok is false if the
// statement cannot be parsed.
func (s statement) parse() (sets, wheres map[string]json.RawMessage, ok bool) {
	head, tail, found := strings.Cut(s.Statement, " WHERE ")
	if !found || !strings.HasPrefix(head, "UPDATE ") {
		return nil, nil, false
	}
	pair := regexp.MustCompile(`(\S+) = \?`)
	rest := s.Parameters
	parameters := func(text string) map[string]json.RawMessage {
		values := map[string]json.RawMessage{}
		for _, m := range pair.FindAllStringSubmatch(text, -1) {
			if len(rest) > 0 {
				values[strings.ReplaceAll(m[1], `"`, "")], rest = rest[0], rest[1:]
			}
		}
		return values
	}
	sets, wheres = parameters(head), parameters(tail)
	return sets, wheres, len(rest) == 0 && len(sets)+len(wheres) == strings.Count(s.Statement, "?")
}

// checkUpdate checks the condition of a write of one item.
func (w *Watcher) checkUpdate(e fault.Exchange) {
	var in struct {
		TableName                             string
		Key                                   map[string]json.RawMessage
		ConditionExpression, UpdateExpression string
		ExpressionAttributeNames              map[string]string
		ExpressionAttributeValues             map[string]json.RawMessage
	}
	if e.Body == nil {
		return // the request is incomplete
	}
	if err := json.Unmarshal(e.Body, &in); err != nil || in.ConditionExpression == "" {
		w.addViolation("%s on table %s has no condition", e.Operation, in.TableName)
		return
	}
	if e.Operation != "dynamodb:UpdateItem" {
		return
	}
	pairs := func(expression string) map[string]json.RawMessage {
		values := map[string]json.RawMessage{}
		for _, m := range regexp.MustCompile(`(\S+) = (:\w+)`).FindAllStringSubmatch(expression,
			-1) {
			path := m[1]
			for alias, name := range in.ExpressionAttributeNames {
				path = regexp.MustCompile(regexp.QuoteMeta(alias)+`\b`).
					ReplaceAllLiteralString(path, name)
			}
			values[path] = in.ExpressionAttributeValues[m[2]]
		}
		return values
	}
	applied := e.Served && e.Status == http.StatusOK
	w.checkComparisons(change{e.Operation, in.TableName, in.Key, applied},
		pairs(in.UpdateExpression), pairs(in.ConditionExpression))
}

// change is one update of an item.
type change struct {
	operation, table string
	key              map[string]json.RawMessage
	applied          bool
}

// keyOfItem returns the values that a statement compares and does not set.
func keyOfItem(sets, wheres map[string]json.RawMessage) map[string]json.RawMessage {
	key := maps.Clone(wheres)
	maps.DeleteFunc(key, func(path string, _ json.RawMessage) bool {
		return sets[path] != nil
	})
	return key
}

// id returns the string attribute "id" of the item's key, or "" if there is none.
func (c change) id() string {
	var key struct{ S string }
	_ = json.Unmarshal(c.key["id"], &key) // "" is correct for other keys
	return key.S
}

// checkComparisons checks that an update of an item compares every value that it sets with the old
// value, and that it writes no value a second time.
func (w *Watcher) checkComparisons(c change, sets, wheres map[string]json.RawMessage) {
	if len(sets) == 0 {
		w.addViolation("%s of %s sets nothing", c.operation, c.id())
	}
	key, _ := json.Marshal(c.key) // cannot fail: it was decoded from JSON
	for path, value := range sets {
		before, compared := wheres[path]
		if strings.HasPrefix(c.id(), "rotator-probe") {
			continue // a capability probe; no item has this key
		}
		if !compared {
			w.addViolation("%s of %s sets %s without a comparison of its old value",
				c.operation, c.id(), path)
			continue
		}
		if !c.applied {
			continue
		}
		w.checkWrite(fmt.Sprintf("%s %s %s", c.table, key, path), before, value)
		if w.onReplaced != nil {
			w.onReplaced(c.id(), path, blobOf(before), blobOf(value))
		}
	}
}

func blobOf(value json.RawMessage) []byte {
	var v struct {
		B []byte
		S string
	}
	if json.Unmarshal(value, &v) != nil {
		return nil
	}
	if v.S != "" {
		blob, _ := base64.StdEncoding.DecodeString(v.S) // nil if it is not a blob
		return blob
	}
	return v.B
}
