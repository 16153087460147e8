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

// move is the result of one ReEncrypt request.
type move struct {
	outcome   string // key, material, algorithm and context
	unchanged bool
}

// record records what the rules need from a successful request of a worker or the application.
func (w *Watcher) record(e fault.Exchange) {
	if !e.Served || e.Status != http.StatusOK {
		return
	}
	switch e.Operation {
	case "kms:ReEncrypt":
		w.recordReEncrypt(e)
	case "s3:PutObject", "s3:GetObject":
		body := e.Answer
		if e.Operation == "s3:PutObject" {
			body = bodyOf(e)
		}
		w.storeObject(version(e.Request, e.Header.Get("ETag")), body)
	}
	switch e.Operation {
	case "s3:HeadObject", "s3:GetObject":
		w.storeObject("metadata of "+version(e.Request, e.Header.Get("ETag")), metadata(e.Header))
	}
}

func (w *Watcher) storeObject(name string, text []byte) {
	w.watcherMu.Lock()
	defer w.watcherMu.Unlock()
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

// recordReEncrypt records the result of a ReEncrypt request and adds both blobs to the secrets.
func (w *Watcher) recordReEncrypt(e fault.Exchange) {
	var request struct {
		CiphertextBlob                                        []byte
		SourceEncryptionContext, DestinationEncryptionContext map[string]string
	}
	var response struct {
		CiphertextBlob                                            []byte
		KeyID, SourceKeyID                                        string
		SourceKeyMaterialID, DestinationKeyMaterialID             string
		SourceEncryptionAlgorithm, DestinationEncryptionAlgorithm string
	}
	if json.Unmarshal(e.Body, &request) != nil || json.Unmarshal(e.Answer, &response) != nil {
		return
	}
	w.secrets.addBlob("a blob of ReEncrypt", request.CiphertextBlob)
	w.secrets.addBlob("a blob of ReEncrypt", response.CiphertextBlob)
	from := fmt.Sprint(response.SourceKeyID, response.SourceKeyMaterialID,
		response.SourceEncryptionAlgorithm, request.SourceEncryptionContext)
	to := fmt.Sprint(response.KeyID, response.DestinationKeyMaterialID,
		response.DestinationEncryptionAlgorithm, request.DestinationEncryptionContext)
	w.watcherMu.Lock()
	defer w.watcherMu.Unlock()
	w.moves[sha256.Sum256(response.CiphertextBlob)] = move{outcome: to, unchanged: from == to}
}

// outcome returns the outcomes of the blobs in value that KMS returned, in their order. unchanged
// reports whether any of these blobs had the same outcome before. It must be called with
// w.watcherMu held.
func (w *Watcher) outcome(value []byte) (outcome string, unchanged bool) {
	blobs := append(blobsIn(value), value)
	for _, blob := range blobs {
		if m, ok := w.moves[sha256.Sum256(blob)]; ok {
			outcome += m.outcome + "\n"
			unchanged = unchanged || m.unchanged
		}
	}
	return outcome, unchanged
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

// checkWrite checks one value that a worker replaced. A worker must not replace a value that a
// worker wrote, unless the outcome differs: a later job may move the same values again.
func (w *Watcher) checkWrite(location string, before, after []byte) {
	digestBefore, digestAfter := sha256.Sum256(before), sha256.Sum256(after)
	w.watcherMu.Lock()
	if w.written[location] == nil {
		w.written[location] = map[digest]bool{}
	}
	writtenBefore, sameBytes := w.written[location][digestBefore], w.written[location][digestAfter]
	w.written[location][digestAfter] = true
	outcomeBefore, _ := w.outcome(before)
	outcome, unchanged := w.outcome(after)
	w.watcherMu.Unlock()
	if writtenBefore && outcomeBefore == outcome {
		w.addViolation("%s: the worker replaced a value that it had written itself", location)
	}
	if sameBytes {
		w.addViolation("%s: the worker wrote the same bytes twice", location)
	}
	if unchanged {
		w.addViolation("%s: the worker wrote a blob with unchanged key, material, algorithm "+
			"and context", location)
	}
}

// checkReplacement checks the object that a PUT replaced, or the metadata that a copy of an
// object onto itself replaced. It ignores objects whose old state is unknown, and objects without
// a blob that KMS returned: those are checkpoint records, which the worker replaces repeatedly.
func (w *Watcher) checkReplacement(e fault.Exchange) {
	location, match, body := "", "If-Match", bodyOf(e)
	if e.Operation == "s3:CopyObject" {
		location = "metadata of "
		match = "X-Amz-Copy-Source-If-Match"
		body = metadata(e.Request.Header)
	}
	match = e.Request.Header.Get(match)
	if match == "" || !e.Served || e.Status != http.StatusOK ||
		bytes.Contains(e.Answer, []byte("<Error>")) {
		return
	}
	w.watcherMu.Lock()
	before, known := w.objects[location+version(e.Request, match)]
	outcome, _ := w.outcome(body)
	w.watcherMu.Unlock()
	if known && outcome != "" {
		w.checkWrite(location+e.Request.URL.Path, before, body)
	}
}
