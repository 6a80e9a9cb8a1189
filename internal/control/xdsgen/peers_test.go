package xdsgen

import (
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

const strictPeers = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
`

// What a workload takes under STRICT, and where ports have other modes.
func TestInboundUnderPeerAuthentication(t *testing.T) {
	const ports = `---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  portLevelMtls: {8000: {mode: PERMISSIVE}, 3306: {mode: DISABLE}, 1234: {mode: DISABLE}, 7777: {mode: DISABLE}, 7778: {mode: PERMISSIVE}}
`
	const http = "istio-http/1.0,istio-http/1.1,istio-h2"
	strict := []string{
		"virtualInbound-blackhole: 15006   TCP BlackHoleCluster",
		"virtualInbound-catchall-http: 0 tls " + http + " mTLS h2,http/1.1 HTTP InboundPassthroughCluster inbound|http|0",
		"virtualInbound: 0 tls  mTLS istio,h2,http/1.1 TCP InboundPassthroughCluster",
		"0.0.0.0_1234: 1234 tls " + http + " mTLS h2,http/1.1 HTTP inbound|1234|| inbound|http|1234",
		"0.0.0.0_1234: 1234 tls  mTLS istio,h2,http/1.1 TCP inbound|1234||",
		"0.0.0.0_3306: 3306 tls  mTLS istio,h2,http/1.1 TCP inbound|3306||",
		"0.0.0.0_8000: 8000 tls  mTLS h2,http/1.1 HTTP inbound|8000|| inbound|http|80",
		"0.0.0.0_8443: 8443 tls  mTLS istio,h2,http/1.1 TCP inbound|8443||",
		"0.0.0.0_9000: 9000 tls  mTLS h2,http/1.1 HTTP inbound|9000|| inbound|http|90",
	}
	// Of the ports that no service declares those with a mode of their own have chains.
	apart := slices.Concat(strict[:3], []string{
		"virtualInbound-catchall-http: 7777 raw_buffer http/1.1,h2c HTTP InboundPassthroughCluster inbound|http|0",
		"virtualInbound: 7777 raw_buffer  TCP InboundPassthroughCluster",
		"virtualInbound-catchall-http: 7778 tls " + http + " mTLS h2,http/1.1 HTTP InboundPassthroughCluster inbound|http|0",
		"virtualInbound-catchall-http: 7778 raw_buffer http/1.1,h2c HTTP InboundPassthroughCluster inbound|http|0",
		"virtualInbound: 7778 tls istio-peer-exchange,istio mTLS istio,h2,http/1.1 TCP InboundPassthroughCluster",
		"virtualInbound: 7778 raw_buffer  TCP InboundPassthroughCluster",
		"virtualInbound: 7778 tls  TCP InboundPassthroughCluster",
		"0.0.0.0_1234: 1234 raw_buffer http/1.1,h2c HTTP inbound|1234|| inbound|http|1234",
		"0.0.0.0_1234: 1234 raw_buffer  TCP inbound|1234||",
		"0.0.0.0_3306: 3306 raw_buffer  TCP inbound|3306||",
		"0.0.0.0_8000: 8000 tls istio,istio-peer-exchange," + http + " mTLS h2,http/1.1 HTTP inbound|8000|| inbound|http|80",
		"0.0.0.0_8000: 8000 raw_buffer  HTTP inbound|8000|| inbound|http|80",
	}, strict[7:])
	for name, c := range map[string]struct {
		yaml    string
		want    []string
		looks   map[uint16][2]bool // at TLS, at HTTP
		objects string
	}{
		"STRICT": {strictPeers, strict, map[uint16][2]bool{15006: {}, 1234: {true, false}, 3306: {true, false}, 7777: {true, false}},
			"PeerAuthentication/istio-system/all"},
		"by port": {strictPeers + ports, apart, map[uint16][2]bool{
			15006: {}, 1: {true, false}, 1234: {false, true}, 3306: {}, 7777: {false, true}, 7778: {true, true}, 8000: {true, false}},
			"PeerAuthentication/istio-system/all PeerAuthentication/default/web"},
		"DISABLE": {strings.ReplaceAll(strictPeers, "STRICT", "DISABLE"), nil, map[uint16][2]bool{15006: {}, 1: {false, true}, 3306: {}, 1234: {false, true}},
			"PeerAuthentication/istio-system/all"},
	} {
		w := inboundWorld()
		w.yaml = c.yaml
		g := w.generate(t, webNode())
		l := g.listeners["virtualInbound"]
		if diff := cmp.Diff(c.want, describe(t, l)); diff != "" && c.want != nil {
			t.Errorf("%s: chains (-want +got):\n%s", name, diff)
		}
		if objects, _ := told(l.GetMetadata()); strings.Join(objects, " ") != c.objects {
			t.Errorf("%s: it is said to be made from %v", name, objects)
		}
		decoded, err := (&resource.Decoder{}).Listener(g.raw[xds.ListenerType]["virtualInbound"].Body)
		if err != nil {
			t.Fatal(err)
		}
		for port, want := range c.looks {
			if tls, http := decoded.Inspectors(port); [2]bool{tls, http} != want {
				t.Errorf("%s: port %d: TLS %t, HTTP %t, want %v", name, port, tls, http, want)
			}
		}
	}
}

// Under DISABLE nothing is ended, and TLS of the application itself passes as it is.
func TestInboundWithoutMutualTLS(t *testing.T) {
	w := inboundWorld()
	w.yaml = strings.ReplaceAll(strictPeers, "STRICT", "DISABLE")
	for _, line := range describe(t, w.generate(t, webNode()).listeners["virtualInbound"]) {
		if strings.Contains(line, "tls") || strings.Contains(line, "mTLS") {
			t.Errorf("a chain about TLS: %s", line)
		}
	}
}

// Pods that a selector tells apart have views of their own, and get a changed policy in both
// forms.
func TestPeersOfViews(t *testing.T) {
	const selects = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: v1, namespace: default}
spec: {selector: {matchLabels: {version: v1}}, mtls: {mode: MODE}}
`
	set := func(mode string) *mesh.Snapshot {
		w := inboundWorld()
		w.yaml = strings.ReplaceAll(selects, "MODE", mode)
		return w.snapshot(t)
	}
	generator := NewGenerator(set("STRICT"), nil)
	for _, onDemand := range []bool{false, true} {
		generator.Set(set("STRICT"))
		chains := func(version string) func() int {
			n := webNode()
			n.Labels["version"], n.OnDemand = version, onDemand
			v, err := generator.View(t.Context(), EncodeNode(n, "cluster.local"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(v.Leave)
			return func() int {
				state, err := v.State()
				if err != nil {
					t.Fatal(err)
				}
				return len(unpackAny[*listenerv3.Listener](t, state.All(xds.ListenerType)["virtualInbound"].Body).GetFilterChains())
			}
		}
		first, second := chains("v1"), chains("v2")
		if a, b := first(), second(); a != 9 || b != 21 {
			t.Errorf("on demand %t: %d and %d chains, want 9 and 21", onDemand, a, b)
		}
		generator.Set(set("PERMISSIVE"))
		if a, b := first(), second(); a != 21 || b != 21 {
			t.Errorf("on demand %t: after the change %d and %d chains, want 21", onDemand, a, b)
		}
	}
}
