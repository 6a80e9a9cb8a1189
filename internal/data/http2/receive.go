package http2

import (
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// Refusals of frames: of streams where receive only resets the stream, else of connections.
var (
	errFirstFrame    = &Error{CodeProtocol, "settings_missing", "the first frame is not SETTINGS", 0}
	errIdleStream    = &Error{CodeProtocol, "stream_idle", "a frame is for a stream that was not opened", 0}
	errStreamID      = &Error{CodeProtocol, "stream_id_invalid", "a stream has an identifier that the peer may not use", 0}
	errStreamClosed  = &Error{CodeStreamClosed, "stream_closed", "a frame came for a stream that the peer had ended", 0}
	errPush          = &Error{CodeProtocol, "push_promise", "PUSH_PROMISE was not allowed", 0}
	errWindowTooBig  = &Error{CodeFlowControl, "window_too_large", "a flow-control window would be over 2^31-1", 0}
	errWindowZero    = &Error{CodeProtocol, "window_update_zero", "WINDOW_UPDATE has no increment", 0}
	errSettingValue  = &Error{CodeProtocol, "setting_invalid", "a setting has a value that is not allowed", 0}
	errCompression   = &Error{CodeCompression, "header_block_invalid", "a header block cannot be decoded", 0}
	errBlockTooLarge = calm("header_block_too_large", "a header block is over twice the limit of heads")
	errContinuations = calm("continuation_flood", "a header block has too many CONTINUATION frames")
	errInterims      = calm("interim_flood", "too many interim responses")
	errHeadTimeout   = &Error{CodeNo, "head_timeout", "the preface, or a header block that had begun, was not complete in time", 0}
	errTooMany       = &Error{CodeRefusedStream, "too_many_streams", "the client opened more streams than it may", 0}
)

// drainPing is the payload of the PING that follows the first GOAWAY of a drain.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'}

// receive acts on a frame. An error ends the connection.
func (c *conn) receive(f xhttp2.Frame) error {
	if s, ok := f.(*xhttp2.SettingsFrame); !c.settled && (!ok || s.IsAck()) {
		return errFirstFrame
	}
	var e *Error
	switch f := f.(type) {
	case *xhttp2.HeadersFrame:
		e = c.receiveHeaders(f)
	case *xhttp2.ContinuationFrame:
		e = c.receiveContinuation(f)
	case *xhttp2.PriorityFrame:
		e = c.receivePriority(f)
	case *xhttp2.RSTStreamFrame:
		e = c.receiveReset(f)
	case *xhttp2.SettingsFrame:
		e = c.receiveSettings(f)
	case *xhttp2.PingFrame:
		e = c.receivePing(f)
	case *xhttp2.GoAwayFrame:
		e = c.receiveGoAway(f)
	case *xhttp2.WindowUpdateFrame:
		e = c.receiveWindow(f)
	case *xhttp2.PushPromiseFrame:
		e = errPush
	default:
		c.mu.Lock()
		e = c.guard.spend(workIgnored, 1, c.o.Now)
		c.mu.Unlock()
	}
	if e != nil {
		return e
	}
	return nil
}

// isIdle reports whether nobody has opened the stream. c.mu is held.
func (c *conn) isIdle(id uint32) bool {
	if c.client {
		return id%2 == 0 || id >= c.nextID
	}
	return id%2 == 0 || id > c.last
}

// fault resets a stream for a rule that its peer broke. c.mu is held.
func (c *conn) fault(id uint32, e *Error) *Error {
	if s := c.streams[id]; s != nil {
		s.fail(e)
		c.remove(s)
	}
	c.sendReset(id, e.Code)
	c.resets.add(id)
	if e := c.answer(); e != nil {
		return e
	}
	return c.guard.spend(workReset, 1, c.o.Now)
}

// closedStream is for a frame of a stream that is not open any more (RFC 9113 section
// 5.1): no mistake when it was reset here, the connection's end when the peer had ended
// it. c.mu is held.
func (c *conn) closedStream(id uint32) *Error {
	switch {
	case c.resets.has(id) || id > c.final:
		return c.guard.spend(workIgnored, 1, c.o.Now)
	case c.ended.has(id):
		return errStreamClosed
	}
	return c.fault(id, errStreamClosed)
}

func (c *conn) receiveHeaders(f *xhttp2.HeadersFrame) *Error {
	c.mu.Lock()
	kind, e := c.classify(f.StreamID, f.StreamEnded())
	c.mu.Unlock()
	if e != nil {
		return e
	}
	c.block.begin(kind, f.StreamID, f.StreamEnded())
	if f.HasPriority() && f.Priority.StreamDep == f.StreamID {
		c.block.err = errSelfDependency
	}
	return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
}

// classify says what a header block of the stream is. A block that breaks a rule of its
// stream only is decoded, and refused when it is complete.
func (c *conn) classify(id uint32, end bool) (blockKind, *Error) {
	s := c.streams[id]
	switch {
	case s != nil && c.client && !s.answered:
		return blockResponse, nil
	case s != nil:
		return blockTrailers, nil
	case !c.client && id%2 == 1 && id > c.last:
		c.last = id
		return blockRequest, nil
	case c.client && c.isIdle(id), id%2 == 0:
		return 0, errStreamID
	case !c.client && !c.resets.has(id) && !c.ended.has(id) && id <= c.final:
		return 0, errStreamID // left out, or reset by the client
	}
	return blockDropped, c.closedStream(id)
}

func (c *conn) receiveContinuation(f *xhttp2.ContinuationFrame) *Error {
	if c.block.frames++; c.block.frames > maxContinuations {
		return errContinuations
	}
	return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
}

// fragment decodes a piece of the block.
func (c *conn) fragment(p []byte, end bool) *Error {
	if c.block.encoded += len(p); c.block.encoded > 2*c.o.Limits.HeaderBytes {
		return errBlockTooLarge
	}
	c.dec.SetEmitEnabled(c.block.kind != blockDropped && c.block.err == nil)
	if _, err := c.dec.Write(p); err != nil {
		return errCompression
	}
	if c.block.open = !end; !end {
		return nil
	}
	if err := c.dec.Close(); err != nil {
		return errCompression
	}
	switch c.block.kind {
	case blockRequest:
		return c.receiveRequest()
	case blockResponse:
		return c.receiveResponse()
	case blockTrailers:
		return c.receiveTrailers()
	}
	return nil
}

// receiveRequest opens a stream of a server. What is refused is handed to the handler as
// well, so that it can be recorded.
func (c *conn) receiveRequest() *Error {
	b := &c.block
	s := newStream(c, b.stream)
	s.refused = b.request(&s.request, c.o.ExtendedConnect)
	s.trail.Reset()
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.stream > c.final {
		return c.guard.spend(workIgnored, 1, c.o.Now) // the peer was told that it is not served
	}
	if len(c.streams) >= int(c.o.MaxConcurrentStreams) || c.handlers >= 2*int(c.o.MaxConcurrentStreams) {
		return c.fault(b.stream, errTooMany)
	}
	s.begin(b)
	if s.refused != nil && s.refused.Status == 0 {
		if e := c.fault(s.id, s.refused); e != nil {
			return e
		}
	}
	c.handlers++
	c.o.Workers.run(s)
	return nil
}

// begin registers the stream of a request. c.mu is held.
func (s *Stream) begin(b *block) {
	q := &s.request
	s.c.streams[s.id] = s
	s.open, s.remoteEnd, s.began = true, b.end, s.c.in.at.Load()
	s.left = -1
	switch {
	case s.refused != nil: // its framing may not be known
	case q.Framing == http1.Length:
		s.left = q.Length
	case q.Framing == http1.NoBody && q.Upgrade == "" && q.Form != http1.AuthorityForm:
		s.left = 0
	}
	s.unread = s.left
}

func (c *conn) receiveResponse() *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.block
	s := c.streams[b.stream]
	if s == nil {
		return nil // reset meanwhile
	}
	if s.responses == maxHeads {
		return c.fault(s.id, errInterims)
	}
	r := s.addResponse()
	if e := b.response(r, s.method(), s.upgrade); e != nil {
		s.responses--
		return c.fault(s.id, e)
	}
	if !r.Interim() {
		s.answered = true
		s.left = -1
		tunnel := r.Status == 101 || s.isConnect && r.Status < 300
		switch {
		case r.Framing == http1.Length:
			s.left = r.Length
		case r.Framing == http1.NoBody && !tunnel:
			s.noBody = true
		}
		s.unread = s.left
	}
	if b.end {
		if r.Framing == http1.NoBody {
			s.left = -1
		}
		return c.endOf(s)
	}
	s.cond.Broadcast()
	return nil
}

func (c *conn) receiveTrailers() *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.block
	s := c.streams[b.stream]
	switch {
	case s == nil:
		return nil
	case s.remoteEnd:
		return c.fault(s.id, errStreamClosed)
	}
	if e := b.trailers(); e != nil {
		e2 := *e
		e2.Status = 0
		return c.fault(s.id, &e2)
	}
	if !b.end {
		return c.fault(s.id, errTrailersNoEnd)
	}
	s.trail, b.fields = b.fields, s.trail
	return c.endOf(s)
}

func (c *conn) receivePriority(f *xhttp2.PriorityFrame) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamDep == f.StreamID {
		if c.isIdle(f.StreamID) {
			return errSelfDependency
		}
		return c.fault(f.StreamID, errSelfDependency)
	}
	return c.guard.spend(workPriority, 1, c.o.Now)
}

func (c *conn) receiveReset(f *xhttp2.RSTStreamFrame) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isIdle(f.StreamID) {
		return errIdleStream
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return c.guard.spend(workIgnored, 1, c.o.Now)
	}
	s.peerReset, s.peerCode = true, f.ErrCode
	s.fail(&ResetError{f.ErrCode})
	c.remove(s)
	if c.client || c.o.Now()-time.Duration(s.began) > premature {
		return nil
	}
	return c.guard.spend(workReset, 1, c.o.Now)
}

func (c *conn) receiveSettings(f *xhttp2.SettingsFrame) *Error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.guard.spend(workSettings, max(1, f.NumSettings()), c.o.Now); e != nil {
		return e
	}
	if !c.settled {
		c.settled, c.peerStreams = true, maxStreamID // unless it says otherwise
	}
	for i := range f.NumSettings() {
		if e := c.apply(f.Setting(i)); e != nil {
			return e
		}
	}
	if !c.greeted {
		c.greeted = true
		close(c.met)
	}
	c.frame(xhttp2.FrameSettings, xhttp2.FlagSettingsAck, 0, nil)
	return c.answer()
}

// apply follows a setting of RFC 9113 section 6.5.2 or RFC 8441. c.mu is held.
func (c *conn) apply(s xhttp2.Setting) *Error {
	switch s.ID {
	case xhttp2.SettingHeaderTableSize:
		c.enc.setMax(s.Val)
	case xhttp2.SettingEnablePush:
		if s.Val > 1 || c.client && s.Val == 1 {
			return errSettingValue
		}
	case xhttp2.SettingMaxConcurrentStreams:
		c.peerStreams = s.Val
	case xhttp2.SettingInitialWindowSize:
		return c.applyWindow(s.Val)
	case xhttp2.SettingMaxFrameSize:
		if s.Val < defaultFrameSize || s.Val > maxFrameSize {
			return errSettingValue
		}
		c.peerFrame = int(min(s.Val, 64<<10)) // no need to send larger ones
	case xhttp2.SettingEnableConnectProtocol:
		if s.Val > 1 || s.Val == 0 && c.peerConnect {
			return errSettingValue
		}
		c.peerConnect = s.Val == 1
	}
	return nil
}

// applyWindow changes the windows of all streams (RFC 9113 section 6.9.2).
func (c *conn) applyWindow(v uint32) *Error {
	if v > maxWindow {
		return errWindowTooBig
	}
	delta := int64(v) - c.peerWindow
	c.peerWindow = int64(v)
	for _, s := range c.streams {
		if s.send += delta; s.send > maxWindow {
			return errWindowTooBig
		}
		s.cond.Broadcast()
	}
	return nil
}

func (c *conn) receivePing(f *xhttp2.PingFrame) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.guard.spend(workPing, 1, c.o.Now); e != nil {
		return e
	}
	if f.IsAck() {
		if f.Data == drainPing && c.draining && !c.client {
			c.finalGoAway()
		}
		return nil
	}
	c.frame(xhttp2.FramePing, xhttp2.FlagPingAck, 0, f.Data[:])
	return c.answer()
}

// receiveGoAway ends the streams that the peer leaves out.
func (c *conn) receiveGoAway(f *xhttp2.GoAwayFrame) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	if c.client {
		for id, s := range c.streams {
			if id > f.LastStreamID {
				s.peerReset, s.peerCode = true, CodeRefusedStream
				s.fail(&ResetError{CodeRefusedStream})
				delete(c.streams, id)
			}
		}
	}
	c.nowIdle()
	return c.guard.spend(workPing, 1, c.o.Now)
}

func (c *conn) receiveWindow(f *xhttp2.WindowUpdateFrame) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.guard.spend(workWindow, 1, c.o.Now); e != nil {
		return e
	}
	if f.StreamID == 0 {
		if c.send += int64(f.Increment); c.send > maxWindow {
			return errWindowTooBig
		}
		c.passOn()
		return nil
	}
	if c.isIdle(f.StreamID) {
		return errIdleStream
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return nil
	}
	if s.send += int64(f.Increment); s.send > maxWindow {
		return c.fault(s.id, errWindowTooBig)
	}
	s.cond.Broadcast()
	return nil
}

// receiveBadWindow is a WINDOW_UPDATE of a stream without an increment.
func (c *conn) receiveBadWindow(id uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isIdle(id) {
		return errIdleStream
	}
	var e *Error
	if c.streams[id] != nil {
		e = c.fault(id, errWindowZero)
	} else {
		e = c.guard.spend(workIgnored, 1, c.o.Now)
	}
	if e != nil {
		return e
	}
	return nil
}
