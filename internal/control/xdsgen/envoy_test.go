package xdsgen

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// envoyEnv names the Envoy to ask ("make interop"); empty: the test is skipped.
const envoyEnv = "EGRET_INTEROP_ENVOY"

// A stock Envoy takes what a sidecar and a gateway of a cluster get.
func TestEnvoyTakesItInACluster(t *testing.T) {
	envoy := os.Getenv(envoyEnv)
	if envoy == "" {
		t.Skip("make interop runs this, with Envoy")
	}
	objects, problems := istioapi.Rules{Pods: true}.Decode("test.yaml", []byte(`
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: ISTIO_MUTUAL}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: gateway, namespace: default}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: www.example.com}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: default}
spec:
  workloadSelector: {labels: {ingress: "yes"}}
  ingress:
  - {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:8080"}
  - {port: {number: 9081, protocol: TCP, name: tcp}, defaultEndpoint: "0.0.0.0:8081"}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  mtls: {mode: STRICT}
  portLevelMtls: {8000: {mode: PERMISSIVE}, 3306: {mode: DISABLE}, 7777: {mode: DISABLE}}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s, _ := mesh.New(objects, inboundWorld().options)
	ingress := webNode()
	ingress.Labels["ingress"] = "yes"
	for name, node := range map[string]mesh.Node{"sidecar": webNode(), "ingress": ingress, "gateway": gatewayNode} {
		for family, addresses := range map[string][]string{"4": {"10.244.1.5"}, "6": {"2001:db8::1"}, "46": {"10.244.1.5", "2001:db8::1"}} {
			node.Addresses = parseAddresses(addresses...)
			path := filepath.Join(t.TempDir(), "envoy.json")
			if err := os.WriteFile(path, asBootstrap(t, s, node), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(envoy, "--mode", "validate", "-c", path).CombinedOutput(); err != nil {
				t.Errorf("%s, IPv%s: %v\n%s", name, family, err, out)
			}
		}
	}
}

// asBootstrap is a bootstrap with a node's resources in it, beside what Istio's has for secrets.
func asBootstrap(t *testing.T, s *mesh.Snapshot, n mesh.Node) []byte {
	t.Helper()
	raw, err := Generate(s, n)
	if err != nil {
		t.Fatal(err)
	}
	list := func(typeURL string) (out []json.RawMessage) {
		for _, r := range raw[typeURL] {
			m, err := r.Body.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			text, err := protojson.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, text)
		}
		return out
	}
	const agent = `{"name":"sds-grpc","type":"STATIC","typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{
		"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicitHttpConfig":{"http2ProtocolOptions":{}}}},
		"loadAssignment":{"clusterName":"sds-grpc","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"pipe":{"path":"./sds"}}}}]}]}}`
	type object = map[string]any
	text, err := json.Marshal(object{
		"node": object{"id": "x", "cluster": "x"},
		"dynamicResources": object{"adsConfig": object{
			"apiType": "GRPC", "transportApiVersion": "V3", "grpcServices": []any{object{"envoyGrpc": object{"clusterName": "sds-grpc"}}},
		}},
		"staticResources": object{"listeners": list(xds.ListenerType), "clusters": append(list(xds.ClusterType), json.RawMessage(agent))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
