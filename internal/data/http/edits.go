package http

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// editRequest makes the header section that goes upstream, once for all attempts:
// the connection manager's changes, then the route's edits in Envoy's order (cluster
// entry, route, virtual host, route configuration), then rewrites.
func (x *exchange) editRequest() {
	f := &x.req.Fields
	trailer, hasTrailer := f.Known(http1.Trailer)
	f.RemoveHop()
	f.RemoveKnown(http1.Trailer)
	if hasTrailer && x.req.Framing == http1.Length && x.entry.Protocol == record.ProtocolHTTP2 {
		x.req.Framing = http1.Chunked // over HTTP/1 trailers need chunks
	}
	if hasTrailer && x.req.Framing == http1.Chunked {
		f.Add("trailer", trailer)
	}
	if x.req.HTTP10 {
		f.RemoveKnown(http1.Expect) // RFC 9110 section 10.1.1
	}
	x.managerFields()
	x.timeoutField()
	x.applyLists(f, requestEdits)
	forward := x.plan.Route.Forward
	if rewritten := decide.RewriteAuthority(forward, x.weighted, x.authority); rewritten != x.authority {
		if forward.AppendForwardedHost {
			x.appendForwardedHost()
		}
		x.authority = rewritten
	}
	if rewritten := decide.RewritePath(forward, &x.plan.Route.Match, x.path); rewritten != x.path {
		if !x.hcm.SuppressEnvoyHeaders {
			f.Set("x-envoy-original-path", x.path)
		}
		x.path = rewritten
	}
	x.entry.Path, x.entry.Authority = x.path, x.authority
}

// managerFields is what Envoy's connection manager does to request headers.
func (x *exchange) managerFields() {
	f, m := &x.req.Fields, x.hcm
	if x.asksEnvoy() {
		for _, name := range wishes {
			f.Remove(name)
		}
	}
	if m.UseRemoteAddress {
		f.RemoveKnown(http1.XEnvoy)
		if !m.SkipXFFAppend {
			x.appendForwardedFor()
		}
		if m.TrustedHops == 0 {
			f.RemoveKnown(http1.XForwardedProto)
		}
		if !m.PreserveExternalRequestID {
			f.RemoveKnown(http1.XRequestID)
		}
	}
	if _, ok := f.Known(http1.XForwardedProto); !ok {
		f.Add("x-forwarded-proto", x.c.Info.Scheme())
	}
	if _, ok := f.Known(http1.XRequestID); !ok && m.GenerateRequestID {
		f.Add("x-request-id", x.requestID())
	}
	if m.AppendForwardedPort {
		x.forwardedPort()
	}
	if m.Via != "" {
		f.Add("via", m.Via)
	}
	x.clientCert()
}

// forwardedPort tells the port that the client called; only what is behind a gateway or a
// trusted proxy may have been told it by another.
func (x *exchange) forwardedPort() {
	f := &x.req.Fields
	if x.hcm.UseRemoteAddress && x.hcm.TrustedHops == 0 || !f.Has("x-forwarded-port") {
		n := len(x.arena)
		x.arena = appendInt(x.arena, int64(x.c.Info.Destination.Port()))
		f.Set("x-forwarded-port", view(x.arena[n:]))
	}
}

// toldClient is who the trusted proxies before this one say the client is: the last but
// hops-1 of x-forwarded-for, as the last was added by the nearest (Envoy's
// xff_num_trusted_hops). Where there is none, or no address, it is not valid.
func toldClient(f *http1.Fields, hops uint32) netip.Addr {
	told, _ := f.Get("x-forwarded-for")
	for ; hops > 1; hops-- {
		i := strings.LastIndexByte(told, ',')
		if i < 0 {
			return netip.Addr{}
		}
		told = told[:i]
	}
	client, err := netip.ParseAddr(strings.Trim(told[strings.LastIndexByte(told, ',')+1:], " \t"))
	if err != nil || client.Zone() != "" {
		return netip.Addr{}
	}
	return client
}

// appendForwardedFor adds the client's address to x-forwarded-for.
func (x *exchange) appendForwardedFor() {
	f := &x.req.Fields
	n := len(x.arena)
	if have, ok := f.Get("x-forwarded-for"); ok {
		x.arena = append(append(x.arena, have...), ',')
	}
	x.arena = x.c.Info.Source.Addr().Unmap().AppendTo(x.arena)
	value := view(x.arena[n:])
	f.RemoveKnown(http1.XForwardedFor)
	f.Add("x-forwarded-for", value)
}

// requestID is a random UUID, version 4 (RFC 9562 section 5.4). It needs to be
// different from others, not secret.
func (x *exchange) requestID() string {
	const digits = "0123456789abcdef"
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(3<<62) | 2<<62
	n := len(x.arena)
	for i := 0; i < 16; i++ {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			x.arena = append(x.arena, '-')
		}
		w := hi
		if i >= 8 {
			w = lo
		}
		b := byte(w >> (8 * (7 - i%8)))
		x.arena = append(x.arena, digits[b>>4], digits[b&15])
	}
	return view(x.arena[n:])
}

// timeoutField tells the upstream how long this proxy will wait
// (x-envoy-expected-rq-timeout-ms).
func (x *exchange) timeoutField() {
	d := x.timeouts.Response
	if try := x.timeouts.Try; try > 0 {
		d = try
	}
	if d <= 0 {
		return
	}
	f := &x.req.Fields
	n := len(x.arena)
	x.arena = appendInt(x.arena, d.Milliseconds())
	value := view(x.arena[n:])
	if !x.hcm.SuppressEnvoyHeaders {
		f.Set("x-envoy-expected-rq-timeout-ms", value)
	}
	if x.plan.Route.Forward.GRPC != nil && f.Has("grpc-timeout") && len(value) <= 8 {
		x.arena = append(x.arena, 'm')
		f.Set("grpc-timeout", view(x.arena[n:]))
	}
}

// asksEnvoy reports whether the client's x-envoy headers count: not behind a gateway,
// where Envoy takes them off before anything reads them.
func (x *exchange) asksEnvoy() bool {
	_, ok := x.req.Fields.Known(http1.XEnvoy)
	return ok && !x.hcm.UseRemoteAddress
}

// wishes are the request headers by which a client may tell Envoy's router how to treat
// its request. Timeouts were read; the others, which could make more requests out of
// one, do nothing here. None goes further.
var wishes = [...]string{
	"x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-expected-rq-timeout-ms",
	"x-envoy-max-retries", "x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-retriable-status-codes",
	"x-envoy-retriable-header-names", "x-envoy-hedge-on-per-try-timeout", "x-envoy-upstream-rq-timeout-alt-response",
	"x-envoy-upstream-alt-stat-name", "x-envoy-is-timeout-retry",
}

// appendForwardedHost tells the upstream the authority that a rewrite replaces.
func (x *exchange) appendForwardedHost() {
	f := &x.req.Fields
	n := len(x.arena)
	if have, ok := f.Get("x-forwarded-host"); ok {
		x.arena = append(append(x.arena, have...), ',')
	}
	x.arena = append(x.arena, x.authority...)
	f.Set("x-forwarded-host", view(x.arena[n:]))
}

// editResponse applies the route's response header edits.
func (x *exchange) editResponse() { x.applyLists(&x.resp.Fields, responseEdits) }

// applyLists makes the edits of all levels in Envoy's order: the most specific level
// first, or last where the route configuration says that it has the last word.
func (x *exchange) applyLists(f *http1.Fields, d direction) {
	if x.noEdits(d) {
		return
	}
	lists := x.editLists(d)
	if c := x.plan.RouteConfig; c != nil && c.MostSpecificWins {
		slices.Reverse(lists[:])
	}
	for _, e := range lists {
		x.applyEdits(f, e)
	}
}

// direction selects the request's or the response's edits.
type direction uint8

const (
	requestEdits direction = iota
	responseEdits
)

// editLists are the edits that apply, the most specific first, as in Envoy.
func (x *exchange) editLists(d direction) [4]*resource.HeaderEdits {
	var out [4]*resource.HeaderEdits
	add := func(i int, request, response *resource.HeaderEdits) {
		out[i] = request
		if d == responseEdits {
			out[i] = response
		}
	}
	if w := x.weighted; w != nil {
		add(0, &w.RequestHeaders, &w.ResponseHeaders)
	}
	if r := x.plan.Route; r != nil {
		add(1, &r.RequestHeaders, &r.ResponseHeaders)
	}
	if v := x.plan.VirtualHost; v != nil {
		add(2, &v.RequestHeaders, &v.ResponseHeaders)
	}
	if c := x.plan.RouteConfig; c != nil {
		add(3, &c.RequestHeaders, &c.ResponseHeaders)
	}
	return out
}

func (x *exchange) noEdits(d direction) bool {
	for _, e := range x.editLists(d) {
		if e != nil && !e.Empty() {
			return false
		}
	}
	return true
}

// applyEdits removes first, then adds: Envoy's order within one level.
func (x *exchange) applyEdits(f *http1.Fields, e *resource.HeaderEdits) {
	if e == nil {
		return
	}
	for _, name := range e.Remove {
		f.Remove(name)
	}
	for i := range e.Add {
		a := &e.Add[i]
		value := a.Value
		if a.Dynamic {
			value = x.substitute(a.Value)
		}
		if value == "" && !a.KeepEmpty {
			continue
		}
		switch a.Action {
		case resource.AppendIfExistsOrAdd:
			f.Add(a.Name, value)
		case resource.AddIfAbsent:
			if !f.Has(a.Name) {
				f.Add(a.Name, value)
			}
		case resource.OverwriteIfExists:
			if f.Has(a.Name) {
				f.Set(a.Name, value)
			}
		case resource.OverwriteIfExistsOrAdd:
			f.Set(a.Name, value)
		}
	}
}

// substitute expands the command operators in a header value, with what is known of
// the exchange so far.
func (x *exchange) substitute(value string) string {
	n := len(x.arena)
	x.arena = x.h.recorder.AppendValue(x.arena, value, &x.entry)
	return view(x.arena[n:])
}
