package xdsgen

import (
	"fmt"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// mixed has a pod with a proxy and one without, behind a cluster IP and headless, and a service
// all of whose pods have one.
func mixed(yaml string) world {
	with, without := kubeEndpoint("10.244.1.5", map[string]uint32{"http": 8000}, map[string]string{"app": "web"}), kubeEndpoint("10.244.1.6", map[string]uint32{"http": 8000}, map[string]string{"app": "old"})
	with.MutualTLS, with.ServiceAccount, with.Namespace = true, "web", "default"
	without.ServiceAccount, without.Namespace = "old", "default"
	ports := []mesh.Port{kubePort(80, 8000, "http")}
	return world{yaml: yaml, options: mesh.Options{Pods: true, BuiltIn: []*mesh.Service{
		kubeService("default", "web", "10.96.7.7", ports, with, without),
		kubeService("default", "half", "", ports, with, without),
		kubeService("default", "whole", "", ports, with),
		kubeService("default", "empty", "", ports),
	}}}
}

// sockets describes how a cluster reaches each kind of endpoint.
func sockets(t *testing.T, c *clusterv3.Cluster) string {
	t.Helper()
	var out []string
	for _, m := range c.GetTransportSocketMatches() {
		out = append(out, fmt.Sprintf("%s %v %s", m.GetName(), m.GetMatch().AsMap(), socket(t, m.GetTransportSocket())))
	}
	if c.GetTransportSocket() != nil {
		out = append(out, socket(t, c.GetTransportSocket()))
	}
	return strings.Join(out, "; ")
}

func socket(t *testing.T, s *corev3.TransportSocket) string {
	t.Helper()
	switch s.GetName() {
	case "envoy.transport_sockets.raw_buffer":
		return "plain"
	case "envoy.transport_sockets.upstream_proxy_protocol":
		return "PROXY " + socket(t, unpackAny[*proxyprotocolv3.ProxyProtocolUpstreamTransport](t, s.GetTypedConfig()).GetTransportSocket())
	}
	ctx := unpackAny[*tlsv3.UpstreamTlsContext](t, s.GetTypedConfig())
	v := ctx.GetCommonTlsContext().GetCombinedValidationContext()
	if v == nil {
		return "TLS"
	}
	out := fmt.Sprintf("mTLS %s %s", ctx.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs()[0].GetName(), v.GetValidationContextSdsSecretConfig().GetName())
	for _, m := range v.GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
		out += " " + strings.TrimPrefix(m.GetMatcher().GetExact(), "spiffe://cluster.local/ns/default/sa/")
	}
	return out + " " + ctx.GetSni()
}

// Where no rule says anything, who has a proxy that takes the mesh's TLS gets it.
func TestAutoMutualTLS(t *testing.T) {
	const (
		head = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: default}\nspec: {host: web, trafficPolicy: "
		off  = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: \"enableAutoMtls: false\"}"
		both = "tlsMode-istio map[tlsMode:istio] mTLS default ROOTCA old web outbound_.80_._.HOST.default.svc.cluster.local; tlsMode-disabled map[] plain"
		peer = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: all, namespace: default}\nspec: {mtls: {mode: %s}}"
	)
	whole := "mTLS default ROOTCA web outbound_.80_._.whole.default.svc.cluster.local"
	onWeb := strings.ReplaceAll(both, "HOST", "web")
	for name, c := range map[string]struct{ yaml, web, half, whole, marked string }{
		"no rule":            {"", onWeb, "", whole, "10.244.1.5"},
		"switched off":       {off, "", "", "", ""},
		"DISABLE":            {head + "{tls: {mode: DISABLE}}}", "", "", whole, "10.244.1.5"},
		"SIMPLE":             {head + "{tls: {mode: SIMPLE}}}", "TLS", "", whole, "10.244.1.5"},
		"ISTIO_MUTUAL":       {head + "{tls: {mode: ISTIO_MUTUAL}}}", "mTLS default ROOTCA old web outbound_.80_._.web.default.svc.cluster.local", "", whole, "10.244.1.5"},
		"of another matter":  {head + "{loadBalancer: {simple: RANDOM}}}", onWeb, "", whole, "10.244.1.5"},
		"PROXY":              {head + "{proxyProtocol: {version: V2}}}", strings.NewReplacer("] mTLS", "] PROXY mTLS", "] plain", "] PROXY plain").Replace(onWeb), "", whole, "10.244.1.5"},
		"servers take none":  {fmt.Sprintf(peer, "DISABLE"), onWeb, "", "", ""},
		"servers insist":     {fmt.Sprintf(peer, "STRICT"), onWeb, "", whole, "10.244.1.5"},
		"to the called host": {head + "{loadBalancer: {simple: PASSTHROUGH}}}", "", "", whole, ""},
	} {
		g := mixed(c.yaml).generate(t, sidecarNode)
		for host, want := range map[string]string{"web": c.web, "half": c.half, "whole": c.whole, "empty": ""} {
			if got := sockets(t, g.clusters["outbound|80||"+host+".default.svc.cluster.local"]); got != want {
				t.Errorf("%s: %s:\ngot  %q\nwant %q", name, host, got, want)
			}
		}
		var marked []string
		for _, group := range g.endpoints["outbound|80||web.default.svc.cluster.local"].GetEndpoints() {
			for _, e := range group.GetLbEndpoints() {
				if e.GetMetadata().GetFilterMetadata()[transportSocketMatch].GetFields()["tlsMode"].GetStringValue() == "istio" {
					marked = append(marked, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
				}
			}
		}
		if got := strings.Join(marked, " "); got != c.marked {
			t.Errorf("%s: marked %q, want %q", name, got, c.marked)
		}
	}
}

// What is outside of the mesh, and proxies on one machine, have none of it; gateways have.
func TestWhoHasNoAutoMutualTLS(t *testing.T) {
	w := mixed(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: default}
spec:
  hosts: [outside.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1, labels: {security.istio.io/tlsMode: istio}, serviceAccount: x}]
`)
	const outside, web = "outbound|80||outside.example", "outbound|80||web.default.svc.cluster.local"
	g := w.generate(t, sidecarNode)
	if got := sockets(t, g.clusters[outside]); got != "" {
		t.Errorf("outside: %s", got)
	}
	if e := g.endpoints[outside].GetEndpoints()[0].GetLbEndpoints()[0]; e.GetMetadata() != nil {
		t.Errorf("outside: %v", e)
	}
	if sockets(t, w.generate(t, gatewayNode).clusters[web]) == "" {
		t.Error("a gateway calls a pod in the clear")
	}
	w.options.Pods = false
	if got := sockets(t, w.generate(t, sidecarNode).clusters[web]); got != "" {
		t.Errorf("on one machine: %s", got)
	}
}
