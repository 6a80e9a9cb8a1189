package xds

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// message makes a resource of the type; text makes bodies of one name differ.
func message(typeURL, name, text string) proto.Message {
	switch typeURL {
	case ClusterType:
		return &clusterv3.Cluster{Name: name, AltStatName: text}
	case EndpointType:
		return &endpointv3.ClusterLoadAssignment{ClusterName: name, NamedEndpoints: map[string]*endpointv3.Endpoint{text: {}}}
	case ListenerType:
		return &listenerv3.Listener{Name: name, StatPrefix: text}
	case RouteType:
		return &routev3.RouteConfiguration{Name: name, InternalOnlyHeaders: []string{text}}
	case VirtualHostType:
		return &routev3.VirtualHost{Name: name, Domains: []string{text}}
	}
	panic("no message for " + typeURL)
}

func resource(t testing.TB, typeURL, name, text string) Resource {
	t.Helper()
	var body *anypb.Any
	if typeURL == NameTableType {
		body = &anypb.Any{TypeUrl: typeURL, Value: protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), text)}
	} else {
		var err error
		if body, err = anypb.New(message(typeURL, name, text)); err != nil {
			t.Fatal(err)
		}
	}
	return Resource{Name: name, Version: BodyVersion(body), Body: body}
}

// snapshot is made of "name=text" words by type.
func snapshot(t testing.TB, types map[string][]string) Snapshot {
	t.Helper()
	s := Snapshot{}
	for typeURL, words := range types {
		s[typeURL] = table(t, typeURL, words...)
	}
	return s
}

func table(t testing.TB, typeURL string, words ...string) map[string]Resource {
	t.Helper()
	out := map[string]Resource{}
	for _, w := range words {
		name, text, _ := cutLast(w, "=")
		out[name] = resource(t, typeURL, name, text)
	}
	return out
}

func names(resources []Resource) []string {
	var out []string
	for _, r := range resources {
		out = append(out, r.Name)
	}
	slices.Sort(out)
	return out
}

// generator gives every node the same snapshot, or an error.
type generator struct {
	mu    sync.Mutex
	snap  Snapshot
	err   error
	calls int
}

func (g *generator) Generate(*corev3.Node) (Snapshot, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	return g.snap, g.err
}

func (g *generator) set(s Snapshot, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.snap, g.err = s, err
}

// store is a handler that keeps what it is given, as "name=text" by type, and a
// diary of the calls. It refuses the bodies that are in refuse.
type store struct {
	mu      sync.Mutex
	busy    bool
	have    map[string]map[string]string // type -> name -> version
	diary   []string
	refuse  map[string]bool // version
	onApply func(Update)
	changed chan struct{}
}

func newStore() *store {
	return &store{have: map[string]map[string]string{}, refuse: map[string]bool{}, changed: make(chan struct{}, 1)}
}

func short(typeURL string) string {
	return map[string]string{
		ClusterType: "CDS", EndpointType: "EDS", ListenerType: "LDS", RouteType: "RDS", NameTableType: "NDS",
	}[typeURL]
}

func (s *store) Apply(u Update) map[string]error {
	s.mu.Lock()
	if s.busy {
		panic("Apply is called twice at a time")
	}
	s.busy = true
	have := s.have[u.TypeURL]
	if have == nil {
		have = map[string]string{}
		s.have[u.TypeURL] = have
	}
	errs := map[string]error{}
	line := short(u.TypeURL)
	for _, r := range u.Changed {
		if s.refuse[r.Version] {
			errs[r.Name] = fmt.Errorf("%q is not to my taste", r.Name)
			line += " !" + r.Name
			continue
		}
		have[r.Name] = r.Version
		line += " +" + r.Name
	}
	for _, n := range u.Removed {
		delete(have, n)
		line += " -" + n
	}
	s.diary = append(s.diary, line)
	hook := s.onApply
	s.mu.Unlock()
	if hook != nil {
		hook(u)
	}
	s.mu.Lock()
	s.busy = false
	s.mu.Unlock()
	poke(s.changed)
	return errs
}

// has reports whether the store has exactly the resources.
func (s *store) has(want Snapshot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for typeURL, resources := range want {
		versions := map[string]string{}
		for n, r := range resources {
			versions[n] = r.Version
		}
		if have, ok := s.have[typeURL]; !ok || !maps.Equal(have, versions) {
			return false
		}
	}
	return true
}

// lines is the diary since the last call.
func (s *store) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.diary
	s.diary = nil
	return out
}

// eventually waits until ok; it looks again after every change and now and then.
func eventually(t testing.TB, changed <-chan struct{}, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still not so: %s", what)
		}
	}
}

func (s *store) await(t testing.TB, want Snapshot) {
	t.Helper()
	eventually(t, s.changed, "the store has the snapshot", func() bool { return s.has(want) })
}

// run runs the client until the test ends or stop is called.
func run(t testing.TB, c *Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

func pipe(t testing.TB, s *Server) *Pipe {
	t.Helper()
	p, err := NewPipe(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func node(id string) *corev3.Node { return &corev3.Node{Id: id} }

// follow subscribes as a proxy does: to all clusters and listeners, and by name to the
// endpoints of each cluster and the route of each listener.
func follow(s *store, c *Client) {
	wanted := map[string]map[string]struct{}{ClusterType: {}, ListenerType: {}}
	next := map[string]string{ClusterType: EndpointType, ListenerType: RouteType}
	s.onApply = func(u Update) {
		set, ok := wanted[u.TypeURL]
		if !ok {
			return
		}
		for _, r := range u.Changed {
			set[r.Name] = struct{}{}
		}
		for _, n := range u.Removed {
			delete(set, n)
		}
		c.Subscribe(next[u.TypeURL], slices.AppendSeq([]string{}, maps.Keys(set)))
	}
	c.Subscribe(ClusterType, nil)
	c.Subscribe(ListenerType, nil)
	c.Subscribe(NameTableType, nil)
}
