package http2

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// The half of a stream that is sent.

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
		return goingAway(s.c.err) // of a stream that has no request yet
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

// goingAway is ErrGoingAway, with what ended the connection where something has.
func goingAway(err error) error {
	if err == nil || err == ErrClosed {
		return ErrGoingAway
	}
	return fmt.Errorf("%w: %w", ErrGoingAway, err)
}

// reserveID waits for room and gives the stream its identifier: they must be in the order
// of the heads.
func (s *Stream) reserveID() error {
	c := s.c
	if err := s.room(); err != nil {
		return err
	}
	if c.err != nil || c.broken != nil || c.leaving || c.draining || c.nextID > maxStreamID {
		return goingAway(c.err)
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
