package xdsgen

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// A Sidecar's ingress says which ports of the workload are taken how, and where they lead; what
// services say of the others does not count any more.
func TestSidecarIngress(t *testing.T) {
	const sidecar = `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: default}
spec:
  workloadSelector: {labels: {app: web}}
  ingress:
  - {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:8080"}
  - {port: {number: 8000, protocol: HTTP, name: own}}
  - {port: {number: 9081, protocol: TCP, name: tcp}, defaultEndpoint: "0.0.0.0:8081"}
  - {port: {number: 15006, protocol: HTTP, name: proxy}, defaultEndpoint: "127.0.0.1:8080"}
`
	w := inboundWorld()
	w.yaml = sidecar
	g := w.generate(t, webNode())
	const alpn = "istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2"
	want := []string{
		"0.0.0.0_8000: 8000 tls " + alpn + " mTLS h2,http/1.1 HTTP inbound|8000|| inbound|http|8000",
		"0.0.0.0_8000: 8000 raw_buffer  HTTP inbound|8000|| inbound|http|8000",
		"0.0.0.0_9080: 9080 tls " + alpn + " mTLS h2,http/1.1 HTTP inbound|9080|| inbound|http|9080",
		"0.0.0.0_9080: 9080 raw_buffer  HTTP inbound|9080|| inbound|http|9080",
		"0.0.0.0_9081: 9081 tls " + alpn + " mTLS istio,h2,http/1.1 TCP inbound|9081||",
		"0.0.0.0_9081: 9081 tls  TCP inbound|9081||",
		"0.0.0.0_9081: 9081 raw_buffer  TCP inbound|9081||",
	}
	l := g.listeners["virtualInbound"]
	if diff := cmp.Diff(want, describe(t, l)[6:]); diff != "" {
		t.Errorf("chains (-want +got):\n%s", diff)
	}
	for _, c := range l.GetFilterChains()[6:] {
		if objects, config := told(c.GetMetadata()); strings.Join(objects, " ") != "Sidecar/default/web" || !strings.HasSuffix(config, "/default/sidecar/web") {
			t.Errorf("%s is said to be of %v %q", c.GetName(), objects, config)
		}
	}
	for name, want := range map[string]string{
		"inbound|9080||": "STATIC 127.0.0.1:8080", "inbound|8000||": "ORIGINAL_DST", "inbound|9081||": "ORIGINAL_DST", "inbound|3306||": "none", "inbound|15006||": "none",
	} {
		if got := g.cluster(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := g.clusters["inbound|9081||"].GetOriginalDstLbConfig().GetUpstreamPortOverride().GetValue(); got != 8081 {
		t.Errorf("to port %d of the pod", got)
	}
	if c := g.clusters["inbound|9080||"]; c.GetUpstreamBindConfig() != nil {
		t.Errorf("to the loopback address from %v", c.GetUpstreamBindConfig())
	}
	// The port that a service declares too keeps the service's name.
	if objects, _ := told(g.clusters["inbound|8000||"].GetMetadata()); strings.Join(objects, " ") != "Sidecar/default/web Service/default/web" {
		t.Errorf("the cluster is said to be of %v", objects)
	}
	n := webNode()
	n.Addresses = parseAddresses("2001:db8::5")
	if got := w.generate(t, n).cluster("inbound|9080||"); got != "STATIC ::1:8080" {
		t.Errorf("with IPv6 alone: %s", got)
	}
	other := webNode()
	other.Labels = map[string]string{"app": "else"}
	if got := fmt.Sprint(len(describe(t, w.generate(t, other).listeners["virtualInbound"]))); got != "6" {
		t.Errorf("who is not selected has %s chains", got)
	}
	w.options.Pods = false
	if g := w.generate(t, mesh.Node{ID: "x", Type: mesh.NodeSidecar, Namespace: "default", Labels: webNode().Labels}); g.listeners["virtualInbound"] != nil {
		t.Error("there is ingress on one machine")
	}
}
