package mesh

import (
	"net/netip"
	"strings"
)

// MeshGateway is the reserved gateway name for "all sidecars".
const MeshGateway = "mesh"

// IsWildcard reports whether host is "*" or "*.suffix".
func IsWildcard(host string) bool { return strings.HasPrefix(host, "*") }

// HostsOverlap reports whether some name matches both a and b (Istio's
// host.Name.Matches).
func HostsOverlap(a, b string) bool {
	switch {
	case IsWildcard(a) && IsWildcard(b):
		if len(a) < len(b) {
			return strings.HasSuffix(b[1:], a[1:])
		}
		return strings.HasSuffix(a[1:], b[1:])
	case IsWildcard(a):
		return strings.HasSuffix(b, a[1:])
	case IsWildcard(b):
		return strings.HasSuffix(a, b[1:])
	}
	return a == b
}

// HostWithin reports whether every name that matches host also matches of
// (Istio's host.Name.SubsetOf).
func HostWithin(host, of string) bool {
	if !IsWildcard(of) {
		return host == of
	}
	if IsWildcard(host) {
		return len(host) >= len(of) && strings.HasSuffix(host[1:], of[1:])
	}
	return strings.HasSuffix(host, of[1:])
}

// ResolveHost makes a short name ("reviews") fully qualified in its object's
// namespace, as Istio does: names with a dot, "*" and addresses stay as they are.
// The result is in lower case.
func ResolveHost(name, namespace, domain string) string {
	name = strings.ToLower(name)
	if name == "" || name == "*" || strings.Contains(name, ".") {
		return name
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return name
	}
	if namespace != "" {
		name += "." + namespace
	}
	if domain != "" {
		name += ".svc." + domain
	}
	return name
}

// ResolveGateway makes a VirtualService's gateway name "namespace/name": a short
// name is in the object's namespace, "./x" too, and the old form "x.ns.svc.cluster.local"
// is understood as Istio does. "mesh" stays.
func ResolveGateway(name, namespace string) string {
	if name == MeshGateway {
		return name
	}
	if ns, rest, ok := strings.Cut(name, "/"); ok {
		if ns == "." {
			return namespace + "/" + rest
		}
		return name
	}
	short, rest, ok := strings.Cut(name, ".")
	if !ok {
		return namespace + "/" + name
	}
	ns, _, _ := strings.Cut(rest, ".")
	return ns + "/" + short
}

// parents calls f with "*.suffix" for each parent domain of host, longest first,
// then with "*"; it stops when f returns true. For "*.b.c" the parents begin with "*.c".
func parents(host string, f func(wildcard string) bool) {
	rest := strings.TrimPrefix(host, "*.")
	for {
		_, after, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		if f("*." + after) {
			return
		}
		rest = after
	}
	if host != "*" {
		f("*")
	}
}
