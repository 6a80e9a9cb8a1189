package resource

import (
	"slices"

	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	typeRouter     = "envoy.extensions.filters.http.router.v3.Router"
	typeFault      = "envoy.extensions.filters.http.fault.v3.HTTPFault"
	typeCORS       = "envoy.extensions.filters.http.cors.v3.Cors"
	typeCORSPolicy = "envoy.extensions.filters.http.cors.v3.CorsPolicy"
)

var filterKinds = map[string]HTTPFilter{typeFault: FilterFault, typeCORS: FilterCORS}

// httpFilter accepts the router at the end, the fault and CORS filters, and cosmetic
// filters.
func (c *decoding) httpFilter(p *path, h *HTTPConnectionManager, f *hcmv3.HttpFilter, last bool) {
	a := f.GetTypedConfig()
	at := p.field("typed_config")
	name := filterType(a)
	if f.GetDisabled() && name != typeRouter {
		c.skipped(name)
		return
	}
	switch {
	case name == typeRouter:
		var m routerv3.Router
		c.unpack(at, a, &m)
		h.SuppressEnvoyHeaders = m.GetSuppressEnvoyHeaders()
		if !last {
			c.fail(p, "the router filter is not the last one")
		}
		return
	case (name == typeFault || name == typeCORS) && slices.Contains(h.Filters, filterKinds[name]):
		c.fail(p, "a second filter of type %q is not supported", name)
	case name == typeFault:
		h.Filters = append(h.Filters, FilterFault)
		if fault := c.fault(at, a); fault != nil && (fault.Delay != nil || fault.Abort != nil) {
			h.Fault = fault
		}
	case name == typeCORS:
		h.Filters = append(h.Filters, FilterCORS)
		c.unpack(at, a, &corsv3.Cors{})
	case name == typeOnDemand:
		c.onDemand(at, h, a)
	case name == typeDFPHTTP:
		c.forwardHTTP(at, a)
	case !c.cosmeticFilter(a):
		c.fail(p, "HTTP filter %q of type %q is not supported", clip(f.GetName()), clip(name))
	}
	if last {
		c.fail(p, "the last HTTP filter is not the router")
	}
}

// filterConfigs are what typed_per_filter_config has for the filters that act by it.
type filterConfigs struct {
	fault *Fault
	cors  *corsv3.CorsPolicy
}

// perFilter decodes typed_per_filter_config of a route or virtual host; what it does
// not have comes from the level above. Other filters' configuration is refused unless
// the filter is cosmetic: an RBAC rule, for instance, would change what is allowed.
func (c *decoding) perFilter(p *path, configs map[string]*anypb.Any, out filterConfigs) filterConfigs {
	p = p.field("typed_per_filter_config")
	seen := map[string]bool{}
	for name, a := range configs {
		kind := filterType(a)
		if seen[kind] && (kind == typeFault || kind == typeCORSPolicy) {
			c.fail(p, "has %s twice", clip(kind)) // of two filters: only one is supported
		}
		seen[kind] = true
		switch kind {
		case typeFault:
			out.fault = c.fault(p, a)
		case typeCORSPolicy:
			var m corsv3.CorsPolicy
			if c.unpack(p, a, &m) {
				out.cors = mergeCORS(out.cors, &m)
			}
		default:
			c.cosmeticConfig(p, name, a)
		}
	}
	return out
}

// noFilterConfig is perFilter for levels where only cosmetic configuration is taken.
func (c *decoding) noFilterConfig(p *path, configs map[string]*anypb.Any) {
	for name, a := range configs {
		c.cosmeticConfig(p.field("typed_per_filter_config"), name, a)
	}
}

func (c *decoding) cosmeticConfig(p *path, name string, a *anypb.Any) {
	if !c.cosmeticFilter(a) {
		c.fail(p, "%q of type %q is not supported", clip(name), clip(filterType(a)))
	}
}

// mergeCORS is a route's policy over its virtual host's: as in Envoy's CORS filter a
// field that the route's leaves out is the virtual host's, but for filter_enabled.
func mergeCORS(host, route *corsv3.CorsPolicy) *corsv3.CorsPolicy {
	if host == nil {
		return route
	}
	out := proto.CloneOf(host)
	out.FilterEnabled = nil
	if len(route.GetAllowOriginStringMatch()) > 0 {
		out.AllowOriginStringMatch = nil
	}
	proto.Merge(out, route)
	return out
}

func (c *decoding) cors(p *path, m *corsv3.CorsPolicy) *CORS {
	if m == nil {
		return nil
	}
	out := &CORS{
		AllowMethods: m.GetAllowMethods(), AllowHeaders: m.GetAllowHeaders(),
		ExposeHeaders: m.GetExposeHeaders(), MaxAge: m.GetMaxAge(),
		AllowCredentials:    m.GetAllowCredentials().GetValue(),
		AllowPrivateNetwork: m.GetAllowPrivateNetworkAccess().GetValue(),
		ForwardUnmatched:    isTrue(m.GetForwardNotMatchingPreflights(), true),
	}
	for i, s := range m.GetAllowOriginStringMatch() {
		out.Origins = append(out.Origins, c.stringMatcher(p.at("allow_origin_string_match", i), s))
	}
	for _, v := range []string{out.AllowMethods, out.AllowHeaders, out.ExposeHeaders, out.MaxAge} {
		if !isFieldText(v) {
			c.fail(p, "%q is not the value of a header", clip(v))
		}
	}
	if f := m.GetFilterEnabled(); f != nil {
		out.Enabled = c.fraction(p.field("filter_enabled"), f.GetDefaultValue())
	}
	return out
}

// isFieldText: RFC 9110 section 5.5, visible ASCII and spaces.
func isFieldText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func (c *decoding) fault(p *path, a *anypb.Any) *Fault {
	var m faultv3.HTTPFault
	if !c.unpack(p, a, &m) {
		return nil
	}
	out := &Fault{Cluster: m.GetUpstreamCluster(), Nodes: m.GetDownstreamNodes()}
	for i, h := range m.GetHeaders() {
		out.Headers = append(out.Headers, c.headerMatcher(p.at("headers", i), h))
	}
	if n := m.GetMaxActiveFaults(); n != nil {
		most := n.GetValue()
		out.MaxActive = &most
	}
	if d := m.GetDelay(); d != nil {
		at := p.field("delay")
		if d.GetFixedDelay() == nil {
			c.fail(at.field("fixed_delay"), "is needed")
		}
		out.Delay = &FaultDelay{
			Duration: c.duration(at.field("fixed_delay"), d.GetFixedDelay(), 0),
			Share:    c.fraction(at.field("percentage"), d.GetPercentage()),
		}
	}
	out.Abort = c.faultAbort(p.field("abort"), m.GetAbort())
	return out
}

func (c *decoding) faultAbort(p *path, m *faultv3.FaultAbort) *FaultAbort {
	if m == nil {
		return nil
	}
	out := &FaultAbort{Share: c.fraction(p.field("percentage"), m.GetPercentage())}
	switch s := m.GetErrorType().(type) {
	case *faultv3.FaultAbort_HttpStatus:
		if s.HttpStatus < 200 || s.HttpStatus > 599 {
			c.fail(p.field("http_status"), "%d is not supported", s.HttpStatus)
		}
		out.HTTPStatus = int(s.HttpStatus)
	case *faultv3.FaultAbort_GrpcStatus:
		if s.GrpcStatus > 16 {
			c.fail(p.field("grpc_status"), "%d is not a gRPC status", s.GrpcStatus)
		}
		out.GRPCStatus = s.GrpcStatus
	default:
		c.fail(p, "this kind of abort is not supported")
	}
	return out
}
