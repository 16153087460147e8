package fakes3

import (
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// source returns the version that X-Amz-Copy-Source names, after it checks the conditions on
// it.
func (s *Service) source(r request) (*version, request, error) {
	name, query, _ := strings.Cut(r.Header.Get("X-Amz-Copy-Source"), "?")
	path, err := url.PathUnescape(strings.TrimPrefix(name, "/"))
	if err != nil {
		return nil, r, errorf(http.StatusBadRequest, "InvalidArgument",
			"Copy Source must be URL-encoded")
	}
	from := r
	from.bucket, from.key, _ = strings.Cut(path, "/")
	b, err := s.bucket(from.bucket)
	if err != nil {
		return nil, r, err
	}
	values, _ := url.ParseQuery(query)
	v, err := find(from, b, values.Get("versionId"))
	if err != nil {
		return nil, r, err
	}
	if c := v.headers.Get(class); c == "GLACIER" || c == "DEEP_ARCHIVE" {
		return nil, r, errorf(http.StatusForbidden, "ObjectNotInActiveTierError",
			"The source object of the COPY action is not in the active tier")
	}
	return v, from, readConditions(r.Header, v, "X-Amz-Copy-Source-")
}

// maxCopy is the maximum number of bytes that one request copies (API_CopyObject,
// API_UploadPartCopy).
const maxCopy = 5 << 30

// copyObject is API_CopyObject. The copy has one part, regardless of the parts of the source.
// With the directive COPY, the default, it has the metadata and tags of the source. ACL,
// storage class, redirect and lock are never copied.
func (s *Service) copyObject(w http.ResponseWriter, r request, b *bucket) error {
	from, at, err := s.source(r)
	if err != nil {
		return err
	}
	v, err := newVersion(r)
	if err != nil {
		return err
	}
	replace := r.Header.Get("X-Amz-Metadata-Directive") == "REPLACE"
	if !replace {
		inherit(v, from)
	}
	if r.Header.Get("X-Amz-Tagging-Directive") != "REPLACE" {
		v.tags = maps.Clone(from.tags)
	}
	changes := replace || r.Header.Get(class) != "" || r.Header.Get(sseHeader) != "" ||
		r.Header.Get("X-Amz-Website-Redirect-Location") != ""
	if at.bucket == r.bucket && at.key == r.key && !changes &&
		!strings.Contains(r.Header.Get("X-Amz-Copy-Source"), "versionId=") {
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"This copy request is illegal because it is trying to copy an object to itself "+
				"without changing the object's metadata, storage class, website redirect "+
				"location or encryption attributes.")
	}
	if from.body.size() > maxCopy {
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"The specified copy source is larger than the maximum allowable size for a copy "+
				"source: 5368709120")
	}
	algorithm := from.checksum.algorithm
	asked := strings.ToLower(r.Header.Get("X-Amz-Checksum-Algorithm"))
	if algorithms()[asked] != nil {
		algorithm = asked
	}
	v.fill(from.body, checksum{algorithm: algorithm, value: from.body.checksum(algorithm)})
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
	return ok(w, struct {
		XMLName            xml.Name `xml:"CopyObjectResult"`
		ETag, LastModified string
	}{ETag: v.etag, LastModified: stamp(v.modified)})
}

// inherit copies content headers and user metadata from the source.
func inherit(v, from *version) {
	for name := range v.headers {
		if strings.HasPrefix(name, metaPrefix) || inherited(name) {
			v.headers.Del(name)
		}
	}
	for name, values := range from.headers {
		if strings.HasPrefix(name, metaPrefix) || inherited(name) {
			v.headers[name] = values
		}
	}
}

func inherited(name string) bool {
	switch name {
	case "Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition",
		"Cache-Control", "Expires":
		return true
	}
	return false
}
