package upstream

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/runtest"
)

// reached picks n times and returns the hosts seen, sorted.
func reached(t *testing.T, m *Manager, c *config.Cluster, target *Target, n int) []string {
	t.Helper()
	seen := map[string]bool{}
	for range n {
		seen[pick(t, m, c, target).String()] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func TestPick(t *testing.T) {
	z := &zone{ttl: time.Minute}
	z.set("two.example", "192.0.2.1", "192.0.2.2")
	z.set("dual.example", "2001:db8::1", "192.0.2.7")
	z.set("mixed.example", "127.0.0.1", "192.0.2.3")
	z.set("evil.example", "169.254.169.254")
	z.set("rebind.example", "::ffff:127.0.0.1")
	z.set("private.example", "10.1.2.3")
	m := manager(t, Options{Resolver: z, Forbidden: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}})

	with := func(c *config.Cluster, f func(*config.Cluster)) *config.Cluster { f(c); return c }
	dst := func(s string) *Target { return &Target{Destination: netip.MustParseAddrPort(s)} }
	named := func(s, name string) *Target {
		return &Target{Destination: netip.MustParseAddrPort(s), Name: name}
	}
	tests := []struct {
		name    string
		cluster *config.Cluster
		target  *Target
		want    []string
		reason  reason.Reason
		flag    string
	}{
		{"static", cluster("c1", resource.DiscoveryStatic, "10.1.0.1:80", "10.1.0.2:80"), nil, []string{"10.1.0.1:80", "10.1.0.2:80"}, "", ""},
		{"explicit loopback", cluster("c2", resource.DiscoveryEDS, "127.0.0.1:80"), nil, []string{"127.0.0.1:80"}, "", ""},
		{"unhealthy endpoints are left out", cluster("c3", resource.DiscoveryEDS, "192.0.2.1:80", "!192.0.2.2:80"), nil, []string{"192.0.2.1:80"}, "", ""},
		{"no endpoints", cluster("BlackHoleCluster", resource.DiscoveryStatic), nil, nil, reason.NoHealthyUpstream, "UH"},
		{"none healthy", cluster("c4", resource.DiscoveryEDS, "!192.0.2.2:80"), nil, nil, reason.NoHealthyUpstream, "UH"},
		{"EDS not arrived", &config.Cluster{Cluster: &resource.Cluster{Name: "c5", Discovery: resource.DiscoveryEDS}}, nil, nil, reason.NoHealthyUpstream, "UH"},
		{"the lowest healthy priority", with(cluster("c6", resource.DiscoveryEDS), func(c *config.Cluster) {
			c.Endpoints.Localities = []resource.Locality{localityOf(2, "192.0.2.3:80"), localityOf(0, "!192.0.2.1:80"), localityOf(1, "192.0.2.2:80")}
		}), nil, []string{"192.0.2.2:80"}, "", ""},
		{"no cluster", nil, nil, nil, reason.NoCluster, "NC"},

		{"strict DNS: all addresses", cluster("d1", resource.DiscoveryStrictDNS, "two.example:443"), nil, []string{"192.0.2.1:443", "192.0.2.2:443"}, "", ""},
		{"logical DNS: one address", cluster("d2", resource.DiscoveryLogicalDNS, "two.example:443"), nil, []string{"192.0.2.1:443"}, "", ""},
		{"IP literal in a DNS cluster", cluster("d3", resource.DiscoveryStrictDNS, "127.0.0.1:443"), nil, []string{"127.0.0.1:443"}, "", ""},
		{"names and literals", cluster("d4", resource.DiscoveryStrictDNS, "192.0.2.9:1", "two.example:2"), nil, []string{"192.0.2.1:2", "192.0.2.2:2", "192.0.2.9:1"}, "", ""},
		{"one of the names is unknown", cluster("d5", resource.DiscoveryStrictDNS, "nx.example:1", "two.example:2"), nil, []string{"192.0.2.1:2", "192.0.2.2:2"}, "", ""},
		{"unknown name", cluster("d6", resource.DiscoveryStrictDNS, "nx.example:1"), nil, nil, reason.DNSFailed, "DF"},
		{"both families", cluster("d7", resource.DiscoveryStrictDNS, "dual.example:1"), nil, []string{"192.0.2.7:1", "[2001:db8::1]:1"}, "", ""},
		{"IPv4 only", with(cluster("d8", resource.DiscoveryStrictDNS, "dual.example:1"), func(c *config.Cluster) { c.DNSFamily = resource.DNSV4Only }), nil, []string{"192.0.2.7:1"}, "", ""},
		{"IPv6 only", with(cluster("d9", resource.DiscoveryStrictDNS, "dual.example:1"), func(c *config.Cluster) { c.DNSFamily = resource.DNSV6Only }), nil, []string{"[2001:db8::1]:1"}, "", ""},
		{"IPv4 preferred", with(cluster("d10", resource.DiscoveryStrictDNS, "dual.example:1"), func(c *config.Cluster) { c.DNSFamily = resource.DNSV4Preferred }), nil, []string{"192.0.2.7:1"}, "", ""},
		{"forbidden addresses are left out", cluster("d11", resource.DiscoveryStrictDNS, "mixed.example:1"), nil, []string{"192.0.2.3:1"}, "", ""},
		{"only forbidden addresses", cluster("d12", resource.DiscoveryStrictDNS, "evil.example:1"), nil, nil, reason.AddressForbidden, "UH"},
		{"IPv4-mapped loopback", cluster("d13", resource.DiscoveryLogicalDNS, "rebind.example:1"), nil, nil, reason.AddressForbidden, "UH"},
		{"a prefix that the options forbid", cluster("d14", resource.DiscoveryStrictDNS, "private.example:1"), nil, nil, reason.AddressForbidden, "UH"},

		{"original destination", cluster("o1", resource.DiscoveryOriginalDst), dst("192.0.2.1:25"), []string{"192.0.2.1:25"}, "", ""},
		{"original destination, IPv4-mapped", cluster("o1", resource.DiscoveryOriginalDst), dst("[::ffff:192.0.2.1]:25"), []string{"192.0.2.1:25"}, "", ""},
		{"original destination unknown", cluster("o1", resource.DiscoveryOriginalDst), nil, nil, reason.NoHealthyUpstream, "UH"},
		{"original destination loopback", cluster("o1", resource.DiscoveryOriginalDst), dst("127.0.0.1:25"), nil, reason.AddressForbidden, "UH"},
		{"original destination metadata service", cluster("o1", resource.DiscoveryOriginalDst), dst("169.254.169.254:80"), nil, reason.AddressForbidden, "UH"},
		{"original destination reserved", cluster("o1", resource.DiscoveryOriginalDst), dst("240.242.0.1:80"), nil, reason.AddressForbidden, "UH"},
		{"original destination NAT64 loopback", cluster("o1", resource.DiscoveryOriginalDst), dst("[64:ff9b::7f00:1]:80"), nil, reason.AddressForbidden, "UH"},
		{"bound name", cluster("o1", resource.DiscoveryOriginalDst), named("240.241.0.1:8443", "two.example"), []string{"192.0.2.1:8443"}, "", ""},
		{"bound name is unknown", cluster("o1", resource.DiscoveryOriginalDst), named("240.241.0.1:8443", "nx.example"), nil, reason.DNSFailed, "DF"},
		{"bound name is forbidden", cluster("o1", resource.DiscoveryOriginalDst), named("240.241.0.1:8443", "evil.example"), nil, reason.AddressForbidden, "UH"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.reason == "" {
				if diff := cmp.Diff(tt.want, reached(t, m, tt.cluster, tt.target, 60)); diff != "" {
					t.Errorf("hosts (-want +got)\n%s", diff)
				}
				return
			}
			h, err := m.Pick(t.Context(), tt.cluster, tt.target, nil)
			if err == nil {
				t.Fatalf("picked %s", h)
			}
			if err.Reason != tt.reason || err.Flag != tt.flag || err.Detail == "" {
				t.Errorf("error %q, reason %q, flag %q; want %q, %q", err, err.Reason, err.Flag, tt.reason, tt.flag)
			}
		})
	}
}

func TestBoundNameFallsBackToItsOtherAddresses(t *testing.T) {
	z := &zone{ttl: time.Minute}
	z.set("two.example", "192.0.2.1", "192.0.2.2")
	m := manager(t, Options{Resolver: z})
	c := cluster("PassthroughCluster", resource.DiscoveryOriginalDst)
	target := &Target{Destination: netip.MustParseAddrPort("240.241.0.1:443"), Name: "two.example"}
	a := pick(t, m, c, target)
	if b := pick(t, m, c, target, a); a.String() != "192.0.2.1:443" || b.String() != "192.0.2.2:443" {
		t.Errorf("first %s, then %s", a, b)
	}
	if a.Hostname() != "two.example" {
		t.Errorf("hostname %q", a.Hostname())
	}
	a.Failed()
	if b := pick(t, m, c, target); b.String() != "192.0.2.2:443" {
		t.Errorf("after a failure: %s", b)
	}
}

func TestHostsSurviveConfigurationChanges(t *testing.T) {
	one := cluster("c", resource.DiscoveryEDS, "192.0.2.1:80", "192.0.2.2:80")
	src := newSource(one)
	m := manager(t, Options{Source: src})
	a := pick(t, m, one, nil)
	b := pick(t, m, one, nil, a)
	a.Begin(resource.PriorityDefault)
	gone := make(chan string, 4)
	a.OnGone(func() { gone <- a.String() })
	b.OnGone(func() { gone <- b.String() })

	same := cluster("c", resource.DiscoveryEDS, "192.0.2.1:80", "192.0.2.2:80")
	src.set(same)
	if got := pick(t, m, same, nil, b); got != a || got.Active() != 1 {
		t.Errorf("the same endpoint is another host after a change")
	}

	less := cluster("c", resource.DiscoveryEDS, a.String())
	src.set(less)
	if got := <-gone; got != b.String() {
		t.Errorf("%s is gone", got)
	}
	if !b.Gone() || a.Gone() {
		t.Errorf("gone: %v, %v", a.Gone(), b.Gone())
	}
	if got := pick(t, m, one, nil); got != a {
		t.Errorf("who works with the old configuration got %s, which is gone", got)
	}

	secure := cluster("c", resource.DiscoveryEDS, a.String())
	secure.TLS = &resource.UpstreamTLS{SNI: "x"}
	src.set(secure)
	<-gone
	c := pick(t, m, secure, nil)
	if c == a || !c.TLS() {
		t.Error("a host is kept although its transport socket changed")
	}
	c.OnGone(func() { gone <- "c" })
	src.set()
	<-gone
	runtest.Eventually(t, "the state is freed", func() bool { return len(m.all()) == 0 })
	a.End(resource.PriorityDefault)
	called := false
	c.OnGone(func() { called = true })
	if !called {
		t.Error("OnGone of a host that is gone does not call")
	}
	// Who still has the old configuration is served, but nothing is kept.
	if h := pick(t, m, secure, nil); h.String() != a.String() || len(m.all()) != 0 {
		t.Errorf("picked %s, %d states", h, len(m.all()))
	}
}

func TestDNSClusterFollowsItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{ttl: 10 * time.Second}
		z.set("x.example", "192.0.2.1", "192.0.2.2")
		m := NewManager(Options{Resolver: z})
		defer m.Close()
		c := cluster("c", resource.DiscoveryStrictDNS, "x.example:80")
		if diff := cmp.Diff([]string{"192.0.2.1:80", "192.0.2.2:80"}, reached(t, m, c, nil, 60)); diff != "" {
			t.Error(diff)
		}
		if z.count() != 1 {
			t.Errorf("%d lookups", z.count())
		}
		stays := pick(t, m, c, nil)
		for stays.String() != "192.0.2.2:80" {
			stays = pick(t, m, c, nil)
		}
		leaves := pick(t, m, c, nil, stays)
		z.set("x.example", "192.0.2.2", "192.0.2.3")
		pass(time.Minute)
		if diff := cmp.Diff([]string{"192.0.2.2:80", "192.0.2.3:80"}, reached(t, m, c, nil, 60)); diff != "" {
			t.Error(diff)
		}
		if stays.Gone() || !leaves.Gone() {
			t.Errorf("gone: %v, %v", stays.Gone(), leaves.Gone())
		}
		z.fail(errors.New("unreachable"))
		pass(time.Minute)
		if diff := cmp.Diff([]string{"192.0.2.2:80", "192.0.2.3:80"}, reached(t, m, c, nil, 60)); diff != "" {
			t.Errorf("while DNS fails: %s", diff)
		}
		pass(2 * staleLimit)
		if _, err := m.Pick(t.Context(), c, nil, nil); err == nil || err.Reason != reason.DNSFailed {
			t.Errorf("long after: %v", err)
		}
		z.fail(nil)
		pass(2 * time.Second)
		pick(t, m, c, nil)
	})
}

func TestDNSRefreshRateWithoutTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{ttl: time.Hour}
		z.set("x.example", "192.0.2.1")
		m := NewManager(Options{Resolver: z})
		defer m.Close()
		c := cluster("c", resource.DiscoveryStrictDNS, "x.example:80")
		c.RespectDNSTTL, c.DNSRefresh = false, 20*time.Second
		pick(t, m, c, nil)
		z.set("x.example", "192.0.2.2")
		pass(10 * time.Second)
		if got := pick(t, m, c, nil).String(); got != "192.0.2.1:80" {
			t.Error(got)
		}
		pass(time.Minute)
		if got := pick(t, m, c, nil).String(); got != "192.0.2.2:80" {
			t.Errorf("%s: dns_refresh_rate is not heeded", got)
		}
	})
}

func TestDestinationsAreBoundedAndFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Options{})
		defer m.Close()
		c := cluster("PassthroughCluster", resource.DiscoveryOriginalDst)
		at := func(i int) *Target {
			return &Target{Destination: netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, 1, byte(i >> 8), byte(i)}), 80)}
		}
		h := pick(t, m, c, at(0))
		h.Begin(resource.PriorityDefault)
		if pick(t, m, c, at(0)) != h {
			t.Error("another host for the same destination")
		}
		for i := range 2 * maxDestinations {
			pick(t, m, c, at(i))
		}
		s := m.all()[0]
		count := func() int { s.mu.RLock(); defer s.mu.RUnlock(); return len(s.hosts) }
		if n := count(); n > maxDestinations {
			t.Errorf("%d hosts", n)
		}
		if over := pick(t, m, c, at(2*maxDestinations)); !over.Gone() {
			t.Error("a host over the bound is kept")
		}
		pass(destinationIdle + 2*sweepEvery)
		synctest.Wait()
		if n := count(); n != 1 || h.Gone() {
			t.Errorf("%d hosts are left, the active one gone: %v", n, h.Gone())
		}
		h.End(resource.PriorityDefault)
	})
}

func TestPickIsSafeForConcurrentUse(t *testing.T) {
	z := &zone{ttl: time.Second}
	z.set("x.example", "192.0.2.1", "192.0.2.2")
	version := func(i int) []*config.Cluster {
		return []*config.Cluster{
			cluster("static", resource.DiscoveryEDS, "192.0.2.1:80", fmt.Sprintf("192.0.2.%d:80", 2+i%3)),
			cluster("dns", resource.DiscoveryStrictDNS, "x.example:80"),
			cluster("dst", resource.DiscoveryOriginalDst),
		}
	}
	src := newSource(version(0)...)
	m := manager(t, Options{Source: src, Resolver: z})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for name := range src.Current().Clusters {
					c := src.Current().Clusters[name]
					h, err := m.Pick(t.Context(), c, &Target{Destination: netip.MustParseAddrPort("192.0.2.9:1")}, nil)
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					h.Begin(resource.PriorityDefault)
					h.Failed()
					h.End(resource.PriorityDefault)
				}
			}
		})
	}
	for i := range 200 {
		src.set(version(i)...)
	}
	close(stop)
	wg.Wait()
}

func TestPickDoesNotAllocate(t *testing.T) {
	z := &zone{ttl: time.Hour}
	z.set("x.example", "192.0.2.1", "192.0.2.2")
	static := cluster("static", resource.DiscoveryStatic, "192.0.2.1:80", "192.0.2.2:80")
	static.LB = resource.LBLeastRequest
	dns := cluster("dns", resource.DiscoveryStrictDNS, "x.example:80")
	dst := cluster("dst", resource.DiscoveryOriginalDst)
	m := manager(t, Options{Source: newSource(static, dns, dst), Resolver: z})
	target := &Target{Destination: netip.MustParseAddrPort("192.0.2.9:1")}
	ctx := t.Context()
	for _, c := range []*config.Cluster{static, dns, dst} {
		n := testing.AllocsPerRun(200, func() {
			if _, err := m.Pick(ctx, c, target, nil); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations per Pick", c.Name, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	c := cluster("static", resource.DiscoveryStatic, "192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")
	c.LB = resource.LBLeastRequest
	m := manager(b, Options{Source: newSource(c)})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := m.Pick(b.Context(), c, nil, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
