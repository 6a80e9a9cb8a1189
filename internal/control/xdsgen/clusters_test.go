package xdsgen

import (
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

func TestSubsetsAndEndpoints(t *testing.T) {
	g := world{yaml: `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: fixed, namespace: default}
spec:
  hosts: [fixed.example]
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 443, name: tls, protocol: TLS}
  resolution: STATIC
  endpoints:
  - {address: 192.0.2.1, labels: {v: "1"}, locality: eu/west/a, weight: 3}
  - {address: 192.0.2.2, labels: {v: "2"}, locality: eu/west/a, ports: {http: 9090}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vms, namespace: default}
spec:
  hosts: [vms.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: one, namespace: default}
spec: {address: 192.0.2.7, labels: {app: vm, v: "1"}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: other, namespace: elsewhere}
spec: {address: 192.0.2.8, labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: names, namespace: default}
spec:
  hosts: [names.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  endpoints: [{address: n1.example, labels: {v: "1"}}, {address: n2.example}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: fixed, namespace: default}
spec:
  host: "*.example"
  subsets: [{name: v1, labels: {v: "1"}}, {name: v3, labels: {v: "3"}}, {name: all}]
`}.generate(t, sidecarNode)
	for name, want := range map[string]string{
		"outbound|80||fixed.example":    "EDS 192.0.2.1:8080 192.0.2.2:9090",
		"outbound|80|v1|fixed.example":  "EDS 192.0.2.1:8080",
		"outbound|80|v3|fixed.example":  "EDS",
		"outbound|80|all|fixed.example": "EDS 192.0.2.1:8080 192.0.2.2:9090",
		"outbound|443||fixed.example":   "EDS 192.0.2.1:443 192.0.2.2:443",
		"outbound|80||vms.example":      "EDS 192.0.2.7:80",
		"outbound|80|v1|vms.example":    "EDS 192.0.2.7:80",
		"outbound|80||names.example":    "STRICT_DNS n1.example:80 n2.example:80",
		"outbound|80|v1|names.example":  "STRICT_DNS n1.example:80",
		"outbound|80|v3|names.example":  "none",
	} {
		if got := g.cluster(name); got != want {
			t.Errorf("cluster %s: got %q, want %q", name, got, want)
		}
	}
	locality := g.endpoints["outbound|80||fixed.example"].GetEndpoints()[0]
	if l := locality.GetLocality(); l.GetRegion() != "eu" || l.GetZone() != "west" || l.GetSubZone() != "a" {
		t.Errorf("locality %v", l)
	}
	if w := locality.GetLoadBalancingWeight().GetValue(); w != 4 {
		t.Errorf("weight of the locality is %d, want 4", w)
	}
}

func TestDestinationRuleNamespaces(t *testing.T) {
	rule := func(name, namespace, timeout, more string) string {
		return `
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ` + name + `, namespace: ` + namespace + `}
spec:
  host: x.example
  trafficPolicy: {connectionPool: {tcp: {connectTimeout: ` + timeout + `}}}` + more
	}
	const entry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x, namespace: service}
spec: {hosts: [x.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}`
	root, service := rule("r", "istio-system", "1s", ""), rule("s", "service", "2s", "")
	client := rule("c", "default", "3s", "")
	for name, c := range map[string]struct {
		yaml string
		want int64
	}{
		"none":             {entry, 10},
		"root":             {entry + root, 1},
		"service":          {entry + root + service, 2},
		"client":           {entry + root + service + client, 3},
		"private service":  {entry + root + rule("s", "service", "2s", "\n  exportTo: ['.']"), 1},
		"elsewhere":        {entry + rule("e", "elsewhere", "4s", ""), 10},
		"selects":          {entry + client + rule("w", "default", "5s", "\n  workloadSelector: {matchLabels: {run: test}}"), 5},
		"selects another":  {entry + client + rule("w", "default", "5s", "\n  workloadSelector: {matchLabels: {run: x}}"), 3},
		"merged: older's":  {entry + client + rule("c2", "default", "6s", ""), 3},
		"meshconfig's own": {entry + "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'connectTimeout: 7s'}", 7},
	} {
		g := world{yaml: c.yaml}.generate(t, sidecarNode)
		if got := g.clusters["outbound|80||x.example"].GetConnectTimeout().GetSeconds(); got != c.want {
			t.Errorf("%s: connect timeout %d s, want %d s", name, got, c.want)
		}
	}
}

func TestTrafficPolicy(t *testing.T) {
	g := world{yaml: hosts + `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: default}
spec:
  host: single.example
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool:
      tcp: {maxConnections: 7, connectTimeout: 3s}
      http: {idleTimeout: 9s, maxRequestsPerConnection: 2}
    portLevelSettings:
    - port: {number: 9}
      tls: {mode: SIMPLE}
  subsets:
  - {name: random, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
  - name: port
    trafficPolicy:
      loadBalancer: {simple: RANDOM}
      portLevelSettings: [{port: {number: 8080}, connectionPool: {tcp: {maxConnections: 8}}}]
`}.generate(t, sidecarNode)
	c := g.clusters["outbound|8080||single.example"]
	limits := c.GetCircuitBreakers().GetThresholds()[0]
	if c.GetLbPolicy().String() != "ROUND_ROBIN" || limits.GetMaxConnections().GetValue() != 7 ||
		limits.GetMaxRequests().GetValue() != 1<<32-1 || c.GetConnectTimeout().GetSeconds() != 3 || c.GetTransportSocket() != nil {
		t.Errorf("cluster %v", c)
	}
	o := unpackAny[*httpv3.HttpProtocolOptions](t, c.GetTypedExtensionProtocolOptions()[httpOptionsKey])
	if common := o.GetCommonHttpProtocolOptions(); common.GetIdleTimeout().GetSeconds() != 9 || common.GetMaxRequestsPerConnection().GetValue() != 2 {
		t.Errorf("options %v", o)
	}
	c = g.clusters["outbound|8080|random|single.example"]
	if c.GetLbPolicy().String() != "RANDOM" || c.GetConnectTimeout().GetSeconds() != 3 {
		t.Errorf("subset random: %v", c)
	}
	c = g.clusters["outbound|8080|port|single.example"] // settings for a port do not inherit
	if c.GetLbPolicy().String() != "LEAST_REQUEST" || c.GetConnectTimeout().GetSeconds() != 10 ||
		c.GetCircuitBreakers().GetThresholds()[0].GetMaxConnections().GetValue() != 8 {
		t.Errorf("subset port: %v", c)
	}
}

// TestProtocols: the version of HTTP that is spoken with a host, and what is offered
// for it in TLS.
func TestProtocols(t *testing.T) {
	for name, c := range map[string]struct{ port, http, want string }{
		"HTTP":                {"HTTP", "{}", "alpn=http/1.1"},
		"HTTP2":               {"HTTP2", "{}", "http2 alpn=h2"},
		"GRPC-Web":            {"GRPC-Web", "{}", "http2 alpn=h2"},
		"upgraded":            {"HTTP", "{h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 7}", "http2 7 streams alpn=h2"},
		"not upgraded":        {"GRPC", "{h2UpgradePolicy: DO_NOT_UPGRADE}", "http2 alpn=h2"},
		"client's":            {"HTTP", "{useClientProtocol: true}", "client's alpn=h2,http/1.1"},
		"client's, of HTTP2":  {"HTTP2", "{useClientProtocol: true}", "client's alpn=h2,http/1.1"},
		"nothing HTTP in TCP": {"TCP", "{useClientProtocol: true, h2UpgradePolicy: UPGRADE}", "alpn="},
	} {
		g := world{yaml: `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x, namespace: default}
spec: {hosts: [x.example], resolution: DNS, ports: [{number: 80, name: p, protocol: ` + c.port + `}], exportTo: ['*']}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: x, namespace: default}
spec:
  host: x.example
  trafficPolicy:
    tls: {mode: SIMPLE, sni: x.example}
    connectionPool: {http: ` + c.http + `}`}.generate(t, sidecarNode)
		cluster := g.clusters["outbound|80||x.example"]
		var o httpv3.HttpProtocolOptions
		if a := cluster.GetTypedExtensionProtocolOptions()[httpOptionsKey]; a != nil {
			if err := a.UnmarshalTo(&o); err != nil {
				t.Fatal(err)
			}
		}
		got := ""
		if h2 := o.GetExplicitHttpConfig().GetHttp2ProtocolOptions(); h2 != nil {
			got = "http2 "
			if n := h2.GetMaxConcurrentStreams(); n != nil {
				got += fmt.Sprint(n.GetValue(), " streams ")
			}
		}
		if u := o.GetUseDownstreamProtocolConfig(); u != nil && u.HttpProtocolOptions != nil && u.Http2ProtocolOptions != nil {
			got = "client's "
		}
		var ctx tlsv3.UpstreamTlsContext
		if err := cluster.GetTransportSocket().GetTypedConfig().UnmarshalTo(&ctx); err != nil {
			t.Fatal(err)
		}
		got += "alpn=" + strings.Join(ctx.GetCommonTlsContext().GetAlpnProtocols(), ",")
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestTLSOrigination(t *testing.T) {
	for name, c := range map[string]struct {
		port, tls string
		want      string
	}{
		"disable":       {"protocol: HTTP", "{mode: DISABLE}", "plain"},
		"defaults":      {"protocol: HTTP", "{mode: SIMPLE}", "alpn=http/1.1 auto-sni auto-san system"},
		"sni":           {"protocol: HTTP", "{mode: SIMPLE, sni: s.example}", "alpn=http/1.1 sni=s.example system DNS:s.example"},
		"names":         {"protocol: HTTP", "{mode: SIMPLE, subjectAltNames: [n.example, 'spiffe://x/y']}", "alpn=http/1.1 auto-sni system DNS:n.example URI:spiffe://x/y"},
		"authorities":   {"protocol: HTTP", "{mode: SIMPLE, sni: s.example, caCertificates: /ca.pem}", "alpn=http/1.1 sni=s.example ca=/ca.pem DNS:s.example"},
		"skip":          {"protocol: HTTP", "{mode: SIMPLE, insecureSkipVerify: true}", "alpn=http/1.1 auto-sni unverified"},
		"tcp":           {"protocol: TCP", "{mode: SIMPLE}", "sni=x.example system DNS:x.example"},
		"http2":         {"protocol: GRPC", "{mode: SIMPLE, sni: s.example}", "alpn=h2 sni=s.example system DNS:s.example"},
		"mutual":        {"protocol: TCP", "{mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem}", "sni=x.example system DNS:x.example cert=/c.pem key=/k.pem"},
		"entry's names": {"protocol: TCP}], subjectAltNames: [e.example], exportTo: ['*'", "{mode: SIMPLE}", "sni=x.example system DNS:e.example"},
		"of port 80":    {"protocol: TCP", "{mode: DISABLE}\n    portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]", "sni=x.example system DNS:x.example"},
		"of port 81":    {"protocol: TCP", "{mode: DISABLE}\n    portLevelSettings: [{port: {number: 81}, tls: {mode: SIMPLE}}]", "plain"},
	} {
		list := c.port
		if name != "entry's names" {
			list += "}"
			list += "], exportTo: ['*'"
		}
		g := world{yaml: `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x, namespace: default}
spec: {hosts: [x.example], resolution: DNS, ports: [{number: 80, name: p, ` + list + `]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: x, namespace: default}
spec:
  host: x.example
  trafficPolicy:
    tls: ` + c.tls}.generate(t, sidecarNode)
		if got := g.tls(t, "outbound|80||x.example"); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// A proxy that does not find the system's authorities itself gets their file; Envoy says
// which program it is.
func TestSystemAuthoritiesOfTheNode(t *testing.T) {
	const yaml = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x, namespace: default}
spec: {hosts: [x.example], resolution: DNS, ports: [{number: 80, name: p, protocol: TCP}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: x, namespace: default}
spec: {host: x.example, trafficPolicy: {tls: {mode: SIMPLE}}}
`
	says := EncodeNode(mesh.Node{Type: mesh.NodeSidecar, Name: "a", Namespace: "default", SystemCA: "/ca-bundle.pem"}, "cluster.local")
	envoy := EncodeNode(sidecarNode, "cluster.local")
	envoy.UserAgentName = "envoy"
	for want, n := range map[string]*corev3.Node{
		"sni=x.example system DNS:x.example":                                EncodeNode(sidecarNode, "cluster.local"),
		"sni=x.example ca=/ca-bundle.pem DNS:x.example":                     says,
		"sni=x.example ca=/etc/ssl/certs/ca-certificates.crt DNS:x.example": envoy,
	} {
		node, err := DecodeNode(n)
		if err != nil {
			t.Fatal(err)
		}
		if got := (world{yaml: yaml}.generate(t, node).tls(t, "outbound|80||x.example")); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

// tls describes a cluster's TLS in words.
func (g generated) tls(t *testing.T, cluster string) string {
	t.Helper()
	c := g.clusters[cluster]
	if c.GetTransportSocket() == nil {
		return "plain"
	}
	ctx := unpackAny[*tlsv3.UpstreamTlsContext](t, c.GetTransportSocket().GetTypedConfig())
	common, v := ctx.GetCommonTlsContext(), ctx.GetCommonTlsContext().GetValidationContext()
	out := ""
	add := func(present bool, words string) {
		if present {
			out += " " + words
		}
	}
	for _, p := range common.GetAlpnProtocols() {
		add(true, "alpn="+p)
	}
	add(ctx.GetSni() != "", "sni="+ctx.GetSni())
	if o := c.GetTypedExtensionProtocolOptions()[httpOptionsKey]; o != nil {
		auto := unpackAny[*httpv3.HttpProtocolOptions](t, o).GetUpstreamHttpProtocolOptions()
		add(auto.GetAutoSni(), "auto-sni")
		add(auto.GetAutoSanValidation(), "auto-san")
	}
	add(v == nil, "unverified")
	add(v.GetSystemRootCerts() != nil, "system")
	add(v.GetTrustedCa() != nil, "ca="+v.GetTrustedCa().GetFilename())
	for _, m := range v.GetMatchTypedSubjectAltNames() {
		add(true, m.GetSanType().String()+":"+m.GetMatcher().GetExact())
	}
	for _, k := range common.GetTlsCertificates() {
		add(true, "cert="+k.GetCertificateChain().GetFilename()+" key="+k.GetPrivateKey().GetFilename())
	}
	if out == "" {
		return out
	}
	return out[1:]
}

func TestSeveralEntriesOfOneHost(t *testing.T) {
	const yaml = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one, namespace: default}
spec:
  hosts: [x.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two, namespace: default}
spec:
  hosts: [x.example]
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 80, name: http, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.2}]
`
	g := world{yaml: yaml}.generate(t, sidecarNode)
	got := map[string]string{}
	for name := range g.clusters {
		got[name] = g.cluster(name)
	}
	want := map[string]string{
		"outbound|80||x.example":  "EDS 192.0.2.1:80 192.0.2.2:80",
		"outbound|443||x.example": "EDS 192.0.2.2:443",
		"BlackHoleCluster":        "STATIC", "PassthroughCluster": "ORIGINAL_DST",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("clusters (-want +got):\n%s", diff)
	}
	g.check(t, []step{{call{to: "1.1.1.1:80", host: "x.example"}, "outbound|80||x.example"}})
}
