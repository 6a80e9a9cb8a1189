package config_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/xds"
)

// wants records subscriptions: "*" for all, else the names.
type wants map[string][]string

func (w wants) Subscribe(typeURL string, names []string) {
	if names == nil {
		names = []string{"*"}
	}
	w[typeURL] = names
}

func (w wants) Ask(typeURL string, more, less []string) {
	names := slices.DeleteFunc(slices.Clone(w[typeURL]), func(n string) bool { return slices.Contains(less, n) || slices.Contains(more, n) })
	names = append(names, more...)
	slices.Sort(names)
	w[typeURL] = names
}

type harness struct {
	*config.Store
	t     *testing.T
	wants wants
	told  <-chan struct{}
	asked map[config.Need]bool
}

func newHarness(t *testing.T) *harness { return harnessWith(t, config.StoreOptions{}) }

func harnessWith(t *testing.T, o config.StoreOptions) *harness {
	s := config.NewStore(o)
	h := &harness{Store: s, t: t, wants: wants{}, asked: map[config.Need]bool{}}
	s.Attach(h.wants)
	told, end := s.Subscribe()
	t.Cleanup(end)
	h.told = told
	return h
}

func (h *harness) apply(typeURL string, removed []string, bodies map[string]*anypb.Any) map[string]error {
	h.t.Helper()
	u := xds.Update{TypeURL: typeURL, Removed: removed}
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		u.Changed = append(u.Changed, xds.Resource{Name: name, Body: bodies[name]})
	}
	return h.Store.Apply(u)
}

func (h *harness) good(typeURL string, bodies map[string]*anypb.Any) {
	h.t.Helper()
	if errs := h.apply(typeURL, nil, bodies); len(errs) > 0 {
		h.t.Fatalf("refused: %v", errs)
	}
}

// published is whether a publication was told since the last call.
func (h *harness) published() bool {
	select {
	case <-h.told:
		return true
	default:
		return false
	}
}

func (h *harness) want(typeURL string, names ...string) {
	h.t.Helper()
	if diff := cmp.Diff(append([]string{}, names...), h.wants[typeURL]); diff != "" {
		h.t.Errorf("subscription to %s: %s", typeURL, diff)
	}
}

func bodies(list ...any) map[string]*anypb.Any {
	out := map[string]*anypb.Any{}
	for i := 0; i < len(list); i += 2 {
		out[list[i].(string)] = list[i+1].(*anypb.Any)
	}
	return out
}

func httpListener(t *testing.T, name, address string, port int, rds string) *anypb.Any {
	return resourcetest.Listener(t, fmt.Sprintf(`{"name":%q,"address":{"socketAddress":{"address":%q,"portValue":%d}},"bindToPort":false,
		"filterChains":[{"filters":[{"name":"hcm","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"rds":{"configSource":{"ads":{}},"routeConfigName":%q},
		"httpFilters":[{"name":"router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`, name, address, port, rds))
}

func tcpListener(t *testing.T, name, address string, port int, extra string) *anypb.Any {
	return resourcetest.Listener(t, fmt.Sprintf(`{"name":%q,"address":{"socketAddress":{"address":%q,"portValue":%d}},%s
		"filterChains":[{"filters":[{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"BlackHoleCluster"}}]}]}`, name, address, port, extra))
}

func badListener(t *testing.T, name string, port int) *anypb.Any {
	return resourcetest.Listener(t, fmt.Sprintf(`{"name":%q,"address":{"socketAddress":{"address":"0.0.0.0","portValue":%d}},"bindToPort":false,
		"filterChains":[{"filters":[{"name":"rbac","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"}}]}]}`, name, port))
}

func route(t *testing.T, name, cluster string) *anypb.Any {
	return resourcetest.Route(t, fmt.Sprintf(`{"name":%q,"virtualHosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":%q}}]}]}`, name, cluster))
}

func edsCluster(t *testing.T, name string) *anypb.Any {
	return resourcetest.Cluster(t, fmt.Sprintf(`{"name":%q,"type":"EDS","edsClusterConfig":{"edsConfig":{"ads":{}}}}`, name))
}

func staticCluster(t *testing.T, name string) *anypb.Any {
	return resourcetest.Cluster(t, fmt.Sprintf(`{"name":%q,"type":"STATIC"}`, name))
}

func endpoints(t *testing.T, name, address string) *anypb.Any {
	return resourcetest.Endpoints(t, fmt.Sprintf(`{"clusterName":%q,"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":%q,"portValue":80}}}}]}]}`, name, address))
}

func nameTable(names map[string]string) *anypb.Any {
	var b []byte
	for name, ip := range names {
		var info []byte
		if ip != "" {
			info = protowire.AppendString(protowire.AppendTag(info, 1, protowire.BytesType), ip)
		}
		var entry []byte
		entry = protowire.AppendTag(entry, 1, protowire.BytesType)
		entry = protowire.AppendString(entry, name)
		entry = protowire.AppendTag(entry, 2, protowire.BytesType)
		entry = protowire.AppendBytes(entry, info)
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendBytes(b, entry)
	}
	return &anypb.Any{TypeUrl: xds.NameTableType, Value: b}
}

func TestFirstPublicationIsComplete(t *testing.T) {
	h := newHarness(t)
	h.want(xds.ListenerType, "*")
	h.want(xds.ClusterType, "*")
	h.want(xds.NameTableType, "*")
	h.good(xds.ClusterType, bodies("c", edsCluster(t, "c"), "s", staticCluster(t, "s")))
	h.want(xds.EndpointType, "c")
	h.good(xds.EndpointType, bodies("c", endpoints(t, "c", "10.0.0.1")))
	h.good(xds.ListenerType, bodies("l", httpListener(t, "l", "0.0.0.0", 80, "r")))
	h.want(xds.RouteType, "r")
	if h.Current() != nil || h.published() {
		t.Fatal("published without the route configuration")
	}
	h.good(xds.RouteType, bodies("r", route(t, "r", "c")))
	c := h.Current()
	if c == nil || !h.published() {
		t.Fatal("not published when complete")
	}
	if c.Sequence != 1 || c.Listener("l") == nil || c.Routes["r"] == nil || c.Clusters["s"] == nil || c.Clusters["c"].Endpoints.Localities[0].Endpoints[0].Host != "10.0.0.1" {
		t.Errorf("%+v", c)
	}
}

func TestWaitsForTheFirstEndpoints(t *testing.T) {
	h := newHarness(t)
	h.good(xds.ClusterType, bodies("a", edsCluster(t, "a"), "b", edsCluster(t, "b")))
	h.good(xds.ListenerType, bodies("l", tcpListener(t, "l", "0.0.0.0", 80, "")))
	if h.Current() != nil {
		t.Fatal("published before any endpoints were known")
	}
	h.good(xds.EndpointType, bodies("a", endpoints(t, "a", "10.0.0.1")))
	c := h.Current()
	if c == nil {
		t.Fatal("a cluster whose endpoints do not come holds up everything")
	}
	if c.Clusters["a"] == nil || c.Clusters["b"] != nil {
		t.Errorf("clusters: %v", c.Clusters)
	}
}

func TestEmptyControlPlane(t *testing.T) {
	h := newHarness(t)
	h.good(xds.ClusterType, nil)
	h.good(xds.ListenerType, nil)
	if h.Current() == nil {
		t.Fatal("an empty configuration is one too")
	}
}

// start publishes a listener l with route r, and cluster c with endpoints.
func start(t *testing.T) *harness {
	h := newHarness(t)
	h.good(xds.ClusterType, bodies("c", edsCluster(t, "c"), "s", staticCluster(t, "s")))
	h.good(xds.EndpointType, bodies("c", endpoints(t, "c", "10.0.0.1")))
	h.good(xds.ListenerType, bodies("l", httpListener(t, "l", "0.0.0.0", 80, "r")))
	h.good(xds.RouteType, bodies("r", route(t, "r", "c")))
	if !h.published() {
		t.Fatal("not published")
	}
	return h
}

func TestListenerWarms(t *testing.T) {
	h := start(t)
	old := h.Current().Listener("l")
	h.good(xds.ListenerType, bodies("l", httpListener(t, "l", "0.0.0.0", 80, "r2"), "m", httpListener(t, "m", "0.0.0.0", 81, "r2")))
	h.want(xds.RouteType, "r", "r2")
	if h.Current().Listener("l") != old || h.Current().Listener("m") != nil {
		t.Fatal("a listener serves without its routes")
	}
	h.good(xds.RouteType, bodies("r2", route(t, "r2", "c")))
	c := h.Current()
	if c.Listener("l") == old || c.Listener("m") == nil {
		t.Fatal("complete listeners do not serve")
	}
	h.want(xds.RouteType, "r2")
	h.apply(xds.RouteType, []string{"r"}, nil) // the client tells what is no longer wanted
	h.good(xds.ListenerType, nil)
	if h.Current().Routes["r"] != nil {
		t.Error("a route configuration that nobody names stays")
	}
}

func TestRemovedRouteThatIsNeededStays(t *testing.T) {
	h := start(t)
	h.apply(xds.RouteType, []string{"r"}, nil)
	if h.Current().Routes["r"] == nil {
		t.Error("a listener lost its routes")
	}
	h.apply(xds.ListenerType, []string{"l"}, nil)
	if c := h.Current(); c.Listener("l") != nil || c.Routes["r"] != nil || len(c.Listeners) != 0 {
		t.Errorf("%+v", c)
	}
	h.want(xds.RouteType)
}

func TestRemovals(t *testing.T) {
	h := start(t)
	h.apply(xds.ClusterType, []string{"c"}, nil)
	h.want(xds.EndpointType)
	if h.Current().Clusters["c"] != nil || h.Current().Clusters["s"] == nil {
		t.Errorf("%v", h.Current().Clusters)
	}
	h.apply(xds.EndpointType, []string{"c"}, nil)
	h.good(xds.ClusterType, bodies("c", edsCluster(t, "c")))
	if h.Current().Clusters["c"] != nil {
		t.Error("a cluster came back with endpoints of the past")
	}
	h.good(xds.EndpointType, bodies("c", endpoints(t, "c", "10.0.0.2")))
	h.apply(xds.EndpointType, []string{"c"}, nil)
	if e := h.Current().Clusters["c"].Endpoints; e == nil || len(e.Localities) != 1 {
		t.Errorf("a cluster lost its endpoints: %+v", e)
	}
	h.apply(xds.ClusterType, []string{"c"}, nil)
	h.good(xds.ClusterType, bodies("c", edsCluster(t, "c")))
	if h.Current().Clusters["c"] != nil {
		t.Error("a cluster came back with removed endpoints")
	}
}

func TestClusterWarms(t *testing.T) {
	h := start(t)
	old := h.Current().Clusters["c"]
	other := h.Current().Clusters["s"]
	h.good(xds.ClusterType, bodies("c", resourcetest.Cluster(t, `{"name":"c","type":"EDS","edsClusterConfig":{"serviceName":"e2","edsConfig":{"ads":{}}}}`)))
	h.want(xds.EndpointType, "e2")
	if h.Current().Clusters["c"] != old {
		t.Error("a cluster changed without endpoints")
	}
	h.good(xds.EndpointType, bodies("e2", endpoints(t, "e2", "10.0.0.9")))
	if got := h.Current().Clusters["c"].Endpoints.Localities[0].Endpoints[0].Host; got != "10.0.0.9" {
		t.Errorf("got %s", got)
	}
	if h.Current().Clusters["s"] != other {
		t.Error("a cluster that did not change was made again")
	}
}

func TestRefused(t *testing.T) {
	h := start(t)
	old := h.Current()
	h.published()
	errs := h.apply(xds.ListenerType, nil, bodies("l", badListener(t, "l", 80)))
	if err := errs["l"]; err == nil || !strings.Contains(err.Error(), "filter_chains[0].filters[0]") || !strings.Contains(err.Error(), `listener "l"`) {
		t.Errorf("errors: %v", errs)
	}
	errs = h.apply(xds.ClusterType, nil, bodies("c", resourcetest.Cluster(t, `{"name":"c","type":"EDS","lbPolicy":"LOAD_BALANCING_POLICY_CONFIG","edsClusterConfig":{"edsConfig":{"ads":{}}}}`), "n", staticCluster(t, "n")))
	if errs["c"] == nil || errs["n"] != nil || len(errs) != 1 {
		t.Errorf("errors: %v", errs)
	}
	c := h.Current()
	if c.Listener("l") != old.Listener("l") || c.Clusters["c"] != old.Clusters["c"] || c.Clusters["n"] == nil {
		t.Error("the last good version did not stay, or the good one did not come")
	}
	if errs = h.apply(xds.ListenerType, nil, bodies("x", tcpListener(t, "y", "0.0.0.0", 99, ""))); errs["x"] == nil {
		t.Error("a resource under a false name was accepted")
	}
}

func TestRefusedListenerNeverGoodRefusesConnections(t *testing.T) {
	h := start(t)
	h.apply(xds.ListenerType, nil, bodies("m", badListener(t, "m", 81)))
	l := h.Current().ListenerFor(netip.MustParseAddrPort("1.2.3.4:81"))
	if l == nil || l.Rejected == "" {
		t.Fatalf("%+v", l)
	}
	h.good(xds.ListenerType, bodies("m", tcpListener(t, "m", "0.0.0.0", 81, `"bindToPort":false,`)))
	if l = h.Current().ListenerFor(netip.MustParseAddrPort("1.2.3.4:81")); l == nil || l.Rejected != "" {
		t.Errorf("%+v", l)
	}
}

func TestRefusedRouteDoesNotHoldUp(t *testing.T) {
	h := newHarness(t)
	h.good(xds.ClusterType, bodies("s", staticCluster(t, "s")))
	h.good(xds.ListenerType, bodies("l", httpListener(t, "l", "0.0.0.0", 80, "r"), "m", httpListener(t, "m", "0.0.0.0", 81, "q")))
	bad := resourcetest.Route(t, `{"name":"r","virtualHosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"clusterHeader":"x"}}]}]}`)
	errs := h.apply(xds.RouteType, nil, bodies("r", bad, "q", route(t, "q", "s")))
	if errs["r"] == nil || errs["q"] != nil {
		t.Fatalf("errors: %v", errs)
	}
	c := h.Current()
	if c == nil || c.Listener("l") == nil || c.Routes["r"] != nil || c.Listener("m") == nil {
		t.Errorf("%+v", c)
	}
}

func TestSameAgainPublishesNothing(t *testing.T) {
	h := start(t)
	old := h.Current()
	h.good(xds.ClusterType, bodies("c", edsCluster(t, "c"), "s", staticCluster(t, "s")))
	h.good(xds.ListenerType, bodies("l", httpListener(t, "l", "0.0.0.0", 80, "r")))
	if h.Current() != old || h.published() {
		t.Error("the same resources made a new configuration")
	}
}

func TestNames(t *testing.T) {
	h := start(t)
	h.good(xds.NameTableType, bodies("", nameTable(map[string]string{"WWW.Example.com.": "240.240.0.1", "b.example.com": "240.240.0.2"})))
	c := h.Current()
	if got := c.NameOf(netip.MustParseAddr("240.240.0.1")); got != "www.example.com" {
		t.Errorf("name of 240.240.0.1: %q", got)
	}
	if !c.Registered("www.EXAMPLE.com") || c.NameOf(netip.MustParseAddr("240.240.0.3")) != "" {
		t.Error("lookups")
	}
	errs := h.apply(xds.NameTableType, nil, bodies("", nameTable(map[string]string{"x": "not an address"})))
	if len(errs) != 1 || h.Current().Names.Names["www.example.com"].Addresses == nil {
		t.Errorf("refused table: %v", errs)
	}
}

func TestListenerFor(t *testing.T) {
	h := newHarness(t)
	h.good(xds.ClusterType, nil)
	free := `"bindToPort":false,`
	h.good(xds.ListenerType, bodies(
		"any4", tcpListener(t, "any4", "0.0.0.0", 80, free),
		"exact", tcpListener(t, "exact", "10.0.0.1", 80, free),
		"any6", tcpListener(t, "any6", "::", 443, free),
		"both", tcpListener(t, "both", "0.0.0.0", 90, free+`"additionalAddresses":[{"address":{"socketAddress":{"address":"::","portValue":90}}}],`),
		"bound", tcpListener(t, "bound", "0.0.0.0", 15001, `"useOriginalDst":true,`),
	))
	for dst, want := range map[string]string{
		"10.0.0.1:80": "exact", "[::ffff:10.0.0.1]:80": "exact", "10.0.0.2:80": "any4", "[2001:db8::1]:80": "any4",
		"10.0.0.1:443": "any6", "[2001:db8::1]:443": "any6", "[2001:db8::1]:90": "both", "10.0.0.1:15001": "", "10.0.0.1:81": "",
	} {
		got := ""
		if l := h.Current().ListenerFor(netip.MustParseAddrPort(dst)); l != nil {
			got = l.Name
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", dst, got, want)
		}
	}
	if l := h.Current().BoundListener(netip.MustParseAddrPort("10.0.0.1:15001")); l == nil || l.Name != "bound" {
		t.Errorf("bound: %+v", l)
	}
}

func TestSubscribeEnds(t *testing.T) {
	h := start(t)
	ch, end := h.Subscribe()
	end()
	h.good(xds.ClusterType, bodies("n", staticCluster(t, "n")))
	select {
	case <-ch:
		t.Error("told after the end")
	default:
	}
}

func TestReferenceThroughTheStore(t *testing.T) {
	rec := resourcetest.Reference(t, "registry_only", "sidecar")
	h := newHarness(t)
	for _, part := range []struct {
		typeURL string
		list    []*anypb.Any
		name    string
	}{{xds.ClusterType, rec.Clusters, "name"}, {xds.EndpointType, rec.Endpoints, "clusterName"}, {xds.ListenerType, rec.Listeners, "name"}, {xds.RouteType, rec.Routes, "name"}} {
		named := map[string]*anypb.Any{}
		for _, a := range part.list {
			m, err := a.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			field := m.ProtoReflect().Descriptor().Fields().ByJSONName(part.name)
			named[m.ProtoReflect().Get(field).String()] = a
		}
		h.good(part.typeURL, named)
	}
	h.want(xds.RouteType, "80")
	if c := h.Current(); c == nil || len(c.Listeners) != len(rec.Listeners) || len(c.Clusters) != len(rec.Clusters) {
		t.Errorf("%+v", c)
	}
	if len(h.Skipped()) == 0 {
		t.Error("nothing was told as skipped")
	}
}

// What is left out is told once, and counted each time.
func TestSkippedIsToldOnce(t *testing.T) {
	var log bytes.Buffer
	s := config.NewStore(config.StoreOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	u := xds.Update{TypeURL: xds.ClusterType}
	for _, name := range []string{"a", "b", "c"} {
		u.Changed = append(u.Changed, xds.Resource{Name: name, Body: resourcetest.Cluster(t, fmt.Sprintf(`{"name":%q,"type":"STRICT_DNS","altStatName":"x"}`, name))})
	}
	s.Apply(u)
	const field = "envoy.config.cluster.v3.Cluster.alt_stat_name"
	if n := s.Skipped()[field]; n != 3 {
		t.Errorf("counted %d times: %v", n, s.Skipped())
	}
	if n := strings.Count(log.String(), field); n != 1 || !strings.Contains(log.String(), "first=a") {
		t.Errorf("told %d times: %s", n, log.String())
	}
}

// One cluster of 10,000 changes: nothing else is decoded again.
func BenchmarkOneOfTenThousand(b *testing.B) {
	s := config.NewStore(config.StoreOptions{})
	u := xds.Update{TypeURL: xds.ClusterType}
	for i := range 10_000 {
		name := fmt.Sprintf("outbound|80||host-%d.example.com", i)
		u.Changed = append(u.Changed, xds.Resource{Name: name, Body: resourcetest.Cluster(b, fmt.Sprintf(`{"name":%q,"type":"STRICT_DNS"}`, name))})
	}
	s.Apply(u)
	s.Apply(xds.Update{TypeURL: xds.ListenerType})
	one := [2]*anypb.Any{}
	for i := range one {
		one[i] = resourcetest.Cluster(b, fmt.Sprintf(`{"name":"outbound|80||host-7.example.com","type":"STRICT_DNS","connectTimeout":"%ds"}`, i+1))
	}
	n := 0
	for b.Loop() {
		n++
		s.Apply(xds.Update{TypeURL: xds.ClusterType, Changed: []xds.Resource{{Name: "outbound|80||host-7.example.com", Body: one[n%2]}}})
	}
	if s.Current() == nil {
		b.Fatal("nothing published")
	}
}

// Whatever the control plane sends, the store answers and stays usable.
func FuzzStore(f *testing.F) {
	f.Add(uint8(0), []byte(nil))
	f.Add(uint8(4), nameTable(map[string]string{"a": "1.2.3.4"}).Value)
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		types := []string{xds.ListenerType, xds.RouteType, xds.ClusterType, xds.EndpointType, xds.NameTableType}
		s := config.NewStore(config.StoreOptions{})
		s.Apply(xds.Update{TypeURL: xds.ListenerType})
		s.Apply(xds.Update{TypeURL: xds.ClusterType})
		url := types[int(kind)%len(types)]
		s.Apply(xds.Update{TypeURL: url, Changed: []xds.Resource{{Name: "x", Body: &anypb.Any{TypeUrl: url, Value: body}}}})
		s.Apply(xds.Update{TypeURL: url, Removed: []string{"x"}})
		if s.Current() == nil {
			t.Fatal("lost the configuration")
		}
	})
}
