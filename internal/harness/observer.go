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

// ApplicationKey is the access key with which a test, as the application, signs:
// what it does is trusted. Whoever signs with another is a worker.
const ApplicationKey = "AKIAAPPLICATION00000"

// Watcher holds the rules that every worker keeps, whatever is stored and whoever
// serves it: no write without a precondition, and none of a value that is not
// compared; nothing written twice with the same outcome; nothing deleted but its own
// probes; no operation that moves no ciphertext, kms:Decrypt before all; no secret in
// any request. It stands around the fake AWS (Watch) and in front of any other server
// (Proxy). A world has it already, and more.
type Watcher struct {
	may []string // operations that are allowed besides
	// told, unless nil, is told of each value of an item that a worker replaced.
	told func(id, path string, before, after []byte)
	// secrets must not be in any output, and those that are no blobs in no request.
	secrets *secrets

	watching   sync.Mutex // guards what follows
	violations []string
	readOnly   bool
	seen       map[string]int // requests of workers, by operation
	printed    []string       // what commands printed
	// moves is what KMS said of the blobs that it returned, and written what workers
	// stored, by place, both by digest.
	moves   map[digest]move
	written map[string]map[digest]bool
	// objects are their bodies and metadata, by path and ETag.
	objects map[string][]byte
}

// NewWatcher makes a Watcher, which says when the test ends what broke its rules.
// May names operations that are allowed besides.
func NewWatcher(t testing.TB, may ...string) *Watcher {
	w := newWatcher(may...)
	t.Cleanup(func() {
		t.Helper()
		reportProblems(t, w.broken())
	})
	return w
}

func newWatcher(may ...string) *Watcher {
	return &Watcher{may: may, secrets: newSecrets(), seen: map[string]int{}, moves: map[digest]move{}, written: map[string]map[digest]bool{}, objects: map[string][]byte{}}
}

// Watch puts a Watcher around a fake AWS until the test ends.
func Watch(t testing.TB, server *fakeaws.Server, may ...string) *Watcher {
	w := NewWatcher(t, may...)
	server.Faults().Watch(w.observe)
	return w
}

// ReadOnly makes every write of a worker, from now on, a violation.
func (w *Watcher) ReadOnly(on bool) {
	w.watching.Lock()
	defer w.watching.Unlock()
	w.readOnly = on
}

// Seen is how many requests of workers there were, by operation: a guard that stands
// where nobody passes finds nothing.
func (w *Watcher) Seen(operation string) int {
	w.watching.Lock()
	defer w.watching.Unlock()
	return w.seen[operation]
}

func (w *Watcher) complain(format string, args ...any) {
	w.watching.Lock()
	defer w.watching.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

func (w *Watcher) broken() []string {
	w.watching.Lock()
	defer w.watching.Unlock()
	return slices.Clone(w.violations)
}

// reads are the operations that change nothing; ReEncrypt is looked at by itself.
func reads() []string {
	return []string{"kms:ReEncrypt", "kms:DescribeKey", "kms:ListAliases", "kms:ListKeyRotations", "kms:GetKeyLastUsage",
		"dynamodb:DescribeTable", "dynamodb:Scan", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:BatchGetItem", "dynamodb:ListTables",
		"dynamodb:Health",
		"s3:ListBuckets", "s3:HeadBucket", "s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:GetBucketOwnershipControls",
		"s3:ListObjectsV2", "s3:ListObjectVersions", "s3:ListMultipartUploads", "s3:GetObject", "s3:HeadObject", "s3:GetObjectTagging",
		"s3:GetObjectAcl", "s3:GetObjectRetention", "s3:GetObjectLegalHold", "sts:AssumeRole", "sts:GetCallerIdentity",
		"sts:Incomplete"}
}

// observe looks at one request, whoever sent it.
func (w *Watcher) observe(e fault.Exchange) {
	w.remember(e)
	if !ByWorker(e.Request) {
		return
	}
	w.watching.Lock()
	w.seen[e.Operation]++
	readOnly := w.readOnly
	w.watching.Unlock()
	w.leaks(e)
	if slices.Contains(reads(), e.Operation) || slices.Contains(w.may, e.Operation) {
		return
	}
	if readOnly {
		w.complain("a command that must not write sent %s", e.Operation)
	}
	if e.Request.Header.Get("X-Amz-Bypass-Governance-Retention") != "" {
		w.complain("%s bypasses the retention of Object Lock", e.Operation)
	}
	switch e.Operation {
	case "dynamodb:BatchExecuteStatement":
		w.batch(e)
	case "dynamodb:UpdateItem", "dynamodb:PutItem", "dynamodb:DeleteItem":
		w.single(e)
	case "s3:PutObject", "s3:CopyObject", "s3:CompleteMultipartUpload":
		w.object(e)
	case "s3:UploadPart", "s3:UploadPartCopy", "s3:CreateMultipartUpload", "s3:AbortMultipartUpload": // nothing to see before Complete
	case "s3:DeleteObject":
		if !isProbe(e.Request.URL.Path) {
			w.complain("the worker deletes %s", e.Request.URL.Path)
		}
	default:
		w.complain("the worker called %s", e.Operation)
	}
}

// object looks at the conditions of a write to S3.
func (w *Watcher) object(e fault.Exchange) {
	h, key := e.Request.Header, keyOfPath(e.Request)
	switch {
	case e.Operation == "s3:CopyObject" && isProbe(e.Request.URL.Path): // whether conditions are enforced is what it asks
	case h.Get("If-Match") == "" && h.Get("If-None-Match") != "*":
		w.complain("%s of %s has no precondition", e.Operation, key)
	case e.Operation == "s3:CopyObject" && h.Get("X-Amz-Copy-Source-If-Match") == "" && h.Get("X-Amz-Copy-Source-If-Unmodified-Since") == "":
		w.complain("%s of %s copies whatever is there", e.Operation, key)
	}
	if e.Operation != "s3:CompleteMultipartUpload" {
		w.putAgain(e)
	}
}

// leaks looks for secrets in what a worker sends, but for blobs, which have to be
// there, and for the session token in its own header.
func (w *Watcher) leaks(e fault.Exchange) {
	header := e.Request.Header.Clone()
	header.Del("X-Amz-Security-Token")
	for where, text := range map[string]string{"address": e.Request.URL.String(), "header": fmt.Sprint(header), "body": string(e.Body)} {
		for _, c := range w.secrets.find(text) {
			if !c.blob {
				w.complain("%s of %s has %s in its %s", e.Operation, e.Request.URL.Path, c, where)
			}
		}
	}
}

func keyOfPath(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return key
}

// statement is one statement of BatchExecuteStatement, values as JSON.
type statement struct {
	Statement  string
	Parameters []json.RawMessage
}

// batch looks at every UPDATE of a batch: all values that it sets must be compared
// with what they were. An INSERT is conditional by its nature.
func (w *Watcher) batch(e fault.Exchange) {
	var in struct{ Statements []statement }
	var out struct {
		Responses []struct{ Error json.RawMessage }
	}
	if err := json.Unmarshal(e.Body, &in); err != nil && e.Body != nil {
		w.complain("a batch cannot be read: %v", err)
	}
	_ = json.Unmarshal(e.Answer, &out) // no answer: nothing was applied
	for i, s := range in.Statements {
		applied := e.Served && e.Status == http.StatusOK && i < len(out.Responses) && len(out.Responses[i].Error) == 0
		if strings.HasPrefix(s.Statement, "SELECT ") || strings.HasPrefix(s.Statement, "INSERT ") {
			continue
		}
		sets, wheres, ok := s.parse()
		if !ok {
			w.complain("a statement of a batch is not understood, so its condition is not known: %s", s.Statement)
			continue
		}
		_, table, _ := strings.Cut(s.Statement, `"`)
		table, _, _ = strings.Cut(table, `"`)
		w.compares(change{e.Operation, table, keyOfItem(sets, wheres), applied}, sets, wheres)
	}
}

// parse takes an UPDATE apart: values by path.
func (s statement) parse() (sets, wheres map[string]json.RawMessage, ok bool) {
	head, tail, found := strings.Cut(s.Statement, " WHERE ")
	if !found || !strings.HasPrefix(head, "UPDATE ") {
		return nil, nil, false
	}
	pair := regexp.MustCompile(`(\S+) = \?`)
	rest := s.Parameters
	take := func(text string) map[string]json.RawMessage {
		values := map[string]json.RawMessage{}
		for _, m := range pair.FindAllStringSubmatch(text, -1) {
			if len(rest) > 0 {
				values[strings.ReplaceAll(m[1], `"`, "")], rest = rest[0], rest[1:]
			}
		}
		return values
	}
	sets, wheres = take(head), take(tail)
	return sets, wheres, len(rest) == 0 && len(sets)+len(wheres) == strings.Count(s.Statement, "?")
}

// single looks at the expressions of a single write.
func (w *Watcher) single(e fault.Exchange) {
	var in struct {
		TableName                             string
		Key                                   map[string]json.RawMessage
		ConditionExpression, UpdateExpression string
		ExpressionAttributeNames              map[string]string
		ExpressionAttributeValues             map[string]json.RawMessage
	}
	if e.Body == nil {
		return // half a request: nobody knows what it was going to say
	}
	if err := json.Unmarshal(e.Body, &in); err != nil || in.ConditionExpression == "" {
		w.complain("%s on table %s has no condition", e.Operation, in.TableName)
		return
	}
	if e.Operation != "dynamodb:UpdateItem" {
		return
	}
	pairs := func(expression string) map[string]json.RawMessage {
		values := map[string]json.RawMessage{}
		for _, m := range regexp.MustCompile(`(\S+) = (:\w+)`).FindAllStringSubmatch(expression, -1) {
			path := m[1]
			for alias, name := range in.ExpressionAttributeNames {
				path = regexp.MustCompile(regexp.QuoteMeta(alias)+`\b`).ReplaceAllLiteralString(path, name)
			}
			values[path] = in.ExpressionAttributeValues[m[2]]
		}
		return values
	}
	applied := e.Served && e.Status == http.StatusOK
	w.compares(change{e.Operation, in.TableName, in.Key, applied}, pairs(in.UpdateExpression), pairs(in.ConditionExpression))
}

// change is one update of an item.
type change struct {
	operation, table string
	key              map[string]json.RawMessage
	applied          bool
}

// keyOfItem is what a statement compares and does not set.
func keyOfItem(sets, wheres map[string]json.RawMessage) map[string]json.RawMessage {
	key := maps.Clone(wheres)
	maps.DeleteFunc(key, func(path string, _ json.RawMessage) bool { return sets[path] != nil })
	return key
}

// id is the key of an item, where that is a string of this name.
func (c change) id() string {
	var key struct{ S string }
	_ = json.Unmarshal(c.key["id"], &key) // ours are strings
	return key.S
}

// compares checks one update of an item: every value that is set must be compared
// with the one it replaces, and none may be written twice.
func (w *Watcher) compares(c change, sets, wheres map[string]json.RawMessage) {
	if len(sets) == 0 {
		w.complain("%s of %s sets nothing", c.operation, c.id())
	}
	key, _ := json.Marshal(c.key) // was JSON
	for path, value := range sets {
		before, compared := wheres[path]
		if strings.HasPrefix(c.id(), "rotator-probe") { // a capability probe; no item has its key
			continue
		}
		if !compared {
			w.complain("%s of %s sets %s without a comparison of its old value", c.operation, c.id(), path)
			continue
		}
		if !c.applied {
			continue
		}
		w.wrote(fmt.Sprintf("%s %s %s", c.table, key, path), before, value)
		if w.told != nil {
			w.told(c.id(), path, blobOf(before), blobOf(value))
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
		blob, _ := base64.StdEncoding.DecodeString(v.S) // nil: not a blob, and compared as one
		return blob
	}
	return v.B
}
