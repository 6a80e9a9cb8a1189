package http

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
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

// keepBuffer is the largest scratch buffer that an exchange keeps for the next request.
const keepBuffer = 64 << 10

// exchange is one request and its response. Its methods stand in the order of its
// life: run, readHead, plan, then forward or one of the answers of our own, end.
type exchange struct {
	h        *Handler
	c        *Conn
	client   client
	watch    *watch
	patience *patience // of the first attempt to find a host
	start    time.Time
	started  time.Duration // start on the handler's clock

	req     http1.Request
	reqBody body
	// resp has the response's head as it is sent: the upstream's, edited, or ours.
	resp     http1.Response
	respBody body
	// What HTTP/1 on either side needs.
	reqStream, respStream   stream1
	reqMessage, respMessage message // to the upstream, to the client
	reqRaw, respRaw         rawBody // of tunnels
	// What HTTP/2 upstream needs.
	stream upstreamStream

	cfg      *config.Config
	cplan    decide.ConnPlan
	hcm      *resource.HTTPConnectionManager
	dreq     decide.Request
	original http1.Original
	plan     decide.RoutePlan

	path      string // as it goes upstream
	authority string // as it goes upstream
	upgrade   string // lower-case token, "" for none
	tunnel    bool   // CONNECT or an allowed upgrade

	forwarding
	filters  filtering
	kept     keptBody // the body on its way upstream
	upload   upload
	download pump

	entry record.Entry
	flags [3]string
	arena []byte // what edited strings point into

	// close: no other request can follow on an HTTP/1 connection. answered: a final
	// response head was written. complete: so was all of the response.
	close, answered, complete bool
	// unread: the client may have sent what was not read, see linger. preface: it began
	// with HTTP/2's, so there is no request.
	unread, preface bool

	// grpc: the messages of both bodies are counted.
	grpc                        bool
	requestFrames, answerFrames frames

	// moved counts what was copied in either direction; seen is what check saw last.
	moved      atomic.Uint64
	seen       uint64
	seenAt     time.Duration
	limit      atomic.Int64 // when the route's timeout passes; 0: never
	tryLimit   atomic.Int64 // when that of one attempt passes
	tunnelling atomic.Bool
	streamIdle time.Duration
	timeouts   decide.Timeouts
	// streamLimit is when max_stream_duration passes; 0: never.
	streamLimit time.Duration
	// requestLimit is when the whole request must have been received; 0: no limit.
	requestLimit time.Duration
	received     atomic.Bool
	collecting   atomic.Bool   // a small request body is being read
	lateReason   reason.Reason // of causePolicy
	lateDetail   string
	judged       *config.Config // that the exchange was last found allowed by
}

// begin prepares for a request whose first bytes are there. c, client and watch are set.
func (x *exchange) begin(h *Handler, p record.Protocol) {
	x.h = h
	x.start = time.Now()
	x.started = x.start.Sub(h.started)
	x.reqBody, x.respBody = &x.reqStream, &x.respStream
	x.entry = record.Entry{Start: x.start, Protocol: p,
		DownstreamLocal: x.c.Info.Destination, DownstreamRemote: x.c.Info.Source, SNI: x.c.Info.SNI, Inbound: x.c.Info.Inbound,
		ConnectionID: x.c.ID, ConnectionStart: x.c.Start, DownstreamDirectLocal: x.c.DirectLocal, DownstreamTLS: x.c.TLS}
	if x.c.TLS != nil {
		x.entry.DownstreamHandshake = x.c.Handshake
	}
}

// run serves the request from its head to its record.
func (x *exchange) run() {
	if x.readHead() {
		if x.hcm == nil {
			x.denyConnection()
		} else {
			x.route()
		}
		if !x.watch.clear() {
			x.interruptedLate()
		}
	}
	if !x.preface {
		x.finish()
	}
	x.releaseUpstream()
}

// interruptedLate is for an exchange that has been interrupted and does not wait any more.
// A client that has its whole answer and sends nothing more may have sent another request
// before.
func (x *exchange) interruptedLate() {
	x.broken = true
	if x.complete && x.watch.interrupted() == causeGone {
		x.watch.resume()
		return
	}
	x.close = true
}

// readHead reads and parses the head, and answers when that is not possible.
func (x *exchange) readHead() bool {
	timeout := x.h.limits.HeadTimeout
	if x.hcm != nil && x.hcm.RequestHeadersTimeout > 0 {
		timeout = x.hcm.RequestHeadersTimeout
	}
	if !x.watch.set(causeHead, x.started+timeout) {
		x.failRead(nil)
		return false
	}
	err := x.client.readRequest(x)
	if x.preface {
		return false
	}
	if err == nil && !x.watch.clear() {
		err = errInterrupted
	}
	if x.req.HTTP10 {
		x.entry.Protocol = record.ProtocolHTTP10
	}
	x.entry.Method, x.entry.Path, x.entry.Authority = x.req.Method, x.req.Path, x.req.Authority
	x.entry.RequestHeaders = &x.req.Fields
	x.grpc = x.entry.IsGRPC()
	x.entry.Host, _ = http1.SplitPort(x.req.Authority)
	if err != nil {
		x.failRead(err)
		return false
	}
	x.close = x.req.Close
	if x.req.Framing == http1.NoBody {
		x.entry.RequestDone = 1
	}
	return true
}

var errInterrupted = errors.New("interrupted")

// failRead answers a head that could not be read. The connection ends.
func (x *exchange) failRead(err error) {
	x.close = true
	var e1 *http1.Error
	var e2 *http2.Error
	switch {
	case errors.As(err, &e1):
		x.unread = true
		x.refuseRequest(e1.Status, e1.Rule, e1.Text)
	case errors.As(err, &e2):
		x.refuseRequest(e2.Status, e2.Rule, e2.Text)
	case err == http1.ErrHTTP2Preface:
		x.unread = true
		x.refuseRequest(505, "version_not_supported", "HTTP/2 where only HTTP/1 is served")
	case x.hcm == nil && (x.watch.interrupted() == causeHead || x.watch.interrupted() == causeNone):
		// Refused in any case: that the client did not say more does not change it.
		x.entry.Reason, x.entry.Detail = x.denial()
		x.flag("DC")
	case x.watch.interrupted() == causeHead:
		x.watch.resume()
		x.answerError(408, reason.DownstreamTimeout, "the request head did not arrive in time", "")
	case x.watch.interrupted() == causeCrowded:
		x.watch.resume()
		x.answerError(408, reason.DownstreamTimeout, "the request head was not whole when too many large heads were being read", "")
	default:
		x.entry.Reason, x.entry.Detail = reason.DownstreamClosed, "the client closed inside the request head"
		x.flag("DC")
	}
}

// refuseRequest answers what the codec refused. Status 0: the stream has been reset.
func (x *exchange) refuseRequest(status int, rule, text string) {
	why := reason.BadRequest
	if status == 431 || status == 414 {
		why = reason.HeadersTooLarge
	}
	x.flag("DPE")
	if status == 0 {
		x.entry.Reason, x.entry.Detail = why, x.intern([]byte(rule+": "+text))
		return
	}
	x.answerError(status, why, text, rule)
}

// denyConnection answers a request on a connection that the plan denies.
func (x *exchange) denyConnection() {
	if p := &x.cplan; p.Chain != nil {
		x.entry.Objects = p.Chain.Objects
	}
	why, detail := x.denial()
	x.fail(502, why, detail)
}

// denial is why the plan does not serve the connection.
func (x *exchange) denial() (reason.Reason, string) {
	if p := &x.cplan; p.Verdict != decide.Forward && p.Reason != "" {
		return p.Reason, p.Detail
	}
	return reason.PolicyChanged, "this connection is no longer served as HTTP"
}

// route decides and acts.
func (x *exchange) route() {
	m := x.hcm
	x.path, x.authority = x.req.Path, stripPort(m.StripPort, x.req.Method, x.req.Authority, x.c.Info.Destination.Port())
	if m.EscapedSlashes != resource.SlashesKeep && x.escapedSlashes(m.EscapedSlashes) {
		return
	}
	if m.NormalizePath || m.MergeSlashes {
		if m.NormalizePath && hasEscapedNUL(x.path) {
			x.close, x.unread = true, true
			x.flag("DPE")
			x.answerError(400, reason.BadRequest, "the path has an escaped NUL byte", "path_escaped_nul")
			return
		}
		x.path = x.normalisePath(m)
		x.entry.Path = x.path
	}
	if x.req.Upgrade != "" {
		x.upgrade = x.lowered(x.req.Upgrade)
	}
	x.original = x.req.Fields.Original()
	if x.hcm.TrustedHops > 0 && x.hcm.UseRemoteAddress {
		x.entry.Client = toldClient(&x.req.Fields, x.hcm.TrustedHops)
	}
	x.dreq = decide.Request{Method: x.req.Method, Scheme: x.c.Info.Scheme(), Authority: x.authority, Path: x.path,
		Headers: &x.original, Upgrade: x.upgrade, Random: rand.Uint32(), Conn: &x.c.Info, Client: x.entry.Client, Answers: x.c.Info.Answers}
	if !x.decide() {
		return
	}
	x.describePlan()
	if x.plan.Verdict == decide.Forward {
		x.pickCluster()
		if !x.askCluster() {
			return
		}
	}
	if x.plan.Verdict != decide.Deny && x.filter() {
		return
	}
	switch x.plan.Verdict {
	case decide.Forward:
		x.forward()
	case decide.Direct:
		x.direct()
	case decide.Redirect:
		x.redirect()
	default:
		x.denyRequest()
	}
}

// describePlan takes what the plan says into the entry.
func (x *exchange) describePlan() {
	p := &x.plan
	if p.Route != nil {
		x.entry.RouteName = p.Route.Name
	}
	if p.Verdict != decide.Forward {
		x.entry.Objects = p.Objects(x.cfg)
		return
	}
	x.entry.Objects = p.Route.Objects // the nearest; to join all would allocate
	if len(x.entry.Objects) == 0 {
		x.entry.Objects = p.VirtualHost.Objects
	}
}

// denyRequest answers what the route decision refuses.
func (x *exchange) denyRequest() {
	status := x.plan.Status
	switch x.plan.Reason {
	case reason.UpgradeNotAllowed:
		status = 403 // Envoy's answer to an upgrade that is not configured
	case reason.NoRoute:
		x.flag("NR")
	}
	if status == 0 {
		status = 502
	}
	x.fail(status, x.plan.Reason, x.plan.Detail)
}

// flag adds one of Envoy's response flags.
func (x *exchange) flag(f string) {
	n := len(x.entry.Flags)
	if n == len(x.flags) {
		return
	}
	for _, have := range x.entry.Flags {
		if have == f {
			return
		}
	}
	x.flags[n] = f
	x.entry.Flags = x.flags[:n+1]
}

// finish records the exchange: the one place where that is done.
func (x *exchange) finish() {
	if x.filters.faulty {
		x.h.faults.Add(-1)
	}
	x.entry.Duration = time.Since(x.start)
	if x.cplan.Chain != nil {
		x.entry.FilterChain = x.cplan.Chain.Name
	}
	if x.entry.Host == "" {
		x.entry.Host = x.c.Info.Host()
	}
	x.h.recorder.Record(&x.entry, x.logs())
}

// logs are the access logs that apply.
func (x *exchange) logs() []resource.AccessLog {
	c := x.cplan.Chain
	switch {
	case x.hcm != nil:
		return x.hcm.AccessLogs
	case c != nil && c.HTTP != nil:
		return c.HTTP.AccessLogs
	case c != nil && c.TCP != nil:
		return c.TCP.AccessLogs
	case x.cplan.Listener != nil:
		return x.cplan.Listener.AccessLogs
	}
	return nil
}

// ended is when the exchange did, on the handler's clock.
func (x *exchange) ended() time.Duration { return x.started + x.entry.Duration }

// end gives back what the exchange held. Nothing may use its strings after it. (Not
// one assignment: scratch memory stays, and atomics must not be copied.)
func (x *exchange) end() {
	x.req.Fields.Reset()
	x.resp.Fields.Reset()
	x.reqStream.reset()
	x.respStream.reset()
	x.reqMessage.reset()
	x.respMessage.reset()
	x.reqRaw, x.respRaw = rawBody{}, rawBody{}
	x.req, x.resp = http1.Request{Fields: x.req.Fields}, http1.Response{Fields: x.resp.Fields}
	x.reqBody, x.respBody = nil, nil
	x.c, x.client, x.watch, x.patience = nil, nil, nil, nil
	x.cfg, x.hcm, x.judged = nil, nil, nil
	x.cplan, x.plan, x.dreq = decide.ConnPlan{}, decide.RoutePlan{}, decide.Request{}
	x.original = http1.Original{}
	x.path, x.authority, x.upgrade, x.tunnel = "", "", "", false
	x.forwarding.reset()
	x.kept.reset()
	if x.upload.active.Load() {
		x.upload.reset()
	}
	x.download = pump{}
	x.grpc, x.requestFrames, x.answerFrames = false, frames{}, frames{}
	x.entry = record.Entry{}
	x.arena = scratch(x.arena)
	x.close, x.answered, x.complete, x.unread, x.preface = false, false, false, false, false
	x.lateReason, x.lateDetail = "", ""
	x.seen, x.seenAt, x.streamIdle, x.requestLimit, x.streamLimit = 0, 0, 0, 0, 0
	x.timeouts = decide.Timeouts{}
	x.filters = filtering{}
	x.received.Store(false)
	x.collecting.Store(false)
	x.moved.Store(0)
	x.limit.Store(0)
	x.tryLimit.Store(0)
	x.tunnelling.Store(false)
}

// scratch is the buffer emptied, or nothing where it has grown large.
func scratch(b []byte) []byte {
	if cap(b) > keepBuffer {
		return nil
	}
	return b[:0]
}

// intern copies b into the arena and returns it as a string that lives as long as
// the exchange.
func (x *exchange) intern(b []byte) string {
	n := len(x.arena)
	x.arena = append(x.arena, b...)
	return view(x.arena[n:])
}

// lowered is s in lower case (ASCII).
func (x *exchange) lowered(s string) string {
	n := len(x.arena)
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		x.arena = append(x.arena, c)
	}
	return view(x.arena[n:])
}

// targetOf is what the request wants, for clusters that dial it.
func (x *exchange) targetOf() upstream.Target {
	host, port := http1.SplitPort(x.authority)
	dst, name := decide.Original(&x.c.Info, x.cluster, host)
	return upstream.Target{
		Destination: dst, Name: name, Authority: host, ForwardPort: decide.ForwardPort(x.cluster, port),
		Source: x.c.Info.Source, Local: x.c.Info.Destination,
	}
}
