// Package analyze finds what is wrong between objects, each of which is valid by
// itself: names that lead nowhere, objects that hide or contradict each other, policy
// that is weaker than it looks. It does what "istioctl analyze" does for these kinds,
// and more. It is pure; what it finds changes nothing.
package analyze

import (
	"fmt"
	"slices"
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// The codes of what is found.
const (
	// CodeUnknownGateway: a VirtualService is bound to a Gateway that is not there.
	CodeUnknownGateway = "unknown_gateway"
	// CodeUnknownHost: a host that the registry does not have.
	CodeUnknownHost = "unknown_host"
	// CodeUnknownPort: the host has no such port.
	CodeUnknownPort = "unknown_port"
	// CodePortRequired: the host has several ports and the destination names none.
	CodePortRequired = "port_required"
	// CodeUnknownSubset: no DestinationRule has the subset.
	CodeUnknownSubset = "unknown_subset"
	// CodeEmptySubset: the subset's labels select no endpoint.
	CodeEmptySubset = "empty_subset"
	// CodeHidden: exportTo hides an object from who should use it.
	CodeHidden = "hidden_by_export"
	// CodeNoGatewayWorkload: a Gateway's selector selects no gateway.
	CodeNoGatewayWorkload = "no_gateway_workload"
	// CodeUnboundGatewayHost: no VirtualService routes what a Gateway server takes.
	CodeUnboundGatewayHost = "unbound_gateway_host"
	// CodeHostNotInGateway: a VirtualService's host is not among its Gateway's.
	CodeHostNotInGateway = "host_not_in_gateway"
	// CodeConflictingHosts: two VirtualServices for one host.
	CodeConflictingHosts = "conflicting_hosts"
	// CodeRouteProtocol: routes of a kind that the host's ports never use.
	CodeRouteProtocol = "route_protocol"
	// CodeDuplicateHost: two ServiceEntries of one namespace have the same host.
	CodeDuplicateHost = "duplicate_host"
	// CodeTCPPortShared: TCP services that only their DNS answers keep apart.
	CodeTCPPortShared = "tcp_port_shared"
	// CodeTCPAnyAddress: a TCP port that is open to every address.
	CodeTCPAnyAddress = "tcp_any_address"
	// CodePortProtocol: a port's number and protocol contradict each other.
	CodePortProtocol = "port_protocol"
	// CodeNoEndpoints: a workloadSelector selects no WorkloadEntry.
	CodeNoEndpoints = "no_endpoints"
	// CodeConflictingSidecars: two Sidecars for the same workloads.
	CodeConflictingSidecars = "conflicting_sidecars"
	// CodeUnusedHost: an entry of a Sidecar's hosts that matches nothing.
	CodeUnusedHost = "unused_host"
	// CodeUnknownProvider: MeshConfig has no access log of that name.
	CodeUnknownProvider = "unknown_provider"
	// CodeConflictingTelemetries: two Telemetries for the same workloads.
	CodeConflictingTelemetries = "conflicting_telemetries"
	// CodeConflictingPeers: two PeerAuthentications for the same workloads.
	CodeConflictingPeers = "conflicting_peer_authentications"
	// CodeMutualTLSRequired: clients are told to call without the TLS that servers insist on.
	CodeMutualTLSRequired = "mutual_tls_required"
	// CodeAllowAny: unknown hosts are not refused.
	CodeAllowAny = "allow_any"
)

// The egress gateway that is there without any object.
const (
	gatewayHost      = "istio-egressgateway.istio-system.svc.cluster.local"
	gatewayNamespace = "istio-system"
	domain           = "cluster.local"
)

func gatewayLabels() map[string]string {
	return map[string]string{"istio": "egressgateway", "app": "istio-egressgateway"}
}

// Analyze checks the objects together. The problems are sorted by position. Of services there
// are those that the objects make, and the egress gateway.
func Analyze(objects istioapi.Objects) []istioapi.Problem {
	return newAnalysis(objects, mesh.Options{BuiltIn: []*mesh.Service{builtInGateway(objects)}}).run()
}

// InCluster is Analyze for objects of a cluster; o is what its mesh has besides.
func InCluster(objects istioapi.Objects, o mesh.Options) []istioapi.Problem {
	return newAnalysis(objects, o).run()
}

func (a *analysis) run() []istioapi.Problem {
	a.policy()
	a.serviceEntries()
	a.gateways()
	a.virtualServices()
	a.destinationRules()
	a.sidecars()
	a.peerAuthentications()
	a.telemetries()
	for _, p := range a.building { // what analysis has told better stays so
		if !slices.ContainsFunc(a.problems, func(q istioapi.Problem) bool { return q.Object == p.Object && q.Field == p.Field }) {
			a.problems = append(a.problems, p)
		}
	}
	istioapi.Sort(a.problems)
	return a.problems
}

// analysis is one run: the objects, indexed, and what was found.
type analysis struct {
	objects  istioapi.Objects
	config   *meshconfig.MeshConfig // never nil
	snapshot *mesh.Snapshot
	services []*mesh.Service
	byHost   map[string][]*mesh.Service
	byName   map[string]*istioapi.Gateway // "namespace/name"
	rules    map[string][]*istioapi.DestinationRule
	problems []istioapi.Problem
	building []istioapi.Problem // what is found where the mesh is built
}

func newAnalysis(objects istioapi.Objects, o mesh.Options) *analysis {
	a := &analysis{
		objects: objects,
		config:  &meshconfig.MeshConfig{},
		byHost:  make(map[string][]*mesh.Service),
		byName:  make(map[string]*istioapi.Gateway),
		rules:   make(map[string][]*istioapi.DestinationRule),
	}
	if objects.MeshConfig != nil && objects.MeshConfig.Spec != nil {
		a.config = objects.MeshConfig.Spec
	}
	a.snapshot, a.building = mesh.New(objects, o)
	a.services = a.snapshot.Services()
	a.reserved(a.building)
	for _, s := range a.services {
		a.byHost[s.Host] = append(a.byHost[s.Host], s)
	}
	for _, g := range objects.Gateways {
		a.byName[g.Namespace+"/"+g.Name] = g
	}
	for _, r := range objects.DestinationRules {
		host := mesh.ResolveHost(r.Spec.GetHost(), r.Namespace, domain)
		a.rules[host] = append(a.rules[host], r)
	}
	return a
}

// builtInGateway is the egress gateway's service: 80, 443 and every port that a
// Gateway for it has.
func builtInGateway(objects istioapi.Objects) *mesh.Service {
	s := &mesh.Service{
		Host: gatewayHost, Namespace: gatewayNamespace, Internal: true, Resolution: mesh.ResolutionStatic,
		Source: istioapi.Ref{Kind: "Service", Namespace: gatewayNamespace, Name: "istio-egressgateway"},
		Ports: []mesh.Port{
			{Number: 80, Name: "http2", Protocol: mesh.ProtocolHTTP, Declared: "HTTP2"},
			{Number: 443, Name: "https", Protocol: mesh.ProtocolHTTPS, Declared: "HTTPS"},
		},
		Endpoints: []mesh.Endpoint{{Address: "127.0.0.1", Labels: gatewayLabels()}},
	}
	for _, g := range objects.Gateways {
		if !mesh.SelectedBy(g.Spec.GetSelector(), gatewayLabels()) {
			continue
		}
		for _, server := range g.Spec.GetServers() {
			if p := server.GetPort(); !hasPort(s, p.GetNumber()) {
				s.Ports = append(s.Ports, mesh.Port{
					Number: p.GetNumber(), Name: fmt.Sprintf("port-%d", p.GetNumber()), Protocol: mesh.ProtocolOf(p.GetProtocol()),
				})
			}
		}
	}
	return s
}

func hasPort(s *mesh.Service, number uint32) bool {
	return slices.ContainsFunc(s.Ports, func(p mesh.Port) bool { return p.Number == number })
}

func (a *analysis) add(severity istioapi.Severity, m *istioapi.Meta, code, path, format string, args ...any) {
	a.problems = append(a.problems, m.Problem(severity, code, path, format, args...))
}

// visible reports whether an object with exportTo, of the namespace own, is seen in to.
func visible(exportTo, defaults []string, own, to string) bool {
	if len(exportTo) == 0 {
		exportTo = defaults
	}
	if len(exportTo) == 0 {
		return true
	}
	return slices.ContainsFunc(exportTo, func(e string) bool {
		return e == "*" || e == to || e == "." && own == to
	})
}

func (a *analysis) serviceVisible(s *mesh.Service, to string) bool {
	return visible(s.ExportTo, a.config.GetDefaultServiceExportTo(), s.Namespace, to)
}

// seen lists the services of a host that a namespace sees, and whether there are any at all.
func (a *analysis) seen(host, namespace string) (seen []*mesh.Service, exists bool) {
	for _, s := range a.byHost[host] {
		if a.serviceVisible(s, namespace) {
			seen = append(seen, s)
		}
	}
	return seen, len(a.byHost[host]) > 0
}

// any reports whether a service's host overlaps with host.
func (a *analysis) any(host string) bool {
	if len(a.byHost[host]) > 0 {
		return true
	}
	return slices.ContainsFunc(a.services, func(s *mesh.Service) bool { return mesh.HostsOverlap(s.Host, host) })
}

// covering is the wildcard host of a service that has host, or "".
func (a *analysis) covering(host string) string {
	rest := strings.TrimPrefix(host, "*.")
	for {
		_, after, ok := strings.Cut(rest, ".")
		if !ok {
			return ""
		}
		if len(a.byHost["*."+after]) > 0 {
			return "*." + after
		}
		rest = after
	}
}

// nearest is "; did you mean %q?" for a host that differs by little.
func (a *analysis) nearest(host string) string {
	hosts := make([]string, 0, len(a.byHost))
	for h := range a.byHost {
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	return istioapi.Suggest(host, hosts)
}

// policy tells where unknown hosts are not refused.
func (a *analysis) policy() {
	if m := a.objects.MeshConfig; m != nil {
		p := a.config.GetOutboundTrafficPolicy()
		if p != nil && p.GetMode() != meshconfig.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY {
			a.add(istioapi.Info, &m.Meta, CodeAllowAny, "data.mesh.outboundTrafficPolicy.mode",
				"is %s: hosts that are not in the registry can be called", p.GetMode())
		}
	}
	for _, s := range a.objects.Sidecars {
		if p := s.Spec.GetOutboundTrafficPolicy(); p != nil && p.GetMode() == networking.OutboundTrafficPolicy_ALLOW_ANY {
			a.add(istioapi.Info, &s.Meta, CodeAllowAny, "spec.outboundTrafficPolicy.mode",
				"is ALLOW_ANY: the workloads of this Sidecar can call hosts that are not in the registry")
		}
	}
}
