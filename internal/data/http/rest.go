package http

import (
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rests are the connections that have had no request for a while. They have no goroutine:
// its stack would be more than all else that such a connection needs. One epoll instance
// tells when one of them has something to read, and then it gets a goroutine again.
type rests struct {
	mu     sync.Mutex
	all    map[uint64]*session // by token
	last   uint64              // token: descriptors are used again, these are not
	epoll  *os.File            // nil before the first rest
	fd     int                 // of epoll
	closed bool
	done   chan struct{} // the loop has ended
}

// close ends the loop. No connection may rest any more.
func (r *rests) close() {
	r.mu.Lock()
	r.closed = true
	epoll := r.epoll
	r.mu.Unlock()
	if epoll != nil {
		_ = epoll.Close()
		<-r.done
	}
}

// enter makes a place for a connection; false where it cannot rest.
func (r *rests) enter(s *session) (fd int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.epoll == nil && !r.open() {
		return 0, false
	}
	r.last++
	s.token = r.last
	r.all[s.token] = s
	return r.fd, true
}

// open makes the epoll instance, which the runtime's own waits for; mu is held.
func (r *rests) open() bool {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return false
	}
	epoll := os.NewFile(uintptr(fd), "epoll")
	raw, err := epoll.SyscallConn()
	if err != nil {
		_ = epoll.Close()
		return false
	}
	r.epoll, r.fd, r.all, r.done = epoll, fd, map[uint64]*session{}, make(chan struct{})
	go r.loop(raw)
	return true
}

// take gives a resting connection to one of those who want to wake it.
func (r *rests) take(token uint64) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.all[token]
	delete(r.all, token)
	return s
}

// loop wakes the connections that have something to read, until the instance is closed.
func (r *rests) loop(raw syscall.RawConn) {
	defer close(r.done)
	var events [64]unix.EpollEvent
	n := 0
	look := func(fd uintptr) bool {
		n = epollWait(fd, events[:])
		return n > 0
	}
	for raw.Read(look) == nil {
		for i := range events[:n] {
			token := uint64(uint32(events[i].Fd)) | uint64(uint32(events[i].Pad))<<32
			if s := r.take(token); s != nil {
				go s.resume()
			}
		}
	}
}

// epollWait is epoll_wait(2) that does not wait.
func epollWait(fd uintptr, events []unix.EpollEvent) int {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
		if errno == 0 {
			return int(n)
		}
		if errno != unix.EINTR {
			return 0
		}
	}
}

// rest ends this goroutine's part in the connection: another will go on when there is
// something to read, or when the watch interrupts.
func (s *session) rest() {
	epoll, ok := s.h.rests.enter(s)
	if !ok {
		go s.run()
		return
	}
	token := s.token // s may belong to another goroutine from now on
	if !s.watch.attach((*waker)(s)) {
		s.h.rests.wake(token)
		return
	}
	ctlErr := error(nil)
	err := s.wire.raw.Control(func(fd uintptr) {
		ctlErr = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(uint32(token)), Pad: int32(uint32(token >> 32)),
		})
	})
	if err != nil || ctlErr != nil {
		s.h.rests.wake(token)
	}
}

// wake lets a connection go on, unless it does already.
func (r *rests) wake(token uint64) {
	if s := r.take(token); s != nil {
		go s.resume()
	}
}

// resume goes on after a rest.
func (s *session) resume() {
	s.watch.attach(nil)
	s.woken = s.h.now()
	s.h.rests.mu.Lock()
	epoll := s.h.rests.fd
	s.h.rests.mu.Unlock()
	// An error: it is not there, or the connection is closed.
	_ = s.wire.raw.Control(func(fd uintptr) { _ = unix.EpollCtl(epoll, unix.EPOLL_CTL_DEL, int(fd), nil) })
	s.run()
}

// waker is a resting session as something that the watch interrupts.
type waker session

// SetDeadline wakes: the watch only ever sets a deadline in the past.
func (w *waker) SetDeadline(time.Time) error {
	w.h.rests.wake(w.token)
	return nil
}
