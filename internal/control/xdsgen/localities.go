package xdsgen

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// localities says how the endpoints of a cluster are ordered and weighted by where they
// are, seen from the node. The zero value says nothing.
type localities struct {
	setting *networking.LocalityLoadBalancerSetting
	// failover: priorities have an effect only with outlier detection, as in Istio.
	failover bool
	node     string // "region/zone/subzone"
	labels   map[string]string
}

// localities are those of the rule, else of the mesh, unless they are switched off. The
// mesh's default is to fail over by locality.
func (b *builder) localities(p *clusterPolicy) localities {
	setting := p.lb.GetLocalityLbSetting()
	if setting == nil {
		setting = b.mesh.Config().GetLocalityLbSetting()
	}
	if setting == nil {
		setting = b.shared.nearest
	}
	if e := setting.GetEnabled(); e != nil && !e.GetValue() {
		return localities{}
	}
	return localities{setting, p.outlier != nil, b.node.Locality, b.node.Labels}
}

// apply makes the proxy heed the weights of localities, where somebody set them.
func (l *localities) apply(c *clusterv3.Cluster) {
	if l.setting.GetDistribute() != nil || l.failover && (l.setting.GetFailover() != nil || l.setting.GetFailoverPriority() != nil) {
		commonLB(c).LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
			LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
		}
	}
}

// rank is the priority of an endpoint before the gaps are closed; 0 is the best.
func (l *localities) rank(e *lbEndpoint) int {
	switch {
	case !l.failover || l.setting == nil || l.setting.GetDistribute() != nil:
		return 0
	case len(l.setting.GetFailoverPriority()) == 0:
		return l.distance(e.locality)
	}
	rank := l.mismatch(e.labels)
	if len(l.setting.GetFailover()) > 0 {
		rank = rank*5 + l.distance(e.locality)
	}
	return rank
}

// distance is 0 for the node's own subzone, 1 for its zone, 2 for its region, 3 for
// elsewhere, and 4 for a region that failover does not lead to.
func (l *localities) distance(locality string) int {
	own, other := splitLocality(l.node), splitLocality(locality)
	switch {
	case own == other:
		return 0
	case own[0] == other[0] && own[1] == other[1]:
		return 1
	case own[0] == other[0]:
		return 2
	}
	for _, f := range l.setting.GetFailover() {
		if f.GetFrom() == own[0] {
			if f.GetTo() != other[0] {
				return 4
			}
			break
		}
	}
	return 3
}

// mismatch is 0 where all labels of failoverPriority are the node's; else it is larger
// the sooner one differs. "label=value" asks for a value in place of the node's.
func (l *localities) mismatch(labels map[string]string) int {
	list := l.setting.GetFailoverPriority()
	if len(l.labels) == 0 {
		return 0
	}
	for i, entry := range list {
		label, want, given := strings.Cut(entry, "=")
		if !given {
			want = l.labels[label]
		}
		if labels[label] != want {
			return len(list) - i
		}
	}
	return 0
}

// distribute gives the localities (with the sums of their endpoints' weights) what the
// first entry for the node says; those that it does not name get nothing. It is nil
// where no entry is for the node.
func (l *localities) distribute(sums map[string]uint32) map[string]uint32 {
	for _, d := range l.setting.GetDistribute() {
		if !localityMatches(l.node, d.GetFrom()) {
			continue
		}
		out := map[string]uint32{}
		// The most specific first: each locality counts once.
		names := slices.SortedFunc(maps.Keys(d.GetTo()), func(a, b string) int {
			return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
		})
		for _, to := range names {
			var within []string
			var total uint64
			for locality, sum := range sums {
				if _, taken := out[locality]; !taken && localityMatches(locality, to) {
					within, total = append(within, locality), total+uint64(sum)
				}
			}
			for _, locality := range within {
				share := uint64(sums[locality]) * uint64(d.GetTo()[to])
				out[locality] = uint32((share + total - 1) / total)
			}
		}
		return out
	}
	return nil
}

// localityMatches compares with "region/zone/subzone", where each part may be "*" and
// the last ones may be left out.
func localityMatches(locality, rule string) bool {
	have, want := splitLocality(locality), splitLocality(rule)
	for i := range want {
		if want[i] != "*" && want[i] != have[i] && (i == 0 || want[i] != "") {
			return false
		}
	}
	return true
}

func splitLocality(s string) (out [3]string) {
	copy(out[:], strings.SplitN(s, "/", 3))
	return out
}
