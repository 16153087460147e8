package fakes3

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// version is one version of an object. It is immutable and is replaced by a copy to change
// it, so readers need no lock.
type version struct {
	id       string // "null" in a bucket without versioning
	body     content
	etag     string // in quotes
	modified time.Time
	marker   bool // a delete marker
	// headers are the request headers that GET returns: content headers, user metadata,
	// storage class, redirect and encryption.
	headers  http.Header
	tags     url.Values
	grants   []grant
	checksum checksum
	parts    []int64 // sizes of the parts of a multipart upload; nil otherwise
	mode     string
	until    time.Time
	hold     string
}

// storedHeaders returns the names of the headers of a PUT that GET returns.
func storedHeaders() []string {
	return []string{
		"Content-Type",
		"Content-Encoding",
		"Content-Language",
		"Content-Disposition",
		"Cache-Control",
		"Expires",
		"X-Amz-Storage-Class",
		"X-Amz-Website-Redirect-Location",
		"X-Amz-Server-Side-Encryption",
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id",
		"X-Amz-Server-Side-Encryption-Bucket-Key-Enabled",
		"X-Amz-Server-Side-Encryption-Customer-Algorithm",
		"X-Amz-Server-Side-Encryption-Customer-Key-Md5",
	}
}

const (
	metaPrefix = "X-Amz-Meta-"
	sseHeader  = "X-Amz-Server-Side-Encryption"
	sseC       = "X-Amz-Server-Side-Encryption-Customer-Algorithm"
	sseCKey    = "X-Amz-Server-Side-Encryption-Customer-Key-Md5"
	class      = "X-Amz-Storage-Class"
)

// newVersion creates a version from the headers of a request.
func newVersion(r request) (*version, error) {
	v := &version{
		headers:  http.Header{},
		modified: time.Now().Truncate(time.Second),
		tags:     url.Values{},
	}
	for _, name := range storedHeaders() {
		if value := r.Header.Get(name); value != "" {
			v.headers.Set(name, value)
		}
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, metaPrefix) {
			v.headers[name] = values
		}
	}
	coding := strings.Trim(strings.ReplaceAll(v.headers.Get("Content-Encoding"), "aws-chunked",
		""), ", ")
	if v.headers.Set("Content-Encoding", coding); coding == "" {
		v.headers.Del("Content-Encoding")
	}
	if v.headers.Get("Content-Type") == "" {
		v.headers.Set("Content-Type", "binary/octet-stream")
	}
	if v.headers.Get(sseHeader+"-Bucket-Key-Enabled") == "false" {
		v.headers.Del(sseHeader + "-Bucket-Key-Enabled") // GET returns it only if true
	}
	if v.headers.Get(class) == "STANDARD" {
		v.headers.Del(class) // GET omits it (API_GetObject)
	}
	if v.headers.Get(sseHeader) == "" && v.headers.Get(sseC) == "" {
		v.headers.Set(sseHeader, "AES256") // default for all objects since 2023
	}
	var err error
	if text := r.Header.Get("X-Amz-Tagging"); text != "" {
		if v.tags, err = url.ParseQuery(text); err != nil || len(v.tags) > 10 {
			return nil, errorf(http.StatusBadRequest, "InvalidArgument",
				"The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "+
					"parameters without tag name duplicates.")
		}
	}
	v.mode = r.Header.Get("X-Amz-Object-Lock-Mode")
	v.hold = r.Header.Get("X-Amz-Object-Lock-Legal-Hold")
	if until := r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date"); until != "" {
		if v.until, err = time.Parse(time.RFC3339, until); err != nil {
			return nil, errorf(http.StatusBadRequest, "InvalidArgument",
				"The retain until date must be provided in ISO 8601 format")
		}
	}
	return v, nil
}

// fill sets the body. The ETag is the MD5 of the body, except for objects encrypted with a
// KMS or customer key, for which S3 does not specify it.
func (v *version) fill(body content, sum checksum) {
	v.body, v.checksum, v.parts = body, sum, nil
	v.etag = v.tagOf(body)
}

// tagOf returns the ETag of a body, or of a part of it.
func (v *version) tagOf(body content) string {
	digest := body.digest(md5.New())
	if strings.HasPrefix(v.headers.Get(sseHeader), "aws:kms") || v.headers.Get(sseC) != "" {
		_, _ = rand.Read(digest) // never fails
	}
	return strconv.Quote(hex.EncodeToString(digest))
}

// check refuses what the configuration of the bucket does not allow.
func (v *version) check(r request, b *bucket) error {
	if (v.mode != "" || v.hold != "") && !b.lock {
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"Bucket is missing ObjectLockConfiguration")
	}
	acl := r.Header.Get("X-Amz-Acl")
	granted := false
	for name := range r.Header {
		granted = granted || strings.HasPrefix(name, "X-Amz-Grant-")
	}
	if b.ownership == "BucketOwnerEnforced" &&
		(granted || acl != "" && acl != "bucket-owner-full-control") {
		return errorf(http.StatusBadRequest, "AccessControlListNotSupported",
			"The bucket does not allow ACLs")
	}
	v.grants = readGrants(r.Header)
	return nil
}

// newest returns the current version of a key, nil if there is none or it is a delete marker.
// It must be called with the lock held.
func (b *bucket) newest(key string) *version {
	versions := b.objects[key]
	if len(versions) == 0 || versions[len(versions)-1].marker {
		return nil
	}
	return versions[len(versions)-1]
}

// store adds a version. Without versioning, it replaces the version "null". It must be called
// with the lock held.
func (b *bucket) store(key string, v *version) {
	versions := b.objects[key]
	v.id = "null"
	if b.versioning == "Enabled" {
		b.count++
		v.id = fmt.Sprintf("%016x%s", b.count, rand.Text()[:16])
	} else {
		versions = slices.DeleteFunc(slices.Clone(versions), func(o *version) bool {
			return o.id == "null"
		})
	}
	if !v.marker {
		b.retention.of(v)
	}
	b.objects[key] = append(slices.Clip(versions), v)
}

func putObject(w http.ResponseWriter, r request, b *bucket) error {
	body, sum, err := readBody(r)
	if err != nil {
		return err
	}
	v, err := newVersion(r)
	if err != nil {
		return err
	}
	v.fill(bytesOf(body), sum)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := v.check(r, b); err != nil {
		return err
	}
	if err := writeConditions(r.Header, b.newest(r.key)); err != nil {
		return err
	}
	b.store(r.key, v)
	v.announce(w.Header(), b)
	w.WriteHeader(http.StatusOK)
	return nil
}

// announce sets the headers in the answer of a write.
func (v *version) announce(h http.Header, b *bucket) {
	h.Set("ETag", v.etag)
	if b.versioning != "" {
		h.Set("X-Amz-Version-Id", v.id)
	}
	for name, values := range v.headers {
		if strings.HasPrefix(name, sseHeader) {
			h[name] = values
		}
	}
	if v.checksum.algorithm != "" {
		h.Set("X-Amz-Checksum-"+v.checksum.algorithm, v.checksum.value)
		h.Set("X-Amz-Checksum-Type", v.checksum.kind())
	}
}

// find returns the version that a request names.
func find(r request, b *bucket, id string) (*version, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if id == "" {
		if v := b.newest(r.key); v != nil {
			return v, nil
		}
		return nil, errorf(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	}
	for _, v := range b.objects[r.key] {
		if v.id == id && v.marker {
			return nil, errorf(http.StatusMethodNotAllowed, "MethodNotAllowed",
				"The specified method is not allowed against this resource.")
		}
		if v.id == id {
			return v, nil
		}
	}
	return nil, errorf(http.StatusNotFound, "NoSuchVersion",
		"The specified version does not exist.")
}

// getObject serves GET and HEAD.
func (s *Service) getObject(w http.ResponseWriter, r request, b *bucket) error {
	v, err := find(r, b, r.query.Get("versionId"))
	if err != nil {
		return err
	}
	if err := v.readable(r); err != nil {
		return err
	}
	if err := readConditions(r.Header, v, ""); err != nil {
		return err
	}
	h := w.Header()
	maps.Copy(h, v.headers)
	v.announce(h, b)
	if r.Header.Get("X-Amz-Checksum-Mode") != "ENABLED" {
		h.Del("X-Amz-Checksum-" + v.checksum.algorithm)
		h.Del("X-Amz-Checksum-Type")
	}
	h.Set("Last-Modified", v.modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	s.showPermitted(h, r, v)
	return v.send(w, r)
}

// showPermitted sets the headers that S3 returns only to callers with the permission to read
// that information (API_GetObject).
func (s *Service) showPermitted(h http.Header, r request, v *version) {
	if len(v.tags) > 0 && s.allowed(r, "GetObjectTagging") {
		h.Set("X-Amz-Tagging-Count", strconv.Itoa(len(v.tags)))
	}
	if v.mode != "" && s.allowed(r, "GetObjectRetention") {
		h.Set("X-Amz-Object-Lock-Mode", v.mode)
		h.Set("X-Amz-Object-Lock-Retain-Until-Date", v.until.UTC().Format(time.RFC3339))
	}
	if v.hold != "" && s.allowed(r, "GetObjectLegalHold") {
		h.Set("X-Amz-Object-Lock-Legal-Hold", v.hold)
	}
}

// readable refuses archived objects, and objects encrypted with a customer key if the request
// does not have that key.
func (v *version) readable(r request) error {
	if v.headers.Get(sseC) != r.Header.Get(sseC) {
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"The object was stored using a form of Server Side Encryption. The correct "+
				"parameters must be provided to retrieve the object.")
	}
	if v.headers.Get(sseCKey) != r.Header.Get(sseCKey) {
		return errorf(http.StatusForbidden, "AccessDenied", "Access Denied")
	}
	if c := v.headers.Get(class); r.Method == http.MethodGet &&
		(c == "GLACIER" || c == "DEEP_ARCHIVE") {
		return errorf(http.StatusForbidden, "InvalidObjectState",
			"The operation is not valid for the object's storage class")
	}
	return nil
}

// send writes the body, or the range that the request asks for.
func (v *version) send(w http.ResponseWriter, r request) error {
	body, status := v.body, http.StatusOK
	text := r.Header.Get("Range")
	if number := r.query.Get("partNumber"); number != "" {
		first, end, err := v.part(number)
		if err != nil {
			return err
		}
		text = fmt.Sprintf("bytes=%d-%d", first, end-1)
		if len(v.parts) > 0 {
			w.Header().Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(v.parts)))
		}
	}
	if text != "" {
		first, end, err := byteRange(text, v.body.size())
		if err != nil {
			return err
		}
		body, status = v.body.cut(first, end), http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, end-1, v.body.size()))
		w.Header().Del("X-Amz-Checksum-" + v.checksum.algorithm)
	}
	w.Header().Set("Content-Length", strconv.FormatInt(body.size(), 10))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		body.write(w)
	}
	return nil
}

// part returns the range of a part of the object. An object that was not uploaded in parts
// has one part (API_GetObject, partNumber).
func (v *version) part(number string) (first, end int64, err error) {
	sizes := v.parts
	if len(sizes) == 0 {
		sizes = []int64{v.body.size()}
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(sizes) {
		return 0, 0, errorf(http.StatusRequestedRangeNotSatisfiable, "InvalidPartNumber",
			"The requested partnumber is not satisfiable")
	}
	for _, size := range sizes[:n-1] {
		first += size
	}
	return first, first + sizes[n-1], nil
}

// byteRange parses "bytes=a-b", "bytes=a-" or "bytes=-n".
func byteRange(text string, size int64) (first, end int64, err error) {
	from, to, found := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	first, errFirst := strconv.ParseInt(from, 10, 64)
	last, errLast := strconv.ParseInt(to, 10, 64)
	switch {
	case !found || errFirst != nil && errLast != nil:
		err = errorf(http.StatusBadRequest, "InvalidArgument", "The range is not well-formed")
	case errFirst != nil:
		first, end = max(0, size-last), size
	case errLast != nil:
		end = size
	default:
		end = min(last+1, size)
	}
	if err == nil && (first >= size || first >= end) {
		err = errorf(http.StatusRequestedRangeNotSatisfiable, "InvalidRange",
			"The requested range is not satisfiable")
	}
	return first, end, err
}

func deleteObject(w http.ResponseWriter, r request, b *bucket) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := r.query.Get("versionId")
	if match := r.Header.Get("If-Match"); match != "" {
		if err := writeConditions(r.Header, b.newest(r.key)); err != nil {
			return err
		}
	}
	switch {
	case id != "":
		for _, v := range b.objects[r.key] {
			if v.id == id && (v.hold == "ON" || v.until.After(time.Now())) {
				return errorf(http.StatusForbidden, "AccessDenied",
					"Access Denied because object protected by object lock.")
			}
		}
		b.remove(r.key, id)
		w.Header().Set("X-Amz-Version-Id", id)
	case b.versioning == "":
		b.remove(r.key, "null")
	default:
		marker := &version{marker: true, modified: time.Now().Truncate(time.Second)}
		b.store(r.key, marker)
		w.Header().Set("X-Amz-Delete-Marker", "true")
		w.Header().Set("X-Amz-Version-Id", marker.id)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// remove deletes one version permanently. It must be called with the lock held.
func (b *bucket) remove(key, id string) {
	left := slices.DeleteFunc(slices.Clone(b.objects[key]), func(v *version) bool {
		return v.id == id
	})
	if len(left) == 0 {
		delete(b.objects, key)
		return
	}
	b.objects[key] = left
}
