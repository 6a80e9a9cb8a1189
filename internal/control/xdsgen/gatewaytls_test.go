package xdsgen

import (
	"testing"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/testing/protocmp"
)

// One port with servers of three kinds: each has its chain, chosen by SNI, and HTTP
// inside of TLS has routes of its own server only.
func TestGatewayEndsTLS(t *testing.T) {
	g := world{yaml: gateHosts + `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 443, name: simple, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, serverCertificate: /c.pem, privateKey: /k.pem, minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}}
  - {port: {number: 443, name: mutual, protocol: TLS}, hosts: [b.example], tls: {mode: MUTUAL, serverCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem, subjectAltNames: [x.example]}}
  - {port: {number: 443, name: through, protocol: TLS}, hosts: [c.example], tls: {mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: default}
spec:
  hosts: [a.example, b.example, c.example]
  gateways: [gate]
  http: [{route: [{destination: {host: a.example, port: {number: 80}}}]}]
  tcp: [{route: [{destination: {host: b.example, port: {number: 80}}}]}]
  tls: [{match: [{sniHosts: [c.example]}], route: [{destination: {host: c.example, port: {number: 443}}}]}]
`}.generate(t, gatewayNode)
	l := g.listeners["0.0.0.0_443"]
	if l == nil || len(l.FilterChains) != 3 || len(l.ListenerFilters) != 1 {
		t.Fatalf("listener: %v", l)
	}
	want := []struct {
		sni, filter, context string
	}{
		{"a.example", "envoy.filters.network.http_connection_manager", `require_client_certificate {} common_tls_context { alpn_protocols: ["h2", "http/1.1"]
			tls_params { tls_minimum_protocol_version: TLSv1_3 cipher_suites: "ECDHE-RSA-AES128-GCM-SHA256" }
			tls_certificates { certificate_chain { filename: "/c.pem" } private_key { filename: "/k.pem" } } }`},
		{"b.example", "envoy.filters.network.tcp_proxy", `require_client_certificate { value: true } common_tls_context {
			tls_params { tls_minimum_protocol_version: TLSv1_2 }
			tls_certificates { certificate_chain { filename: "/c.pem" } private_key { filename: "/k.pem" } }
			validation_context { trusted_ca { filename: "/ca.pem" } match_typed_subject_alt_names { san_type: DNS matcher { exact: "x.example" } } } }`},
		{"c.example", "envoy.filters.network.tcp_proxy", ""},
	}
	for i, w := range want {
		c := l.FilterChains[i]
		if names := c.FilterChainMatch.GetServerNames(); len(names) != 1 || names[0] != w.sni || c.Filters[0].Name != w.filter {
			t.Errorf("chain %d: %v %s", i, names, c.Filters[0].Name)
		}
		if w.context == "" {
			if c.TransportSocket != nil {
				t.Errorf("chain %d ends TLS", i)
			}
			continue
		}
		var got, expected tlsv3.DownstreamTlsContext
		if err := c.TransportSocket.GetTypedConfig().UnmarshalTo(&got); err != nil {
			t.Fatal(err)
		}
		if err := prototext.Unmarshal([]byte(w.context), &expected); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&expected, &got, protocmp.Transform()); diff != "" {
			t.Errorf("chain %d: %s", i, diff)
		}
	}
	own := g.routes["https.443.simple.gate.default"]
	if own == nil || len(own.VirtualHosts) != 1 || own.VirtualHosts[0].Domains[0] != "a.example" {
		t.Errorf("routes of the server: %v", own)
	}
}

// What a gateway believes of the proxies before it: Istio's default and the mesh's choice.
func TestGatewayTopology(t *testing.T) {
	for topology, want := range map[string]struct {
		cert hcmv3.HttpConnectionManager_ForwardClientCertDetails
		hops uint32
	}{
		"{}": {hcmv3.HttpConnectionManager_SANITIZE_SET, 0},
		"{gatewayTopology: {forwardClientCertDetails: SANITIZE}}":                             {hcmv3.HttpConnectionManager_SANITIZE, 0},
		"{gatewayTopology: {forwardClientCertDetails: FORWARD_ONLY}}":                         {hcmv3.HttpConnectionManager_FORWARD_ONLY, 0},
		"{gatewayTopology: {forwardClientCertDetails: APPEND_FORWARD, numTrustedProxies: 2}}": {hcmv3.HttpConnectionManager_APPEND_FORWARD, 2},
		"{gatewayTopology: {forwardClientCertDetails: ALWAYS_FORWARD_ONLY}}":                  {hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY, 0},
	} {
		g := world{yaml: gateHosts + `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
    defaultConfig: ` + topology}.generate(t, gatewayNode)
		m := unpackAny[*hcmv3.HttpConnectionManager](t, lastFilter(g.listeners["0.0.0.0_80"].GetFilterChains()[0].GetFilters()).GetTypedConfig())
		if m.GetForwardClientCertDetails() != want.cert || m.GetXffNumTrustedHops() != want.hops || !m.GetUseRemoteAddress().GetValue() {
			t.Errorf("%s: %s, %d hops", topology, m.GetForwardClientCertDetails(), m.GetXffNumTrustedHops())
		}
	}
}
