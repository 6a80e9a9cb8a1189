package mesh

import "github.com/egret-mesh/egret/internal/control/istioapi"

func (s *Snapshot) indexSidecars(objects []*istioapi.Sidecar) {
	s.sidecars = map[string][]*istioapi.Sidecar{}
	sorted := byAge(objects, func(c *istioapi.Sidecar) *istioapi.Meta { return &c.Meta })
	for _, c := range sorted {
		s.sidecars[c.Namespace] = append(s.sidecars[c.Namespace], c)
	}
}

// sidecar is the Sidecar object for a node, in Istio's order: of its namespace the
// oldest whose workloadSelector selects it, then the oldest without a selector, then
// the oldest without a selector of the root namespace.
func (s *Snapshot) sidecar(n Node) *istioapi.Sidecar {
	var general *istioapi.Sidecar
	for _, c := range s.sidecars[n.Namespace] {
		selector := c.Spec.GetWorkloadSelector().GetLabels()
		switch {
		case len(selector) == 0:
			if general == nil {
				general = c
			}
		case subset(selector, n.Labels):
			return c
		}
	}
	if general != nil {
		return general
	}
	for _, c := range s.sidecars[s.rootNamespace] {
		if len(c.Spec.GetWorkloadSelector().GetLabels()) == 0 {
			return c
		}
	}
	return nil
}
