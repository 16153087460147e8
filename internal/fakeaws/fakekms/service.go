// Package fakekms implements KMS in memory, for the real SDK client: keys, aliases, key
// states, rotation, grants, and the cryptographic operations with real AES-256-GCM and
// RSA-OAEP, and with SM2 if Config.SM2 implements it.
//
// Blobs under symmetric keys have the layout of today's KMS blobs, so that tests cover code
// that reads their header (see seal.go). Errors have the codes of the API reference. The
// differences from KMS are: changes are visible immediately (for grants, see HoldGrants),
// there is one account and one Region, and permissions are a Go function (see SetPolicy) and
// the grants.
package fakekms

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"rotator/internal/fakeaws/fault"
)

// Config is the configuration of a Service.
type Config struct {
	Region  string // part of every key ARN
	Account string // owner of every key, 12 digits
	// Principal returns the ARN of the principal that signs with an access key. If it is nil,
	// the principal is a user of the account whose name is the access key id.
	Principal func(accessKeyID string) string
	// SM2 creates the key pairs of SM2 keys, which are not in the standard library.
	// If it is nil, there are no SM2 keys. KMS has them in the China Regions only.
	SM2 func() (SM2Key, error)
	// Trail receives an event for each request, also for refused ones, before the client
	// receives the answer. It may be nil. It may be called concurrently, without a lock.
	Trail func(Event)
}

// Service is a fake KMS. It is safe for concurrent use. Cryptographic operations run without
// its lock.
type Service struct {
	config     Config
	operations map[string]operation

	mu      sync.RWMutex
	keys    map[string]*key // by key id
	aliases map[string]*alias
	// tokens has the material that made a blob, by the token in its header.
	tokens map[token]*material
	policy func(Call) bool
	// headerKey is the function of SetHeaders. If it is nil, each blob has the token of its own
	// key.
	headerKey func(keyARN string) string
	// falseHeaders has the material that made a blob with a false token, by the header of the blob.
	falseHeaders map[string]*material
	grants       []*grant // in order of creation
	// If holdGrants is true, new grants have no effect without their token.
	holdGrants bool
	noBlob     string // see SetNoBlobCode; "" is the behavior of KMS

	quota quota
	usage usageDelay
}

// New creates a Service without keys.
func New(c Config) *Service {
	if c.Principal == nil {
		c.Principal = func(accessKeyID string) string {
			return fmt.Sprintf("arn:aws:iam::%s:user/%s", c.Account, accessKeyID)
		}
	}
	s := &Service{
		config:       c,
		keys:         map[string]*key{},
		aliases:      map[string]*alias{},
		tokens:       map[token]*material{},
		falseHeaders: map[string]*material{},
	}
	s.operations = map[string]operation{
		"CreateKey":                       decode(s.createKey),
		"DescribeKey":                     decode(s.describeKey),
		"GetPublicKey":                    decode(s.getPublicKey),
		"EnableKey":                       decode(s.enableKey),
		"DisableKey":                      decode(s.disableKey),
		"ScheduleKeyDeletion":             decode(s.scheduleKeyDeletion),
		"CancelKeyDeletion":               decode(s.cancelKeyDeletion),
		"RotateKeyOnDemand":               decode(s.rotateKeyOnDemand),
		"ListKeyRotations":                decode(s.listKeyRotations),
		"EnableKeyRotation":               decode(s.enableKeyRotation),
		"GetKeyRotationStatus":            decode(s.getKeyRotationStatus),
		"GetKeyLastUsage":                 decode(s.getKeyLastUsage),
		"CreateGrant":                     decode(s.createGrant),
		"ListGrants":                      decode(s.listGrants),
		"RevokeGrant":                     decode(s.revokeGrant),
		"RetireGrant":                     decode(s.retireGrant),
		"CreateAlias":                     decode(s.createAlias),
		"UpdateAlias":                     decode(s.updateAlias),
		"DeleteAlias":                     decode(s.deleteAlias),
		"ListAliases":                     decode(s.listAliases),
		"Encrypt":                         decode(s.encrypt),
		"Decrypt":                         decode(s.decrypt),
		"GenerateDataKey":                 decode(s.generateDataKey),
		"GenerateDataKeyWithoutPlaintext": decode(s.generateDataKeyWithoutPlaintext),
		"ReEncrypt":                       decode(s.reEncrypt),
		"Sign":                            decode(s.sign),
	}
	return s
}

// request identifies the caller and the operation.
type request struct {
	operation string // "ReEncrypt"
	principal string // ARN
	id        string
	trace     *trace
}

// operation takes the JSON body of a request and returns the body of the response, nil for an
// empty body.
type operation func(r request, body []byte) (any, error)

// decode turns a function with a typed input into an operation.
func decode[In any](f func(request, In) (any, error)) operation {
	return func(r request, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, fail("SerializationException",
				"the body of the request is not the JSON of %s", r.operation)
		}
		return f(r, in)
	}
}

// Error is an error response.
type Error struct {
	Code    string // "NotFoundException"
	Message string
	status  int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// fail returns an Error with HTTP status 400.
func fail(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), status: http.StatusBadRequest}
}

// Operation implements fault.Service. An example is "kms:ReEncrypt".
func (s *Service) Operation(r *http.Request) string {
	return "kms:" + operationName(r)
}

// operationName returns the operation in the target header, such as "TrentService.ReEncrypt".
func operationName(r *http.Request) string {
	_, name, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return name
}

// Throttle implements fault.Service.
func (s *Service) Throttle(w http.ResponseWriter, _ *http.Request) {
	writeError(w, errThrottled())
}

// errThrottled has HTTP status 400, not 429 (CommonErrors, ThrottlingException).
func errThrottled() *Error {
	return fail("ThrottlingException",
		"the rate at which this account may call KMS is exceeded; call more slowly")
}

// Fail implements fault.Service.
func (s *Service) Fail(w http.ResponseWriter, _ *http.Request) {
	e := fail("KMSInternalException", "an internal failure; try the request again")
	e.status = http.StatusInternalServerError
	writeError(w, e)
}

// Refuse implements fault.Service.
func (s *Service) Refuse(w http.ResponseWriter, _ *http.Request, a fault.Answer) {
	writeError(w, &Error{Code: a.Code, Message: a.Message, status: a.Status})
}

// maxBody is larger than any valid request.
const maxBody = 1 << 20

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if w.Header().Get("X-Amzn-Requestid") == "" {
		w.Header().Set("X-Amzn-Requestid", newUUID())
	}
	name := operationName(r)
	run, ok := s.operations[name]
	if !ok {
		writeError(w,
			fail("UnknownOperationException", "the fake KMS does not know the operation %q", name))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeError(w, fail("SerializationException", "the body of the request cannot be read"))
		return
	}
	req := request{
		operation: name,
		principal: s.config.Principal(accessKeyID(r)),
		id:        w.Header().Get("X-Amzn-Requestid"),
		trace:     &trace{event: newUUID(), delay: &s.usage},
	}
	if name == "ReEncrypt" && !s.quota.take(accountOf(req.principal), time.Now()) {
		writeError(w, errThrottled())
		return
	}
	out, err := run(req, body)
	if s.config.Trail != nil {
		s.config.Trail(newEvent(r, req, body, err))
	}
	if err != nil {
		writeError(w, err)
		return
	}
	write(w, http.StatusOK, out)
}

// accessKeyID returns the access key id in the Authorization header. It does not check the
// signature.
func accessKeyID(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	return id
}

// accountOf returns the account of a principal's ARN.
func accountOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	return ""
}

// asError returns the error response for an error of an operation.
func asError(err error) *Error {
	if e, ok := err.(*Error); ok {
		return e
	}
	return &Error{
		Code:    "KMSInternalException",
		Message: err.Error(),
		status:  http.StatusInternalServerError,
	}
}

func writeError(w http.ResponseWriter, err error) {
	e := asError(err)
	write(w, e.status, map[string]string{"__type": e.Code, "message": e.Message})
}

func write(w http.ResponseWriter, status int, out any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	if out != nil {
		_ = json.NewEncoder(w).Encode(out) // an error means that the client disconnected
	}
}

// newUUID returns a random UUID, the form of key ids and request ids.
func newUUID() string {
	b := random(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// random returns n random bytes. It never fails.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
