package mesh

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Scope is what one node sees of the snapshot.
type Scope struct {
	Node Node
	// Sidecar is the object that applies; nil when there is none, and for gateways.
	Sidecar *istioapi.Sidecar
	Policy  Policy
	// Egress has at least one listener for sidecars; the last one may be catch-all
	// (Port nil). Gateways have none.
	Egress []EgressListener
	// Services that the node has clusters for: those of its listeners, and those
	// that its VirtualServices route to. One per host.
	Services []*Service

	snapshot *Snapshot
	byHost   map[string]*Service
}

// EgressListener is one of Sidecar.spec.egress, or the default one that has everything.
type EgressListener struct {
	Port        *networking.SidecarPort // nil: catch-all
	Bind        string
	CaptureMode networking.CaptureMode
	// Services that it imports, oldest first, one per host; with a Port only that port.
	Services        []*Service
	VirtualServices *HostIndex
	list            []*VirtualService
}

// List is the VirtualServices that the listener imports, in Istio's order.
func (l *EgressListener) List() []*VirtualService { return l.list }

// Service by host, as the node sees it; nil when it does not.
func (c *Scope) Service(host string) *Service { return c.byHost[host] }

// DestinationRule that the node uses for svc; nil when there is none.
func (c *Scope) DestinationRule(svc *Service) *DestinationRule {
	return c.snapshot.DestinationRule(c.Node, svc)
}

// Scope computes what a node sees. The cost is linear in what is visible to it.
func (s *Snapshot) Scope(n Node) *Scope {
	c := &Scope{Node: n, snapshot: s, Policy: s.policy}
	visible := s.visible(n.Namespace)
	if n.Type == NodeRouter {
		c.add(choosePerHost(visible, n.Namespace))
		return c
	}
	c.Sidecar = s.sidecar(n)
	if c.Sidecar != nil {
		c.useSidecarPolicy()
	}
	for _, e := range egressOf(c.Sidecar) {
		c.listener(e, visible)
	}
	for i := range c.Egress {
		c.add(c.Egress[i].Services)
	}
	c.addDestinations(choosePerHost(visible, n.Namespace))
	return c
}

func (c *Scope) useSidecarPolicy() {
	p := c.Sidecar.Spec.GetOutboundTrafficPolicy()
	if p == nil {
		return
	}
	c.Policy = Policy{Object: c.Sidecar.Ref}
	if p.GetMode() == networking.OutboundTrafficPolicy_ALLOW_ANY {
		c.Policy.Mode = AllowAny
		c.Policy.EgressProxy = p.GetEgressProxy()
	}
}

func (s *Snapshot) visible(namespace string) []*Service {
	out := make([]*Service, 0, len(s.services))
	for _, svc := range s.services {
		if svc.visible.to(namespace) {
			out = append(out, svc)
		}
	}
	return out
}

// choosePerHost keeps one service per host: of the node's own namespace when there is
// one, else the oldest (Istio's selectServices).
func choosePerHost(services []*Service, namespace string) []*Service {
	at := make(map[string]int, len(services))
	out := make([]*Service, 0, len(services))
	for _, svc := range services {
		i, ok := at[svc.Host]
		switch {
		case !ok:
			at[svc.Host] = len(out)
			out = append(out, svc)
		case svc.Namespace == namespace && out[i].Namespace != namespace:
			out[i] = svc
		}
	}
	return out
}

func (c *Scope) add(services []*Service) {
	if c.byHost == nil {
		c.byHost = make(map[string]*Service, len(services))
	}
	for _, svc := range services {
		i, ok := c.byHost[svc.Host]
		if !ok {
			c.byHost[svc.Host] = svc
			c.Services = append(c.Services, svc)
			continue
		}
		if i != svc && i.Namespace == svc.Namespace { // the same service with other ports
			c.widen(i, svc)
		}
	}
}

// widen replaces a service, imported by one listener with one of its ports, by one
// with the ports of both imports.
func (c *Scope) widen(old, svc *Service) {
	wide := *old
	for _, p := range svc.Ports {
		if !slices.ContainsFunc(wide.Ports, func(q Port) bool { return q.Number == p.Number }) {
			wide.Ports = append(slices.Clip(wide.Ports), p)
		}
	}
	if len(wide.Ports) == len(old.Ports) {
		return
	}
	c.byHost[old.Host] = &wide
	c.Services[slices.Index(c.Services, old)] = &wide
}

// addDestinations adds the services that imported VirtualServices route to, so that
// their clusters exist although the Sidecar does not import them (as Istio does).
func (c *Scope) addDestinations(visible []*Service) {
	var byHost map[string]*Service
	for i := range c.Egress {
		for _, v := range c.Egress[i].list {
			for _, host := range destinationsOf(v, c.snapshot.domain) {
				if byHost == nil {
					byHost = make(map[string]*Service, len(visible))
					for _, svc := range visible {
						byHost[svc.Host] = svc
					}
				}
				if svc := byHost[host]; svc != nil {
					c.add([]*Service{svc})
				}
			}
		}
	}
}

func destinationsOf(v *VirtualService, domain string) []string {
	var out []string
	add := func(d *networking.Destination) {
		if h := v.Host(d.GetHost(), domain); h != "" && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	for _, r := range v.Spec.GetHttp() {
		for _, d := range r.GetRoute() {
			add(d.GetDestination())
		}
	}
	for _, r := range v.Spec.GetTls() {
		for _, d := range r.GetRoute() {
			add(d.GetDestination())
		}
	}
	for _, r := range v.Spec.GetTcp() {
		for _, d := range r.GetRoute() {
			add(d.GetDestination())
		}
	}
	return out
}

// egressOf is the Sidecar's listeners, or the default one that imports everything.
func egressOf(s *istioapi.Sidecar) []*networking.IstioEgressListener {
	if s == nil || len(s.Spec.GetEgress()) == 0 {
		return []*networking.IstioEgressListener{nil}
	}
	return s.Spec.GetEgress()
}

func (c *Scope) listener(e *networking.IstioEgressListener, visible []*Service) {
	all := c.snapshot.VirtualServices(MeshGateway, c.Node.Namespace)
	l := EgressListener{Port: e.GetPort(), Bind: e.GetBind(), CaptureMode: e.GetCaptureMode()}
	if l.Port.GetNumber() == 0 {
		l.Port = nil
	}
	if e == nil {
		l.Services, l.list = choosePerHost(visible, c.Node.Namespace), all
	} else {
		im := newImports(e.GetHosts(), c.Node.Namespace)
		l.Services = choosePerHost(im.services(visible, l.Port), c.Node.Namespace)
		l.list = im.virtualServices(all)
	}
	l.VirtualServices = NewHostIndex(l.list)
	c.Egress = append(c.Egress, l)
}

// imports is Sidecar.spec.egress[].hosts: namespace ("*": any) -> host patterns.
type imports map[string]*patterns

type patterns struct {
	exact     map[string]bool
	wildcards []string
}

func newImports(hosts []string, own string) imports {
	im := imports{}
	for _, h := range hosts {
		ns, host, ok := strings.Cut(h, "/")
		if !ok {
			ns, host = "*", h
		}
		if ns == "~" {
			continue
		}
		if ns == "." {
			ns = own
		}
		p := im[ns]
		if p == nil {
			p = &patterns{exact: map[string]bool{}}
			im[ns] = p
		}
		host = strings.ToLower(host)
		if IsWildcard(host) {
			p.wildcards = append(p.wildcards, host)
		} else {
			p.exact[host] = true
		}
	}
	return im
}

func (im imports) services(visible []*Service, port *networking.SidecarPort) []*Service {
	var out []*Service
	for _, svc := range visible {
		if !im[svc.Namespace].coversService(svc.Host) && !im["*"].coversService(svc.Host) {
			continue
		}
		if port != nil {
			if svc = withOnlyPort(svc, port.GetNumber()); svc == nil {
				continue
			}
		}
		out = append(out, svc)
	}
	return out
}

// withOnlyPort is the service with that port alone, nil when it does not have it.
func withOnlyPort(svc *Service, number uint32) *Service {
	for i, p := range svc.Ports {
		if p.Number == number {
			c := *svc
			c.Ports = svc.Ports[i : i+1 : i+1]
			return &c
		}
	}
	return nil
}

func (im imports) virtualServices(all []*VirtualService) []*VirtualService {
	var out []*VirtualService
	for _, v := range all {
		own, anywhere := im[v.Namespace], im["*"]
		if slices.ContainsFunc(v.Hosts, func(h string) bool { return own.touches(h) || anywhere.touches(h) }) {
			out = append(out, v)
		}
	}
	return out
}

// coversService: the pattern names the host, or a wildcard has all of it.
func (p *patterns) coversService(host string) bool {
	if p == nil {
		return false
	}
	return p.exact[host] || slices.ContainsFunc(p.wildcards, func(w string) bool { return HostWithin(host, w) })
}

// touches: a VirtualService's host overlaps with a pattern.
func (p *patterns) touches(host string) bool {
	if p == nil {
		return false
	}
	if p.exact[host] || slices.ContainsFunc(p.wildcards, func(w string) bool { return HostsOverlap(host, w) }) {
		return true
	}
	if !IsWildcard(host) {
		return false
	}
	for e := range p.exact {
		if HostWithin(e, host) {
			return true
		}
	}
	return false
}
