package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"rotator/internal/fakeaws/fault"
)

// kmsAnswer is an answer of KMS to ReEncrypt, which a fault may change.
type kmsAnswer struct {
	body   map[string]any
	header http.Header
}

const requestIDHeader = "X-Amzn-Requestid"

// mixer changes one answer of KMS. It is safe for concurrent use.
type mixer struct {
	change func(answer, earlier kmsAnswer)

	mu      sync.Mutex
	answers int
	earlier kmsAnswer
}

// The answer that is changed, and that which it may be mixed up with.
const (
	earlierAnswer = 10
	changedAnswer = 20
)

// mix is fault.Fault.Change.
func (m *mixer) mix(_ *http.Request, header http.Header, body []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	answer := kmsAnswer{header: header}
	if json.Unmarshal(body, &answer.body) != nil || answer.body["CiphertextBlob"] == nil {
		return body
	}
	switch m.answers++; m.answers {
	case earlierAnswer:
		m.earlier = kmsAnswer{answer.body, header.Clone()}
	case changedAnswer:
		m.change(answer, m.earlier)
		if changed, err := json.Marshal(answer.body); err == nil {
			return changed
		}
	}
	return body
}

// mixedAnswers: between KMS and the worker answers are mixed up or damaged. The run stops,
// says what is wrong, writes nothing of such an answer, and the next run goes on; whichever
// way requests are sent.
func mixedAnswers(t *testing.T) {
	const impossible = "an impossible length for the re-encryption of"
	blob := func(answer, earlier kmsAnswer) {
		answer.body["CiphertextBlob"] = earlier.body["CiphertextBlob"]
	}
	id := func(answer, earlier kmsAnswer) {
		answer.header.Set(requestIDHeader, earlier.header.Get(requestIDHeader))
	}
	all := func(answer, earlier kmsAnswer) {
		blob(answer, earlier)
		id(answer, earlier)
	}
	set := func(text string) func(kmsAnswer, kmsAnswer) {
		return func(answer, _ kmsAnswer) { answer.body["CiphertextBlob"] = text }
	}
	for _, test := range []struct {
		name, says string
		change     func(answer, earlier kmsAnswer)
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
				for _, text := range []string{test.says, "nothing of this response was written"} {
					if !strings.Contains(r.Log, text) {
						t.Errorf("it does not say %q: %s", text, r)
					}
				}
				w.Server.Faults().Clear("")
				w.CountsVary() // what was found moved is current now
				toTheEnd(t, w, flags...)
			})
		}
	}
}
