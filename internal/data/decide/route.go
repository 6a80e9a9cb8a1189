package decide

import (
	"net/http"
	"strings"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// blockAll is the virtual host that Istio ends a REGISTRY_ONLY route
// configuration with: a direct response of 502, which means "denied".
const blockAll = "block_all"

// Route decides on one HTTP request: the virtual host by authority, then the first
// route that matches. It does not allocate when the request is forwarded.
func Route(cfg *config.Config, hcm *resource.HTTPConnectionManager, r *Request) RoutePlan {
	rc := hcm.Inline
	if rc == nil {
		rc = cfg.Routes[hcm.RouteConfigName]
	}
	if rc == nil {
		return RoutePlan{}.deny(http.StatusBadGateway, reason.ConfigRejected, "route configuration "+hcm.RouteConfigName+" was refused or has not arrived")
	}
	vh, held, need := findHost(cfg, hcm, rc, r)
	plan := RoutePlan{RouteConfig: rc, VirtualHost: vh, Held: held}
	if need.Kind != config.NeedNothing {
		return plan.ask(r.Answers, need)
	}
	if c := r.Conn; c != nil && c.Binding.Strict {
		host := match.Name(r.Authority)
		same, need := c.agrees(cfg, r.Answers, host)
		switch {
		case need.Kind != config.NeedNothing:
			return plan.ask(r.Answers, need)
		case !same && !c.shortName(cfg, vh, host):
			return plan.deny(http.StatusBadGateway, reason.HostMismatch, mismatchDetail(cfg, c, host, "Host header"))
		}
	}
	if vh != nil && vh.TLSRedirect != nil && r.Scheme != "https" {
		plan.Verdict, plan.Route = Redirect, vh.TLSRedirect
		return plan
	}
	if plan.Route = findRoute(vh, r); plan.Route == nil {
		return plan.noRoute(cfg, r)
	}
	return plan.act(cfg, hcm, r)
}

// act turns the route into a verdict.
func (p RoutePlan) act(cfg *config.Config, hcm *resource.HTTPConnectionManager, r *Request) RoutePlan {
	route := p.Route
	switch {
	case route.Redirect != nil:
		p.Verdict = Redirect
	case route.Direct != nil && p.VirtualHost.Name == blockAll && route.Direct.Status == http.StatusBadGateway:
		return p.refuse(cfg, r)
	case route.Direct != nil:
		p.Verdict = Direct
	case route.Forward == nil:
		return p.deny(http.StatusNotFound, reason.NoRoute, "route "+route.Name+" has no action")
	case isBlackHole(route.Forward.Clusters):
		return p.refuse(cfg, r)
	case r.Method == http.MethodConnect && !upgradeAllowed(hcm, route.Forward, "connect"):
		return p.deny(http.StatusBadGateway, reason.ConnectNotAllowed, connectDetail(r))
	case r.Upgrade != "" && r.Upgrade != "h2c" && !upgradeAllowed(hcm, route.Forward, r.Upgrade):
		// Upgrade: h2c is not an upgrade for a proxy: it is ignored, as in Envoy.
		return p.deny(http.StatusBadGateway, reason.UpgradeNotAllowed, upgradeDetail(r))
	default:
		p.Verdict = Forward
	}
	return p
}

func (p RoutePlan) deny(status int, r reason.Reason, detail string) RoutePlan {
	p.Verdict, p.Status, p.Reason, p.Detail = Deny, status, r, detail
	return p
}

// refuse says why the registry does not have what was asked for.
func (p RoutePlan) refuse(cfg *config.Config, r *Request) RoutePlan {
	c := r.Conn
	if c == nil {
		c = &Conn{}
	}
	why, detail, need := refusal(cfg, c, r.Answers, match.Name(r.Authority), "HTTP")
	if need.Kind != config.NeedNothing {
		return p.ask(r.Answers, need)
	}
	return p.deny(http.StatusBadGateway, why, detail)
}

func (p RoutePlan) noRoute(cfg *config.Config, r *Request) RoutePlan {
	switch {
	case r.Method == http.MethodConnect:
		return p.deny(http.StatusBadGateway, reason.ConnectNotAllowed, connectDetail(r))
	case p.VirtualHost != nil && p.VirtualHost.Name == blockAll:
		return p.refuse(cfg, r)
	}
	return p.deny(http.StatusNotFound, reason.NoRoute, noRouteDetail(p.RouteConfig, p.VirtualHost, r))
}

// upgradeAllowed: the route's word counts, then the connection manager's list.
func upgradeAllowed(hcm *resource.HTTPConnectionManager, f *resource.Forward, kind string) bool {
	for i := range f.Upgrades {
		if f.Upgrades[i].Type == kind {
			return f.Upgrades[i].Enabled
		}
	}
	for _, t := range hcm.UpgradeTypes {
		if t == kind {
			return true
		}
	}
	return false
}

func findRoute(vh *resource.VirtualHost, r *Request) *resource.Route {
	if vh == nil {
		return nil
	}
	path := r.Path
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	for _, route := range vh.Routes {
		if matches(&route.Match, r, path) {
			return route
		}
	}
	return nil
}

// matches is RouteMatch; path has no query.
func matches(m *resource.RouteMatch, r *Request, path string) bool {
	if (m.Kind == resource.PathConnect) != (r.Method == http.MethodConnect) {
		return false
	}
	if m.Kind != resource.PathConnect && !matchesPath(m, path) {
		return false
	}
	if m.RuntimeDenominator != 0 && r.Random%m.RuntimeDenominator >= m.RuntimeNumerator {
		return false
	}
	if m.GRPC && !IsGRPC(r) {
		return false
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		value, present := header(r, h.Name)
		if !h.Match(value, present) {
			return false
		}
	}
	for i := range m.Query {
		if !m.Query[i].Match(r.Path) {
			return false
		}
	}
	return true
}

func matchesPath(m *resource.RouteMatch, path string) bool {
	switch m.Kind {
	case resource.PathPrefix:
		return hasPrefix(path, m.Path, m.IgnoreCase)
	case resource.PathExact:
		return len(path) == len(m.Path) && hasPrefix(path, m.Path, m.IgnoreCase)
	case resource.PathSeparatedPrefix:
		return hasPrefix(path, m.Path, m.IgnoreCase) && (len(path) == len(m.Path) || path[len(m.Path)] == '/')
	case resource.PathRegex:
		return m.Regex != nil && m.Regex.MatchString(path)
	}
	return false
}

func hasPrefix(s, prefix string, ignoreCase bool) bool {
	if ignoreCase {
		return len(s) >= len(prefix) && match.EqualFold(s[:len(prefix)], prefix)
	}
	return strings.HasPrefix(s, prefix)
}

// header is a header's value; pseudo headers as in HTTP/2, which is how Envoy
// sees every request.
func header(r *Request, name string) (string, bool) {
	switch name {
	case ":method":
		return r.Method, true
	case ":authority", "host":
		return r.Authority, true
	case ":path":
		return r.Path, r.Path != ""
	case ":scheme":
		return r.Scheme, r.Scheme != ""
	}
	if r.Headers == nil {
		return "", false
	}
	return r.Headers.Get(name)
}

// PickCluster chooses one of weighted clusters with a random number: as Envoy, the
// number modulo the total weight. It is nil only where there is nothing to choose.
func PickCluster(clusters []resource.WeightedCluster, random uint32) *resource.WeightedCluster {
	if len(clusters) == 1 {
		return &clusters[0]
	}
	var total uint64
	for i := range clusters {
		total += uint64(clusters[i].Weight)
	}
	if total == 0 {
		return nil
	}
	at := uint64(random) % total
	for i := range clusters {
		w := uint64(clusters[i].Weight)
		if at < w {
			return &clusters[i]
		}
		at -= w
	}
	return nil
}
