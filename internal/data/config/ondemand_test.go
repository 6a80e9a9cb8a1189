package config_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/xds"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// demanding is a store on demand with a base listener whose virtual hosts are asked for.
func demanding(t *testing.T, l config.Limits) (*harness, *clock) {
	time := &clock{now: time.Unix(1e9, 0)}
	h := harnessWith(t, config.StoreOptions{OnDemand: true, Limits: l, Now: time.Now})
	h.good(xds.ListenerType, bodies("0.0.0.0_80", httpListener(t, "0.0.0.0_80", "0.0.0.0", 80, "80")))
	h.good(xds.RouteType, bodies("80", resourcetest.Route(t, `{"name":"80","vhds":{"configSource":{"ads":{}}},"virtualHosts":[
		{"name":"allow_any","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"PassthroughCluster"}}]}]}`)))
	h.want(xds.ClusterType, "PassthroughCluster")
	if h.Current() != nil {
		t.Fatal("published without the clusters that the listeners refer to")
	}
	h.good(xds.ClusterType, bodies("PassthroughCluster", staticCluster(t, "PassthroughCluster")))
	if h.Current() == nil || !h.published() {
		t.Fatal("not published")
	}
	return h, time
}

func hostNeed(host string) config.Need {
	return config.Need{Kind: config.NeedVirtualHost, Of: "80", Name: host}
}

func nameNeed(host string) config.Need { return config.Need{Kind: config.NeedName, Name: host} }

func virtualHost(t *testing.T, host, cluster string) *anypb.Any {
	return resourcetest.VirtualHost(t, fmt.Sprintf(`{"name":%q,"domains":[%q],"routes":[{"match":{"prefix":"/"},"route":{"cluster":%q}}]}`, host, host, cluster))
}

func (h *harness) absent(typeURL string, names ...string) {
	h.t.Helper()
	if errs := h.Apply(xds.Update{TypeURL: typeURL, Absent: names}); len(errs) > 0 {
		h.t.Fatal(errs)
	}
}

// find starts a Find and waits until it waits.
func (h *harness) find(n config.Need) <-chan config.Answer {
	h.t.Helper()
	out := make(chan config.Answer, 1)
	before := h.OnDemandStats()
	go func() { out <- h.Find(h.t.Context(), n) }()
	for !h.asked[n] && h.OnDemandStats().Asked == before.Asked {
		runtime.Gosched()
	}
	h.asked[n] = true
	return out
}

func TestHostIsAskedFor(t *testing.T) {
	h, _ := demanding(t, config.Limits{})
	revision := h.Current().Revision
	first, second := h.find(hostNeed("a.com")), h.find(hostNeed("a.com"))
	h.want(xds.VirtualHostType, "80/a.com")
	h.good(xds.VirtualHostType, bodies("80/a.com", virtualHost(t, "a.com", "outbound|80||a.com"), "80/nobody.com", virtualHost(t, "nobody.com", "c")))
	h.want(xds.ClusterType, "PassthroughCluster", "outbound|80||a.com")
	if h.Current().Held(hostNeed("a.com")) != nil {
		t.Fatal("a virtual host is there without its cluster")
	}
	h.good(xds.ClusterType, bodies("outbound|80||a.com", edsCluster(t, "outbound|80||a.com")))
	h.want(xds.EndpointType, "outbound|80||a.com")
	h.good(xds.EndpointType, bodies("outbound|80||a.com", endpoints(t, "outbound|80||a.com", "10.0.0.1")))
	for _, waiting := range []<-chan config.Answer{first, second} {
		if a := <-waiting; a.Outcome != config.Found {
			t.Fatalf("answer: %+v", a)
		}
	}
	c := h.Current()
	if c.Held(hostNeed("a.com")) == nil || c.Cluster("outbound|80||a.com") == nil || c.Held(hostNeed("nobody.com")) != nil {
		t.Errorf("held: %+v", c)
	}
	if c.Revision != revision || !c.Registered("a.com") {
		t.Error("what is only added changed decisions, or is not registered")
	}
	if s := h.OnDemandStats(); s.Asked != 1 || s.Held != 1 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}

	// It changes, and then it is removed.
	h.good(xds.VirtualHostType, bodies("80/a.com", virtualHost(t, "a.com", "other")))
	if h.Current().Held(hostNeed("a.com")).VirtualHost.Routes[0].Forward.Clusters[0].Name != "outbound|80||a.com" {
		t.Error("a new version serves without its cluster")
	}
	h.absent(xds.ClusterType, "other")
	if h.Current().Held(hostNeed("a.com")).VirtualHost.Routes[0].Forward.Clusters[0].Name != "other" || h.Current().Revision == revision {
		t.Error("the new version does not serve, or changed no decisions")
	}
	h.want(xds.ClusterType, "PassthroughCluster", "other")
	revision = h.Current().Revision
	h.apply(xds.VirtualHostType, []string{"80/a.com"}, nil)
	if h.Current().Held(hostNeed("a.com")) != nil || h.Current().Revision == revision || h.Look(hostNeed("a.com")).Outcome != config.Absent {
		t.Error("a removed virtual host stays, or changed no decisions")
	}
	h.want(xds.VirtualHostType, "80/a.com") // it may be told that it exists again
	h.want(xds.ClusterType, "PassthroughCluster")
}

func TestUnknownHostIsAnnouncedLater(t *testing.T) {
	h, _ := demanding(t, config.Limits{})
	waiting := h.find(hostNeed("a.com"))
	h.absent(xds.VirtualHostType, "80/a.com")
	if a := <-waiting; a.Outcome != config.Absent {
		t.Fatalf("answer: %+v", a)
	}
	revision := h.Current().Revision
	h.good(xds.VirtualHostType, bodies("80/a.com", virtualHost(t, "a.com", "PassthroughCluster")))
	if h.Current().Held(hostNeed("a.com")) == nil || h.Current().Revision == revision || h.Look(hostNeed("a.com")).Outcome != config.Found {
		t.Error("a host that exists now is not there, or changed no decisions")
	}
}

func TestRefusedHost(t *testing.T) {
	h, _ := demanding(t, config.Limits{})
	waiting := h.find(hostNeed("a.com"))
	if errs := h.apply(xds.VirtualHostType, nil, bodies("80/a.com", virtualHost(t, "b.com", "c"))); len(errs) != 1 {
		t.Fatalf("errors: %v", errs)
	}
	if a := <-waiting; a.Outcome != config.Refused || !strings.Contains(a.Detail, "not among its domains") {
		t.Fatalf("answer: %+v", a)
	}
	h.good(xds.VirtualHostType, bodies("80/a.com", virtualHost(t, "a.com", "PassthroughCluster")))
	h.apply(xds.VirtualHostType, nil, bodies("80/a.com", virtualHost(t, "b.com", "c")))
	if h.Current().Held(hostNeed("a.com")) == nil || h.Look(hostNeed("a.com")).Outcome != config.Found {
		t.Error("the last good version did not stay")
	}
}

func TestNoAnswer(t *testing.T) {
	h, _ := demanding(t, config.Limits{Timeout: time.Nanosecond})
	if a := h.Find(t.Context(), hostNeed("a.com")); a.Outcome != config.Unavailable || !strings.Contains(a.Detail, "did not answer") {
		t.Errorf("answer: %+v", a)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if a := h.Find(ended, hostNeed("b.com")); a.Outcome != config.Unavailable {
		t.Errorf("answer: %+v", a)
	}
	h.good(xds.VirtualHostType, bodies("80/a.com", virtualHost(t, "a.com", "PassthroughCluster")))
	if a := h.Find(t.Context(), hostNeed("a.com")); a.Outcome != config.Found {
		t.Errorf("a late answer is lost: %+v", a)
	}
}

// Names and their addresses are found both ways, and the table for all names is there.
func TestNamesOnDemand(t *testing.T) {
	h, _ := demanding(t, config.Limits{})
	addr := netip.MustParseAddr("240.240.0.1")
	one, two := h.find(nameNeed("b.com")), h.find(nameNeed("x.a.com"))
	h.want(xds.NameTableType, "*", "b.com", "x.a.com")
	h.good(xds.NameTableType, bodies("", nameTable(map[string]string{"*": ""}), "b.com", nameTable(map[string]string{"b.com": "240.240.0.1"}), "x.a.com", nameTable(map[string]string{"*.a.com": "240.240.0.1"})))
	if a, b := <-one, <-two; a.Outcome != config.Found || b.Outcome != config.Found {
		t.Fatal(a, b)
	}
	c := h.Current()
	if _, key, ok := c.Name("x.a.com"); !ok || key != "*.a.com" || !c.AnyName() || c.NameOf(addr) != "b.com" || !slices.Equal(c.HeldNamesOf(addr), []string{"b.com", "x.a.com"}) {
		t.Errorf("%q %v: %+v", key, ok, c)
	}
	h.apply(xds.NameTableType, []string{"b.com"}, nil)
	if c = h.Current(); c.NameOf(addr) != "x.a.com" || c.Registered("b.com") || !c.AnyName() {
		t.Error("a removed name stays")
	}
	errs := h.apply(xds.NameTableType, nil, bodies("x.a.com", nameTable(map[string]string{"c.com": "240.240.0.2"})))
	if len(errs) != 1 {
		t.Error("a name for another one was accepted")
	}
}

// What was not used lately makes room; what a connection needs does not.
func TestEviction(t *testing.T) {
	h, _ := demanding(t, config.Limits{Held: 3})
	hold := func(host string) *config.Held {
		t.Helper()
		waiting := h.find(hostNeed(host))
		h.good(xds.VirtualHostType, bodies("80/"+host, virtualHost(t, host, "c-"+host)))
		h.absent(xds.ClusterType, "c-"+host)
		if a := <-waiting; a.Outcome != config.Found {
			t.Fatalf("%s: %+v", host, a)
		}
		return h.Current().Held(hostNeed(host))
	}
	pinned, used, _ := hold("pinned.com"), hold("used.com"), hold("idle.com")
	pinned.Pin()
	used.Touch()
	hold("d.com")
	for host, want := range map[string]bool{"pinned.com": true, "used.com": true, "idle.com": false, "d.com": true} {
		if got := h.Current().Held(hostNeed(host)) != nil; got != want {
			t.Errorf("%s is held: %v", host, got)
		}
	}
	h.want(xds.VirtualHostType, "80/d.com", "80/pinned.com", "80/used.com")
	h.want(xds.ClusterType, "PassthroughCluster", "c-d.com", "c-pinned.com", "c-used.com")
	h.Current().Held(hostNeed("used.com")).Pin()
	h.Current().Held(hostNeed("d.com")).Pin()
	if a := h.Find(t.Context(), hostNeed("e.com")); a.Outcome != config.Unavailable || !strings.Contains(a.Detail, "in use") {
		t.Errorf("answer: %+v", a)
	}
	pinned.Unpin()
	hold("e.com")
	if h.Current().Held(hostNeed("pinned.com")) != nil {
		t.Error("what is no longer pinned does not make room")
	}
}

func TestQuestionsAreLimited(t *testing.T) {
	h, time := demanding(t, config.Limits{InFlight: 2, Rate: 1, Burst: 3})
	look := func(host string) config.Answer { return h.Look(hostNeed(host)) }
	for _, host := range []string{"a.com", "b.com"} {
		if a := look(host); a.Outcome != config.NotAsked {
			t.Fatalf("%s: %+v", host, a)
		}
	}
	if a := look("c.com"); a.Outcome != config.Unavailable || !strings.Contains(a.Detail, "has not answered") {
		t.Errorf("a third question is in flight: %+v", a)
	}
	h.absent(xds.VirtualHostType, "80/a.com", "80/b.com")
	if a := look("c.com"); a.Outcome != config.NotAsked {
		t.Errorf("%+v", a)
	}
	if a := look("d.com"); a.Outcome != config.Unavailable || !strings.Contains(a.Detail, "per second") {
		t.Errorf("more than the burst: %+v", a)
	}
	time.pass(1e9)
	if a := look("d.com"); a.Outcome != config.NotAsked {
		t.Errorf("a second later: %+v", a)
	}
	time.pass(10e9) // neither is answered, and nobody waits any more
	if a := look("e.com"); a.Outcome != config.NotAsked {
		t.Errorf("an old question stays in the way: %+v", a)
	}
	h.want(xds.VirtualHostType, "80/a.com", "80/b.com", "80/d.com", "80/e.com")
	if s := h.OnDemandStats(); s.Limited != 2 || s.InFlight != 2 || s.Unknown != 2 {
		t.Errorf("%+v", s)
	}
}

// Who can wait has his turn.
func TestTurns(t *testing.T) {
	s := config.NewStore(config.StoreOptions{OnDemand: true, Limits: config.Limits{Rate: 1000, Burst: 1}})
	s.Attach(discard{})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			n := hostNeed(fmt.Sprintf("h%d.com", i))
			go func() {
				for s.OnDemandStats().Asked < 20 {
					runtime.Gosched()
				}
				cancel()
			}()
			s.Find(ctx, n)
		})
	}
	all.Wait()
	if got := s.OnDemandStats(); got.Asked != 20 {
		t.Errorf("%+v", got)
	}
}

// A workload that calls a million names that do not exist costs neither memory nor, in
// the long run, more questions than the rate allows.
func TestMillionUnknownNames(t *testing.T) {
	h, time := demanding(t, config.Limits{})
	h.Attach(discard{})
	before := heap()
	asked := 0
	for i := range 1_000_000 {
		host := fmt.Sprintf("random-%d.example.org", i)
		n := hostNeed(host)
		if i%2 == 0 {
			n = nameNeed(host)
		}
		if i%1000 == 0 {
			time.pass(1e9)
		}
		if a := h.Look(n); a.Outcome != config.NotAsked {
			continue
		}
		asked++
		typeURL, name := n.Resource()
		h.absent(typeURL, name)
	}
	// 1,000 seconds at 100 per second, and the burst.
	if s := h.OnDemandStats(); asked > 100_512 || s.Unknown > 2*4096 || s.Asked != uint64(asked) {
		t.Errorf("asked %d: %+v", asked, s)
	}
	grown := heap() - before
	t.Logf("%d names asked for, %d KiB of heap", asked, grown>>10)
	if grown > 8<<20 {
		t.Errorf("%d bytes for names that do not exist", grown)
	}
	runtime.KeepAlive(h)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Extending the configuration by one host costs the same with many as with few.
func BenchmarkOneMoreHost(b *testing.B) {
	for _, held := range []int{10, 4000} {
		b.Run(fmt.Sprint(held), func(b *testing.B) {
			s := config.NewStore(config.StoreOptions{OnDemand: true, Limits: config.Limits{Held: held, Burst: 1 << 40}})
			s.Attach(discard{})
			s.Apply(xds.Update{TypeURL: xds.ListenerType})
			hosts := make([]xds.Update, held+1000)
			for i := range hosts {
				host := fmt.Sprintf("h%d.com", i)
				body := resourcetest.VirtualHost(b, fmt.Sprintf(`{"name":%q,"domains":[%q],"routes":[{"match":{"prefix":"/"},"redirect":{"hostRedirect":"x"}}]}`, host, host))
				hosts[i] = xds.Update{TypeURL: xds.VirtualHostType, Changed: []xds.Resource{{Name: "80/" + host, Body: body}}}
			}
			one := func(i int) {
				_, host, _ := strings.Cut(hosts[i%len(hosts)].Changed[0].Name, "/")
				s.Look(hostNeed(host))
				s.Apply(hosts[i%len(hosts)])
			}
			for i := range held {
				one(i)
			}
			i := held
			b.ReportAllocs()
			for b.Loop() {
				one(i)
				i++
			}
		})
	}
}

type discard struct{}

func (discard) Subscribe(string, []string)     {}
func (discard) Ask(string, []string, []string) {}
