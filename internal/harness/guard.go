package harness

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"sync"
	"testing"

	"rotator/internal/fakeaws/fault"
)

// guard is the Watcher of an Env. In addition, it decrypts each blob that the worker replaced:
// the Env knows its encryption context.
type guard struct {
	*Watcher
	env *Env

	mu sync.Mutex
	// tries counts how often KMS re-encrypted each blob under the old key.
	tries map[digest]int
}

func newGuard(w *Env) *guard {
	g := &guard{Watcher: newWatcher(), env: w, tries: map[digest]int{}}
	g.onReplaced = g.checkReplaced
	return g
}

// ReadOnly sets whether every further write of the worker is a violation.
func (w *Env) ReadOnly(on bool) {
	w.guard.ReadOnly(on)
}

// Guards fails the test for each violation of the worker.
func (w *Env) Guards(t testing.TB) {
	t.Helper()
	reportProblems(t, w.Violations())
}

// Violations returns one line for each violation of the worker so far.
func (w *Env) Violations() []string { return w.guard.violationList() }

// watch checks one request and its response. It is called for all requests, also those of the
// application.
func (g *guard) watch(e fault.Exchange) {
	g.observe(e)
	if !ByWorker(e.Request) {
		return
	}
	switch e.Operation {
	case "kms:ReEncrypt":
		g.countReEncrypt(e)
	case "s3:PutObject":
		g.checkPut(e)
	}
}

// countReEncrypt counts a blob that KMS re-encrypted from the old key.
func (g *guard) countReEncrypt(e fault.Exchange) {
	var request struct{ CiphertextBlob []byte }
	var response struct{ SourceKeyID string }
	if json.Unmarshal(e.Body, &request) == nil && json.Unmarshal(e.Answer, &response) == nil &&
		response.SourceKeyID == g.env.Old {
		g.mu.Lock()
		g.tries[sha256.Sum256(request.CiphertextBlob)]++
		g.mu.Unlock()
	}
}

// checkReplaced checks one slot that the worker replaced. The blob before must not have been under
// the new key, no matter which program stored it.
func (g *guard) checkReplaced(id, path string, before, _ []byte) {
	w := g.env
	w.mu.Lock()
	entry := w.byID[id]
	w.mu.Unlock()
	if entry == nil {
		g.addViolation("the worker wrote to %s, which is not an entry of the Env", id)
		return
	}
	_, key, err := w.Server.KMS().Decrypt("", before, entry.contextOf(path))
	if err == nil && key == w.New {
		g.addViolation("%s %s: the worker replaced a blob that was under the new key already", id,
			path)
	}
}

// checkPut checks each slot that a write to S3 replaced.
func (g *guard) checkPut(e fault.Exchange) {
	key, match := keyOfPath(e.Request), e.Request.Header.Get("If-Match")
	g.env.mu.Lock()
	entry := g.env.byID[key]
	g.env.mu.Unlock()
	if match == "" || entry == nil || !e.Served || e.Status != http.StatusOK {
		return
	}
	g.watcherMu.Lock()
	before := g.objects[version(e.Request, match)]
	g.watcherMu.Unlock()
	old, now := parseBody(entry.Target, before), parseBody(entry.Target, bodyOf(e))
	for path, blob := range now.blobs {
		g.checkWrite(key+" "+path, old.blobs[path], blob)
		g.checkReplaced(key, path, old.blobs[path], blob)
	}
	if len(now.blobs) == 0 {
		g.addViolation("%s was written without a ciphertext", key)
	}
}
