package xdsgen

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// maxDirectResponse is the largest direct response body, in bytes (Istio's 1 MiB).
const maxDirectResponse = 1 << 20

// routeTable collects the virtual hosts of one route configuration. A domain belongs
// to the first virtual host that has it, as Envoy refuses duplicates.
type routeTable struct {
	hosts []tableHost
	names map[string]bool
	taken map[string]bool // domains
}

// tableHost is a virtual host with the name that it is sorted by; it may be frozen.
type tableHost struct {
	name string
	host *routev3.VirtualHost
}

func newRouteTable(size int) *routeTable {
	return &routeTable{
		hosts: make([]tableHost, 0, size+1),
		names: make(map[string]bool, size),
		taken: make(map[string]bool, 2*size),
	}
}

// add adds a virtual host with those of its domains that are free.
func (t *routeTable) add(v *routev3.VirtualHost) {
	if t.names[v.Name] {
		return
	}
	v.Domains = slices.DeleteFunc(v.Domains, func(d string) bool { return t.taken[d] })
	if len(v.Domains) == 0 {
		return
	}
	t.put(v.Name, v.Domains, v)
}

// addMade adds a virtual host of the memo. It is false where some of its domains are not
// free: then one must be made for what is left.
func (t *routeTable) addMade(m *madeHost) bool {
	if t.names[m.name] {
		return true
	}
	if slices.ContainsFunc(m.domains, func(d string) bool { return t.taken[d] }) {
		return false
	}
	t.put(m.name, m.domains, m.host)
	return true
}

func (t *routeTable) put(name string, domains []string, v *routev3.VirtualHost) {
	for _, d := range domains {
		t.taken[d] = true
	}
	t.names[name] = true
	t.hosts = append(t.hosts, tableHost{name, v})
}

// sort orders by name, as Istio does.
func (t *routeTable) sort() {
	slices.SortStableFunc(t.hosts, func(a, b tableHost) int { return cmp.Compare(a.name, b.name) })
}

// list are the virtual hosts in order.
func (t *routeTable) list() []*routev3.VirtualHost {
	out := make([]*routev3.VirtualHost, len(t.hosts))
	for i, h := range t.hosts {
		out[i] = h.host
	}
	return out
}

func (b *builder) routeConfiguration(name string, t *routeTable) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name:                           name,
		VirtualHosts:                   t.list(),
		ValidateClusters:               b.shared.no,
		MaxDirectResponseBodySizeBytes: uint32Value(maxDirectResponse),
		IgnorePortInHostMatching:       true,
	}
}

// egressFor is the egress listener whose services a port's routes are made from: the
// one with that port, else the catch-all one.
func (b *builder) egressFor(port uint32) *mesh.EgressListener {
	var catchAll *mesh.EgressListener
	for i := range b.scope.Egress {
		l := &b.scope.Egress[i]
		if l.Port == nil {
			catchAll = l
		} else if l.Port.GetNumber() == port {
			return l
		}
	}
	return catchAll
}

// sidecarRoutes is the route configuration named by a port: one virtual host per
// service with HTTP on that port, with the routes of its VirtualService or a default
// one; the hosts of VirtualServices that no service has (port 80 only); and last the
// one for everything else, as the policy says.
func (b *builder) sidecarRoutes(d *draft) *routev3.RouteConfiguration {
	if b.node.OnDemand {
		return b.routesOnDemand(d)
	}
	t := b.sidecarTable(d)
	if !t.taken["*"] {
		unknown := b.unknownHost()
		t.put(unknown.Name, unknown.Domains, unknown)
	}
	return b.routeConfiguration(d.route, t)
}

// sidecarTable has the virtual hosts of a port's services and VirtualServices.
func (b *builder) sidecarTable(d *draft) *routeTable {
	port := d.port
	l := b.egressFor(port)
	services := httpServices(l, port)
	if d.only != nil {
		services = []*mesh.Service{d.only}
	}
	t := newRouteTable(len(services))
	plain := services[:0:0]
	for _, s := range services {
		v, routes := b.firstRoutes(l.VirtualServices.Best(s.Host), port)
		if routes == nil {
			plain = append(plain, s)
			continue
		}
		t.add(b.virtualHost(s.Host, b.serviceDomains(s), port, routes, refs([]istioapi.Ref{v.Ref}, s.Sources)))
	}
	if d.only == nil {
		b.unregisteredHosts(t, l, services, port)
	}
	for _, s := range plain {
		b.addService(t, s, port)
	}
	t.sort()
	return t
}

// httpServices are the services of a listener with HTTP on a port.
func httpServices(l *mesh.EgressListener, port uint32) []*mesh.Service {
	if l == nil {
		return nil
	}
	http := func(p mesh.Port) bool {
		if l.Port != nil {
			return p.Number == port && mesh.ProtocolOf(l.Port.GetProtocol()).MayBeHTTP()
		}
		return p.Number == port && p.Protocol.MayBeHTTP()
	}
	var out []*mesh.Service
	for _, s := range l.Services {
		if slices.ContainsFunc(s.Ports, http) {
			out = append(out, s)
		}
	}
	return out
}

// firstRoutes are those of the first VirtualService that has a route for this node
// and port.
func (b *builder) firstRoutes(list []*mesh.VirtualService, port uint32) (*mesh.VirtualService, []*routeEntry) {
	for _, v := range list {
		if routes := b.httpRoutes(v, mesh.MeshGateway, port, port); len(routes) > 0 {
			return v, routes
		}
	}
	return nil, nil
}

// unregisteredHosts adds virtual hosts for the VirtualService hosts that no service
// with HTTP on the port has. Istio does this on port 80, and on the ports of the
// services that the same VirtualService has.
func (b *builder) unregisteredHosts(t *routeTable, l *mesh.EgressListener, services []*mesh.Service, port uint32) {
	if l == nil || len(l.List()) == 0 {
		return
	}
	registered := registeredHosts(services)
	for _, v := range l.List() {
		var missing []string
		for _, h := range v.Hosts {
			if !registered[h] {
				missing = append(missing, h)
			}
		}
		if len(missing) == 0 || len(v.Spec.GetHttp()) == 0 || (port != 80 && len(missing) == len(v.Hosts)) {
			continue
		}
		routes := b.httpRoutes(v, mesh.MeshGateway, port, port)
		if len(routes) == 0 {
			continue
		}
		for _, h := range missing {
			domains := append([]string{h}, b.shortNames(h)...)
			t.add(b.virtualHost(h, domains, port, routes, []istioapi.Ref{v.Ref}))
		}
	}
}

// registeredHosts has each service's host, and each wildcard that a host is under.
func registeredHosts(services []*mesh.Service) map[string]bool {
	out := make(map[string]bool, 2*len(services))
	for _, s := range services {
		out[s.Host] = true
		rest := strings.TrimPrefix(s.Host, "*.")
		for {
			_, after, ok := strings.Cut(rest, ".")
			if !ok {
				break
			}
			out["*."+after] = true
			rest = after
		}
		out["*"] = true
	}
	return out
}

// virtualHost has a VirtualService's routes.
func (b *builder) virtualHost(host string, domains []string, port uint32, entries []*routeEntry, objects []istioapi.Ref) *routev3.VirtualHost {
	routes := make([]*routev3.Route, len(entries))
	for i, e := range entries {
		routes[i] = e.route
	}
	return &routev3.VirtualHost{
		Name:                       host + ":" + strconv.FormatUint(uint64(port), 10),
		Domains:                    domains,
		Routes:                     routes,
		IncludeRequestAttemptCount: b.attemptCount(),
		Metadata:                   (&provenance{objects: objects}).metadata(),
	}
}

// addService adds the virtual host of a service without a VirtualService.
func (b *builder) addService(t *routeTable, s *mesh.Service, port uint32) {
	hash := b.hashPolicy(s, "", port)
	if b.memo == nil || hash != nil {
		t.add(b.serviceHost(s, port, hash))
		return
	}
	k := b.key("host")
	k.service(s)
	k.number(uint64(port))
	made := b.memo.hosts.made(k.sum(), func() (*madeHost, bool) {
		v := b.serviceHost(s, port, nil)
		return &madeHost{v.Name, v.Domains, frozen(v)}, b.err == nil
	})
	if !t.addMade(made) {
		t.add(b.serviceHost(s, port, nil))
	}
}

// serviceHost is the virtual host of a service without a VirtualService; hash may be nil.
func (b *builder) serviceHost(s *mesh.Service, port uint32, hash *routev3.RouteAction_HashPolicy) *routev3.VirtualHost {
	name := s.Host + ":" + strconv.FormatUint(uint64(port), 10)
	metadata := b.serviceMetadata(s)
	action := setTimeout(&routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: clusterName(port, "", s.Host)},
		RetryPolicy:      b.shared.retry,
	}, b.shared.zero)
	if hash != nil {
		action.HashPolicy = []*routev3.RouteAction_HashPolicy{hash}
	}
	return &routev3.VirtualHost{
		Name:                       name,
		Domains:                    b.serviceDomains(s),
		IncludeRequestAttemptCount: b.attemptCount(),
		Metadata:                   metadata,
		Routes: []*routev3.Route{{
			Name:      "default",
			Match:     b.shared.prefixMatch,
			Decorator: &routev3.Decorator{Operation: name + "/*"},
			Metadata:  metadata,
			Action:    &routev3.Route_Route{Route: action},
		}},
	}
}

// serviceDomains are the names that a Host header may have for a service: its host,
// the short forms of a mesh name, and its addresses.
func (b *builder) serviceDomains(s *mesh.Service) []string {
	out := append([]string{s.Host}, b.shortNames(s.Host)...)
	for _, alias := range s.Aliases {
		out = append(append(out, alias), b.shortNames(alias)...)
	}
	if s.Headless { // its pods have names under it
		for _, name := range slices.Clone(out) {
			out = append(out, "*."+name)
		}
	}
	for _, a := range s.Addresses {
		if a.IsSingleIP() {
			out = append(out, domainOf(a.Addr()))
		}
	}
	if len(s.Addresses) == 0 && b.node.DNSCapture {
		for _, a := range s.AutoAddresses {
			out = append(out, domainOf(a))
		}
	}
	return out
}

// domainOf is an address as it stands in a Host header (RFC 3986 section 3.2.2).
func domainOf(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// shortNames are the forms of "name.namespace.svc.domain" that a client's search path
// completes: without namespace only from within it.
func (b *builder) shortNames(host string) []string {
	rest, ok := strings.CutSuffix(host, ".svc."+b.mesh.Domain())
	if !ok || mesh.IsWildcard(host) {
		return nil
	}
	name, namespace, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(namespace, ".") {
		return nil
	}
	out := []string{rest, rest + ".svc"}
	if namespace == b.node.Namespace {
		out = append([]string{name}, out...)
	}
	return out
}

// unknownHost takes requests to hosts that no virtual host has: "block_all" answers
// 502, "allow_any" lets through, as in Istio.
func (b *builder) unknownHost() *routev3.VirtualHost {
	name := "block_all"
	route := &routev3.Route{
		Match:    b.shared.prefixMatch,
		Metadata: b.policyMetadata(),
		Action:   &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 502}},
	}
	if b.scope.Policy.Mode == mesh.AllowAny {
		name = "allow_any"
		route.Action = &routev3.Route_Route{Route: setTimeout(&routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: b.unknownTarget().clusters[0].name},
		}, b.shared.zero)}
	}
	route.Name = name
	return &routev3.VirtualHost{
		Name: name, Domains: []string{"*"}, Routes: []*routev3.Route{route},
		IncludeRequestAttemptCount: b.attemptCount(), Metadata: b.policyMetadata(),
	}
}
