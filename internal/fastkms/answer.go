package fastkms

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// requestHeader is the header of the request ID, which all responses of the service have.
const requestHeader = "X-Amzn-Requestid"

// plainAnswer reads a response in the usual form: status 200, a Content-Length, and a connection
// that stays open (RFC 9112, section 6). It keeps only the header of the request ID. For a
// response in any other form, ok is false and nothing has been read.
func (l *conn) plainAnswer() (answer *http.Response, ok bool, err error) {
	if _, err := l.reader.Peek(1); err != nil {
		return nil, false, nil // the next read returns the error again
	}
	head, _ := l.reader.Peek(l.reader.Buffered()) // never fails
	end := bytes.Index(head, []byte("\r\n\r\n"))
	if end < 0 {
		return nil, false, nil
	}
	length, request, ok := parseHead(head[:end])
	if !ok {
		return nil, false, nil
	}
	body := make([]byte, length)
	if _, err = l.reader.Discard(end + 4); err == nil {
		l.limit.More(int64(length))
		_, err = io.ReadFull(l.reader, body)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, true, err
	}
	return &http.Response{
		StatusCode:    http.StatusOK,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{requestHeader: {request}},
		ContentLength: int64(length),
		Body:          io.NopCloser(bytes.NewReader(body)),
		Close:         l.reader.Buffered() > 0,
	}, true, nil
}

// parseHead parses the head of a response, without the empty line at its end.
func parseHead(head []byte) (length int, request string, ok bool) {
	status, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) || !printable(status) {
		return 0, "", false
	}
	length = -1
	for len(rest) > 0 {
		var header []byte
		header, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, ok := bytes.Cut(header, []byte(":"))
		if !ok || !token(name) || !printable(value) {
			return 0, "", false
		}
		value = bytes.Trim(value, " ")
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, err := strconv.ParseUint(string(value), 10, 31)
			if err != nil || length >= 0 || n > maxBody {
				return 0, "", false
			}
			length = int(n)
		case bytes.EqualFold(name, []byte(requestHeader)):
			request = string(value)
		case bytes.EqualFold(name, []byte("Transfer-Encoding")),
			bytes.EqualFold(name, []byte("Content-Encoding")),
			bytes.EqualFold(name, []byte("Connection")):
			return 0, "", false
		}
	}
	return length, request, length >= 0
}

func printable(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// token reports whether a text is a header name of letters, digits and hyphens.
func token(text []byte) bool {
	for _, c := range text {
		if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return len(text) > 0
}
