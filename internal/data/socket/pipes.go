package socket

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxIdlePipes bounds the pipes kept for later. One is in use only while bytes are
	// in it, so there are seldom more than a few.
	maxIdlePipes = 64
	// pipeSize is asked for, in bytes: with the default of 64 KiB bulk data needs more
	// calls and wake-ups. Where the user has too many large pipes it stays smaller.
	pipeSize = 1 << 20
)

// Pool has the buffers and pipes that relays need while bytes are on their way. The
// zero value is ready. Close it when no relay uses it any more.
type Pool struct {
	buffers sync.Pool
	relays  sync.Pool // of *Relay, for Move

	mu     sync.Mutex
	idle   []pipe
	closed bool
}

// pipe is the two ends of a pipe(2) that does not block.
type pipe struct{ r, w int }

// Close closes the idle pipes. It may be used after that, with more system calls.
func (p *Pool) Close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, one := range idle {
		one.close()
	}
}

func (p *Pool) buffer() *[bufferSize]byte {
	if b, ok := p.buffers.Get().(*[bufferSize]byte); ok {
		return b
	}
	return new([bufferSize]byte)
}

// relay takes a relay for Move.
func (p *Pool) relay() *Relay {
	if r, ok := p.relays.Get().(*Relay); ok {
		return r
	}
	return newRelay(p)
}

// giveRelayBack keeps a relay for later, without what it held.
func (p *Pool) giveRelayBack(r *Relay) {
	r.release()
	r.in, r.out, r.errno, r.eof = nil, nil, 0, false
	r.total, r.spliced, r.left = 0, 0, 0
	p.relays.Put(r)
}

// pipe takes an empty pipe.
func (p *Pool) pipe() (pipe, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		one := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return one, nil
	}
	p.mu.Unlock()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return pipe{}, err
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // else as it is
	return pipe{fds[0], fds[1]}, nil
}

// giveBack keeps an empty pipe for later.
func (p *Pool) giveBack(one pipe) {
	p.mu.Lock()
	if !p.closed && len(p.idle) < maxIdlePipes {
		p.idle = append(p.idle, one)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	one.close()
}

func (p pipe) close() {
	_ = syscall.Close(p.r)
	_ = syscall.Close(p.w)
}
