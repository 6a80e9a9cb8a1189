package xdsgen

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

// webNode is a pod of the service web, with ports of each kind.
func webNode() mesh.Node {
	n := sidecarNode
	n.Labels = map[string]string{"app": "web", "version": "v1"}
	n.Addresses = parseAddresses("10.244.1.5")
	return n
}

func inboundWorld() world {
	services := cluster()
	web := *services[3]
	web.Ports = []mesh.Port{
		kubePort(80, 0, "http"), kubePort(90, 9000, "grpc-api"), kubePort(3306, 3306, "mysql"), kubePort(1234, 1234, "any"), kubePort(443, 8443, "https"),
	}
	services[3] = &web
	return world{options: mesh.Options{BuiltIn: services, Pods: true, AccessLogFile: "/dev/stdout"}}
}

// describe is one line per chain: what it matches, and where it leads.
func describe(t *testing.T, l *listenerv3.Listener) []string {
	t.Helper()
	var out []string
	for _, c := range l.GetFilterChains() {
		m := c.GetFilterChainMatch()
		line := fmt.Sprintf("%s: %d %s %s", c.GetName(), m.GetDestinationPort().GetValue(), m.GetTransportProtocol(), strings.Join(m.GetApplicationProtocols(), ","))
		if c.GetTransportSocket() != nil {
			ctx := unpackAny[*tlsv3.DownstreamTlsContext](t, c.GetTransportSocket().GetTypedConfig())
			line += " mTLS " + strings.Join(ctx.GetCommonTlsContext().GetAlpnProtocols(), ",")
			if !ctx.GetRequireClientCertificate().GetValue() {
				t.Errorf("%s takes clients without a certificate", line)
			}
		}
		config := c.GetFilters()[0].GetTypedConfig()
		if strings.HasSuffix(config.GetTypeUrl(), "TcpProxy") {
			line += " TCP " + unpackAny[*tcpproxyv3.TcpProxy](t, config).GetCluster()
		} else {
			h := unpackAny[*hcmv3.HttpConnectionManager](t, config)
			line += " HTTP " + h.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()[0].GetRoute().GetCluster() + " " + h.GetRouteConfig().GetVirtualHosts()[0].GetName()
		}
		out = append(out, line)
	}
	return out
}

func TestInboundOfAWorkload(t *testing.T) {
	g := inboundWorld().generate(t, webNode())
	l := g.listeners["virtualInbound"]
	const mesh = "istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2"
	want := []string{
		"virtualInbound-blackhole: 15006   TCP BlackHoleCluster",
		"virtualInbound-catchall-http: 0 tls istio-http/1.0,istio-http/1.1,istio-h2 mTLS h2,http/1.1 HTTP InboundPassthroughCluster inbound|http|0",
		"virtualInbound-catchall-http: 0 raw_buffer http/1.1,h2c HTTP InboundPassthroughCluster inbound|http|0",
		"virtualInbound: 0 tls istio-peer-exchange,istio mTLS istio,h2,http/1.1 TCP InboundPassthroughCluster",
		"virtualInbound: 0 raw_buffer  TCP InboundPassthroughCluster",
		"virtualInbound: 0 tls  TCP InboundPassthroughCluster",
		"0.0.0.0_1234: 1234 tls istio-http/1.0,istio-http/1.1,istio-h2 mTLS h2,http/1.1 HTTP inbound|1234|| inbound|http|1234",
		"0.0.0.0_1234: 1234 raw_buffer http/1.1,h2c HTTP inbound|1234|| inbound|http|1234",
		"0.0.0.0_1234: 1234 tls istio-peer-exchange,istio mTLS istio,h2,http/1.1 TCP inbound|1234||",
		"0.0.0.0_1234: 1234 raw_buffer  TCP inbound|1234||",
		"0.0.0.0_1234: 1234 tls  TCP inbound|1234||",
		"0.0.0.0_3306: 3306 tls " + mesh + " mTLS istio,h2,http/1.1 TCP inbound|3306||",
		"0.0.0.0_3306: 3306 tls  TCP inbound|3306||",
		"0.0.0.0_3306: 3306 raw_buffer  TCP inbound|3306||",
		// The port with a name is the pod's own of that name.
		"0.0.0.0_8000: 8000 tls " + mesh + " mTLS h2,http/1.1 HTTP inbound|8000|| inbound|http|80",
		"0.0.0.0_8000: 8000 raw_buffer  HTTP inbound|8000|| inbound|http|80",
		"0.0.0.0_8443: 8443 tls " + mesh + " mTLS istio,h2,http/1.1 TCP inbound|8443||",
		"0.0.0.0_8443: 8443 tls  TCP inbound|8443||",
		"0.0.0.0_8443: 8443 raw_buffer  TCP inbound|8443||",
		"0.0.0.0_9000: 9000 tls " + mesh + " mTLS h2,http/1.1 HTTP inbound|9000|| inbound|http|90",
		"0.0.0.0_9000: 9000 raw_buffer  HTTP inbound|9000|| inbound|http|90",
	}
	if diff := cmp.Diff(want, describe(t, l)); diff != "" {
		t.Errorf("chains (-want +got):\n%s", diff)
	}
	for _, name := range []string{"inbound|8000||", "inbound|9000||", "inbound|3306||", "InboundPassthroughCluster"} {
		c := g.clusters[name]
		if g.cluster(name) != "ORIGINAL_DST" || c.GetUpstreamBindConfig().GetSourceAddress().GetAddress() != "127.0.0.6" {
			t.Errorf("cluster %s: %v", name, c)
		}
	}
	if g.clusters["inbound|9000||"].GetTypedExtensionProtocolOptions() == nil || g.clusters["inbound|3306||"].GetTypedExtensionProtocolOptions() != nil {
		t.Error("gRPC has HTTP/2, MySQL nothing of HTTP")
	}
}

// Ports whose protocol needs no look at the bytes for HTTP are left alone.
func TestInboundInspectors(t *testing.T) {
	raw, err := Generate(inboundWorld().snapshot(t), webNode())
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&resource.Decoder{}).Listener(raw[xds.ListenerType]["virtualInbound"].Body)
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[uint16][2]bool{
		15006: {false, false}, 3306: {true, false}, 8443: {true, false}, 8000: {true, false}, 1234: {true, true}, 7777: {true, true},
	} {
		if tls, http := l.Inspectors(port); [2]bool{tls, http} != want {
			t.Errorf("port %d: TLS %t, HTTP %t, want %v", port, tls, http, want)
		}
	}
}

// Who takes what: no service, the services of others, on one machine, a gateway.
func TestWhoTakesInbound(t *testing.T) {
	w := inboundWorld()
	inbound := func(g generated) []string {
		var out []string
		for name := range g.clusters {
			if strings.HasPrefix(name, "inbound") || strings.HasPrefix(name, "Inbound") {
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return out
	}
	other := webNode()
	other.Namespace = "other"
	for name, c := range map[string]struct {
		node mesh.Node
		pods bool
		want string
	}{
		"of no service":     {sidecarNode, true, "InboundPassthroughCluster"},
		"another namespace": {other, true, "InboundPassthroughCluster"},
		"its own":           {webNode(), true, "InboundPassthroughCluster inbound|1234|| inbound|3306|| inbound|8000|| inbound|8443|| inbound|9000||"},
		"on one machine":    {webNode(), false, ""},
		"a gateway":         {gatewayNode, true, ""},
	} {
		w.options.Pods = c.pods
		g := w.generate(t, c.node)
		if got := strings.Join(inbound(g), " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if (g.listeners["virtualInbound"] != nil) != (c.want != "") {
			t.Errorf("%s: the listener is there: %t", name, c.want == "")
		}
	}
}

// Two services with one target port: the older one decides.
func TestInboundConflict(t *testing.T) {
	services := cluster()
	second := kubeService("default", "zweb", "10.96.7.8", []mesh.Port{kubePort(81, 8000, "tcp")})
	second.Selector = services[3].Selector
	g := world{options: mesh.Options{BuiltIn: append(services, second), Pods: true}}.generate(t, webNode())
	chains := strings.Join(describe(t, g.listeners["virtualInbound"]), "\n")
	if strings.Contains(chains, "8000||: TCP") || strings.Count(chains, "0.0.0.0_8000") != 2 {
		t.Errorf("chains:\n%s", chains)
	}
}

// The workload's address family decides where connections to it come from.
func TestInboundSource(t *testing.T) {
	for addresses, want := range map[string]string{"10.0.0.1": "127.0.0.6", "2001:db8::1": "::6", "10.0.0.1 2001:db8::1": "127.0.0.6 ::6", "": "127.0.0.6"} {
		n := webNode()
		n.Addresses = parseAddresses(strings.Fields(addresses)...)
		bind := inboundWorld().generate(t, n).clusters["inbound|9000||"].GetUpstreamBindConfig()
		got := bind.GetSourceAddress().GetAddress()
		for _, more := range bind.GetExtraSourceAddresses() {
			got += " " + more.GetAddress().GetAddress()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", addresses, got, want)
		}
	}
}

// Sidecars of one Deployment share a view, those of another have their own, and each has its
// inbound listener, in both forms.
func TestInboundOfViews(t *testing.T) {
	generator := NewGenerator(inboundWorld().snapshot(t), nil)
	a, b, other := webNode(), webNode(), webNode()
	b.Name, b.Addresses = "second", parseAddresses("10.244.1.6")
	other.Labels = map[string]string{"app": "else"}
	for _, onDemand := range []bool{false, true} {
		views := map[string]xds.View{}
		for name, n := range map[string]mesh.Node{"a": a, "b": b, "other": other} {
			n.OnDemand = onDemand
			v, err := generator.View(t.Context(), EncodeNode(n, "cluster.local"))
			if err != nil {
				t.Fatal(err)
			}
			defer v.Leave()
			views[name] = v
		}
		if views["a"] != views["b"] || views["a"] == views["other"] {
			t.Errorf("on demand %t: views are shared: %t, %t", onDemand, views["a"] == views["b"], views["a"] == views["other"])
		}
		for name, want := range map[string]int{"a": 21, "other": 6} {
			state, err := views[name].State()
			if err != nil {
				t.Fatal(err)
			}
			l := unpackAny[*listenerv3.Listener](t, state.All(xds.ListenerType)["virtualInbound"].Body)
			if got := len(l.GetFilterChains()); got != want {
				t.Errorf("on demand %t: %s has %d inbound chains, want %d", onDemand, name, got, want)
			}
			if _, ok := state.Find(xds.ClusterType, "InboundPassthroughCluster"); !ok {
				t.Errorf("on demand %t: %s has no cluster for inbound", onDemand, name)
			}
		}
	}
}
