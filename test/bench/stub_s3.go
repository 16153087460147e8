package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// s3 implements the operations of S3, in path style.
func (s *stub) s3(r *http.Request, body []byte) response {
	path := strings.TrimPrefix(r.URL.Path, "/"+resourceName)
	query := r.URL.Query()
	query.Del("x-id") // the name of the operation, which some SDKs add
	if path == "" || path == "/" {
		return s.bucket(r, query)
	}
	key := strings.TrimPrefix(path, "/")
	switch {
	case query.Has("tagging"):
		s.count("GetObjectTagging")
		return xmlResponse(http.StatusOK, `<Tagging><TagSet></TagSet></Tagging>`)
	case len(query) > 0:
		s.count(r.Method + " object?" + query.Encode())
		return xmlResponse(http.StatusNotImplemented, `<Error><Code>NotImplemented</Code></Error>`)
	case r.Method == http.MethodDelete:
		s.count("DeleteObject")
		s.probes.remove(key)
		return response{status: http.StatusNoContent}
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		s.count("CopyObject")
		return s.copy(key, r)
	case r.Method == http.MethodPut:
		s.count("PutObject")
		return s.put(key, r, body)
	}
	s.count(map[string]string{http.MethodGet: "GetObject", http.MethodHead: "HeadObject"}[r.Method])
	return s.get(key)
}

func xmlResponse(status int, body string) response {
	return response{
		status:  status,
		body:    []byte(body),
		headers: map[string]string{"Content-Type": "application/xml"},
	}
}

func preconditionFailed() response {
	return xmlResponse(http.StatusPreconditionFailed,
		`<Error><Code>PreconditionFailed</Code></Error>`)
}

// bucket implements the operations on the bucket, including its listing.
func (s *stub) bucket(r *http.Request, query url.Values) response {
	switch {
	case r.Method == http.MethodHead:
		s.count("HeadBucket")
		return response{status: http.StatusOK}
	case query.Has("versioning"):
		s.count("GetBucketVersioning")
		return xmlResponse(http.StatusOK, `<VersioningConfiguration></VersioningConfiguration>`)
	case query.Has("ownershipControls"):
		s.count("GetBucketOwnershipControls")
		return xmlResponse(http.StatusOK, `<OwnershipControls><Rule><ObjectOwnership>`+
			`BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>`)
	case query.Has("object-lock"):
		s.count("GetObjectLockConfiguration")
		const code = "ObjectLockConfigurationNotFoundError"
		return xmlResponse(http.StatusNotFound, `<Error><Code>`+code+`</Code></Error>`)
	case query.Get("list-type") != "2":
		s.count(r.Method + " bucket?" + query.Encode())
		return xmlResponse(http.StatusNotImplemented, `<Error><Code>NotImplemented</Code></Error>`)
	}
	s.count("ListObjectsV2")
	return s.list(query)
}

// list returns a page of the listing.
func (s *stub) list(query url.Values) response {
	limit := 1_000
	if n, err := strconv.Atoi(query.Get("max-keys")); err == nil {
		limit = n
	}
	i := 0
	after := query.Get("start-after")
	if token := query.Get("continuation-token"); token != "" {
		after = token
	}
	if last, ok := indexOf(after); ok {
		i = last + 1
	}
	var out bytes.Buffer
	out.WriteString(`<ListBucketResult><Name>bench</Name><EncodingType>url</EncodingType>`)
	end := min(i+limit, len(s.items.state))
	for ; i < end; i++ {
		fmt.Fprintf(&out, `<Contents><Key>%s</Key><Size>4000</Size>`+
			`<StorageClass>STANDARD</StorageClass></Contents>`, idOf(i))
	}
	fmt.Fprintf(&out, `<IsTruncated>%t</IsTruncated>`, end < len(s.items.state))
	if end < len(s.items.state) {
		fmt.Fprintf(&out, `<NextContinuationToken>%s</NextContinuationToken>`, idOf(end-1))
	}
	out.WriteString(`</ListBucketResult>`)
	return xmlResponse(http.StatusOK, out.String())
}

// get returns an object. In response to HEAD, the server sends only the headers.
func (s *stub) get(key string) response {
	i, ok := indexOf(key)
	if !ok || !s.items.known(i) {
		return s.probes.get(key)
	}
	o := objectOf(s.store, s.items.key(i), i)
	a := response{
		status: http.StatusOK,
		body:   o.body,
		headers: map[string]string{
			"Content-Type":  o.contentType,
			"Etag":          o.etag,
			"Last-Modified": o.modified,
		},
	}
	for name, value := range o.metadata {
		a.set(metadataPrefix+name, value)
	}
	return a
}

// put replaces an object on the condition of its ETag, and checks every byte.
func (s *stub) put(key string, r *http.Request, body []byte) response {
	i, ok := indexOf(key)
	if !ok || !s.items.known(i) {
		return s.probes.put(key, r)
	}
	if strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		body = unchunked(body)
	}
	held := s.items.key(i)
	if r.Header.Get("If-Match") != objectOf(s.store, held, i).etag {
		return preconditionFailed()
	}
	want := objectOf(s.store, destinationKey, i)
	if s.store != bodies || !bytes.Equal(body, want.body) || !want.describes(r.Header) {
		s.items.fault("object %s: the PUT changes more than its ciphertext", key)
	}
	blob, _ := base64.StdEncoding.DecodeString(gjson.GetBytes(body, "secret").Str)
	if !s.items.replace(i, blobOf(held, i), blob) {
		s.items.fault("object %s was written with the state of another object", key)
	}
	return response{status: http.StatusOK, headers: map[string]string{"Etag": want.etag}}
}

// copy replaces the metadata of an object by a copy onto itself, on the conditions of the source
// and, if there are any, of the target. The request must contain everything that a copy with new
// metadata would drop.
func (s *stub) copy(key string, r *http.Request) response {
	i, ok := indexOf(key)
	if !ok || !s.items.known(i) {
		return s.probes.copy(key, r)
	}
	held := s.items.key(i)
	want := objectOf(s.store, destinationKey, i)
	if !mayCopy(r.Header, want.etag, objectOf(s.store, held, i).modified) {
		return preconditionFailed()
	}
	if r.Header.Get(sourceMatch) == "" && r.Header.Get(sourceUnmodified) == "" {
		s.items.fault("object %s was copied without a condition", key)
	}
	if s.store != headers || !copies(r, key) || !want.describes(r.Header) {
		s.items.fault("object %s: the copy changes more than its ciphertext", key)
	}
	blob, _ := base64.StdEncoding.DecodeString(metadataIn(r.Header)[wrappedKey])
	if !s.items.replace(i, blobOf(held, i), blob) {
		s.items.fault("object %s was copied with the state of another object", key)
	}
	return copied(want.etag)
}

// describes reports whether a request has the content type and the metadata of the object.
func (o object) describes(header http.Header) bool {
	return header.Get("Content-Type") == o.contentType &&
		maps.Equal(metadataIn(header), o.metadata)
}

// The conditions on the source of a copy.
const (
	sourceMatch      = "X-Amz-Copy-Source-If-Match"
	sourceUnmodified = "X-Amz-Copy-Source-If-Unmodified-Since"
)

// mayCopy reports whether the conditions of a copy hold for the object, which is both source and
// target. The condition on the time applies only without one on the ETag of the source
// (API_CopyObject, x-amz-copy-source-if-match).
func mayCopy(header http.Header, etag, modified string) bool {
	if match := header.Get("If-Match"); match != "" && match != etag {
		return false
	}
	if match := header.Get(sourceMatch); match != "" {
		return match == etag
	}
	if header.Get(sourceUnmodified) == "" {
		return true
	}
	since, err := http.ParseTime(header.Get(sourceUnmodified))
	at, errAt := http.ParseTime(modified)
	return err == nil && errAt == nil && !at.After(since)
}

// copies reports whether a request copies an object onto itself with new metadata.
func copies(r *http.Request, key string) bool {
	source, err := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
	return err == nil && strings.TrimPrefix(source, "/") == resourceName+"/"+key &&
		r.Header.Get("X-Amz-Metadata-Directive") == "REPLACE"
}

func copied(etag string) response {
	return xmlResponse(http.StatusOK, fmt.Sprintf(`<CopyObjectResult><ETag>%s</ETag>`+
		`<LastModified>2026-03-02T10:05:00.000Z</LastModified></CopyObjectResult>`, etag))
}

// metadataPrefix is the prefix of the headers with user metadata.
const metadataPrefix = "x-amz-meta-"

// metadataIn returns the user metadata of a request, or nil.
func metadataIn(header http.Header) (metadata map[string]string) {
	for name, values := range header {
		if name, ok := strings.CutPrefix(strings.ToLower(name), metadataPrefix); ok {
			if metadata == nil {
				metadata = map[string]string{}
			}
			metadata[name] = strings.Join(values, ",")
		}
	}
	return metadata
}

// unchunked decodes aws-chunked encoding, in which the SDK sends a checksum after the content.
func unchunked(body []byte) (content []byte) {
	for {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		line, _, _ = bytes.Cut(line, []byte(";")) // without the chunk signature
		size, err := strconv.ParseInt(string(line), 16, 32)
		if !ok || err != nil || size <= 0 || int(size) > len(rest) {
			return content
		}
		content = append(content, rest[:size]...)
		body = bytes.TrimPrefix(rest[size:], []byte("\r\n"))
	}
}
