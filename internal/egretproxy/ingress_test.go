package egretproxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/runtest"
)

// A Sidecar's ingress leads a port of the pod to another one: at the loopback address, or at
// the pod's own, and neither comes back to the proxy.
func TestSidecarIngress(t *testing.T) {
	world, here := inPodNetwork(t)
	if !here {
		return
	}
	const sidecar = `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: default}
spec:
  workloadSelector: {labels: {app: web}}
  ingress:
  - {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:8000"}
  - {port: {number: 9081, protocol: HTTP, name: other}, defaultEndpoint: "0.0.0.0:8000"}
  - {port: {number: 9082, protocol: TCP, name: tcp}, defaultEndpoint: "127.0.0.1:3306"}
`
	d := startIstiod(t)
	p := newPod(t, d, "sidecar", "default", "web")
	labels := map[string]string{"app": "web"}
	d.serve(p.node(), generated(t, p, labels, sidecar, service("default", "web", "10.96.7.7", podAddress, labels,
		mesh.Port{Number: 80, TargetPort: 9080, Name: "http"}))...)
	accepts(t, 8000, tellsRequests)
	accepts(t, 3306, echo)
	p.start(t, d)
	runtest.Eventually(t, "readiness", func() bool { return p.isReady(t) })

	at := func(port int) string { return fmt.Sprintf("%s:%d", podAddress, port) }
	for name, c := range map[string]struct{ got, want string }{
		"to the loopback address":  {over(world.dial(t, at(9080)), "web"), `200 web from 127.0.0.1 xfcc ""`},
		"to the pod's own address": {over(world.dial(t, at(9081)), "web"), `200 web from 127.0.0.6 xfcc ""`},
		"TCP":                      {echoed(world.dial(t, at(9082))), "hello\n"},
		"a port that is not named": {over(world.dial(t, at(8000)), "web"), `200 web from 127.0.0.6 xfcc ""`},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
}
