package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"rotator/internal/fakeaws/fault"
)

// kmsResponse is a response of KMS to ReEncrypt, which a fault may change.
type kmsResponse struct {
	body   map[string]any
	header http.Header
}

const requestIDHeader = "X-Amzn-Requestid"

// mixer changes one response of KMS. It is safe for concurrent use.
type mixer struct {
	change func(response, earlier kmsResponse)

	mu      sync.Mutex
	answers int
	earlier kmsResponse
}

// The response that is changed, and the earlier one with which it is mixed up.
const (
	earlierAnswer = 10
	changedAnswer = 20
)

// mix is fault.Fault.Change.
func (m *mixer) mix(_ *http.Request, header http.Header, body []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	response := kmsResponse{header: header}
	if json.Unmarshal(body, &response.body) != nil || response.body["CiphertextBlob"] == nil {
		return body
	}
	switch m.answers++; m.answers {
	case earlierAnswer:
		m.earlier = kmsResponse{response.body, header.Clone()}
	case changedAnswer:
		m.change(response, m.earlier)
		if changed, err := json.Marshal(response.body); err == nil {
			return changed
		}
	}
	return body
}

// mixedResponses: responses are mixed up or damaged between KMS and rotator. The run stops, names
// the problem, and writes nothing of such a response. The next run continues. This holds with and
// without --sdk.
func mixedResponses(t *testing.T) {
	const impossible = "an impossible length for the re-encryption of"
	blob := func(response, earlier kmsResponse) {
		response.body["CiphertextBlob"] = earlier.body["CiphertextBlob"]
	}
	id := func(response, earlier kmsResponse) {
		response.header.Set(requestIDHeader, earlier.header.Get(requestIDHeader))
	}
	all := func(response, earlier kmsResponse) {
		blob(response, earlier)
		id(response, earlier)
	}
	set := func(text string) func(kmsResponse, kmsResponse) {
		return func(response, _ kmsResponse) { response.body["CiphertextBlob"] = text }
	}
	for _, test := range []struct {
		name, text string
		change     func(response, earlier kmsResponse)
	}{
		{"blob of another request", "had already returned for another request", blob},
		{"id of another request", "the request id of the response to another request", id},
		{"response to another request", "already returned for another request", all},
		{"too long", impossible, set(strings.Repeat("AAAA", 2049))},
		{"too short", impossible, set("AQICAHg=")},
	} {
		for _, flags := range [][]string{{}, {"--sdk"}} {
			t.Run(strings.Join(append([]string{test.name}, flags...), " "), func(t *testing.T) {
				t.Parallel()
				w := newTrial(t, fewer())
				m := &mixer{change: test.change}
				w.Fault("kms:ReEncrypt", fault.Fault{Change: m.mix})
				r := w.Run(t, append([]string{"run", "-o", "json"}, flags...)...)
				stopped(t, w, r, exitInternal)
				for _, text := range []string{test.text, "nothing of this response was written"} {
					if !strings.Contains(r.Log, text) {
						t.Errorf("the log does not contain %q: %s", text, r)
					}
				}
				w.Server.Faults().Clear("")
				w.CountsVary() // slots that were moved count as current now
				toTheEnd(t, w, flags...)
			})
		}
	}
}
