package http2

import (
	"io"
	"sync"
	"time"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// Stream is one request and its response.
//
// In a server's handler: ReadRequest, the body (Next until io.EOF), and WriteResponse,
// Write and WriteTrailers until one of them ends the stream. The package releases the
// stream when the handler returns. In a client: WriteRequest, Write and WriteTrailers;
// ReadResponse until one that is not interim, the body, and Release.
//
// One goroutine may read while another writes. What is written goes out soon, in the
// order of the calls, together with what other streams write meanwhile: there is nothing
// to flush.
type Stream struct {
	c    *conn
	id   uint32
	cond sync.Cond

	request http1.Request
	refused *Error // why the request is

	// Of a client.
	replies           []http1.Response // responses[:n] wait to be read; the rest keeps storage
	responses         int
	isHead, isConnect bool
	upgrade           string
	answered          bool // the last response head came
	noBody            bool // a response that has none

	in     queue
	trail  http1.Fields
	left   int64 // of the declared length, not received; -1: none
	unread int64 // of the declared length, not handed out
	recv   int64 // the peer's window
	unacked,
	send int64 // our window

	began       int64 // when the connection had heard of the peer last
	open        bool  // in c.streams once, and not released
	remoteEnd   bool  // END_STREAM came
	localEnd    bool  // END_STREAM was sent
	peerReset   bool
	peerCode    Code
	interrupted bool
	err         error // why it ended early
	onGone      func(uint64)
	use         uint64 // for onGone

	list       *waitList
	prev, next *Stream
}

func newStream(c *conn, id uint32) *Stream {
	s, _ := c.o.Workers.streams.Get().(*Stream)
	if s == nil {
		s = &Stream{}
	}
	s.c, s.id = c, id
	s.cond.L = &c.mu
	s.recv, s.send = int64(c.o.StreamWindow), c.peerWindow
	s.left, s.unread = -1, -1
	return s
}

// recycle keeps the stream's storage for another. Nobody may use it any more.
func (s *Stream) recycle() {
	s.request.Fields.Reset()
	s.trail.Reset()
	for i := range s.replies {
		s.replies[i].Fields.Reset()
		s.replies[i] = http1.Response{Fields: s.replies[i].Fields}
	}
	w := s.c.o.Workers
	*s = Stream{
		request: http1.Request{Fields: s.request.Fields}, replies: s.replies, trail: s.trail,
		in: queue{pieces: s.in.pieces},
	}
	w.streams.Put(s)
}

// ID is the stream's identifier, 0 before WriteRequest.
func (s *Stream) ID() uint32 { return s.id }

// fail ends the stream early. c.mu is held.
func (s *Stream) fail(err error) {
	if s.err == nil {
		s.err = err
		if s.onGone != nil && err != ErrReset {
			go s.onGone(s.use)
		}
	}
	s.unlist()
	s.cond.Broadcast()
}

// close is for a stream that both sides ended. c.mu is held.
func (c *conn) close(s *Stream) {
	c.guard.ended()
	c.ended.add(s.id)
	c.remove(s)
}

// OnGone has f called with use, on a goroutine of its own, when the stream ends early and
// not by its own Reset. The call may come late, when the handler has returned: use tells
// f what it is about.
func (s *Stream) OnGone(f func(use uint64), use uint64) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.onGone, s.use = f, use
	if s.err != nil && s.err != ErrReset {
		go f(use)
	}
}

// Gone reports whether the stream ended early: the peer reset it, the connection is
// dead, or it was reset here. A caller that waits for something else asks now and then.
func (s *Stream) Gone() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.err != nil
}

// PeerReset is the code that the peer reset the stream with, if it did.
func (s *Stream) PeerReset() (Code, bool) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.peerCode, s.peerReset
}

// SetDeadline with a time in the past interrupts whatever waits on the stream and makes
// what follows fail with ErrInterrupted, reads and writes, until a SetDeadline with the
// zero time. A time in the future is an error: the caller has the clock.
func (s *Stream) SetDeadline(t time.Time) error {
	if !t.IsZero() && time.Until(t) > 0 {
		return errFutureDeadline
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.interrupted = !t.IsZero()
	if s.interrupted {
		s.cond.Broadcast()
	}
	return nil
}

// Reset ends the stream with RST_STREAM, unless it has ended.
func (s *Stream) Reset(code Code) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.reset(code)
}

func (s *Stream) reset(code Code) {
	if s.err == nil && s.open && s.c.streams[s.id] == s {
		s.c.sendReset(s.id, code)
		s.c.resets.add(s.id)
		s.c.remove(s)
		s.c.suspect(s)
	}
	s.fail(ErrReset)
}

// Release ends the use of the stream: strings that came from it are no longer valid. A
// stream that has not ended is reset: by a server that sent its whole response with
// NO_ERROR (RFC 9113 section 8.1), else with INTERNAL_ERROR; by a client with CANCEL. A
// client must call it once, when nothing else uses the stream; a server need not.
func (s *Stream) Release() {
	c := s.c
	c.mu.Lock()
	s.finish()
	c.mu.Unlock()
	if c.client {
		s.recycle()
	}
}

func (s *Stream) finish() {
	c := s.c
	switch {
	case c.client && !s.open:
		if s.id == 0 {
			c.reserved--
			c.nowIdle()
		}
	case c.client:
		s.reset(CodeCancel)
	case s.localEnd:
		s.reset(CodeNo)
	default:
		s.reset(CodeInternal)
	}
	c.remove(s) // it is still there when the connection failed before the stream ended
	s.open = false
	c.credit(int64(s.in.reset(c.o.Pool)))
}

// serve runs the handler, on a goroutine of Workers.
func (s *Stream) serve() {
	c := s.c
	c.handle(s)
	c.mu.Lock()
	s.finish()
	c.handlers--
	if c.err != nil && c.handlers == 0 {
		c.flushed.Broadcast()
	}
	c.mu.Unlock()
	s.recycle()
}

// ReadRequest takes over the request's head. An *Error says which rule it breaks; then q
// has what was understood, and the stream has been reset unless the Error has a Status.
// The strings of q are valid until Release.
func (s *Stream) ReadRequest(q *http1.Request) error {
	s.request, *q = *q, s.request
	if s.refused != nil {
		return s.refused
	}
	return nil
}

// ReadResponse waits for the next response head and takes it over. Interim responses are
// returned like others; after the last head comes io.EOF.
func (s *Stream) ReadResponse(r *http1.Response) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for s.responses == 0 {
		switch {
		case s.interrupted:
			return ErrInterrupted
		case s.answered:
			return io.EOF
		case s.err != nil:
			return s.err
		}
		s.cond.Wait()
	}
	if s.interrupted {
		return ErrInterrupted
	}
	first := s.replies[0]
	n := copy(s.replies, s.replies[1:])
	*r, s.replies[n] = first, *r
	s.responses--
	return nil
}

// addResponse returns the place for one more response.
func (s *Stream) addResponse() *http1.Response {
	if s.responses == len(s.replies) {
		s.replies = append(s.replies, http1.Response{})
	}
	r := &s.replies[s.responses]
	r.Fields.Reset()
	*r = http1.Response{Fields: r.Fields}
	s.responses++
	return r
}

// method is what matters of the request's method for its response.
func (s *Stream) method() string {
	switch {
	case s.isHead:
		return "HEAD"
	case s.isConnect:
		return "CONNECT"
	}
	return ""
}

// Next returns the next piece of the body, valid until the next call, and gives the peer
// that much of the flow-control window back. It returns io.EOF after the last piece.
func (s *Stream) Next() ([]byte, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if s.interrupted {
			return nil, ErrInterrupted
		}
		if s.in.n > 0 {
			p := s.in.pop(c.o.Pool)
			if s.unread > 0 {
				s.unread -= int64(len(p))
			}
			c.credit(int64(len(p)))
			s.creditStream(int64(len(p)))
			return p, nil
		}
		s.in.pop(c.o.Pool) // gives the last piece's buffer back
		if s.remoteEnd {
			return nil, io.EOF
		}
		if s.err != nil {
			return nil, s.err
		}
		s.cond.Wait()
	}
}

// Done reports whether the body has been read to its end: Next returns io.EOF.
func (s *Stream) Done() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.remoteEnd && s.in.n == 0
}

// Ready reports whether Next surely goes on without waiting.
func (s *Stream) Ready() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.in.n > 0
}

// Left is how many bytes of a body with a declared length have not been returned by
// Next; -1 for other bodies.
func (s *Stream) Left() int64 {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.unread
}

// Trailers of the body, when it is Done. Their strings are valid until Release.
func (s *Stream) Trailers() *http1.Fields { return &s.trail }
