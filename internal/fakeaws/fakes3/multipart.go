package fakes3

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// minPart is the least bytes of every part but the last (Multipart upload limits).
const minPart = 5 << 20

// upload is a multipart upload under way.
type upload struct {
	key     string
	version *version
	parts   map[int]part
}

type part struct {
	body []byte
	etag string
}

func createUpload(w http.ResponseWriter, r request, b *bucket) error {
	v, err := newVersion(r)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := v.check(r, b); err != nil {
		return err
	}
	b.count++
	id := fmt.Sprintf("upload-%d", b.count)
	b.uploads[id] = &upload{key: r.key, version: v, parts: map[int]part{}}
	return ok(w, struct {
		XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket, Key, UploadId string
	}{Bucket: b.name, Key: r.key, UploadId: id})
}

// upload returns the upload of a request; the caller holds the lock.
func (b *bucket) upload(r request) (*upload, error) {
	u := b.uploads[r.query.Get("uploadId")]
	if u == nil || u.key != r.key {
		return nil, errorf(http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
	}
	return u, nil
}

func (b *bucket) addPart(r request, body []byte) (part, error) {
	number, err := strconv.Atoi(r.query.Get("partNumber"))
	if err != nil || number < 1 || number > 10000 {
		return part{}, errorf(http.StatusBadRequest, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u, err := b.upload(r)
	if err != nil {
		return part{}, err
	}
	sum := md5.Sum(body)
	p := part{body: body, etag: strconv.Quote(hex.EncodeToString(sum[:]))}
	u.parts[number] = p
	return p, nil
}

func uploadPart(w http.ResponseWriter, r request, b *bucket) error {
	body, sum, err := readBody(r)
	if err != nil {
		return err
	}
	p, err := b.addPart(r, body)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", p.etag)
	w.Header().Set("X-Amz-Checksum-"+sum.algorithm, sum.value)
	w.WriteHeader(http.StatusOK)
	return nil
}

// uploadPartCopy takes a part from a range of another object; bytes are shared.
func (s *Service) uploadPartCopy(w http.ResponseWriter, r request, b *bucket) error {
	from, _, _, err := s.source(r)
	if err != nil {
		return err
	}
	body := from.body
	if text := r.Header.Get("X-Amz-Copy-Source-Range"); text != "" {
		first, end, err := byteRange(text, len(body))
		if err != nil {
			return err
		}
		body = body[first:end]
	}
	p, err := b.addPart(r, body)
	if err != nil {
		return err
	}
	return ok(w, struct {
		XMLName            xml.Name `xml:"CopyPartResult"`
		ETag, LastModified string
	}{ETag: p.etag, LastModified: stamp(from.modified)})
}

type partXML struct {
	PartNumber int
	ETag       string
	Size       int `xml:",omitempty"`
}

func completeUpload(w http.ResponseWriter, r request, b *bucket) error {
	var in struct {
		XMLName xml.Name  `xml:"CompleteMultipartUpload"`
		Parts   []partXML `xml:"Part"`
	}
	if err := readXML(r, &in); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u, err := b.upload(r)
	if err != nil {
		return err
	}
	body, etag, err := u.join(in.Parts)
	if err != nil {
		return err
	}
	if err := writeConditions(r.Header, b.newest(r.key)); err != nil {
		return err
	}
	v := u.version
	v.fill(body, checksum{"crc64nvme", checksumOf("crc64nvme", body)})
	v.etag, v.parts = etag, len(in.Parts)
	b.store(r.key, v)
	delete(b.uploads, r.query.Get("uploadId"))
	v.announce(w.Header(), b)
	return ok(w, struct {
		XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket, Key, ETag string
	}{Bucket: b.name, Key: r.key, ETag: v.etag})
}

// join puts the parts together. The ETag is the MD5 of the parts' MD5s, and how
// many there are.
func (u *upload) join(list []partXML) (body []byte, etag string, err error) {
	if !slices.IsSortedFunc(list, func(a, b partXML) int { return a.PartNumber - b.PartNumber }) {
		return nil, "", errorf(http.StatusBadRequest, "InvalidPartOrder", "The list of parts was not in ascending order.")
	}
	sums := md5.New()
	for i, one := range list {
		p, known := u.parts[one.PartNumber]
		switch {
		case !known || !matches(one.ETag, p.etag):
			return nil, "", errorf(http.StatusBadRequest, "InvalidPart", "One or more of the specified parts could not be found.")
		case i < len(list)-1 && len(p.body) < minPart:
			return nil, "", errorf(http.StatusBadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
		}
		body = append(body, p.body...)
		sum, _ := hex.DecodeString(strings.Trim(p.etag, `"`)) // made by addPart
		_, _ = sums.Write(sum)
	}
	if len(list) == 0 {
		return nil, "", errorf(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed")
	}
	return body, strconv.Quote(fmt.Sprintf("%x-%d", sums.Sum(nil), len(list))), nil
}

func abortUpload(w http.ResponseWriter, r request, b *bucket) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.upload(r); err != nil {
		return err
	}
	delete(b.uploads, r.query.Get("uploadId"))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func listParts(w http.ResponseWriter, r request, b *bucket) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	u, err := b.upload(r)
	if err != nil {
		return err
	}
	out := struct {
		XMLName     xml.Name `xml:"ListPartsResult"`
		IsTruncated bool
		Parts       []partXML `xml:"Part"`
	}{}
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		out.Parts = append(out.Parts, partXML{n, u.parts[n].etag, len(u.parts[n].body)})
	}
	return ok(w, out)
}

func listUploads(w http.ResponseWriter, _ request, b *bucket) error {
	type uploadXML struct{ Key, UploadId string }
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := struct {
		XMLName     xml.Name `xml:"ListMultipartUploadsResult"`
		IsTruncated bool
		Uploads     []uploadXML `xml:"Upload"`
	}{}
	for _, id := range slices.Sorted(maps.Keys(b.uploads)) {
		out.Uploads = append(out.Uploads, uploadXML{b.uploads[id].key, id})
	}
	return ok(w, out)
}
