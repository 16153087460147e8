package trial

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
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

// Watch has the rules of every worker stand around a server, whatever is stored
// there, and says when the test ends what broke them: no write without a
// precondition, and none of a value that is not compared; nothing deleted but its
// own probes; no operation that moves no ciphertext, kms:Decrypt before all. A world
// has them already, and more. May names operations that are allowed besides.
func Watch(t testing.TB, server *fakeaws.Server, may ...string) {
	w := watch(server, may...)
	t.Cleanup(func() { tell(t, w.broken()) })
}

func watch(server *fakeaws.Server, may ...string) *watcher {
	w := &watcher{may: may}
	server.Faults().Watch(func(e fault.Exchange) {
		if ByWorker(e.Request) {
			w.observe(e)
		}
	})
	return w
}

// watcher looks at requests of workers, and keeps what broke a rule.
type watcher struct {
	may []string
	// told, unless nil, is told of each value of an item that a worker replaced.
	told func(id, path string, before, after []byte)

	watching   sync.Mutex // guards what follows
	violations []string
	readOnly   bool
}

func (w *watcher) complain(format string, args ...any) {
	w.watching.Lock()
	defer w.watching.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

func (w *watcher) broken() []string {
	w.watching.Lock()
	defer w.watching.Unlock()
	return slices.Clone(w.violations)
}

func (w *watcher) setReadOnly(on bool) {
	w.watching.Lock()
	defer w.watching.Unlock()
	w.readOnly = on
}

// reads are the operations that change nothing; ReEncrypt is looked at by itself.
func reads() []string {
	return []string{"kms:ReEncrypt", "kms:DescribeKey", "kms:ListAliases", "kms:ListKeyRotations", "kms:GetKeyLastUsage",
		"dynamodb:DescribeTable", "dynamodb:Scan", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:BatchGetItem", "dynamodb:ListTables",
		"s3:ListBuckets", "s3:HeadBucket", "s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:GetBucketOwnershipControls",
		"s3:ListObjectsV2", "s3:ListObjectVersions", "s3:ListMultipartUploads", "s3:GetObject", "s3:HeadObject", "s3:GetObjectTagging",
		"s3:GetObjectAcl", "s3:GetObjectRetention", "s3:GetObjectLegalHold", "sts:AssumeRole", "sts:GetCallerIdentity"}
}

// observe looks at one request of a worker.
func (w *watcher) observe(e fault.Exchange) {
	if slices.Contains(reads(), e.Operation) || slices.Contains(w.may, e.Operation) {
		return
	}
	w.watching.Lock()
	readOnly := w.readOnly
	w.watching.Unlock()
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
func (w *watcher) object(e fault.Exchange) {
	h, key := e.Request.Header, keyOfPath(e.Request)
	switch {
	case e.Operation == "s3:CopyObject" && isProbe(e.Request.URL.Path): // whether conditions are enforced is what it asks
	case h.Get("If-Match") == "" && h.Get("If-None-Match") != "*":
		w.complain("%s of %s has no precondition", e.Operation, key)
	case e.Operation == "s3:CopyObject" && h.Get("X-Amz-Copy-Source-If-Match") == "" && h.Get("X-Amz-Copy-Source-If-Unmodified-Since") == "":
		w.complain("%s of %s copies whatever is there", e.Operation, key)
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
func (w *watcher) batch(e fault.Exchange) {
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
		w.compares(e.Operation, keyText(wheres["id"]), sets, wheres, applied)
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
func (w *watcher) single(e fault.Exchange) {
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
	w.compares(e.Operation, keyText(in.Key["id"]), pairs(in.UpdateExpression), pairs(in.ConditionExpression), e.Served && e.Status == http.StatusOK)
}

func keyText(value json.RawMessage) string {
	var key struct{ S string }
	_ = json.Unmarshal(value, &key) // ours are strings
	return key.S
}

// compares checks one update of an item: every value that is set must be compared
// with the one it replaces, and that one must neither be the worker's own nor
// under the new key already.
func (w *watcher) compares(operation, id string, sets, wheres map[string]json.RawMessage, applied bool) {
	if len(sets) == 0 {
		w.complain("%s of %s sets nothing", operation, id)
	}
	for path, value := range sets {
		before, compared := wheres[path]
		if !compared {
			w.complain("%s of %s sets %s without a comparison of its old value", operation, id, path)
			continue
		}
		if applied && w.told != nil {
			w.told(id, path, blobOf(before), blobOf(value))
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
