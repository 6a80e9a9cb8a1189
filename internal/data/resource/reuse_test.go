package resource

import (
	"fmt"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func anyOf[M proto.Message](t testing.TB, m M, json string) *anypb.Any {
	t.Helper()
	if err := protojson.Unmarshal([]byte(json), m); err != nil {
		t.Fatalf("%v\n%s", err, json)
	}
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// routes is a route configuration in which each of hosts leads to a cluster.
func routes(t testing.TB, maxBody int, hosts ...string) *anypb.Any {
	t.Helper()
	var list []string
	for _, h := range hosts {
		name, cluster, _ := strings.Cut(h, ">")
		list = append(list, fmt.Sprintf(`{"name": %q, "domains": [%q], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": %q}},
			{"match": {"prefix": "/d"}, "directResponse": {"status": 200, "body": {"inlineString": "12345678"}}}]}`, name, name, cluster))
	}
	return anyOf(t, &routev3.RouteConfiguration{}, fmt.Sprintf(`{"name": "80", "virtualHosts": [%s], "maxDirectResponseBodySizeBytes": %d}`, strings.Join(list, ","), maxBody))
}

func TestUnchangedVirtualHostsAreKept(t *testing.T) {
	first, err := DecodeRouteConfiguration(routes(t, 100, "a>1", "b>1", "c>1"))
	if err != nil {
		t.Fatal(err)
	}
	changed := routes(t, 100, "c>1", "a>1", "b>2", "d>1")
	next, err := Decoder{}.NextRouteConfiguration(first, changed)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := DecodeRouteConfiguration(changed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fresh, next, cmp.AllowUnexported(RouteConfiguration{}, domainIndex{}, wildcards{})); diff != "" {
		t.Errorf("decoded (-from nothing +after another):\n%s", diff)
	}
	for host, kept := range map[string]bool{"a": true, "b": false, "c": true} {
		if got := first.VirtualHost(host) == next.VirtualHost(host); got != kept {
			t.Errorf("the virtual host %s is the one of before: %v, want %v", host, got, kept)
		}
	}
	if next.VirtualHost("d") == nil {
		t.Error("d is not there")
	}
}

// A virtual host that was good may be bad under other settings of its configuration.
func TestVirtualHostsAreJudgedByTheirConfiguration(t *testing.T) {
	first, err := DecodeRouteConfiguration(routes(t, 100, "a>1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Decoder{}).NextRouteConfiguration(first, routes(t, 4, "a>1")); err == nil {
		t.Error("a body of 8 bytes was taken where 4 is the most")
	}
	if _, err := (Decoder{}).NextRouteConfiguration(first, routes(t, 100, "a>1", "a>1")); err == nil {
		t.Error("the same virtual host twice was taken")
	}
}

func TestUnchangedFilterChainsAreKept(t *testing.T) {
	listener := func(chains ...string) *anypb.Any {
		var list []string
		for _, c := range chains {
			name, cluster, _ := strings.Cut(c, ">")
			list = append(list, fmt.Sprintf(`{"filterChainMatch": {"serverNames": [%q]}, "filters": [{"name": "tcp", "typedConfig": {
				"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "statPrefix": "x", "cluster": %q}}]}`, name, cluster))
		}
		return anyOf(t, &listenerv3.Listener{}, fmt.Sprintf(`{"name": "l", "address": {"socketAddress": {"address": "0.0.0.0", "portValue": 443}},
			"listenerFilters": [{"name": "tls", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],
			"filterChains": [%s]}`, strings.Join(list, ",")))
	}
	first, err := DecodeListener(listener("a>1", "b>1"))
	if err != nil {
		t.Fatal(err)
	}
	next, err := Decoder{}.NextListener(first, listener("b>2", "a>1"))
	if err != nil {
		t.Fatal(err)
	}
	if next.FilterChains[1] != first.FilterChains[0] {
		t.Error("the chain that did not change is another one")
	}
	if got := next.FilterChains[0].TCP.Clusters[0].Name; got != "2" {
		t.Errorf("the changed chain leads to %q", got)
	}
	if _, err := (Decoder{}).NextListener(first, listener()); err == nil {
		t.Error("a listener without chains was taken")
	}
}

func TestBadPartsAreNamed(t *testing.T) {
	whole := routes(t, 100, "a>1")
	for _, bad := range [][]byte{{0x12, 3, 0xff, 0xff, 0xff}, {0x12, 9}, {0x10, 1}} {
		a := &anypb.Any{TypeUrl: whole.TypeUrl, Value: append(append([]byte{}, whole.Value...), bad...)}
		if _, err := DecodeRouteConfiguration(a); err == nil {
			t.Errorf("% x was taken", bad)
		}
	}
}

func TestEqualAccessLogsAreOne(t *testing.T) {
	log := func(path string) string {
		return fmt.Sprintf(`[{"name": "file", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": %q}}]`, path)
	}
	chain := func(name, path string) string {
		return fmt.Sprintf(`{"filterChainMatch": {"serverNames": [%q]}, "filters": [{"name": "tcp", "typedConfig": {
			"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "statPrefix": "x", "cluster": "c", "accessLog": %s}}]}`, name, log(path))
	}
	l, err := DecodeListener(anyOf(t, &listenerv3.Listener{}, fmt.Sprintf(`{"name": "l", "address": {"socketAddress": {"address": "0.0.0.0", "portValue": 443}},
		"filterChains": [%s, %s, %s]}`, chain("a", "/one"), chain("b", "/two"), chain("c", "/one"))))
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := l.FilterChains[0].TCP.AccessLogs, l.FilterChains[1].TCP.AccessLogs, l.FilterChains[2].TCP.AccessLogs
	if a[0].Path != "/one" || b[0].Path != "/two" || &a[0] != &c[0] {
		t.Errorf("logs %v, %v, %v; the first and the last should be the same list", a, b, c)
	}
}
