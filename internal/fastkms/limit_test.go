package fastkms

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"rotator/internal/answerlimit"
)

// endless sends begin in response to one request on each connection, and then again until the
// connection is closed. It counts the bytes that were accepted.
func endless(t *testing.T, begin, again string) (target *url.URL, taken func() int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	counted := make(chan int64, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		n, err := io.WriteString(conn, begin)
		total, block := int64(n), strings.Repeat(again, 1+4096/len(again))
		for err == nil && total < 1<<30 {
			n, err = io.WriteString(conn, block)
			total += int64(n)
		}
		counted <- total
	}()
	target = &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/"}
	return target, func() int64 { return <-counted }
}

// TestEndlessAnswers: reading stops at the limit, for every part of a response
// that does not end.
func TestEndlessAnswers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct{ name, begin, again, what string }{
		{"headers", ok, "X-Padding: " + strings.Repeat("x", 1000) + "\r\n", "head"},
		{"one header", ok + "X-Padding: ", "x", "head"},
		{"the status", "HTTP/1.1 200 ", "x", "head"},
		{"interim answers", "", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "head"},
		{"the body", ok + "\r\n", "x", "body"},
		{"a body of a length", ok + "Content-Length: 1099511627776\r\n\r\n", "x", "body"},
		{"chunks", ok + "Transfer-Encoding: chunked\r\n\r\n", "4\r\nabcd\r\n", "body"},
		{"an extension of a chunk", ok + "Transfer-Encoding: chunked\r\n\r\n4;", "x", ""},
		{"trailers", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X-Padding: x\r\n", ""},
		{"an error", "HTTP/1.1 500 Oops\r\n\r\n", "x", "body"},
	} {
		t.Run(c.name, func(t *testing.T) {
			target, taken := endless(t, c.begin, c.again)
			d := newDirect(target, &http.Transport{}, time.Minute, 0)
			_, err := post(t.Context(), d, "question")
			var long *answerlimit.TooLongError
			named := errors.As(err, &long) && strings.Contains(long.What, c.what) &&
				strings.Contains(err.Error(), fmt.Sprint(long.Limit))
			if err == nil || c.what != "" && !named {
				t.Errorf("the error is %v", err)
			}
			// The socket buffers also accept bytes.
			if n := taken(); n > 16<<20 {
				t.Errorf("%d bytes were accepted", n)
			}
		})
	}
}
