package kube

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// decodeMesh reads the MeshConfig of a ConfigMap, whatever its name is.
func decodeMesh(c *corev1.ConfigMap) (istioapi.Object, []istioapi.Problem) {
	object, problems := istioapi.MeshFromCluster(c.Data["mesh"])
	ref := istioapi.Ref{Kind: "ConfigMap", Namespace: c.Namespace, Name: c.Name}
	if object != nil {
		object.Common().Ref = ref
	}
	for i := range problems {
		problems[i].Object = ref
	}
	return object, problems
}
