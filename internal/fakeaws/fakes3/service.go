// Package fakes3 implements S3 in memory, with the REST protocol of the AWS SDKs and
// path-style addresses. It implements the operations that rotator, its tests and its demo
// use. The cases of package awsspec define its behaviour. It does not verify signatures and
// must never hold real data.
package fakes3

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"rotator/internal/fakeaws/fault"
)

// Config is the configuration of a Service.
type Config struct {
	Region, Account string
}

// Call is the input of a policy.
type Call struct {
	Action      string // the IAM name of the operation, such as "s3:PutObject"
	Bucket, Key string
	AccessKey   string // id of the caller's access key
}

// Service is a fake S3. It is safe for concurrent use.
type Service struct {
	config         Config
	received, sent atomic.Int64 // body bytes

	mu      sync.RWMutex
	buckets map[string]*bucket
	policy  func(Call) bool
}

// New creates a Service without buckets.
func New(c Config) *Service { return &Service{config: c, buckets: map[string]*bucket{}} }

// SetPolicy sets the permissions. A call for which allow returns false fails with
// AccessDenied. A nil allow permits every call.
func (s *Service) SetPolicy(allow func(Call) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = allow
}

// request is a request in progress.
type request struct {
	*http.Request
	bucket, key string
	query       url.Values
}

func newRequest(r *http.Request) request {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return request{Request: r, bucket: bucket, key: key, query: r.URL.Query()}
}

// Operation returns the IAM name of a request, such as "s3:PutObject".
func (s *Service) Operation(r *http.Request) string { return "s3:" + newRequest(r).operation() }

// operation returns the operation of a request, which depends on method, path, query and
// headers as described in the API reference.
func (r request) operation() string {
	switch {
	case r.bucket == "":
		return "ListBuckets"
	case r.key == "":
		return r.bucketOperation()
	}
	for _, sub := range []struct{ query, name string }{
		{"tagging", "ObjectTagging"},
		{"acl", "ObjectAcl"},
		{"retention", "ObjectRetention"},
		{"legal-hold", "ObjectLegalHold"},
	} {
		if r.query.Has(sub.query) {
			return map[string]string{
				"GET":    "Get",
				"PUT":    "Put",
				"DELETE": "Delete",
			}[r.Method] + sub.name
		}
	}
	copied, upload := r.Header.Get("X-Amz-Copy-Source") != "", r.query.Has("uploadId")
	switch r.Method {
	case "PUT":
		switch {
		case r.query.Has("encryption"):
			return "UpdateObjectEncryption"
		case upload && copied:
			return "UploadPartCopy"
		case upload:
			return "UploadPart"
		case copied:
			return "CopyObject"
		}
		return "PutObject"
	case "GET":
		if upload {
			return "ListParts"
		}
		return "GetObject"
	case "HEAD":
		return "HeadObject"
	case "DELETE":
		if upload {
			return "AbortMultipartUpload"
		}
		return "DeleteObject"
	case "POST":
		if r.query.Has("uploads") {
			return "CreateMultipartUpload"
		}
		if upload {
			return "CompleteMultipartUpload"
		}
	}
	return "Unknown"
}

func (r request) bucketOperation() string {
	for _, sub := range []struct{ query, name string }{
		{"versioning", "BucketVersioning"},
		{"ownershipControls", "BucketOwnershipControls"},
		{"lifecycle", lifecycleSetting().name},
		{"replication", replicationSetting().name},
		{"object-lock", lockSetting().name},
	} {
		if r.query.Has(sub.query) {
			return map[string]string{
				"GET":    "Get",
				"PUT":    "Put",
				"DELETE": "Delete",
			}[r.Method] + sub.name
		}
	}
	switch r.Method {
	case "PUT":
		return "CreateBucket"
	case "HEAD":
		return "HeadBucket"
	case "DELETE":
		return "DeleteBucket"
	case "GET":
		switch {
		case r.query.Has("versions"):
			return "ListObjectVersions"
		case r.query.Has("location"):
			return "GetBucketLocation"
		case r.query.Has("uploads"):
			return "ListMultipartUploads"
		case r.query.Get("list-type") == "2":
			return "ListObjectsV2"
		}
	}
	return "Unknown"
}

// operations returns the bucket and object operations that the service implements.
func (s *Service) operations() map[string]func(http.ResponseWriter, request, *bucket) error {
	return map[string]func(http.ResponseWriter, request, *bucket) error{
		"HeadBucket": s.headBucket, "DeleteBucket": s.deleteBucket, "GetBucketLocation": s.location,
		"GetBucketVersioning": getVersioning, "PutBucketVersioning": putVersioning,
		"GetBucketOwnershipControls": getOwnership, "PutBucketOwnershipControls": putOwnership,
		"ListObjectsV2":        listObjects,
		"ListObjectVersions":   listVersions,
		"ListMultipartUploads": listUploads,
		"PutObject":            putObject,
		"GetObject":            s.getObject,
		"HeadObject":           s.getObject,
		"DeleteObject":         deleteObject,
		"CopyObject":           s.copyObject,
		"GetObjectTagging":     getTagging,
		"PutObjectTagging":     putTagging,
		"DeleteObjectTagging":  putTagging,
		"GetObjectAcl":         s.getACL, "PutObjectAcl": putACL,
		"GetBucketLifecycleConfiguration":    lifecycleSetting().get,
		"PutBucketLifecycleConfiguration":    lifecycleSetting().put,
		"DeleteBucketLifecycleConfiguration": lifecycleSetting().remove,
		"GetBucketReplication":               replicationSetting().get,
		"PutBucketReplication":               replicationSetting().put,
		"DeleteBucketReplication":            replicationSetting().remove,
		"GetObjectLockConfiguration":         lockSetting().get,
		"PutObjectLockConfiguration":         lockSetting().put,
		"GetObjectRetention":                 getRetention, "PutObjectRetention": putRetention,
		"GetObjectLegalHold": getLegalHold, "PutObjectLegalHold": putLegalHold,
		"CreateMultipartUpload":   createUpload,
		"UploadPart":              uploadPart,
		"UploadPartCopy":          s.uploadPartCopy,
		"CompleteMultipartUpload": completeUpload,
		"AbortMultipartUpload":    abortUpload,
		"ListParts":               listParts,
	}
}

// ServeHTTP handles one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	hr.Body, w = counted{hr.Body, &s.received}, counter{w, &s.sent}
	r := newRequest(hr)
	if err := s.serve(w, r); err != nil {
		fail(w, hr, err)
	}
}

func (s *Service) serve(w http.ResponseWriter, r request) error {
	name := r.operation()
	if !s.allowed(r, name) {
		return &failure{http.StatusForbidden, "AccessDenied", "Access Denied"}
	}
	switch name {
	case "ListBuckets":
		return s.listBuckets(w)
	case "CreateBucket":
		return s.createBucket(w, r)
	}
	operation, ok := s.operations()[name]
	if !ok {
		return &failure{
			http.StatusNotImplemented,
			"NotImplemented",
			"this fake does not do " + r.Method + " " + r.URL.RawQuery,
		}
	}
	b, err := s.bucket(r.bucket)
	if err != nil {
		return err
	}
	return operation(w, r, b)
}

func (s *Service) allowed(r request, name string) bool {
	s.mu.RLock()
	allow := s.policy
	s.mu.RUnlock()
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	return allow == nil || allow(Call{
		Action:    "s3:" + name,
		Bucket:    r.bucket,
		Key:       r.key,
		AccessKey: id,
	})
}

func (s *Service) bucket(name string) (*bucket, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.buckets[name]
	if b == nil {
		return nil, &failure{
			http.StatusNotFound,
			"NoSuchBucket",
			"The specified bucket does not exist",
		}
	}
	return b, nil
}

// Throttle answers with 503 SlowDown.
func (s *Service) Throttle(w http.ResponseWriter, r *http.Request) {
	fail(w, r, &failure{
		http.StatusServiceUnavailable,
		"SlowDown",
		"Please reduce your request rate.",
	})
}

// Fail answers with HTTP 500.
func (s *Service) Fail(w http.ResponseWriter, r *http.Request) {
	fail(w, r, &failure{
		http.StatusInternalServerError,
		"InternalError",
		"We encountered an internal error. Please try again.",
	})
}

// Refuse answers with any other error.
func (s *Service) Refuse(w http.ResponseWriter, r *http.Request, a fault.Answer) {
	fail(w, r, &failure{a.Status, a.Code, a.Message})
}

// failure is an error response (Error responses).
type failure struct {
	status  int
	code    string
	message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

func errorf(status int, code, format string, args ...any) error {
	return &failure{status, code, fmt.Sprintf(format, args...)}
}

// fail writes an error response. Answers to HEAD and answers with status 304 have no body.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	f := (*failure)(nil)
	if !errors.As(err, &f) {
		f = &failure{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	if r.Method == http.MethodHead || f.status == http.StatusNotModified {
		w.WriteHeader(f.status)
		return
	}
	writeXML(w, f.status, struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
		StorageClass  string `xml:",omitempty"`
	}{Code: f.code, Message: f.message})
}

func writeXML(w http.ResponseWriter, status int, v any) {
	body, err := xml.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, xml.Header+string(body))
}

// ok writes an XML answer.
func ok(w http.ResponseWriter, v any) error {
	writeXML(w, http.StatusOK, v)
	return nil
}

// readXML decodes the XML body of a request.
func readXML(r request, v any) error {
	body, _, err := readBody(r)
	if err != nil {
		return err
	}
	if err := xml.Unmarshal(body, v); err != nil {
		return errorf(http.StatusBadRequest, "MalformedXML",
			"The XML you provided was not well-formed")
	}
	return nil
}
