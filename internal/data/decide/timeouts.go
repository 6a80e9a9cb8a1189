package decide

import (
	"net/http"
	"strconv"
	"time"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Timeouts bound one request; 0 is no bound.
type Timeouts struct {
	// Response is from the end of the request to the end of the response.
	Response time.Duration
	// Try is from the sending of one attempt to the head of its response.
	Try time.Duration
	// Stream is from the head of the request to the end of the response.
	Stream time.Duration
}

// RequestTimeouts are the route's timeouts and those that the request itself asks for:
// grpc-timeout as the route allows, and x-envoy-upstream-rq-timeout-ms and
// x-envoy-upstream-rq-per-try-timeout-ms where they are shorter than the route's. (In
// Envoy these two may also be longer. Here who calls does not lift the operator's
// bounds.) asks is false where the request is known to have no x-envoy header.
func RequestTimeouts(f *resource.Forward, r *Request, asks bool) Timeouts {
	t := Timeouts{Response: f.Timeout, Stream: f.Stream.Max}
	if f.Retry != nil {
		t.Try = f.Retry.PerTryTimeout
	}
	if (f.GRPC != nil || f.Stream.GRPC != nil) && r.Method == http.MethodPost && IsGRPC(r) { // gRPC is POST always
		t.grpc(f, r)
	}
	if asks {
		t.Response = shorter(t.Response, milliseconds(r, "x-envoy-upstream-rq-timeout-ms"))
		t.Try = shorter(t.Try, milliseconds(r, "x-envoy-upstream-rq-per-try-timeout-ms"))
	}
	if t.Response > 0 && t.Try >= t.Response {
		t.Try = 0
	}
	return t
}

// grpc: the request's own timeout takes the place of the route's; with none the
// bound itself does (Envoy's FilterUtility::finalTimeout).
func (t *Timeouts) grpc(f *resource.Forward, r *Request) {
	value, _ := header(r, "grpc-timeout")
	asked, ok := ParseGRPCTimeout(value)
	if g := f.GRPC; g != nil {
		t.Response = bounded(g, asked)
	}
	if g := f.Stream.GRPC; g != nil && ok {
		t.Stream = shorter(f.Stream.Max, bounded(g, asked))
	}
}

func bounded(g *resource.GRPCTimeout, asked time.Duration) time.Duration {
	if g.Offset < asked {
		asked -= g.Offset
	}
	return shorter(g.Max, asked)
}

func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

func milliseconds(r *Request, name string) time.Duration {
	value, ok := header(r, name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// IsGRPC reports whether a request speaks gRPC by its content type.
func IsGRPC(r *Request) bool {
	v, _ := header(r, "content-type")
	return match.IsGRPC(v)
}

// ParseGRPCTimeout reads grpc-timeout: up to eight digits and a unit (the gRPC protocol
// over HTTP/2, "Timeout"). 0 stands for "none" and for what cannot be read.
func ParseGRPCTimeout(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	unit, ok := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}[s[len(s)-1]]
	const longest = time.Duration(1<<63 - 1)
	if ok && time.Duration(n) > longest/unit {
		return longest, true
	}
	return time.Duration(n) * unit, ok
}
