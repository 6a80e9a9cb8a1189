package analyze

import (
	"maps"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// peerAuthentications checks that each has an effect.
func (a *analysis) peerAuthentications() {
	for i, p := range a.objects.PeerAuthentications {
		selector := p.Spec.GetSelector().GetMatchLabels()
		if len(selector) > 0 && p.Namespace == a.snapshot.RootNamespace() {
			a.add(istioapi.Warning, &p.Meta, istioapi.CodeNoEffect, "spec.selector",
				"has no effect in the root namespace %q, as in Istio: what is there is for all of the mesh, and has no selector", p.Namespace)
			continue
		}
		for _, o := range a.objects.PeerAuthentications[:i] {
			if o.Namespace == p.Namespace && maps.Equal(o.Spec.GetSelector().GetMatchLabels(), selector) {
				a.add(istioapi.Warning, &p.Meta, CodeConflictingPeers, "spec.selector",
					"%s (%s) is another PeerAuthentication for the same workloads: only the older one is used", o.Ref, o.Position)
				break
			}
		}
	}
}

// withoutMutualTLS tells about a rule that has clients call in the clear, or with TLS of
// another kind, where the workloads of the host's namespace take nothing but the mesh's TLS.
func (a *analysis) withoutMutualTLS(r *istioapi.DestinationRule, host string) {
	tls := r.Spec.GetTrafficPolicy().GetTls()
	if tls == nil || tls.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL {
		return
	}
	for _, svc := range a.byHost[host] {
		policy := a.snapshot.PeerPolicy(svc.Namespace, nil)
		if !svc.Internal || policy.Mode != mesh.MutualTLSStrict {
			continue
		}
		a.add(istioapi.Warning, &r.Meta, CodeMutualTLSRequired, "spec.trafficPolicy.tls.mode",
			"%s: the workloads of namespace %q take nothing but the mesh's TLS (%s): use ISTIO_MUTUAL, or leave tls out",
			tls.GetMode(), svc.Namespace, policy.Objects[len(policy.Objects)-1])
		return
	}
}
