package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Gateways lists the Gateway objects whose selector selects the node (an empty
// selector selects every gateway), from any namespace, oldest first.
func (s *Snapshot) Gateways(n Node) []*istioapi.Gateway {
	if n.Type != NodeRouter {
		return nil
	}
	var out []*istioapi.Gateway
	for _, g := range s.gateways {
		if subset(g.Spec.GetSelector(), n.Labels) {
			out = append(out, g)
		}
	}
	return out
}

// TargetPort is the port that the node's own service maps number to: the one of the
// first service that selects the node by its labels, or has an endpoint at one of its
// addresses. Without such a service it is the number itself. This is Istio's rule for
// the port that a Gateway server is bound to.
func (s *Snapshot) TargetPort(n Node, number uint32) uint32 {
	for _, svc := range s.services {
		i := slices.IndexFunc(svc.Ports, func(p Port) bool { return p.Number == number })
		if i < 0 {
			continue
		}
		if svc.Registry == RegistryKubernetes && len(svc.Selector) > 0 {
			if svc.selects(n) {
				return cmp.Or(svc.target(n, svc.Ports[i]), number)
			}
			continue
		}
		for j := range svc.Endpoints {
			e := &svc.Endpoints[j]
			if a, err := netip.ParseAddr(e.Address); err != nil || !slices.Contains(n.Addresses, a) {
				continue
			}
			if target, ok := e.Port(svc.Ports[i]); ok {
				return target
			}
		}
	}
	return number
}

// ServerHosts are a Gateway server's hosts with their namespace part resolved: a
// bare host means any namespace ("*"), "./host" the Gateway's own.
func ServerHosts(g *istioapi.Gateway, server *networking.Server) []ServerHost {
	out := make([]ServerHost, 0, len(server.GetHosts()))
	for _, h := range server.GetHosts() {
		ns, host, ok := strings.Cut(h, "/")
		if !ok {
			ns, host = "*", h
		}
		if ns == "." {
			ns = g.Namespace
		}
		out = append(out, ServerHost{Namespace: ns, Host: strings.ToLower(host)})
	}
	return out
}

// ServerHost is one host of a Gateway server, for VirtualServices of Namespace ("*": any).
type ServerHost struct{ Namespace, Host string }

// Intersect lists the hosts that a server and a VirtualService have in common, the
// more specific one of each overlapping pair, in the VirtualService's order.
func Intersect(hosts []ServerHost, v *VirtualService) []string {
	var out []string
	for _, vh := range v.Hosts {
		for _, sh := range hosts {
			if sh.Namespace != "*" && sh.Namespace != v.Namespace {
				continue
			}
			common := ""
			switch {
			case HostWithin(vh, sh.Host):
				common = vh
			case HostWithin(sh.Host, vh):
				common = sh.Host
			default:
				continue
			}
			if !slices.Contains(out, common) {
				out = append(out, common)
			}
		}
	}
	return out
}

// gatewayProblems tells which servers are not served.
func (s *Snapshot) gatewayProblems() []istioapi.Problem {
	var out []istioapi.Problem
	pods := s.unprivilegedGateways()
	for _, g := range s.gateways {
		for i, server := range g.Spec.GetServers() {
			if p := s.closedPort(g, server, pods); p != "" && ServerKindOf(server) != ServerRefused {
				out = append(out, problem(istioapi.Warning, &g.Meta, "gateway_port_not_open", fmt.Sprintf("spec.servers[%d].port.number", i), p))
			}
			field := fmt.Sprintf("spec.servers[%d].tls.mode", i)
			switch mode := server.GetTls().GetMode(); {
			case ServerKindOf(server) != ServerRefused:
			case mode == networking.ServerTLSSettings_AUTO_PASSTHROUGH:
				out = append(out, problem(istioapi.Error, &g.Meta, "auto_passthrough_refused", field,
					"AUTO_PASSTHROUGH would let clients choose any cluster by SNI: the server is not served; use PASSTHROUGH with VirtualService tls routes"))
			default:
				out = append(out, problem(istioapi.Error, &g.Meta, "gateway_tls_not_supported", field,
					fmt.Sprintf("TLS cannot be ended so (mode %s, protocol %s; certificates must be files): the server is not served", mode, server.GetPort().GetProtocol())))
			}
		}
	}
	return out
}

// unprivilegedGateways are the pods behind the services of gateways that cannot listen on ports
// below 1024: one for each service.
func (s *Snapshot) unprivilegedGateways() (out []Node) {
	for _, svc := range s.services {
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			if a, err := netip.ParseAddr(e.Address); err == nil && e.Unprivileged {
				out = append(out, Node{Type: NodeRouter, Name: svc.Source.Name, Namespace: cmp.Or(e.Namespace, svc.Namespace), Labels: e.Labels, Addresses: []netip.Addr{a}})
				break
			}
		}
	}
	return out
}

// closedPort says why a server is not served by pods that it is meant for; "" where it is.
func (s *Snapshot) closedPort(g *istioapi.Gateway, server *networking.Server, pods []Node) string {
	number := server.GetPort().GetNumber()
	for _, n := range pods {
		if port := s.TargetPort(n, number); port < 1024 && subset(g.Spec.GetSelector(), n.Labels) {
			return fmt.Sprintf("the pods of %s/%s may not listen on port %d (below 1024), so the server is not served there: give that Service a port %d with a targetPort of 1024 or above",
				n.Namespace, n.Name, port, number)
		}
	}
	return ""
}

// ServerKind is what a Gateway server is to us.
type ServerKind uint8

// Server kinds.
const (
	ServerRefused ServerKind = iota // AUTO_PASSTHROUGH, certificates that are no files, UDP
	ServerHTTP
	ServerPassthrough // TLS by SNI, not decrypted
	ServerTCP
	ServerHTTPS // TLS is ended, HTTP inside
	ServerTLS   // TLS is ended, any bytes inside
)

// Secure reports whether clients begin with TLS. Servers of these kinds can share a
// port: their hosts tell them apart by SNI.
func (k ServerKind) Secure() bool {
	return k == ServerPassthrough || k == ServerHTTPS || k == ServerTLS
}

// ServerKindOf tells what a server is. tls.httpsRedirect on an HTTP server is HTTP.
func ServerKindOf(server *networking.Server) ServerKind {
	tls := server.GetTls()
	protocol := ProtocolOf(server.GetPort().GetProtocol())
	switch protocol {
	case ProtocolHTTP:
		return ServerHTTP
	case ProtocolHTTPS, ProtocolTLS:
		switch {
		case tls == nil || tls.GetHttpsRedirect():
		case tls.GetMode() == networking.ServerTLSSettings_PASSTHROUGH:
			return ServerPassthrough
		case !istioapi.EndsTLS(tls):
		case protocol == ProtocolHTTPS:
			return ServerHTTPS
		default:
			return ServerTLS
		}
	case ProtocolTCP:
		if tls == nil {
			return ServerTCP
		}
	}
	return ServerRefused
}
