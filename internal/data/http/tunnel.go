package http

import (
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
)

// runTunnel answers with the upstream's 101 (or 2xx to CONNECT) and then copies bytes
// in both directions until both have ended.
func (x *exchange) runTunnel() {
	x.close, x.broken, x.answered = true, true, true
	x.tunnelling.Store(true)
	x.resp.Fields.RemoveHop()
	x.editResponse()
	x.finishFields()
	x.limit.Store(0) // a route's timeout does not apply to what follows
	fromClient, toClient := x.client.tunnel(x)
	fromServer, toServer := x.up.tunnel(x)
	if err := toClient.flush(); err != nil {
		x.clientGone()
		x.abandonUpstream()
		return
	}
	var up pump
	up.start(fromClient, toServer, &x.moved, &x.h.pipes)
	x.download.start(fromServer, toClient, &x.moved, &x.h.pipes)
	done := make(chan bool)
	go func() { done <- x.carry(&up) }()
	whole := x.carry(&x.download)
	whole = <-done && whole
	x.entry.BytesSent, x.entry.BytesReceived = x.download.total, up.total
	x.entry.ResponseDone = time.Since(x.start)
	switch c := x.watch.interrupted(); c {
	case causeNone:
		x.complete = whole
	case causePolicy, causeStream, causeDuration:
		f := x.interruption()
		x.entry.Reason, x.entry.Detail = f.reason, f.detail
		if f.flag != "" {
			x.flag(f.flag)
		}
	default:
		x.entry.Reason, x.entry.Detail = reason.DownstreamClosed, "the tunnel was closed"
	}
	x.abandonUpstream()
}

// carry copies one direction of a tunnel to its end; a failure ends both.
func (x *exchange) carry(p *pump) bool {
	if p.run() != nil {
		x.watch.wake()
		return false
	}
	return true
}
