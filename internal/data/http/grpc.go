package http

import (
	"strconv"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
)

// asksGRPC reports whether an answer of ours is for a gRPC client.
func (x *exchange) asksGRPC() bool {
	v, _ := x.req.Fields.Original().Get("content-type")
	return match.IsGRPC(v)
}

// answerGRPC answers with nothing but a head, which gRPC takes for trailers: HTTP
// status 200, the gRPC status and a message (Envoy's local reply to gRPC).
func (x *exchange) answerGRPC(status uint32, why reason.Reason, message string) {
	f := &x.resp.Fields
	f.Reset()
	f.Add("content-type", "application/grpc")
	f.Add("grpc-status", x.intern(strconv.AppendUint(nil, uint64(status), 10)))
	if message != "" {
		n := len(x.arena)
		x.arena = appendGRPCMessage(x.arena, message)
		f.Add("grpc-message", view(x.arena[n:]))
	}
	if why != "" {
		f.Add("x-egret-reason", string(why))
	}
	x.answer(200, nil)
}

// appendGRPCMessage escapes what a grpc-message may not have as it is (the gRPC
// protocol's Percent-Encoded). Spaces at the ends would not survive as a field value.
func appendGRPCMessage(dst []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x20 || c > 0x7e || c == '%' || c == ' ' && (i == 0 || i == len(s)-1) {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return dst
}
