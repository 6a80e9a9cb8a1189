package upstream

import (
	"slices"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// subsets are the balancers of a cluster with lb_subset_config.
type subsets struct {
	config   *resource.Subsets
	all      *balancer
	standard *balancer            // the default subset
	byLabels map[string]*balancer // by resource.Labels.Text
}

func newSubsets(c *config.Cluster, tiers []tier, all *balancer) *subsets {
	cfg := c.Subsets
	s := &subsets{config: cfg, all: all, byLabels: map[string]*balancer{}}
	s.standard = newBalancer(c, tiers, func(m *member) bool { return hasLabels(m.labels, cfg.Default) })
	for i := range cfg.Selectors {
		for _, t := range tiers {
			for _, l := range t.localities {
				for j := range l.members {
					s.add(c, tiers, project(l.members[j].labels, cfg.Selectors[i].Keys), len(cfg.Selectors[i].Keys))
				}
			}
		}
	}
	return s
}

// add makes the subset of a member's labels, if it has all keys and there is none yet.
func (s *subsets) add(c *config.Cluster, tiers []tier, labels resource.Labels, keys int) {
	text := labels.Text()
	if len(labels) != keys || s.byLabels[text] != nil {
		return
	}
	s.byLabels[text] = newBalancer(c, tiers, func(m *member) bool { return hasLabels(m.labels, labels) })
}

// project leaves the keys that are asked for.
func project(l resource.Labels, keys []string) resource.Labels {
	var out resource.Labels
	for _, each := range l {
		if slices.Contains(keys, each.Key) {
			out = append(out, each)
		}
	}
	return out
}

func hasLabels(l, want resource.Labels) bool {
	for _, w := range want {
		if l.Get(w.Key) != w.Value {
			return false
		}
	}
	return true
}

// find is the balancer for what a route asks for; nil: there is none, by
// configuration.
func (s *subsets) find(m *resource.LabelMatch) *balancer {
	fallback := s.config.Fallback
	if m != nil {
		labels, text := m.Labels, m.Text
		for range len(m.Labels) + 1 { // each KEYS_SUBSET has fewer keys
			selector := s.selector(labels)
			if selector == nil {
				break
			}
			if b := s.byLabels[text]; b != nil {
				return b
			}
			if selector.Fallback != resource.SubsetNotDefined {
				fallback = selector.Fallback
			}
			if selector.Fallback != resource.SubsetKeys {
				break
			}
			labels = project(labels, selector.FallbackKeys)
			text = labels.Text()
		}
	}
	switch fallback {
	case resource.SubsetAnyEndpoint:
		return s.all
	case resource.SubsetDefault:
		if len(s.standard.groups) == 0 && s.config.PanicAny {
			return s.all
		}
		return s.standard
	}
	return nil
}

// selector is the one with exactly the keys of the labels.
func (s *subsets) selector(labels resource.Labels) *resource.SubsetSelector {
	for i := range s.config.Selectors {
		selector := &s.config.Selectors[i]
		if slices.EqualFunc(selector.Keys, labels, func(key string, l resource.Label) bool { return key == l.Key }) {
			return selector
		}
	}
	return nil
}
