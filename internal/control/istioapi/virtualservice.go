package istioapi

import (
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	networking "istio.io/api/networking/v1alpha3"
)

// meshGateway is the reserved name that stands for all sidecars.
const meshGateway = "mesh"

func (c *checker) virtualService(v *networking.VirtualService) {
	c.gatewayNames("spec.gateways", v.Gateways)
	c.virtualHosts(v)
	if len(v.Http) == 0 && len(v.Tls) == 0 && len(v.Tcp) == 0 {
		c.fail(CodeMissing, "spec", "has no routes: one of http, tls and tcp is required")
	}
	for i, r := range v.Http {
		at := index("spec.http", i)
		c.httpRoute(r, at)
		for j, m := range r.Match {
			c.matchGateways(v, index(at+".match", j), m.Gateways)
		}
	}
	for i, r := range v.Tls {
		c.tlsRoute(v, r, index("spec.tls", i))
	}
	for i, r := range v.Tcp {
		c.tcpRoute(v, r, index("spec.tcp", i))
	}
	c.exportTo("spec.exportTo", v.ExportTo, false)
	c.unreachable(v)
}

func (c *checker) virtualHosts(v *networking.VirtualService) {
	if len(v.Hosts) == 0 {
		c.fail(CodeMissing, "spec.hosts", "is required: at least one host (a VirtualService without hosts is a delegate, which egret does not support yet)")
	}
	mesh := len(v.Gateways) == 0 || slices.Contains(v.Gateways, meshGateway)
	valid := true
	for i, h := range v.Hosts {
		at := index("spec.hosts", i)
		switch {
		case h == "*" && mesh:
			c.fail(CodeInvalidHost, at, `"*" is not possible for sidecars (gateway "mesh"); name the hosts, or bind to gateways only`)
			valid = false
		case !isIP(h):
			valid = c.host(at, checkWildcard(h)) && valid
		}
	}
	for i, h := range v.Hosts {
		for _, earlier := range v.Hosts[:i] {
			if valid && (hostMatches(h, earlier) || hostMatches(earlier, h)) {
				c.fail(CodeDuplicate, index("spec.hosts", i), "%q overlaps with %q", h, earlier)
			}
		}
	}
}

func (c *checker) gatewayNames(path string, names []string) {
	for i, n := range names {
		at := index(path, i)
		namespace, name, ok := strings.Cut(n, "/")
		switch {
		case !ok && strings.Contains(n, "."):
			parts := strings.Split(n, ".")
			if c.host(at, checkFQDN(n)) {
				c.warn(CodeNoEffect, at, "%q is the old form of a gateway's name; better write %q", n, parts[1]+"/"+parts[0])
			}
		case !ok && !IsLabel(n):
			c.fail(CodeInvalid, at, "%q is not the name of a gateway", n)
		case ok && (!IsLabel(namespace) || !IsLabel(name)):
			c.fail(CodeInvalid, at, `%q must have the form "namespace/name"`, n)
		}
	}
}

// matchGateways checks the names in a match, and that the VirtualService is bound to them.
func (c *checker) matchGateways(v *networking.VirtualService, at string, names []string) {
	c.gatewayNames(at+".gateways", names)
	bound := v.Gateways
	if len(bound) == 0 {
		bound = []string{meshGateway}
	}
	for i, n := range names {
		if !slices.ContainsFunc(bound, func(b string) bool { return c.gatewayName(b) == c.gatewayName(n) }) {
			c.warn(CodeNoEffect, index(at+".gateways", i), "%q is not in spec.gateways, so this never matches%s", n, Suggest(n, bound))
		}
	}
}

func (c *checker) gatewayName(n string) string {
	if n == meshGateway || strings.Contains(n, "/") {
		return n
	}
	if parts := strings.Split(n, "."); len(parts) > 1 {
		return parts[1] + "/" + parts[0]
	}
	return c.m.Namespace + "/" + n
}

func (c *checker) tlsRoute(v *networking.VirtualService, r *networking.TLSRoute, at string) {
	if len(r.Match) == 0 {
		c.fail(CodeMissing, at+".match", "is required, with sniHosts")
	}
	for i, m := range r.Match {
		matchAt := index(at+".match", i)
		if len(m.SniHosts) == 0 {
			c.fail(CodeMissing, matchAt+".sniHosts", "is required: at least one host")
		}
		for j, h := range m.SniHosts {
			c.sniHost(v, h, index(matchAt+".sniHosts", j))
		}
		c.layer4Match(matchAt, m.DestinationSubnets, m.Port, m.SourceLabels, m.SourceNamespace)
		c.matchGateways(v, matchAt, m.Gateways)
	}
	c.routeDestinations(r.Route, at+".route")
}

func (c *checker) sniHost(v *networking.VirtualService, host, at string) {
	if _, err := netip.ParseAddr(host); err == nil {
		c.warn(CodeNoEffect, at, "an IP address is never sent as SNI (RFC 6066, section 3)")
		return
	}
	if !c.host(at, checkWildcard(host)) {
		return
	}
	if !slices.ContainsFunc(v.Hosts, func(h string) bool { return hostMatches(h, host) }) {
		c.fail(CodeInvalidHost, at, "%q is not among the hosts of the VirtualService (%s)", host, strings.Join(v.Hosts, ", "))
	}
}

func (c *checker) tcpRoute(v *networking.VirtualService, r *networking.TCPRoute, at string) {
	for i, m := range r.Match {
		matchAt := index(at+".match", i)
		c.refused(m.SourceSubnet != "", matchAt+".sourceSubnet", "ignoring it would take connections from every source; use sourceLabels")
		c.layer4Match(matchAt, m.DestinationSubnets, m.Port, m.SourceLabels, m.SourceNamespace)
		c.matchGateways(v, matchAt, m.Gateways)
	}
	c.routeDestinations(r.Route, at+".route")
}

func (c *checker) layer4Match(at string, subnets []string, port uint32, labels map[string]string, namespace string) {
	for i, s := range subnets {
		c.cidr(index(at+".destinationSubnets", i), s)
	}
	c.matchSource(at, port, labels, namespace)
}

func (c *checker) matchSource(at string, port uint32, labels map[string]string, namespace string) {
	if port != 0 {
		c.port(at+".port", port)
	}
	c.labels(at+".sourceLabels", labels)
	if namespace != "" {
		c.label(at+".sourceNamespace", "namespace", namespace)
	}
}

func (c *checker) routeDestinations(routes []*networking.RouteDestination, at string) {
	if len(routes) == 0 {
		c.fail(CodeMissing, at, "is required: at least one destination")
	}
	weights := make([]int32, len(routes))
	for i, r := range routes {
		c.destination(r.Destination, index(at, i)+".destination")
		weights[i] = r.Weight
	}
	c.weights(weights, at)
}

func (c *checker) weights(weights []int32, at string) {
	total := int64(0)
	for i, w := range weights {
		if w < 0 {
			c.fail(CodeInvalid, index(at, i)+".weight", "is negative")
			return
		}
		total += int64(w)
	}
	if len(weights) > 1 && total == 0 {
		c.fail(CodeInvalid, at, "the weights of all destinations are 0: no destination can be chosen")
	}
}

func (c *checker) destination(d *networking.Destination, at string) {
	if d == nil {
		c.fail(CodeMissing, at, "is required")
		return
	}
	switch {
	case d.Host == "":
		c.fail(CodeMissing, at+".host", "is required")
	case d.Host == "*":
		c.fail(CodeInvalidHost, at+".host", `"*" is not a destination`)
	default:
		c.host(at+".host", checkWildcard(d.Host))
	}
	if d.Subset != "" {
		c.label(at+".subset", "subset name", d.Subset)
	}
	if d.Port != nil {
		c.port(at+".port.number", d.Port.Number)
	}
}

// unreachable warns about rules that can never be chosen: those after a rule that
// takes everything, and matches that are there twice.
func (c *checker) unreachable(v *networking.VirtualService) {
	http := make([][]proto.Message, len(v.Http))
	for i, r := range v.Http {
		for _, m := range r.Match {
			unnamed := proto.Clone(m).(*networking.HTTPMatchRequest)
			unnamed.Name, unnamed.StatPrefix = "", ""
			http[i] = append(http[i], unnamed)
		}
	}
	c.unreachableRules("spec.http", http)
	tls := make([][]proto.Message, len(v.Tls))
	for i, r := range v.Tls {
		tls[i] = messages(r.Match)
	}
	c.unreachableRules("spec.tls", tls)
	tcp := make([][]proto.Message, len(v.Tcp))
	for i, r := range v.Tcp {
		tcp[i] = messages(r.Match)
	}
	c.unreachableRules("spec.tcp", tcp)
}

func messages[T proto.Message](list []T) []proto.Message {
	out := make([]proto.Message, len(list))
	for i, m := range list {
		out[i] = m
	}
	return out
}

func (c *checker) unreachableRules(at string, rules [][]proto.Message) {
	if len(rules) < 2 && (len(rules) == 0 || len(rules[0]) < 2) {
		return
	}
	seen := map[string]string{} // a match as bytes -> where
	catchAll := ""
	for i, matches := range rules {
		ruleAt := index(at, i)
		if catchAll != "" {
			c.warn(CodeUnreachableRule, ruleAt, "is never used: %s takes everything", catchAll)
			continue
		}
		if len(matches) == 0 {
			catchAll = ruleAt
		}
		for j, m := range matches {
			matchAt := index(ruleAt+".match", j)
			if proto.Size(m) == 0 {
				catchAll = ruleAt
			}
			key, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if first, dup := seen[string(key)]; dup {
				c.warn(CodeUnreachableRule, matchAt, "is never used: it is the same as %s", first)
				continue
			}
			seen[string(key)] = matchAt
		}
	}
}
