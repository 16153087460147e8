package fastkms

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"rotator/internal/answerlimit"
)

// maxBody is the maximum length in bytes of the body of a response.
const maxBody = answerlimit.ReEncrypt

// The headers of compressed responses.
const (
	acceptHeader   = "Accept-Encoding"
	encodingHeader = "Content-Encoding"
)

// exchange writes a request and reads its response. If acceptGzip is true and the request has no
// Accept-Encoding, the server may compress the response, as with net/http.
func (l *conn) exchange(r *http.Request, host string, acceptGzip bool) (*http.Response, error) {
	acceptGzip = acceptGzip && len(r.Header[acceptHeader]) == 0
	if err := l.send(r, host, acceptGzip); err != nil {
		return nil, err
	}
	l.limit.Allow("the head of the response", answerlimit.Headers)
	if answer, ok, err := l.plainAnswer(); ok {
		return answer, err
	}
	return l.anyAnswer(r, acceptGzip)
}

// send writes a request.
func (l *conn) send(r *http.Request, host string, acceptGzip bool) error {
	if r.Host != "" {
		host = r.Host
	}
	out := append(append(append(l.out[:0], r.Method...), " / HTTP/1.1\r\nHost: "...), host...)
	for name, values := range r.Header {
		for _, value := range values {
			if strings.ContainsAny(value, "\r\n") {
				return fmt.Errorf("header %s does not fit into one line", name)
			}
			out = append(append(append(append(out, "\r\n"...), name...), ": "...), value...)
		}
	}
	if acceptGzip {
		out = append(out, "\r\n"+acceptHeader+": gzip"...)
	}
	out = append(strconv.AppendInt(append(out, "\r\nContent-Length: "...), r.ContentLength, 10),
		"\r\n\r\n"...)
	body := bytes.NewBuffer(out)
	if _, err := io.CopyN(body, r.Body, r.ContentLength); err != nil {
		return err
	}
	l.out = body.Bytes()
	_, err := l.Write(l.out)
	return err
}

// anyAnswer reads a response in any form.
func (l *conn) anyAnswer(r *http.Request, acceptGzip bool) (*http.Response, error) {
	answer, err := http.ReadResponse(l.reader, r)
	for err == nil && answer.StatusCode >= 100 && answer.StatusCode < 200 {
		answer, err = http.ReadResponse(l.reader, r)
	}
	if long := l.limit.Err(); long != nil {
		return nil, long
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // in the middle of a response
		}
		return nil, err
	}
	l.limit.Allow("the chunked body of the response", 4*maxBody)
	body, err := readBody(answer.Body, answer.ContentLength)
	if err == nil && acceptGzip && len(body) > 0 &&
		strings.EqualFold(answer.Header.Get(encodingHeader), "gzip") {
		body, err = unpack(answer, body)
	}
	if err != nil {
		return nil, err
	}
	answer.Close = answer.Close || l.reader.Buffered() > 0 // more than one response
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// readBody reads a body. length is the Content-Length, or -1 if it is unknown.
func readBody(body io.Reader, length int64) ([]byte, error) {
	var read bytes.Buffer
	if length > 0 && length <= maxBody {
		read.Grow(int(length) + bytes.MinRead)
	}
	if _, err := read.ReadFrom(io.LimitReader(body, maxBody+1)); err != nil {
		return nil, err
	}
	if read.Len() > maxBody {
		return nil, &answerlimit.TooLongError{What: "the body of the response", Limit: maxBody}
	}
	return read.Bytes(), nil
}

// unpack returns the decompressed body of a response. It changes the response to that of a
// server that does not compress.
func unpack(answer *http.Response, body []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{encodingHeader, "Content-Length"} {
		answer.Header.Del(name)
	}
	answer.ContentLength, answer.Uncompressed = -1, true
	return readBody(reader, -1)
}
