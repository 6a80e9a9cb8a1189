package xds

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestHistory(t *testing.T) {
	var h History
	for i := range maxHistory + 3 {
		h = h.Add(map[string][]string{ClusterType: {fmt.Sprint(i), "all"}})
	}
	last := maxHistory + 2
	for steps, want := range map[uint64][]string{
		0: {}, 1: {fmt.Sprint(last), "all"}, 2: {fmt.Sprint(last - 1), fmt.Sprint(last), "all"},
	} {
		got, known := h.Since(steps, ClusterType)
		slices.Sort(got)
		if !known || !slices.Equal(got, want) {
			t.Errorf("%d steps: %q, %v; want %q", steps, got, known, want)
		}
	}
	if _, known := h.Since(maxHistory+1, ClusterType); known {
		t.Error("more is known than is kept")
	}
	if got, known := h.Since(1, ListenerType); !known || len(got) > 0 {
		t.Errorf("another type: %q, %v", got, known)
	}
	if _, known := h.Add(nil).Since(1, ClusterType); known {
		t.Error("a step that changed everything is told name by name")
	}
}

// shared is a Viewer with one view for all nodes. It has more by name than All tells, and
// counts who holds what.
type shared struct {
	generator
	mu    sync.Mutex
	state *Whole
	named map[string]Resource // by name, of clusters
	held  map[string]int
	users int
}

func (v *shared) View(context.Context, *corev3.Node) (View, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.users++
	return v, nil
}

func (v *shared) State() (State, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return withNamed{v.state, maps.Clone(v.named)}, nil
}

// withNamed is a state with clusters that are found by name only.
type withNamed struct {
	*Whole
	named map[string]Resource
}

func (s withNamed) All(typeURL string) map[string]Resource {
	if typeURL == ClusterType {
		return nil
	}
	return s.Whole.All(typeURL)
}

func (v *shared) Stale() bool { return false }

func (v *shared) Hold(typeURL string, names []string)    { v.count(typeURL, names, 1) }
func (v *shared) Release(typeURL string, names []string) { v.count(typeURL, names, -1) }

func (v *shared) count(typeURL string, names []string, n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, name := range names {
		k := short(typeURL) + " " + name
		if v.held[k] += n; v.held[k] == 0 {
			delete(v.held, k)
		}
	}
}

func (v *shared) Leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.users--
}

func (v *shared) holds() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	words := []string{fmt.Sprint(v.users, " users")}
	for k, n := range v.held {
		words = append(words, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

func newShared(t *testing.T, content Snapshot) (*fixture, *shared) {
	v := &shared{held: map[string]int{}, state: Next(nil, content)}
	return (&fixture{}).serve(t, NewServer(v, ServerOptions{})), v
}

func (v *shared) set(f *fixture, content Snapshot) {
	v.mu.Lock()
	v.state = Next(v.state, content)
	v.mu.Unlock()
	f.server.Changed()
}

// Streams get what they ask for by name, then what changed of it, and nothing else; the view
// knows what is held, until the last stream is gone.
func TestSharedView(t *testing.T) {
	clusters := func(words ...string) Snapshot {
		return snapshot(t, map[string][]string{ClusterType: words, ListenerType: {"l=1"}})
	}
	f, v := newShared(t, clusters("a=1", "b=1"))
	one, two := rawDelta(t, f.conn), rawDelta(t, f.conn)
	ask := func(r *raw, m *discoveryv3.DeltaDiscoveryRequest) {
		m.Node, m.TypeUrl = node("n"), ClusterType
		r.askDelta(m)
	}
	answer := func(r *raw, m *discoveryv3.DeltaDiscoveryResponse) {
		ask(r, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: m.Nonce})
	}
	ask(one, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a", "none"}})
	answer(one, one.getDelta("CDS a"))
	answer(one, one.getDelta("CDS -none"))
	ask(two, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a", "b"}})
	answer(two, two.getDelta("CDS a b"))
	holds := func(want string) {
		t.Helper()
		eventually(t, nil, want, func() bool { return v.holds() == want })
	}
	holds("2 users, CDS a 2, CDS b 1, CDS none 1")

	v.set(f, clusters("a=1", "b=2")) // one has nothing of it
	answer(two, two.getDelta("CDS b"))
	v.set(f, clusters("a=1", "b=2", "none=1"))
	answer(one, one.getDelta("CDS none"))
	v.set(f, clusters("a=2", "b=2", "none=1"))
	answer(one, one.getDelta("CDS a"))
	answer(two, two.getDelta("CDS a"))

	ask(one, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"a"}})
	holds("2 users, CDS a 1, CDS b 1, CDS none 1")
	if err := one.delta.CloseSend(); err != nil {
		t.Fatal(err)
	}
	holds("1 users, CDS a 1, CDS b 1")

	// A client that comes again says what it has.
	three := rawDelta(t, f.conn)
	ask(three, &discoveryv3.DeltaDiscoveryRequest{
		ResourceNamesSubscribe:  []string{"a", "b"},
		InitialResourceVersions: map[string]string{"a": v.state.all[ClusterType]["a"].Version, "b": "old"},
	})
	answer(three, three.getDelta("CDS b"))
}

// A type whose responses are not answered is not sent more of, and neither is what may refer
// to it; endpoints are.
func TestWindow(t *testing.T) {
	big := strings.Repeat("x", window)
	content := func(i int) Snapshot {
		return snapshot(t, map[string][]string{
			ClusterType: {fmt.Sprintf("a=%d%s", i, big)}, EndpointType: {fmt.Sprintf("a=%d", i)}, RouteType: {fmt.Sprintf("r=%d", i)},
		})
	}
	f := newFixture(t, content(0))
	r := rawDelta(t, f.conn)
	ask := func(typeURL, nonce string, names ...string) {
		r.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("n"), TypeUrl: typeURL, ResponseNonce: nonce, ResourceNamesSubscribe: names})
	}
	ask(ClusterType, "")
	first := r.getDelta("CDS a")
	ask(EndpointType, "", "a")
	ask(EndpointType, r.getDelta("EDS a").Nonce)
	ask(RouteType, "", "r")
	ask(RouteType, r.getDelta("RDS r").Nonce)

	f.change(content(1)) // clusters wait, endpoints do not, routes do
	ask(EndpointType, r.getDelta("EDS a").Nonce)
	f.change(content(2))
	ask(EndpointType, r.getDelta("EDS a").Nonce)
	ask(ClusterType, first.Nonce)
	second := r.getDelta("CDS a")
	if got := BodyVersion(second.Resources[0].Resource); got != content(2)[ClusterType]["a"].Version {
		t.Error("not the newest cluster")
	}
	r.getDelta("EDS a") // again, for the cluster warms again
	got := r.getDelta("RDS r")
	if diff := cmp.Diff(content(2)[RouteType]["r"].Version, BodyVersion(got.Resources[0].Resource)); diff != "" {
		t.Error(diff)
	}
}

// Who wants everything waits while many others are given it, and who asks by name does not.
func TestTurns(t *testing.T) {
	f := newFixture(t, world(t, "a=1"))
	var holders []*raw
	var nonces []string
	for range turns {
		r := rawDelta(t, f.conn)
		r.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("n"), TypeUrl: ClusterType})
		nonces = append(nonces, r.getDelta("CDS a").Nonce)
		holders = append(holders, r)
	}
	waiting := rawDelta(t, f.conn)
	waiting.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("w"), TypeUrl: ClusterType})
	named := rawDelta(t, f.conn)
	named.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("x"), TypeUrl: ClusterType, ResourceNamesSubscribe: []string{"a"}})
	named.getDelta("CDS a")
	for _, n := range f.server.Status() {
		if n.NodeID == "w" && n.Types[0].Held > 0 {
			t.Error("it did not wait for its turn")
		}
	}
	holders[0].askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ClusterType, ResponseNonce: nonces[0]})
	waiting.getDelta("CDS a")
}

// unsure is a State that does not know yet whether some resources exist.
type unsure struct {
	*Whole
	names map[string]bool
}

func (s unsure) Awaits(_, name string) bool { return s.names[name] }

// Of what is not known yet nothing is said, neither that it is nor that it is not.
func TestNothingIsSaidOfWhatIsNotKnown(t *testing.T) {
	s := newSubscription(SecretType, true)
	s.open(&request{typeURL: SecretType, subscribe: []string{"known", "gone", "later"}})
	first := Next(nil, snapshot(t, map[string][]string{}))
	first.all[SecretType] = map[string]Resource{"known": {Name: "known", Version: "1", Body: &anypb.Any{TypeUrl: SecretType}}}
	out, _ := s.take(typeState{unsure{first, map[string]bool{"later": true}}, SecretType}, typeState{}, phaseUpdate, "1", responseLimit)
	if got := names(out.resources); !slices.Equal(got, []string{"known"}) || !slices.Equal(out.removed, []string{"gone"}) {
		t.Errorf("told %q, removed %q", got, out.removed)
	}
	s.reviewNames([]string{"later"})
	out, _ = s.take(typeState{first, SecretType}, typeState{}, phaseUpdate, "2", responseLimit)
	if out == nil || len(out.resources) > 0 || !slices.Equal(out.removed, []string{"later"}) {
		t.Errorf("when it is known: %+v", out)
	}
}
