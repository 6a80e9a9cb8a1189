package upstream

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"sort"
	"strings"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// endpoints of a cluster: what EDS gave, else the cluster's own.
func endpoints(c *config.Cluster) []resource.Locality {
	switch {
	case c.Endpoints != nil:
		return c.Endpoints.Localities
	case c.Cluster.Endpoints != nil:
		return c.Cluster.Endpoints.Localities
	}
	return nil
}

func resolves(c *config.Cluster) bool {
	return c.Discovery == resource.DiscoveryStrictDNS || c.Discovery == resource.DiscoveryLogicalDNS
}

// dnsNames lists the names that a DNS cluster has to look up, each once, in order.
func dnsNames(c *config.Cluster) []string {
	var out []string
	for _, l := range endpoints(c) {
		for _, e := range l.Endpoints {
			if !e.Address.IsValid() && e.Host != "" && !slices.Contains(out, e.Host) {
				out = append(out, e.Host)
			}
		}
	}
	return out
}

// sameTransport reports whether a connection made for a is as good for b.
func sameTransport(a, b *config.Cluster) bool {
	return a.Protocol == b.Protocol && a.HTTP2 == b.HTTP2 && a.ProxyProtocol == b.ProxyProtocol && slices.Equal(a.SourceAddresses, b.SourceAddresses) &&
		reflect.DeepEqual(a.TLS, b.TLS) && reflect.DeepEqual(a.TLSMatches, b.TLSMatches)
}

// resolved is the answer for one name of a DNS cluster.
type resolved struct {
	addrs []netip.Addr
	err   error
}

// build makes the host set from the configuration and the answers for the names in
// it (nil: not asked yet, then a cluster with names must be refreshed at once). Hosts
// that stay are taken over, and those that are not in the set any more are gone.
// s.mu is held, except for a new state.
func (s *state) build(c *config.Cluster, answers map[string]resolved, refresh int64) *hostSet {
	set := &hostSet{cluster: c}
	if set.onDemand() {
		return set
	}
	if resolves(c) && answers == nil && len(dnsNames(c)) > 0 {
		set.refresh = 1 // long ago: nothing changes until the names are known
		return set
	}
	set.refresh = refresh
	b := builder{state: s, cluster: c, answers: answers, keep: map[*Host]bool{}}
	set.tiers = b.tiers()
	s.drop(func(h *Host) bool { return !b.keep[h] })
	if old := s.set.Load(); old != nil && old.cluster == c && sameHosts(old.tiers, set.tiers) {
		set.lb, set.subsets, set.recheck = old.lb, old.subsets, old.recheck
	} else {
		set.balance()
	}
	if len(set.lb.groups) == 0 {
		set.err = b.failure()
	}
	return set
}

// onDemand: hosts are made for what is asked for, not from the configuration.
func (set *hostSet) onDemand() bool {
	return set.cluster.Discovery == resource.DiscoveryOriginalDst || set.cluster.Discovery == resource.DiscoveryDynamicForward
}

// balance makes the balancers of the set.
func (set *hostSet) balance() {
	set.lb = newBalancer(set.cluster, set.tiers, nil)
	if set.cluster.Subsets != nil {
		set.subsets = newSubsets(set.cluster, set.tiers, set.lb)
	}
	set.recheck = 0
	for _, t := range set.tiers {
		for _, l := range t.localities {
			for i := range l.members {
				if until := l.members[i].host.outlier.until.Load(); until != 0 && (set.recheck == 0 || until < set.recheck) {
					set.recheck = until
				}
			}
		}
	}
}

// sameHosts reports that the balancers for a are good for b too.
func sameHosts(a, b []tier) bool {
	return slices.EqualFunc(a, b, func(a, b tier) bool {
		return slices.EqualFunc(a.localities, b.localities, func(a, b locality) bool {
			return a.weight == b.weight && slices.EqualFunc(a.members, b.members, func(a, b member) bool {
				return a.host == b.host && a.weight == b.weight && a.unhealthy == b.unhealthy && slices.Equal(a.labels, b.labels)
			})
		})
	})
}

// rebalance takes the same hosts anew, because outlier detection changed its mind.
// s.mu is held.
func (s *state) rebalance() {
	set := *s.set.Load()
	if set.lb == nil {
		return
	}
	set.balance()
	s.set.Store(&set)
}

// builder is the work of one build.
type builder struct {
	state   *state
	cluster *config.Cluster
	answers map[string]resolved
	keep    map[*Host]bool

	forbidden []string // "name (address)"
	failed    error    // of the first name that could not be resolved
}

// tiers are all hosts by priority.
func (b *builder) tiers() []tier {
	localities := slices.Clone(endpoints(b.cluster))
	slices.SortStableFunc(localities, func(a, b resource.Locality) int { return cmp.Compare(a.Priority, b.Priority) })
	var out []tier
	for i := range localities {
		if i == 0 || localities[i].Priority != localities[i-1].Priority {
			out = append(out, tier{})
		}
		own := locality{weight: localities[i].Weight}
		for j := range localities[i].Endpoints {
			own.members = b.endpoint(own.members, &localities[i].Endpoints[j])
		}
		last := &out[len(out)-1]
		last.localities = append(last.localities, own)
	}
	return out
}

// endpoint adds the hosts of one endpoint.
func (b *builder) endpoint(members []member, e *resource.Endpoint) []member {
	if e.Address.IsValid() {
		name := e.Hostname
		h := b.state.host(hostKey{addr: e.Address, hostname: name, labels: labels(e.TLSLabels), explicit: true}, b.cluster, e.TLSLabels)
		return b.add(members, h, e)
	}
	if !resolves(b.cluster) || e.Host == "" {
		return members
	}
	r := b.answers[e.Host]
	if r.err != nil && b.failed == nil {
		b.failed = r.err
	}
	name := e.Hostname
	if name == "" {
		name = e.Host
	}
	for _, addr := range r.addrs {
		addr = addr.Unmap()
		if forbidden(addr, b.state.manager.forbidden) {
			b.forbidden = append(b.forbidden, e.Host+" ("+addr.String()+")")
			continue
		}
		key := hostKey{addr: netip.AddrPortFrom(addr, e.Port), hostname: name, labels: labels(e.TLSLabels)}
		members = b.add(members, b.state.host(key, b.cluster, e.TLSLabels), e)
	}
	return members
}

func (b *builder) add(members []member, h *Host, e *resource.Endpoint) []member {
	b.keep[h] = true
	return append(members, member{h, uint64(max(e.Weight, 1)), e.Unhealthy, e.Labels})
}

// failure says why a cluster has no host to use.
func (b *builder) failure() *Error {
	switch {
	case len(b.forbidden) > 0:
		return forbiddenError(strings.Join(b.forbidden, ", "))
	case b.failed != nil:
		return &Error{Reason: reason.DNSFailed, Flag: "DF", Detail: "name resolution failed", Err: b.failed}
	}
	return &Error{Reason: reason.NoHealthyUpstream, Flag: "UH", Detail: "no healthy endpoint in cluster " + b.cluster.Name}
}

func forbiddenError(what string) *Error {
	return &Error{Reason: reason.AddressForbidden, Flag: "UH", Detail: what +
		" is loopback, link-local, reserved or otherwise forbidden: only an address that the configuration lists as an endpoint may be one"}
}

// host finds or makes the host of a key; s.mu is held.
func (s *state) host(key hostKey, c *config.Cluster, l map[string]string) *Host {
	if h := s.hosts[key]; h != nil {
		return h
	}
	h := &Host{
		cluster: s, addr: key.addr, text: key.addr.String(), hostname: key.hostname,
		explicit: key.explicit, since: s.manager.now(),
	}
	h.tls, h.proxy = s.transport(c, l)
	s.hosts[key] = h
	return h
}

// labels is a canonical text of an endpoint's labels.
func labels(l map[string]string) string {
	if len(l) == 0 {
		return ""
	}
	keys := make([]string, 0, len(l))
	for k := range l {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(k)
		b.WriteByte(0)
		b.WriteString(l[k])
		b.WriteByte(0)
	}
	return b.String()
}
