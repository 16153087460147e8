package fakekms

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// trace is what the operations of one request note about it.
type trace struct {
	event     string      // id of its event in CloudTrail
	resources []string    // ARNs of the keys, in the order of their use
	uses      int         // keys that were used successfully
	delay     *usageDelay // of the service
}

// touch notes that the request is about a key.
func (t *trace) touch(arn string) {
	if arn != "*" && !slices.Contains(t.resources, arn) {
		t.resources = append(t.resources, arn)
	}
}

// Event describes one request, as CloudTrail records it.
type Event struct {
	ID, RequestID string
	At            time.Time
	Operation     string // "ReEncrypt"
	Principal     string // ARN of the caller
	AccessKeyID   string
	UserAgent     string
	SourceIP      string
	// Code and Message are those of the error, "" if the request succeeded.
	Code, Message string
	// Resources are the ARNs of the keys; the source key of a ReEncrypt is first. It is empty if
	// the key of a refused request is not known.
	Resources []string

	body []byte
}

// maxRecorded is the length of the largest request whose parameters an event has. It limits the
// memory for events.
const maxRecorded = 2048

func newEvent(h *http.Request, r request, body []byte, err error) Event {
	host, _, _ := net.SplitHostPort(h.RemoteAddr)
	e := Event{
		ID:          r.trace.event,
		RequestID:   r.id,
		At:          time.Now(),
		Operation:   r.operation,
		Principal:   r.principal,
		AccessKeyID: accessKeyID(h),
		UserAgent:   h.UserAgent(),
		SourceIP:    cmp.Or(host, h.RemoteAddr),
		Resources:   r.trace.resources,
	}
	if len(body) <= maxRecorded {
		e.body = body
	}
	if err != nil {
		failed := asError(err)
		e.Code, e.Message = failed.Code, failed.Message
	}
	return e
}

// ReadOnly reports whether CloudTrail classifies the operation as one that only reads. It does
// so for the cryptographic operations.
func (e Event) ReadOnly() bool {
	for _, verb := range []string{"Create", "Update", "Delete", "Enable", "Disable", "Schedule",
		"Cancel", "Rotate", "Revoke", "Retire"} {
		if strings.HasPrefix(e.Operation, verb) {
			return false
		}
	}
	return true
}

// Parameters returns the parameters of the request that CloudTrail records: not ciphertexts and
// plaintexts, but encryption contexts.
func (e Event) Parameters() map[string]any {
	var all map[string]any
	if json.Unmarshal(e.body, &all) != nil {
		return nil
	}
	recorded := map[string]any{}
	for name, value := range all {
		switch name {
		case "CiphertextBlob", "Plaintext", "Message", "GrantTokens", "GrantToken":
		default:
			recorded[strings.ToLower(name[:1])+name[1:]] = value
		}
	}
	return recorded
}
