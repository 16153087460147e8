package fakes3

import (
	"encoding/base64"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// listing has the parameters of both list operations.
type listing struct {
	prefix, delimiter string
	maxKeys           int
	encode            bool
}

func newListing(r request) listing {
	l := listing{
		prefix:    r.query.Get("prefix"),
		delimiter: r.query.Get("delimiter"),
		maxKeys:   1000,
		encode:    r.query.Get("encoding-type") == "url",
	}
	if n, err := strconv.Atoi(r.query.Get("max-keys")); err == nil {
		l.maxKeys = min(n, 1000)
	}
	return l
}

// text returns a key in the encoding that the request asks for. XML cannot represent every
// character.
func (l listing) text(key string) string {
	if l.encode {
		return strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")
	}
	return key
}

func (l listing) encoding() string {
	if l.encode {
		return "url"
	}
	return ""
}

// common returns the common prefix that stands for the key in the list, "" if there is none.
func (l listing) common(key string) string {
	if l.delimiter == "" {
		return ""
	}
	head, _, found := strings.Cut(key[len(l.prefix):], l.delimiter)
	if !found {
		return ""
	}
	return l.prefix + head + l.delimiter
}

type prefixXML struct{ Prefix string }

type objectXML struct {
	Key, LastModified, ETag string
	Size                    int64
	StorageClass            string
}

func (v *version) storageClass() string {
	if c := v.headers.Get(class); c != "" {
		return c
	}
	return "STANDARD"
}

// listXML is the response of API_ListObjectsV2.
type listXML struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name, Prefix          string
	Delimiter             string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	StartAfter            string `xml:",omitempty"`
	KeyCount, MaxKeys     int
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []objectXML
	CommonPrefixes        []prefixXML
}

// listObjects is API_ListObjectsV2. The order is that of the bytes of the keys.
func listObjects(w http.ResponseWriter, r request, b *bucket) error {
	l := newListing(r)
	after := r.query.Get("start-after")
	if token := r.query.Get("continuation-token"); token != "" {
		text, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return errorf(http.StatusBadRequest, "InvalidArgument",
				"The continuation token provided is incorrect")
		}
		after = string(text)
	}
	out := listXML{
		Name:         b.name,
		Prefix:       l.text(l.prefix),
		Delimiter:    l.text(l.delimiter),
		EncodingType: l.encoding(),
		StartAfter:   l.text(r.query.Get("start-after")),
		MaxKeys:      l.maxKeys,
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	last := after
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		v := b.newest(key)
		if v == nil || !strings.HasPrefix(key, l.prefix) || key <= after {
			continue
		}
		common := l.common(key)
		if common != "" &&
			(strings.HasPrefix(last, common) && last != "" || common <= after &&
				strings.HasPrefix(after, common)) {
			continue // its common prefix is already listed
		}
		if out.KeyCount == l.maxKeys {
			out.IsTruncated = true
			out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(last))
			break
		}
		out.KeyCount++
		if common != "" {
			out.CommonPrefixes = append(out.CommonPrefixes, prefixXML{l.text(common)})
			last = common + "\U0010FFFF" // greater than all keys with the prefix
			continue
		}
		last = key
		out.Contents = append(out.Contents, objectXML{
			l.text(key),
			stamp(v.modified),
			v.etag,
			v.body.size(),
			v.storageClass(),
		})
	}
	return ok(w, out)
}

type versionXML struct {
	Key, VersionId, LastModified string
	ETag                         string `xml:",omitempty"`
	Size                         int64
	StorageClass                 string `xml:",omitempty"`
	IsLatest                     bool
}

// listVersions is API_ListObjectVersions, ordered by key, then newest first.
func listVersions(w http.ResponseWriter, r request, b *bucket) error {
	l := newListing(r)
	marker, versionMarker := r.query.Get("key-marker"), r.query.Get("version-id-marker")
	out := struct {
		XMLName             xml.Name `xml:"ListVersionsResult"`
		Name, Prefix        string
		EncodingType        string `xml:",omitempty"`
		MaxKeys             int
		IsTruncated         bool
		NextKeyMarker       string       `xml:",omitempty"`
		NextVersionIdMarker string       `xml:",omitempty"`
		Version             []versionXML `xml:"Version"`
		DeleteMarker        []versionXML `xml:"DeleteMarker"`
	}{Name: b.name, Prefix: l.text(l.prefix), EncodingType: l.encoding(), MaxKeys: l.maxKeys}
	b.mu.RLock()
	defer b.mu.RUnlock()
	n := 0
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		if !strings.HasPrefix(key, l.prefix) || key < marker || key == marker &&
			versionMarker == "" {
			continue
		}
		versions := slices.Clone(b.objects[key])
		slices.Reverse(versions)
		skip := key == marker
		for i, v := range versions {
			if skip {
				skip = v.id != versionMarker
				continue
			}
			if n == l.maxKeys {
				out.IsTruncated = true
				return ok(w, out)
			}
			n++
			out.NextKeyMarker, out.NextVersionIdMarker = l.text(key), v.id
			entry := versionXML{
				Key:          l.text(key),
				VersionId:    v.id,
				LastModified: stamp(v.modified),
				IsLatest:     i == 0,
			}
			if v.marker {
				out.DeleteMarker = append(out.DeleteMarker, entry)
				continue
			}
			entry.ETag, entry.Size, entry.StorageClass = v.etag, v.body.size(), v.storageClass()
			out.Version = append(out.Version, entry)
		}
	}
	out.NextKeyMarker, out.NextVersionIdMarker = "", ""
	return ok(w, out)
}
