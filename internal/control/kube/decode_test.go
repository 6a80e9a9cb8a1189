package kube

import (
	"testing"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Proxies of a cluster have certificates of the mesh, so ISTIO_MUTUAL is no mistake here.
func TestMeshIdentityInACluster(t *testing.T) {
	object, problems := istioapi.FromCluster(map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
		"metadata": map[string]any{"name": "d", "namespace": "n"},
		"spec":     map[string]any{"host": "a.example", "trafficPolicy": map[string]any{"tls": map[string]any{"mode": "ISTIO_MUTUAL"}}},
	})
	if _, ok := object.(*istioapi.DestinationRule); !ok || len(problems) > 0 {
		t.Errorf("%v, problems %v", object, problems)
	}
}
