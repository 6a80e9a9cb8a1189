package xdsgen

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// The form for sidecars that ask by name for what they use: virtual hosts by VHDS, the
// filter chains of TLS by FCDS, clusters and names one by one. What stands in the
// listeners and route configurations is what cannot be found by a name.

// onDemandFilter lets requests wait for virtual hosts and clusters that are asked for.
func (b *builder) onDemandFilter(ads *corev3.ConfigSource) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name: "envoy.filters.http.on_demand",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(&ondemandv3.OnDemand{
			Odcds: &ondemandv3.OnDemandCds{Source: ads},
		})},
	}
}

// byName: the chain is found by the server name alone.
func (c *chain) byName() bool {
	return len(c.sni) > 0 && len(c.prefixes) == 0 && !slices.Contains(c.sni, "*")
}

func (b *builder) chainsOnDemand() *listenerv3.Listener_FcdsConfig {
	return &listenerv3.Listener_FcdsConfig{ConfigSource: b.shared.ads}
}

// routesOnDemand has the virtual host for unknown hosts only.
func (b *builder) routesOnDemand(d *draft) *routev3.RouteConfiguration {
	t := newRouteTable(1)
	unknown := b.unknownHost()
	t.put(unknown.Name, unknown.Domains, unknown)
	r := b.routeConfiguration(d.route, t)
	r.Vhds = &routev3.Vhds{ConfigSource: b.shared.ads}
	return r
}

// known is what a part of a mesh cannot tell about the whole.
type known struct {
	// routes are the listeners whose route configuration is for whatever host.
	routes []*draft
	// locked are the listeners that a Sidecar's listeners with a port have made.
	locked map[listenerKey]bool
}

// same says whether both know the same: routes for the route configurations, locked for
// the rest.
func (k *known) same(o *known) (routes, locked bool) {
	routes = slices.EqualFunc(k.routes, o.routes, func(a, b *draft) bool { return a.route == b.route && a.port == b.port })
	return routes, maps.Equal(k.locked, o.locked)
}

func (k *known) locks(key listenerKey) bool { return k != nil && k.locked[key] }

func newKnown(drafts []*draft) *known {
	k := &known{locked: map[listenerKey]bool{}}
	for _, d := range drafts {
		if d.locked {
			k.locked[d.listenerKey] = true
		}
		if d.route != "" && d.only == nil && !slices.ContainsFunc(k.routes, func(r *draft) bool { return r.route == d.route }) {
			k.routes = append(k.routes, &draft{listenerKey: d.listenerKey, route: d.route})
		}
	}
	slices.SortFunc(k.routes, func(a, b *draft) int { return cmp.Compare(a.route, b.route) })
	return k
}

// base makes what every sidecar of the view has from the start.
func (b *builder) base() (xds.Snapshot, error) {
	b.begin()
	drafts := b.drafts()
	b.sidecarListeners(drafts)
	b.known = newKnown(drafts)
	b.fixedClusters()
	if b.node.DNSCapture {
		t := NameTable{}
		if anything, ok := b.names()[everyName]; ok {
			t[everyName] = anything
		}
		b.emitBody(xds.NameTableType, "", &anypb.Any{TypeUrl: xds.NameTableType, Value: t.Encode()})
	}
	return b.out, b.err
}

// named are the resources that are asked for by one host.
type named struct {
	// hosts have the names of their route configurations, chains those of their listeners.
	// There are few of each.
	hosts, chains, clusters, endpoints []xds.Resource
	name                               xds.Resource // without a body: there is none
	keys                               []string     // see mesh.Snapshot.Part
	// elsewhere: it may be in route configurations that it does not make be there.
	elsewhere bool
}

// find gives the resource of a full name.
func (n *named) find(typeURL, name string) (xds.Resource, bool) {
	group, _, _ := strings.Cut(name, "/")
	switch typeURL {
	case xds.VirtualHostType:
		return among(n.hosts, group, name)
	case xds.FilterChainType:
		return among(n.chains, group, name)
	case xds.ClusterType:
		return among(n.clusters, name, name)
	case xds.EndpointType:
		return among(n.endpoints, name, name)
	case xds.NameTableType:
		return xds.Resource{Name: name, Version: n.name.Version, Body: n.name.Body}, n.name.Body != nil
	}
	return xds.Resource{}, false
}

// among finds a resource by the name that it has here, and gives it another.
func among(list []xds.Resource, here, name string) (xds.Resource, bool) {
	for _, r := range list {
		if r.Name == here {
			r.Name = name
			return r, true
		}
	}
	return xds.Resource{}, false
}

// hostIn is the host that a resource is found by; "" when it is not found by one.
func hostIn(typeURL, name string) string {
	switch typeURL {
	case xds.VirtualHostType, xds.FilterChainType:
		_, host, _ := strings.Cut(name, "/")
		return withoutPort(host)
	case xds.ClusterType, xds.EndpointType:
		if parts := splitCluster(name); parts != nil {
			return parts[3]
		}
	case xds.NameTableType:
		return name
	}
	return ""
}

// withoutPort is an authority's host: route configurations of ours do not look at ports
// (ignore_port_in_host_matching). An IPv6 address is without its brackets.
func withoutPort(authority string) string {
	if rest, ok := strings.CutPrefix(authority, "["); ok {
		host, _, _ := strings.Cut(rest, "]")
		return host
	}
	host, port, ok := strings.Cut(authority, ":")
	if ok && strings.Trim(port, "0123456789") == "" {
		return host
	}
	return authority
}

// named makes the resources of one host, from the part of the mesh that has to do with it.
func (b *builder) named(host string) *named {
	part, keys := b.mesh.Part(b.node, host)
	p := *b
	p.mesh, p.scope, p.memo = part, part.Scope(b.node), nil
	p.begin()
	n := &named{keys: keys, elsewhere: part.Elsewhere()}
	for _, d := range p.drafts() {
		if c := d.chainFor(host); c != nil {
			n.chains = append(n.chains, packed(d.name(), p.pack(p.newTCPChain(c))))
		}
		if d.only != nil {
			p.namedHost(n, d, host)
		}
	}
	for _, d := range b.known.routes {
		p.namedHost(n, d, host)
	}
	for _, s := range p.scope.Services {
		if s.Host == host {
			p.serviceClusters(s)
		}
	}
	n.clusters = slices.Collect(maps.Values(p.out[xds.ClusterType]))
	n.endpoints = slices.Collect(maps.Values(p.out[xds.EndpointType]))
	if b.node.DNSCapture {
		if t := p.names().find(host); t != nil {
			n.name = packed(host, &anypb.Any{TypeUrl: xds.NameTableType, Value: t.Encode()})
		}
	}
	if p.err != nil { // text that is not UTF-8: the host is as good as unknown
		return &named{keys: keys}
	}
	return n
}

// namedHost adds the virtual host of a route configuration.
func (b *builder) namedHost(n *named, d *draft, host string) {
	if _, done := among(n.hosts, d.route, ""); done {
		return
	}
	if v := b.sidecarTable(d).find(domainForm(host)); v != nil {
		n.hosts = append(n.hosts, packed(d.route, b.pack(v)))
	}
}

func packed(name string, body *anypb.Any) xds.Resource {
	return xds.Resource{Name: name, Version: xds.BodyVersion(body), Body: body}
}

// domainForm is a host as it stands in a virtual host's domains.
func domainForm(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// chainFor is the chain that Envoy would choose by the server name: the one that has it,
// else the one with the longest wildcard; nil when there is none.
func (d *draft) chainFor(name string) *chain {
	var found *chain
	best := -1
	for i := range d.chains {
		c := &d.chains[i]
		if !c.byName() {
			continue
		}
		for _, pattern := range c.sni {
			if n := closeness(pattern, name); n > best {
				found, best = c, n
			}
		}
	}
	return found
}

// find is the virtual host that Envoy would choose for a host: the one that has it, else
// the one with the longest wildcard; nil when there is none.
func (t *routeTable) find(host string) *routev3.VirtualHost {
	var found *routev3.VirtualHost
	best := -1
	for _, h := range t.hosts {
		for _, domain := range h.host.GetDomains() {
			if n := closeness(domain, host); n > best {
				found, best = h.host, n
			}
		}
	}
	return found
}

// find is the table with only the entry of a name, or of the longest wildcard that it is
// under, but for "*"; nil when there is none.
func (t NameTable) find(host string) NameTable {
	best, found := -1, NameTable(nil)
	for name, info := range t {
		if n := closeness(name, host); n > best && name != everyName {
			best, found = n, NameTable{name: info}
		}
	}
	return found
}

// closeness tells how well a pattern fits a name: exactly, by the longer wildcard, or not
// at all (-1).
func closeness(pattern, name string) int {
	switch {
	case pattern == name:
		return 1 << 20
	case mesh.IsWildcard(pattern) && len(name) > len(pattern)-1 && strings.HasSuffix(name, pattern[1:]):
		return len(pattern)
	}
	return -1
}
