package xdsgen

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// With ISTIO_MUTUAL a server must be one of the accounts that the service's pods run as; what
// the rule says goes before that. ALPN tells the server's proxy what is inside.
func TestAccountsOfAService(t *testing.T) {
	for _, c := range []struct {
		name, rule, port string
		accounts         []string // of the endpoints
		names, alpn      string
	}{
		{"HTTP", "", "http", []string{"b", "a", "b", ""}, "spiffe://trust.example/ns/default/sa/a spiffe://trust.example/ns/default/sa/b", "istio-http/1.1,istio"},
		{"HTTP/2", "", "grpc", []string{"a"}, "spiffe://trust.example/ns/default/sa/a", "istio-h2,istio,h2"},
		{"detected", "", "any", []string{"a"}, "spiffe://trust.example/ns/default/sa/a", "istio"},
		{"TCP", "", "tcp", []string{"a"}, "spiffe://trust.example/ns/default/sa/a", "istio"},
		{"the rule's names", ", subjectAltNames: [spiffe://x/y]", "tcp", []string{"a"}, "spiffe://x/y", "istio"},
		{"nothing known", "", "tcp", []string{""}, "", "istio"},
	} {
		service := kubeService("default", "web", "10.96.7.7", []mesh.Port{kubePort(80, 8080, c.port)})
		for _, account := range c.accounts {
			e := kubeEndpoint("10.244.1.5", map[string]uint32{c.port: 8080}, nil)
			e.ServiceAccount, e.Namespace = account, "default"
			service.Endpoints = append(service.Endpoints, e)
		}
		objects, problems := istioapi.Rules{Pods: true}.Decode("test.yaml", []byte(`
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "trustDomain: trust.example"}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec: {host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL`+c.rule+`}}}
`))
		for _, p := range problems {
			if p.Severity == istioapi.Error {
				t.Fatal(p)
			}
		}
		s, _ := mesh.New(objects, mesh.Options{BuiltIn: []*mesh.Service{service}, Pods: true})
		raw, err := Generate(s, sidecarNode)
		if err != nil {
			t.Fatal(err)
		}
		cluster := unpack[*clusterv3.Cluster](t, raw[xds.ClusterType])["outbound|80||web.default.svc.cluster.local"]
		ctx := unpackAny[*tlsv3.UpstreamTlsContext](t, cluster.GetTransportSocket().GetTypedConfig())
		var names []string
		for _, m := range ctx.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
			names = append(names, m.GetMatcher().GetExact())
		}
		if got := strings.Join(names, " "); got != c.names {
			t.Errorf("%s: names %s, want %s", c.name, got, c.names)
		}
		if got := strings.Join(ctx.GetCommonTlsContext().GetAlpnProtocols(), ","); got != c.alpn {
			t.Errorf("%s: ALPN %s, want %s", c.name, got, c.alpn)
		}
		if want := "outbound_.80_._.web.default.svc.cluster.local"; ctx.GetSni() != want {
			t.Errorf("%s: SNI %s, want %s", c.name, ctx.GetSni(), want)
		}
	}
}
