package upstream

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// sweepEvery is how often hosts that are not used any more are looked for.
const sweepEvery = 30 * time.Second

// Options of a Manager.
type Options struct {
	// Source tells which clusters exist: what the manager keeps for others is freed.
	// Nil: what was used once is kept until Close.
	Source config.Source
	// Dialer opens connections; nil means a NetDialer.
	Dialer Dialer
	// Resolver is needed for clusters that resolve names; nil: they fail.
	Resolver Resolver
	// Logger; nil discards.
	Logger *slog.Logger
	// Forbidden are prefixes, besides loopback, link-local, multicast and reserved
	// ones, that no resolved name and no PassthroughCluster may lead to.
	Forbidden []netip.Prefix
	// Roots replaces the system's certificate authorities; nil: the system's.
	Roots *x509.CertPool
	// Secrets are what TLS contexts refer to by name; nil: there is no agent.
	Secrets *credentials.Secrets
}

// Manager keeps the run-time state of clusters, by name: it survives changes of
// the configuration for every endpoint that stays the same, and is freed with the
// cluster. All methods are safe for concurrent use.
type Manager struct {
	source    config.Source
	dialer    Dialer
	log       *slog.Logger
	forbidden []netip.Prefix
	roots     *x509.CertPool
	secrets   *credentials.Secrets
	names     *names
	start     time.Time
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	mu     sync.RWMutex
	states map[string]*state
}

// state is one cluster at run time.
type state struct {
	manager  *Manager
	name     string
	queue    queue
	breakers [2]breaker    // by resource.RoutingPriority
	turn     atomic.Uint64 // round robin
	// connected and connectFailures count what Dial did.
	connected, connectFailures atomic.Uint64
	set                        atomic.Pointer[hostSet]
	nextLook                   atomic.Int64 // Manager.now when outlier detection looks at the rates

	mu       sync.RWMutex // guards what follows, and replacing set
	hosts    map[hostKey]*Host
	contexts map[*resource.UpstreamTLS]*tlsContext
	lookedAt int64 // Manager.now when there were too many destinations; for ORIGINAL_DST
}

// hostSet is the hosts of a cluster as they were last known. It never changes.
type hostSet struct {
	cluster *config.Cluster
	tiers   []tier // all hosts
	lb      *balancer
	subsets *subsets // nil: the cluster has none
	err     *Error   // why lb has no host
	// recheck is the Manager.now when the first ejection ends; 0: nobody is ejected.
	recheck int64
	// refresh is the Manager.now from which names must be looked at again; 0: never.
	refresh int64
}

// NewManager makes a manager. Close ends its goroutines.
func NewManager(o Options) *Manager {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dialer == nil {
		o.Dialer = NetDialer{}
	}
	if o.Resolver == nil {
		o.Resolver = noResolver{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Manager{
		source: o.Source, dialer: o.Dialer, log: o.Logger, forbidden: o.Forbidden, roots: o.Roots, secrets: o.Secrets,
		start: time.Now(), cancel: cancel, states: map[string]*state{},
	}
	m.names = newNames(ctx, o.Resolver, o.Logger, m.now)
	m.wg.Go(func() { m.follow(ctx) })
	return m
}

// Close ends the manager's goroutines and name lookups; all hosts are gone after
// it. Open connections are not touched.
func (m *Manager) Close() {
	m.cancel()
	m.wg.Wait()
	m.names.close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, s := range m.states {
		s.retire()
		delete(m.states, name)
	}
}

// now is the monotonic clock: nanoseconds since the manager was made, never 0.
func (m *Manager) now() int64 { return int64(time.Since(m.start)) + 1 }

// follow frees what the configuration does not have any more.
func (m *Manager) follow(ctx context.Context) {
	var changed <-chan struct{}
	if m.source != nil {
		ch, end := m.source.Subscribe()
		defer end()
		changed = ch
		m.sync()
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			m.sync()
		case <-tick.C:
			m.sweep()
		}
	}
}

// sync brings the states up to the current configuration.
func (m *Manager) sync() {
	cfg := m.source.Current()
	if cfg == nil {
		return
	}
	for _, s := range m.all() {
		c := cfg.Cluster(s.name)
		if c == nil {
			m.mu.Lock()
			delete(m.states, s.name)
			m.mu.Unlock()
			s.retire()
			continue
		}
		s.update(c)
	}
}

func (m *Manager) all() []*state {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]*state, 0, len(m.states))
	for _, s := range m.states {
		out = append(out, s)
	}
	return out
}

func (m *Manager) sweep() {
	for _, s := range m.all() {
		s.sweep()
	}
}

// state finds or makes the state of a cluster. Someone who still works with an
// older configuration gets the current hosts of a cluster that was changed, and
// a state of his own for a cluster that was removed.
func (m *Manager) state(c *config.Cluster) *state {
	m.mu.RLock()
	s := m.states[c.Name]
	m.mu.RUnlock()
	if s != nil && s.set.Load().cluster == c {
		return s
	}
	current := c
	if m.source != nil {
		if cfg := m.source.Current(); cfg != nil {
			current = cfg.Cluster(c.Name)
		}
	}
	if current == nil {
		return m.newState(c)
	}
	if s == nil {
		m.mu.Lock()
		if s = m.states[c.Name]; s == nil {
			s = m.newState(current)
			m.states[c.Name] = s
		}
		m.mu.Unlock()
	}
	s.update(current)
	return s
}

func (m *Manager) newState(c *config.Cluster) *state {
	s := &state{manager: m, name: c.Name, hosts: map[hostKey]*Host{}, contexts: map[*resource.UpstreamTLS]*tlsContext{}}
	s.set.Store(s.build(c, nil, 0))
	return s
}

// update takes a new version of the cluster.
func (s *state) update(c *config.Cluster) {
	if s.set.Load().cluster == c {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.set.Load()
	if old.cluster == c {
		return
	}
	if !sameTransport(old.cluster, c) {
		s.drop(func(*Host) bool { return true })
	}
	clear(s.contexts)
	s.set.Store(s.build(c, nil, 0))
}

// drop makes the hosts gone that the condition holds for; s.mu is held.
func (s *state) drop(when func(*Host) bool) {
	for k, h := range s.hosts {
		if when(h) {
			delete(s.hosts, k)
			h.retire()
		}
	}
}

func (s *state) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(func(*Host) bool { return true })
}

// noResolver answers where the manager was made without one.
type noResolver struct{}

func (noResolver) Lookup(context.Context, string, Family) ([]netip.Addr, TTL, error) {
	return nil, 0, errNoResolver
}
