package http

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
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
	if hasTrailer && x.req.Framing == http1.Chunked {
		f.Add("trailer", trailer)
	}
	if x.req.HTTP10 {
		f.RemoveKnown(http1.Expect) // RFC 9110 section 10.1.1
	}
	x.managerFields()
	x.timeoutField()
	if !x.noEdits(requestEdits) {
		for _, e := range x.editLists(requestEdits) {
			x.applyEdits(f, e)
		}
	}
	forward := x.plan.Route.Forward
	x.authority = decide.RewriteAuthority(forward, x.weighted, x.authority)
	if rewritten := decide.RewritePath(forward, &x.plan.Route.Match, x.path); rewritten != x.path {
		f.Set("x-envoy-original-path", x.path)
		x.path = rewritten
	}
	x.entry.Path, x.entry.Authority = x.path, x.authority
}

// managerFields is what Envoy's connection manager does to request headers.
func (x *exchange) managerFields() {
	f, m := &x.req.Fields, x.hcm
	if m.UseRemoteAddress {
		f.RemoveKnown(http1.XEnvoy)
		if !m.SkipXFFAppend {
			x.appendForwardedFor()
		}
		f.RemoveKnown(http1.XForwardedProto)
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
	if !m.KeepForwardedClientCert {
		f.Remove("x-forwarded-client-cert")
	}
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
	forward := x.plan.Route.Forward
	d := forward.Timeout
	if r := forward.Retry; r != nil && r.PerTryTimeout > 0 && (d == 0 || r.PerTryTimeout < d) {
		d = r.PerTryTimeout
	}
	if d <= 0 {
		return
	}
	n := len(x.arena)
	x.arena = appendInt(x.arena, d.Milliseconds())
	x.req.Fields.Set("x-envoy-expected-rq-timeout-ms", view(x.arena[n:]))
}

// editResponse applies the route's response header edits.
func (x *exchange) editResponse() {
	if x.noEdits(responseEdits) {
		return
	}
	for _, e := range x.editLists(responseEdits) {
		x.applyEdits(&x.resp.Fields, e)
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

// substitute expands Envoy's command operators in a header value: "%NAME%",
// "%NAME(argument)%", "%NAME(argument):length%", and "%%" for a percent sign. What
// has no value prints "-", as in Envoy. Line breaks cannot come in: every value was
// parsed or comes from the configuration.
func (x *exchange) substitute(format string) string {
	n := len(x.arena)
	for format != "" {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			break
		}
		x.arena = append(x.arena, format[:i]...)
		format = format[i+1:]
		if format != "" && format[0] == '%' {
			x.arena = append(x.arena, '%')
			format = format[1:]
			continue
		}
		end := operatorEnd(format)
		if end < 0 {
			x.arena = append(x.arena, '%')
			continue
		}
		x.operator(format[:end])
		format = format[end+1:]
	}
	x.arena = append(x.arena, format...)
	return view(x.arena[n:])
}

// operatorEnd finds the '%' that ends an operator; one in its argument does not.
func operatorEnd(s string) int {
	for i, depth := 0, 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case '%':
			if depth <= 0 {
				return i
			}
		}
	}
	return -1
}

// operator appends the value of "NAME" or "NAME(argument):length".
func (x *exchange) operator(op string) {
	name, argument, limit := op, "", -1
	if i := strings.IndexByte(op, '('); i >= 0 {
		name = op[:i]
		if j := strings.LastIndexByte(op, ')'); j > i {
			argument = op[i+1 : j]
			if length, ok := strings.CutPrefix(op[j+1:], ":"); ok {
				if v, err := strconv.Atoi(length); err == nil {
					limit = v
				}
			}
		}
	}
	n := len(x.arena)
	if !x.appendOperator(name, argument) {
		x.arena = append(x.arena, '-')
	}
	if limit >= 0 && len(x.arena)-n > limit {
		x.arena = x.arena[:n+limit]
	}
}

func (x *exchange) appendOperator(name, argument string) bool {
	info := &x.c.Info
	switch name {
	case "REQ":
		return x.appendHeader(argument, x.requestHeader)
	case "RESP":
		return x.appendHeader(argument, x.resp.Fields.Get)
	case "PROTOCOL":
		return x.appendText(string(x.entry.Protocol))
	case "START_TIME":
		x.arena = x.start.UTC().AppendFormat(x.arena, "2006-01-02T15:04:05.000Z")
		return true
	case "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS":
		return x.appendAddrPort(info.Source)
	case "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT":
		return x.appendAddr(info.Source)
	case "DOWNSTREAM_REMOTE_PORT", "DOWNSTREAM_DIRECT_REMOTE_PORT":
		return x.appendPort(info.Source)
	case "DOWNSTREAM_LOCAL_ADDRESS":
		return x.appendAddrPort(info.Destination)
	case "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":
		return x.appendAddr(info.Destination)
	case "DOWNSTREAM_LOCAL_PORT":
		return x.appendPort(info.Destination)
	case "REQUESTED_SERVER_NAME":
		return x.appendText(info.SNI)
	case "ROUTE_NAME":
		return x.appendText(x.entry.RouteName)
	case "UPSTREAM_HOST", "UPSTREAM_REMOTE_ADDRESS":
		return x.appendText(x.entry.UpstreamHost)
	case "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW":
		return x.appendText(x.entry.UpstreamCluster)
	case "RESPONSE_CODE":
		x.arena = appendInt(x.arena, int64(x.resp.Status))
		return true
	case "RESPONSE_FLAGS":
		return x.appendText(strings.Join(x.entry.Flags, ","))
	}
	return false
}

// appendHeader expands "A?B": the first of two headers that is there.
func (x *exchange) appendHeader(argument string, get func(string) (string, bool)) bool {
	first, second, _ := strings.Cut(argument, "?")
	for _, h := range [2]string{first, second} {
		if h == "" {
			continue
		}
		if v, ok := get(strings.ToLower(h)); ok {
			return x.appendText(v)
		}
	}
	return false
}

func (x *exchange) requestHeader(name string) (string, bool) {
	switch name {
	case ":method":
		return x.req.Method, true
	case ":path":
		return x.path, true
	case ":authority", "host":
		return x.authority, true
	case ":scheme":
		return "http", true
	}
	return x.req.Fields.Get(name)
}

func (x *exchange) appendText(s string) bool {
	x.arena = append(x.arena, s...)
	return s != ""
}

func (x *exchange) appendAddrPort(a netip.AddrPort) bool {
	if !a.IsValid() {
		return false
	}
	x.arena = a.AppendTo(x.arena)
	return true
}

func (x *exchange) appendAddr(a netip.AddrPort) bool {
	if !a.IsValid() {
		return false
	}
	x.arena = a.Addr().AppendTo(x.arena)
	return true
}

func (x *exchange) appendPort(a netip.AddrPort) bool {
	if !a.IsValid() {
		return false
	}
	x.arena = appendInt(x.arena, int64(a.Port()))
	return true
}
