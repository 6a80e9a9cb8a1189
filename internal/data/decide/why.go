package decide

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// This file says why something was denied and what would allow it. It runs only
// for denials, and may allocate.

// Refusal is the reason and the sentence for a destination that the registry does
// not have. host is what the client names (Host without port, SNI), "" for none;
// protocol is "HTTP", "TLS" or "TCP". The proxy calls it too, for what it sniffs
// on a connection that was refused already. The need is what has to be asked to tell.
func Refusal(cfg *config.Config, c *Conn, host, protocol string) (reason.Reason, string, config.Need) {
	return refusal(cfg, c, c.Answers, host, protocol)
}

func refusal(cfg *config.Config, c *Conn, answers config.Answers, host, protocol string) (reason.Reason, string, config.Need) {
	port := c.Destination.Port()
	host = strings.TrimSuffix(host, ".")
	nothing := config.Need{}
	if host != "" {
		switch same, need := c.agrees(cfg, answers, host); {
		case need.Kind != config.NeedNothing:
			return "", "", need
		case !same && protocol == "TLS":
			return reason.SNIMismatch, mismatchDetail(cfg, c, host, "TLS server name"), nothing
		case !same:
			return reason.HostMismatch, mismatchDetail(cfg, c, host, "Host header"), nothing
		}
	}
	name := host
	if _, literal := match.LiteralAddress(host); literal || name == "" {
		name = c.opened(cfg)
	}
	switch {
	case name == "" && host != "":
		return reason.AddressNotInRegistry, addressDetail(host, port, protocol), nothing
	case name == "":
		return reason.AddressNotInRegistry, addressDetail(c.Destination.Addr().Unmap().String(), port, protocol), nothing
	case c.Binding.Unregistered:
		return reason.NotInRegistry, notInRegistryDetail(name, port, protocol), nothing
	case cfg.Registered(name):
		return reason.PortNotInRegistry, portDetail(cfg, name, port, protocol), nothing
	}
	if n := lacksName(cfg, answers, name); n.Kind != config.NeedNothing {
		return "", "", n
	}
	return reason.NotInRegistry, notInRegistryDetail(name, port, protocol), nothing
}

// whyConnection is Refusal for a TCP chain that leads to BlackHoleCluster.
func whyConnection(cfg *config.Config, l *resource.Listener, c *Conn) (reason.Reason, string, config.Need) {
	if name := c.opened(cfg); c.Transport == "tls" && c.SNI == "" && name != "" && !c.Binding.Unregistered {
		named, need := hasServerName(cfg, l, c, name)
		if need.Kind != config.NeedNothing {
			return "", "", need
		}
		if named {
			return reason.SNIMissing, fmt.Sprintf("TLS to %s:%d carries no server name (SNI), and the name decides on this port; a client that sends the SNI %s would be let through",
				printable(name), c.Destination.Port(), printable(name)), need
		}
	}
	return Refusal(cfg, c, c.SNI, protocolOf(c))
}

// hasServerName reports whether a filter chain of l is for this server name.
func hasServerName(cfg *config.Config, l *resource.Listener, c *Conn, name string) (bool, config.Need) {
	if l.HasServerName(name) || l.OnDemand == "" || !match.IsHostName(name) {
		return l.HasServerName(name), config.Need{}
	}
	n := config.Need{Kind: config.NeedFilterChain, Of: l.OnDemand, Name: name}
	if cfg.Held(n) != nil {
		return true, config.Need{}
	}
	if c.Answers.Of(n).Outcome == config.Absent {
		return false, config.Need{}
	}
	return false, n
}

func notInRegistryDetail(host string, port uint16, protocol string) string {
	host = printable(host)
	return fmt.Sprintf("%s is not in the registry (outboundTrafficPolicy REGISTRY_ONLY); a ServiceEntry with host %s and port %d (%s) would allow it", host, host, port, protocol)
}

func addressDetail(address string, port uint16, protocol string) string {
	address = printable(address)
	return fmt.Sprintf("the address %s is not in the registry (outboundTrafficPolicy REGISTRY_ONLY); a ServiceEntry with address %s and port %d (%s) would allow it", address, address, port, protocol)
}

func portDetail(cfg *config.Config, host string, port uint16, protocol string) string {
	known := ""
	if ports := knownPorts(cfg, host); len(ports) > 0 {
		known = " (it is for " + strings.Join(ports, ", ") + ")"
	}
	host = printable(host)
	return fmt.Sprintf("%s is in the registry, but not for port %d with %s%s; a ServiceEntry with host %s and port %d (%s) would allow it", host, port, protocol, known, host, port, protocol)
}

// knownPorts are the ports that a host is known for, as far as route
// configurations ("80", "http.80") and server names tell.
func knownPorts(cfg *config.Config, host string) []string {
	var ports []int
	for name, rc := range cfg.Routes {
		n, err := strconv.Atoi(name[strings.LastIndexByte(name, '.')+1:])
		if err == nil && cfg.HasHost(rc, match.Lower(host)) {
			ports = append(ports, n)
		}
	}
	for _, n := range cfg.ServerNamePorts(match.Lower(host)) {
		ports = append(ports, int(n))
	}
	slices.Sort(ports)
	var out []string
	for _, n := range slices.Compact(ports) {
		out = append(out, strconv.Itoa(n))
	}
	return out
}

func mismatchDetail(cfg *config.Config, c *Conn, host, what string) string {
	opened := c.opened(cfg)
	if opened == "" {
		opened = "the address " + c.Destination.Addr().Unmap().String()
	}
	return fmt.Sprintf("the %s names %s, but the connection was opened to %s (port %d); a connection opened to %s by its name would be judged by that name",
		what, printable(host), printable(opened), c.Destination.Port(), printable(host))
}

func noChainDetail(l *resource.Listener, c *Conn) string {
	if c.Transport == rawBuffer && onlyTLS(l, c.Destination.Port()) {
		return fmt.Sprintf("listener %s takes nothing but TLS on port %d, and what came from %s is in the clear; a client that shows a certificate may be let through",
			l.Name, c.Destination.Port(), c.Source.Addr())
	}
	if c.Transport == "tls" && c.SNI == "" {
		return fmt.Sprintf("no filter chain of listener %s takes TLS without a server name (SNI) on port %d; a client that sends one may be let through", l.Name, c.Destination.Port())
	}
	what := protocolOf(c)
	if c.SNI != "" {
		what += " with server name " + printable(c.SNI)
		return fmt.Sprintf("no filter chain of listener %s takes %s on port %d; a Gateway server and a VirtualService with host %s would allow it", l.Name, what, c.Destination.Port(), printable(c.SNI))
	}
	return fmt.Sprintf("no filter chain of listener %s takes %s from %s to %s", l.Name, what, c.Source, c.Destination)
}

// rawBuffer is the transport protocol of what is no TLS.
const rawBuffer = "raw_buffer"

// onlyTLS: the chains that the listener has for a port end the TLS of clients that must show a
// certificate.
func onlyTLS(l *resource.Listener, port uint16) bool {
	own := slices.ContainsFunc(l.FilterChains, func(c *resource.FilterChain) bool { return c.Match.DestinationPort == port })
	found := false
	for _, c := range l.FilterChains {
		if own && c.Match.DestinationPort != port || !own && c.Match.DestinationPort != 0 {
			continue
		}
		if c.TLS == nil || !c.TLS.RequireClientCertificate {
			return false
		}
		found = true
	}
	return found
}

func noRouteDetail(rc *resource.RouteConfiguration, vh *resource.VirtualHost, r *Request) string {
	host := printable(match.Name(r.Authority))
	if vh == nil {
		return fmt.Sprintf("no virtual host of route configuration %s names %s; a VirtualService with host %s for this gateway and port would allow it", rc.Name, host, host)
	}
	path, _, _ := strings.Cut(r.Path, "?")
	return fmt.Sprintf("no route of virtual host %s matches %s %s; an http route of a VirtualService with host %s that matches it would allow it", vh.Name, printable(r.Method), printable(path), host)
}

func connectDetail(r *Request) string {
	return fmt.Sprintf("no route allows CONNECT to %s; a plain request to the host would be judged by its own rules", printable(r.Authority))
}

func upgradeDetail(r *Request) string {
	return fmt.Sprintf("the request asks to upgrade the connection to %s, which the configuration for %s does not allow", printable(r.Upgrade), printable(match.Name(r.Authority)))
}

// printable bounds a text from the network for a sentence: 253 bytes (the longest
// host name), visible ASCII only.
func printable(s string) string {
	const most = 253
	cut := len(s) > most
	if cut {
		s = s[:most]
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if cut {
		s += "..."
	}
	return s
}
