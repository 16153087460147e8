package fakes3

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// algorithms returns the checksum algorithms of S3. The key is the suffix of the header
// x-amz-checksum-… (Checking object integrity).
func algorithms() map[string]func() hash.Hash {
	return map[string]func() hash.Hash{
		"crc32":     func() hash.Hash { return crc32.NewIEEE() },
		"crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
		"crc64nvme": func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) },
		"sha1":      sha1.New,
		"sha256":    sha256.New,
	}
}

// checksum is the checksum of an object.
type checksum struct {
	algorithm, value string
	composite        bool // computed from the checksums of the parts of a multipart upload
}

// kind returns the value of the header x-amz-checksum-type.
func (c checksum) kind() string {
	if c.composite {
		return "COMPOSITE"
	}
	return "FULL_OBJECT"
}

// readBody reads the body of a request and verifies every checksum in the request. The SDKs
// may send the body in chunks, followed by the checksum in a trailer. For a body without a
// checksum, S3 computes CRC64NVME.
func readBody(r request) ([]byte, checksum, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, checksum{}, errorf(http.StatusBadRequest, "IncompleteBody",
			"The request body terminated unexpectedly")
	}
	trailer := http.Header{}
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		if body, trailer, err = dechunk(body); err != nil {
			return nil, checksum{}, err
		}
	}
	if want := r.Header.Get("X-Amz-Content-Sha256"); len(want) == hex.EncodedLen(sha256.Size) {
		if sum := sha256.Sum256(body); want != hex.EncodeToString(sum[:]) {
			return nil, checksum{}, errorf(http.StatusBadRequest, "XAmzContentSHA256Mismatch",
				"The provided 'x-amz-content-sha256' header does not match what was computed.")
		}
	}
	if want := r.Header.Get("Content-Md5"); want != "" {
		if sum := md5.Sum(body); want != base64.StdEncoding.EncodeToString(sum[:]) {
			return nil, checksum{}, errorf(http.StatusBadRequest, "BadDigest",
				"The Content-MD5 you specified did not match what we received.")
		}
	}
	kept := checksum{}
	for name := range algorithms() {
		header := "X-Amz-Checksum-" + name
		want := r.Header.Get(header) + trailer.Get(header)
		if want == "" {
			continue
		}
		if want != bytesOf(body).checksum(name) {
			return nil, checksum{}, errorf(http.StatusBadRequest, "BadDigest",
				"The %s you specified did not match the calculated checksum.",
				strings.ToUpper(name))
		}
		kept = checksum{algorithm: name, value: want}
	}
	if kept.algorithm == "" {
		kept = checksum{algorithm: "crc64nvme", value: bytesOf(body).checksum("crc64nvme")}
	}
	return body, kept, nil
}

// dechunk decodes aws-chunked. Each chunk is its length in hex, a line end, the data, and a
// line end; the trailing headers follow the empty chunk.
func dechunk(text []byte) ([]byte, http.Header, error) {
	reader := bufio.NewReader(bytes.NewReader(text))
	var body []byte
	broken := errorf(http.StatusBadRequest, "IncompleteBody",
		"The chunks of the request body are not well-formed")
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return nil, nil, broken
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseInt(size, 16, 32)
		if err != nil || n < 0 || int(n) > len(text) {
			return nil, nil, broken
		}
		if n == 0 {
			break
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(reader, chunk); err != nil {
			return nil, nil, broken
		}
		body = append(body, chunk[:n]...)
	}
	trailer := http.Header{}
	for {
		line, err := reader.ReadString('\n')
		name, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if found {
			trailer.Set(name, strings.TrimSpace(value))
		}
		if err != nil || !found {
			return body, trailer, nil
		}
	}
}
