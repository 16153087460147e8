// Package fakedynamodb implements DynamoDB in memory, with the HTTP protocol of the AWS SDKs.
// It implements the operations that rotator, its tests and its demo use. The cases of package
// awsspec define its behaviour. It does not verify signatures and must never hold real data.
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

// Config is the configuration of a Service.
type Config struct {
	Region, Account string
}

// Call is the input of a policy.
type Call struct {
	Action    string // IAM name: "dynamodb:UpdateItem", "dynamodb:PartiQLUpdate"
	Table     string
	AccessKey string // id of the caller's access key
}

// Service is a fake DynamoDB. It is safe for concurrent use.
type Service struct {
	config Config

	mu     sync.RWMutex
	tables map[string]*table
	copies copies
	policy func(Call) bool
	isHot  func(table, key string) bool
}

// New creates a Service without tables.
func New(c Config) *Service { return &Service{config: c, tables: map[string]*table{}} }

// SetPolicy sets the permissions. A call for which allow returns false fails with
// AccessDeniedException. A nil allow permits every call.
func (s *Service) SetPolicy(allow func(Call) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = allow
}

// SetHot simulates ranges of keys that receive more writes than a partition can serve. An
// update of an item is throttled with that reason if hot returns true for the table and the
// canonical text of the item's key. hot may run concurrently.
func (s *Service) SetHot(hot func(table, key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isHot = hot
}

// throttlingReason is an element of ThrottlingReasons (API_ThrottlingReason).
type throttlingReason struct {
	Reason   string `json:"reason"`
	Resource string `json:"resource"`
}

// throttleHot returns a throttling error for an update of a hot item.
func (s *Service) throttleHot(t *table, key item) error {
	s.mu.RLock()
	hot := s.isHot
	s.mu.RUnlock()
	if hot == nil {
		return nil
	}
	if id, _ := t.id(key); !hot(t.name, id) {
		return nil
	}
	return &failure{
		code:    "ProvisionedThroughputExceededException",
		message: "The level of configured provisioned throughput for the table was exceeded.",
		throttling: []throttlingReason{
			{Reason: "TableWriteKeyRangeThroughputExceeded", Resource: s.arn(t.name)},
		},
	}
}

const target = "DynamoDB_20120810."

// IsHealth reports whether a request is a health check, which is not signed and has no
// target. The ListBuckets request of S3 has the same form, but is signed.
func IsHealth(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" && r.URL.RawQuery == "" &&
		r.Header.Get("Authorization") == ""
}

// Operation returns the IAM name of a request, such as "dynamodb:Scan". The name of a health
// check is "dynamodb:Health".
func (s *Service) Operation(r *http.Request) string {
	if IsHealth(r) {
		return "dynamodb:Health"
	}
	return "dynamodb:" + strings.TrimPrefix(r.Header.Get("X-Amz-Target"), target)
}

// Throttle answers as a table does whose capacity is used up.
func (s *Service) Throttle(w http.ResponseWriter, _ *http.Request) {
	answer(w, nil, &failure{
		code:    "ProvisionedThroughputExceededException",
		message: "The level of configured provisioned throughput for the table was exceeded.",
	})
}

// Fail answers with HTTP 500.
func (s *Service) Fail(w http.ResponseWriter, _ *http.Request) {
	answer(w, nil, &failure{code: "InternalServerError", message: "Internal server error"})
}

// Refuse answers with any other error.
func (s *Service) Refuse(w http.ResponseWriter, _ *http.Request, a fault.Answer) {
	answer(w, nil, &failure{code: a.Code, message: a.Message, status: a.Status})
}

// request is a request in progress.
type request struct {
	accessKey string
	body      []byte
}

func (r request) into(v any) error {
	if err := json.Unmarshal(r.body, v); err != nil {
		if f := (*failure)(nil); errors.As(err, &f) {
			return f
		}
		return &failure{
			code:    "SerializationException",
			message: "the request does not fit the operation",
		}
	}
	return nil
}

// operations returns the operations that the service implements.
func (s *Service) operations() map[string]func(request) (any, error) {
	return map[string]func(request) (any, error){
		"CreateTable":           s.createTable,
		"DescribeTable":         s.describeTable,
		"DeleteTable":           s.deleteTable,
		"ListTables":            s.listTables,
		"PutItem":               s.putItem,
		"GetItem":               s.getItem,
		"UpdateItem":            s.updateItem,
		"DeleteItem":            s.deleteItem,
		"Scan":                  s.scan,
		"Query":                 s.query,
		"BatchExecuteStatement": s.batchExecuteStatement,
		"ExecuteStatement":      s.executeStatement,
		"TransactWriteItems":    s.transactWriteItems,
		"BatchWriteItem":        s.batchWriteItem,

		"UpdateTable":                         s.updateTable,
		"DescribeContinuousBackups":           s.describeContinuousBackups,
		"UpdateContinuousBackups":             s.updateContinuousBackups,
		"CreateBackup":                        s.createBackup,
		"ListBackups":                         s.listBackups,
		"DeleteBackup":                        s.deleteBackup,
		"ExportTableToPointInTime":            s.exportTable,
		"ListExports":                         s.listExports,
		"DescribeExport":                      s.describeExport,
		"EnableKinesisStreamingDestination":   s.enableKinesis,
		"DisableKinesisStreamingDestination":  s.disableKinesis,
		"DescribeKinesisStreamingDestination": s.describeKinesis,
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
		answer(w, nil, &failure{
			code:    "UnknownOperationException",
			message: "this fake does not do " + name,
		})
		return
	}
	result, err := operation(request{accessKey: accessKey(r), body: body})
	answer(w, result, err)
}

// accessKey returns the access key id in the Authorization header.
func accessKey(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	return id
}

// answer writes a result or an error in the form that the SDKs decode.
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
		content := map[string]any{
			"__type":  "com.amazonaws.dynamodb.v20120810#" + f.code,
			"message": f.message,
			"Message": f.message,
		}
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

// table returns a table after it authorizes the action of the caller.
func (s *Service) table(r request, action, name string) (*table, error) {
	name = name[strings.LastIndexByte(name, '/')+1:] // the name may be an ARN
	s.mu.RLock()
	t, allow := s.tables[name], s.policy
	s.mu.RUnlock()
	if allow != nil && !allow(Call{Action: action, Table: name, AccessKey: r.accessKey}) {
		return nil, &failure{
			code: "AccessDeniedException",
			message: fmt.Sprintf("User is not authorized to perform: %s on resource: %s", action,
				s.arn(name)),
		}
	}
	if t == nil {
		return nil, &failure{
			code:    "ResourceNotFoundException",
			message: "Requested resource not found: Table: " + name + " not found",
		}
	}
	return t, nil
}

func (s *Service) arn(name string) string {
	return fmt.Sprintf("arn:aws:dynamodb:%s:%s:table/%s", s.config.Region, s.config.Account, name)
}

// capacity is the element ConsumedCapacity.
type capacity struct {
	TableName     string
	CapacityUnits float64
}

// consumed returns the capacity if the request asks for it, otherwise nil.
func consumed(ask, table string, units float64) *capacity {
	if ask != "TOTAL" && ask != "INDEXES" {
		return nil
	}
	return &capacity{TableName: table, CapacityUnits: units}
}

// writeUnits and readUnits return the capacity units that items consume (Capacity unit
// consumption).
func writeUnits(items ...item) float64 {
	maxMembers := 1
	for _, i := range items {
		maxMembers = max(maxMembers, (i.size()+1023)/1024)
	}
	return float64(maxMembers)
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
