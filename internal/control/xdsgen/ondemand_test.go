package xdsgen

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

func sortedObjects(m map[istioapi.Ref]istioapi.Object) []istioapi.Object {
	return slices.SortedFunc(maps.Values(m), func(a, b istioapi.Object) int {
		x, y := a.Common().Ref, b.Common().Ref
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Kind, y.Kind))
	})
}

// probes are what sidecars may ask for in a world of edits.
var probes = []string{
	"a.example.com", "b.example.com", "c.example.com", "x.a.example.com", "y.a.example.com", "z.example.com", "d.test", "e.test", "x.d.test",
	"web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "web.other", "web.other.svc.cluster.local",
	"db", "db.other", "db.default.svc.cluster.local", "other.default", "pod.db.default.svc.cluster.local", "pod.web.other", "192.0.2.3",
	"192.0.2.1", "192.0.2.2", "[2001:db8::1]", "unknown.org", "*.example.com", "*.test", "*.a.example.com",
	"240.240.0.1",
}

// What a sidecar gets by name is what it would have of everything: in random worlds, after
// every edit, and the names that have changed are told, no others.
func TestOnDemandIsTheSame(t *testing.T) {
	node := captured()
	node.Labels = map[string]string{"app": "test"}
	node.Addresses = parseAddresses("10.0.0.1")
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			e := newEdits(seed)
			last, _ := mesh.New(e.state(), e.options(nil))
			w := watchWorld(t, last, node)
			for range 25 {
				for range 1 + e.IntN(2) {
					e.step()
				}
				next, _ := mesh.New(e.state(), e.options(last))
				w.change(t, next)
				last = next
			}
		})
	}
}

// A stream that asked before a change, and is answered from before it, is told what has
// changed meanwhile.
func TestAskedDuringAChange(t *testing.T) {
	none, _ := mesh.New(istioapi.Objects{}, mesh.Options{})
	some, _ := mesh.New(manyEntries(1), mesh.Options{Previous: none})
	g := NewGenerator(none, nil)
	node := captured()
	node.OnDemand = true
	v, err := g.View(t.Context(), EncodeNode(node, "cluster.local"))
	if err != nil {
		t.Fatal(err)
	}
	const name = "80/host-0.example.com"
	v.Hold(xds.VirtualHostType, []string{name})
	var states [2]xds.State
	for i, s := range []*mesh.Snapshot{none, some} {
		g.Set(s)
		if states[i], err = v.State(); err != nil {
			t.Fatal(err)
		}
	}
	if _, found := states[0].Find(xds.VirtualHostType, name); found {
		t.Error("a moment has what came after it")
	}
	if _, found := states[1].Find(xds.VirtualHostType, name); !found {
		t.Error("what came is not found")
	}
	if names, known := states[1].Changed(xds.VirtualHostType, states[0].Sequence()); known && !slices.Contains(names, name) {
		t.Errorf("changed: %v", names)
	}
}

// watched is a view with everything held that can be asked for.
type watched struct {
	generator *Generator
	view      xds.View
	node      mesh.Node
	names     map[string][]string // type -> what is asked for
	sequence  uint64
	have      map[typedName]string // versions
}

func watchWorld(t *testing.T, s *mesh.Snapshot, node mesh.Node) *watched {
	t.Helper()
	w := &watched{generator: NewGenerator(s, nil), node: node, have: map[typedName]string{}, names: map[string][]string{}}
	for _, p := range probes {
		for _, port := range []string{"80", "81", "9001"} {
			w.names[xds.VirtualHostType] = append(w.names[xds.VirtualHostType], port+"/"+p)
		}
		for _, port := range []string{"443", "444"} {
			w.names[xds.FilterChainType] = append(w.names[xds.FilterChainType], "0.0.0.0_"+port+"/"+p, "192.0.2.1_"+port+"/"+p)
		}
		for _, port := range []string{"80", "81", "443", "444", "9000", "9001"} {
			for _, subset := range []string{"", "one"} {
				w.names[xds.ClusterType] = append(w.names[xds.ClusterType], "outbound|"+port+"|"+subset+"|"+p)
				w.names[xds.EndpointType] = append(w.names[xds.EndpointType], "outbound|"+port+"|"+subset+"|"+p)
			}
		}
		w.names[xds.NameTableType] = append(w.names[xds.NameTableType], p)
	}
	node.OnDemand = true
	var err error
	if w.view, err = w.generator.View(t.Context(), EncodeNode(node, "cluster.local")); err != nil {
		t.Fatal(err)
	}
	for typeURL, names := range w.names {
		w.view.Hold(typeURL, names)
	}
	w.look(t, s)
	return w
}

func (w *watched) change(t *testing.T, s *mesh.Snapshot) {
	t.Helper()
	w.generator.Set(s)
	w.look(t, s)
}

// look takes what the view has now, as a stream would: where it can, only what is told to
// have changed. Then it compares all of it with the full form.
func (w *watched) look(t *testing.T, s *mesh.Snapshot) {
	t.Helper()
	if w.view.Stale() {
		w.view.Leave()
		node := w.node
		node.OnDemand = true
		var err error
		if w.view, err = w.generator.View(t.Context(), EncodeNode(node, "cluster.local")); err != nil {
			t.Fatal(err)
		}
		for typeURL, names := range w.names {
			w.view.Hold(typeURL, names)
		}
		w.sequence = 0
	}
	state, err := w.view.State()
	if err != nil {
		t.Fatal(err)
	}
	full, err := Generate(s, relevant(w.node, s.LabelKeys()))
	if err != nil {
		t.Fatal(err)
	}
	for typeURL, names := range w.names {
		changed, known := state.Changed(typeURL, w.sequence)
		for _, n := range names {
			want, exists := wanted(t, full, typeURL, n)
			got, ok := state.Find(typeURL, n)
			if ok != exists {
				t.Fatalf("%s %q exists: %v, in the full form: %v", typeURL, n, ok, exists)
			}
			if ok {
				compareNamed(t, typeURL, n, want, got)
			}
			k := typedName{typeURL, n}
			if known && slices.Contains(changed, n) != (w.have[k] != got.Version) && w.sequence != 0 {
				t.Fatalf("%s %q: told as changed: %v; it was %q and is %q", typeURL, n, slices.Contains(changed, n), w.have[k], got.Version)
			}
			w.have[k] = got.Version
		}
	}
	w.sequence = state.Sequence()
	compareBase(t, full, state)
}

func compareNamed(t *testing.T, typeURL, name string, want proto.Message, got xds.Resource) {
	t.Helper()
	is := proto.Message(&anypb.Any{Value: got.Body.GetValue()})
	if typeURL != xds.NameTableType {
		is = unpackAny[proto.Message](t, got.Body)
	}
	if got.Name != name || !proto.Equal(want, is) {
		t.Fatalf("%s %q (-full +by name):\n%s", typeURL, name, gocmp.Diff(want, is, protocmp.Transform()))
	}
}

// wanted is what the full form has for a name.
func wanted(t *testing.T, full xds.Snapshot, typeURL, name string) (proto.Message, bool) {
	t.Helper()
	group, host, _ := strings.Cut(name, "/")
	var found proto.Message
	best := -1
	try := func(pattern string, m proto.Message) {
		if n := closeness(pattern, host); n > best {
			found, best = m, n
		}
	}
	switch typeURL {
	case xds.VirtualHostType:
		if r, ok := full[xds.RouteType][group]; ok {
			for _, v := range unpackAny[*routev3.RouteConfiguration](t, r.Body).VirtualHosts {
				for _, d := range v.Domains {
					if v.Name != "block_all" && v.Name != "allow_any" {
						try(d, v)
					}
				}
			}
		}
	case xds.FilterChainType:
		if r, ok := full[xds.ListenerType][group]; ok {
			for _, c := range unpackAny[*listenerv3.Listener](t, r.Body).FilterChains {
				for _, n := range c.GetFilterChainMatch().GetServerNames() {
					if chainByName(c) {
						try(n, c)
					}
				}
			}
		}
	case xds.NameTableType:
		table, err := DecodeNameTable(full[xds.NameTableType][""].Body.GetValue())
		if err != nil {
			t.Fatal(err)
		}
		entry := table.find(name)
		return &anypb.Any{Value: entry.Encode()}, entry != nil
	default:
		r, ok := full[typeURL][name]
		if !ok {
			return nil, false
		}
		return unpackAny[proto.Message](t, r.Body), true
	}
	return found, best >= 0
}

func chainByName(c *listenerv3.FilterChain) bool {
	m := c.GetFilterChainMatch()
	return len(m.GetServerNames()) > 0 && len(m.GetPrefixRanges()) == 0
}

// compareBase: what is there from the start is the full form without what is asked for.
func compareBase(t *testing.T, full xds.Snapshot, state xds.State) {
	t.Helper()
	all := state.All(xds.ListenerType)
	if diff := gocmp.Diff(sortedNames(full[xds.ListenerType]), sortedNames(all)); diff != "" {
		t.Fatalf("listeners (-full +on demand):\n%s", diff)
	}
	if diff := gocmp.Diff(sortedNames(full[xds.RouteType]), sortedNames(state.All(xds.RouteType))); diff != "" {
		t.Fatalf("routes (-full +on demand):\n%s", diff)
	}
	for name, r := range full[xds.ListenerType] {
		want, got := unpackAny[*listenerv3.Listener](t, r.Body), unpackAny[*listenerv3.Listener](t, all[name].Body)
		chains := len(want.FilterChains)
		want.FilterChains = slices.DeleteFunc(want.FilterChains, chainByName)
		if (got.FcdsConfig != nil) != (len(want.FilterChains) < chains) {
			t.Fatalf("listener %s asks for chains: %v", name, got.FcdsConfig != nil)
		}
		got.FcdsConfig = nil
		for _, c := range got.FilterChains {
			withoutOnDemand(t, c)
		}
		if diff := gocmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatalf("listener %s (-full +on demand):\n%s", name, diff)
		}
	}
}

func sortedNames(m map[string]xds.Resource) []string { return slices.Sorted(maps.Keys(m)) }

func withoutOnDemand(t *testing.T, c *listenerv3.FilterChain) {
	t.Helper()
	for _, f := range c.Filters {
		var m hcmv3.HttpConnectionManager
		if f.GetTypedConfig().UnmarshalTo(&m) != nil {
			continue
		}
		n := len(m.HttpFilters)
		m.HttpFilters = slices.DeleteFunc(m.HttpFilters, func(h *hcmv3.HttpFilter) bool { return h.Name == "envoy.filters.http.on_demand" })
		if len(m.HttpFilters) == n && m.GetRouteConfig() == nil { // inbound there is nothing to ask for
			t.Fatal("requests do not wait for what is asked for")
		}
		body := &anypb.Any{}
		if err := anypb.MarshalFrom(body, &m, marshal); err != nil {
			t.Fatal(err)
		}
		f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: body}
	}
}
