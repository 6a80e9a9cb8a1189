package http

import (
	"errors"
	"time"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
)

// respond sends the response in x.resp, whose body is still on x.up, to the client.
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
	x.editHead()
	p := &x.download
	p.start(x.respBody, x.client.begin(x), &x.moved, &x.h.pipes)
	x.answered = true
	if x.grpc {
		p.frames = &x.answerFrames
	}
	err := p.run()
	x.entry.BytesSent = p.total
	x.entry.ResponseMessages = x.answerFrames.messages
	x.entry.ResponseDone = time.Since(x.start)
	if err != nil {
		x.responseBroke(err)
		return
	}
	x.complete = true
	if t := x.respBody.trailers(); t != nil && t.Len() > 0 {
		x.entry.ResponseTrailers = t
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
	if x.upgrade == "websocket" && x.resp.Status < 400 && x.resp.Status != 101 {
		e.ResponseCodeDetails = "websocket_handshake_unsuccessful"
	}
	e.UpstreamReady = x.sentAt - x.started
	if x.replayable { // else the upload tells
		e.RequestSent = e.UpstreamReady
	}
	e.UpstreamServiceTime = e.FirstUpstreamByte - e.UpstreamReady
	e.Attempts = x.attempt
}

// editHead makes the upstream's response head ours.
func (x *exchange) editHead() {
	s := &x.resp
	trailer, hasTrailer := s.Fields.Known(http1.Trailer)
	s.Fields.RemoveHop()
	s.Fields.RemoveKnown(http1.Trailer)
	if hasTrailer && s.Framing == http1.Length && x.up == &x.stream && x.entry.Protocol == record.ProtocolHTTP11 {
		s.Framing = http1.Chunked // over HTTP/1 trailers need chunks
	}
	if hasTrailer && s.Framing == http1.Chunked && !x.req.HTTP10 {
		s.Fields.Add("trailer", trailer)
	}
	x.routerFields()
	x.editResponse()
	x.finishFields()
}

// routerFields is what Envoy's router adds to an upstream's response.
func (x *exchange) routerFields() {
	f := &x.resp.Fields
	if !x.hcm.SuppressEnvoyHeaders {
		x.serviceTimeField()
	}
	if v := x.plan.VirtualHost; v != nil && v.IncludeAttemptCountInResponse {
		n := len(x.arena)
		x.arena = appendInt(x.arena, int64(x.attempt))
		f.Set("x-envoy-attempt-count", view(x.arena[n:]))
	}
	if x.setCookie != "" {
		f.Add("set-cookie", x.setCookie)
	}
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
	var reset *http2.ResetError
	switch c := x.watch.interrupted(); {
	case c != causeNone && c != causeGone:
		f := x.interruption()
		x.entry.Reason, x.entry.Detail = f.reason, f.detail
		if f.flag != "" {
			x.flag(f.flag)
		}
		x.entry.ResponseCodeDetails = detailsOf(f)
	case c == causeGone || errors.As(err, &w) || x.client.gone():
		x.clientGone()
		return
	case ruleOf(err) != "":
		x.flag("UPE")
		x.entry.Reason, x.entry.Detail = reason.UpstreamProtocolError, "the upstream's response breaks the rule "+ruleOf(err)
		x.entry.ResponseCodeDetails = "upstream_reset_after_response_started{protocol_error}"
	case errors.As(err, &reset):
		x.flag("UR")
		x.entry.Reason, x.entry.Detail = reason.UpstreamReset, "the upstream reset the stream inside the response: "+reset.Code.String()
		x.entry.ResponseCodeDetails = "upstream_reset_after_response_started{remote_reset}"
	default:
		x.flag("UC")
		x.entry.Reason, x.entry.Detail = reason.UpstreamReset, "the upstream closed the connection inside the response"
		x.entry.ResponseCodeDetails = "upstream_reset_after_response_started{connection_termination}"
	}
	x.client.breakOff(x)
}
