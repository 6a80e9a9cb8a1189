package http

import (
	"errors"
	"io"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// kind groups failures for the retry policy.
type kind uint8

const (
	answeredKind kind = iota // a response head was read
	connectKind              // no connection was made
	staleKind                // a reused connection turned out closed, nothing was sent
	resetKind                // the connection ended before a response
	refusedKind              // the upstream says that it did not look at the request
	timeoutKind              // of one attempt
	finalKind                // not to be retried
)

// failed is the kind as the retry policy knows it; false where there is no retry.
func (k kind) failed() (decide.Failed, bool) {
	switch k {
	case connectKind:
		return decide.ConnectFailed, true
	case resetKind:
		return decide.ResetFailed, true
	case timeoutKind:
		return decide.TimeoutFailed, true
	case refusedKind:
		return decide.RefusedFailed, true
	}
	return 0, false
}

// failure is why an attempt gave no response.
type failure struct {
	kind   kind
	status int
	reason reason.Reason
	flag   string
	detail string
	// details is %RESPONSE_CODE_DETAILS%; "": as the reason has it.
	details string
	err     error
}

// readFailure classifies an error while the response head was awaited. early: nothing
// of a response was read.
func (x *exchange) readFailure(err error, early bool) failure {
	var reset *http2.ResetError
	rule := ruleOf(err)
	switch {
	case x.watch.interrupted() != causeNone:
		return *x.interruption()
	case rule != "":
		return x.protocolError("the upstream's response breaks the rule " + rule)
	case errors.As(err, &reset):
		return x.resetFailure(reset)
	case err == nil:
		return x.protocolError("the upstream sent bytes before the request")
	case early && x.reused && x.replayable && idempotent(x.req.Method):
		if x.up == &x.stream {
			return x.stale(failure{kind: resetKind, status: 503, reason: reason.UpstreamReset, flag: "UC", err: err, detail: resetDetail(early)})
		}
		return failure{kind: staleKind}
	case upstream.RefusedTLS(err):
		return failure{kind: resetKind, status: 503, reason: reason.UpstreamTLSFailed, flag: "UC", err: err,
			detail: "the upstream refused TLS before a response", details: "upstream_reset_before_response_started{connection_termination}"}
	}
	if errors.Is(err, http1.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, http1.ErrUnexpectedEOF) {
		err = nil // the detail says it
	}
	return failure{kind: resetKind, status: 503, reason: reason.UpstreamReset, flag: "UC", err: err,
		detail: resetDetail(early)}
}

// ruleOf is the rule that a peer broke, or "".
func ruleOf(err error) string {
	var e1 *http1.Error
	var e2 *http2.Error
	switch {
	case errors.As(err, &e1):
		return e1.Rule
	case errors.As(err, &e2):
		return e2.Rule
	}
	return ""
}

// resetFailure is a stream that the upstream reset before a response.
func (x *exchange) resetFailure(e *http2.ResetError) failure {
	f := failure{kind: resetKind, status: 503, reason: reason.UpstreamReset, flag: "UR",
		detail: "the upstream reset the stream before a response: " + e.Code.String()}
	if e.NotProcessed() {
		f.kind = refusedKind
		if x.replayable && !x.stream.conn.client.Usable() {
			return x.stale(f) // a GOAWAY that leaves the stream out
		}
	}
	return f
}

func resetDetail(early bool) string {
	if early {
		return "the upstream closed the connection before a response"
	}
	return "the upstream closed the connection inside the response head"
}

func (x *exchange) protocolError(detail string) failure {
	return failure{kind: resetKind, status: 502, reason: reason.UpstreamProtocolError, flag: "UPE", detail: detail}
}

// upstreamError classifies what the upstream manager says. A refusal by policy is
// answered as one.
func (x *exchange) upstreamError(err *upstream.Error) failure {
	if x.watch.interrupted() != causeNone {
		return *x.interruption()
	}
	f := failure{kind: finalKind, status: 503, reason: err.Reason, flag: err.Flag, detail: err.Detail, err: err.Err}
	switch {
	case err.Reason.Denied():
		f.status = 502
	case err.Reason == reason.UpstreamConnectFailed || err.Reason == reason.UpstreamTLSFailed:
		f.kind = connectKind
	}
	if err.Host != "" {
		x.entry.UpstreamHost = err.Host
	}
	return f
}

// failUpstream answers for an upstream that gave no response.
func (x *exchange) failUpstream(f *failure) {
	x.dropUpstream()
	x.entry.Attempts = x.attempt
	if f.flag != "" {
		x.flag(f.flag)
	}
	detail := f.detail
	if f.err != nil {
		x.entry.UpstreamTransportFailure = f.err.Error()
		detail += ": " + x.entry.UpstreamTransportFailure
	}
	x.entry.Reason, x.entry.Detail = f.reason, detail
	x.entry.ResponseCodeDetails = detailsOf(f)
	if f.status == 0 || x.answered {
		x.close = true // the client is gone, or has half a response
		return
	}
	x.watch.resume()
	x.fail(f.status, f.reason, detail)
}

// detailsOf is Envoy's RESPONSE_CODE_DETAILS.
func detailsOf(f *failure) string {
	if f.details != "" {
		return f.details
	}
	switch f.reason {
	case reason.UpstreamTimeout:
		if f.flag == "DT" {
			return "max_duration_timeout"
		}
		return "response_timeout"
	case reason.UpstreamReset:
		if f.flag == "UR" {
			return "upstream_reset_before_response_started{remote_reset}"
		}
		return "upstream_reset_before_response_started{connection_termination}"
	case reason.UpstreamConnectFailed, reason.UpstreamTLSFailed:
		return "upstream_reset_before_response_started{connection_failure}"
	case reason.UpstreamProtocolError:
		return "upstream_reset_before_response_started{protocol_error}"
	case reason.NoHealthyUpstream:
		return "no_healthy_upstream"
	case reason.UpstreamOverflow:
		return "upstream_reset_before_response_started{overflow}"
	}
	return ""
}

// clientGone notes that the connection to the client is gone: the client closed it, or
// the proxy did, which does not wait for ever when it shuts down. Of HTTP/2 it may be the
// stream only.
func (x *exchange) clientGone() {
	x.close = true
	if x.client.reset() {
		x.flag("DR")
		x.entry.Reason, x.entry.Detail = reason.DownstreamClosed, "the client reset the stream before the response was complete"
		x.entry.ResponseCodeDetails = "http2.remote_reset"
		return
	}
	x.flag("DC")
	x.entry.Reason, x.entry.Detail = reason.DownstreamClosed, "the client closed before the response was complete"
	if x.c.draining.Load() {
		x.entry.Reason, x.entry.Detail = reason.Draining, "the connection was closed before the response was complete, while the proxy was shutting down"
	}
	x.entry.ResponseCodeDetails = "downstream_remote_disconnect"
}

// goneFailure is clientGone as the end of an attempt.
func (x *exchange) goneFailure() failure {
	x.clientGone()
	return failure{kind: finalKind, reason: x.entry.Reason, details: x.entry.ResponseCodeDetails, detail: x.entry.Detail}
}
