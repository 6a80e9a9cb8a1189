package http2

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// closeTimeout bounds the last words to a peer, and the wait for it to read them.
const closeTimeout = time.Second

// conn is what both roles share.
type conn struct {
	nc         net.Conn
	o          Options
	client     bool
	handle     func(*Stream)
	ownWorkers bool
	done       chan struct{} // of a client: closed when the connection has ended
	result     error         // of a client: what it ended with; valid when done

	// Of the reading goroutine.
	in      input
	fr      *xhttp2.Framer
	dec     *hpack.Decoder
	block   block
	large   bool // the Framer has a large buffer
	hurried bool // rush runs
	rush    *time.Timer
	settled bool // the peer's first SETTINGS came

	mu      sync.Mutex // guards what follows, and the streams
	flushed sync.Cond  // flushing ended, or a handler did
	streams map[uint32]*Stream
	guard   guard
	resets  recent // streams reset on this side: the peer may not know yet
	ended   recent // streams that both sides ended

	handlers int    // of a server, running
	last     uint32 // of a server: the highest stream that the peer opened
	reserved int    // of a client: opened without a request yet
	nextID   uint32 // of a client

	recv, unacked int64 // the peer's window for us, and what was read of it
	send          int64 // our window
	peerWindow    int64 // of new streams
	peerFrame     int
	peerStreams   uint32
	peerConnect   bool          // extended CONNECT
	met           chan struct{} // closed when the peer's first SETTINGS came
	greeted       bool          // it is

	enc      *encoder
	out      []byte
	answers  int  // frames in out that answer the peer
	flushing bool // a goroutine is in flush
	// flushLater is flush as a value: one made for each use would be garbage.
	flushLater func()
	heads      waitList
	bodies     waitList
	deadline   time.Duration // when the deadline of writes was set

	draining bool   // no new streams
	final    uint32 // the last stream that is served, as GOAWAY told; maxStreamID+1: not told
	leaving  bool   // the peer sent GOAWAY
	ending   bool   // last words
	broken   error  // writing failed
	err      error  // why the connection ended

	idleSince time.Duration
	probing   bool // the server is asked whether it is there
	probe     *time.Timer
	idle      *time.Timer
	drainer   *time.Timer
}

func newConn(nc net.Conn, o Options, client bool) *conn {
	own := o.Workers == nil
	o = o.withDefaults(client)
	c := &conn{
		nc: nc, o: o, client: client, ownWorkers: own, done: make(chan struct{}),
		streams: map[uint32]*Stream{}, nextID: 1, final: maxStreamID + 1,
		recv: int64(o.ConnWindow), send: initialWindow, peerWindow: initialWindow,
		peerFrame: defaultFrameSize, peerStreams: maxStreamID, enc: newEncoder(), met: make(chan struct{}),
	}
	if client {
		c.peerStreams = 100 // until the peer says; RFC 9113 section 6.5.2 recommends no less
	}
	c.flushed.L = &c.mu
	c.in.init(nc, o.Pool, o.Now)
	c.newFramer()
	c.flushLater = c.flush
	c.block.limits = o.Limits
	c.dec = hpack.NewDecoder(encoderTable, c.block.add)
	c.dec.SetMaxStringLength(2 * o.Limits.HeaderBytes)
	return c
}

// newFramer forgets the buffer of the old one, which is as large as its largest frame.
func (c *conn) newFramer() {
	c.fr = xhttp2.NewFramer(nil, &c.in)
	c.fr.SetReuseFrames()
	c.fr.SetMaxReadFrameSize(c.o.MaxFrameSize)
	c.large = false
}

// slim gives memory back when the connection is about to wait and has no streams.
func (c *conn) slim() {
	if !c.large || c.block.open || c.in.r < c.in.w {
		return
	}
	c.mu.Lock()
	idle := len(c.streams) == 0
	c.mu.Unlock()
	if idle {
		c.newFramer()
	}
}

// hurry says whether the peer has begun something that it must complete in time: the
// preface, a header block, a frame other than DATA. Of the reading goroutine.
func (c *conn) hurry(on bool) {
	if on == c.hurried {
		return
	}
	c.hurried = on
	switch {
	case !on:
		c.rush.Stop()
	case c.rush == nil:
		c.rush = time.AfterFunc(c.o.HeadTimeout, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.stop(errHeadTimeout)
		})
	default:
		c.rush.Reset(c.o.HeadTimeout)
	}
}

// greet queues the connection preface (RFC 9113 section 3.4).
func (c *conn) greet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []setting{
		{xhttp2.SettingInitialWindowSize, c.o.StreamWindow},
		{xhttp2.SettingMaxFrameSize, c.o.MaxFrameSize},
		{xhttp2.SettingMaxHeaderListSize, uint32(c.o.Limits.HeaderBytes)},
	}
	if c.client {
		c.grow(len(xhttp2.ClientPreface))
		c.out = append(c.out, xhttp2.ClientPreface...)
		all = append(all, setting{xhttp2.SettingEnablePush, 0})
	} else {
		all = append(all, setting{xhttp2.SettingMaxConcurrentStreams, c.o.MaxConcurrentStreams})
		if c.o.ExtendedConnect {
			all = append(all, setting{xhttp2.SettingEnableConnectProtocol, 1})
		}
	}
	c.sendSettings(all...)
	if n := int64(c.o.ConnWindow) - initialWindow; n > 0 {
		c.sendWindow(0, n)
	}
	c.nowIdle()
}

// readFrames reads until the connection ends, and says why.
func (c *conn) readFrames() error {
	for {
		c.slim()
		h, err := c.fr.ReadFrameHeader()
		if err != nil {
			return c.readError(err)
		}
		if h.Type == xhttp2.FrameData && c.settled {
			if err := c.receiveData(h); err != nil {
				return err
			}
			continue
		}
		c.large = c.large || h.Length > 1<<10
		if int(h.Length) > c.in.w-c.in.r {
			c.hurry(true)
		}
		f, err := c.fr.ReadFrameForHeader(h)
		if err == nil {
			if err = c.receive(f); err != nil {
				return err
			}
			c.hurry(c.block.open)
			continue
		}
		var se xhttp2.StreamError
		if !errors.As(err, &se) || h.Type != xhttp2.FrameWindowUpdate {
			return c.readError(err) // a header block that was not decoded cannot be left out
		}
		if err := c.receiveBadWindow(se.StreamID); err != nil {
			return err
		}
	}
}

// readError makes an *Error of what the Framer refused.
func (c *conn) readError(err error) error {
	var ce xhttp2.ConnectionError
	var se xhttp2.StreamError
	switch {
	case errors.As(err, &ce):
		return c.frameError(Code(ce))
	case errors.As(err, &se):
		return c.frameError(se.Code)
	case errors.Is(err, xhttp2.ErrFrameTooLarge):
		return &Error{Code: CodeFrameSize, Rule: "frame_too_large", Text: "a frame is larger than SETTINGS_MAX_FRAME_SIZE"}
	}
	return err
}

func (c *conn) frameError(code Code) *Error {
	text := "a frame has an invalid length, stream or order"
	if d := c.fr.ErrorDetail(); d != nil {
		text = d.Error()
	}
	rule := "frame_invalid"
	if code == CodeFrameSize {
		rule = "frame_size_invalid"
	}
	return &Error{Code: code, Rule: rule, Text: text}
}

// end tells the peer why, ends all streams, waits for the handlers and closes.
func (c *conn) end(err error) error {
	c.mu.Lock()
	if c.err != nil {
		err = c.err // what made reading fail
	}
	var e *Error
	broke := errors.As(err, &e)
	c.ending = true
	_ = c.nc.SetWriteDeadline(time.Now().Add(closeTimeout))
	if broke {
		c.sendGoAway(c.last, e.Code, e.Rule)
	}
	c.fail(err)
	for c.flushing {
		c.flushed.Wait()
	}
	c.mu.Unlock()
	if broke {
		c.linger()
	}
	_ = c.nc.Close()
	c.mu.Lock()
	for c.handlers > 0 {
		c.flushed.Wait()
	}
	for _, t := range []*time.Timer{c.idle, c.drainer, c.probe, c.rush} {
		if t != nil {
			t.Stop()
		}
	}
	c.mu.Unlock()
	c.in.close()
	if c.ownWorkers {
		c.o.Workers.Close()
	}
	if broke {
		return e
	}
	if err == ErrClosed || err == io.EOF {
		return nil
	}
	return err
}

// linger lets the peer read the GOAWAY: a close with unread bytes would reset the
// connection. Bounded in time and bytes.
func (c *conn) linger() {
	w, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(closeTimeout))
	buf := c.o.Pool.Small()
	defer c.o.Pool.Return(buf)
	for left := 256 << 10; left > 0; {
		n, err := c.nc.Read(buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// fail ends all streams with the error. c.mu is held.
func (c *conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	for _, s := range c.streams {
		s.fail(err)
	}
	for s := c.heads.pop(); s != nil; s = c.heads.pop() {
		s.cond.Broadcast()
	}
	for s := c.bodies.pop(); s != nil; s = c.bodies.pop() {
		s.cond.Broadcast()
	}
}

// stop makes reading end with the error. c.mu is held.
func (c *conn) stop(err error) {
	c.fail(err)
	_ = c.nc.SetReadDeadline(longAgo)
}

// remove forgets a stream that is closed on the wire. c.mu is held.
func (c *conn) remove(s *Stream) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	c.nowIdle()
}

// nowIdle looks whether there is a stream. c.mu is held.
func (c *conn) nowIdle() {
	if len(c.streams) > 0 || c.reserved > 0 || c.err != nil {
		return
	}
	if c.draining && c.final <= maxStreamID || c.client && (c.draining || c.leaving) {
		c.stop(ErrClosed)
		return
	}
	if c.o.IdleTimeout <= 0 {
		return
	}
	c.idleSince = c.o.Now()
	if c.idle == nil {
		c.idle = time.AfterFunc(c.o.IdleTimeout, c.idled)
	}
}

// idled runs when the idle timer does, mostly too early.
func (c *conn) idled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	left := c.o.IdleTimeout
	if len(c.streams) == 0 && c.reserved == 0 {
		left = c.idleSince + c.o.IdleTimeout - c.o.Now()
	}
	if left > 0 {
		c.idle.Reset(left)
		return
	}
	c.sendGoAway(c.last, CodeNo, "idle")
	c.stop(ErrClosed)
}

// recent remembers the last streams of a kind.
type recent struct {
	ids  [128]uint32
	next uint8
}

func (r *recent) add(id uint32) {
	r.ids[r.next%uint8(len(r.ids))] = id
	r.next++
}

func (r *recent) has(id uint32) bool { return slices.Contains(r.ids[:], id) }
