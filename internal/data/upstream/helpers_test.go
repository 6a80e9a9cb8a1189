package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a config.Source that a test sets.
type source struct {
	current atomic.Pointer[config.Config]
	changed chan struct{}
}

func newSource(clusters ...*config.Cluster) *source {
	s := &source{changed: make(chan struct{}, 1)}
	s.set(clusters...)
	return s
}

func (s *source) set(clusters ...*config.Cluster) {
	cfg := &config.Config{Clusters: map[string]*config.Cluster{}}
	for _, c := range clusters {
		cfg.Clusters[c.Name] = c
	}
	s.current.Store(cfg)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *source) Current() *config.Config              { return s.current.Load() }
func (s *source) Subscribe() (<-chan struct{}, func()) { return s.changed, func() {} }

// zone is a Resolver from a map that tests change; it counts the lookups.
type zone struct {
	mu      sync.Mutex
	addrs   map[string][]string
	ttl     time.Duration
	err     error
	lookups int
	wait    chan struct{} // when set, lookups wait for it
}

func (z *zone) set(name string, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.addrs == nil {
		z.addrs = map[string][]string{}
	}
	z.addrs[name] = addrs
}

func (z *zone) fail(err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.err = err
}

func (z *zone) count() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.lookups
}

func (z *zone) Lookup(ctx context.Context, name string, family Family) ([]netip.Addr, TTL, error) {
	z.mu.Lock()
	z.lookups++
	wait := z.wait
	z.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.err != nil {
		return nil, 0, z.err
	}
	texts, ok := z.addrs[name]
	if !ok {
		return nil, 0, fmt.Errorf("%q: %w", name, ErrNoSuchName)
	}
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return ofFamily(out, family, name, z.ttl)
}

// cluster makes a cluster with one locality; an endpoint is "host:port", with
// "!" in front when it is unhealthy.
func cluster(name string, d resource.Discovery, eps ...string) *config.Cluster {
	return &config.Cluster{
		Cluster:   &resource.Cluster{Name: name, Discovery: d, RespectDNSTTL: true, ConnectTimeout: 5 * time.Second},
		Endpoints: &resource.Endpoints{Localities: []resource.Locality{localityOf(0, eps...)}},
	}
}

func localityOf(priority uint32, eps ...string) resource.Locality {
	l := resource.Locality{Priority: priority}
	for _, text := range eps {
		text, unhealthy := strings.CutPrefix(text, "!")
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			panic(err)
		}
		e := resource.Endpoint{Host: host, Unhealthy: unhealthy}
		fmt.Sscan(port, &e.Port)
		if a, err := netip.ParseAddr(host); err == nil {
			e.Address = netip.AddrPortFrom(a, e.Port)
		}
		l.Endpoints = append(l.Endpoints, e)
	}
	return l
}

func manager(t testing.TB, o Options) *Manager {
	m := NewManager(o)
	t.Cleanup(m.Close)
	return m
}

func pick(t testing.TB, m *Manager, c *config.Cluster, target *Target, avoid ...*Host) *Host {
	t.Helper()
	h, err := m.Pick(t.Context(), c, target, avoid)
	if err != nil {
		t.Fatalf("Pick: %v (%s)", err, err.Reason)
	}
	return h
}

// pass lets time pass on the clock of a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }
