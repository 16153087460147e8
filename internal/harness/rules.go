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

// move is the result of one ReEncrypt: the outcome for the new blob, and whether the old blob
// had the same outcome already.
type move struct {
	outcome string // key, material, algorithm and context
	idle    bool
}

// remember keeps what the rules need from a successful request of a worker or the application.
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

// metadata returns the user metadata as text, in a fixed order.
func metadata(h http.Header) []byte {
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			text = fmt.Appendln(text, name, h.Get(name))
		}
	}
	return text
}

// version names one version of an object by its path and ETag.
func version(r *http.Request, etag string) string {
	return r.URL.Path + " " + strings.Trim(etag, `"`)
}

// bodyOf returns the body of a request without the aws-chunked encoding that SDKs may use.
func bodyOf(e fault.Exchange) []byte {
	if !strings.HasPrefix(e.Request.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return e.Body
	}
	_, rest, _ := bytes.Cut(e.Body, []byte("\r\n"))
	body, _, _ := bytes.Cut(rest, []byte("\r\n0\r\n"))
	return body
}

// moved records the result of a ReEncrypt request and adds both blobs to the secrets.
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
	from := fmt.Sprint(told.SourceKeyID, told.SourceKeyMaterialID,
		told.SourceEncryptionAlgorithm, asked.SourceEncryptionContext)
	to := fmt.Sprint(told.KeyID, told.DestinationKeyMaterialID,
		told.DestinationEncryptionAlgorithm, asked.DestinationEncryptionContext)
	w.watching.Lock()
	defer w.watching.Unlock()
	w.moves[sha256.Sum256(told.CiphertextBlob)] = move{outcome: to, idle: from == to}
}

// outcome returns the outcomes of the blobs in value that KMS returned, in their order. idle
// reports whether any of these blobs had the same outcome before. It must be called with
// w.watching held.
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

// blobsIn returns the decoded base64 texts of at least 64 characters, which may be blobs.
func blobsIn(text []byte) (blobs [][]byte) {
	tokens := bytes.FieldsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("+/-_", r))
	})
	for _, token := range tokens {
		if len(token) < 64 {
			continue
		}
		text := strings.NewReplacer("-", "+", "_", "/").Replace(string(token))
		blob, err := base64.RawStdEncoding.DecodeString(text)
		if err == nil {
			blobs = append(blobs, blob)
		}
	}
	return blobs
}

// wrote checks one value that a worker replaced. A worker must not replace a value that a worker
// wrote, unless the outcome differs: a later job may move the same values again.
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
		w.complain("%s: the worker wrote a blob with unchanged key, material, algorithm "+
			"and context", place)
	}
}

// putAgain checks what a PUT replaced, or a copy of an object onto itself, which replaces its
// metadata. It ignores objects whose old state is unknown, and objects without a blob that KMS
// returned: those are checkpoint records, which the worker replaces repeatedly.
func (w *Watcher) putAgain(e fault.Exchange) {
	place, match, now := "", "If-Match", bodyOf(e)
	if e.Operation == "s3:CopyObject" {
		place, match, now = "metadata of ", "X-Amz-Copy-Source-If-Match", metadata(e.Request.Header)
	}
	match = e.Request.Header.Get(match)
	if match == "" || !e.Served || e.Status != http.StatusOK ||
		bytes.Contains(e.Answer, []byte("<Error>")) {
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
