package http

import (
	"strconv"
	"unsafe"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
)

// view views b as a string without copying.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// fail answers with a reason of ours: a refusal, or a failure on an allowed way. The
// connection can be used again where the request's body is no obstacle.
func (x *exchange) fail(status int, why reason.Reason, detail string) {
	if !x.drainable() {
		x.close = true
	}
	x.answerError(status, why, detail, "")
}

// drainable reports whether the rest of the request body is small enough to be read
// after an answer of ours.
func (x *exchange) drainable() bool {
	switch {
	case x.reqBody.Done():
		return true
	case x.req.Expect100 || x.upload.running():
		return false // the client may or may not send its body now
	case x.req.Framing == http1.Length:
		return x.reqBody.Left() <= x.h.limits.DrainBytes
	}
	return true
}

// answerError writes an error response of ours: the reason in a header, and a line of
// text for people. The rule is the codec's, if it refused.
func (x *exchange) answerError(status int, why reason.Reason, detail, rule string) {
	x.entry.Reason, x.entry.Detail = why, detail
	n := len(x.arena)
	x.arena = append(x.arena, "egret: "...)
	x.arena = append(x.arena, why...)
	if rule != "" {
		x.arena = append(append(x.arena, ": "...), rule...)
	}
	x.arena = appendPrintable(append(x.arena, ": "...), detail)
	x.arena = append(x.arena, '\n')
	body := x.arena[n:]
	if rule != "" {
		x.entry.Detail = x.intern([]byte(rule + ": " + detail))
	}
	if x.asksGRPC() {
		x.answerGRPC(record.GRPCStatusOf(status), why, view(body[:len(body)-1]))
		return
	}
	f := &x.resp.Fields
	f.Reset()
	f.Add("content-type", "text/plain")
	f.Add("x-egret-reason", string(why))
	if rule != "" {
		f.Add("x-egret-rule", rule)
	}
	if why == reason.UpstreamOverflow && (x.hcm == nil || !x.hcm.SuppressEnvoyHeaders) {
		f.Add("x-envoy-overloaded", "true")
	}
	x.answer(status, body)
}

// appendPrintable keeps a line a line, whatever names from the network are in it.
func appendPrintable(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x20 || c == 0x7f {
			c = '?'
		}
		dst = append(dst, c)
	}
	return dst
}

// answer writes a response of ours with the fields in x.resp.Fields.
func (x *exchange) answer(status int, body []byte) {
	x.entry.Status = status
	x.entry.ResponseHeaders = &x.resp.Fields
	s := &x.resp
	*s = http1.Response{Status: status, Fields: s.Fields, Declared: -1}
	if status >= 200 && status != 204 && status != 304 {
		s.Declared = int64(len(body))
	} else {
		body = nil
	}
	if x.req.Method == "HEAD" {
		body = nil
	}
	if len(body) > 0 {
		s.Framing, s.Length = http1.Length, s.Declared
	}
	x.finishFields()
	x.entry.BytesSent, x.entry.LocalReplyBody = int64(len(body)), view(body)
	x.answered = true
	// A client that does not read its answers must not hold the connection.
	x.watch.set(causeLinger, x.h.now()+x.h.limits.LingerTime)
	if err := x.sendWhole(body); err != nil {
		x.close = true
		if x.client.reset() {
			x.flag("DR")
		} else {
			x.flag("DC")
		}
		return
	}
	x.complete = true
}

// sendWhole sends the response in x.resp with a body that is there.
func (x *exchange) sendWhole(body []byte) error {
	to := x.client.begin(x)
	if len(body) > 0 {
		if err := to.add(body, true); err != nil {
			return err
		}
	}
	return to.end(nil)
}

// finishFields sets the fields that every response has: date where there is none,
// and server as the connection manager says.
func (x *exchange) finishFields() {
	f := &x.resp.Fields
	if x.filters.cors.Policy != nil {
		x.corsFields()
	}
	if _, ok := f.Known(http1.Date); !ok {
		f.Add("date", x.h.dateAt(x.start))
	}
	if x.hcm == nil {
		return
	}
	if x.hcm.Via != "" {
		f.Add("via", x.hcm.Via)
	}
	if x.hcm.AlwaysRequestID {
		if id, ok := x.req.Fields.Known(http1.XRequestID); ok {
			f.RemoveKnown(http1.XRequestID)
			f.Add("x-request-id", id)
		}
	}
	if x.hcm.ServerName == "" {
		return
	}
	if _, ok := f.Known(http1.Server); ok {
		if x.hcm.ServerNameIfAbsent {
			return
		}
		f.RemoveKnown(http1.Server)
	}
	f.Add("server", x.hcm.ServerName)
}

// direct answers with the route's direct response.
func (x *exchange) direct() {
	d := x.plan.Route.Direct
	x.entry.ResponseCodeDetails = "direct_response"
	if !x.drainable() {
		x.close = true
	}
	if x.asksGRPC() {
		x.answerGRPC(record.GRPCStatusOf(d.Status), "", string(d.Body))
		return
	}
	f := &x.resp.Fields
	f.Reset()
	if len(d.Body) > 0 {
		f.Add("content-type", "text/plain")
	}
	x.entry.Status, x.entry.ResponseHeaders = d.Status, f
	x.editResponse()
	x.answer(d.Status, d.Body)
}

// redirect answers with the route's redirect.
func (x *exchange) redirect() {
	r := x.plan.Route.Redirect
	x.entry.ResponseCodeDetails = "direct_response"
	if !x.drainable() {
		x.close = true
	}
	location := decide.Location(r, &x.plan.Route.Match, x.c.Info.Scheme(), x.authority, x.path)
	f := &x.resp.Fields
	f.Reset()
	f.Add("location", location)
	x.entry.Status, x.entry.ResponseHeaders = r.Status, f
	x.editResponse()
	x.answer(r.Status, nil)
}

// appendInt is strconv.AppendInt to base 10.
func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
