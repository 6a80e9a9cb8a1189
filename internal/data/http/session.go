package http

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
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

	// idle is the keep-alive timeout, of the last plan.
	idle time.Duration
	// ended is when the last request ended, on the handler's clock.
	ended    time.Duration
	draining atomic.Bool
}

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
	}
	s.ended = h.now()
	return s
}

// Read is for the reader: all reads but the first of a request.
func (s *session) Read(p []byte) (int, error) { return s.c.Net.Read(p) }

// close ends the connection; there is nothing to do about an error.
func (s *session) close() {
	s.watch.stop()
	_ = s.c.Net.Close()
	s.reader.Close()
}

// drain runs when the context of Serve ends.
func (s *session) drain() {
	s.draining.Store(true)
	s.watch.interruptIf(causeIdle, causeDrain)
}

// serveOne waits for a request and serves it. It returns false when the connection
// is to be closed.
func (s *session) serveOne() bool {
	if !s.await() {
		return false
	}
	x := s.h.exchanges.Get().(*exchange)
	x.begin(s)
	keep := x.run()
	x.end()
	s.x = nil
	s.h.exchanges.Put(x)
	return keep && !s.draining.Load()
}

// await waits for the first bytes of a request. Nothing is recorded when none come:
// the client closed, or was idle for too long.
func (s *session) await() bool {
	if s.reader.Buffered() > 0 {
		return true
	}
	if !s.watch.set(causeIdle, s.ended+s.idle) || s.draining.Load() {
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
	if err != nil {
		return false
	}
	return s.watch.clear()
}

// plan asks for the configuration and takes over what it says about connections.
func (s *session) plan() (*config.Config, decide.ConnPlan, *resource.HTTPConnectionManager) {
	cfg, plan := s.c.Plan()
	if plan.Verdict != decide.Forward || plan.Chain == nil || plan.Chain.HTTP == nil {
		return cfg, plan, nil
	}
	m := plan.Chain.HTTP
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

// linger lets the client read the last response before the connection is closed: a
// close with unread bytes would reset it. Bounded in time and bytes.
func (s *session) linger() {
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
