package resource_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
)

func TestDownstreamTLS(t *testing.T) {
	const files = `"tlsCertificates":[{"certificateChain":{"filename":"/c.pem"},"privateKey":{"filename":"/k.pem"}}]`
	const agent = `"sdsConfig":{"apiConfigSource":{"apiType":"GRPC","grpcServices":[{"envoyGrpc":{"clusterName":"sds-grpc"}}]}}`
	pair := []resource.Certificate{{CertFile: "/c.pem", KeyFile: "/k.pem"}}
	tests := map[string]struct {
		common, outer string
		want          resource.DownstreamTLS
		unsupported   string
	}{
		"files": {common: files, want: resource.DownstreamTLS{Certificates: pair}},
		"as Istio's gateway with files": {
			common: `"tlsParams":{"tlsMinimumProtocolVersion":"TLSv1_2"},"alpnProtocols":["h2","http/1.1"],"tlsCertificateSdsSecretConfigs":[{"name":"file-cert:/c.pem~/k.pem"}],` +
				`"combinedValidationContext":{"defaultValidationContext":{"matchSubjectAltNames":[{"exact":"a.com"}]},"validationContextSdsSecretConfig":{"name":"file-root:/ca.pem"}}`,
			outer: `,"requireClientCertificate":true,"disableStatelessSessionResumption":true`,
			want: resource.DownstreamTLS{Certificates: pair, ALPN: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12, RequireClientCertificate: true,
				NoSessionTickets: true, Verify: &resource.Verification{CAFile: "/ca.pem", SANs: []match.String{{Value: "a.com"}}}},
		},
		"Istio's mesh identity": {
			common: `"tlsCertificateSdsSecretConfigs":[{"name":"default",` + agent + `}],"validationContextSdsSecretConfig":{"name":"ROOTCA",` + agent + `}`, outer: `,"requireClientCertificate":true`,
			want: resource.DownstreamTLS{Certificates: []resource.Certificate{{Secret: "default"}}, Verify: &resource.Verification{CASecret: "ROOTCA"}, RequireClientCertificate: true},
		},
		"cipher suites": {common: files + `,"tlsParams":{"cipherSuites":["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]","AES128-SHA"]}`,
			want: resource.DownstreamTLS{Certificates: pair, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}}},
		"no suite that Go has":         {common: files + `,"tlsParams":{"cipherSuites":["AES128-SHA"]}`, unsupported: "cipher_suites"},
		"a secret of Kubernetes":       {common: `"tlsCertificateSdsSecretConfigs":[{"name":"kubernetes://cred"}]`, unsupported: "kubernetes://cred"},
		"authorities of Kubernetes":    {common: files + `,"validationContextSdsSecretConfig":{"name":"kubernetes://cred-cacert"}`, unsupported: "kubernetes://cred-cacert"},
		"no certificate":               {common: `"alpnProtocols":["h2"]`, unsupported: "there is no certificate"},
		"half a certificate":           {common: `"tlsCertificates":[{"certificateChain":{"filename":"/c.pem"}}]`, unsupported: "both"},
		"a certificate that is none":   {common: `"tlsCertificates":[{"certificateChain":{"inlineString":"x"},"privateKey":{"inlineString":"y"}}]`, unsupported: "certificate and key"},
		"revocation lists":             {common: files + `,"validationContext":{"trustedCa":{"filename":"/x"},"crl":{"filename":"/y"}}`, unsupported: "crl"},
		"stapling that must not fail":  {common: files, outer: `,"ocspStaplePolicy":"MUST_STAPLE"`, unsupported: "ocsp_staple_policy"},
		"ticket keys from the outside": {common: files, outer: `,"sessionTicketKeys":{"keys":[{"inlineString":"x"}]}`, unsupported: "session_ticket_keys"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			l, err := resource.DecodeListener(resourcetest.Listener(t, `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":443}},"filterChains":[{
				"transportSocketConnectTimeout":"15s",
				"filters":[{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"c"}}],
				"transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","commonTlsContext":{`+tc.common+`}`+tc.outer+`}}}]}`))
			if err != nil {
				t.Fatal(err)
			}
			chain := l.FilterChains[0]
			if tc.unsupported != "" {
				if !strings.Contains(chain.Unsupported, tc.unsupported) || chain.TLS != nil {
					t.Errorf("unsupported: %q, %+v", chain.Unsupported, chain.TLS)
				}
				return
			}
			tc.want.HandshakeTimeout = 15 * time.Second
			if diff := cmp.Diff(&tc.want, chain.TLS); diff != "" || chain.Unsupported != "" {
				t.Error(diff, chain.Unsupported)
			}
		})
	}
}
