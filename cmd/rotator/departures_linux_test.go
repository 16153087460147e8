package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// departures records when the kernel received the bytes that a server read. On the loopback
// interface this is the time when the client wrote them, even if the server reads them later.
type departures struct {
	mu   sync.Mutex
	last map[string]time.Time // by the address of the client
}

// listen is net.Listen for a server whose connections are stamped.
func (d *departures) listen(network, address string) (net.Listener, error) {
	listener, err := net.Listen(network, address)
	return stampedListener{listener, d}, err
}

// of returns the time when the last byte of a request that is being served was written.
func (d *departures) of(r *http.Request) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at, ok := d.last[r.RemoteAddr]; ok {
		return at
	}
	return time.Now()
}

type stampedListener struct {
	net.Listener
	departures *departures
}

func (l stampedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn, nil
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
	})
	return &stampedConn{TCPConn: tcp, raw: raw, departures: l.departures}, nil
}

// stampedConn is a connection that records when the kernel received the bytes that are read.
type stampedConn struct {
	*net.TCPConn
	raw        syscall.RawConn
	departures *departures
}

func (c *stampedConn) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	var room [128]byte
	var used int
	var failed error
	err = c.raw.Read(func(fd uintptr) bool {
		for {
			n, used, _, _, failed = syscall.Recvmsg(int(fd), p, room[:], 0)
			if !errors.Is(failed, syscall.EINTR) {
				return !errors.Is(failed, syscall.EAGAIN)
			}
		}
	})
	switch {
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: err}
	case failed != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: failed}
	case n == 0:
		return 0, io.EOF
	}
	if at, ok := stampOf(room[:used]); ok {
		c.departures.mu.Lock()
		c.departures.last[c.RemoteAddr().String()] = at
		c.departures.mu.Unlock()
	}
	return n, nil
}

// stampOf returns the time in the control messages of a read.
func stampOf(room []byte) (time.Time, bool) {
	messages, err := syscall.ParseSocketControlMessage(room)
	if err != nil {
		return time.Time{}, false
	}
	for _, m := range messages {
		if m.Header.Level != syscall.SOL_SOCKET || m.Header.Type != syscall.SCM_TIMESTAMPNS ||
			len(m.Data) < int(unsafe.Sizeof(syscall.Timespec{})) || unsafe.Sizeof(uintptr(0)) != 8 {
			continue
		}
		seconds := int64(binary.NativeEndian.Uint64(m.Data))
		nanoseconds := int64(binary.NativeEndian.Uint64(m.Data[8:]))
		return time.Unix(seconds, nanoseconds), true
	}
	return time.Time{}, false
}
