package resource_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/resource"
)

type fcm = resource.FilterChainMatch

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func chains(matches map[string]fcm) *resource.Listener {
	l := &resource.Listener{DefaultFilterChain: &resource.FilterChain{Name: "default"}}
	for name, m := range matches {
		l.FilterChains = append(l.FilterChains, &resource.FilterChain{Name: name, Match: m})
	}
	return l
}

// The order is that of the FilterChainMatch documentation, and once a more
// specific criterion is chosen, the later ones do not fall back.
func TestFindChainOrder(t *testing.T) {
	type query = resource.ChainQuery
	to := func(dst string) query {
		return query{Source: netip.MustParseAddrPort("10.9.9.9:4000"), Destination: netip.MustParseAddrPort(dst)}
	}
	with := func(q query, f func(*query)) query { f(&q); return q }
	sni := func(dst, name string) query {
		return with(to(dst), func(q *query) { q.SNI, q.Transport = name, "tls" })
	}
	for _, tc := range []struct {
		name   string
		chains map[string]fcm
		q      query
		want   string
	}{
		{"port before any port", map[string]fcm{"port": {DestinationPort: 80}, "any": {}}, to("10.0.0.1:80"), "port"},
		{"any port", map[string]fcm{"port": {DestinationPort: 80}, "any": {}}, to("10.0.0.1:81"), "any"},
		{"port does not fall back", map[string]fcm{"port": {DestinationPort: 80, TransportProtocol: "tls"}, "any": {}}, to("10.0.0.1:80"), "default"},
		{"longest prefix", map[string]fcm{"8": {PrefixRanges: prefixes("10.0.0.0/8")}, "16": {PrefixRanges: prefixes("10.1.0.0/16")}, "any": {}}, to("10.1.2.3:1"), "16"},
		{"shorter prefix", map[string]fcm{"8": {PrefixRanges: prefixes("10.0.0.0/8")}, "16": {PrefixRanges: prefixes("10.1.0.0/16")}, "any": {}}, to("10.2.2.3:1"), "8"},
		{"no prefix", map[string]fcm{"8": {PrefixRanges: prefixes("10.0.0.0/8")}, "any": {}}, to("11.0.0.1:1"), "any"},
		{"prefix of all before no prefix", map[string]fcm{"0": {PrefixRanges: prefixes("0.0.0.0/0")}, "any": {}}, to("11.0.0.1:1"), "0"},
		{"IPv6 is not in 0.0.0.0/0", map[string]fcm{"0": {PrefixRanges: prefixes("0.0.0.0/0")}, "any": {}}, to("[2001:db8::1]:1"), "any"},
		{"mapped IPv4", map[string]fcm{"8": {PrefixRanges: prefixes("10.0.0.0/8")}}, to("[::ffff:10.0.0.1]:1"), "8"},
		{"prefix does not fall back", map[string]fcm{"8": {PrefixRanges: prefixes("10.0.0.0/8"), ServerNames: []string{"a.com"}}, "any": {}}, sni("10.0.0.1:1", "b.com"), "default"},
		{"prefix before server name", map[string]fcm{"8": {PrefixRanges: prefixes("10.0.0.0/8")}, "name": {ServerNames: []string{"a.com"}}}, sni("10.0.0.1:1", "a.com"), "8"},
		{"exact name", map[string]fcm{"exact": {ServerNames: []string{"a.b.com"}}, "wild": {ServerNames: []string{"*.b.com"}}, "any": {}}, sni("10.0.0.1:1", "a.b.com"), "exact"},
		{"longest wildcard", map[string]fcm{"com": {ServerNames: []string{"*.com"}}, "b": {ServerNames: []string{"*.b.com"}}, "any": {}}, sni("10.0.0.1:1", "x.a.b.com"), "b"},
		{"shorter wildcard", map[string]fcm{"com": {ServerNames: []string{"*.com"}}, "b": {ServerNames: []string{"*.b.com"}}}, sni("10.0.0.1:1", "b.com"), "com"},
		{"no wildcard", map[string]fcm{"b": {ServerNames: []string{"*.b.com"}}, "any": {}}, sni("10.0.0.1:1", "b.org"), "any"},
		{"case of SNI", map[string]fcm{"exact": {ServerNames: []string{"a.b.com"}}}, sni("10.0.0.1:1", "A.B.com"), "exact"},
		{"suffix as SNI is no wildcard match", map[string]fcm{"b": {ServerNames: []string{"*.b.com"}}}, sni("10.0.0.1:1", ".b.com"), "default"},
		{"no SNI", map[string]fcm{"b": {ServerNames: []string{"*.b.com"}}, "any": {}}, to("10.0.0.1:1"), "any"},
		{"name does not fall back", map[string]fcm{"exact": {ServerNames: []string{"a.com"}, TransportProtocol: "raw_buffer"}, "any": {}}, sni("10.0.0.1:1", "a.com"), "default"},
		{"exact name does not fall back to a wildcard", map[string]fcm{"exact": {ServerNames: []string{"a.com"}, ApplicationProtocols: []string{"h2"}}, "wild": {ServerNames: []string{"*.com"}}}, sni("10.0.0.1:1", "a.com"), "default"},
		{"transport", map[string]fcm{"tls": {TransportProtocol: "tls"}, "any": {}}, sni("10.0.0.1:1", "a.com"), "tls"},
		{"other transport", map[string]fcm{"tls": {TransportProtocol: "tls"}, "any": {}}, to("10.0.0.1:1"), "any"},
		{"transport before application", map[string]fcm{"raw": {TransportProtocol: "raw_buffer"}, "http": {ApplicationProtocols: []string{"http/1.1"}}},
			with(to("10.0.0.1:1"), func(q *query) { q.Transport, q.Application = "raw_buffer", []string{"http/1.1"} }), "raw"},
		{"application", map[string]fcm{"http": {ApplicationProtocols: []string{"http/1.1", "h2c"}}, "any": {}}, with(to("10.0.0.1:1"), func(q *query) { q.Application = []string{"h2c"} }), "http"},
		{"first offered application", map[string]fcm{"h2": {ApplicationProtocols: []string{"h2"}}, "h1": {ApplicationProtocols: []string{"http/1.1"}}},
			with(to("10.0.0.1:1"), func(q *query) { q.Application = []string{"x", "http/1.1", "h2"} }), "h1"},
		{"no application", map[string]fcm{"h2": {ApplicationProtocols: []string{"h2"}}, "any": {}}, to("10.0.0.1:1"), "any"},
		{"source prefix", map[string]fcm{"src": {SourcePrefixRanges: prefixes("10.9.0.0/16")}, "any": {}}, to("10.0.0.1:1"), "src"},
		{"source port", map[string]fcm{"src": {SourcePorts: []uint16{4000}}, "any": {}}, to("10.0.0.1:1"), "src"},
		{"other source port", map[string]fcm{"src": {SourcePorts: []uint16{4001}}, "any": {}}, to("10.0.0.1:1"), "any"},
		{"source prefix does not fall back", map[string]fcm{"src": {SourcePrefixRanges: prefixes("10.9.0.0/16"), SourcePorts: []uint16{1}}, "any": {}}, to("10.0.0.1:1"), "default"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := chains(tc.chains)
			if got := l.FindChain(&tc.q); got == nil || got.Name != tc.want {
				t.Errorf("without index: got %+v, want %s", got, tc.want)
			}
			if err := l.Index(); err != nil {
				t.Fatal(err)
			}
			if got := l.FindChain(&tc.q); got == nil || got.Name != tc.want {
				t.Errorf("got %+v, want %s", got, tc.want)
			}
		})
	}
}

func TestIndexRefusesOverlap(t *testing.T) {
	l := chains(map[string]fcm{"a": {ServerNames: []string{"a.com", "b.com"}}, "b": {ServerNames: []string{"b.com"}}})
	if err := l.Index(); err == nil || !strings.Contains(err.Error(), "same connections") {
		t.Errorf("got %v", err)
	}
	big := fcm{}
	for i := range 2000 {
		big.SourcePorts = append(big.SourcePorts, uint16(i+1))
		big.PrefixRanges = append(big.PrefixRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32))
	}
	if err := chains(map[string]fcm{"big": big}).Index(); err == nil {
		t.Error("four million leaves were accepted")
	}
}

func TestFindChainAllocatesNothing(t *testing.T) {
	l := chains(map[string]fcm{"b": {ServerNames: []string{"*.b.com"}}, "any": {}})
	if err := l.Index(); err != nil {
		t.Fatal(err)
	}
	q := resource.ChainQuery{Source: netip.MustParseAddrPort("10.9.9.9:4000"), Destination: netip.MustParseAddrPort("10.0.0.1:443"), SNI: "a.b.com", Transport: "tls"}
	if n := testing.AllocsPerRun(100, func() { l.FindChain(&q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestVirtualHost(t *testing.T) {
	rc := &resource.RouteConfiguration{Name: "r", IgnorePortInHostMatching: true, VirtualHosts: []*resource.VirtualHost{
		{Name: "exact", Domains: []string{"www.Example.com", "[::1]"}},
		{Name: "suffix", Domains: []string{"*.example.com"}},
		{Name: "long suffix", Domains: []string{"*.a.example.com"}},
		{Name: "dash suffix", Domains: []string{"*-x.example.org"}},
		{Name: "prefix", Domains: []string{"www.*"}},
		{Name: "long prefix", Domains: []string{"www.example.*"}},
		{Name: "any", Domains: []string{"*"}},
	}}
	if err := rc.Index(); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"www.example.com": "exact", "WWW.EXAMPLE.COM": "exact", "www.example.com:8080": "exact", "[::1]:80": "exact",
		"b.example.com": "suffix", "example.com": "any", "b.a.example.com": "long suffix", "a.example.com": "suffix",
		"q-x.example.org": "dash suffix", "-x.example.org": "any", "www.org": "prefix", "www.example.net": "long prefix", "": "any", "www.": "any",
	} {
		if got := rc.VirtualHost(host); got == nil || got.Name != want {
			t.Errorf("%q: got %+v, want %s", host, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { rc.VirtualHost("www.example.com:80") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	rc.IgnorePortInHostMatching = false
	if got := rc.VirtualHost("www.example.com:80"); got.Name != "long prefix" {
		t.Errorf("with the port: %s", got.Name)
	}
	none := &resource.RouteConfiguration{VirtualHosts: rc.VirtualHosts[:1]}
	if none.VirtualHost("other.com") != nil || none.VirtualHost("www.example.com") == nil {
		t.Error("without an index")
	}
}

func TestVirtualHostDuplicates(t *testing.T) {
	for name, vhs := range map[string][]*resource.VirtualHost{
		"exact":     {{Name: "a", Domains: []string{"x.com"}}, {Name: "b", Domains: []string{"X.com"}}},
		"within":    {{Name: "a", Domains: []string{"x.com", "x.com"}}},
		"suffix":    {{Name: "a", Domains: []string{"*.x.com"}}, {Name: "b", Domains: []string{"*.x.com"}}},
		"prefix":    {{Name: "a", Domains: []string{"x.*"}}, {Name: "b", Domains: []string{"x.*"}}},
		"all":       {{Name: "a", Domains: []string{"*"}}, {Name: "b", Domains: []string{"*"}}},
		"name":      {{Name: "a", Domains: []string{"x.com"}}, {Name: "a", Domains: []string{"y.com"}}},
		"empty":     {{Name: "a", Domains: []string{""}}},
		"no domain": {{Name: "a"}},
	} {
		if err := (&resource.RouteConfiguration{VirtualHosts: vhs}).Index(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
