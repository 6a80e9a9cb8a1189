package http2

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// input reads a connection with a buffer that holds many frames, and holds none while it
// waits where the connection is a socket.
type input struct {
	nc   net.Conn
	raw  syscall.RawConn // nil unless nc is a socket
	pool *http1.Pool
	buf  []byte
	r, w int
	much bool // the last read filled a small buffer
	now  func() time.Duration
	at   atomic.Int64 // when bytes came last, on the clock of now

	receive func(fd uintptr) bool // tryReceive as a value
	n       int                   // its result
	err     error
}

func (in *input) init(nc net.Conn, pool *http1.Pool, now func() time.Duration) {
	in.nc, in.pool, in.now = nc, pool, now
	var sc syscall.Conn
	switch nc := nc.(type) {
	case *net.TCPConn:
		sc = nc
	case *net.UnixConn:
		sc = nc
	default:
		return // not any connection with a descriptor: others may buffer above it
	}
	if raw, err := sc.SyscallConn(); err == nil {
		in.raw, in.receive = raw, in.tryReceive
	}
}

func (in *input) Read(p []byte) (int, error) {
	if in.r == in.w {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.buf[in.r:in.w])
	in.r += n
	return n, nil
}

// next returns at least one and at most n bytes, valid until the next read; none when n
// is 0.
func (in *input) next(n int) ([]byte, error) {
	if in.r == in.w && n > 0 {
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
	p := in.buf[in.r:min(in.w, in.r+n)]
	in.r += len(p)
	return p, nil
}

func (in *input) fill() error {
	in.close()
	var n int
	var err error
	if in.raw != nil {
		if err = in.raw.Read(in.receive); err == nil {
			err = in.err
		}
		n = in.n
	} else {
		in.buf = in.pool.Small()
		n, err = in.nc.Read(in.buf)
	}
	in.n, in.err = 0, nil
	if n > 0 {
		in.w, in.much = n, n >= 4<<10
		in.at.Store(int64(in.now()))
		return nil
	}
	in.close()
	if err == nil {
		err = io.EOF
	}
	return err
}

// tryReceive reads once; false means that nothing is there yet, and then no buffer is
// kept while waiting.
func (in *input) tryReceive(fd uintptr) bool {
	if in.much {
		in.buf = in.pool.Body()
	} else {
		in.buf = in.pool.Small()
	}
	n, errno := receive(fd, in.buf)
	if errno == unix.EAGAIN {
		in.close()
		return false
	}
	if in.n = max(n, 0); errno != 0 {
		in.err = errno
	}
	return true
}

// receive is recv(2) that does not block. It skips what Go does around system calls that
// may: this one never waits.
func receive(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// feed takes bytes that were read before.
func (in *input) feed(p []byte) {
	in.buf = append([]byte(nil), p...)
	in.r, in.w = 0, len(p)
}

func (in *input) close() {
	if in.buf != nil {
		in.pool.Return(in.buf)
	}
	in.buf, in.r, in.w = nil, 0, 0
}
