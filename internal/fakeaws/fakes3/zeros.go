package fakes3

import (
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
)

// Zeros replaces the body of an object with size zero bytes that take no memory, for tests
// with objects of many gigabytes. All other properties of the object stay. If partSize is not
// 0, the object has the ETag and checksum of a multipart upload with parts of partSize bytes.
// ETag and checksum are not those of S3, because hashing every zero would take too long, but
// different contents have different ones.
func (s *Service) Zeros(bucketName, key string, size, partSize int64) error {
	b, err := s.bucket(bucketName)
	if err != nil {
		return err
	}
	return change(request{key: key, query: url.Values{}}, b, func(v *version) error {
		sum := checksum{algorithm: v.checksum.algorithm}
		if partSize == 0 {
			sum.value = zerosOf(size).checksum(sum.algorithm)
			v.fill(zerosOf(size), sum)
			return nil
		}
		sum.composite = sum.algorithm != "crc64nvme"
		var parts []part
		for left := size; left > 0; left -= partSize {
			body := zerosOf(min(left, partSize))
			parts = append(parts, part{
				body:     body,
				etag:     v.tagOf(body),
				checksum: body.checksum(sum.algorithm),
			})
		}
		modified := v.modified
		v.assemble(parts, sum)
		v.modified = modified
		return nil
	})
}

// Traffic returns the number of body bytes of all requests and of all answers.
func (s *Service) Traffic() (received, sent int64) { return s.received.Load(), s.sent.Load() }

// counted is a request body that counts the bytes read.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// counter is a ResponseWriter that counts the bytes written.
type counter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p))) // before the client can have read them
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n - len(p)))
	return n, err
}
