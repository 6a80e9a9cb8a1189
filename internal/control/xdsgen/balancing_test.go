package xdsgen

import (
	"fmt"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

const placed = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: placed, namespace: default}
spec:
  hosts: [placed.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 5432, name: tcp, protocol: TCP}]
  resolution: STATIC
  addresses: [203.0.113.9]
  endpoints:
  - {address: 192.0.2.1, locality: eu/west/a, labels: {rack: "1", os: x}}
  - {address: 192.0.2.2, locality: eu/west/b, weight: 3, labels: {rack: "2", os: x}}
  - {address: 192.0.2.3, locality: eu/north/a, labels: {rack: "1", os: y}}
  - {address: 192.0.2.4, locality: us/east/a}
  - {address: 192.0.2.5, locality: asia/east/a}
`

// ruled is placed with a DestinationRule of this traffic policy.
func ruled(policy string) world {
	return world{yaml: placed + `
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: placed, namespace: default}
spec:
  host: placed.example
  trafficPolicy: ` + policy}
}

// What a rule says becomes what istiod makes of it, and the proxy takes it.
func TestTrafficPolicies(t *testing.T) {
	tests := []struct {
		name, policy string
		want         string // a cluster in proto JSON, of which the fields must be there
	}{
		{"hash by header", `{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}`,
			`{"lbPolicy":"RING_HASH","ringHashLbConfig":{"minimumRingSize":"1024"}}`},
		{"old ring size", `{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 99}}}`,
			`{"lbPolicy":"RING_HASH","ringHashLbConfig":{"minimumRingSize":"99"}}`},
		{"ring size", `{loadBalancer: {consistentHash: {httpQueryParameterName: q, ringHash: {minimumRingSize: 2048}}}}`,
			`{"lbPolicy":"RING_HASH","ringHashLbConfig":{"minimumRingSize":"2048"}}`},
		{"maglev", `{loadBalancer: {consistentHash: {httpCookie: {name: u, ttl: 0s}, maglev: {}}}}`, `{"lbPolicy":"MAGLEV"}`},
		{"maglev's table", `{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 2039}}}}`,
			`{"lbPolicy":"MAGLEV","maglevLbConfig":{"tableSize":"2039"}}`},
		{"warmup", `{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 10s, aggression: 2.0, minimumPercent: 20.0}}}`,
			`{"lbPolicy":"ROUND_ROBIN","roundRobinLbConfig":{"slowStartConfig":{"slowStartWindow":"10s","aggression":{"defaultValue":2},"minWeightPercent":{"value":20}}}}`},
		{"old warmup", `{loadBalancer: {warmupDurationSecs: 7s}}`,
			`{"lbPolicy":"LEAST_REQUEST","leastRequestLbConfig":{"slowStartConfig":{"slowStartWindow":"7s"}}}`},
		{"outlier detection", `{outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 0, interval: 5m, baseEjectionTime: 15m, maxEjectionPercent: 40, minHealthPercent: 30}}`,
			`{"outlierDetection":{"consecutive5xx":7,"enforcingConsecutive5xx":100,"consecutiveGatewayFailure":0,"enforcingConsecutiveGatewayFailure":0,"interval":"300s",
				"baseEjectionTime":"900s","maxEjectionPercent":40,"enforcingSuccessRate":0},"commonLbConfig":{"healthyPanicThreshold":{"value":30}}}`},
		{"local failures", `{outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4}}`,
			`{"outlierDetection":{"splitExternalLocalOriginErrors":true,"consecutiveLocalOriginFailure":4,"enforcingConsecutiveLocalOriginFailure":100,
				"enforcingLocalOriginSuccessRate":0,"enforcingSuccessRate":0},"commonLbConfig":{"healthyPanicThreshold":{}}}`},
		{"limits", `{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRetries: 4}}, retryBudget: {percent: 30.0, minRetryConcurrency: 5}}`,
			`{"circuitBreakers":{"thresholds":[{"maxConnections":1,"maxPendingRequests":2,"maxRequests":3,"maxRetries":4,"retryBudget":{"budgetPercent":{"value":30},"minRetryConcurrency":5},"trackRemaining":true}]}}`},
		{"ports replace", `{outlierDetection: {consecutive5xxErrors: 7}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}`,
			`{"lbPolicy":"RANDOM","outlierDetection":null}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := ruled(tt.policy).generate(t, sidecarNode)
			const name = "outbound|80||placed.example"
			wantFields(t, g.clusters[name], tt.want)
			if _, err := resource.DecodeCluster(g.raw[xds.ClusterType][name].Body); err != nil {
				t.Errorf("the proxy refuses it: %v", err)
			}
		})
	}
}

// wantFields compares the fields that the text names; null means that one is not set.
func wantFields(t *testing.T, got *clusterv3.Cluster, text string) {
	t.Helper()
	var want clusterv3.Cluster
	if err := protojson.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	fields := want.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !strings.Contains(text, `"`+f.JSONName()+`"`) {
			continue
		}
		one, other := &clusterv3.Cluster{}, &clusterv3.Cluster{}
		if want.ProtoReflect().Has(f) {
			one.ProtoReflect().Set(f, want.ProtoReflect().Get(f))
		}
		if got.ProtoReflect().Has(f) {
			other.ProtoReflect().Set(f, got.ProtoReflect().Get(f))
		}
		if !proto.Equal(one, other) {
			t.Errorf("%s: %s, want %s", f.Name(), protojson.Format(other), protojson.Format(one))
		}
	}
}

func TestConnectionAges(t *testing.T) {
	g := ruled(`{connectionPool: {tcp: {idleTimeout: 9s, maxConnectionDuration: 60s}}}`).generate(t, sidecarNode)
	c, err := resource.DecodeCluster(g.raw[xds.ClusterType]["outbound|80||placed.example"].Body)
	if err != nil {
		t.Fatal(err)
	}
	if c.UpstreamIdleTimeout.Seconds() != 9 || c.MaxConnectionAge.Seconds() != 60 {
		t.Errorf("idle %s, longest %s", c.UpstreamIdleTimeout, c.MaxConnectionAge)
	}
	p := tcpProxyOf(t, g)
	if p.GetIdleTimeout().GetSeconds() != 9 || p.GetMaxDownstreamConnectionDuration().GetSeconds() != 60 || len(p.GetHashPolicy()) != 0 {
		t.Errorf("%v", p)
	}
}

func tcpProxyOf(t *testing.T, g generated) *tcpproxyv3.TcpProxy {
	t.Helper()
	for name, l := range g.listeners {
		if !strings.HasSuffix(name, "_5432") {
			continue
		}
		for _, chain := range l.GetFilterChains() {
			for _, f := range chain.GetFilters() {
				return unpackAny[*tcpproxyv3.TcpProxy](t, f.GetTypedConfig())
			}
		}
	}
	t.Fatal("no listener for port 5432")
	return nil
}

func TestTCPIsHashedByTheClient(t *testing.T) {
	p := tcpProxyOf(t, ruled(`{loadBalancer: {consistentHash: {useSourceIp: true}}}`).generate(t, sidecarNode))
	if len(p.GetHashPolicy()) != 1 || p.GetHashPolicy()[0].GetSourceIp() == nil {
		t.Errorf("%v", p)
	}
	p = tcpProxyOf(t, ruled(`{loadBalancer: {consistentHash: {httpHeaderName: x}}}`).generate(t, sidecarNode))
	if len(p.GetHashPolicy()) != 0 {
		t.Errorf("%v", p)
	}
}

func TestProxyProtocol(t *testing.T) {
	for policy, want := range map[string]resource.Cluster{
		`{proxyProtocol: {version: V1}}`:                                            {ProxyProtocol: resource.ProxyProtocolV1},
		`{proxyProtocol: {version: V2}, tls: {mode: SIMPLE, sni: placed.example}}`:  {ProxyProtocol: resource.ProxyProtocolV2, TLS: &resource.UpstreamTLS{SNI: "placed.example"}},
		`{tls: {mode: SIMPLE, sni: placed.example}, connectionPool: {tcp: {}}}`:     {TLS: &resource.UpstreamTLS{SNI: "placed.example"}},
		`{proxyProtocol: {}, loadBalancer: {consistentHash: {useSourceIp: true}} }`: {ProxyProtocol: resource.ProxyProtocolV1},
	} {
		g := ruled(policy).generate(t, sidecarNode)
		c, err := resource.DecodeCluster(g.raw[xds.ClusterType]["outbound|80||placed.example"].Body)
		if err != nil {
			t.Fatalf("%s: %v", policy, err)
		}
		if c.ProxyProtocol != want.ProxyProtocol || (c.TLS == nil) != (want.TLS == nil) || c.TLS != nil && (c.TLS.SNI != want.TLS.SNI || c.TLS.Unsupported != "") {
			t.Errorf("%s: PROXY protocol %d, TLS %+v", policy, c.ProxyProtocol, c.TLS)
		}
	}
}

// Each group of the assignment as "priority/weight: endpoints".
func TestLocalities(t *testing.T) {
	tests := []struct {
		name, policy, node string
		labels             map[string]string
		want               string
	}{
		{"without outlier detection all are alike", `{loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}}`, "eu/west/a", nil, "0/1:1 0/3:2 0/1:3 0/1:4 0/1:5"},
		{"failover by default", `{outlierDetection: {}}`, "eu/west/a", nil, "0/1:1 1/3:2 2/1:3 3/1:4 3/1:5"},
		{"switched off", `{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}`, "eu/west/a", nil, "0/1:1 0/3:2 0/1:3 0/1:4 0/1:5"},
		{"failover to a region", `{outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}}`, "eu/west/a", nil, "0/1:1 1/3:2 2/1:3 3/1:4 4/1:5"},
		{"gaps are closed", `{outlierDetection: {}}`, "us/west", nil, "1/1:1 1/3:2 1/1:3 0/1:4 1/1:5"},
		{"priority by labels", `{outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [os, rack]}}}`, "", map[string]string{"os": "x", "rack": "1"}, "0/1:1 1/3:2 2/1:3 2/1:4 2/1:5"},
		{"priority by values", `{outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [os=y]}}}`, "", map[string]string{"os": "x"}, "1/1:1 1/3:2 0/1:3 1/1:4 1/1:5"},
		{"distribute", `{loadBalancer: {localityLbSetting: {distribute: [{from: "eu/west/*", to: {"eu/west/*": 80, "us/*": 20}}]}}}`, "eu/west/a", nil, "0/20:1 0/60:2 0/0:- 0/20:4 0/0:-"},
		{"the most specific first", `{loadBalancer: {localityLbSetting: {distribute: [{from: "*", to: {"eu/*": 50, "eu/west/b": 50}}]}}}`, "", nil, "0/25:1 0/50:2 0/25:3 0/0:- 0/0:-"},
		{"distribute from elsewhere", `{loadBalancer: {localityLbSetting: {distribute: [{from: us, to: {eu: 100}}]}}}`, "eu/west/a", nil, "0/1:1 0/3:2 0/1:3 0/1:4 0/1:5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := sidecarNode
			node.Locality, node.Labels = tt.node, tt.labels
			g := ruled(tt.policy).generate(t, node)
			var got []string
			for _, group := range g.endpoints["outbound|80||placed.example"].GetEndpoints() {
				who := "-"
				for _, e := range group.GetLbEndpoints() {
					who = strings.TrimPrefix(e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress(), "192.0.2.")
				}
				got = append(got, fmt.Sprintf("%d/%d:%s", group.GetPriority(), group.GetLoadBalancingWeight().GetValue(), who))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %s, want %s", s, tt.want)
			}
			weighted := g.clusters["outbound|80||placed.example"].GetCommonLbConfig().GetLocalityWeightedLbConfig() != nil
			if want := strings.Contains(tt.policy, "distribute") || strings.Contains(tt.policy, "outlierDetection") && strings.Contains(tt.policy, "failover"); weighted != want {
				t.Errorf("locality weighted: %v", weighted)
			}
		})
	}
}

// A tunnel is asked for as istiod has it: the subset's own, or the rule's for a route
// without a subset and for the first of several destinations.
func TestTunnel(t *testing.T) {
	const rules = `
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: placed, namespace: default}
spec:
  host: placed.example
  trafficPolicy: {tunnel: {targetHost: 2001:db8::1, targetPort: 8443}}
  subsets:
  - {name: plain, labels: {os: x}}
  - {name: posted, labels: {os: y}, trafficPolicy: {tunnel: {protocol: POST, targetHost: example.com, targetPort: 443}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: placed, namespace: default}
spec:
  hosts: [placed.example]
  tcp:
  - match: [{port: 5432}]
    route: `
	for routes, want := range map[string]string{
		`[{destination: {host: placed.example}}]`:                 "[2001:db8::1]:8443",
		`[{destination: {host: placed.example, subset: plain}}]`:  "",
		`[{destination: {host: placed.example, subset: posted}}]`: "POST example.com:443",
		`[{destination: {host: placed.example, subset: posted}, weight: 50}, {destination: {host: placed.example, subset: plain}, weight: 50}]`: "[2001:db8::1]:8443",
	} {
		p := tcpProxyOf(t, world{yaml: placed + rules + routes}.generate(t, sidecarNode)).GetTunnelingConfig()
		got := p.GetHostname()
		if p.GetUsePost() {
			got = "POST " + got
		}
		if got != want {
			t.Errorf("%s: %q, not %q", routes, got, want)
		}
	}
}
