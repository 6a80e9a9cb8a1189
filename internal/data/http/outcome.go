package http

import (
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/reason"
)

// reportOutcome tells the host what became of an attempt, for outlier detection. A
// failure to connect the upstream manager knows itself; what is the client's doing or
// the policy's says nothing about the host.
func (x *exchange) reportOutcome(f *failure) {
	switch {
	case f.kind == answeredKind:
		x.host.Answered(outlierStatus(x.resp.Status, grpcStatus(&x.resp.Fields)))
	case f.kind == staleKind:
	case f.reason == reason.UpstreamTimeout:
		x.host.TimedOut()
	case f.kind == resetKind || f.reason == reason.UpstreamReset || f.reason == reason.UpstreamProtocolError:
		x.host.ConnectionLost()
	}
}

// outlierStatus is the HTTP status that stands for a gRPC status in the response's
// head, as Envoy maps them.
func outlierStatus(status int, grpc string) int {
	if grpc == "" {
		return status
	}
	if s, ok := grpcHTTPStatus[grpc]; ok {
		return s
	}
	return 500
}

var grpcHTTPStatus = map[string]int{
	"0": 200, "1": 499, "2": 500, "3": 400, "4": 504, "5": 404, "6": 409, "7": 403, "8": 429,
	"9": 400, "10": 409, "11": 400, "12": 501, "13": 500, "14": 503, "15": 500, "16": 401,
}

// grpcStatus is a response's gRPC status where its head has it; else "".
func grpcStatus(f *http1.Fields) string {
	v, _ := f.Get("grpc-status")
	return v
}
