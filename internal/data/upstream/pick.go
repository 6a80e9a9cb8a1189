package upstream

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Bounds of the hosts that a cluster of type ORIGINAL_DST keeps.
const (
	maxDestinations    = 4096
	destinationIdle    = 5 * time.Minute
	destinationIdleMin = 10 * time.Second // when there are maxDestinations
	defaultDNSRefresh  = 5 * time.Second  // Envoy's dns_refresh_rate
	maxDNSRetry        = time.Minute      // that dns_failure_refresh_rate may ask for
)

// Pick chooses a host of a cluster by its balancing policy: healthy hosts of the
// lowest priority that has some. It prefers hosts that are not in avoid and to which
// no connection failed within the last seconds; it returns one of avoid only when
// there is no other. It waits for the first resolution of a name, never longer than
// ctx. A cluster of type ORIGINAL_DST needs t.
//
// The errors have the reasons no_cluster, no_healthy_upstream, dns_failed,
// address_forbidden and upstream_overflow; do not change the Error.
func (m *Manager) Pick(ctx context.Context, cluster *config.Cluster, t *Target, avoid []*Host) (*Host, *Error) {
	if cluster == nil || cluster.Cluster == nil {
		return nil, noCluster()
	}
	s := m.state(cluster)
	if err := s.admitRequest(cluster, t.priority()); err != nil {
		return nil, err
	}
	return s.pick(ctx, cluster, t, avoid)
}

func noCluster() *Error {
	return &Error{Reason: reason.NoCluster, Flag: "NC", Detail: "there is no such cluster"}
}

func (s *state) pick(ctx context.Context, cluster *config.Cluster, t *Target, avoid []*Host) (*Host, *Error) {
	switch cluster.Discovery {
	case resource.DiscoveryOriginalDst:
		return s.pickDestination(ctx, cluster, t, avoid)
	case resource.DiscoveryDynamicForward:
		return s.pickForward(ctx, cluster, t, avoid)
	}
	set, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	lb := set.lb
	if set.subsets != nil {
		var match *resource.LabelMatch
		if t != nil {
			match = t.Subset
		}
		if lb = set.subsets.find(match); lb == nil {
			return nil, s.noEndpoint("no subset of cluster " + s.name + " has the labels that the route asks for")
		}
	}
	if len(lb.groups) == 0 && set.err != nil {
		return nil, set.err
	}
	if len(lb.groups) == 0 {
		return nil, s.noEndpoint("no healthy endpoint in cluster " + s.name)
	}
	if cluster.Discovery == resource.DiscoveryLogicalDNS {
		return first(lb.groups[0].hosts, avoid), nil
	}
	c := choice{state: s, policy: cluster.LB, config: &cluster.Balancing}
	if t != nil {
		c.leave = t.Leave
	}
	switch {
	case t != nil && t.HasHash:
		c.hash = t.Hash
	case lb.groups[0].table != nil || len(lb.groups) > 1:
		c.hash = anyHash()
	}
	return lb.choose(&c, avoid), nil
}

func (s *state) noEndpoint(detail string) *Error {
	return &Error{Reason: reason.NoHealthyUpstream, Flag: "UH", Detail: detail}
}

// current is the host set, looked at again where it is time to.
func (s *state) current(ctx context.Context) (*hostSet, *Error) {
	set := s.set.Load()
	if set.recheck != 0 {
		if now := s.manager.now(); now >= set.recheck {
			s.mu.Lock()
			s.readmit(now)
			s.rebalance()
			set = s.set.Load()
			s.mu.Unlock()
		}
	}
	if set.refresh != 0 && s.manager.now() >= set.refresh {
		return s.resolve(ctx)
	}
	return set, nil
}

// first takes the first of an ordered list that is neither avoided nor suspect,
// else the first that is not avoided, else the first.
func first(hosts []*Host, avoid []*Host) *Host {
	var second *Host
	for _, h := range hosts {
		switch {
		case slices.Contains(avoid, h):
		case !h.suspect():
			return h
		case second == nil:
			second = h
		}
	}
	if second != nil {
		return second
	}
	return hosts[0]
}

// resolve brings the hosts of a DNS cluster up to date.
func (s *state) resolve(ctx context.Context) (*hostSet, *Error) {
	for {
		c := s.set.Load().cluster
		answers, refresh, err := s.lookup(ctx, c)
		if err != nil {
			return nil, &Error{Reason: reason.DNSFailed, Flag: "DF", Detail: "name resolution failed", Err: err}
		}
		s.mu.Lock()
		if s.set.Load().cluster == c {
			set := s.build(c, answers, refresh)
			s.set.Store(set)
			s.mu.Unlock()
			return set, nil
		}
		s.mu.Unlock() // the configuration changed meanwhile: its names may be others
	}
}

// lookup asks for all names of a cluster at once. refresh is when the first of the
// answers is to be looked at again. The error is ctx's only.
func (s *state) lookup(ctx context.Context, c *config.Cluster) (map[string]resolved, int64, error) {
	n := s.manager.names
	hosts := dnsNames(c)
	family := lookupFamily(c.DNSFamily)
	life := lifetime(c)
	for _, host := range hosts {
		n.begin(nameKey{host, family}, life)
	}
	answers := make(map[string]resolved, len(hosts))
	var refresh int64
	for _, host := range hosts {
		a, err := n.get(ctx, nameKey{host, family}, life)
		if a == nil {
			return nil, 0, err
		}
		answers[host] = resolved{preferred(a.addrs, c.DNSFamily), err}
		at := max(a.expires(life), n.now()+int64(failureTTL/4)) // a refresh may be under way
		if err != nil {
			at = max(at, n.now()+int64(min(c.DNSRetry, maxDNSRetry)))
		}
		if refresh == 0 || at < refresh {
			refresh = at
		}
	}
	return answers, refresh, nil
}

func lookupFamily(f resource.DNSFamily) Family {
	switch f {
	case resource.DNSV4Only:
		return FamilyV4
	case resource.DNSV6Only:
		return FamilyV6
	}
	return FamilyAny
}

// preferred drops IPv6 addresses where the cluster prefers IPv4 and has some. For
// AUTO (Envoy: IPv6, and IPv4 only when there is none) both are kept: a connection
// that fails over one family is tried over the other.
func preferred(addrs []netip.Addr, f resource.DNSFamily) []netip.Addr {
	if f != resource.DNSV4Preferred || !slices.ContainsFunc(addrs, netip.Addr.Is4) {
		return addrs
	}
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !a.Is4() })
}

// lifetime of the cluster's answers; 0 means their TTL.
func lifetime(c *config.Cluster) time.Duration {
	switch {
	case c.RespectDNSTTL:
		return 0
	case c.DNSRefresh > 0:
		return max(c.DNSRefresh, minTTL)
	}
	return defaultDNSRefresh
}

// pickDestination chooses for ORIGINAL_DST: the destination itself, or the address
// of the name that the destination was handed out for.
func (s *state) pickDestination(ctx context.Context, c *config.Cluster, t *Target, avoid []*Host) (*Host, *Error) {
	if t == nil || !t.Destination.IsValid() {
		return nil, &Error{Reason: reason.NoHealthyUpstream, Flag: "UH", Detail: "the original destination is not known"}
	}
	port := t.Destination.Port()
	if c.Balancing.PortOverride != 0 {
		port = c.Balancing.PortOverride
	}
	if t.Name == "" {
		addr := t.Destination.Addr().Unmap()
		if forbidden(addr, s.manager.forbidden) {
			return nil, forbiddenError(addr.String())
		}
		return s.destination(c, hostKey{addr: netip.AddrPortFrom(addr, port)}), nil
	}
	return s.pickName(ctx, c, t.Name, port, avoid)
}

// pickForward chooses for a dynamic forward proxy: an address of the host that the
// request, or the TLS server name, says. The name is resolved here, where it is dialled.
func (s *state) pickForward(ctx context.Context, c *config.Cluster, t *Target, avoid []*Host) (*Host, *Error) {
	if t == nil || t.Authority == "" || t.ForwardPort == 0 {
		return nil, s.noEndpoint("nothing says which host to connect to")
	}
	if addr, ok := match.LiteralAddress(t.Authority); ok {
		if forbidden(addr, s.manager.forbidden) {
			return nil, forbiddenError(addr.String())
		}
		return s.destination(c, hostKey{addr: netip.AddrPortFrom(addr, t.ForwardPort)}), nil
	}
	name := match.CanonicalName(t.Authority)
	if !match.IsHostName(name) {
		return nil, &Error{Reason: reason.DNSFailed, Flag: "DF", Detail: strconv.Quote(t.Authority) + " is not a host name"}
	}
	return s.pickName(ctx, c, name, t.ForwardPort, avoid)
}

// pickName chooses an address of a name.
func (s *state) pickName(ctx context.Context, c *config.Cluster, name string, port uint16, avoid []*Host) (*Host, *Error) {
	a, err := s.manager.names.get(ctx, nameKey{name, lookupFamily(c.DNSFamily)}, 0)
	if err != nil {
		return nil, &Error{Reason: reason.DNSFailed, Flag: "DF", Detail: "name resolution failed", Err: err}
	}
	var second, last *Host
	for _, addr := range preferred(a.addrs, c.DNSFamily) {
		addr = addr.Unmap()
		if forbidden(addr, s.manager.forbidden) {
			continue
		}
		h := s.destination(c, hostKey{addr: netip.AddrPortFrom(addr, port), hostname: name})
		switch {
		case slices.Contains(avoid, h):
			last = h
		case !h.suspect():
			return h, nil
		case second == nil:
			second = h
		}
	}
	switch {
	case second != nil:
		return second, nil
	case last != nil:
		return last, nil
	}
	return nil, forbiddenError(name + " (" + a.addrs[0].String() + ")")
}

// destination finds or makes the host of an ORIGINAL_DST cluster. When the cluster
// has too many the host is not kept: it works, but is gone from the start.
func (s *state) destination(c *config.Cluster, key hostKey) *Host {
	now := s.manager.now()
	s.mu.RLock()
	h := s.hosts[key]
	s.mu.RUnlock()
	if h != nil {
		h.usedAt.Store(now)
		return h
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.hosts) >= maxDestinations && now-s.lookedAt > int64(time.Second) {
		s.lookedAt = now
		s.dropIdle(now, destinationIdleMin)
	}
	h = s.host(key, c, nil)
	h.usedAt.Store(now)
	if len(s.hosts) > maxDestinations {
		delete(s.hosts, key)
		h.retire()
	}
	return h
}

// sweep frees the destinations that nobody used for a while.
func (s *state) sweep() {
	if !s.set.Load().onDemand() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropIdle(s.manager.now(), destinationIdle)
}

func (s *state) dropIdle(now int64, idle time.Duration) {
	s.drop(func(h *Host) bool { return h.active.Load() == 0 && now-h.usedAt.Load() > int64(idle) })
}
