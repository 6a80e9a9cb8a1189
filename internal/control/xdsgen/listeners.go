package xdsgen

import (
	"net/netip"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// capturePort is where captured connections arrive.
const capturePort = mesh.CapturePort

// sidecar makes a sidecar's listeners and their routes.
func (b *builder) sidecar() { b.sidecarListeners(b.drafts()) }

func (b *builder) sidecarListeners(drafts []*draft) {
	for _, d := range drafts {
		b.emit(xds.ListenerType, d.name(), b.sidecarListener(d))
		if d.route != "" {
			if _, done := b.out[xds.RouteType][d.route]; !done {
				b.emit(xds.RouteType, d.route, b.sidecarRoutes(d))
			}
		}
	}
	b.emit(xds.ListenerType, "virtualOutbound", b.virtualOutbound())
	b.inboundListener()
}

// drafts are the listeners of what the sidecar sees.
func (b *builder) drafts() []*draft {
	s := &sidecarDrafts{builder: b, byKey: map[listenerKey]*draft{}}
	for i := range b.scope.Egress {
		l := &b.scope.Egress[i]
		if l.Port == nil {
			s.lock()
		}
		s.addListener(l)
	}
	return s.list
}

// sidecarDrafts collects listeners by address and port.
type sidecarDrafts struct {
	*builder
	byKey map[listenerKey]*draft
	list  []*draft
	// catchAll: the listener without a port is being added.
	catchAll bool
}

// lock makes what there is be left alone by the listener without a port.
func (s *sidecarDrafts) lock() {
	s.catchAll = true
	for _, d := range s.list {
		d.locked = true
	}
}

func (s *sidecarDrafts) draft(bind string, port uint32, bindToPort bool) *draft {
	key := listenerKey{bind, port}
	d := s.byKey[key]
	if d == nil {
		d = &draft{listenerKey: key, bindToPort: bindToPort, locked: s.catchAll && s.known.locks(key)}
		s.byKey[key] = d
		s.list = append(s.list, d)
	}
	return d
}

// addListener adds the services of one egress listener. Its bind address, when
// written, holds for all of them; with captureMode NONE the default is localhost.
func (s *sidecarDrafts) addListener(l *mesh.EgressListener) {
	bindToPort := l.CaptureMode == networking.CaptureMode_NONE
	bind := l.Bind
	if bind == "" && bindToPort {
		bind = "127.0.0.1"
	}
	for _, svc := range l.Services {
		for _, p := range svc.Ports {
			if l.Port != nil {
				p.Protocol = mesh.ProtocolOf(l.Port.GetProtocol())
			}
			s.addPort(l, svc, p, bind, bindToPort)
		}
	}
}

// addPort adds one port of a service. HTTP is on the wildcard address, where the
// Host header decides; everything else is bound to the service's addresses where it
// has some.
func (s *sidecarDrafts) addPort(l *mesh.EgressListener, svc *mesh.Service, p mesh.Port, bind string, bindToPort bool) {
	if p.Protocol == mesh.ProtocolHTTP {
		if bind == "" {
			bind = wildcardBind
		}
		if bind == wildcardBind && mesh.Reserved(p.Number) {
			return
		}
		if d := s.draft(bind, p.Number, bindToPort); !d.locked {
			d.route = strconv.FormatUint(uint64(p.Number), 10)
		}
		return
	}
	binds, cidrs := []string{bind}, []netip.Prefix(nil)
	if bind == "" {
		binds, cidrs = s.listenAddresses(svc, p)
	}
	for _, address := range binds {
		if address == wildcardBind && mesh.Reserved(p.Number) {
			continue
		}
		prefixes := cidrs
		if address != wildcardBind {
			prefixes = nil
		}
		d := s.draft(address, p.Number, bindToPort)
		if d.locked {
			continue
		}
		if address != wildcardBind {
			d.services = append(d.services, svc)
		}
		if p.Protocol == mesh.ProtocolAuto {
			d.detectHTTP(svc)
		}
		bySNI := address == wildcardBind
		added := false
		for _, c := range s.l4Chains(l, svc, p, prefixes, bySNI) {
			added = d.add(c) || added
		}
		if !added && p.Protocol.IsTLS() && !bySNI {
			// Another service has this address and port: tell them apart by SNI.
			for _, c := range s.l4Chains(l, svc, p, prefixes, true) {
				d.add(c)
			}
		}
	}
}

// listenAddresses are the addresses that a service's TCP listeners are bound to, and
// the CIDRs that its chains on the wildcard address match.
func (b *builder) listenAddresses(svc *mesh.Service, p mesh.Port) (binds []string, cidrs []netip.Prefix) {
	for _, a := range svc.Addresses {
		if a.IsSingleIP() {
			binds = append(binds, a.Addr().String())
		} else {
			cidrs = append(cidrs, a)
		}
	}
	if len(cidrs) > 0 {
		binds = append(binds, wildcardBind)
	}
	if len(binds) == 0 && b.node.DNSCapture && !p.Protocol.IsTLS() { // TLS is told apart by SNI, which is judged too
		for _, a := range svc.AutoAddresses {
			binds = append(binds, a.String())
		}
	}
	if len(binds) == 0 && (svc.Headless || svc.Resolution == mesh.ResolutionNone) && !p.Protocol.IsTLS() {
		if binds = endpointAddresses(svc); svc.Headless { // without endpoints there is nothing to call
			return binds, nil
		}
	}
	if len(binds) == 0 {
		binds = []string{wildcardBind}
	}
	return binds, cidrs
}

// endpointAddresses are the distinct IP addresses of a service's endpoints.
func endpointAddresses(svc *mesh.Service) []string {
	var out []string
	for _, e := range svc.Endpoints {
		if a, err := netip.ParseAddr(e.Address); err == nil && !slices.Contains(out, a.String()) {
			out = append(out, a.String())
		}
	}
	return out
}

// sidecarListener is the resource of a draft.
func (b *builder) sidecarListener(d *draft) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:                             d.name(),
		Address:                          socketAddress(d.bind, d.port),
		AdditionalAddresses:              b.additionalAddresses(d.listenerKey),
		TrafficDirection:                 corev3.TrafficDirection_OUTBOUND,
		BindToPort:                       b.shared.no,
		ListenerFiltersTimeout:           b.shared.sniffTimeout,
		ContinueOnListenerFiltersTimeout: true,
		Metadata:                         b.servicesMetadata(d.services),
	}
	if d.bindToPort {
		l.BindToPort = nil
	}
	if d.route != "" {
		l.FilterChains = append(l.FilterChains, b.httpChain(d))
	}
	for i := range d.chains {
		if b.node.OnDemand && d.chains[i].byName() {
			l.FcdsConfig = b.chainsOnDemand()
			continue
		}
		c := b.tcpChain(&d.chains[i])
		if d.route != "" && d.chains[i].match() == nil {
			// Envoy looks no further than the chains for the transport protocol: plain bytes
			// that are not HTTP would have no chain.
			l.DefaultFilterChain = c
			continue
		}
		l.FilterChains = append(l.FilterChains, c)
	}
	wildcard := d.bind == wildcardBind
	if d.needsTLS() || d.detect {
		l.ListenerFilters = append(l.ListenerFilters, b.shared.tlsInspector)
	}
	if d.route != "" && (wildcard || len(d.chains) > 0) {
		l.ListenerFilters = append(l.ListenerFilters, b.shared.httpInspector)
	}
	if wildcard && !d.catchesAll() && l.DefaultFilterChain == nil {
		l.DefaultFilterChain = b.defaultChain()
	}
	return l
}

// additionalAddresses is the IPv6 wildcard, for nodes that have IPv6, as Istio does
// for dual-stack nodes.
func (b *builder) additionalAddresses(k listenerKey) []*listenerv3.AdditionalAddress {
	if k.bind != wildcardBind || !slices.ContainsFunc(b.node.Addresses, netip.Addr.Is6) {
		return nil
	}
	return []*listenerv3.AdditionalAddress{{Address: socketAddress("::", k.port)}}
}

// httpChain is the HTTP chain of a sidecar's listener. On the wildcard address, or
// beside TCP chains, it takes only what was recognized as plain HTTP.
func (b *builder) httpChain(d *draft) *listenerv3.FilterChain {
	c := &listenerv3.FilterChain{
		Filters:                       b.httpFilters(d.listenerKey, d.route),
		TransportSocketConnectTimeout: b.shared.socketTimeout,
	}
	if d.bind == wildcardBind || len(d.chains) > 0 {
		c.FilterChainMatch = &listenerv3.FilterChainMatch{
			TransportProtocol:    "raw_buffer",
			ApplicationProtocols: []string{"http/1.1", "h2c"},
		}
	}
	return c
}

// defaultChain takes what no chain of a wildcard listener matches: refused, or let
// through, as the outbound traffic policy says.
func (b *builder) defaultChain() *listenerv3.FilterChain {
	return &listenerv3.FilterChain{
		Name:             "PassthroughFilterChain",
		FilterChainMatch: &listenerv3.FilterChainMatch{},
		Filters:          b.tcpFilters(b.unknownTarget(), true),
		Metadata:         b.policyMetadata(),
	}
}

// unknownTarget is where destinations go that the registry does not know.
func (b *builder) unknownTarget() tcpTarget {
	if b.scope.Policy.Mode != mesh.AllowAny {
		return singleTarget(blackHole, nil)
	}
	if p := b.scope.Policy.EgressProxy; p != nil {
		host := mesh.ResolveHost(p.GetHost(), b.scope.Policy.Object.Namespace, b.mesh.Domain())
		return singleTarget(b.destinationCluster(host, p, 0), nil)
	}
	return singleTarget(passthrough, nil)
}

// virtualOutbound takes every captured connection, and hands it to the listener of
// its original destination; what has none is for the policy.
func (b *builder) virtualOutbound() *listenerv3.Listener {
	chain := func(name string, m *listenerv3.FilterChainMatch, t tcpTarget, logged bool) *listenerv3.FilterChain {
		return &listenerv3.FilterChain{Name: name, FilterChainMatch: m, Filters: b.tcpFilters(t, logged)}
	}
	key := listenerKey{wildcardBind, capturePort}
	catchAll := chain("virtualOutbound-catchall-tcp", nil, b.unknownTarget(), true)
	catchAll.Metadata = b.policyMetadata()
	return &listenerv3.Listener{
		Name:                                 "virtualOutbound",
		Address:                              socketAddress(key.bind, key.port),
		AdditionalAddresses:                  b.additionalAddresses(key),
		UseOriginalDst:                       b.shared.yes,
		TrafficDirection:                     corev3.TrafficDirection_OUTBOUND,
		AccessLog:                            b.logs.listener,
		MaxConnectionsToAcceptPerSocketEvent: b.shared.one,
		FilterChains: []*listenerv3.FilterChain{
			chain("virtualOutbound-blackhole",
				&listenerv3.FilterChainMatch{DestinationPort: uint32Value(capturePort)}, singleTarget(blackHole, nil), false),
			catchAll,
		},
	}
}

// refs joins lists of objects.
func refs(lists ...[]istioapi.Ref) []istioapi.Ref { return slices.Concat(lists...) }
