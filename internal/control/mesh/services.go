package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// serviceKey is what two ServiceEntries must share to be one service.
type serviceKey struct{ namespace, host string }

// registry collects services while a snapshot is built.
type registry struct {
	snapshot *Snapshot
	objects  istioapi.Objects
	previous *Snapshot
	services []*Service
	byKey    map[serviceKey]int // place in services
	entries  map[*networking.ServiceEntry]*madeEntry
	// fresh services were made for this snapshot, and own ones are copies made for it that
	// no entry has.
	fresh, own map[*Service]bool
	problems   []istioapi.Problem
	pods       []Endpoint
	// workloads: namespace -> "key=value" -> those with that label.
	workloads map[string]map[string][]*workload
}

// madeEntry are the services of an entry before any is merged with those of others.
type madeEntry struct {
	ref      istioapi.Ref
	services []*Service
}

func (r *registry) build(builtIn []*Service) {
	r.snapshot.builtIn, r.snapshot.joined = make(map[*Service]*Service, len(builtIn)), map[*Service]bool{}
	r.fresh, r.own = map[*Service]bool{}, map[*Service]bool{}
	r.entries = make(map[*networking.ServiceEntry]*madeEntry, len(r.objects.ServiceEntries))
	for _, s := range builtIn {
		c := r.builtIn(s)
		r.snapshot.builtIn[s] = c
		r.byKey[serviceKey{c.Namespace, c.Host}] = len(r.services)
		r.services = append(r.services, c)
	}
	entries := byAge(r.objects.ServiceEntries, func(e *istioapi.ServiceEntry) *istioapi.Meta { return &e.Meta })
	r.services = slices.Grow(r.services, len(entries))
	for _, e := range entries {
		r.addEntry(e)
	}
	r.aliases()
}

// addEntry adds one service per host of the entry.
func (r *registry) addEntry(e *istioapi.ServiceEntry) {
	for _, s := range r.made(e) {
		key := serviceKey{s.Namespace, s.Host}
		at, ok := r.byKey[key]
		if !ok {
			r.byKey[key] = len(r.services)
			r.services = append(r.services, s)
			continue
		}
		old := r.services[at]
		if old.Registry == RegistryKubernetes {
			continue // as in Istio a Service of the cluster has its name for itself
		}
		if !old.visible.equal(s.visible) || old.Resolution != s.Resolution {
			r.services = append(r.services, s)
			continue
		}
		merge(r.writable(at), s)
	}
}

// made are the entry's services, those of the previous snapshot where it had the same
// entry and nothing else that they are made of can have changed.
func (r *registry) made(e *istioapi.ServiceEntry) []*Service {
	exportTo := r.snapshot.config.GetDefaultServiceExportTo()
	if p := r.previous; p != nil && slices.Equal(p.config.GetDefaultServiceExportTo(), exportTo) {
		if m := p.entries[e.Spec]; m != nil && m.ref == e.Ref {
			r.entries[e.Spec] = m
			return m.services
		}
	}
	problems := len(r.problems)
	ports := r.ports(e)
	addresses := r.addresses(e)
	endpoints := r.endpoints(e)
	v := newVisibility(e.Spec.GetExportTo(), exportTo, e.Namespace)
	m := &madeEntry{ref: e.Ref}
	for _, host := range e.Spec.GetHosts() {
		s := &Service{
			Host:            strings.ToLower(host),
			Namespace:       e.Namespace,
			Source:          e.Ref,
			Sources:         []istioapi.Ref{e.Ref},
			Ports:           ports,
			Resolution:      resolutionOf(e.Spec.GetResolution()),
			Addresses:       addresses,
			Endpoints:       endpoints,
			Selector:        e.Spec.GetWorkloadSelector().GetLabels(),
			Internal:        e.Spec.GetLocation() == networking.ServiceEntry_MESH_INTERNAL,
			ExportTo:        e.Spec.GetExportTo(),
			SubjectAltNames: e.Spec.GetSubjectAltNames(),
			visible:         v,
		}
		m.services = append(m.services, s)
		r.fresh[s] = true
	}
	// What selects workloads depends on them, and what has problems must tell them again.
	if e.Spec.GetWorkloadSelector() == nil && len(r.problems) == problems {
		r.entries[e.Spec] = m
	}
	return m.services
}

// writable is the service at a place, as a copy that is this snapshot's own.
func (r *registry) writable(at int) *Service {
	s := r.services[at]
	if !r.own[s] {
		c := *s
		s = &c
		r.own[s], r.services[at] = true, s
	}
	return s
}

// merge adds a further ServiceEntry of the same host and namespace, as Istio does:
// ports are united (the older one's definition of a port stays), endpoints
// belong to the ports of their own entry.
func merge(old, s *Service) {
	if len(old.Sources) == 1 { // from here on its slices are its own
		old.Ports = slices.Clone(old.Ports)
		old.Endpoints = bound(old.Endpoints, old.Ports)
		old.Addresses = slices.Clone(old.Addresses)
	}
	old.Sources = slices.Concat(old.Sources, s.Sources)
	for _, p := range s.Ports {
		if !slices.ContainsFunc(old.Ports, func(q Port) bool { return q.Number == p.Number }) {
			old.Ports = append(old.Ports, p)
		}
	}
	old.Endpoints = append(old.Endpoints, bound(s.Endpoints, s.Ports)...)
	for _, a := range s.Addresses {
		if !slices.Contains(old.Addresses, a) {
			old.Addresses = append(old.Addresses, a)
		}
	}
	for _, n := range s.SubjectAltNames {
		if !slices.Contains(old.SubjectAltNames, n) {
			old.SubjectAltNames = append(slices.Clip(old.SubjectAltNames), n)
		}
	}
}

// bound copies endpoints with the number of each of ports written out, so that
// they answer for these ports only.
func bound(endpoints []Endpoint, ports []Port) []Endpoint {
	out := make([]Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		numbers := make(map[string]uint32, len(ports))
		for _, p := range ports {
			if n, ok := e.Port(p); ok {
				numbers[p.Name] = n
			}
		}
		e.Ports, e.Bound = numbers, true
		out = append(out, e)
	}
	return out
}

func resolutionOf(r networking.ServiceEntry_Resolution) Resolution {
	switch r {
	case networking.ServiceEntry_STATIC:
		return ResolutionStatic
	case networking.ServiceEntry_DNS:
		return ResolutionDNS
	case networking.ServiceEntry_DNS_ROUND_ROBIN:
		return ResolutionDNSRoundRobin
	default:
		return ResolutionNone
	}
}

// ProtocolOf groups a declared protocol as Istio does (case does not matter).
// None is detected; an unknown one is TCP: nothing of it is read. The name of the port
// does not matter, unlike with Kubernetes Services.
func ProtocolOf(declared string) Protocol {
	switch strings.ToUpper(declared) {
	case "HTTP", "HTTP2", "GRPC", "GRPC-WEB":
		return ProtocolHTTP
	case "HTTPS":
		return ProtocolHTTPS
	case "TLS":
		return ProtocolTLS
	case "UDP":
		return ProtocolUDP
	case "":
		return ProtocolAuto
	default:
		return ProtocolTCP
	}
}

// HTTP2 reports whether the upstream speaks HTTP/2: declared HTTP2, GRPC or GRPC-WEB.
func (p Port) HTTP2() bool {
	switch strings.ToUpper(p.Declared) {
	case "HTTP2", "GRPC", "GRPC-WEB":
		return true
	}
	return false
}

func (r *registry) ports(e *istioapi.ServiceEntry) []Port {
	out := make([]Port, 0, len(e.Spec.GetPorts()))
	for i, p := range e.Spec.GetPorts() {
		port := Port{
			Number:     p.GetNumber(),
			TargetPort: p.GetTargetPort(),
			Name:       p.GetName(),
			Protocol:   ProtocolOf(p.GetProtocol()),
			Declared:   p.GetProtocol(),
		}
		if port.Protocol == ProtocolUDP {
			r.warn(&e.Meta, "udp_not_captured", fmt.Sprintf("spec.ports[%d].protocol", i),
				fmt.Sprintf("port %d is UDP: UDP is not captured, so the port is left out", port.Number))
			continue
		}
		out = append(out, port)
	}
	return out
}

// addresses reads spec.addresses: single addresses and CIDRs.
func (r *registry) addresses(e *istioapi.ServiceEntry) []netip.Prefix {
	var out []netip.Prefix
	for i, a := range e.Spec.GetAddresses() {
		p, err := parsePrefix(a)
		if err != nil {
			r.warn(&e.Meta, "bad_address", fmt.Sprintf("spec.addresses[%d]", i),
				fmt.Sprintf("%q is neither an address nor a CIDR: left out", a))
			continue
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return p.Masked(), nil
}

func (r *registry) warn(m *istioapi.Meta, code, field, message string) {
	r.problems = append(r.problems, problem(istioapi.Warning, m, code, field, message))
}

func problem(severity istioapi.Severity, m *istioapi.Meta, code, field, message string) istioapi.Problem {
	p := istioapi.Problem{
		Severity: severity, Code: code, Position: m.Position, Object: m.Ref, Field: field, Message: message,
	}
	if line, ok := m.Lines[field]; ok {
		p.Line = line
	}
	return p
}
