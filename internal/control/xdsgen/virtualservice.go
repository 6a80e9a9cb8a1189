package xdsgen

import (
	"cmp"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// routesKey is what the routes of a VirtualService depend on, within one node.
type routesKey struct {
	v          *mesh.VirtualService
	gateway    string
	port       uint32 // as matches say it: the Gateway server's port
	listenPort uint32
}

// routeEntry is a translated route.
type routeEntry struct {
	route    *routev3.Route
	catchAll bool // nothing gets past it
}

// httpRoutes translates the http routes of v that apply to this node at a gateway
// ("mesh" or "namespace/name") and port, in order, up to the first that catches all.
func (b *builder) httpRoutes(v *mesh.VirtualService, gateway string, port, listenPort uint32) []*routeEntry {
	key := routesKey{v, gateway, port, listenPort}
	if out, ok := b.routes[key]; ok {
		return out
	}
	var out []*routeEntry
	for _, r := range v.Spec.GetHttp() {
		matches := r.GetMatch()
		if len(matches) == 0 {
			matches = []*networking.HTTPMatchRequest{nil}
		}
		for _, m := range matches {
			if !b.httpApplies(v, m, gateway, port) {
				continue
			}
			e := b.httpRoute(v, r, m, listenPort)
			out = append(out, e)
			if e.catchAll {
				b.routes[key] = out
				return out
			}
		}
	}
	b.routes[key] = out
	return out
}

// httpApplies decides what does not depend on the request. All of the conditions
// must hold, as the API says.
func (b *builder) httpApplies(v *mesh.VirtualService, m *networking.HTTPMatchRequest, gateway string, port uint32) bool {
	return v.BoundTo(m.GetGateways(), gateway) &&
		(m.GetPort() == 0 || m.GetPort() == port) &&
		mesh.SelectedBy(m.GetSourceLabels(), b.node.Labels) &&
		(m.GetSourceNamespace() == "" || m.GetSourceNamespace() == b.node.Namespace)
}

func (b *builder) httpRoute(v *mesh.VirtualService, r *networking.HTTPRoute, m *networking.HTTPMatchRequest, listenPort uint32) *routeEntry {
	out := &routev3.Route{
		Name:     r.GetName(),
		Match:    b.routeMatch(m),
		Metadata: (&provenance{config: v.Ref, objects: []istioapi.Ref{v.Ref}}).metadata(),
	}
	if m.GetName() != "" {
		out.Name += "." + m.GetName()
	}
	edits := editsOf(r.GetHeaders())
	edits.apply(out)
	switch {
	case r.GetRedirect() != nil:
		out.Action = &routev3.Route_Redirect{Redirect: redirectAction(r.GetRedirect(), listenPort)}
	case r.GetDirectResponse() != nil:
		out.Action = &routev3.Route_DirectResponse{DirectResponse: directResponse(r.GetDirectResponse())}
	default:
		b.forward(out, v, r, edits.authority, listenPort)
	}
	out.TypedPerFilterConfig = b.filterConfig(r)
	out.Decorator = &routev3.Decorator{Operation: operation(out, v, listenPort)}
	return &routeEntry{route: out, catchAll: catchesAll(out.Match)}
}

// operation is the name that Istio gives to a route for tracing.
func operation(r *routev3.Route, v *mesh.VirtualService, port uint32) string {
	path := "/*"
	switch p := r.GetMatch().GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		path = p.Path
	case *routev3.RouteMatch_Prefix:
		path = p.Prefix + "*"
	}
	if c := r.GetRoute().GetCluster(); c != "" {
		if parts := splitCluster(c); parts != nil {
			return parts[3] + ":" + parts[1] + path
		}
	}
	return v.Name + ":" + strconv.FormatUint(uint64(port), 10) + path
}

// catchesAll: the match is "/" as a prefix, and nothing else.
func catchesAll(m *routev3.RouteMatch) bool {
	p, ok := m.GetPathSpecifier().(*routev3.RouteMatch_Prefix)
	return ok && p.Prefix == "/" && len(m.GetHeaders()) == 0 && len(m.GetQueryParameters()) == 0
}

// forward fills in where a route leads, and how.
func (b *builder) forward(out *routev3.Route, v *mesh.VirtualService, r *networking.HTTPRoute, authority string, listenPort uint32) {
	a := setTimeout(&routev3.RouteAction{AppendXForwardedHost: b.proxyHeaders().GetXForwardedHost().GetEnabled().GetValue()}, cmp.Or(r.GetTimeout(), b.shared.zero))
	a.RequestMirrorPolicies = b.mirrors(r, func(h string) string { return v.Host(h, b.mesh.Domain()) }, listenPort)
	if w := r.GetRewrite(); w != nil {
		if re := w.GetUriRegexRewrite(); re != nil {
			a.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
				Pattern: &matcherv3.RegexMatcher{Regex: re.GetMatch()}, Substitution: re.GetRewrite(),
			}
		} else {
			a.PrefixRewrite = w.GetUri()
		}
		if w.GetAuthority() != "" {
			authority = w.GetAuthority()
		}
	}
	out.Action = &routev3.Route_Route{Route: a}
	authority = b.destinations(out, a, v, r.GetRoute(), authority, listenPort)
	a.RetryPolicy = b.routeRetries(r.GetRetries(), len(r.GetRoute()) == 1 && len(a.HashPolicy) > 0)
	if authority != "" {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: authority}
	}
}

// setTimeout sets a route's timeout, for gRPC as well.
func setTimeout(a *routev3.RouteAction, d *durationpb.Duration) *routev3.RouteAction {
	a.Timeout = d
	//lint:ignore SA1019 as istiod 1.26: its replacement, max_stream_duration, means something else
	a.MaxGrpcTimeout = d
	return a
}

// destinations sets the cluster or the weighted clusters. A single destination's
// header operations become the route's own. It returns the authority to rewrite to.
func (b *builder) destinations(out *routev3.Route, a *routev3.RouteAction, v *mesh.VirtualService, list []*networking.HTTPRouteDestination, authority string, listenPort uint32) string {
	var weighted []*routev3.WeightedCluster_ClusterWeight
	var last headerEdits
	for _, d := range list {
		weight := uint32(max(d.GetWeight(), 0))
		if weight == 0 && len(list) > 1 {
			continue
		}
		host := v.Host(d.GetDestination().GetHost(), b.mesh.Domain())
		w := &routev3.WeightedCluster_ClusterWeight{
			Name:   b.destinationCluster(host, d.GetDestination(), listenPort),
			Weight: uint32Value(weight),
		}
		last = editsOf(d.GetHeaders())
		w.RequestHeadersToAdd, w.RequestHeadersToRemove = last.requestAdd, last.requestRemove
		w.ResponseHeadersToAdd, w.ResponseHeadersToRemove = last.responseAdd, last.responseRemove
		if last.authority != "" {
			w.HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: last.authority}
		}
		if h := b.hashPolicy(b.scope.Service(host), d.GetDestination().GetSubset(), b.destinationPort(host, d.GetDestination(), listenPort)); h != nil {
			a.HashPolicy = append(a.HashPolicy, h)
		}
		weighted = append(weighted, w)
	}
	switch len(weighted) {
	case 0:
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: blackHole}
	case 1:
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: weighted[0].Name}
		last.apply(out)
		if authority == "" {
			authority = weighted[0].GetHostRewriteLiteral()
		}
	default:
		a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{Clusters: weighted}}
	}
	return authority
}

func directResponse(d *networking.HTTPDirectResponse) *routev3.DirectResponseAction {
	out := &routev3.DirectResponseAction{Status: d.GetStatus()}
	switch body := d.GetBody().GetSpecifier().(type) {
	case *networking.HTTPBody_String_:
		out.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: body.String_}}
	case *networking.HTTPBody_Bytes:
		out.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: slices.Clone(body.Bytes)}}
	}
	return out
}

// redirectAction leaves a port away that is its scheme's default, as Istio does.
func redirectAction(r *networking.HTTPRedirect, listenPort uint32) *routev3.RedirectAction {
	out := &routev3.RedirectAction{
		HostRedirect:         r.GetAuthority(),
		PathRewriteSpecifier: &routev3.RedirectAction_PathRedirect{PathRedirect: r.GetUri()},
	}
	if prefix := r.GetPrefixRewrite(); prefix != "" {
		out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: prefix}
	}
	scheme := "http"
	if r.GetScheme() != "" {
		scheme = r.GetScheme()
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: scheme}
	}
	switch p := r.GetRedirectPort().(type) {
	case *networking.HTTPRedirect_Port:
		out.PortRedirect = p.Port
	case *networking.HTTPRedirect_DerivePort:
		if p.DerivePort == networking.HTTPRedirect_FROM_REQUEST_PORT {
			out.PortRedirect = listenPort
		}
	}
	if (scheme == "http" && out.PortRedirect == 80) || (scheme == "https" && out.PortRedirect == 443) {
		out.PortRedirect = 0
	}
	switch r.GetRedirectCode() {
	case 302:
		out.ResponseCode = routev3.RedirectAction_FOUND
	case 303:
		out.ResponseCode = routev3.RedirectAction_SEE_OTHER
	case 307:
		out.ResponseCode = routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		out.ResponseCode = routev3.RedirectAction_PERMANENT_REDIRECT
	default:
		out.ResponseCode = routev3.RedirectAction_MOVED_PERMANENTLY
	}
	return out
}
