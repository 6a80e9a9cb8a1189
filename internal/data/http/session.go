package http

import (
	"bytes"
	"container/list"
	"runtime"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// session is one downstream connection. Between requests it holds no buffer and no
// exchange, so that an idle connection costs little memory.
type session struct {
	h      *Handler
	c      *Conn
	wire   wire
	reader *http1.Reader
	watch  watch
	// patience is the context of the first attempt to find a host.
	patience patience
	x        *exchange // the request under way
	requests uint32    // read so far
	preface  bool      // the client begins with HTTP/2's preface

	// reading: a request head is being read. large and holds are of heads, under its lock.
	reading bool
	large   *list.Element
	holds   int

	// idle is the keep-alive timeout, of the last plan.
	idle time.Duration
	// ended is when the last request ended, on the handler's clock.
	ended   time.Duration
	resting bool          // it is to rest, see rests
	token   uint64        // of its last rest
	woken   time.Duration // when that ended
	detach  func() bool   // from the context of Serve; may be nil
}

var _ client = (*session)(nil)

func newSession(h *Handler, c *Conn) *session {
	s := &session{h: h, c: c, idle: time.Hour}
	s.wire.init(c.Net, &h.buffers)
	s.reader = http1.NewReader(s, &h.buffers, h.limits.Limits)
	s.watch.now = h.now
	s.watch.down = c.Net
	s.watch.onCheck = s.check
	s.watch.armed.Store(never)
	if len(c.Peeked) > 0 {
		s.reader.Feed(c.Peeked)
		c.Peeked = nil
	}
	s.ended = h.now()
	return s
}

// Read is for the reader: all reads but the first of a request.
func (s *session) Read(p []byte) (int, error) {
	if size := s.reader.Memory(); s.reading && size > http1.SmallBuffer {
		s.h.heads.grow(s, size)
	}
	return s.wire.read(p)
}

// close ends the connection; there is nothing to do about an error.
func (s *session) close() {
	s.watch.stop()
	_ = s.c.Net.Close()
	s.reader.Close()
}

// run serves until the connection ends, or is to rest.
func (s *session) run() {
	for !s.speaks2() {
		if s.serveOne() {
			continue
		}
		if s.resting && s.watch.set(causeIdle, s.ended+s.idle) && !s.c.draining.Load() {
			s.resting = false
			s.rest()
			return
		}
		s.end()
		return
	}
	s.watch.stop()
	first := bytes.Clone(s.reader.TakeBuffered())
	s.reader.Close()
	s.h.serveHTTP2(s.c, first)
	s.end()
}

// end ends the connection.
func (s *session) end() {
	s.c.whenDrained(nil, false)
	if s.detach != nil {
		s.detach()
	}
	s.close()
	if s.c.Ended != nil {
		s.c.Ended()
	}
}

// drain runs when the connection is to be drained.
func (s *session) drain() {
	s.watch.interruptIf(causeIdle, causeDrain)
	s.watch.interruptIf(causeRest, causeDrain)
}

// speaks2 reports whether the connection is to be served as HTTP/2: by ALPN, by the
// connection manager's codec, or because the client began with the preface.
func (s *session) speaks2() bool {
	if s.requests > 0 {
		return s.preface
	}
	if s.c.Info.ALPN != "" {
		return s.c.Info.ALPN == "h2"
	}
	_, _, m := planOf(s.c)
	return m != nil && m.Codec == resource.CodecHTTP2
}

// serveOne waits for a request and serves it. It returns false when the connection
// is to be closed.
func (s *session) serveOne() bool {
	if !s.await() {
		return false
	}
	x := s.h.exchanges.Get().(*exchange)
	x.c, x.client, x.watch, x.patience = s.c, s, &s.watch, &s.patience
	x.begin(s.h, record.ProtocolHTTP11)
	s.x = x
	x.cfg, x.cplan, x.hcm = s.plan()
	x.run()
	s.preface = x.preface
	s.ended = x.ended()
	keep := s.after(x)
	s.reader.Release()
	s.x = nil
	x.end()
	s.h.exchanges.Put(x)
	return keep && !s.c.draining.Load()
}

// after reads what the request left unread, as far as that makes sense. It reports
// whether the connection may serve another request.
func (s *session) after(x *exchange) bool {
	switch {
	case x.preface:
		return true
	case x.unread, x.close && (!x.reqBody.Done() || s.reader.Buffered() > 0):
		s.linger()
		return false
	case x.close:
		return false
	}
	return s.drainRequest(x)
}

// drainRequest reads what is left of a request body, so that the next request can
// be read. It returns false when that is too much.
func (s *session) drainRequest(x *exchange) bool {
	if x.reqBody.Done() {
		return true
	}
	if !s.watch.set(causeLinger, s.h.now()+s.h.limits.LingerTime) {
		return false
	}
	for left := s.h.limits.DrainBytes; left > 0; {
		p, err := x.reqBody.Next()
		if err != nil || x.reqBody.Done() {
			return x.reqBody.Done() && s.watch.clear()
		}
		left -= int64(len(p))
	}
	return false
}

// await waits for the first bytes of a request. Nothing is recorded when none come:
// the client closed, or was idle for too long.
func (s *session) await() bool {
	if s.reader.Buffered() > 0 {
		return true
	}
	why, until := causeIdle, s.ended+s.idle
	if rest := max(s.ended, s.woken) + s.h.restAfter; s.c.Ended != nil && s.wire.raw != nil && rest < until {
		why, until = causeRest, rest
	}
	if !s.watch.set(why, until) || s.c.draining.Load() {
		return false
	}
	// Others first: meanwhile the client's next request often arrives, and then the
	// read does not go in vain and nothing has to wait. Under load this is worth a
	// twentieth of all CPU time; without it costs next to nothing.
	runtime.Gosched()
	buf, n, err := s.wire.readFirst()
	if n > 0 {
		s.reader.Adopt(buf, n)
	}
	if (err != nil || !s.watch.clear()) && s.watch.interrupted() == causeRest {
		s.watch.resume()
		s.resting = n == 0
		return n > 0 && !s.c.draining.Load()
	}
	return err == nil && s.watch.interrupted() == causeNone
}

// plan asks for the configuration and takes over what it says about connections.
func (s *session) plan() (*config.Config, decide.ConnPlan, *resource.HTTPConnectionManager) {
	cfg, plan, m := planOf(s.c)
	if m == nil {
		return cfg, plan, nil
	}
	if m.IdleTimeout > 0 {
		s.idle = m.IdleTimeout
	} else {
		s.idle = time.Hour
	}
	if m.MaxRequestHeadersKB > 0 {
		s.reader.SetHeaderBytes(int(m.MaxRequestHeadersKB) << 10)
	} else {
		s.reader.SetHeaderBytes(s.h.limits.HeaderBytes)
	}
	return cfg, plan, m
}

// check looks after the exchange that waits; see watch.onCheck.
func (s *session) check() (cause, time.Duration) { return s.x.check() }

func (s *session) readRequest(x *exchange) error {
	s.reading = true
	err := s.reader.ReadRequest(&x.req)
	s.reading = false
	if s.reader.Memory() > http1.SmallBuffer {
		s.h.heads.finished(s)
	}
	if err == http1.ErrHTTP2Preface && s.requests == 0 && (x.hcm == nil || x.hcm.Codec != resource.CodecHTTP1) {
		x.preface = s.watch.clear()
	}
	s.requests++
	if x.hcm != nil && x.hcm.MaxRequestsPerConn > 0 && s.requests >= x.hcm.MaxRequestsPerConn {
		x.req.Close = true
	}
	if x.req.HTTP10 {
		x.entry.Protocol = record.ProtocolHTTP10
	}
	if err == nil {
		x.reqStream.Start(s.reader, x.req.Framing, x.req.Length, true)
		x.reqStream.wire = &s.wire
	}
	return err
}

func (s *session) interim(x *exchange) error {
	m := &x.respMessage
	m.out = http1.AppendStatusLine(m.out[:0], x.resp.Status, x.resp.Reason)
	m.out = append(x.resp.Fields.Append(m.out), "\r\n"...)
	m.wire = &s.wire
	return m.flush()
}

// begin writes the response's head anew.
func (s *session) begin(x *exchange) sink {
	m, r := &x.respMessage, &x.resp
	m.wire = &s.wire
	m.chunked = (r.Framing == http1.Chunked || r.Framing == http1.UntilClose) && !x.req.HTTP10
	b := http1.AppendStatusLine(m.out[:0], r.Status, r.Reason)
	b = r.Fields.Append(b)
	switch {
	case m.chunked:
		b = append(b, "transfer-encoding: chunked\r\n"...)
	case r.Framing == http1.Length:
		b = http1.AppendLength(b, r.Length)
	case r.Framing != http1.NoBody:
		x.close = true // HTTP/1.0: the end of the connection is the end of the body
	case r.Status < 200 || r.Status == 204:
	case r.Declared >= 0:
		b = http1.AppendLength(b, r.Declared)
	case r.Status != 304 && x.req.Method != "HEAD":
		b = http1.AppendLength(b, 0) // of HTTP/2, where nothing needs to say so
	}
	b = s.appendConnection(x, b)
	m.out = append(b, "\r\n"...)
	return m
}

// appendConnection says whether the connection goes on, where the client cannot know.
func (s *session) appendConnection(x *exchange, dst []byte) []byte {
	if s.c.leaving() {
		x.close = true
	}
	switch {
	case x.close:
		return append(dst, "connection: close\r\n"...)
	case x.req.HTTP10:
		return append(dst, "connection: keep-alive\r\n"...)
	}
	return dst
}

func (s *session) tunnel(x *exchange) (body, sink) {
	m, r := &x.respMessage, &x.resp
	*m = message{wire: &s.wire, tunnel: true, out: m.out[:0]}
	b := http1.AppendStatusLine(m.out, r.Status, r.Reason)
	b = r.Fields.Append(b)
	if r.Status == 101 {
		b = append(append(append(b, "connection: upgrade\r\nupgrade: "...), r.Upgrade...), "\r\n"...)
	}
	m.out = append(b, "\r\n"...)
	x.reqRaw = rawBody{wire: &s.wire, reader: s.reader}
	return &x.reqRaw, m
}

func (s *session) reset() bool { return false }

func (s *session) gone() bool { return closedByPeer(s.c.Net) }

func (s *session) breakOff(x *exchange) {
	if t := s.wire.tcp; t != nil && x.resp.Framing != http1.Length {
		// A reset, where an orderly end could be taken for the end of the body.
		_ = t.SetLinger(0)
	}
}

// linger lets the client read the last response before the connection is closed: a
// close with unread bytes would reset it. Bounded in time and bytes. The request has
// been recorded, so its memory is given back first.
func (s *session) linger() {
	s.reader.Close()
	s.watch.resume()
	if !s.watch.set(causeLinger, s.h.now()+s.h.limits.LingerTime) {
		return
	}
	if w, ok := s.c.Net.(interface{ CloseWrite() error }); !ok || w.CloseWrite() != nil {
		return
	}
	buf := s.h.buffers.Small()
	defer s.h.buffers.Return(buf)
	for left := 256 << 10; left > 0; {
		n, err := s.c.Net.Read(buf)
		if err != nil {
			return
		}
		left -= n
	}
}
