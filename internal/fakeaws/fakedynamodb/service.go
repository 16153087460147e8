// Package fakedynamodb is a DynamoDB in memory, behind the HTTP protocol that the
// AWS SDKs speak. It implements what rotator, its tests and its demo use, with
// the answers of the service; what it does is pinned by the cases of package
// conformance. It checks no signatures and must never hold real data.
package fakedynamodb

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"rotator/internal/fakeaws/fault"
)

// Config says whose tables these are.
type Config struct {
	Region, Account string
}

// Call is what a policy decides about.
type Call struct {
	Action    string // as IAM writes it: "dynamodb:UpdateItem", "dynamodb:PartiQLUpdate"
	Table     string
	AccessKey string // id of the caller's access key
}

// Service is the fake. It is safe for concurrent use.
type Service struct {
	config Config

	mu     sync.RWMutex
	tables map[string]*table
	policy func(Call) bool
	hot    func(table, key string) bool
}

// New makes a Service without tables.
func New(c Config) *Service { return &Service{config: c, tables: map[string]*table{}} }

// SetPolicy sets the permissions. A call for which allow returns false fails with
// AccessDeniedException. A nil allow permits every call.
func (s *Service) SetPolicy(allow func(Call) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = allow
}

// SetHot sets which items are in a range of keys that gets more writes than a
// partition can take: where hot is true, of the table and the canonical text of the
// item's key, an update is throttled with that reason. It may run concurrently.
func (s *Service) SetHot(hot func(table, key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hot = hot
}

// throttlingReason is one of ThrottlingReasons (API_ThrottlingReason).
type throttlingReason struct {
	Reason   string `json:"reason"`
	Resource string `json:"resource"`
}

// cool throttles an update of a hot item.
func (s *Service) cool(t *table, key item) error {
	s.mu.RLock()
	hot := s.hot
	s.mu.RUnlock()
	if hot == nil {
		return nil
	}
	if id, _ := t.id(key); !hot(t.name, id) {
		return nil
	}
	return &failure{code: "ProvisionedThroughputExceededException", message: "The level of configured provisioned throughput for the table was exceeded.",
		throttling: []throttlingReason{{Reason: "TableWriteKeyRangeThroughputExceeded", Resource: s.arn(t.name)}}}
}

const target = "DynamoDB_20120810."

// IsHealth reports whether a request is a health check, which is not signed and has no
// target. The ListBuckets request of S3 has the same form, but is signed.
func IsHealth(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" && r.URL.RawQuery == "" &&
		r.Header.Get("Authorization") == ""
}

// Operation names a request: "dynamodb:Scan". A health check is "dynamodb:Health".
func (s *Service) Operation(r *http.Request) string {
	if IsHealth(r) {
		return "dynamodb:Health"
	}
	return "dynamodb:" + strings.TrimPrefix(r.Header.Get("X-Amz-Target"), target)
}

// Throttle answers as a table whose capacity is used up.
func (s *Service) Throttle(w http.ResponseWriter, _ *http.Request) {
	answer(w, nil, &failure{code: "ProvisionedThroughputExceededException", message: "The level of configured provisioned throughput for the table was exceeded."})
}

// Fail answers HTTP 500.
func (s *Service) Fail(w http.ResponseWriter, _ *http.Request) {
	answer(w, nil, &failure{code: "InternalServerError", message: "Internal server error"})
}

// Refuse answers with any other error.
func (s *Service) Refuse(w http.ResponseWriter, _ *http.Request, a fault.Answer) {
	answer(w, nil, &failure{code: a.Code, message: a.Message, status: a.Status})
}

// request is one call under way.
type request struct {
	accessKey string
	body      []byte
}

func (r request) into(v any) error {
	if err := json.Unmarshal(r.body, v); err != nil {
		if f := (*failure)(nil); errors.As(err, &f) {
			return f
		}
		return &failure{code: "SerializationException", message: "the request does not fit the operation"}
	}
	return nil
}

// operations is the explicit list of what this service does.
func (s *Service) operations() map[string]func(request) (any, error) {
	return map[string]func(request) (any, error){
		"CreateTable": s.createTable, "DescribeTable": s.describeTable, "DeleteTable": s.deleteTable, "ListTables": s.listTables,
		"PutItem": s.putItem, "GetItem": s.getItem, "UpdateItem": s.updateItem, "DeleteItem": s.deleteItem,
		"Scan": s.scan, "Query": s.query, "BatchExecuteStatement": s.batchExecuteStatement, "ExecuteStatement": s.executeStatement,
		"TransactWriteItems": s.transactWriteItems, "BatchWriteItem": s.batchWriteItem,
	}
}

// ServeHTTP handles one request of the awsJson1_0 protocol, or a health check.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if IsHealth(r) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = fmt.Fprintf(w, "healthy: dynamodb.%s.amazonaws.com ", s.config.Region)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	name := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), target)
	operation, ok := s.operations()[name]
	if !ok {
		answer(w, nil, &failure{code: "UnknownOperationException", message: "this fake does not do " + name})
		return
	}
	result, err := operation(request{accessKey: accessKey(r), body: body})
	answer(w, result, err)
}

// accessKey is the id in the Authorization header.
func accessKey(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	return id
}

// answer writes a result, or an error as the SDKs decode it.
func answer(w http.ResponseWriter, result any, err error) {
	status := http.StatusOK
	if err != nil {
		status = http.StatusBadRequest
		f := (*failure)(nil)
		if !errors.As(err, &f) {
			f = &failure{code: "InternalServerError", message: err.Error()}
		}
		if f.code == "InternalServerError" {
			status = http.StatusInternalServerError
		}
		status = cmp.Or(f.status, status)
		content := map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + f.code, "message": f.message, "Message": f.message}
		if f.item != nil {
			content["Item"] = f.item
		}
		if f.reasons != nil {
			content["CancellationReasons"] = f.reasons
		}
		if f.throttling != nil {
			content["ThrottlingReasons"] = f.throttling
		}
		result = content
	}
	body, err := json.Marshal(result)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// table returns a table that the caller may use for action.
func (s *Service) table(r request, action, name string) (*table, error) {
	name = name[strings.LastIndexByte(name, '/')+1:] // an ARN will do
	s.mu.RLock()
	t, allow := s.tables[name], s.policy
	s.mu.RUnlock()
	if allow != nil && !allow(Call{Action: action, Table: name, AccessKey: r.accessKey}) {
		return nil, &failure{code: "AccessDeniedException", message: fmt.Sprintf("User is not authorized to perform: %s on resource: %s", action, s.arn(name))}
	}
	if t == nil {
		return nil, &failure{code: "ResourceNotFoundException", message: "Requested resource not found: Table: " + name + " not found"}
	}
	return t, nil
}

func (s *Service) arn(name string) string {
	return fmt.Sprintf("arn:aws:dynamodb:%s:%s:table/%s", s.config.Region, s.config.Account, name)
}

// capacity is ConsumedCapacity.
type capacity struct {
	TableName     string
	CapacityUnits float64
}

// consumed reports units, where the request asked for it.
func consumed(ask, table string, units float64) *capacity {
	if ask != "TOTAL" && ask != "INDEXES" {
		return nil
	}
	return &capacity{TableName: table, CapacityUnits: units}
}

// writeUnits and readUnits are what an item costs (Capacity unit consumption).
func writeUnits(items ...item) float64 {
	most := 1
	for _, i := range items {
		most = max(most, (i.size()+1023)/1024)
	}
	return float64(most)
}

func readUnits(size int, consistent bool) float64 {
	units := float64(max(1, (size+4095)/4096))
	if !consistent {
		units /= 2
	}
	return units
}

func (s *Service) listTables(request) (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return map[string]any{"TableNames": slices.Sorted(maps.Keys(s.tables))}, nil
}
