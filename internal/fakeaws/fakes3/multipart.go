package fakes3

import (
	"cmp"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// minPart is the minimum size of every part but the last, in bytes (Multipart upload limits).
const minPart = 5 << 20

// upload is a multipart upload in progress.
type upload struct {
	key     string
	begun   time.Time
	count   int // number of the upload in the bucket
	version *version
	sum     checksum // the algorithm and type; no value
	parts   map[int]part
}

type part struct {
	body     content
	etag     string
	checksum string // with the algorithm of the upload
}

// uploadChecksum returns the checksum algorithm and type of an upload. The default is
// CRC64NVME, which covers the whole object; checksums of the other algorithms are composite
// unless the request asks for the full object (Checking object integrity).
func uploadChecksum(h http.Header) (checksum, error) {
	algorithm := strings.ToLower(h.Get("X-Amz-Checksum-Algorithm"))
	kind := h.Get("X-Amz-Checksum-Type")
	c := checksum{algorithm: cmp.Or(algorithm, "crc64nvme"), composite: kind != "FULL_OBJECT"}
	whole := strings.HasPrefix(c.algorithm, "crc")
	if c.algorithm == "crc64nvme" && kind == "" {
		c.composite = false
	}
	if algorithms()[c.algorithm] == nil || !c.composite && !whole || c.composite &&
		c.algorithm == "crc64nvme" {
		return checksum{}, errorf(http.StatusBadRequest, "InvalidRequest",
			"The %s checksum type cannot be used with the %s checksum algorithm.", kind, algorithm)
	}
	return c, nil
}

func createUpload(w http.ResponseWriter, r request, b *bucket) error {
	v, err := newVersion(r)
	if err != nil {
		return err
	}
	sum, err := uploadChecksum(r.Header)
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
	b.uploads[id] = &upload{
		key:     r.key,
		begun:   time.Now().Truncate(time.Second),
		count:   b.count,
		version: v,
		sum:     sum,
		parts:   map[int]part{},
	}
	return ok(w, struct {
		XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket, Key, UploadId string
	}{Bucket: b.name, Key: r.key, UploadId: id})
}

// upload returns the upload that a request names. It must be called with the lock held.
func (b *bucket) upload(r request) (*upload, error) {
	u := b.uploads[r.query.Get("uploadId")]
	if u == nil || u.key != r.key {
		return nil, errorf(http.StatusNotFound, "NoSuchUpload",
			"The specified upload does not exist. The upload ID may be invalid, or the upload "+
				"may have been aborted or completed.")
	}
	return u, nil
}

func (b *bucket) addPart(r request, body content) (part, error) {
	number, err := strconv.Atoi(r.query.Get("partNumber"))
	if err != nil || number < 1 || number > 10000 {
		return part{}, errorf(http.StatusBadRequest, "InvalidArgument",
			"Part number must be an integer between 1 and 10000, inclusive")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u, err := b.upload(r)
	if err != nil {
		return part{}, err
	}
	p := part{body: body, etag: u.version.tagOf(body), checksum: body.checksum(u.sum.algorithm)}
	u.parts[number] = p
	return p, nil
}

func uploadPart(w http.ResponseWriter, r request, b *bucket) error {
	body, sum, err := readBody(r)
	if err != nil {
		return err
	}
	p, err := b.addPart(r, bytesOf(body))
	if err != nil {
		return err
	}
	w.Header().Set("ETag", p.etag)
	w.Header().Set("X-Amz-Checksum-"+sum.algorithm, sum.value)
	w.WriteHeader(http.StatusOK)
	return nil
}

// copiedXML is the answer of UploadPartCopy. The name of the checksum element depends on the
// algorithm.
type copiedXML struct {
	XMLName            xml.Name `xml:"CopyPartResult"`
	ETag, LastModified string
	partChecksums
}

// uploadPartCopy stores a range of another object as a part. The part shares the bytes of the
// object.
func (s *Service) uploadPartCopy(w http.ResponseWriter, r request, b *bucket) error {
	from, _, err := s.source(r)
	if err != nil {
		return err
	}
	body := from.body
	if text := r.Header.Get("X-Amz-Copy-Source-Range"); text != "" {
		first, end, err := byteRange(text, body.size())
		if err != nil {
			return err
		}
		body = body.cut(first, end)
	}
	if body.size() > maxCopy {
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"The specified copy range is larger than the maximum allowable size for a copy "+
				"source: 5368709120")
	}
	p, err := b.addPart(r, body)
	if err != nil {
		return err
	}
	b.mu.RLock()
	u, err := b.upload(r)
	b.mu.RUnlock()
	if err != nil {
		return err
	}
	return ok(w, copiedXML{
		ETag:          p.etag,
		LastModified:  stamp(from.modified),
		partChecksums: checksumsOf(u.sum.algorithm, p.checksum),
	})
}

type partXML struct {
	PartNumber int
	ETag       string
	Size       int64 `xml:",omitempty"`
	partChecksums
}

// partChecksums has the checksum elements of a part.
type partChecksums struct {
	ChecksumCRC32     string `xml:",omitempty"`
	ChecksumCRC32C    string `xml:",omitempty"`
	ChecksumCRC64NVME string `xml:",omitempty"`
	ChecksumSHA1      string `xml:",omitempty"`
	ChecksumSHA256    string `xml:",omitempty"`
}

func (c *partChecksums) of(algorithm string) *string {
	return map[string]*string{
		"crc32":     &c.ChecksumCRC32,
		"crc32c":    &c.ChecksumCRC32C,
		"crc64nvme": &c.ChecksumCRC64NVME,
		"sha1":      &c.ChecksumSHA1,
		"sha256":    &c.ChecksumSHA256,
	}[algorithm]
}

func checksumsOf(algorithm, value string) (c partChecksums) {
	*c.of(algorithm) = value
	return c
}

func completeUpload(w http.ResponseWriter, r request, b *bucket) error {
	var in struct {
		XMLName xml.Name  `xml:"CompleteMultipartUpload"`
		Parts   []partXML `xml:"Part"`
	}
	promised := r.Header
	r.Request = r.Clone(r.Context())
	for name := range algorithms() { // these headers are about the object, not about this body
		r.Header.Del("X-Amz-Checksum-" + name)
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
	v, err := u.join(in.Parts)
	if err != nil {
		return err
	}
	if err := v.checkStated(promised); err != nil {
		return err
	}
	if err := writeConditions(r.Header, b.newest(r.key)); err != nil {
		return err
	}
	b.store(r.key, v)
	delete(b.uploads, r.query.Get("uploadId"))
	v.announce(w.Header(), b)
	return ok(w, struct {
		XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket, Key, ETag string
	}{Bucket: b.name, Key: r.key, ETag: v.etag})
}

// checkStated checks the size and checksum of the object that the request states
// (API_CompleteMultipartUpload).
func (v *version) checkStated(h http.Header) error {
	if size := h.Get("X-Amz-Mp-Object-Size"); size != "" &&
		size != strconv.FormatInt(v.body.size(), 10) {
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"The provided 'x-amz-mp-object-size' header does not match what was computed.")
	}
	if kind := h.Get("X-Amz-Checksum-Type"); kind != "" && kind != v.checksum.kind() {
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"The upload was created using the %s checksum mode.", v.checksum.kind())
	}
	if sum := h.Get("X-Amz-Checksum-" + v.checksum.algorithm); sum != "" &&
		sum != v.checksum.value {
		return errorf(http.StatusBadRequest, "BadDigest",
			"The %s you specified did not match the calculated checksum.",
			strings.ToUpper(v.checksum.algorithm))
	}
	return nil
}

// join returns the object that consists of the listed parts.
func (u *upload) join(list []partXML) (*version, error) {
	if !slices.IsSortedFunc(list, func(a, b partXML) int { return a.PartNumber - b.PartNumber }) {
		return nil, errorf(http.StatusBadRequest, "InvalidPartOrder",
			"The list of parts was not in ascending order.")
	}
	if len(list) == 0 {
		return nil, errorf(http.StatusBadRequest, "MalformedXML",
			"The XML you provided was not well-formed")
	}
	var parts []part
	for i, one := range list {
		p, known := u.parts[one.PartNumber]
		sum := *one.of(u.sum.algorithm)
		switch {
		case !known || !matches(one.ETag, p.etag) || sum != "" && sum != p.checksum:
			return nil, errorf(http.StatusBadRequest, "InvalidPart",
				"One or more of the specified parts could not be found.")
		case i < len(list)-1 && p.body.size() < minPart:
			return nil, errorf(http.StatusBadRequest, "EntityTooSmall",
				"Your proposed upload is smaller than the minimum allowed size")
		case u.sum.composite && sum == "":
			return nil, errorf(http.StatusBadRequest, "InvalidRequest",
				"The upload was created using a %s checksum. The complete request must include "+
					"the checksum for each part.", u.sum.algorithm)
		}
		parts = append(parts, p)
	}
	v := *u.version
	v.assemble(parts, u.sum)
	return &v, nil
}

// assemble sets the body to the parts. The ETag is the MD5 of the MD5s of the parts, a dash,
// and the number of parts. A composite checksum has the same form.
func (v *version) assemble(parts []part, sum checksum) {
	etags, sums := md5.New(), algorithms()[sum.algorithm]()
	var body content
	var sizes []int64
	for _, p := range parts {
		body, sizes = body.with(p.body), append(sizes, p.body.size())
		etag, _ := hex.DecodeString(strings.Trim(p.etag, `"`)) // tagOf made it
		one, _ := base64.StdEncoding.DecodeString(p.checksum)
		_, _ = etags.Write(etag)
		_, _ = sums.Write(one)
	}
	sum.value = body.checksum(sum.algorithm)
	if sum.composite {
		sum.value = fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(sums.Sum(nil)),
			len(parts))
	}
	v.fill(body, sum)
	v.etag, v.parts = strconv.Quote(fmt.Sprintf("%x-%d", etags.Sum(nil), len(parts))), sizes
	v.modified = time.Now().Truncate(time.Second)
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
		out.Parts = append(out.Parts, partXML{
			n,
			u.parts[n].etag,
			u.parts[n].body.size(),
			checksumsOf(u.sum.algorithm, u.parts[n].checksum),
		})
	}
	return ok(w, out)
}

// listUploads is API_ListMultipartUploads, ordered by key, then by the time of initiation.
func listUploads(w http.ResponseWriter, r request, b *bucket) error {
	type uploadXML struct{ Key, UploadId, Initiated string }
	l := newListing(r)
	if n, err := strconv.Atoi(r.query.Get("max-uploads")); err == nil {
		l.maxKeys = min(n, 1000)
	}
	out := struct {
		XMLName            xml.Name `xml:"ListMultipartUploadsResult"`
		Prefix             string
		EncodingType       string `xml:",omitempty"`
		MaxUploads         int
		IsTruncated        bool
		NextKeyMarker      string      `xml:",omitempty"`
		NextUploadIdMarker string      `xml:",omitempty"`
		Uploads            []uploadXML `xml:"Upload"`
	}{Prefix: l.text(l.prefix), EncodingType: l.encoding(), MaxUploads: l.maxKeys}
	marker, idMarker := r.query.Get("key-marker"), r.query.Get("upload-id-marker")
	b.mu.RLock()
	defer b.mu.RUnlock()
	after := 0 // number of the upload of idMarker
	if u := b.uploads[idMarker]; u != nil {
		after = u.count
	}
	ids := slices.SortedFunc(maps.Keys(b.uploads), func(x, y string) int {
		return cmp.Or(cmp.Compare(b.uploads[x].key, b.uploads[y].key),
			cmp.Compare(b.uploads[x].count, b.uploads[y].count))
	})
	for _, id := range ids {
		u := b.uploads[id]
		if !strings.HasPrefix(u.key, l.prefix) || u.key < marker ||
			u.key == marker && (idMarker == "" || u.count <= after) {
			continue
		}
		if len(out.Uploads) == l.maxKeys {
			out.IsTruncated = true
			return ok(w, out)
		}
		out.NextKeyMarker, out.NextUploadIdMarker = l.text(u.key), id
		out.Uploads = append(out.Uploads, uploadXML{l.text(u.key), id, stamp(u.begun)})
	}
	out.NextKeyMarker, out.NextUploadIdMarker = "", ""
	return ok(w, out)
}
