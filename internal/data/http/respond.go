package http

import (
	"errors"
	"time"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/reason"
)

// respond sends the response in x.resp, whose body is still on x.conn, to the client.
func (x *exchange) respond() {
	x.tryLimit.Store(0)
	x.describeResponse()
	if x.tunnel && (x.resp.Status == 101 || x.req.Method == "CONNECT" && x.resp.Status < 300) {
		x.runTunnel()
		return
	}
	if x.upload.running() && !x.upload.last.Load() {
		x.close = true // an answer before the end of the request: no other can follow
	}
	p := &x.download
	p.body, p.src, p.dst, p.moved = &x.respBody, x.conn.tcp, &x.s.wire, &x.moved
	p.chunked = x.buildResponse()
	p.out = x.back
	x.respBody.Start(x.conn.reader, x.resp.Framing, x.resp.Length, false)
	x.answered = true
	err := p.run()
	x.back = p.out
	x.entry.BytesSent = p.total
	x.entry.ResponseDone = time.Since(x.start)
	if err != nil {
		x.responseBroke(err)
		return
	}
	if x.upload.running() && !x.upload.last.Load() {
		x.abandonUpstream()
		return
	}
	x.stopUpload()
}

// describeResponse takes what the response says into the entry.
func (x *exchange) describeResponse() {
	e := &x.entry
	e.Status = x.resp.Status
	e.ResponseHeaders = &x.resp.Fields
	e.ResponseCodeDetails = "via_upstream"
	e.UpstreamServiceTime = x.started + e.FirstUpstreamByte - x.sentAt
	e.Attempts = x.attempt
}

// buildResponse writes the response head anew into x.back. It reports whether the
// body goes in chunks.
func (x *exchange) buildResponse() (chunked bool) {
	s := &x.resp
	trailer, hasTrailer := s.Fields.Known(http1.Trailer)
	chunked = (s.Framing == http1.Chunked || s.Framing == http1.UntilClose) && !x.req.HTTP10
	s.Fields.RemoveHop()
	s.Fields.RemoveKnown(http1.Trailer)
	if hasTrailer && chunked {
		s.Fields.Add("trailer", trailer)
	}
	x.serviceTimeField()
	x.editResponse()
	x.finishFields()
	b := http1.AppendStatusLine(x.back[:0], s.Status, s.Reason)
	b = s.Fields.Append(b)
	switch {
	case chunked:
		b = append(b, "transfer-encoding: chunked\r\n"...)
	case s.Framing == http1.Length:
		b = http1.AppendLength(b, s.Length)
	case s.Framing != http1.NoBody:
		x.close = true // HTTP/1.0: the end of the connection is the end of the body
	case s.Declared >= 0 && s.Status >= 200 && s.Status != 204:
		b = http1.AppendLength(b, s.Declared)
	}
	b = x.appendConnection(b)
	x.back = append(b, "\r\n"...)
	return chunked
}

// serviceTimeField is x-envoy-upstream-service-time: milliseconds until the head.
func (x *exchange) serviceTimeField() {
	n := len(x.arena)
	x.arena = appendInt(x.arena, x.entry.UpstreamServiceTime.Milliseconds())
	value := view(x.arena[n:])
	f := &x.resp.Fields
	if f.Has("x-envoy-upstream-service-time") {
		f.Remove("x-envoy-upstream-service-time")
	}
	f.Add("x-envoy-upstream-service-time", value)
}

// responseBroke ends a response that cannot be completed: the client must not take
// what it got for the whole.
func (x *exchange) responseBroke(err error) {
	x.close = true
	x.abandonUpstream()
	var w writeError
	var e *http1.Error
	switch c := x.s.watch.interrupted(); {
	case c != causeNone && c != causeGone:
		f := x.interruption()
		x.entry.Reason, x.entry.Detail = f.reason, f.detail
		if f.flag != "" {
			x.flag(f.flag)
		}
		x.entry.ResponseCodeDetails = detailsOf(f)
	case c == causeGone || errors.As(err, &w) || closedByPeer(x.s.c.Net):
		x.clientGone()
		return
	case errors.As(err, &e):
		x.flag("UPE")
		x.entry.Reason, x.entry.Detail = reason.UpstreamProtocolError, "the upstream's response breaks the rule "+e.Rule
		x.entry.ResponseCodeDetails = "upstream_reset_after_response_started{protocol_error}"
	default:
		x.flag("UC")
		x.entry.Reason, x.entry.Detail = reason.UpstreamReset, "the upstream closed the connection inside the response"
		x.entry.ResponseCodeDetails = "upstream_reset_after_response_started{connection_termination}"
	}
	if t := x.s.wire.tcp; t != nil && x.resp.Framing != http1.Length {
		// A reset, where an orderly end could be taken for the end of the body.
		_ = t.SetLinger(0)
	}
}
