package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"rotator/internal/fakeaws/fault"
)

// mixedAnswers: between KMS and the worker answers are mixed up or damaged. The run stops,
// says what is wrong, writes nothing of such an answer, and the next run goes on; whichever
// way requests are sent.
func mixedAnswers(t *testing.T) {
	changes := map[string]struct {
		says   string
		change func(first, answer map[string]any, header, firstHeader http.Header)
	}{
		"another question": {"a ciphertext that it gave to another question", func(first, answer map[string]any, header, firstHeader http.Header) {
			answer["CiphertextBlob"] = first["CiphertextBlob"]
		}},
		"another answer": {"it gave to another question", func(first, answer map[string]any, header, firstHeader http.Header) {
			answer["CiphertextBlob"] = first["CiphertextBlob"]
			header.Set("X-Amzn-Requestid", firstHeader.Get("X-Amzn-Requestid"))
		}},
		"one request id": {"the request id of an answer to another question", func(_, _ map[string]any, header, firstHeader http.Header) {
			header.Set("X-Amzn-Requestid", firstHeader.Get("X-Amzn-Requestid"))
		}},
		"too long": {"which a ciphertext of what was asked about", func(_, answer map[string]any, _, _ http.Header) {
			answer["CiphertextBlob"] = strings.Repeat("AAAA", 2049)
		}},
		"too short": {"which a ciphertext of what was asked about", func(_, answer map[string]any, _, _ http.Header) {
			answer["CiphertextBlob"] = "AQICAHg="
		}},
	}
	for name, c := range changes {
		for _, flags := range [][]string{{}, {"--sdk"}} {
			t.Run(strings.Join(append([]string{name}, flags...), " "), func(t *testing.T) {
				w := newTrial(t, fewer())
				var mu sync.Mutex
				answers := 0
				var first map[string]any
				var firstHeader http.Header
				w.Fault("kms:ReEncrypt", fault.Fault{Change: func(_ *http.Request, header http.Header, body []byte) []byte {
					mu.Lock()
					defer mu.Unlock()
					var answer map[string]any
					if err := json.Unmarshal(body, &answer); err != nil || answer["CiphertextBlob"] == nil {
						return body
					}
					if answers++; answers == 10 {
						first, firstHeader = answer, header.Clone()
					}
					if answers != 20 {
						return body
					}
					c.change(first, answer, header, firstHeader)
					changed, err := json.Marshal(answer)
					if err != nil {
						t.Error(err)
					}
					return changed
				}})
				r := w.Run(t, append([]string{"run", "-o", "json"}, flags...)...)
				stopped(t, w, r, exitInternal)
				if !strings.Contains(r.Log, c.says) || !strings.Contains(r.Log, "nothing of this answer was written") {
					t.Errorf("it does not say what is wrong: %s", r)
				}
				w.Server.Faults().Clear("")
				w.CountsVary() // what was found moved is current now
				toTheEnd(t, w, flags...)
			})
		}
	}
}
