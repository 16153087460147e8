package trial

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"rotator/internal/fakeaws/fault"
)

// guard looks at every request of the worker and remembers what no worker may do.
type guard struct {
	*watcher
	world *World

	mu sync.Mutex
	// written is what the worker stored, by place and digest: a value that it
	// replaces must never be one of its own.
	written map[string]bool
	// moves counts how often KMS re-encrypted each blob under the old key.
	moves map[[sha256.Size]byte]int
	// bodies are the bodies of objects by key and ETag, whoever wrote them.
	bodies map[string][]byte
}

func newGuard(w *World) *guard {
	g := &guard{watcher: &watcher{}, world: w, written: map[string]bool{}, moves: map[[sha256.Size]byte]int{}, bodies: map[string][]byte{}}
	g.told = g.replaced
	return g
}

// ReadOnly makes every write of the worker, from now on, a violation.
func (w *World) ReadOnly(on bool) {
	w.guard.setReadOnly(on)
}

// Guards says what the worker did that no worker may do.
func (w *World) Guards(t testing.TB) {
	t.Helper()
	tell(t, w.Violations())
}

// Violations is what the worker did that no worker may do.
func (w *World) Violations() []string { return w.guard.broken() }

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
	g.observe(e)
	g.put(e)
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

// put looks at what a write to S3 replaced.
func (g *guard) put(e fault.Exchange) {
	key, match := keyOfPath(e.Request), e.Request.Header.Get("If-Match")
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
