package mesh

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// LabelKeys are the labels of nodes that some object chooses by. Nodes that differ only in
// others get the same. Whoever makes resources by labels has the keys added here.
func (s *Snapshot) LabelKeys() []string { return s.labelKeys }

func (s *Snapshot) findLabelKeys() []string {
	k := keySet{}
	for _, list := range s.sidecars {
		for _, c := range list {
			k.add(c.Spec.GetWorkloadSelector().GetLabels())
		}
	}
	for _, list := range s.telemetries {
		for _, t := range list {
			k.add(t.Spec.GetSelector().GetMatchLabels())
		}
	}
	for _, p := range s.peers {
		for _, o := range p.selecting {
			k.add(o.Spec.GetSelector().GetMatchLabels())
		}
	}
	for _, g := range s.gateways {
		k.add(g.Spec.GetSelector())
	}
	for _, v := range s.virtual {
		k.addVirtualService(v.Spec)
	}
	k.addLocality(s.config.GetLocalityLbSetting())
	if s.pods {
		for _, svc := range s.services {
			k.add(svc.Selector)
		}
	}
	for _, byHost := range s.destinations {
		for _, rules := range byHost {
			for _, r := range rules {
				k.add(r.selector)
				k.addPolicy(r.Policy)
				for _, sub := range r.Subsets {
					k.addPolicy(sub.GetTrafficPolicy())
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(k))
}

type keySet map[string]bool

func (k keySet) add(selector map[string]string) {
	for name := range selector {
		k[name] = true
	}
}

func (k keySet) addVirtualService(v *networking.VirtualService) {
	for _, r := range v.GetHttp() {
		for _, m := range r.GetMatch() {
			k.add(m.GetSourceLabels())
		}
	}
	for _, r := range v.GetTls() {
		for _, m := range r.GetMatch() {
			k.add(m.GetSourceLabels())
		}
	}
	for _, r := range v.GetTcp() {
		for _, m := range r.GetMatch() {
			k.add(m.GetSourceLabels())
		}
	}
}

func (k keySet) addPolicy(p *networking.TrafficPolicy) {
	k.addLocality(p.GetLoadBalancer().GetLocalityLbSetting())
	for _, port := range p.GetPortLevelSettings() {
		k.addLocality(port.GetLoadBalancer().GetLocalityLbSetting())
	}
}

// addLocality adds labels that an endpoint's are compared with: "label" or "label=value".
func (k keySet) addLocality(l *networking.LocalityLoadBalancerSetting) {
	for _, p := range l.GetFailoverPriority() {
		name, _, _ := strings.Cut(p, "=")
		k[name] = true
	}
}
