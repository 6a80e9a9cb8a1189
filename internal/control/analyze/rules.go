package analyze

import (
	"fmt"
	"maps"
	"strings"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

func (a *analysis) destinationRules() {
	for _, r := range a.objects.DestinationRules {
		host := mesh.ResolveHost(r.Spec.GetHost(), r.Namespace, domain)
		a.withoutMutualTLS(r, host)
		if host == "*" || a.any(host) {
			continue
		}
		a.add(istioapi.Warning, &r.Meta, CodeUnknownHost, "spec.host",
			"the registry has no host %q: the rule has no effect%s", host, a.nearest(host))
	}
}

func (a *analysis) sidecars() {
	for i, s := range a.objects.Sidecars {
		selector := s.Spec.GetWorkloadSelector().GetLabels()
		for _, o := range a.objects.Sidecars[:i] {
			if o.Namespace != s.Namespace || !maps.Equal(o.Spec.GetWorkloadSelector().GetLabels(), selector) {
				continue
			}
			who := "without workloadSelector"
			if len(selector) > 0 {
				who = "with the same workloadSelector"
			}
			a.add(istioapi.Error, &s.Meta, CodeConflictingSidecars, "spec.workloadSelector",
				"%s (%s) is another Sidecar of namespace %q %s: only one of them is used", o.Ref, o.Position, s.Namespace, who)
			break
		}
		for j, e := range s.Spec.GetEgress() {
			for k, h := range e.GetHosts() {
				a.egressHost(s, h, fmt.Sprintf("spec.egress[%d].hosts[%d]", j, k))
			}
		}
	}
}

// egressHost tells when an entry of a Sidecar brings nothing in.
func (a *analysis) egressHost(s *istioapi.Sidecar, entry, at string) {
	namespace, host, _ := strings.Cut(strings.ToLower(entry), "/")
	if namespace == "." {
		namespace = s.Namespace
	}
	if host == "*" || namespace == "~" {
		return
	}
	hidden, elsewhere := "", ""
	for _, svc := range a.services {
		switch {
		case !mesh.HostWithin(svc.Host, host):
		case namespace != "*" && svc.Namespace != namespace:
			elsewhere = svc.Namespace
		case !a.serviceVisible(svc, s.Namespace):
			hidden = svc.Source.String()
		default:
			return
		}
	}
	switch {
	case hidden != "":
		a.add(istioapi.Warning, &s.Meta, CodeHidden, at, "%s is hidden from namespace %q by its exportTo", hidden, s.Namespace)
	case elsewhere != "":
		a.add(istioapi.Warning, &s.Meta, CodeUnusedHost, at,
			"nothing in namespace %q has the host %q, but namespace %q has; write %q", namespace, host, elsewhere, elsewhere+"/"+host)
	default:
		hint := ""
		if w := a.covering(host); w != "" {
			hint = fmt.Sprintf("; the registry has %q, which a Sidecar must name as it is", w)
		}
		a.add(istioapi.Warning, &s.Meta, CodeUnusedHost, at, "the registry has no host %q%s", host, hint)
	}
}
