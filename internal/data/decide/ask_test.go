package decide_test

import (
	"net/netip"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/xds"
)

// taken is where a store asks; nobody answers but the test.
type taken struct{}

func (taken) Subscribe(string, []string)     {}
func (taken) Ask(string, []string, []string) {}

// onDemandConfig is a configuration on demand that holds held.com: its virtual host, its
// filter chain and its name.
func onDemandConfig(t *testing.T) *config.Config {
	t.Helper()
	s := config.NewStore(config.StoreOptions{OnDemand: true})
	s.Attach(taken{})
	apply := func(typeURL, name string, body *anypb.Any) {
		t.Helper()
		if errs := s.Apply(xds.Update{TypeURL: typeURL, Changed: []xds.Resource{{Name: name, Body: body}}}); len(errs) > 0 {
			t.Fatal(errs)
		}
	}
	held := func(n config.Need, body *anypb.Any, clusters ...string) {
		t.Helper()
		s.Look(n)
		typeURL, name := n.Resource()
		apply(typeURL, name, body)
		s.Apply(xds.Update{TypeURL: xds.ClusterType, Absent: clusters})
	}
	const hcm = `{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","rds":{"configSource":{"ads":{}},"routeConfigName":"80"},
		"httpFilters":[{"name":"on_demand","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand"}},{"name":"router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}`
	const tcp = `{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":`
	apply(xds.ListenerType, "l", resourcetest.Listener(t, `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":443}},"fcdsConfig":{"configSource":{"ads":{}}},
		"filterChains":[{"filterChainMatch":{"transportProtocol":"raw_buffer"},"filters":[{"name":"hcm","typedConfig":`+hcm+`}]},
		{"filterChainMatch":{"transportProtocol":"tls","prefixRanges":[{"addressPrefix":"10.0.0.9","prefixLen":32}]},"filters":[{"name":"tcp","typedConfig":`+tcp+`"base"}}]}],
		"defaultFilterChain":{"filters":[{"name":"tcp","typedConfig":`+tcp+`"BlackHoleCluster"}}]}}`))
	apply(xds.RouteType, "80", resourcetest.Route(t, `{"name":"80","vhds":{"configSource":{"ads":{}}},"virtualHosts":[
		{"name":"block_all","domains":["*"],"routes":[{"match":{"prefix":"/"},"directResponse":{"status":502}}]},
		{"name":"base","domains":["base.com"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"base"}}]}]}`))
	s.Apply(xds.Update{TypeURL: xds.ClusterType, Absent: []string{"base", "BlackHoleCluster"}})
	held(config.Need{Kind: config.NeedVirtualHost, Of: "80", Name: "held.com"}, resourcetest.VirtualHost(t, `{"name":"held.com:80","domains":["held.com"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"held"}}]}`), "held")
	held(config.Need{Kind: config.NeedFilterChain, Of: "l", Name: "held.com"}, resourcetest.FilterChain(t, `{"name":"held","filterChainMatch":{"transportProtocol":"tls","serverNames":["held.com"]},"filters":[{"name":"tcp","typedConfig":`+tcp+`"held"}}]}`), "held")
	held(config.Need{Kind: config.NeedName, Name: "held.com"}, entry("held.com", "240.240.0.1"))
	c := s.Current()
	if c == nil || c.Held(config.Need{Kind: config.NeedFilterChain, Of: "l", Name: "held.com"}) == nil {
		t.Fatalf("not held: %+v", c)
	}
	return c
}

// entry is a name table with one entry.
func entry(name, ip string) *anypb.Any {
	info := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), ip)
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), info)
	return &anypb.Any{TypeUrl: xds.NameTableType, Value: protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)}
}

func TestHostsOnDemand(t *testing.T) {
	cfg := onDemandConfig(t)
	host := func(name string) config.Need {
		return config.Need{Kind: config.NeedVirtualHost, Of: "80", Name: name}
	}
	name := func(n string) config.Need { return config.Need{Kind: config.NeedName, Name: n} }
	answer := func(n config.Need, o config.Outcome) config.Answer {
		return config.Answer{Need: n, Outcome: o, Detail: "because"}
	}
	strict := decide.Binding{Name: "x.com", Strict: true}
	for label, c := range map[string]struct {
		authority string
		binding   decide.Binding
		answers   config.Answers
		verdict   decide.Verdict
		need      config.Need
		reason    reason.Reason
		status    int
		host      string
	}{
		"held":                      {authority: "held.com", verdict: decide.Forward, host: "held.com:80"},
		"held, with the port":       {authority: "HELD.com:443", verdict: decide.Forward, host: "held.com:80"},
		"of the configuration":      {authority: "base.com", verdict: decide.Forward, host: "base"},
		"not known":                 {authority: "x.com", verdict: decide.Ask, need: host("x.com")},
		"not known, another port":   {authority: "x.com:8080", verdict: decide.Ask, need: host("x.com:8080")},
		"an address":                {authority: "10.0.0.1", verdict: decide.Ask, need: host("10.0.0.1")},
		"nobody's name":             {authority: "a b", verdict: decide.Deny, reason: reason.NotInRegistry, status: 502, host: "block_all"},
		"absent, and the name too":  {authority: "x.com", answers: config.Answers{answer(host("x.com"), config.Absent), answer(name("x.com"), config.Absent)}, verdict: decide.Deny, reason: reason.NotInRegistry, status: 502, host: "block_all"},
		"absent, the name is asked": {authority: "x.com", answers: config.Answers{answer(host("x.com"), config.Absent)}, verdict: decide.Ask, need: name("x.com"), host: "block_all"},
		"no answer":                 {authority: "x.com", answers: config.Answers{answer(host("x.com"), config.Unavailable)}, verdict: decide.Deny, reason: reason.ConfigNotAvailable, status: 503},
		"refused":                   {authority: "x.com", answers: config.Answers{answer(host("x.com"), config.Refused)}, verdict: decide.Deny, reason: reason.ConfigRejected, status: 503},
		"another name, not known":   {authority: "base.com", binding: strict, verdict: decide.Ask, need: name("base.com"), host: "base"},
		"another name, known":       {authority: "held.com", binding: strict, verdict: decide.Deny, reason: reason.HostMismatch, status: 502, host: "held.com:80"},
		"another name, no answer":   {authority: "base.com", binding: strict, answers: config.Answers{answer(name("base.com"), config.Unavailable)}, verdict: decide.Deny, reason: reason.ConfigNotAvailable, status: 503, host: "base"},
	} {
		t.Run(label, func(t *testing.T) {
			conn := decide.Conn{Destination: netip.MustParseAddrPort("240.240.0.7:443"), Transport: "raw_buffer", Binding: c.binding}
			hcm := cfg.Listeners[0].FilterChains[0].HTTP
			p := decide.Route(cfg, hcm, &decide.Request{Method: "GET", Scheme: "http", Authority: c.authority, Path: "/", Headers: noHeaders{}, Conn: &conn, Answers: c.answers})
			got := ""
			if p.VirtualHost != nil {
				got = p.VirtualHost.Name
			}
			if p.Verdict != c.verdict || p.Need != c.need || p.Reason != c.reason || p.Status != c.status || got != c.host {
				t.Errorf("%+v (virtual host %q)", p, got)
			}
			if (p.Held != nil) != (c.host == "held.com:80") {
				t.Errorf("held: %v", p.Held)
			}
		})
	}
}

type noHeaders struct{}

func (noHeaders) Get(string) (string, bool) { return "", false }

func TestChainsOnDemand(t *testing.T) {
	cfg := onDemandConfig(t)
	chain := func(name string) config.Need {
		return config.Need{Kind: config.NeedFilterChain, Of: "l", Name: name}
	}
	name := func(n string) config.Need { return config.Need{Kind: config.NeedName, Name: n} }
	absent := func(n ...config.Need) (out config.Answers) {
		for _, n := range n {
			out = out.And(config.Answer{Need: n, Outcome: config.Absent})
		}
		return out
	}
	for label, c := range map[string]struct {
		conn    decide.Conn
		verdict decide.Verdict
		need    config.Need
		reason  reason.Reason
	}{
		"held":                      {decide.Conn{Transport: "tls", SNI: "held.com"}, decide.Forward, config.Need{}, ""},
		"not known":                 {decide.Conn{Transport: "tls", SNI: "x.com"}, decide.Ask, chain("x.com"), ""},
		"nobody's name":             {decide.Conn{Transport: "tls", SNI: "a b", Answers: absent(name("a b"))}, decide.Deny, config.Need{}, reason.NotInRegistry},
		"by address":                {decide.Conn{Transport: "tls", SNI: "x.com", Destination: netip.MustParseAddrPort("10.0.0.9:443")}, decide.Forward, config.Need{}, ""},
		"absent":                    {decide.Conn{Transport: "tls", SNI: "x.com", Answers: absent(chain("x.com"), name("x.com"))}, decide.Deny, config.Need{}, reason.NotInRegistry},
		"absent, the name is asked": {decide.Conn{Transport: "tls", SNI: "x.com", Answers: absent(chain("x.com"))}, decide.Ask, name("x.com"), ""},
		"absent, the name is known": {decide.Conn{Transport: "tls", SNI: "held.com", Answers: absent(chain("held.com"))}, decide.Forward, config.Need{}, ""},
		"no answer":                 {decide.Conn{Transport: "tls", SNI: "x.com", Answers: config.Answers{{Need: chain("x.com"), Outcome: config.Unavailable}}}, decide.Deny, config.Need{}, reason.ConfigNotAvailable},
		"no server name":            {decide.Conn{Transport: "tls", Binding: decide.Binding{Name: "held.com", Strict: true}}, decide.Deny, config.Need{}, reason.SNIMissing},
		"no server name, not known": {decide.Conn{Transport: "tls", Binding: decide.Binding{Name: "x.com", Strict: true}}, decide.Ask, chain("x.com"), ""},
		"plain text":                {decide.Conn{Transport: "raw_buffer"}, decide.Forward, config.Need{}, ""},
	} {
		t.Run(label, func(t *testing.T) {
			if !c.conn.Destination.IsValid() {
				c.conn.Destination = netip.MustParseAddrPort("240.240.0.7:443")
			}
			c.conn.Source = netip.MustParseAddrPort("10.0.0.1:1000")
			p := decide.Connection(cfg, cfg.Listeners[0], &c.conn)
			if p.Verdict != c.verdict || p.Need != c.need || p.Reason != c.reason {
				t.Errorf("%+v", p)
			}
		})
	}
}

// A connection to a name that is not known any more is not judged before it is asked for.
func TestForgottenBinding(t *testing.T) {
	cfg := onDemandConfig(t)
	need := config.Need{Kind: config.NeedName, Name: "x.com"}
	conn := decide.Conn{Transport: "tls", SNI: "", Source: netip.MustParseAddrPort("10.0.0.1:1"), Destination: netip.MustParseAddrPort("10.0.0.9:443"),
		Binding: decide.Binding{Name: "x.com", Unknown: true, Strict: true}}
	if p := decide.Connection(cfg, cfg.Listeners[0], &conn); p.Verdict != decide.Ask || p.Need != need {
		t.Errorf("%+v", p)
	}
	conn.Answers = config.Answers{{Need: need, Outcome: config.Absent}}
	if p := decide.Connection(cfg, cfg.Listeners[0], &conn); p.Verdict != decide.Deny || p.Reason != reason.NotInRegistry {
		t.Errorf("%+v", p)
	}
}

// Where the host is held the decision does not allocate.
func TestHeldHostDoesNotAllocate(t *testing.T) {
	cfg := onDemandConfig(t)
	conn := decide.Conn{Destination: netip.MustParseAddrPort("240.240.0.1:443"), Binding: decide.Binding{Name: "held.com", Strict: true}}
	r := decide.Request{Method: "GET", Scheme: "http", Authority: "held.com", Path: "/", Headers: noHeaders{}, Conn: &conn}
	hcm := cfg.Listeners[0].FilterChains[0].HTTP
	if n := testing.AllocsPerRun(100, func() {
		p := decide.Route(cfg, hcm, &r)
		p.Held.Touch()
		if p.Verdict != decide.Forward {
			t.Fatalf("%+v", p)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
