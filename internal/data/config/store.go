package config

import (
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/persistent"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

// Subscriber is where a Store says what it wants: the xDS client. nil names mean
// all resources of the type, an empty list none.
type Subscriber interface {
	Subscribe(typeURL string, names []string)
	// Ask changes what is wanted by a few names; see xds.Client.Ask.
	Ask(typeURL string, more, less []string)
}

// StoreOptions are the options of NewStore.
type StoreOptions struct {
	Logger *slog.Logger // nil: discard
	// OnDemand: clusters are subscribed to by name, when something refers to them, and
	// the name table has no host that was not asked for (xds.OnDemandMetadata).
	OnDemand bool
	// Secrets are what TLS contexts refer to by name; the store adds those that the control
	// plane gives. Nil: there is no agent.
	Secrets *credentials.Secrets
	Limits  Limits
	Now     func() time.Time // nil: time.Now
	// KeepBodies keeps resources as they were sent, for Store.Bodies. Measured with 10,000
	// clusters and as many virtual hosts, that is 3.7 MB beside 28 MB of configuration.
	KeepBodies bool
}

// Store keeps what the control plane sent and publishes it when it is complete. It
// implements xds.Handler and Source.
//
// What is complete: a listener, when each route configuration that it names has
// arrived; until then an older version of it keeps serving. A cluster, when its
// endpoints have arrived; until then its older version stays, or it is not there. Both
// wait for the secrets that their TLS needs, if they are expected.
// The first Config waits for listeners, clusters, all of the routes and secrets, and for the
// first answer with endpoints, as Envoy waits before it serves at all; a route
// configuration that was refused is not waited for, and requests to it are refused.
//
// A resource that is refused keeps its last good version. A refused listener that
// never was good is published with Rejected set, so that its connections are
// refused instead of falling to another listener.
type Store struct {
	log     *slog.Logger
	seed    maphash.Seed
	current atomic.Pointer[Config]
	secrets *credentials.Secrets

	mu         sync.Mutex // guards what follows
	subscriber Subscriber
	seen       map[string]bool // type URLs that were answered
	skipped    map[string]int
	hashes     map[string]map[string]uint64 // of accepted bodies, by type and name
	bodies     *bodies                      // nil: not kept

	listeners  map[string]*listenerState
	routes     map[string]*resource.RouteConfiguration
	badRoutes  map[string]bool // refused, and never good
	goneRoutes map[string]bool // removed while a listener still names them
	clusters   map[string]*resource.Cluster
	secretless map[string]bool // clusters that wait for a secret
	// secretUsers counts the clusters that need a secret of the control plane; secretsWanted:
	// what is needed may be different since the last subscription.
	secretUsers   map[string]int
	secretsWanted bool
	endpoints     map[string]*resource.Endpoints
	// goneEndpoints were removed while a cluster still needs them.
	goneEndpoints map[string]bool
	users         map[string]map[string]bool // EDS name -> clusters that need it
	// usersChanged: a name came or went since the last subscription.
	usersChanged bool
	ready        map[string]*Cluster // clusters as they are published
	names        *resource.NameTable

	// What was asked for by name; see ondemand.go and clusters.go.
	onDemand bool
	demand   *demand
	named    map[string]*namedCluster
	base     map[string]bool // clusters that base listeners and routes refer to
	held     persistent.Map[Need, *Held]
	heldByIP persistent.Map[netip.Addr, []string]
	rewarm   map[*inquiry]bool // answered, and waiting for a new version's clusters
	finished []chan struct{}   // to be closed with the next publication

	changed             changes
	wantRoutes, wantEDS []string
	wantSecrets         []string
	subscribers         map[int]chan struct{}
	nextSubscriber      int
}

// changes are the parts of the next Config that differ from the current one.
// revised: not only something was added to what is held.
type changes struct{ listeners, routes, clusters, names, held, revised bool }

// NewStore makes a Store that knows nothing yet.
func NewStore(o StoreOptions) *Store {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Secrets == nil {
		o.Secrets = credentials.NewSecrets()
	}
	s := &Store{
		log: o.Logger, seed: maphash.MakeSeed(), secrets: o.Secrets, secretless: map[string]bool{}, secretUsers: map[string]int{},
		seen: map[string]bool{}, skipped: map[string]int{}, hashes: map[string]map[string]uint64{},
		listeners: map[string]*listenerState{}, routes: map[string]*resource.RouteConfiguration{},
		badRoutes: map[string]bool{}, goneRoutes: map[string]bool{},
		clusters: map[string]*resource.Cluster{}, endpoints: map[string]*resource.Endpoints{}, goneEndpoints: map[string]bool{},
		users: map[string]map[string]bool{}, ready: map[string]*Cluster{},
		subscribers: map[int]chan struct{}{},
		onDemand:    o.OnDemand, demand: newDemand(o.Limits, o.Now),
		named: map[string]*namedCluster{}, rewarm: map[*inquiry]bool{},
	}
	if o.KeepBodies {
		s.bodies = newBodies(o.Now)
	}
	return s
}

// Attach subscribes to what the store needs, now and as it changes.
func (s *Store) Attach(to Subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriber = to
	if s.onDemand {
		to.Ask(xds.ClusterType, slices.Sorted(maps.Keys(s.named)), nil)
	} else {
		to.Subscribe(xds.ClusterType, nil)
	}
	to.Subscribe(xds.ListenerType, nil)
	to.Subscribe(xds.NameTableType, nil)
	if len(s.wantEDS) > 0 {
		to.Subscribe(xds.EndpointType, s.wantEDS)
	}
	if len(s.wantRoutes) > 0 {
		to.Subscribe(xds.RouteType, s.wantRoutes)
	}
	if len(s.wantSecrets) > 0 {
		to.Subscribe(xds.SecretType, s.wantSecrets)
	}
}

// Current is the latest complete configuration, or nil.
func (s *Store) Current() *Config { return s.current.Load() }

// Subscribe tells of publications; see Source.
func (s *Store) Subscribe() (<-chan struct{}, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.nextSubscriber
	s.nextSubscriber++
	ch := make(chan struct{}, 1)
	s.subscribers[id] = ch
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subscribers, id)
	}
}

// Skipped counts the cosmetic fields and filters that were left out, by name.
func (s *Store) Skipped() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.skipped)
}

// Apply takes an update from the xDS client. The errors are by resource name.
func (s *Store) Apply(u xds.Update) map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[u.TypeURL] = true
	var errs map[string]error
	switch u.TypeURL {
	case xds.ListenerType:
		errs = s.each(u, s.putListener)
		s.removeListeners(u.Removed)
	case xds.RouteType:
		errs = s.each(u, s.putRoute)
		s.removeRoutes(u.Removed)
	case xds.ClusterType:
		errs = s.each(u, s.putCluster)
		s.removeClusters(u.Removed)
		s.clustersKnown(u, errs)
	case xds.EndpointType:
		errs = s.each(u, s.putEndpoints)
		s.removeEndpoints(u.Removed)
		s.noEndpoints(u.Absent)
	case xds.NameTableType:
		errs = s.applyNames(u)
	case xds.SecretType:
		errs = s.applySecrets(u)
	case xds.VirtualHostType, xds.FilterChainType:
		errs = s.applyHeld(u, kindOf(u.TypeURL))
	}
	for _, name := range u.Removed {
		delete(s.hashes[u.TypeURL], name)
		if !s.goneRoutes[name] || u.TypeURL != xds.RouteType {
			s.bodies.drop(u.TypeURL, name)
		}
	}
	if u.TypeURL == xds.ListenerType || s.secretsWanted {
		s.wantSecretsNow() // before what needs them is judged to be complete
	}
	if u.TypeURL == xds.ListenerType || u.TypeURL == xds.RouteType {
		s.warm()
		s.useBase()
	}
	if u.TypeURL == xds.ListenerType || u.TypeURL == xds.SecretType {
		s.wantSecretsNow() // without those of what serves no longer
	}
	s.resubscribe(u.TypeURL)
	s.publish()
	return errs
}

// each decodes what really changed: after a reconnection the same comes again.
func (s *Store) each(u xds.Update, put func(name string, a *anypb.Any) error) map[string]error {
	errs := map[string]error{}
	known := s.hashes[u.TypeURL]
	if known == nil {
		known = map[string]uint64{}
		s.hashes[u.TypeURL] = known
	}
	for _, r := range u.Changed {
		hash := maphash.Bytes(s.seed, r.Body.GetValue())
		if old, ok := known[r.Name]; ok && old == hash {
			continue
		}
		if r.Body == nil {
			errs[r.Name] = errors.New("no body")
			continue
		}
		if err := put(r.Name, r.Body); err != nil {
			errs[r.Name] = err
			s.bodies.refused(u.TypeURL, r, err)
			s.log.Warn("resource refused", "type", u.TypeURL, "name", r.Name, "error", err)
			continue
		}
		known[r.Name] = hash
		s.bodies.took(u.TypeURL, r)
	}
	return errs
}

// maxSkipped bounds the names of fields that are counted; others are "other".
const maxSkipped = 1000

// decoder is for one resource. What it leaves out is counted, and told the first time.
func (s *Store) decoder(name string) resource.Decoder {
	return resource.Decoder{Skipped: func(field string) {
		if _, known := s.skipped[field]; !known {
			if len(s.skipped) >= maxSkipped {
				field = "other"
			} else {
				s.log.Info("left out of the configuration, since it is cosmetic here", "field", field, "first", name)
			}
		}
		s.skipped[field]++
	}}
}

func sameName(want, got string) error {
	if want != got {
		return fmt.Errorf("the resource %q calls itself %q", want, got)
	}
	return nil
}

func (s *Store) putNames(_ string, a *anypb.Any) error {
	names, err := s.decoder("names").NameTable(a)
	if err != nil {
		return err
	}
	s.names, s.changed.names = names, true
	return nil
}

// resubscribe says which routes and endpoints are needed, when that changed.
func (s *Store) resubscribe(typeURL string) {
	if typeURL == xds.ListenerType || typeURL == xds.RouteType {
		needed := s.neededRoutes()
		for name := range s.goneRoutes {
			if !needed[name] {
				delete(s.goneRoutes, name)
				delete(s.routes, name)
				s.bodies.drop(xds.RouteType, name)
				s.changed.routes = true
			}
		}
		s.want(xds.RouteType, &s.wantRoutes, slices.Sorted(maps.Keys(needed)))
	}
	if s.usersChanged {
		s.usersChanged = false
		s.want(xds.EndpointType, &s.wantEDS, slices.Sorted(maps.Keys(s.users)))
	}
}

func (s *Store) want(typeURL string, have *[]string, wanted []string) {
	if slices.Equal(*have, wanted) {
		return
	}
	*have = wanted
	if s.subscriber != nil {
		if wanted == nil {
			wanted = []string{} // none, where nil would be all
		}
		s.subscriber.Subscribe(typeURL, wanted)
	}
}

// publish makes the next Config from the parts that changed.
func (s *Store) publish() {
	old := s.current.Load()
	if old == nil {
		if !s.startable() {
			return
		}
		old = &Config{}
		s.changed = changes{listeners: true, routes: true, clusters: true, names: true}
	}
	defer s.finish()
	if s.changed == (changes{}) {
		return
	}
	c := old.clone()
	c.NamesOnDemand, c.held, c.heldByIP = s.onDemand, s.held, s.heldByIP
	if s.changed != (changes{held: true}) {
		c.Revision++
	}
	c.Sequence++
	if s.changed.routes {
		c.Routes = cloneMap(s.routes)
	}
	if s.changed.clusters {
		c.Clusters = cloneMap(s.ready)
	}
	if s.changed.listeners {
		var serving []*resource.Listener
		for _, state := range s.listeners {
			if state.serving != nil {
				serving = append(serving, state.serving)
			}
		}
		c.setListeners(serving)
	}
	if s.changed.names {
		c.setNames(s.names)
	}
	s.changed = changes{}
	s.current.Store(c)
	s.log.Debug("configuration published", "sequence", c.Sequence, "listeners", len(c.Listeners), "routes", len(c.Routes), "clusters", len(c.Clusters))
	for _, ch := range s.subscribers {
		select {
		case ch <- struct{}{}:
		default: // one is waiting already
		}
	}
}

// finish tells those who wait that their answers are published.
func (s *Store) finish() {
	for _, done := range s.finished {
		close(done)
	}
	s.finished = nil
}

// startable reports whether the first Config can be published.
func (s *Store) startable() bool {
	noClusters := s.onDemand && len(s.base) == 0
	if !s.seen[xds.ListenerType] || !s.seen[xds.ClusterType] && !noClusters || len(s.users) > 0 && !s.seen[xds.EndpointType] {
		return false
	}
	for _, state := range s.listeners {
		if !s.complete(state.latest) {
			return false
		}
	}
	return len(s.secretless) == 0
}
