package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// s3 answers what S3 is asked, in path style.
func (s *stub) s3(r *http.Request, body []byte) answer {
	path := strings.TrimPrefix(r.URL.Path, "/"+place)
	query := r.URL.Query()
	switch {
	case path == "" || path == "/":
		return s.bucket(r, query.Has("versioning"), query.Has("ownershipControls"))
	case query.Has("tagging"):
		s.count("GetObjectTagging")
		return inXML(http.StatusOK, `<Tagging><TagSet></TagSet></Tagging>`)
	case len(query) > 0 && query.Get("x-id") == "":
		s.count("GetObject?" + r.URL.RawQuery)
		return inXML(http.StatusNotImplemented, `<Error><Code>NotImplemented</Code></Error>`)
	case r.Method == http.MethodPut:
		s.count("PutObject")
		return s.put(strings.TrimPrefix(path, "/"), r, body)
	case r.Method == http.MethodDelete:
		s.count("DeleteObject")
		return answer{status: http.StatusNoContent}
	}
	s.count(map[string]string{http.MethodGet: "GetObject", http.MethodHead: "HeadObject"}[r.Method])
	i, ok := indexOf(strings.TrimPrefix(path, "/"))
	if !ok || !s.vault.known(i) {
		return inXML(http.StatusNotFound, `<Error><Code>NoSuchKey</Code></Error>`)
	}
	key := s.vault.key(i)
	return answer{status: http.StatusOK, body: objectOf(key, i), headers: map[string]string{"Content-Type": "application/json",
		"Etag": etagOf(key, i), "Last-Modified": "Mon, 02 Mar 2026 10:00:00 GMT"}}
}

func inXML(status int, body string) answer {
	return answer{status: status, body: []byte(body), headers: map[string]string{"Content-Type": "application/xml"}}
}

// etagOf stands for the MD5 of an object.
func etagOf(key string, i int) string { return `"` + hex.EncodeToString(blobOf(key, i)[100:116]) + `"` }

const probeETag = `"0123456789abcdef0123456789abcdef"`

// bucket answers what is asked about the bucket, and lists it.
func (s *stub) bucket(r *http.Request, versioning, ownership bool) answer {
	switch {
	case r.Method == http.MethodHead:
		s.count("HeadBucket")
		return answer{status: http.StatusOK}
	case versioning:
		s.count("GetBucketVersioning")
		return inXML(http.StatusOK, `<VersioningConfiguration></VersioningConfiguration>`)
	case ownership:
		s.count("GetBucketOwnershipControls")
		return inXML(http.StatusOK, `<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>`)
	}
	s.count("ListObjectsV2")
	query := r.URL.Query()
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

// put replaces an object under the condition of its ETag, and checks every byte.
func (s *stub) put(name string, r *http.Request, body []byte) answer {
	i, ok := indexOf(name)
	if !ok || !s.vault.known(i) { // a probe of conditional writes, by another name
		if match := r.Header.Get("If-Match"); match != "" && match != probeETag {
			return inXML(http.StatusPreconditionFailed, `<Error><Code>PreconditionFailed</Code></Error>`)
		}
		return answer{status: http.StatusOK, headers: map[string]string{"Etag": probeETag}}
	}
	if strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		body = unchunked(body)
	}
	key := s.vault.key(i)
	if r.Header.Get("If-Match") != etagOf(key, i) {
		return inXML(http.StatusPreconditionFailed, `<Error><Code>PreconditionFailed</Code></Error>`)
	}
	if !bytes.Equal(body, objectOf(destinationKey, i)) || r.Header.Get("Content-Type") != "application/json" {
		s.vault.fault("object %s was written otherwise than with its new blob alone changed", name)
	}
	blob, _ := base64.StdEncoding.DecodeString(gjson.GetBytes(body, "secret").Str)
	if !s.vault.replace(i, blobOf(key, i), blob) {
		s.vault.fault("object %s was written as another had been", name)
	}
	return answer{status: http.StatusOK, headers: map[string]string{"Etag": etagOf(destinationKey, i)}}
}

// unchunked takes the content out of aws-chunked encoding, in which the SDK sends
// a checksum behind it.
func unchunked(body []byte) (content []byte) {
	for {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		size, err := strconv.ParseInt(string(line), 16, 32)
		if !ok || err != nil || size == 0 || int(size) > len(rest) {
			return content
		}
		content = append(content, rest[:size]...)
		body = bytes.TrimPrefix(rest[size:], []byte("\r\n"))
	}
}
