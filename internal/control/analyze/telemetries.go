package analyze

import (
	"fmt"
	"maps"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// telemetries checks that the access logs that are named are there.
func (a *analysis) telemetries() {
	for i, t := range a.objects.Telemetries {
		for j, l := range t.Spec.GetAccessLogging() {
			for k, p := range l.GetProviders() {
				a.provider(&t.Meta, fmt.Sprintf("spec.accessLogging[%d].providers[%d].name", j, k), p.GetName())
			}
		}
		selector := t.Spec.GetSelector().GetMatchLabels()
		for _, o := range a.objects.Telemetries[:i] {
			if o.Namespace == t.Namespace && maps.Equal(o.Spec.GetSelector().GetMatchLabels(), selector) {
				a.add(istioapi.Warning, &t.Meta, CodeConflictingTelemetries, "spec.selector",
					"%s (%s) is another Telemetry for the same workloads: only one of them is used", o.Ref, o.Position)
				break
			}
		}
	}
	if c := a.objects.MeshConfig; c != nil {
		for i, name := range a.config.GetDefaultProviders().GetAccessLogging() {
			a.provider(&c.Meta, fmt.Sprintf("data.mesh.defaultProviders.accessLogging[%d]", i), name)
		}
	}
}

func (a *analysis) provider(m *istioapi.Meta, path, name string) {
	switch file, known := a.snapshot.LogProvider(name); {
	case !known:
		a.add(istioapi.Warning, m, CodeUnknownProvider, path,
			"MeshConfig has no extensionProvider %q: nothing is logged to it", name)
	case file == nil:
		a.add(istioapi.Warning, m, CodeUnknownProvider, path,
			"the provider %q is not an envoyFileAccessLog: egret does not log to it", name)
	}
}
