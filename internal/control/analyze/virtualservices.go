package analyze

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

func (a *analysis) virtualServices() {
	meshHosts := make(map[string][]*istioapi.VirtualService)
	for _, v := range a.objects.VirtualServices {
		b := resolve(v)
		a.boundGateways(b)
		for i, h := range b.Hosts {
			if slices.Contains(b.gateways, mesh.MeshGateway) {
				a.meshHost(b, h, fmt.Sprintf("spec.hosts[%d]", i))
				a.conflicts(b, h, fmt.Sprintf("spec.hosts[%d]", i), meshHosts)
			}
		}
		a.routes(b)
	}
}

// boundGateways checks the Gateways that a VirtualService names.
func (a *analysis) boundGateways(v bound) {
	for i, name := range v.gateways {
		if name == mesh.MeshGateway {
			continue
		}
		at := fmt.Sprintf("spec.gateways[%d]", i)
		g := a.byName[name]
		if g == nil {
			a.add(istioapi.Error, &v.Meta, CodeUnknownGateway, at, "there is no Gateway %q%s", name, a.gatewayElsewhere(name))
			continue
		}
		if !visible(v.Spec.GetExportTo(), a.config.GetDefaultVirtualServiceExportTo(), v.Namespace, gatewayNamespace) {
			a.add(istioapi.Warning, &v.Meta, CodeHidden, "spec.exportTo",
				"hides this VirtualService from the gateway, which is in namespace %q: it has no effect there", gatewayNamespace)
		}
		var hosts []mesh.ServerHost
		for _, s := range g.Spec.GetServers() {
			hosts = append(hosts, mesh.ServerHosts(g, s)...)
		}
		for j, h := range v.Hosts {
			one := &mesh.VirtualService{VirtualService: v.VirtualService.VirtualService, Hosts: []string{h}}
			if len(mesh.Intersect(hosts, one)) == 0 {
				a.add(istioapi.Warning, &v.Meta, CodeHostNotInGateway, fmt.Sprintf("spec.hosts[%d]", j),
					"%q is not among the hosts of %s (%s): the gateway does not route it", h, g.Ref, g.Position)
			}
		}
	}
}

// gatewayElsewhere hints at a Gateway of the same name in another namespace.
func (a *analysis) gatewayElsewhere(name string) string {
	_, short, _ := strings.Cut(name, "/")
	for _, g := range a.objects.Gateways {
		if g.Name == short {
			return fmt.Sprintf("; did you mean %q?", g.Namespace+"/"+g.Name)
		}
	}
	return ""
}

// meshHost checks a host that sidecars route.
func (a *analysis) meshHost(v bound, host, at string) {
	if !a.any(host) {
		what := "calls to it are refused before this VirtualService is looked at"
		if firstForSidecars(v, v.Spec.GetHttp()) >= 0 {
			what = "only plain HTTP on port 80 is routed, other calls to it are refused"
		}
		a.add(istioapi.Warning, &v.Meta, CodeUnknownHost, at,
			"no ServiceEntry has %q: under REGISTRY_ONLY %s%s", host, what, a.nearest(host))
		return
	}
	seen, _ := a.seen(host, v.Namespace)
	if len(seen) == 0 {
		return
	}
	var http, tls, tcp bool
	for _, s := range seen {
		for _, p := range s.Ports {
			http = http || p.Protocol.MayBeHTTP()
			tls = tls || p.Protocol.IsTLS()
			tcp = tcp || p.Protocol.MayBeTCP()
		}
	}
	warn := func(kind string, rule int, protocols string) {
		if rule >= 0 {
			a.add(istioapi.Warning, &v.Meta, CodeRouteProtocol, fmt.Sprintf("spec.%s[%d]", kind, rule),
				"is never used by sidecars: %q has no %s port in the registry", host, protocols)
		}
	}
	if !http {
		warn("http", firstForSidecars(v, v.Spec.GetHttp()), "HTTP")
	}
	if !tls {
		warn("tls", firstForSidecars(v, v.Spec.GetTls()), "HTTPS or TLS")
	}
	if !tcp && !tls {
		warn("tcp", firstForSidecars(v, v.Spec.GetTcp()), "TCP")
	}
}

// matcher is what the matches of the three kinds of routes have in common.
type matcher interface{ GetGateways() []string }

// gatewayLists are the lists of gateways of a rule's matches.
func gatewayLists[M matcher](matches []M) [][]string {
	var out [][]string
	for _, m := range matches {
		out = append(out, m.GetGateways())
	}
	return out
}

// firstForSidecars is the first rule that sidecars use, or -1.
func firstForSidecars[M matcher, R interface{ GetMatch() []M }](v bound, rules []R) int {
	return slices.IndexFunc(rules, func(r R) bool {
		lists := gatewayLists(r.GetMatch())
		return len(lists) == 0 || slices.ContainsFunc(lists, func(l []string) bool {
			return len(l) == 0 || slices.Contains(l, mesh.MeshGateway)
		})
	})
}

// conflicts finds an earlier VirtualService for the same host in the mesh, that some
// namespace sees together with this one: then only one of them is used.
func (a *analysis) conflicts(v bound, host, at string, earlier map[string][]*istioapi.VirtualService) {
	defaults := a.config.GetDefaultVirtualServiceExportTo()
	for _, o := range earlier[host] {
		together := visible(v.Spec.GetExportTo(), defaults, v.Namespace, o.Namespace) ||
			visible(o.Spec.GetExportTo(), defaults, o.Namespace, v.Namespace)
		if together {
			a.add(istioapi.Error, &v.Meta, CodeConflictingHosts, at,
				"%q is also a host of %s (%s): sidecars use only one of the two. Put the routes into one VirtualService", host, o.Ref, o.Position)
			break
		}
	}
	earlier[host] = append(earlier[host], v.VirtualService.VirtualService)
}

// routes checks every destination.
func (a *analysis) routes(v bound) {
	for i, r := range v.Spec.GetHttp() {
		for j, d := range r.GetRoute() {
			a.destination(v, d.GetDestination(), fmt.Sprintf("spec.http[%d].route[%d].destination", i, j), gatewayLists(r.GetMatch()))
		}
		if r.GetMirror() != nil {
			a.destination(v, r.GetMirror(), fmt.Sprintf("spec.http[%d].mirror", i), gatewayLists(r.GetMatch()))
		}
		for j, m := range r.GetMirrors() {
			a.destination(v, m.GetDestination(), fmt.Sprintf("spec.http[%d].mirrors[%d].destination", i, j), gatewayLists(r.GetMatch()))
		}
	}
	for i, r := range v.Spec.GetTls() {
		for j, d := range r.GetRoute() {
			a.destination(v, d.GetDestination(), fmt.Sprintf("spec.tls[%d].route[%d].destination", i, j), gatewayLists(r.GetMatch()))
		}
	}
	for i, r := range v.Spec.GetTcp() {
		for j, d := range r.GetRoute() {
			a.destination(v, d.GetDestination(), fmt.Sprintf("spec.tcp[%d].route[%d].destination", i, j), gatewayLists(r.GetMatch()))
		}
	}
}

// users are the namespaces of the proxies that use a rule with these lists of
// gateways (one for each match): the VirtualService's own for sidecars, the egress
// gateway's for gateways.
func (v bound) users(lists [][]string) []string {
	if len(lists) == 0 {
		lists = [][]string{nil}
	}
	var out []string
	for _, list := range lists {
		names := v.gateways
		if len(list) > 0 {
			names = nil
			for _, g := range list {
				names = append(names, mesh.ResolveGateway(g, v.Namespace))
			}
		}
		for _, g := range names {
			user := gatewayNamespace
			if g == mesh.MeshGateway {
				user = v.Namespace
			}
			if slices.Contains(v.gateways, g) && !slices.Contains(out, user) {
				out = append(out, user)
			}
		}
	}
	return out
}

func (a *analysis) destination(v bound, d *networking.Destination, at string, lists [][]string) {
	host := mesh.ResolveHost(d.GetHost(), v.Namespace, domain)
	for _, user := range v.users(lists) {
		seen, exists := a.seen(host, user)
		switch {
		case !exists:
			a.unknownDestination(v, host, at)
			return
		case len(seen) == 0:
			owner := a.byHost[host][0]
			a.add(istioapi.Error, &v.Meta, CodeHidden, at+".host",
				"%q is hidden from namespace %q, where this route is used, by the exportTo of %s", host, user, owner.Source)
			return
		}
		if !a.port(v, d, seen, at) {
			return
		}
		if d.GetSubset() != "" && !a.subset(v, d, host, user, seen, at) {
			return
		}
	}
}

func (a *analysis) unknownDestination(v bound, host, at string) {
	if w := a.covering(host); w != "" {
		a.add(istioapi.Error, &v.Meta, CodeUnknownHost, at+".host",
			"the registry has %q only as part of %q, and a route needs the host as it is registered: add a ServiceEntry for %q, or route to %q", host, w, host, w)
		return
	}
	a.add(istioapi.Error, &v.Meta, CodeUnknownHost, at+".host",
		"the registry has no host %q: requests by this route fail (no_cluster). Add a ServiceEntry%s", host, a.nearest(host))
}

// port checks the destination's port; false after telling.
func (a *analysis) port(v bound, d *networking.Destination, services []*mesh.Service, at string) bool {
	var numbers []string
	for _, s := range services {
		for _, p := range s.Ports {
			if p.Number == d.GetPort().GetNumber() {
				return true
			}
			if n := fmt.Sprint(p.Number); !slices.Contains(numbers, n) {
				numbers = append(numbers, n)
			}
		}
	}
	switch {
	case d.GetPort() != nil:
		a.add(istioapi.Error, &v.Meta, CodeUnknownPort, at+".port.number",
			"%q has no port %d in the registry (it has %s)", d.GetHost(), d.GetPort().GetNumber(), strings.Join(numbers, ", "))
		return false
	case len(numbers) > 1:
		a.add(istioapi.Warning, &v.Meta, CodePortRequired, at,
			"%q has the ports %s, and none is named: the port that was called is used. Add port.number", d.GetHost(), strings.Join(numbers, ", "))
	}
	return true
}

// subset checks that some DestinationRule defines the subset for the user.
func (a *analysis) subset(v bound, d *networking.Destination, host, user string, services []*mesh.Service, at string) bool {
	var known []string
	hidden := ""
	for _, r := range a.rulesFor(host) {
		for _, s := range r.Spec.GetSubsets() {
			known = append(known, s.GetName())
			if s.GetName() != d.GetSubset() {
				continue
			}
			if a.ruleUsed(r, user, services) {
				a.subsetEndpoints(v, d, s, services, at)
				return true
			}
			hidden = r.Ref.String()
		}
	}
	switch {
	case hidden != "":
		a.add(istioapi.Error, &v.Meta, CodeHidden, at+".subset",
			"%s has the subset %q, but proxies in namespace %q do not use it: they look in their own namespace, the host's and the root namespace, as far as exportTo lets them",
			hidden, d.GetSubset(), user)
	default:
		a.add(istioapi.Error, &v.Meta, CodeUnknownSubset, at+".subset",
			"no DestinationRule for %q has the subset %q: requests by this route fail (no_cluster)%s", host, d.GetSubset(), istioapi.Suggest(d.GetSubset(), known))
	}
	return false
}

// ruleUsed reports whether proxies in namespace user find the rule for the services:
// in their own namespace, or exported to them in the services' or the root one.
func (a *analysis) ruleUsed(r *istioapi.DestinationRule, user string, services []*mesh.Service) bool {
	if r.Namespace == user {
		return true
	}
	root := cmp.Or(a.config.GetRootNamespace(), gatewayNamespace)
	looked := r.Namespace == root || slices.ContainsFunc(services, func(s *mesh.Service) bool { return s.Namespace == r.Namespace })
	return looked && visible(r.Spec.GetExportTo(), a.config.GetDefaultDestinationRuleExportTo(), r.Namespace, user)
}

// rulesFor lists the DestinationRules for a host: of the host itself, else of the
// nearest wildcard.
func (a *analysis) rulesFor(host string) []*istioapi.DestinationRule {
	if rules := a.rules[host]; len(rules) > 0 {
		return rules
	}
	rest := host
	for {
		_, after, ok := strings.Cut(rest, ".")
		if !ok {
			return a.rules["*"]
		}
		if rules := a.rules["*."+after]; len(rules) > 0 {
			return rules
		}
		rest = after
	}
}

func (a *analysis) subsetEndpoints(v bound, d *networking.Destination, s *networking.Subset, services []*mesh.Service, at string) {
	written := false
	for _, svc := range services {
		for _, e := range svc.Endpoints {
			written = true
			if mesh.SelectedBy(s.GetLabels(), e.Labels) {
				return
			}
		}
	}
	if written {
		a.add(istioapi.Warning, &v.Meta, CodeEmptySubset, at+".subset",
			"the labels of subset %q select none of the endpoints of %q: requests by this route fail (no_healthy_upstream)", d.GetSubset(), d.GetHost())
	}
}
