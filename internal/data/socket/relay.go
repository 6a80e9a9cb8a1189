package socket

import (
	"io"
	"math"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// bufferSize is the most that one recv takes.
	bufferSize = 16 << 10
	// spliceKeep is the least that a splice must move for the next wait to be for a
	// splice, too: below that, a copy is cheaper than two calls and a pipe.
	spliceKeep = 8 << 10
)

// Relay moves the bytes of one direction, from one socket to another. It copies what
// comes in small pieces and splices what comes in large ones; while it waits for bytes it
// holds neither a buffer nor a pipe.
type Relay struct {
	in, out syscall.RawConn
	pool    *Pool
	moved   func() // after each piece; may be nil
	total   int64
	spliced int64 // of total
	left    int64 // bytes that may still be moved

	// Of the callbacks below, which are made once: a closure per call would allocate.
	receive, send, fill, drain func(fd uintptr) bool

	buffer  *[bufferSize]byte
	pending []byte // of buffer, not sent yet
	pipe    pipe
	holds   bool // pipe is ours
	inPipe  int
	errno   syscall.Errno
	eof     bool
	bulk    bool // the last piece was large
}

// NewRelay makes the relay from src to dst; false where one of them is not a socket
// itself. moved is called after each piece; it may be nil.
func NewRelay(dst, src net.Conn, pool *Pool, moved func()) (*Relay, bool) {
	in, out := Raw(src), Raw(dst)
	if in == nil || out == nil {
		return nil, false
	}
	r := newRelay(pool)
	r.in, r.out, r.moved, r.left = in, out, moved, math.MaxInt64
	return r, true
}

func newRelay(pool *Pool) *Relay {
	r := &Relay{pool: pool}
	r.receive, r.send, r.fill, r.drain = r.tryReceive, r.trySend, r.tryFill, r.tryDrain
	return r
}

// Total is how many bytes were moved.
func (r *Relay) Total() int64 { return r.total }

// Run moves bytes until the end of src, which is no error. It does not pass that end on.
func (r *Relay) Run() (srcErr, dstErr error) {
	defer r.release()
	for {
		if err := r.take(); err == io.EOF {
			return nil, nil
		} else if err != nil {
			return err, nil
		}
		if err := r.give(); err != nil {
			return nil, err
		}
		if r.moved != nil {
			r.moved()
		}
	}
}

// Move moves the next n bytes from src to dst, which are sockets, by splice(2) where they
// come in large pieces. It returns how many it moved: fewer only with an error of either
// side, which for src is io.EOF at its end. moved counts the pieces.
func Move(dst, src syscall.RawConn, n int64, pool *Pool, moved *atomic.Uint64) (total int64, srcErr, dstErr error) {
	r := pool.relay()
	defer pool.giveRelayBack(r)
	r.in, r.out, r.left, r.bulk = src, dst, n, true
	for r.left > 0 {
		if err := r.take(); err != nil {
			return r.total, err, nil
		}
		if err := r.give(); err != nil {
			return r.total, nil, err
		}
		moved.Add(1)
	}
	return r.total, nil, nil
}

// take waits for bytes. It may take none, where there was no pipe to be had: copy.
func (r *Relay) take() error {
	get := r.receive
	if r.bulk {
		get = r.fill
	}
	r.errno = 0
	if err := r.in.Read(get); err != nil {
		return err
	}
	if r.errno != 0 {
		return r.errno
	}
	if r.eof {
		return io.EOF
	}
	return nil
}

// give sends what take took.
func (r *Relay) give() error {
	put := r.send
	if r.inPipe > 0 {
		put = r.drain
	} else if len(r.pending) == 0 {
		return nil
	}
	if err := r.out.Write(put); err != nil {
		return err
	}
	if r.errno != 0 {
		return r.errno
	}
	r.release()
	return nil
}

// tryReceive reads once; false means that nothing is there yet, and then no buffer is
// kept while waiting.
func (r *Relay) tryReceive(fd uintptr) bool {
	if r.buffer == nil {
		r.buffer = r.pool.buffer()
	}
	n, errno := Recv(fd, r.buffer[:min(bufferSize, r.left)])
	if errno == unix.EAGAIN {
		r.release()
		return false
	}
	r.errno = errno
	r.eof = errno == 0 && n == 0
	r.pending = r.buffer[:max(n, 0)]
	r.bulk = n == bufferSize
	return true
}

// trySend writes what was read; false means that dst is full.
func (r *Relay) trySend(fd uintptr) bool {
	for len(r.pending) > 0 {
		n, errno := Send(fd, r.pending)
		if errno == unix.EAGAIN {
			return false
		}
		if errno != 0 {
			r.errno = errno
			return true
		}
		r.count(n)
		r.pending = r.pending[n:]
	}
	return true
}

// tryFill splices from src into a pipe; false means that nothing is there yet.
func (r *Relay) tryFill(fd uintptr) bool {
	if !r.holds {
		var err error
		if r.pipe, err = r.pool.pipe(); err != nil {
			r.bulk = false
			return true
		}
		r.holds = true
	}
	n, errno := splice(uintptr(r.pipe.w), fd, int(min(pipeSize, r.left)))
	if errno == unix.EAGAIN {
		r.release()
		return false
	}
	if errno == unix.EINVAL { // a socket that cannot be spliced
		r.bulk = false
		return true
	}
	r.errno = errno
	r.eof = errno == 0 && n == 0
	r.inPipe = max(n, 0)
	r.bulk = n >= spliceKeep
	return true
}

// tryDrain splices from the pipe to dst; false means that dst is full.
func (r *Relay) tryDrain(fd uintptr) bool {
	for r.inPipe > 0 {
		n, errno := splice(fd, uintptr(r.pipe.r), r.inPipe)
		if errno == unix.EAGAIN {
			return false
		}
		if errno != 0 {
			r.errno = errno
			return true
		}
		r.count(n)
		r.spliced += int64(n)
		r.inPipe -= n
	}
	return true
}

// count takes bytes that dst has into the totals.
func (r *Relay) count(n int) {
	r.total += int64(n)
	r.left -= int64(n)
}

// release gives back what is held. A pipe with bytes in it is closed.
func (r *Relay) release() {
	if r.buffer != nil {
		r.pool.buffers.Put(r.buffer)
		r.buffer, r.pending = nil, nil
	}
	if r.holds {
		r.holds = false
		if r.inPipe > 0 {
			r.inPipe = 0
			r.pipe.close()
			return
		}
		r.pool.giveBack(r.pipe)
	}
}
