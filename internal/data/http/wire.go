package http

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/socket"
)

// wire is a connection with the few system calls that the fast path wants: to wait
// for bytes without holding memory for them, and to send a request and wait for
// the answer while noticing what came unasked. Both need the file descriptor; other
// connections (TLS, in memory) do the same with more memory or fewer checks.
type wire struct {
	conn net.Conn
	tcp  *net.TCPConn    // nil unless it is one
	raw  syscall.RawConn // nil unless conn itself is a socket
	pool *http1.Pool

	// Arguments and results of the callbacks below, which are made once: a closure
	// per call would allocate.
	receive, exchange, fill, look, send func(fd uintptr) bool
	buf                                 []byte
	n                                   int
	err                                 error
	out                                 []byte
	sent                                bool
	one                                 [1]byte // for quiet
	// Of write, which another goroutine may be in than those above.
	pending [3][]byte
	sendErr error
}

func (w *wire) init(conn net.Conn, pool *http1.Pool) {
	w.conn, w.pool = conn, pool
	w.tcp, _ = conn.(*net.TCPConn)
	if w.raw = socket.Raw(conn); w.raw != nil {
		w.receive, w.exchange, w.send = w.tryReceive, w.tryExchange, w.trySend
		w.fill, w.look = w.tryFill, w.tryLook
	}
}

// readFirst waits for bytes and returns them in a buffer of the pool.
func (w *wire) readFirst() (buf []byte, n int, err error) {
	if w.raw == nil {
		return w.readPlain()
	}
	err = w.raw.Read(w.receive)
	return w.received(err)
}

func (w *wire) readPlain() ([]byte, int, error) {
	buf := w.pool.Small()
	n, err := w.conn.Read(buf)
	if n > 0 {
		return buf, n, nil
	}
	w.pool.Return(buf)
	if err == nil {
		err = io.ErrNoProgress
	}
	return nil, 0, err
}

// received hands out what a callback left.
func (w *wire) received(err error) ([]byte, int, error) {
	buf, n := w.buf, w.n
	if err == nil {
		err = w.err
	}
	w.buf, w.n, w.err = nil, 0, nil
	if n > 0 {
		return buf, n, nil
	}
	if buf != nil {
		w.pool.Return(buf)
	}
	if err == nil {
		err = io.EOF
	}
	return nil, 0, err
}

// tryReceive reads once; false means that nothing is there yet, and then no buffer is
// kept while waiting.
func (w *wire) tryReceive(fd uintptr) bool {
	w.buf = w.pool.Small()
	n, err := socket.Recv(fd, w.buf)
	if err == unix.EAGAIN {
		w.pool.Return(w.buf)
		w.buf = nil
		return false
	}
	w.n = max(n, 0)
	if err != 0 {
		w.err = err
	}
	return true
}

// read waits for bytes, as the connection's Read does.
func (w *wire) read(p []byte) (int, error) {
	if w.raw == nil || len(p) == 0 {
		return w.conn.Read(p)
	}
	n, err := w.readRaw(w.fill, p)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

// tryRead reads once without waiting; 0 where nothing is there or the read fails, which
// the next read finds out.
func (w *wire) tryRead(p []byte) int {
	n, _ := w.readRaw(w.look, p)
	return n
}

// quiet reports whether a kept connection is as it was left: the peer neither closed it
// nor sent something unasked. What it sent is lost, so the connection is not to be used.
func (w *wire) quiet() bool {
	if w.raw == nil {
		return !closedByPeer(w.conn)
	}
	_, err := w.readRaw(w.look, w.one[:])
	return err == unix.EAGAIN
}

func (w *wire) readRaw(try func(fd uintptr) bool, p []byte) (int, error) {
	w.buf = p
	err := w.raw.Read(try)
	if err == nil {
		err = w.err
	}
	n := w.n
	w.buf, w.n, w.err = nil, 0, nil
	return n, err
}

// tryFill reads once into what is there for it; false means that nothing is there yet.
func (w *wire) tryFill(fd uintptr) bool {
	return w.tryLook(fd) && w.err != unix.EAGAIN
}

// tryLook is tryFill, but it does not wait.
func (w *wire) tryLook(fd uintptr) bool {
	n, errno := socket.Recv(fd, w.buf)
	w.n, w.err = max(n, 0), nil
	if errno != 0 {
		w.err = errno
	}
	return true
}

// ask sends a request and waits for the first bytes of the answer. When unasked is
// true the peer had closed, or sent something, before anything was sent: then the
// request is as good as not made.
func (w *wire) ask(request []byte) (buf []byte, n int, unasked bool, err error) {
	if w.raw == nil {
		if err := w.write(request); err != nil {
			return nil, 0, false, err
		}
		buf, n, err = w.readPlain()
		return buf, n, false, err
	}
	w.out, w.sent = request, false
	err = w.raw.Read(w.exchange)
	unasked = !w.sent
	rest := w.out
	w.out = nil
	if unasked || len(rest) == 0 || err != nil {
		buf, n, err = w.received(err)
		return buf, n, unasked, err
	}
	// The socket's buffer was full: the slow way.
	if err := w.write(rest); err != nil {
		return nil, 0, false, err
	}
	buf, n, err = w.readFirst()
	return buf, n, false, err
}

// tryExchange is called once before anything was sent, and again whenever the socket
// becomes readable. The first read is expected to find nothing. It replaces the read
// in vain that would follow the write, so the check costs no system call.
func (w *wire) tryExchange(fd uintptr) bool {
	if w.sent {
		return w.tryReceive(fd)
	}
	if w.tryReceive(fd) {
		return true
	}
	w.sent = true
	n, err := socket.Send(fd, w.out)
	if err != 0 && err != unix.EAGAIN {
		w.out, w.err = nil, err
		return true
	}
	w.out = w.out[max(n, 0):]
	return len(w.out) > 0
}

// write writes all of p.
func (w *wire) write(p []byte) error {
	if w.raw == nil || len(p) > rawWrite {
		_, err := w.conn.Write(p)
		return err
	}
	return w.writeRaw([3][]byte{p})
}

// writeParts writes three parts as one.
func (w *wire) writeParts(a, b, c []byte) error {
	if w.raw == nil || len(b) > rawWrite {
		_, err := (&net.Buffers{a, b, c}).WriteTo(w.conn)
		return err
	}
	return w.writeRaw([3][]byte{a, b, c})
}

// writeRaw writes all parts past the runtime.
func (w *wire) writeRaw(parts [3][]byte) error {
	w.pending, w.sendErr = parts, nil
	err := w.raw.Write(w.send)
	w.pending = [3][]byte{}
	if err == nil {
		err = w.sendErr
	}
	return err
}

// rawWrite is the largest write that goes past the runtime: it copies at most this
// many bytes, and a head, while the processor cannot do anything else.
const rawWrite = 64 << 10

// trySend writes as much as the socket takes; false means that it is full.
func (w *wire) trySend(fd uintptr) bool {
	for {
		n, errno := w.sendPending(fd)
		switch {
		case errno == unix.EAGAIN:
			return false
		case errno != 0:
			w.sendErr = errno
			return true
		}
		left := 0
		for i, p := range w.pending {
			sent := min(n, len(p))
			w.pending[i], n = p[sent:], n-sent
			left += len(p) - sent
		}
		if left == 0 {
			return true
		}
	}
}

// sendPending sends once.
func (w *wire) sendPending(fd uintptr) (int, syscall.Errno) {
	if p := &w.pending; len(p[1]) > 0 || len(p[2]) > 0 {
		return socket.SendParts(fd, p)
	}
	return socket.Send(fd, w.pending[0])
}

// netConn is what TLS connections have, and others that read ahead.
type netConn interface{ NetConn() net.Conn }

// socketOf is the connection that carries the bytes of conn.
func socketOf(conn net.Conn) net.Conn {
	for {
		t, ok := conn.(netConn)
		if !ok {
			return conn
		}
		conn = t.NetConn()
	}
}

// unread is how many bytes that were written have not reached the peer; 0 where that
// cannot be told.
func unread(conn net.Conn) int {
	sc, ok := socketOf(conn).(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) {
		if queued, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ); err == nil {
			n = queued
		}
	})
	return n
}

// closedByPeer reports whether the peer is known to have closed or broken the
// connection. It does not block or consume bytes.
func closedByPeer(conn net.Conn) bool {
	sc, ok := socketOf(conn).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents != 0
	})
	return gone || err != nil
}
