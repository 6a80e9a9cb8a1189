package xdsgen

import (
	"cmp"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// gatewayServer is one server of a Gateway that selects the node.
type gatewayServer struct {
	gateway *istioapi.Gateway
	server  *networking.Server
	kind    mesh.ServerKind
	hosts   []mesh.ServerHost
}

// id is the gateway's name as VirtualServices bind to it.
func (s *gatewayServer) id() string { return s.gateway.Namespace + "/" + s.gateway.Name }

func (s *gatewayServer) port() uint32 { return s.server.GetPort().GetNumber() }

// gatewayPort is all servers that share a listener. As in Istio the oldest one's
// protocol holds, and servers of another kind on the same port are left out.
type gatewayPort struct {
	listenerKey
	kind    mesh.ServerKind
	servers []gatewayServer
}

// gateway makes a gateway's listeners and routes.
func (b *builder) gateway() {
	for _, p := range b.gatewayPorts() {
		var l *listenerv3.Listener
		if p.kind == mesh.ServerHTTP {
			route := p.routeName()
			l = b.gatewayHTTP(p, route)
			b.emit(xds.RouteType, route, b.gatewayRoutes(p, route))
		} else {
			l = b.gatewayL4(p)
		}
		if len(l.FilterChains) > 0 { // without any Envoy refuses the listener
			b.emit(xds.ListenerType, l.Name, l)
		}
	}
}

// routeName is Istio's "http.PORT", with the bind address when there is one.
func (p *gatewayPort) routeName() string {
	name := "http." + strconv.FormatUint(uint64(p.port), 10)
	if p.bind != wildcardBind {
		name += "." + p.bind
	}
	return name
}

func (b *builder) gatewayPorts() []*gatewayPort {
	byKey := map[listenerKey]*gatewayPort{}
	var out []*gatewayPort
	for _, g := range b.mesh.Gateways(b.node) {
		for _, s := range g.Spec.GetServers() {
			kind := mesh.ServerKindOf(s)
			if kind == mesh.ServerRefused {
				continue
			}
			key := listenerKey{cmp.Or(s.GetBind(), wildcardBind), b.mesh.TargetPort(b.node, s.GetPort().GetNumber())}
			if b.node.Unprivileged && key.port < 1024 {
				continue // as in Istio: one that cannot be opened would keep the proxy from being ready
			}
			p := byKey[key]
			if p == nil {
				p = &gatewayPort{listenerKey: key, kind: kind}
				byKey[key] = p
				out = append(out, p)
			}
			if p.kind == kind || p.kind.Secure() && kind.Secure() {
				p.servers = append(p.servers, gatewayServer{g, s, kind, mesh.ServerHosts(g, s)})
			}
		}
	}
	return out
}

func (p *gatewayPort) objects() []istioapi.Ref {
	var out []istioapi.Ref
	for _, s := range p.servers {
		out = append(out, s.gateway.Ref)
	}
	return out
}

func (b *builder) gatewayListener(p *gatewayPort) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:                                 p.name(),
		Address:                              socketAddress(p.bind, p.port),
		AdditionalAddresses:                  b.additionalAddresses(p.listenerKey),
		TrafficDirection:                     corev3.TrafficDirection_OUTBOUND,
		AccessLog:                            b.logs.listener,
		MaxConnectionsToAcceptPerSocketEvent: b.shared.one,
		Metadata:                             (&provenance{objects: p.objects()}).metadata(),
	}
}

func (b *builder) gatewayHTTP(p *gatewayPort, route string) *listenerv3.Listener {
	l := b.gatewayListener(p)
	l.FilterChains = []*listenerv3.FilterChain{{
		Filters:                       b.httpFilters(p.listenerKey, route),
		TransportSocketConnectTimeout: b.shared.socketTimeout,
	}}
	return l
}

// gatewayL4 makes the chains of TLS and TCP servers: from the tls and tcp routes of
// their VirtualServices, or for HTTP inside of TLS with a route configuration of the
// server's own. A chain with a match that an older one has already is left out.
func (b *builder) gatewayL4(p *gatewayPort) *listenerv3.Listener {
	d := &draft{listenerKey: p.listenerKey}
	for i := range p.servers {
		s := &p.servers[i]
		if s.kind == mesh.ServerHTTPS {
			b.gatewayHTTPS(d, p, s)
			continue
		}
		for _, v := range b.mesh.VirtualServices(s.id(), b.node.Namespace) {
			if len(mesh.Intersect(s.hosts, v)) == 0 {
				continue
			}
			if s.kind == mesh.ServerPassthrough {
				b.gatewayTLS(d, s, v)
			} else if b.gatewayTCP(d, s, v) {
				break
			}
		}
	}
	l := b.gatewayListener(p)
	for i := range d.chains {
		if c := &d.chains[i]; c.server != nil {
			l.FilterChains = append(l.FilterChains, b.terminatingChain(p, c))
		} else {
			l.FilterChains = append(l.FilterChains, b.tcpChain(c))
		}
	}
	if d.needsTLS() {
		l.ListenerFilters = []*listenerv3.ListenerFilter{b.shared.tlsInspector}
		l.ListenerFiltersTimeout = b.shared.sniffTimeout
		l.ContinueOnListenerFiltersTimeout = true
	}
	return l
}

func (b *builder) gatewayTLS(d *draft, s *gatewayServer, v *mesh.VirtualService) {
	for _, route := range v.Spec.GetTls() {
		for _, m := range route.GetMatch() {
			if !b.l4Applies(v, tlsScope(m), s.id(), s.port()) {
				continue
			}
			names := s.served(lower(m.GetSniHosts()), v.Namespace)
			if len(names) == 0 {
				continue
			}
			d.add(b.gatewayChain(s, v, names, route.GetRoute()))
		}
	}
}

// served are the SNI hosts that the server has: Istio takes all hosts of a
// VirtualService of which one is the server's; a gate opens only what it names.
func (s *gatewayServer) served(names []string, namespace string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		return !slices.ContainsFunc(s.hosts, func(h mesh.ServerHost) bool {
			return (h.Namespace == "*" || h.Namespace == namespace) && mesh.HostWithin(name, h.Host)
		})
	})
}

// gatewayTCP adds the first tcp route that applies; true when there was one.
func (b *builder) gatewayTCP(d *draft, s *gatewayServer, v *mesh.VirtualService) bool {
	for _, route := range v.Spec.GetTcp() {
		applies := len(route.GetMatch()) == 0
		for _, m := range route.GetMatch() {
			applies = applies || b.l4Applies(v, tcpScope(m), s.id(), s.port())
		}
		if applies {
			c := b.gatewayChain(s, v, nil, route.GetRoute())
			if s.kind == mesh.ServerTLS {
				c.sni, c.server = s.names(), s
			}
			d.add(c)
			return true
		}
	}
	return false
}

func (b *builder) gatewayChain(s *gatewayServer, v *mesh.VirtualService, sni []string, routes []*networking.RouteDestination) chain {
	p := provenance{config: v.Ref, objects: []istioapi.Ref{v.Ref, s.gateway.Ref}}
	return chain{sni: sni, target: b.l4Target(v, routes, s.port()), metadata: p.metadata()}
}
