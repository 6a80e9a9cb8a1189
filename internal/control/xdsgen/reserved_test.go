package xdsgen

import (
	"strings"
	"testing"

	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// A service on a sidecar's own port would have its listener in the place of the sidecar's: it
// has none, and that is told. Where it is found by its address it is served.
func TestPortsOfTheSidecar(t *testing.T) {
	for name, c := range map[string]struct {
		port  mesh.Port
		ip    string
		to    string
		want  string // where a call goes
		told  bool
		named string // the listener that is there or not
	}{
		"HTTP on 15001":               {kubePort(15001, 8000, "http"), "10.96.7.7", "10.96.7.7:15001", "BlackHoleCluster", true, "0.0.0.0_15001"},
		"HTTP on 15006":               {kubePort(15006, 8000, "http"), "10.96.7.7", "10.96.7.7:15006", "BlackHoleCluster", true, "0.0.0.0_15006"},
		"TCP at an address":           {kubePort(15006, 8000, "tcp"), "10.96.7.7", "10.96.7.7:15006", "outbound|15006||web.default.svc.cluster.local", false, "0.0.0.0_15006"},
		"whatever at an address":      {kubePort(15001, 8000, "any"), "10.96.7.7", "10.96.7.7:15001", "outbound|15001||web.default.svc.cluster.local", false, "0.0.0.0_15001"},
		"HTTP on another port":        {kubePort(15002, 8000, "http"), "10.96.7.7", "10.96.7.7:15002", "BlackHoleCluster", false, ""},
		"the workload's own port too": {kubePort(80, 15006, "tcp"), "10.96.7.7", "10.96.7.7:80", "outbound|80||web.default.svc.cluster.local", false, ""},
	} {
		svc := kubeService("default", "web", c.ip, []mesh.Port{c.port}, kubeEndpoint("10.244.1.5", map[string]uint32{c.port.Name: 8000}, nil))
		svc.Selector = map[string]string{"app": "web"}
		o := mesh.Options{Pods: true, BuiltIn: []*mesh.Service{svc}}
		g := world{options: o}.generate(t, webNode())
		if c.named != "" && g.listeners[c.named] != nil {
			t.Errorf("%s: there is a listener %s", name, c.named)
		}
		if chains := strings.Join(describe(t, g.listeners["virtualInbound"]), "\n"); strings.Contains(chains, "0.0.0.0_15006") {
			t.Errorf("%s: inbound chains for the sidecar's own port:\n%s", name, chains)
		}
		if got := g.outcome(t, call{to: c.to}); got != c.want {
			t.Errorf("%s: a call goes to %s, want %s", name, got, c.want)
		}
		_, problems := mesh.New(istioapi.Objects{MeshConfig: &istioapi.MeshConfig{Spec: &meshconfig.MeshConfig{}}}, o)
		if told := len(problems) == 1 && problems[0].Code == mesh.CodeReservedPort && problems[0].Object.Name == "web"; told != c.told {
			t.Errorf("%s: told: %v", name, problems)
		}
	}
}
