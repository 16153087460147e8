package trial

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"rotator/internal/fakeaws/fault"
)

// guard looks at every request of the worker and remembers what no worker may do.
type guard struct {
	world *World

	mu         sync.Mutex
	violations []string
	readOnly   bool
	// written is what the worker stored, by place and digest: a value that it
	// replaces must never be one of its own.
	written map[string]bool
	// moves counts how often KMS re-encrypted each blob under the old key.
	moves map[[sha256.Size]byte]int
	// bodies are the bodies of objects by key and ETag, whoever wrote them.
	bodies map[string][]byte
}

func newGuard(w *World) *guard {
	return &guard{world: w, written: map[string]bool{}, moves: map[[sha256.Size]byte]int{}, bodies: map[string][]byte{}}
}

// ReadOnly makes every write of the worker, from now on, a violation.
func (w *World) ReadOnly(on bool) {
	w.guard.mu.Lock()
	defer w.guard.mu.Unlock()
	w.guard.readOnly = on
}

// Guards says what the worker did that no worker may do.
func (w *World) Guards(t testing.TB) {
	t.Helper()
	tell(t, w.Violations())
}

// Violations is what the worker did that no worker may do.
func (w *World) Violations() []string {
	w.guard.mu.Lock()
	defer w.guard.mu.Unlock()
	return slices.Clone(w.guard.violations)
}

// reads are the operations that change nothing; ReEncrypt is looked at by itself.
func reads() []string {
	return []string{"kms:ReEncrypt", "kms:DescribeKey", "kms:ListAliases", "kms:ListKeyRotations", "kms:GetKeyLastUsage",
		"dynamodb:DescribeTable", "dynamodb:Scan", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:BatchGetItem", "dynamodb:ListTables",
		"s3:ListBuckets", "s3:HeadBucket", "s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:GetBucketOwnershipControls",
		"s3:ListObjectsV2", "s3:ListObjectVersions", "s3:ListMultipartUploads", "s3:GetObject", "s3:HeadObject", "s3:GetObjectTagging",
		"s3:GetObjectAcl", "s3:GetObjectRetention", "s3:GetObjectLegalHold", "sts:AssumeRole", "sts:GetCallerIdentity"}
}

// watch is the watcher of all exchanges.
func (g *guard) watch(e fault.Exchange) {
	if strings.HasPrefix(e.Operation, "s3:") && e.Served && e.Status == http.StatusOK {
		g.remember(e)
	}
	if !ByWorker(e.Request) {
		return
	}
	if e.Operation == "kms:ReEncrypt" {
		g.blobs(e)
	}
	if slices.Contains(reads(), e.Operation) {
		return
	}
	g.mu.Lock()
	if g.readOnly {
		g.violations = append(g.violations, "a command that must not write sent "+e.Operation)
	}
	g.mu.Unlock()
	if e.Request.Header.Get("X-Amz-Bypass-Governance-Retention") != "" {
		g.complain("%s bypasses the retention of Object Lock", e.Operation)
	}
	switch e.Operation {
	case "dynamodb:BatchExecuteStatement":
		g.batch(e)
	case "dynamodb:UpdateItem", "dynamodb:PutItem", "dynamodb:DeleteItem":
		g.single(e)
	case "s3:PutObject", "s3:CopyObject", "s3:CompleteMultipartUpload":
		g.put(e)
	case "s3:UploadPart", "s3:UploadPartCopy", "s3:CreateMultipartUpload", "s3:AbortMultipartUpload": // nothing to see before Complete
	case "s3:DeleteObject":
		if !strings.Contains(e.Request.URL.Path, "/.rotator-probe-") && !strings.Contains(e.Request.URL.Path, "/"+objectPrefix+".rotator-probe-") {
			g.complain("the worker deletes %s", e.Request.URL.Path)
		}
	default:
		g.complain("the worker called %s", e.Operation)
	}
}

func (g *guard) complain(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.violations = append(g.violations, fmt.Sprintf(format, args...))
}

// blobs counts what KMS re-encrypted, and makes canaries of what goes there and comes
// back.
func (g *guard) blobs(e fault.Exchange) {
	var asked struct{ CiphertextBlob []byte }
	var told struct{ SourceKeyID string }
	if json.Unmarshal(e.Body, &asked) == nil && json.Unmarshal(e.Answer, &told) == nil && told.SourceKeyID == g.world.Old {
		g.mu.Lock()
		g.moves[sha256.Sum256(asked.CiphertextBlob)]++
		g.mu.Unlock()
	}
	for _, text := range [][]byte{e.Body, e.Answer} {
		var blob struct{ CiphertextBlob []byte }
		if json.Unmarshal(text, &blob) == nil {
			g.world.secrets.addBlob("a blob of ReEncrypt", blob.CiphertextBlob)
		}
	}
}

// statement is one statement of BatchExecuteStatement, values as JSON.
type statement struct {
	Statement  string
	Parameters []json.RawMessage
}

// batch looks at every UPDATE of a batch: all values that it sets must be compared
// with what they were. An INSERT is conditional by its nature.
func (g *guard) batch(e fault.Exchange) {
	var in struct{ Statements []statement }
	var out struct {
		Responses []struct{ Error json.RawMessage }
	}
	if err := json.Unmarshal(e.Body, &in); err != nil && e.Body != nil {
		g.complain("a batch cannot be read: %v", err)
	}
	_ = json.Unmarshal(e.Answer, &out) // no answer: nothing was applied
	for i, s := range in.Statements {
		applied := e.Served && e.Status == http.StatusOK && i < len(out.Responses) && len(out.Responses[i].Error) == 0
		if strings.HasPrefix(s.Statement, "SELECT ") || strings.HasPrefix(s.Statement, "INSERT ") {
			continue
		}
		sets, wheres, ok := s.parse()
		if !ok {
			g.complain("a statement of a batch is not understood, so its condition is not known: %s", s.Statement)
			continue
		}
		g.compares(e.Operation, keyText(wheres["id"]), sets, wheres, applied)
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
func (g *guard) single(e fault.Exchange) {
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
		g.complain("%s on table %s has no condition", e.Operation, in.TableName)
		return
	}
	if in.TableName != Table || e.Operation != "dynamodb:UpdateItem" {
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
	g.compares(e.Operation, keyText(in.Key["id"]), pairs(in.UpdateExpression), pairs(in.ConditionExpression), e.Served && e.Status == http.StatusOK)
}

func keyText(value json.RawMessage) string {
	var key struct{ S string }
	_ = json.Unmarshal(value, &key) // ours are strings
	return key.S
}

// compares checks one update of an item: every value that is set must be compared
// with the one it replaces, and that one must neither be the worker's own nor
// under the new key already.
func (g *guard) compares(operation, id string, sets, wheres map[string]json.RawMessage, applied bool) {
	if len(sets) == 0 {
		g.complain("%s of %s sets nothing", operation, id)
	}
	for path, value := range sets {
		before, compared := wheres[path]
		if !compared {
			g.complain("%s of %s sets %s without a comparison of its old value", operation, id, path)
			continue
		}
		if applied {
			g.replaced(id, path, blobOf(before), blobOf(value))
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

// replaced looks at one slot that the worker did replace.
func (g *guard) replaced(id, path string, before, after []byte) {
	w := g.world
	w.mu.Lock()
	entry := w.byID[id]
	w.mu.Unlock()
	if entry == nil {
		g.complain("the worker wrote to %s, which is not in this world", id)
		return
	}
	g.mu.Lock()
	place := func(blob []byte) string { return fmt.Sprintf("%s %s %x", id, path, sha256.Sum256(blob)) }
	own, again := g.written[place(before)], g.written[place(after)]
	g.written[place(after)] = true
	g.mu.Unlock()
	if own {
		g.complain("%s %s: the worker replaced what it had written itself", id, path)
	}
	if again {
		g.complain("%s %s: the worker wrote the same bytes twice", id, path)
	}
	if _, key, err := w.Server.KMS().Decrypt("", before, entry.contextOf(path)); err == nil && key == w.New && !own {
		g.complain("%s %s: the worker replaced what was under the new key already", id, path)
	}
}

// remember keeps the bodies of objects, by what a condition can name them with.
func (g *guard) remember(e fault.Exchange) {
	if e.Operation != "s3:PutObject" {
		return
	}
	key := keyOfPath(e.Request)
	body := bodyOf(e)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bodies[key+" "+strings.Trim(e.Header.Get("ETag"), `"`)] = body
}

// bodyOf undoes the chunks in which the SDKs may send a body.
func bodyOf(e fault.Exchange) []byte {
	if !strings.HasPrefix(e.Request.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return e.Body
	}
	_, rest, _ := bytes.Cut(e.Body, []byte("\r\n"))
	body, _, _ := bytes.Cut(rest, []byte("\r\n0\r\n"))
	return body
}

func keyOfPath(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return key
}

// put looks at the conditions of a write to S3, and at what it replaced.
func (g *guard) put(e fault.Exchange) {
	h := e.Request.Header
	key := keyOfPath(e.Request)
	match, none := h.Get("If-Match"), h.Get("If-None-Match")
	switch {
	case match == "" && none != "*":
		g.complain("%s of %s has no precondition", e.Operation, key)
		return
	case e.Operation == "s3:CopyObject" && h.Get("X-Amz-Copy-Source-If-Match") == "":
		g.complain("%s of %s copies whatever is there", e.Operation, key)
	}
	g.world.mu.Lock()
	entry := g.world.byID[key]
	g.world.mu.Unlock()
	if e.Operation != "s3:PutObject" || match == "" || entry == nil || !e.Served || e.Status != http.StatusOK {
		return
	}
	g.mu.Lock()
	before := g.bodies[key+" "+strings.Trim(match, `"`)]
	g.mu.Unlock()
	old, now := parseBody(entry.Target, before), parseBody(entry.Target, bodyOf(e))
	for path, blob := range now.blobs {
		g.replaced(key, path, old.blobs[path], blob)
	}
	if len(now.blobs) == 0 {
		g.complain("%s was written without a ciphertext in it", key)
	}
}
