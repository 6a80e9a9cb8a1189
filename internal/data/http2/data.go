package http2

import (
	xhttp2 "golang.org/x/net/http2"
)

// Refusals of DATA frames.
var (
	errDataStream   = &Error{CodeProtocol, "frame_invalid", "a DATA frame is for stream 0", 0}
	errDataSize     = &Error{CodeFrameSize, "frame_size_invalid", "a padded DATA frame has no bytes", 0}
	errDataPadding  = &Error{CodeProtocol, "frame_invalid", "the padding of a DATA frame is longer than the frame", 0}
	errDataEarly    = malformed("data_before_headers", "DATA came before the response head")
	errNoHead       = malformed("response_missing", "the stream ended without a response head")
	errStreamWindow = &Error{CodeFlowControl, "stream_window_exceeded", "the stream's flow-control window was exceeded", 0}
	errConnWindow   = &Error{CodeFlowControl, "connection_window_exceeded", "the connection's flow-control window was exceeded", 0}
)

// data is a DATA frame while its payload comes. Its bytes go from the input's buffer to
// the stream's without a stay in the Framer, which has judged the frame's header.
type data struct {
	stream uint32
	length int // of the frame
	left   int // of the payload without padding
	end    bool
	begun  bool // counted
	drop   bool // nobody wants it
}

// receiveData reads the payload of a DATA frame.
func (c *conn) receiveData(h xhttp2.FrameHeader) error {
	d := data{stream: h.StreamID, length: int(h.Length), left: int(h.Length), end: h.Flags.Has(xhttp2.FlagDataEndStream)}
	pad, err := c.padding(h, &d)
	if err != nil {
		return err
	}
	for {
		p, err := c.in.next(d.left)
		if err != nil {
			return err
		}
		if e := c.receivePiece(&d, p); e != nil {
			return e
		}
		if d.left == 0 {
			break
		}
	}
	for pad > 0 {
		p, err := c.in.next(pad)
		if err != nil {
			return err
		}
		pad -= len(p)
	}
	return nil
}

// padding reads the length of the padding, which stands before the data.
func (c *conn) padding(h xhttp2.FrameHeader, d *data) (int, error) {
	if h.StreamID == 0 {
		return 0, errDataStream
	}
	if !h.Flags.Has(xhttp2.FlagDataPadded) {
		return 0, nil
	}
	if d.left == 0 {
		return 0, errDataSize
	}
	p, err := c.in.next(1)
	if err != nil {
		return 0, err
	}
	pad := int(p[0])
	if d.left -= 1 + pad; d.left < 0 {
		return 0, errDataPadding
	}
	return pad, nil
}

// receivePiece hands bytes of the frame to the stream.
func (c *conn) receivePiece(d *data, p []byte) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !d.begun {
		d.begun = true
		if e := c.beginData(d); e != nil {
			return e
		}
	}
	d.left -= len(p)
	if d.drop {
		return nil
	}
	s := c.streams[d.stream]
	if s == nil { // ended here while the frame came
		c.credit(int64(len(p)))
		return nil
	}
	s.in.push(c.o.Pool, p)
	if d.left == 0 && d.end {
		return c.endOf(s)
	}
	s.cond.Broadcast()
	return nil
}

// beginData counts a DATA frame. c.mu is held.
func (c *conn) beginData(d *data) *Error {
	n := int64(d.length)
	if c.isIdle(d.stream) {
		return errIdleStream
	}
	if c.recv -= n; c.recv < 0 {
		return errConnWindow
	}
	s := c.streams[d.stream]
	var e *Error
	switch {
	case s == nil:
		d.drop, e = true, c.closedStream(d.stream)
	case s.remoteEnd:
		d.drop, e = true, c.fault(d.stream, errStreamClosed)
	default:
		if bad := s.accept(n, int64(d.left)); bad != nil {
			d.drop, e = true, c.fault(d.stream, bad)
		}
	}
	if d.drop {
		c.credit(n)
		return e
	}
	c.credit(n - int64(d.left)) // padding is consumed at once
	s.creditStream(n - int64(d.left))
	if d.left == 0 && !d.end {
		return c.guard.spend(workEmpty, 1, c.o.Now)
	}
	return nil
}

// accept counts a DATA frame of n bytes, data of them without padding.
func (s *Stream) accept(n, data int64) *Error {
	if s.recv -= n; s.recv < 0 {
		return errStreamWindow
	}
	if data == 0 {
		return nil
	}
	switch {
	case s.c.client && !s.answered:
		return errDataEarly
	case s.noBody:
		return errBodyUnexpected
	case s.left >= 0 && data > s.left:
		return errLengthMismatch
	case s.left >= 0:
		s.left -= data
	}
	return nil
}

// endOf takes END_STREAM. c.mu is held.
func (c *conn) endOf(s *Stream) *Error {
	switch {
	case s.left > 0:
		return c.fault(s.id, errLengthMismatch)
	case c.client && !s.answered:
		return c.fault(s.id, errNoHead)
	}
	s.remoteEnd = true
	if s.localEnd {
		c.close(s)
	}
	s.cond.Broadcast()
	return nil
}

// credit returns n bytes of the connection's window to the peer, in large steps. c.mu is
// held.
func (c *conn) credit(n int64) {
	c.unacked += n
	if c.unacked >= int64(c.o.ConnWindow)/2 {
		c.sendWindow(0, c.unacked)
		c.recv += c.unacked
		c.unacked = 0
	}
}

// creditStream is credit for the stream.
func (s *Stream) creditStream(n int64) {
	s.unacked += n
	if s.unacked >= int64(s.c.o.StreamWindow)/2 && !s.remoteEnd && s.open {
		s.c.sendWindow(s.id, s.unacked)
		s.recv += s.unacked
		s.unacked = 0
	}
}
