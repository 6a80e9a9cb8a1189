package http2

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

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

// room waits until a head can be appended. c.mu is held.
func (s *Stream) room() error {
	c := s.c
	for {
		if err := s.writable(); err != nil {
			s.unlist()
			c.passOn()
			return err
		}
		if c.spare() > 0 {
			s.unlist()
			return nil
		}
		if s.list == nil {
			c.heads.push(s)
		}
		s.cond.Wait()
	}
}

// writable is nil when the stream can be written to. c.mu is held.
func (s *Stream) writable() error {
	switch {
	case s.interrupted:
		return ErrInterrupted
	case s.err != nil:
		return s.err
	case s.c.err != nil:
		return ErrGoingAway // of a stream that has no request yet
	case s.localEnd:
		return ErrReset
	}
	return nil
}

// WriteResponse queues a response head; end: without body and trailers. Names are
// written in lower case, fields that belong to HTTP/1.1 connections left out, and
// Content-Length written from Framing, Length and Declared (-1: unknown). An answer with
// 101 becomes the 200 that extended CONNECT wants.
func (s *Stream) WriteResponse(r *http1.Response, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.room(); err != nil {
		return err
	}
	start := c.beginBlock(sizeOf(&r.Fields))
	c.out = c.enc.status(c.out, r.Status)
	length := int64(-1)
	switch {
	case r.Framing == http1.Length:
		length = r.Length
	case r.Framing == http1.NoBody && r.Status >= 200 && r.Status != 204:
		length = r.Declared
	}
	c.endBlock(start, s, &r.Fields, length, end)
	return nil
}

// WriteRequest opens the stream with a request head; end: without body and trailers.
// scheme is "http" or "https". Fields are written as by WriteResponse, and "te:
// trailers" where q.TETrailers is set. A request to upgrade becomes extended CONNECT, or
// ErrNoExtendedConnect. ErrGoingAway says that nothing was sent.
func (s *Stream) WriteRequest(q *http1.Request, scheme string, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.Upgrade != "" && !c.peerConnect {
		return ErrNoExtendedConnect
	}
	if err := s.reserveID(); err != nil {
		return err
	}
	s.isHead, s.isConnect = q.Method == "HEAD", q.Method == "CONNECT"
	s.upgrade = strings.Clone(q.Upgrade)
	start := c.beginBlock(sizeOf(&q.Fields) + len(q.Path) + len(q.Authority) + 64)
	c.out = c.enc.request(c.out, q, scheme)
	length := int64(-1)
	if q.Framing == http1.Length {
		length = q.Length
	}
	c.endBlock(start, s, &q.Fields, length, end)
	return nil
}

// reserveID waits for room and gives the stream its identifier: they must be in the order
// of the heads.
func (s *Stream) reserveID() error {
	c := s.c
	if err := s.room(); err != nil {
		return err
	}
	if c.err != nil || c.leaving || c.draining || c.nextID > maxStreamID {
		return ErrGoingAway
	}
	s.id, s.open = c.nextID, true
	s.send, s.began = c.peerWindow, c.in.at.Load()
	c.nextID += 2
	c.reserved--
	c.streams[s.id] = s
	return nil
}

// WriteTrailers ends the stream with trailers.
func (s *Stream) WriteTrailers(f *http1.Fields) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.room(); err != nil {
		return err
	}
	c.endBlock(c.beginBlock(sizeOf(f)), s, f, -1, true)
	return nil
}

// Write queues bytes of the body; end: they are the last. It waits while a flow-control
// window or the connection's output is full. p is not kept. After an error some of p
// may have been sent.
func (s *Stream) Write(p []byte, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.passOn()
	for turn := false; ; {
		if err := s.writable(); err != nil {
			s.unlist()
			return err
		}
		n := int(min(int64(len(p)), int64(c.peerFrame), s.send, c.send))
		n = min(n, c.spare())
		if n > 0 && (!turn || c.bodies.first == nil) || len(p) == 0 {
			s.unlist()
			last := n == len(p)
			if len(p) > 0 || end {
				c.sendData(s, p[:n], end && last)
			}
			if last {
				s.sent(end)
				return nil
			}
			p, turn = p[n:], true
			continue
		}
		if s.send > 0 && s.list == nil {
			c.bodies.push(s) // the connection's window or output, or the others' turn
		}
		turn = false
		c.passOn()
		s.cond.Wait()
	}
}

// sent notes that END_STREAM was sent. c.mu is held.
func (s *Stream) sent(end bool) {
	if !end {
		return
	}
	s.localEnd = true
	if s.remoteEnd {
		s.c.close(s)
	}
}

func (c *conn) beginBlock(size int) int {
	c.grow(frameHeader + size + 64)
	start := len(c.out)
	c.out = c.enc.begin(c.out[:start+frameHeader])
	return start
}

// endBlock appends the fields and the frame.
func (c *conn) endBlock(start int, s *Stream, f *http1.Fields, length int64, end bool) {
	c.out = c.enc.fields(c.out, f)
	if length >= 0 {
		var digits [20]byte
		c.out = c.enc.field(c.out, "content-length", text(strconv.AppendInt(digits[:0], length, 10)), false)
	}
	c.sendBlock(start, s.id, end)
	s.sent(end)
	c.passOn()
}

// sizeOf is about how many bytes a section takes as a block.
func sizeOf(f *http1.Fields) int {
	n := 0
	for x := range f.Each {
		n += len(x.Name) + len(x.Value) + 8
	}
	return n
}

// text views b as a string that must not outlive the call.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
