package xdsgen

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// credentials are objects that name Secrets.
const credentials = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 443, name: simple, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, credentialName: web}}
  - {port: {number: 443, name: mutual, protocol: HTTPS}, hosts: [b.example], tls: {mode: MUTUAL, credentialName: web, subjectAltNames: [x.example]}}
  - {port: {number: 443, name: optional, protocol: HTTPS}, hosts: [c.example], tls: {mode: OPTIONAL_MUTUAL, credentialNames: [rsa, ecdsa], caCertCredentialName: clients}}
  - {port: {number: 443, name: builtin, protocol: HTTPS}, hosts: [d.example], tls: {mode: MUTUAL, credentialName: "builtin://"}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: default}
spec:
  hosts: [out.example]
  ports: [{number: 443, name: tcp, protocol: TCP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: own, namespace: default}
spec:
  hosts: [own.example]
  ports: [{number: 443, name: tcp, protocol: TCP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: outside, namespace: default}
spec: {host: out.example, trafficPolicy: {tls: {mode: MUTUAL, credentialName: client, sni: out.example}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: own, namespace: default}
spec: {host: own.example, workloadSelector: {matchLabels: {app: web}}, trafficPolicy: {tls: {mode: SIMPLE, credentialName: client}}}
`

func credentialWorld(t *testing.T) *mesh.Snapshot {
	t.Helper()
	objects, problems := istioapi.Rules{Pods: true}.Decode("test.yaml", []byte(credentials))
	for _, p := range problems {
		if p.Severity != istioapi.Info {
			t.Fatal(p)
		}
	}
	s, _ := mesh.New(objects, mesh.Options{Pods: true})
	return s
}

const adsSource = `sds_config { ads {} resource_api_version: V3 }`

func adsSecret(name string) string { return `{ name: "` + name + `" ` + adsSource + ` }` }

func sameProto(t *testing.T, what, want string, got proto.Message) {
	t.Helper()
	expected := got.ProtoReflect().New().Interface()
	if err := prototext.Unmarshal([]byte(want), expected); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(expected, got, protocmp.Transform()); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

// Servers refer to Secrets by SDS over ADS as istiod has them: istio/istio
// pilot/pkg/security/model, ApplyCredentialSDSToServerCommonTLSContext.
func TestServersOfSecrets(t *testing.T) {
	raw, err := Generate(credentialWorld(t), gatewayNode)
	if err != nil {
		t.Fatal(err)
	}
	l := unpack[*listenerv3.Listener](t, raw[xds.ListenerType])["0.0.0.0_443"]
	if len(l.GetFilterChains()) != 4 {
		t.Fatalf("listener %v", l)
	}
	contexts := map[string]*tlsv3.DownstreamTlsContext{}
	for _, c := range l.FilterChains {
		contexts[c.GetFilterChainMatch().GetServerNames()[0]] = unpackAny[*tlsv3.DownstreamTlsContext](t, c.GetTransportSocket().GetTypedConfig())
	}
	const begin = `require_client_certificate { value: %} common_tls_context { alpn_protocols: ["h2", "http/1.1"] tls_params { tls_minimum_protocol_version: TLSv1_2 } `
	for name, want := range map[string]string{
		"a.example": strings.Replace(begin, "%", "false", 1) + `tls_certificate_sds_secret_configs ` + adsSecret("kubernetes://web") + `}`,
		"b.example": strings.Replace(begin, "%", "true", 1) + `tls_certificate_sds_secret_configs ` + adsSecret("kubernetes://web") + `
			combined_validation_context { default_validation_context { match_typed_subject_alt_names { san_type: DNS matcher { exact: "x.example" } } }
			validation_context_sds_secret_config ` + adsSecret("kubernetes://web-cacert") + `} }`,
		"c.example": strings.Replace(begin, "%", "false", 1) + `tls_certificate_sds_secret_configs ` + adsSecret("kubernetes://rsa") + `tls_certificate_sds_secret_configs ` + adsSecret("kubernetes://ecdsa") + `
			combined_validation_context { default_validation_context {} validation_context_sds_secret_config ` + adsSecret("kubernetes://clients-cacert") + `} }`,
	} {
		sameProto(t, name, want, contexts[name])
	}
	if got := contexts["d.example"].GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs()[0]; got.GetName() != "default" || got.GetSdsConfig().GetAds() != nil {
		t.Errorf("the mesh's own: %v", got)
	}
}

// Gateways begin TLS with what a Secret has; sidecars only where the rule selects workloads,
// and others send what they are given, as in Istio.
func TestClientsOfSecrets(t *testing.T) {
	s := credentialWorld(t)
	web := mesh.Node{ID: "sidecar~10.1.1.1~web.default~x", Type: mesh.NodeSidecar, Namespace: "default", Labels: map[string]string{"app": "web"}}
	other := web
	other.Labels = map[string]string{"app": "other"}
	gateway := gatewayNode
	gateway.Namespace = "default"
	for _, c := range []struct {
		what    string
		node    mesh.Node
		cluster string
		want    string // "": plain text
	}{
		{"gateway", gateway, "outbound|443||out.example", `sni: "out.example" common_tls_context { tls_params { tls_minimum_protocol_version: TLSv1_2 tls_maximum_protocol_version: TLSv1_3 }
			tls_certificate_sds_secret_configs ` + adsSecret("kubernetes://client") + ` combined_validation_context {
			default_validation_context { match_typed_subject_alt_names { san_type: DNS matcher { exact: "out.example" } } }
			validation_context_sds_secret_config ` + adsSecret("kubernetes://client-cacert") + ` } }`},
		{"sidecar", web, "outbound|443||out.example", ""},
		{"selected sidecar", web, "outbound|443||own.example", `sni: "own.example" common_tls_context { tls_params { tls_minimum_protocol_version: TLSv1_2 tls_maximum_protocol_version: TLSv1_3 }
			combined_validation_context {
			default_validation_context { match_typed_subject_alt_names { san_type: DNS matcher { exact: "own.example" } } }
			validation_context_sds_secret_config ` + adsSecret("kubernetes://client-cacert") + ` } }`},
		{"other sidecar", other, "outbound|443||own.example", ""},
	} {
		raw, err := Generate(s, c.node)
		if err != nil {
			t.Fatal(err)
		}
		cluster := unpack[*clusterv3.Cluster](t, raw[xds.ClusterType])[c.cluster]
		if cluster == nil {
			t.Fatalf("%s: no cluster", c.what)
		}
		if c.want == "" {
			if cluster.TransportSocket != nil {
				t.Errorf("%s: %v", c.what, cluster.TransportSocket)
			}
			continue
		}
		sameProto(t, c.what, c.want, unpackAny[*tlsv3.UpstreamTlsContext](t, cluster.GetTransportSocket().GetTypedConfig()))
	}
}
