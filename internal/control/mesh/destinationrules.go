package mesh

import (
	"maps"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// DestinationRule is one rule, or several of one host merged as Istio merges them.
type DestinationRule struct {
	// Ref is the oldest object; Sources are all.
	istioapi.Ref
	Sources  []istioapi.Ref
	Policy   *networking.TrafficPolicy
	Subsets  []*networking.Subset
	selector map[string]string
	visible  visibility
}

// Subset finds a subset by name; nil when there is none.
func (d *DestinationRule) Subset(name string) *networking.Subset {
	if d == nil {
		return nil
	}
	for _, s := range d.Subsets {
		if s.GetName() == name {
			return s
		}
	}
	return nil
}

// destinationRules: namespace -> host (exact or wildcard) -> merged rules, one per
// workload selector and visibility.
type destinationRules map[string]map[string][]*DestinationRule

func (s *Snapshot) indexDestinationRules(objects []*istioapi.DestinationRule) {
	s.destinations = destinationRules{}
	sorted := byAge(objects, func(d *istioapi.DestinationRule) *istioapi.Meta { return &d.Meta })
	for _, o := range sorted {
		byHost := s.destinations[o.Namespace]
		if byHost == nil {
			byHost = map[string][]*DestinationRule{}
			s.destinations[o.Namespace] = byHost
		}
		host := ResolveHost(o.Spec.GetHost(), o.Namespace, s.domain)
		byHost[host] = mergeRule(byHost[host], &DestinationRule{
			Ref:      o.Ref,
			Sources:  []istioapi.Ref{o.Ref},
			Policy:   o.Spec.GetTrafficPolicy(),
			Subsets:  o.Spec.GetSubsets(),
			selector: o.Spec.GetWorkloadSelector().GetMatchLabels(),
			visible: newVisibility(o.Spec.GetExportTo(),
				s.config.GetDefaultDestinationRuleExportTo(), o.Namespace),
		})
	}
}

// mergeRule adds a rule: to the one with the same workload selector and visibility
// subsets with new names are appended, and a traffic policy is taken when it has none;
// otherwise it stands by itself.
func mergeRule(rules []*DestinationRule, d *DestinationRule) []*DestinationRule {
	for _, old := range rules {
		if !maps.Equal(old.selector, d.selector) || !old.visible.equal(d.visible) {
			continue
		}
		old.Sources = append(old.Sources, d.Sources...)
		if old.Policy == nil {
			old.Policy = d.Policy
		}
		merged := append([]*networking.Subset(nil), old.Subsets...)
		for _, sub := range d.Subsets {
			if old.Subset(sub.GetName()) == nil {
				merged = append(merged, sub)
			}
		}
		old.Subsets = merged
		return rules
	}
	return append(rules, d)
}

// find is the rules of the most specific host that covers host in one namespace.
func (x destinationRules) find(namespace, host string, accept func(*DestinationRule) bool) []*DestinationRule {
	byHost := x[namespace]
	if len(byHost) == 0 {
		return nil
	}
	var out []*DestinationRule
	try := func(key string) bool {
		for _, d := range byHost[key] {
			if accept(d) {
				out = append(out, d)
			}
		}
		return len(out) > 0
	}
	if !try(host) {
		parents(host, try)
	}
	return out
}

// DestinationRule is the rule that a node uses for a service, as Istio finds it: in
// the node's namespace, then (exported ones) in the service's, then in the root
// namespace; nil when there is none. For nodes of the root namespace the first step
// takes only rules that are private to it.
func (s *Snapshot) DestinationRule(n Node, svc *Service) *DestinationRule {
	exported := func(d *DestinationRule) bool { return d.visible.to(n.Namespace) }
	own := exported
	if n.Namespace == s.rootNamespace {
		own = func(d *DestinationRule) bool { return d.visible.onlyTo(n.Namespace) }
	} else {
		own = func(*DestinationRule) bool { return true }
	}
	rules := s.destinations.find(n.Namespace, svc.Host, own)
	if len(rules) == 0 {
		rules = s.destinations.find(svc.Namespace, svc.Host, exported)
	}
	if len(rules) == 0 {
		rules = s.destinations.find(s.rootNamespace, svc.Host, exported)
	}
	return choose(rules, n)
}

// choose prefers a rule whose workload selector selects the node (such rules count
// in the node's own namespace only), else the one without a selector.
func choose(rules []*DestinationRule, n Node) *DestinationRule {
	var general *DestinationRule
	for _, d := range rules {
		if len(d.selector) == 0 {
			general = d
		} else if d.Namespace == n.Namespace && subset(d.selector, n.Labels) {
			return d
		}
	}
	return general
}

// TrafficPolicy is the rule's own; nil for a nil rule.
func (d *DestinationRule) TrafficPolicy() *networking.TrafficPolicy {
	if d == nil {
		return nil
	}
	return d.Policy
}

// Selects says whether the rule is for some workloads of its namespace (workloadSelector);
// false for a nil rule.
func (d *DestinationRule) Selects() bool { return d != nil && len(d.selector) > 0 }
