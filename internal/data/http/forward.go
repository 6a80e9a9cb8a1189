package http

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// maxSmallBody is the largest request body that is sent in one write with the head,
// and so can be sent again.
const maxSmallBody = 16 << 10

// maxInterim bounds the interim (1xx) responses to one request.
const maxInterim = 16

// forwarding is the state of an exchange that goes upstream.
type forwarding struct {
	weighted *resource.WeightedCluster
	cluster  *config.Cluster
	target   upstream.Target
	host     *upstream.Host
	conn     *upstreamConn
	reused   bool // conn has served a request before
	broken   bool // conn is closed, or not to be used again
	tried    []*upstream.Host
	attempt  uint32
	slot     upstream.RetrySlot // of the attempt, if it is a retry
	sentAt   time.Duration      // when the attempt was sent
	// small is the whole body, where it arrived with the head and can be sent again.
	small []byte
	// replayable: the request has no body, or small has it.
	replayable bool
}

func (f *forwarding) reset() {
	clear(f.tried)
	*f = forwarding{tried: f.tried[:0]}
}

// forward sends the request upstream and the response back, with retries.
func (x *exchange) forward() {
	if !x.prepare() {
		return
	}
	for {
		x.attempt++
		f := x.try()
		if f.kind != staleKind {
			x.slot.Release()
		}
		if f.kind == answeredKind && !x.retryResponse() {
			x.respond()
			return
		}
		if f.kind == staleKind {
			x.attempt-- // as if it had not been
			continue
		}
		if f.kind != answeredKind && !x.retryFailure(&f) {
			x.failUpstream(&f)
			return
		}
		if !x.pauseBeforeRetry() {
			x.slot.Release()
			x.failUpstream(x.interruption())
			return
		}
	}
}

// prepare finds the cluster and makes the request's new head fields. It answers and
// returns false where that is not possible.
func (x *exchange) prepare() bool {
	f := x.plan.Route.Forward
	x.weighted = decide.PickCluster(f.Clusters, rand.Uint32())
	if x.weighted != nil {
		x.entry.UpstreamCluster = x.weighted.Name
	}
	cluster, status, why, detail := decide.Upstream(x.cfg, x.weighted)
	if cluster == nil {
		if why == reason.NoCluster {
			x.flag("NC")
		}
		x.fail(status, why, detail)
		return false
	}
	x.cluster = cluster
	x.tunnel = x.upgrade != "" || x.req.Method == "CONNECT"
	if x.req.Expect100 && !x.hcm.Proxy100Continue {
		x.req.Fields.RemoveKnown(http1.Expect)
		if _, err := io.WriteString(x.s.c.Net, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			x.clientGone()
			return false
		}
		x.req.Expect100 = false
	}
	x.streamIdle = x.hcm.StreamIdleTimeout
	if f.IdleTimeout > 0 {
		x.streamIdle = f.IdleTimeout
	}
	x.editRequest()
	x.target = x.targetOf()
	if !x.takeSmallBody() {
		return false
	}
	if x.replayable && f.Timeout > 0 {
		x.limit.Store(int64(x.started + x.entry.RequestDone + f.Timeout))
	}
	return true
}

// takeSmallBody reads a small body before anything is sent: then it goes in one write
// with the head, and can be sent again. It returns false when that was interrupted.
func (x *exchange) takeSmallBody() bool {
	x.replayable = x.reqBody.Done()
	if x.hcm.RequestTimeout > 0 && !x.replayable {
		x.requestLimit = x.started + x.hcm.RequestTimeout
	}
	if x.replayable || x.req.Framing != http1.Length || x.req.Expect100 || x.req.Length > maxSmallBody {
		return true
	}
	if !x.startWatching() {
		x.failUpstream(x.interruption())
		return false
	}
	n := len(x.arena)
	for !x.reqBody.Done() {
		p, err := x.reqBody.Next()
		if err != nil {
			if x.s.watch.interrupted() == causeNone {
				x.clientGone()
			} else {
				x.failUpstream(x.interruption())
			}
			return false
		}
		x.arena = append(x.arena, p...)
	}
	x.received.Store(true)
	x.small, x.replayable = x.arena[n:len(x.arena):len(x.arena)], true
	x.entry.BytesReceived = int64(len(x.small))
	x.entry.RequestDone = time.Since(x.start)
	return true
}

// try makes one attempt, up to the response head.
func (x *exchange) try() failure {
	if f := x.connect(); f.kind != answeredKind {
		return f
	}
	f := x.sendAndReceive()
	if f.kind != answeredKind {
		x.dropUpstream()
	}
	return f
}

// connect gives the exchange a connection to a host of the cluster.
func (x *exchange) connect() failure {
	if !x.startWatching() {
		return *x.interruption()
	}
	host, err := x.pick()
	if err != nil {
		return x.upstreamError(err)
	}
	x.host = host
	x.entry.UpstreamHost = host.String()
	home := x.h.pool.of(host)
	key := ""
	if host.TLS() {
		key = x.h.upstreams.ConnKey(host, &x.target)
	}
	if x.conn = home.get(key); x.conn != nil {
		x.reused = true
	} else if err := x.dial(home, key); err != nil {
		x.tried = append(x.tried, host)
		return x.upstreamError(err)
	}
	host.Begin(x.target.Priority)
	x.entry.UpstreamLocalAddress = x.conn.local
	if !x.s.watch.attach(x.conn.conn) {
		x.dropUpstream()
		return *x.interruption()
	}
	return failure{}
}

// pick asks for a host. Only the first resolution of a name makes it wait, and that
// ends when the exchange is interrupted.
func (x *exchange) pick() (*upstream.Host, *upstream.Error) {
	p := &x.s.patience
	if x.attempt > 1 {
		p = new(patience)
	} else {
		p.reset()
	}
	if !x.s.watch.attach(p) {
		_ = p.SetDeadline(longAgo)
	}
	return x.h.upstreams.Pick(p, x.cluster, &x.target, x.avoid())
}

// avoid are the hosts that a retry should not use again.
func (x *exchange) avoid() []*upstream.Host {
	if r := x.plan.Route.Forward.Retry; r == nil || !r.AvoidPrevious {
		return nil
	}
	return x.tried
}

// dial opens a new connection.
func (x *exchange) dial(home *hostPool, key string) *upstream.Error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !x.s.watch.attach(canceller(cancel)) {
		cancel()
	}
	conn, err := x.h.upstreams.Dial(ctx, x.cluster, x.host, &x.target)
	x.reused = false
	if err != nil {
		return err
	}
	u := &upstreamConn{home: home, host: x.host, priority: x.target.Priority, key: key, idle: x.cluster.UpstreamIdleTimeout}
	if u.idle <= 0 {
		u.idle = defaultUpstreamIdle
	}
	u.wire.init(conn, &x.h.buffers)
	u.reader = http1.NewReader(u, &x.h.buffers, x.h.limits.Limits)
	if a, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		u.local = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	x.conn = u
	return nil
}

// sendAndReceive sends the request on x.conn and reads the response head into x.resp.
func (x *exchange) sendAndReceive() failure {
	x.conn.requests++
	x.buildRequest()
	x.sentAt = x.h.now()
	if x.plan.Route.Forward.Retry != nil && x.plan.Route.Forward.Retry.PerTryTimeout > 0 {
		x.tryLimit.Store(int64(x.sentAt + x.plan.Route.Forward.Retry.PerTryTimeout))
		x.startWatching()
	}
	if !x.replayable {
		if x.reused && closedByPeer(x.conn.conn) {
			return failure{kind: staleKind}
		}
		x.startUpload()
	} else {
		buf, n, unasked, err := x.conn.ask(x.out)
		if unasked && x.reused {
			x.conn.returnBuffer(buf)
			return failure{kind: staleKind}
		}
		if err != nil || unasked {
			x.conn.returnBuffer(buf)
			return x.readFailure(err, true)
		}
		x.conn.reader.Adopt(buf, n)
	}
	return x.readResponseHead()
}

// readResponseHead reads heads until one is final, and forwards the interim ones.
func (x *exchange) readResponseHead() failure {
	for range maxInterim {
		if err := x.conn.reader.ReadResponse(&x.resp, x.req.Method); err != nil {
			return x.readFailure(err, errors.Is(err, http1.ErrClosed))
		}
		if !x.resp.Interim() {
			if x.resp.Status == 101 && x.upgrade == "" {
				return x.protocolError("the upstream switched protocols unasked")
			}
			x.entry.FirstUpstreamByte = time.Since(x.start)
			return failure{}
		}
		if err := x.forwardInterim(); err != nil {
			return x.goneFailure()
		}
		x.conn.reader.Release()
	}
	return x.protocolError("too many interim responses")
}

// forwardInterim sends a 1xx response on to a client that knows them (RFC 9110
// section 15.2).
func (x *exchange) forwardInterim() error {
	if x.req.HTTP10 || x.resp.Status == 100 && !x.req.Expect100 {
		return nil
	}
	x.resp.Fields.RemoveHop()
	x.back = http1.AppendStatusLine(x.back[:0], x.resp.Status, x.resp.Reason)
	x.back = x.resp.Fields.Append(x.back)
	x.back = append(x.back, "\r\n"...)
	_, err := x.s.c.Net.Write(x.back)
	return err
}

// buildRequest writes the request anew, with the small body if there is one.
func (x *exchange) buildRequest() {
	path := x.path
	if x.req.Method == "CONNECT" {
		path = x.authority
	}
	authority := x.authority
	if x.plan.Route.Forward.AutoHostRewrite && x.host.Hostname() != "" {
		authority = x.host.Hostname()
		x.entry.Authority = authority
	}
	b := http1.AppendRequestLine(x.out[:0], x.req.Method, path)
	b = http1.AppendField(b, "host", authority)
	b = x.req.Fields.Append(b)
	if v := x.plan.VirtualHost; v != nil && v.IncludeAttemptCount {
		b = append(b, "x-envoy-attempt-count: "...)
		b = append(appendInt(b, int64(x.attempt)), "\r\n"...)
	}
	switch {
	case x.req.Framing == http1.Length:
		b = http1.AppendLength(b, x.req.Length)
	case x.req.Framing == http1.Chunked:
		b = append(b, "transfer-encoding: chunked\r\n"...)
	case x.req.Method == "POST" || x.req.Method == "PUT" || x.req.Method == "PATCH":
		b = append(b, "content-length: 0\r\n"...) // RFC 9110 section 8.6
	}
	switch {
	case x.upgrade != "":
		b = append(append(append(b, "connection: upgrade\r\nupgrade: "...), x.req.Upgrade...), "\r\n"...)
	case x.req.TETrailers:
		b = append(b, "connection: te\r\nte: trailers\r\n"...)
	}
	b = append(b, "\r\n"...)
	x.out = append(b, x.small...)
}

// dropUpstream ends an attempt: the connection is closed, and nothing of its
// response is kept.
func (x *exchange) dropUpstream() {
	if x.conn == nil {
		return
	}
	x.abandonUpstream()
	x.resp.Fields.Reset()
	x.releaseUpstream()
}

// abandonUpstream closes the connection, but keeps the memory that the response's
// strings are in until the exchange is recorded.
func (x *exchange) abandonUpstream() {
	x.s.watch.attach(nil)
	x.broken = true
	_ = x.conn.conn.Close() // also wakes the upload, if it is writing
	x.stopUpload()
}

// releaseUpstream gives the connection to the pool, or its memory back where it
// cannot be used again.
func (x *exchange) releaseUpstream() {
	u := x.conn
	if u == nil {
		return
	}
	x.conn = nil
	interrupted := !x.s.watch.attach(nil)
	x.host.End(x.target.Priority)
	limit := x.cluster.MaxRequestsPerConn
	if x.broken || interrupted || x.resp.Close || limit > 0 && u.requests >= limit || u.reader.Buffered() > 0 || x.host.Gone() {
		u.close()
		x.broken = false
		return
	}
	u.reader.Release()
	x.h.pool.put(u, x.s.ended)
}

// idempotent methods may be sent again (RFC 9110 section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE":
		return true
	}
	return false
}

// returnBuffer gives back what ask returned and nobody reads.
func (u *upstreamConn) returnBuffer(buf []byte) {
	if buf != nil {
		u.pool.Return(buf)
	}
}
