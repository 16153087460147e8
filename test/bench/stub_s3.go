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

// s3 answers what S3 is asked, in path style.
func (s *stub) s3(r *http.Request, body []byte) answer {
	path := strings.TrimPrefix(r.URL.Path, "/"+place)
	query := r.URL.Query()
	query.Del("x-id") // the name of the operation, which some SDKs add
	if path == "" || path == "/" {
		return s.bucket(r, query)
	}
	key := strings.TrimPrefix(path, "/")
	switch {
	case query.Has("tagging"):
		s.count("GetObjectTagging")
		return inXML(http.StatusOK, `<Tagging><TagSet></TagSet></Tagging>`)
	case len(query) > 0:
		s.count(r.Method + " object?" + query.Encode())
		return inXML(http.StatusNotImplemented, `<Error><Code>NotImplemented</Code></Error>`)
	case r.Method == http.MethodDelete:
		s.count("DeleteObject")
		s.probes.remove(key)
		return answer{status: http.StatusNoContent}
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

func inXML(status int, body string) answer {
	return answer{status: status, body: []byte(body), headers: map[string]string{"Content-Type": "application/xml"}}
}

func preconditionFailed() answer {
	return inXML(http.StatusPreconditionFailed, `<Error><Code>PreconditionFailed</Code></Error>`)
}

// bucket answers what is asked about the bucket, and lists it.
func (s *stub) bucket(r *http.Request, query url.Values) answer {
	switch {
	case r.Method == http.MethodHead:
		s.count("HeadBucket")
		return answer{status: http.StatusOK}
	case query.Has("versioning"):
		s.count("GetBucketVersioning")
		return inXML(http.StatusOK, `<VersioningConfiguration></VersioningConfiguration>`)
	case query.Has("ownershipControls"):
		s.count("GetBucketOwnershipControls")
		return inXML(http.StatusOK, `<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>`)
	case query.Has("object-lock"):
		s.count("GetObjectLockConfiguration")
		return inXML(http.StatusNotFound, `<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>`)
	case query.Get("list-type") != "2":
		s.count(r.Method + " bucket?" + query.Encode())
		return inXML(http.StatusNotImplemented, `<Error><Code>NotImplemented</Code></Error>`)
	}
	s.count("ListObjectsV2")
	return s.list(query)
}

// list returns a page of the keys.
func (s *stub) list(query url.Values) answer {
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
	end := min(i+limit, len(s.vault.state))
	for ; i < end; i++ {
		fmt.Fprintf(&out, `<Contents><Key>%s</Key><Size>4000</Size><StorageClass>STANDARD</StorageClass></Contents>`, idOf(i))
	}
	fmt.Fprintf(&out, `<IsTruncated>%t</IsTruncated>`, end < len(s.vault.state))
	if end < len(s.vault.state) {
		fmt.Fprintf(&out, `<NextContinuationToken>%s</NextContinuationToken>`, idOf(end-1))
	}
	out.WriteString(`</ListBucketResult>`)
	return inXML(http.StatusOK, out.String())
}

// get returns an object; of HEAD the server sends the headers alone.
func (s *stub) get(key string) answer {
	i, ok := indexOf(key)
	if !ok || !s.vault.known(i) {
		return s.probes.get(key)
	}
	o := objectOf(s.store, s.vault.key(i), i)
	a := answer{status: http.StatusOK, body: o.body, headers: map[string]string{"Content-Type": o.contentType, "Etag": o.etag, "Last-Modified": o.modified}}
	for name, value := range o.metadata {
		a.set(metadataPrefix+name, value)
	}
	return a
}

// put replaces an object under the condition of its ETag, and checks every byte.
func (s *stub) put(key string, r *http.Request, body []byte) answer {
	i, ok := indexOf(key)
	if !ok || !s.vault.known(i) {
		return s.probes.put(key, r)
	}
	if strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		body = unchunked(body)
	}
	held := s.vault.key(i)
	if r.Header.Get("If-Match") != objectOf(s.store, held, i).etag {
		return preconditionFailed()
	}
	want := objectOf(s.store, destinationKey, i)
	if s.store != bodies || !bytes.Equal(body, want.body) || r.Header.Get("Content-Type") != want.contentType || !maps.Equal(metadataIn(r.Header), want.metadata) {
		s.vault.fault("object %s was written otherwise than with its new blob alone changed", key)
	}
	blob, _ := base64.StdEncoding.DecodeString(gjson.GetBytes(body, "secret").Str)
	if !s.vault.replace(i, blobOf(held, i), blob) {
		s.vault.fault("object %s was written as another had been", key)
	}
	return answer{status: http.StatusOK, headers: map[string]string{"Etag": want.etag}}
}

// copy replaces the metadata of an object by a copy onto itself, under the
// conditions of what is copied and, where it has one, of what is overwritten. All
// that a copy with new metadata drops has to be in the request.
func (s *stub) copy(key string, r *http.Request) answer {
	i, ok := indexOf(key)
	if !ok || !s.vault.known(i) {
		return s.probes.copy(key, r)
	}
	held := s.vault.key(i)
	want := objectOf(s.store, destinationKey, i)
	if !mayCopy(r.Header, want.etag, objectOf(s.store, held, i).modified) {
		return preconditionFailed()
	}
	if r.Header.Get(sourceMatch) == "" && r.Header.Get(sourceUnmodified) == "" {
		s.vault.fault("object %s was copied whatever it was", key)
	}
	if s.store != headers || !copies(r, key) || r.Header.Get("Content-Type") != want.contentType || !maps.Equal(metadataIn(r.Header), want.metadata) {
		s.vault.fault("object %s was copied otherwise than onto itself with its new blob alone changed", key)
	}
	blob, _ := base64.StdEncoding.DecodeString(metadataIn(r.Header)[wrappedKey])
	if !s.vault.replace(i, blobOf(held, i), blob) {
		s.vault.fault("object %s was copied as another had been", key)
	}
	return copied(want.etag)
}

// The conditions of what is copied.
const (
	sourceMatch      = "X-Amz-Copy-Source-If-Match"
	sourceUnmodified = "X-Amz-Copy-Source-If-Unmodified-Since"
)

// mayCopy holds the conditions of a copy against what the object has, source and
// target at once. That of the time counts where there is none of the ETag
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

// copies says that a request copies an object onto itself, with other metadata.
func copies(r *http.Request, key string) bool {
	source, err := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
	return err == nil && strings.TrimPrefix(source, "/") == place+"/"+key && r.Header.Get("X-Amz-Metadata-Directive") == "REPLACE"
}

func copied(etag string) answer {
	return inXML(http.StatusOK, fmt.Sprintf(`<CopyObjectResult><ETag>%s</ETag><LastModified>2026-03-02T10:05:00.000Z</LastModified></CopyObjectResult>`, etag))
}

// metadataPrefix is how S3 writes it.
const metadataPrefix = "x-amz-meta-"

// metadataIn is the user metadata of a request; nil when it has none.
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

// unchunked takes the content out of aws-chunked encoding, in which the SDK sends
// a checksum behind it.
func unchunked(body []byte) (content []byte) {
	for {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		line, _, _ = bytes.Cut(line, []byte(";")) // of what is signed
		size, err := strconv.ParseInt(string(line), 16, 32)
		if !ok || err != nil || size <= 0 || int(size) > len(rest) {
			return content
		}
		content = append(content, rest[:size]...)
		body = bytes.TrimPrefix(rest[size:], []byte("\r\n"))
	}
}
