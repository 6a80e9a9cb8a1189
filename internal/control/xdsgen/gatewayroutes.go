package xdsgen

import (
	"slices"
	"strconv"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// gatewayHost is a virtual host of a gateway while VirtualServices are merged into it.
type gatewayHost struct {
	host     string
	redirect bool // to https, for everything
	routes   []*routeEntry
	objects  []istioapi.Ref
}

// gatewayHosts keeps them in the order of their appearance.
type gatewayHosts struct {
	byHost map[string]*gatewayHost
	list   []*gatewayHost
}

func (g *gatewayHosts) host(name string) *gatewayHost {
	h := g.byHost[name]
	if h == nil {
		h = &gatewayHost{host: name}
		g.byHost[name] = h
		g.list = append(g.list, h)
	}
	return h
}

// gatewayRoutes merges the http routes of all VirtualServices bound to the port's
// Gateways, per host that both name; within a host the older VirtualService's routes
// come first, and those that catch all last. A host that none routes gets 404, as
// there is no virtual host for it.
func (b *builder) gatewayRoutes(p *gatewayPort, name string) *routev3.RouteConfiguration {
	hosts := &gatewayHosts{byHost: map[string]*gatewayHost{}}
	merged := map[mergedKey]bool{}
	for i := range p.servers {
		s := &p.servers[i]
		b.mergeServer(hosts, merged, s)
		if s.server.GetTls().GetHttpsRedirect() {
			for _, h := range s.hosts {
				redirected := hosts.host(h.Host)
				redirected.redirect = true
				redirected.objects = append(redirected.objects, s.gateway.Ref)
			}
		}
	}
	port := p.servers[0].port()
	t := newRouteTable(len(hosts.list))
	for _, h := range hosts.list {
		v := b.virtualHost(h.host, append([]string{h.host}, b.shortNames(h.host)...), port, catchAllLast(h.routes), h.objects)
		if h.redirect {
			v.RequireTls = routev3.VirtualHost_ALL
		}
		t.add(v)
	}
	t.sort()
	if len(t.hosts) == 0 {
		t.add(&routev3.VirtualHost{ // no routes: 404 for every request
			Name: "blackhole:" + strconv.FormatUint(uint64(port), 10), Domains: []string{"*"},
			Metadata: (&provenance{objects: p.objects()}).metadata(),
		})
	}
	return b.routeConfiguration(name, t)
}

// mergedKey keeps a VirtualService from being merged twice into a host when two
// servers of one Gateway have it.
type mergedKey struct {
	host, gateway string
	v             *mesh.VirtualService
}

func (b *builder) mergeServer(hosts *gatewayHosts, merged map[mergedKey]bool, s *gatewayServer) {
	for _, v := range b.mesh.VirtualServices(s.id(), b.node.Namespace) {
		common := mesh.Intersect(s.hosts, v)
		if len(common) == 0 {
			continue
		}
		routes := b.httpRoutes(v, s.id(), s.port(), s.port())
		if len(routes) == 0 {
			continue
		}
		for _, name := range common {
			key := mergedKey{name, s.id(), v}
			if merged[key] {
				continue
			}
			merged[key] = true
			h := hosts.host(name)
			h.routes = append(h.routes, routes...)
			h.objects = append(h.objects, v.Ref, s.gateway.Ref)
			h.redirect = h.redirect || s.server.GetTls().GetHttpsRedirect()
		}
	}
}

// catchAllLast moves the routes that catch everything behind the others, so that one
// VirtualService does not hide another's.
func catchAllLast(entries []*routeEntry) []*routeEntry {
	out := slices.Clone(entries)
	slices.SortStableFunc(out, func(a, b *routeEntry) int {
		switch {
		case a.catchAll == b.catchAll:
			return 0
		case b.catchAll:
			return -1
		}
		return 1
	})
	return out
}
