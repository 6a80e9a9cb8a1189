package resource

import (
	"fmt"
	"slices"
	"strings"

	"github.com/egret-mesh/egret/internal/data/match"
)

// domainIndex finds virtual hosts in Envoy's order: the exact domain, the longest
// suffix wildcard, the longest prefix wildcard, "*".
type domainIndex struct {
	made   bool
	exact  map[string]*VirtualHost
	suffix wildcards // "*.example.com" as ".example.com"
	prefix wildcards // "www.example.*" as "www.example."
	any    *VirtualHost
}

type wildcards struct {
	lengths []int // of the keys, longest first, each once
	hosts   map[string]*VirtualHost
}

func (w *wildcards) add(key string, vh *VirtualHost) {
	w.hosts[key] = vh
	i, found := slices.BinarySearchFunc(w.lengths, len(key), func(a, b int) int { return b - a })
	if !found {
		w.lengths = slices.Insert(w.lengths, i, len(key))
	}
}

// Index prepares the virtual host lookup; the decoder calls it. A domain that is
// there twice is an error, as in Envoy.
func (rc *RouteConfiguration) Index() error {
	x := domainIndex{
		made:   true,
		exact:  map[string]*VirtualHost{},
		suffix: wildcards{hosts: map[string]*VirtualHost{}},
		prefix: wildcards{hosts: map[string]*VirtualHost{}},
	}
	names := map[string]bool{}
	for _, vh := range rc.VirtualHosts {
		if vh.Name == "" {
			return fmt.Errorf("a virtual host has no name")
		}
		if names[vh.Name] {
			return fmt.Errorf("virtual host %q is there twice", clip(vh.Name))
		}
		names[vh.Name] = true
		if len(vh.Domains) == 0 {
			return fmt.Errorf("virtual host %q has no domains", clip(vh.Name))
		}
		for _, domain := range vh.Domains {
			if err := x.add(match.Lower(domain), vh); err != nil {
				return fmt.Errorf("virtual host %q: %w", clip(vh.Name), err)
			}
		}
	}
	rc.index = x
	return nil
}

func (x *domainIndex) add(domain string, vh *VirtualHost) error {
	var other *VirtualHost
	switch {
	case domain == "":
		return fmt.Errorf("an empty domain")
	case domain == "*":
		other, x.any = x.any, vh
	case domain[0] == '*':
		other = x.suffix.hosts[domain[1:]]
		x.suffix.add(domain[1:], vh)
	case strings.HasSuffix(domain, "*"):
		other = x.prefix.hosts[domain[:len(domain)-1]]
		x.prefix.add(domain[:len(domain)-1], vh)
	default:
		other = x.exact[domain]
		x.exact[domain] = vh
	}
	if other != nil {
		return fmt.Errorf("domain %q is already in virtual host %q", clip(domain), clip(other.Name))
	}
	return nil
}

// VirtualHost is the virtual host for an authority ("host" or "host:port"), or nil.
// The port counts unless ignore_port_in_host_matching. It does not allocate for a
// host that is in lower case.
func (rc *RouteConfiguration) VirtualHost(authority string) *VirtualHost {
	x := &rc.index
	if !x.made { // made by hand, not decoded
		made := *rc
		if made.Index() != nil {
			return nil
		}
		x = &made.index
	}
	host := authority
	if rc.IgnorePortInHostMatching {
		host, _ = match.SplitHost(authority)
	}
	return x.find(match.Lower(host))
}

func (x *domainIndex) find(host string) *VirtualHost {
	if vh := x.exact[host]; vh != nil {
		return vh
	}
	for _, n := range x.suffix.lengths {
		if n < len(host) {
			if vh := x.suffix.hosts[host[len(host)-n:]]; vh != nil {
				return vh
			}
		}
	}
	for _, n := range x.prefix.lengths {
		if n < len(host) {
			if vh := x.prefix.hosts[host[:n]]; vh != nil {
				return vh
			}
		}
	}
	return x.any
}

// Special is VirtualHost for a host with which the domain "*" alone does not count.
func (rc *RouteConfiguration) Special(authority string) *VirtualHost {
	vh := rc.VirtualHost(authority)
	if vh == nil || rc.index.made && vh != rc.index.any {
		return vh
	}
	host, _ := match.SplitHost(authority)
	for _, d := range vh.Domains {
		if d != "*" && (match.Host(d, authority) || rc.IgnorePortInHostMatching && match.Host(d, host)) {
			return vh
		}
	}
	return nil
}

// CatchAll reports whether the virtual host is one of Istio's two for hosts that
// the registry does not know: block_all (REGISTRY_ONLY) and allow_any (ALLOW_ANY).
func (vh *VirtualHost) CatchAll() bool {
	return vh.Name == "block_all" || vh.Name == "allow_any"
}
