package harness

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"rotator/internal/fakeaws/fault"
)

type digest = [sha256.Size]byte

// move is what KMS said when it returned a blob: what the blob is under, and whether
// the one that it was made of was under the same.
type move struct {
	outcome string // key, material, algorithm and context
	idle    bool
}

// remember keeps what the rules need to know of requests before, whoever sent them.
func (w *Watcher) remember(e fault.Exchange) {
	if !e.Served || e.Status != http.StatusOK {
		return
	}
	switch e.Operation {
	case "kms:ReEncrypt":
		w.moved(e)
	case "s3:PutObject", "s3:GetObject":
		body := e.Answer
		if e.Operation == "s3:PutObject" {
			body = bodyOf(e)
		}
		w.keep(version(e.Request, e.Header.Get("ETag")), body)
	}
	switch e.Operation {
	case "s3:HeadObject", "s3:GetObject":
		w.keep("metadata of "+version(e.Request, e.Header.Get("ETag")), metadata(e.Header))
	}
}

func (w *Watcher) keep(name string, text []byte) {
	w.watching.Lock()
	defer w.watching.Unlock()
	w.objects[name] = text
}

// metadata is what the user's metadata says, as text.
func metadata(h http.Header) []byte {
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			text = fmt.Appendln(text, name, h.Get(name))
		}
	}
	return text
}

// version names a state of an object.
func version(r *http.Request, etag string) string { return r.URL.Path + " " + strings.Trim(etag, `"`) }

// bodyOf undoes the chunks in which the SDKs may send a body.
func bodyOf(e fault.Exchange) []byte {
	if !strings.HasPrefix(e.Request.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return e.Body
	}
	_, rest, _ := bytes.Cut(e.Body, []byte("\r\n"))
	body, _, _ := bytes.Cut(rest, []byte("\r\n0\r\n"))
	return body
}

// moved learns from an answer of KMS, and makes canaries of both blobs.
func (w *Watcher) moved(e fault.Exchange) {
	var asked struct {
		CiphertextBlob                                        []byte
		SourceEncryptionContext, DestinationEncryptionContext map[string]string
	}
	var told struct {
		CiphertextBlob                                            []byte
		KeyID, SourceKeyID                                        string
		SourceKeyMaterialID, DestinationKeyMaterialID             string
		SourceEncryptionAlgorithm, DestinationEncryptionAlgorithm string
	}
	if json.Unmarshal(e.Body, &asked) != nil || json.Unmarshal(e.Answer, &told) != nil {
		return
	}
	w.secrets.addBlob("a blob of ReEncrypt", asked.CiphertextBlob)
	w.secrets.addBlob("a blob of ReEncrypt", told.CiphertextBlob)
	from := fmt.Sprint(told.SourceKeyID, told.SourceKeyMaterialID, told.SourceEncryptionAlgorithm, asked.SourceEncryptionContext)
	to := fmt.Sprint(told.KeyID, told.DestinationKeyMaterialID, told.DestinationEncryptionAlgorithm, asked.DestinationEncryptionContext)
	w.watching.Lock()
	defer w.watching.Unlock()
	w.moves[sha256.Sum256(told.CiphertextBlob)] = move{outcome: to, idle: from == to}
}

// outcome says of the blobs in a value that KMS returned what they are under, in their
// order, and whether one of them was no move. W.watching is held.
func (w *Watcher) outcome(value []byte) (outcome string, idle bool) {
	blobs := append(blobsIn(value), value)
	for _, blob := range blobs {
		if m, ok := w.moves[sha256.Sum256(blob)]; ok {
			outcome += m.outcome + "\n"
			idle = idle || m.idle
		}
	}
	return outcome, idle
}

// blobsIn finds what may be blobs in a text: whatever is base64, and long.
func blobsIn(text []byte) (blobs [][]byte) {
	tokens := bytes.FieldsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+/-_", r))
	})
	for _, token := range tokens {
		if len(token) < 64 {
			continue
		}
		blob, err := base64.RawStdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "/").Replace(string(token)))
		if err == nil {
			blobs = append(blobs, blob)
		}
	}
	return blobs
}

// wrote is told of each value that a worker did replace. What it replaces must not be
// its own work already, unless the outcome is another: a job after this one may move
// all of it once more.
func (w *Watcher) wrote(place string, before, after []byte) {
	was, is := sha256.Sum256(before), sha256.Sum256(after)
	w.watching.Lock()
	if w.written[place] == nil {
		w.written[place] = map[digest]bool{}
	}
	own, again := w.written[place][was], w.written[place][is]
	w.written[place][is] = true
	outcomeBefore, _ := w.outcome(before)
	outcome, idle := w.outcome(after)
	w.watching.Unlock()
	if own && outcomeBefore == outcome {
		w.complain("%s: the worker replaced what it had written itself", place)
	}
	if again {
		w.complain("%s: the worker wrote the same bytes twice", place)
	}
	if idle {
		w.complain("%s: the worker wrote what KMS said was under the new key already", place)
	}
}

// putAgain looks at what a PUT replaced, or a copy of an object onto itself, which
// replaces its metadata, where that is known. Objects without a blob that KMS returned
// are the worker's own, of its checkpoint, and replaced again and again.
func (w *Watcher) putAgain(e fault.Exchange) {
	place, match, now := "", "If-Match", bodyOf(e)
	if e.Operation == "s3:CopyObject" {
		place, match, now = "metadata of ", "X-Amz-Copy-Source-If-Match", metadata(e.Request.Header)
	}
	match = e.Request.Header.Get(match)
	if match == "" || !e.Served || e.Status != http.StatusOK || bytes.Contains(e.Answer, []byte("<Error>")) {
		return
	}
	w.watching.Lock()
	before, known := w.objects[place+version(e.Request, match)]
	outcome, _ := w.outcome(now)
	w.watching.Unlock()
	if known && outcome != "" {
		w.wrote(place+e.Request.URL.Path, before, now)
	}
}
