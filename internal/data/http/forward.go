package http

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
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
	up       server
	reused   bool // up is a connection that has served a request before
	broken   bool // up is closed, or not to be used again
	tried    []*upstream.Host
	attempt  uint32
	stales   uint32             // see stale
	slot     upstream.RetrySlot // of the attempt, if it is a retry
	// retryAfter is what a rate limited response asks to wait before the next attempt.
	retryAfter time.Duration
	sentAt     time.Duration // when the attempt was sent
	// setCookie, if not "", is told to the client with the upstream's response.
	setCookie string
	// copies are the mirrors that a copy of the request goes to, once its body is there.
	copies []*resource.Mirror
	keeper keeper // keeps the body in the exchange's kept
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
	cluster, status, why, detail := decide.Upstream(x.cfg, x.weighted)
	if cluster == nil {
		if why == reason.NoCluster {
			x.flag("NC")
			if f.NotFoundStatus != 0 {
				status = f.NotFoundStatus
			}
		}
		x.fail(status, why, detail)
		return false
	}
	x.cluster, x.entry.UpstreamObjects = cluster, cluster.Objects
	x.tunnel = x.upgrade != "" || x.req.Method == "CONNECT"
	if x.req.Expect100 && !x.hcm.Proxy100Continue {
		x.req.Fields.RemoveKnown(http1.Expect)
		x.resp.Status, x.resp.Reason = 100, ""
		if err := x.client.interim(x); err != nil {
			x.clientGone()
			return false
		}
		x.req.Expect100 = false
	}
	x.streamIdle = x.hcm.StreamIdleTimeout
	if f.IdleTimeout > 0 {
		x.streamIdle = f.IdleTimeout
	}
	x.timeouts = decide.RequestTimeouts(f, &x.dreq, x.asksEnvoy())
	if x.timeouts.Stream > 0 {
		x.streamLimit = x.started + x.timeouts.Stream
	}
	x.editRequest()
	x.target = x.targetOf()
	x.target.ALPN = alpnOf(x.speaks())
	x.choices(f)
	if !x.takeSmallBody() {
		return false
	}
	if x.replayable && x.timeouts.Response > 0 {
		x.limit.Store(int64(max(x.started+x.entry.RequestDone, x.filters.heldUntil) + x.timeouts.Response))
	}
	if len(f.Mirrors) > 0 {
		x.mirror(f.Mirrors)
	}
	return true
}

// pickCluster chooses one of the route's clusters.
func (x *exchange) pickCluster() {
	x.weighted = decide.PickCluster(x.plan.Route.Forward.Clusters, rand.Uint32())
	if x.weighted != nil {
		x.entry.UpstreamCluster = x.weighted.Name
	}
}

// choices tells the target what the route says about endpoints: the labels that they
// must have, the circuit breakers that count, and the number that is hashed.
func (x *exchange) choices(f *resource.Forward) {
	x.target.Priority = f.Priority
	if x.target.Subset = x.weighted.Subset; x.target.Subset == nil {
		x.target.Subset = f.Subset
	}
	if len(f.HashPolicies) == 0 {
		return
	}
	plan := decide.Hash(f.HashPolicies, &x.dreq)
	x.target.Hash, x.target.HasHash = plan.Hash, plan.OK
	if plan.Cookie != nil {
		x.setCookie = plan.SetCookie()
	}
}

// takeSmallBody reads a small body before anything is sent: then it goes in one write
// with the head, and can be sent again. It returns false when that was interrupted.
func (x *exchange) takeSmallBody() bool {
	x.replayable = x.tunnel || x.reqBody.Done() && x.reqBody.trailers().Len() == 0
	if x.replayable {
		x.req.Framing = http1.NoBody // an HTTP/2 body that turned out empty
	}
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
	x.collecting.Store(true)
	n := len(x.arena)
	for !x.reqBody.Done() {
		p, err := x.reqBody.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			if x.watch.interrupted() == causeNone {
				x.clientGone()
			} else {
				x.failUpstream(x.interruption())
			}
			return false
		}
		x.arena = append(x.arena, p...)
	}
	x.collecting.Store(false)
	x.received.Store(true)
	x.small, x.replayable = x.arena[n:len(x.arena):len(x.arena)], true
	x.entry.BytesReceived = int64(len(x.small))
	if x.grpc {
		x.requestFrames.add(x.small)
		x.entry.RequestMessages = x.requestFrames.messages
	}
	x.entry.RequestDone = time.Since(x.start)
	return true
}

// try makes one attempt, up to the response head.
func (x *exchange) try() failure {
	if f := x.connect(); f.kind != answeredKind {
		return f
	}
	f := x.sendAndReceive()
	x.reportOutcome(&f)
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
	x.entry.UpstreamHost, x.entry.UpstreamHostName = host.String(), host.Hostname()
	home := x.h.pool.of(host)
	key := ""
	if host.Keyed() {
		key = x.h.upstreams.ConnKey(host, &x.target)
	}
	if err := x.obtain(home, key); err != nil {
		x.tried = append(x.tried, host)
		return x.upstreamError(err)
	}
	host.Begin(x.target.Priority)
	x.entry.UpstreamLocalAddress, x.entry.UpstreamProtocol = x.up.localAddr(), x.up.protocol()
	x.entry.UpstreamTLS = x.up.session()
	if !x.watch.attach(x.up) {
		x.dropUpstream()
		return *x.interruption()
	}
	return failure{}
}

// pick asks for a host. Only the first resolution of a name makes it wait, and that
// ends when the exchange is interrupted.
func (x *exchange) pick() (*upstream.Host, *upstream.Error) {
	p := x.patience
	if x.attempt > 1 {
		p = new(patience)
	} else {
		p.reset()
	}
	if !x.watch.attach(p) {
		_ = p.SetDeadline(longAgo)
	}
	if r := x.plan.Route.Forward.Retry; r != nil && r.LeavePriorities > 0 && x.attempt > 1 {
		x.target.Leave = x.tried[:min(decide.LeaveAfter(r, int(x.attempt)), len(x.tried))]
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

// obtain takes a connection of the pool, or a stream of one, or makes one.
func (x *exchange) obtain(home *hostPool, key string) *upstream.Error {
	speaks := x.speaks()
	if speaks == resource.UpstreamHTTP2 {
		return x.openShared(home, key, false)
	}
	if x.takeIdle(home, key) {
		return nil
	}
	if speaks == resource.UpstreamAuto && x.host.TLS() {
		return x.openShared(home, key, true)
	}
	conn, err := x.dial(func() bool { return x.takeIdle(home, key) })
	if conn != nil {
		x.up, x.reused = newUpstreamConn(x, conn, home, key), false
	}
	return err
}

func (x *exchange) takeIdle(home *hostPool, key string) bool {
	u := home.get(key)
	for u != nil && u.expires > 0 && u.old(x.h.now()) {
		u.close()
		u = home.get(key)
	}
	if u == nil {
		return false
	}
	x.up, x.reused = u, true
	return true
}

// speaks is the protocol of the cluster, for this request.
func (x *exchange) speaks() resource.UpstreamProtocol {
	p := x.cluster.Protocol
	if p != resource.UpstreamDownstream {
		return p
	}
	if x.entry.Protocol == record.ProtocolHTTP2 {
		return resource.UpstreamHTTP2
	}
	return resource.UpstreamHTTP1
}

// dial opens a new connection. While it waits for a place under the cluster's
// max_connections it asks now and then whether the pool has something after all: then
// there is neither a connection nor an error.
func (x *exchange) dial(taken func() bool) (net.Conn, *upstream.Error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !x.watch.attach(canceller(cancel)) {
		cancel()
	}
	return x.h.upstreams.Dial(ctx, x.cluster, x.host, &x.target, taken)
}

// sendAndReceive sends the request on x.up and reads the response head into x.resp.
func (x *exchange) sendAndReceive() failure {
	if v := x.plan.VirtualHost; v != nil && v.IncludeAttemptCount {
		n := len(x.arena)
		x.arena = appendInt(x.arena, int64(x.attempt))
		x.req.Fields.Set("x-envoy-attempt-count", view(x.arena[n:]))
	}
	x.sentAt = x.h.now()
	if x.timeouts.Try > 0 {
		x.tryLimit.Store(int64(x.sentAt + x.timeouts.Try))
		x.startWatching()
	}
	if x.replayable {
		if f := x.up.ask(x); f.kind != answeredKind {
			return f
		}
	} else {
		to, f := x.up.begin(x)
		if f.kind != answeredKind {
			return f
		}
		x.startUpload(x.keep(to))
	}
	return x.readResponseHead()
}

// readResponseHead reads heads until one is final, and forwards the interim ones.
func (x *exchange) readResponseHead() failure {
	for range maxInterim {
		if err := x.up.readResponse(x); err != nil {
			return x.readFailure(err, errors.Is(err, http1.ErrClosed) || errors.Is(err, http2.ErrClosed))
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
	return x.client.interim(x)
}

// upstreamAuthority is the authority that the request names to the chosen host.
func (x *exchange) upstreamAuthority() string {
	if x.plan.Route.Forward.AutoHostRewrite && x.host.Hostname() != "" {
		x.entry.Authority = x.host.Hostname()
		return x.host.Hostname()
	}
	return x.authority
}

// dropUpstream ends an attempt: the connection is closed, and nothing of its
// response is kept.
func (x *exchange) dropUpstream() {
	if x.up == nil {
		return
	}
	x.abandonUpstream()
	x.resp.Fields.Reset()
	x.releaseUpstream()
}

// abandonUpstream closes the connection, but keeps the memory that the response's
// strings are in until the exchange is recorded.
func (x *exchange) abandonUpstream() {
	x.watch.attach(nil)
	x.broken = true
	x.up.abandon() // also wakes the upload, if it is writing
	x.stopUpload()
}

// releaseUpstream gives the connection to the pool, or its memory back where it
// cannot be used again.
func (x *exchange) releaseUpstream() {
	u := x.up
	if u == nil {
		return
	}
	x.up = nil
	interrupted := !x.watch.attach(nil)
	x.host.End(x.target.Priority)
	u.release(x, !x.broken && !interrupted && !x.host.Gone())
	x.broken = false
}

// idempotent methods may be sent again (RFC 9110 section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE":
		return true
	}
	return false
}
