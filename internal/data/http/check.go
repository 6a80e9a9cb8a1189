package http

import (
	"time"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
)

// startWatching begins the checks of a waiting exchange, or moves the next one
// nearer. It returns false when the exchange has been interrupted.
func (x *exchange) startWatching() bool {
	return x.watch.set(causeCheck, x.nextCheck(x.h.now()))
}

// nextCheck is when to look again: soon, or when a timeout passes.
func (x *exchange) nextCheck(now time.Duration) time.Duration {
	next := now + x.h.checkEvery
	for _, limit := range [2]int64{x.limit.Load(), x.tryLimit.Load()} {
		if limit > 0 && time.Duration(limit) < next {
			next = time.Duration(limit)
		}
	}
	if x.streamIdle > 0 {
		next = min(next, now+x.streamIdle)
	}
	for _, limit := range [2]time.Duration{x.requestLimit, x.streamLimit} {
		if limit > now {
			next = min(next, limit)
		}
	}
	return next
}

// check decides whether a waiting exchange goes on. It runs on the watch's timer,
// while the exchange's own goroutine waits for I/O.
func (x *exchange) check() (cause, time.Duration) {
	now := x.h.now()
	if limit := x.limit.Load(); limit > 0 && now >= time.Duration(limit) {
		return causeRoute, 0
	}
	if limit := x.tryLimit.Load(); limit > 0 && now >= time.Duration(limit) {
		return causeTry, 0
	}
	if x.streamLimit > 0 && now >= x.streamLimit {
		return causeDuration, 0
	}
	if x.requestLimit > 0 && now >= x.requestLimit && !x.received.Load() {
		return causeRequest, 0
	}
	if moved := x.moved.Load(); moved != x.seen {
		x.seen, x.seenAt = moved, now
	}
	if x.streamIdle > 0 && now >= max(x.seenAt, x.started)+x.streamIdle {
		return causeStream, 0
	}
	if now >= max(x.seenAt, x.started)+x.h.limits.ScarceTimeout && x.c.Scarce != nil && x.c.Scarce() && x.clientHoldsUp() {
		return causeScarce, 0
	}
	if !x.tunnelling.Load() && !x.upload.running() && x.client.gone() {
		return causeGone, 0
	}
	if !x.stillAllowed() {
		return causePolicy, 0
	}
	return causeNone, x.nextCheck(now)
}

// clientHoldsUp reports whether it is the client that is waited for: for more of its
// request, or to read what it has asked for.
func (x *exchange) clientHoldsUp() bool {
	return !x.tunnelling.Load() && (x.upload.running() || x.collecting.Load() || unread(x.c.Net) > 0)
}

// stillAllowed decides again when the configuration has changed. The request is
// judged as it arrived.
func (x *exchange) stillAllowed() bool {
	x.plan.Held.Touch()
	cfg, plan, m := planOf(x.c)
	if cfg == x.cfg || cfg == x.judged {
		return true
	}
	if cfg.DecidesAs(x.cfg) || x.judged != nil && cfg.DecidesAs(x.judged) {
		return true
	}
	if m == nil {
		x.lateReason, x.lateDetail = reason.PolicyChanged, lateDetail(plan.Reason, plan.Detail)
		return false
	}
	if p, ok := x.decideAgain(cfg, m); ok && p.Verdict != decide.Forward {
		x.lateReason, x.lateDetail = reason.PolicyChanged, lateDetail(p.Reason, p.Detail)
		return false
	}
	x.judged = cfg
	return true
}

func lateDetail(why reason.Reason, detail string) string {
	return "no longer allowed (" + string(why) + "): " + detail
}

// interruption is what the watch's cause means for an exchange that waits for its
// response.
func (x *exchange) interruption() *failure {
	switch c := x.watch.interrupted(); c {
	case causeRoute:
		return &failure{kind: finalKind, status: 504, reason: reason.UpstreamTimeout, flag: "UT",
			detail: "no complete response within the timeout of " + x.timeouts.Response.String()}
	case causeDuration:
		return &failure{kind: finalKind, status: 408, reason: reason.UpstreamTimeout, flag: "DT",
			detail: "the request took longer than max_stream_duration, " + x.timeouts.Stream.String()}
	case causeTry:
		x.watch.resume()
		return &failure{kind: timeoutKind, status: 504, reason: reason.UpstreamTimeout, flag: "UT",
			detail: "no response within the timeout of one attempt"}
	case causeStream:
		return &failure{kind: finalKind, status: 504, reason: reason.UpstreamTimeout, flag: "SI",
			detail: "nothing moved for " + x.streamIdle.String()}
	case causeRequest:
		x.close = true
		return &failure{kind: finalKind, status: 408, reason: reason.DownstreamTimeout,
			detail: "the whole request did not arrive within " + x.hcm.RequestTimeout.String()}
	case causeScarce:
		x.close = true
		return &failure{kind: finalKind, status: 408, reason: reason.DownstreamTimeout,
			detail: "connections are scarce, and the client made the proxy wait for more than " + x.h.limits.ScarceTimeout.String()}
	case causePolicy:
		return &failure{kind: finalKind, status: 502, reason: x.lateReason, detail: x.lateDetail}
	case causeUpload:
		return x.uploadFailure()
	}
	f := x.goneFailure()
	return &f
}
