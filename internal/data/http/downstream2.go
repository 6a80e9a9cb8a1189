package http

import (
	"context"
	"errors"
	"time"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// clientStream is the client's side of an exchange over HTTP/2. Each stream has its own
// watch: what happens to one does not touch the others.
type clientStream struct {
	stream2
	h        *Handler
	c        *Conn
	x        *exchange
	watch    watch
	patience patience
	// onGone interrupts what the exchange waits for when the client reset the stream.
	onGone func(use uint64)
	use    uint64 // of the watch
}

var _ client = (*clientStream)(nil)

// serveHTTP2 serves a connection whose client speaks HTTP/2 to its end.
func (h *Handler) serveHTTP2(c *Conn, peeked []byte) {
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	c.whenDrained(drain, true)

	idle, o := time.Hour, resource.HTTP2Options{}
	limits := h.limits.Limits
	extended := false
	if _, _, m := planOf(c); m != nil {
		o = m.HTTP2
		extended = o.AllowConnect
		if m.IdleTimeout > 0 {
			idle = m.IdleTimeout
		}
		if m.MaxRequestHeadersKB > 0 {
			limits.HeaderBytes = int(m.MaxRequestHeadersKB) << 10
		}
	}
	err := http2.Serve(ctx, c.Net, peeked, http2.Options{
		Limits: limits, Pool: &h.buffers, Workers: &h.workers, Now: h.now, IdleTimeout: idle, ExtendedConnect: extended,
		HeadTimeout:          h.limits.HeadTimeout,
		MaxConcurrentStreams: o.MaxConcurrentStreams, StreamWindow: o.StreamWindow, ConnWindow: o.ConnWindow,
	}, func(s *http2.Stream) { h.serveStream(c, s) })
	var broke *http2.Error
	if errors.As(err, &broke) {
		h.recordConnection(c, broke)
	}
}

// serveStream serves one request.
func (h *Handler) serveStream(c *Conn, s *http2.Stream) {
	c.begins()
	cs := h.streams.Get().(*clientStream)
	cs.c = c
	cs.stream2 = stream2{Stream: s}
	cs.use = cs.watch.begin(s)
	x := h.exchanges.Get().(*exchange)
	x.c, x.client, x.watch, x.patience = c, cs, &cs.watch, &cs.patience
	x.begin(h, record.ProtocolHTTP2)
	cs.x = x
	x.cfg, x.cplan, x.hcm = planOf(c)
	if x.hcm != nil && x.hcm.MaxRequestsPerConn > 0 && c.streams.Add(1) >= x.hcm.MaxRequestsPerConn {
		c.Drain()
	}
	x.run()
	if !x.complete {
		s.Reset(http2.CodeInternal)
	}
	cs.watch.end()
	cs.x, cs.c = nil, nil
	cs.stream2 = stream2{}
	x.end()
	h.exchanges.Put(x)
	h.streams.Put(cs)
}

// recordConnection records a connection that the client broke.
func (h *Handler) recordConnection(c *Conn, e *http2.Error) {
	x := h.exchanges.Get().(*exchange)
	x.c = c
	x.begin(h, record.ProtocolHTTP2)
	x.cfg, x.cplan, x.hcm = planOf(c)
	x.flag("DPE")
	x.entry.Reason, x.entry.Detail = reason.BadRequest, e.Error()
	x.finish()
	x.end()
	h.exchanges.Put(x)
}

// newClientStream is for the pool of the handler.
func (h *Handler) newClientStream() any {
	cs := &clientStream{h: h}
	cs.watch.now = h.now
	cs.watch.onCheck = func() (cause, time.Duration) { return cs.x.check() }
	cs.watch.armed.Store(never)
	cs.onGone = func(use uint64) { cs.watch.interruptUse(use, causeGone) }
	return cs
}

func (cs *clientStream) readRequest(x *exchange) error {
	if err := cs.ReadRequest(&x.req); err != nil {
		return err // a stream that was refused has ended: not its end is to be told, but why
	}
	x.reqBody = &cs.stream2
	cs.OnGone(cs.onGone, cs.use)
	return nil
}

func (cs *clientStream) interim(x *exchange) error { return cs.WriteResponse(&x.resp, false) }

func (cs *clientStream) begin(x *exchange) sink {
	cs.respond(&x.resp, x.resp.Framing == http1.NoBody)
	return &cs.stream2
}

func (cs *clientStream) tunnel(x *exchange) (body, sink) {
	cs.respond(&x.resp, false)
	return &cs.stream2, &cs.stream2
}

func (cs *clientStream) gone() bool { return cs.Gone() }

func (cs *clientStream) reset() bool {
	_, ok := cs.PeerReset()
	return ok
}

func (cs *clientStream) breakOff(*exchange) { cs.Reset(http2.CodeInternal) }
