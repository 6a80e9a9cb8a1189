package xdsgen

import (
	"testing"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// A Gateway's server listens at the target port of the gateway's Service, whether its pods are
// ready or not. A port below 1024 that no Service leads elsewhere is left out where the
// proxy could not open it.
func TestPortsOfGatewayPods(t *testing.T) {
	w := world{options: mesh.Options{BuiltIn: cluster(), Pods: true}, yaml: `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 81, name: other, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 8081, name: high, protocol: HTTP}, hosts: ["*"]}
`}
	w.options.BuiltIn[2].Endpoints = nil // not ready yet
	for unprivileged, want := range map[bool]map[string]bool{
		true:  {"0.0.0.0_8080": true, "0.0.0.0_8081": true, "0.0.0.0_81": false, "0.0.0.0_80": false},
		false: {"0.0.0.0_8080": true, "0.0.0.0_8081": true, "0.0.0.0_81": true, "0.0.0.0_80": false},
	} {
		node := gatewayNode
		node.Unprivileged = unprivileged
		g := w.generate(t, node)
		for name, there := range want {
			if (g.listeners[name] != nil) != there {
				t.Errorf("unprivileged %t: listener %s is there: %t", unprivileged, name, !there)
			}
		}
	}
}
