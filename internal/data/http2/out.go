package http2

import (
	"encoding/binary"
	"errors"
	"runtime"
	"syscall"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

const frameHeader = 9 // bytes; RFC 9113 section 4.1

func appendHeader(dst []byte, n int, t xhttp2.FrameType, flags xhttp2.Flags, stream uint32) []byte {
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	return binary.BigEndian.AppendUint32(dst, stream)
}

// grow makes room for n more bytes of output. c.mu is held, as for all in this file but
// flush.
func (c *conn) grow(n int) {
	need := len(c.out) + n
	if need <= cap(c.out) {
		return
	}
	buf := c.o.Pool.Get(need)
	buf = buf[:copy(buf, c.out)]
	if c.out != nil {
		c.o.Pool.Return(c.out)
	}
	c.out = buf
}

// spare is how many bytes of output streams may still append.
func (c *conn) spare() int { return outputBound - len(c.out) }

// frame appends a small frame.
func (c *conn) frame(t xhttp2.FrameType, flags xhttp2.Flags, stream uint32, payload []byte) {
	c.grow(frameHeader + len(payload))
	c.out = append(appendHeader(c.out, len(payload), t, flags, stream), payload...)
	c.wake()
}

// answer counts a frame that answers the peer, and refuses a peer that does not read them.
func (c *conn) answer() *Error {
	if c.answers++; c.answers > maxControls {
		return calm("control_queue", "the peer sends frames that want an answer and does not read the answers")
	}
	return nil
}

func (c *conn) sendReset(stream uint32, code Code) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(code))
	c.frame(xhttp2.FrameRSTStream, 0, stream, p[:])
}

func (c *conn) sendWindow(stream uint32, n int64) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(n))
	c.frame(xhttp2.FrameWindowUpdate, 0, stream, p[:])
}

func (c *conn) sendGoAway(last uint32, code Code, text string) {
	p := make([]byte, 0, 8+len(text))
	p = binary.BigEndian.AppendUint32(p, last)
	p = binary.BigEndian.AppendUint32(p, uint32(code))
	c.frame(xhttp2.FrameGoAway, 0, 0, append(p, text...))
}

type setting struct {
	id xhttp2.SettingID
	v  uint32
}

func (c *conn) sendSettings(all ...setting) {
	p := make([]byte, 0, 6*len(all))
	for _, s := range all {
		p = binary.BigEndian.AppendUint16(p, uint16(s.id))
		p = binary.BigEndian.AppendUint32(p, s.v)
	}
	c.frame(xhttp2.FrameSettings, 0, 0, p)
}

// sendBlock frames the header block c.out[start+frameHeader:], before which room was left.
func (c *conn) sendBlock(start int, stream uint32, end bool) {
	flags := xhttp2.FlagHeadersEndHeaders
	if end {
		flags |= xhttp2.FlagHeadersEndStream
	}
	n := len(c.out) - start - frameHeader
	if n <= c.peerFrame {
		appendHeader(c.out[:start], n, xhttp2.FrameHeaders, flags, stream)
		c.wake()
		return
	}
	block := append([]byte(nil), c.out[start+frameHeader:]...)
	c.out = c.out[:start]
	c.grow(n + (n/c.peerFrame+1)*frameHeader)
	t := xhttp2.FrameHeaders
	flags &^= xhttp2.FlagHeadersEndHeaders
	for len(block) > 0 {
		k := min(len(block), c.peerFrame)
		if k == len(block) {
			flags |= xhttp2.FlagHeadersEndHeaders
		}
		c.out = append(appendHeader(c.out, k, t, flags, stream), block[:k]...)
		block, t, flags = block[k:], xhttp2.FrameContinuation, 0
	}
	c.wake()
}

func (c *conn) sendData(s *Stream, p []byte, end bool) {
	var flags xhttp2.Flags
	if end {
		flags = xhttp2.FlagDataEndStream
	}
	c.grow(frameHeader + len(p))
	c.out = append(appendHeader(c.out, len(p), xhttp2.FrameData, flags, s.id), p...)
	s.send -= int64(len(p))
	c.send -= int64(len(p))
	c.guard.sent()
	c.wake()
}

// wake makes sure that the output is written soon.
func (c *conn) wake() {
	if !c.flushing && c.broken == nil {
		c.flushing = true
		go c.flushLater()
	}
}

// flush writes what there is until there is nothing. It lets whoever is ready to run
// append first, so that many streams share a system call.
func (c *conn) flush() {
	runtime.Gosched()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && c.broken == nil {
		buf := c.out
		c.out, c.answers = nil, 0
		c.extendDeadline()
		c.passOn()
		c.mu.Unlock()
		_, err := c.nc.Write(buf)
		c.o.Pool.Return(buf)
		c.mu.Lock()
		if err != nil {
			c.lost(err)
		}
	}
	c.flushing = false
	c.flushed.Broadcast()
	c.passOn()
}

// lost notes that nothing can be written any more, and why. Where a server has closed,
// reading tells why, if it said so (a TLS alert), and ends at once. c.mu is held.
func (c *conn) lost(err error) {
	c.broken = err
	if c.client && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
		_ = c.nc.SetReadDeadline(time.Now().Add(closeTimeout))
		return
	}
	c.fail(err)
	_ = c.nc.SetReadDeadline(longAgo)
}

// longAgo is a deadline that interrupts what waits.
var longAgo = time.Unix(1, 0)

// extendDeadline moves the deadline of writes, but not on every one.
func (c *conn) extendDeadline() {
	now := c.o.Now()
	if c.ending || c.deadline != 0 && now-c.deadline < c.o.WriteTimeout/4 {
		return
	}
	c.deadline = now
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.o.WriteTimeout)) // an error shows in the write
}

// waitList is a queue of streams that wait to write.
type waitList struct{ first, last *Stream }

func (l *waitList) push(s *Stream) {
	s.list, s.prev, s.next = l, l.last, nil
	if l.last != nil {
		l.last.next = s
	} else {
		l.first = s
	}
	l.last = s
}

func (l *waitList) pop() *Stream {
	s := l.first
	if s != nil {
		s.unlist()
	}
	return s
}

// unlist takes the stream out of the list where it is in one.
func (s *Stream) unlist() {
	l := s.list
	if l == nil {
		return
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.last = s.prev
	}
	s.list, s.prev, s.next = nil, nil, nil
}

// passOn wakes one stream that can write now; it passes on in turn. Heads need no window.
func (c *conn) passOn() {
	if c.spare() <= 0 {
		return
	}
	s := c.heads.pop()
	if s == nil && c.send > 0 {
		s = c.bodies.pop()
	}
	if s != nil {
		s.cond.Broadcast()
	}
}
