package fakes3

import (
	"encoding/base64"
	"fmt"
	"hash"
	"io"
)

// content is the body of an object: stretches of bytes, and runs of zeros of any length that
// take no memory. It is immutable, so copies share it.
type content []stretch

// stretch is either bytes or a number of zero bytes.
type stretch struct {
	bytes []byte
	zeros int64
}

func bytesOf(body []byte) content {
	if len(body) == 0 {
		return nil
	}
	return content{{bytes: body}}
}

func zerosOf(n int64) content {
	if n == 0 {
		return nil
	}
	return content{{zeros: n}}
}

func (s stretch) size() int64 { return int64(len(s.bytes)) + s.zeros }

func (c content) size() (n int64) {
	for _, s := range c {
		n += s.size()
	}
	return n
}

// cut returns the bytes from first up to, but not including, end.
func (c content) cut(first, end int64) (out content) {
	for _, s := range c {
		from, to := max(0, first), min(s.size(), end)
		switch {
		case from >= to:
		case s.zeros > 0:
			out = out.with(zerosOf(to - from))
		default:
			out = out.with(bytesOf(s.bytes[from:to]))
		}
		first, end = first-s.size(), end-s.size()
	}
	return out
}

// with returns the content with more appended. It joins adjacent runs of zeros.
func (c content) with(more content) content {
	out := c[:len(c):len(c)]
	for _, s := range more {
		if last := len(out) - 1; s.zeros > 0 && last >= 0 && out[last].zeros > 0 {
			merged := stretch{zeros: out[last].zeros + s.zeros}
			out = append(out[:last:last], merged)
			continue
		}
		out = append(out, s)
	}
	return out
}

// write writes the content to w. It stops at the first error.
func (c content) write(w io.Writer) {
	var zeros [64 << 10]byte
	for _, s := range c {
		if _, err := w.Write(s.bytes); err != nil {
			return
		}
		for left := s.zeros; left > 0; {
			n, err := w.Write(zeros[:min(left, int64(len(zeros)))])
			if err != nil {
				return
			}
			left -= int64(n)
		}
	}
}

// bytes returns the content, or nil if it has runs of zeros.
func (c content) bytes() []byte {
	var out []byte
	for _, s := range c {
		if s.zeros > 0 {
			return nil
		}
		if out = append(out, s.bytes...); len(c) == 1 {
			return s.bytes
		}
	}
	return out
}

// digest hashes the content. For a run of zeros it hashes a text with the length, because
// hashing every zero would take seconds for each write. So it is not a hash of the body, but
// equal contents have equal digests, and different contents have different ones.
func (c content) digest(h hash.Hash) []byte {
	for _, s := range c {
		if s.zeros > 0 {
			_, _ = fmt.Fprintf(h, "<%d zeros>", s.zeros)
			continue
		}
		_, _ = h.Write(s.bytes)
	}
	return h.Sum(nil)
}

// checksum returns the checksum in the form of the headers.
func (c content) checksum(algorithm string) string {
	return base64.StdEncoding.EncodeToString(c.digest(algorithms()[algorithm]()))
}
