package xdsgen

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// egressService is the gateway's service, as the standalone mesh has it.
func egressService() *mesh.Service {
	return &mesh.Service{
		Host:      "istio-egressgateway.istio-system.svc.cluster.local",
		Namespace: "istio-system",
		Source:    istioapi.Ref{Kind: "Service", Namespace: "istio-system", Name: "istio-egressgateway"},
		Ports: []mesh.Port{
			{Number: 80, TargetPort: 8080, Name: "http2", Protocol: mesh.ProtocolHTTP, Declared: "HTTP"},
			{Number: 443, TargetPort: 8443, Name: "https", Protocol: mesh.ProtocolHTTPS, Declared: "HTTPS"},
			{Number: 15443, TargetPort: 15443, Name: "tls", Protocol: mesh.ProtocolTLS, Declared: "TLS"},
		},
		Resolution: mesh.ResolutionStatic,
		Addresses:  []netip.Prefix{netip.MustParsePrefix("10.96.100.1/32")},
		Endpoints:  []mesh.Endpoint{{Address: "10.244.0.20", Labels: map[string]string{"istio": "egressgateway"}}},
		Internal:   true,
	}
}

// ownGateway is the gateway that the service leads to.
func ownGateway() mesh.Node {
	n := gatewayNode
	n.Addresses = parseAddresses("10.244.0.20")
	return n
}

const gateHosts = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: sites, namespace: default}
spec:
  hosts: [a.example, b.example, c.example]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
  resolution: DNS
---
`

func TestEgressGatewayForHTTP(t *testing.T) {
	w := world{options: mesh.Options{BuiltIn: []*mesh.Service{egressService()}}, yaml: gateHosts + `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example, b.example]}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: second, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["./c.example", "other/a.example"]}
  - {port: {number: 81, name: http-r, protocol: HTTP}, hosts: [c.example], tls: {httpsRedirect: true}}
  - {port: {number: 82, name: http-n, protocol: HTTP}, hosts: [c.example]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: elsewhere, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec:
  hosts: [a.example, b.example]
  gateways: [mesh, gate]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]
  - match: [{gateways: [gate], port: 80}]
    route: [{destination: {host: a.example, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a-more, namespace: default}
spec:
  hosts: [a.example]
  gateways: [default/gate]
  http:
  - match: [{uri: {prefix: /more}}]
    directResponse: {status: 218}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: c, namespace: default}
spec:
  hosts: ["*.example"]
  gateways: [second]
  http: [{route: [{destination: {host: c.example}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: notvisible, namespace: other}
spec:
  hosts: [b.example]
  gateways: [default/gate]
  exportTo: ["."]
  http: [{match: [{uri: {prefix: /hidden}}], directResponse: {status: 219}}]
`}
	w.generate(t, sidecarNode).check(t, []step{
		{call{to: "1.1.1.1:80", host: "a.example"}, "outbound|80||istio-egressgateway.istio-system.svc.cluster.local"},
		{call{to: "1.1.1.1:80", host: "a.example", path: "/more"}, "outbound|80||istio-egressgateway.istio-system.svc.cluster.local"},
		{call{to: "1.1.1.1:80", host: "c.example"}, "outbound|80||c.example"},
		{call{to: "1.1.1.1:443", sni: "a.example"}, "outbound|443||a.example"},
		{call{to: "10.96.100.1:443", sni: "a.example"}, "outbound|443||istio-egressgateway.istio-system.svc.cluster.local"},
		{call{to: "1.1.1.1:80", host: "istio-egressgateway.istio-system"}, "outbound|80||istio-egressgateway.istio-system.svc.cluster.local"},
	})
	g := w.generate(t, ownGateway())
	if g.routes["http.8080"] == nil || g.listeners["0.0.0.0_80"] != nil {
		t.Fatalf("the gateway does not listen at its service's target port: %v", g.listeners)
	}
	g.check(t, []step{
		{call{to: "1.1.1.1:8080", host: "a.example"}, "outbound|443||a.example"},
		{call{to: "1.1.1.1:8080", host: "a.example", path: "/more"}, "218"},
		{call{to: "1.1.1.1:8080", host: "b.example"}, "outbound|443||a.example"},
		{call{to: "1.1.1.1:8080", host: "b.example", path: "/hidden"}, "outbound|443||a.example"},
		{call{to: "1.1.1.1:8080", host: "c.example"}, "outbound|80||c.example"},
		{call{to: "1.1.1.1:8080", host: "d.example"}, "404"},
		{call{to: "1.1.1.1:81", host: "c.example"}, "redirect https"},
		{call{to: "1.1.1.1:82", host: "c.example"}, "outbound|82||c.example"},
		{call{to: "1.1.1.1:83"}, "no listener"},
	})
	if got := g.cluster("outbound|80||istio-egressgateway.istio-system.svc.cluster.local"); got != "EDS 10.244.0.20:8080" {
		t.Errorf("the gateway's own cluster: %s", got)
	}
	stranger := w.generate(t, gatewayNode)
	if stranger.listeners["0.0.0.0_80"] == nil {
		t.Error("a gateway without a service does not listen at the server's own port")
	}
}

func TestGatewayWithoutRoutes(t *testing.T) {
	world{yaml: `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example]}]
`}.generate(t, gatewayNode).check(t, []step{{call{to: "1.1.1.1:80", host: "a.example"}, "404"}})
}

func TestEgressGatewayForTLSAndTCP(t *testing.T) {
	w := world{options: mesh.Options{BuiltIn: []*mesh.Service{egressService()}}, yaml: gateHosts + `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 443, name: tls, protocol: TLS}, hosts: [a.example], tls: {mode: PASSTHROUGH}}
  - {port: {number: 5432, name: tcp, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: more, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [b.example], tls: {mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec:
  hosts: [a.example, c.example]
  gateways: [mesh, gate]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: [a.example]}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 443}}}]
  - match: [{gateways: [gate], port: 443, sniHosts: [a.example, c.example]}]
    route: [{destination: {host: a.example, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b, namespace: default}
spec:
  hosts: [b.example]
  gateways: [more]
  tls:
  - match: [{sniHosts: [b.example]}]
    route: [{destination: {host: b.example}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tcp, namespace: default}
spec:
  hosts: ["*"]
  gateways: [gate]
  tcp:
  - match: [{port: 1}]
    route: [{destination: {host: b.example, port: {number: 443}}}]
  - match: [{port: 5432}]
    route: [{destination: {host: c.example, port: {number: 443}}}]
`}
	w.generate(t, sidecarNode).check(t, []step{
		{call{to: "1.1.1.1:443", sni: "a.example"}, "outbound|443||istio-egressgateway.istio-system.svc.cluster.local"},
		{call{to: "1.1.1.1:443", sni: "b.example"}, "outbound|443||b.example"},
	})
	w.generate(t, ownGateway()).check(t, []step{
		{call{to: "1.1.1.1:8443", sni: "a.example"}, "outbound|443||a.example"},
		{call{to: "1.1.1.1:8443", sni: "b.example"}, "outbound|443||b.example"},
		{call{to: "1.1.1.1:8443", sni: "c.example"}, "no chain"},
		{call{to: "1.1.1.1:8443", sni: "-"}, "no chain"},
		{call{to: "1.1.1.1:5432"}, "outbound|443||c.example"},
	})
}

// With the filter a gateway gets the clusters that its routes lead to, subsets too, and
// no others; a sidecar still gets all.
func TestGatewayClustersCanBeFiltered(t *testing.T) {
	w := world{options: mesh.Options{BuiltIn: []*mesh.Service{egressService()}}, yaml: gateHosts + `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 443, name: tls, protocol: TLS}, hosts: ["*"], tls: {mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: istio-system}
spec: {host: istio-egressgateway.istio-system.svc.cluster.local, subsets: [{name: one}, {name: two}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec:
  hosts: [a.example, b.example]
  gateways: [gate]
  http:
  - match: [{uri: {prefix: /again}}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: two, port: {number: 80}}}]
  - route: [{destination: {host: a.example, port: {number: 80}}}]
  tls:
  - match: [{port: 443, sniHosts: [b.example]}]
    route: [{destination: {host: b.example, port: {number: 443}}}]
`}
	all := len(w.generate(t, ownGateway()).clusters)
	sidecar := len(w.generate(t, sidecarNode).clusters)
	w.options.FilterGatewayClusters = true
	got := slices.Sorted(maps.Keys(w.generate(t, ownGateway()).clusters))
	want := []string{
		"BlackHoleCluster",
		"outbound|443||b.example",
		"outbound|80|two|istio-egressgateway.istio-system.svc.cluster.local",
		"outbound|80||a.example",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("clusters (-want +got):\n%s", diff)
	}
	if all <= len(got) {
		t.Errorf("%d clusters without the filter", all)
	}
	if n := len(w.generate(t, sidecarNode).clusters); n != sidecar {
		t.Errorf("the sidecar has %d clusters with the filter, %d without", n, sidecar)
	}
}
