package upstream

import (
	"math/rand/v2"
	"sort"

	"github.com/egret-mesh/egret/internal/data/config"
)

// defaultOverprovisioning is Envoy's overprovisioning_factor, in percent.
const defaultOverprovisioning = 140

// tier is the hosts of one priority, by locality.
type tier struct{ localities []locality }

// locality is a group of hosts that share a weight.
type locality struct {
	weight  uint32
	members []member
}

// balancer chooses among the hosts of a cluster or of one of its subsets. It never
// changes.
type balancer struct {
	groups []*group // of the priorities that have hosts to use, in order
	share  []uint32 // of 100, cumulative: which of groups gets the load
}

// newBalancer makes a balancer of the hosts that are healthy and not ejected. keep says
// which hosts belong to it; nil: all.
func newBalancer(c *config.Cluster, tiers []tier, keep func(*member) bool) *balancer {
	own := make([]tier, len(tiers))
	counts := make([]health, len(tiers))
	for i := range tiers {
		own[i] = tiers[i].filter(keep)
		counts[i] = own[i].health()
	}
	factor := overprovisioning(c)
	shares, panics := loads(counts, factor, c.Balancing.PanicThreshold)
	b := &balancer{}
	var sum uint32
	for i := range own {
		members := own[i].usable(c.Balancing.LocalityWeighted, factor, panics[i])
		sum += shares[i]
		if len(members) > 0 {
			b.groups = append(b.groups, newGroup(c, members))
			b.share = append(b.share, sum)
		}
	}
	return b
}

func overprovisioning(c *config.Cluster) uint64 {
	for _, e := range []uint32{c.Endpoints.Factor(), c.Cluster.Endpoints.Factor()} {
		if e != 0 {
			return uint64(e)
		}
	}
	return defaultOverprovisioning
}

// first is the index of the group that a request goes to.
func (b *balancer) first(hash uint64) int {
	if len(b.groups) == 1 || b.share[0] == 100 {
		return 0
	}
	n := uint32(hash % 100)
	i := sort.Search(len(b.share), func(i int) bool { return b.share[i] > n })
	return min(i, len(b.share)-1)
}

func (t *tier) filter(keep func(*member) bool) tier {
	if keep == nil {
		return *t
	}
	var out tier
	for _, l := range t.localities {
		own := locality{weight: l.weight}
		for i := range l.members {
			if keep(&l.members[i]) {
				own.members = append(own.members, l.members[i])
			}
		}
		out.localities = append(out.localities, own)
	}
	return out
}

// health is how many hosts of a priority there are and may be used.
type health struct{ total, healthy uint64 }

func (l *locality) health() (h health) {
	for i := range l.members {
		h.total++
		if l.members[i].healthy() {
			h.healthy++
		}
	}
	return h
}

func (t *tier) health() (h health) {
	for i := range t.localities {
		l := t.localities[i].health()
		h.total += l.total
		h.healthy += l.healthy
	}
	return h
}

// percent is the health as Envoy counts it: with more hosts than are needed.
func (h health) percent(factor uint64) uint64 {
	if h.total == 0 {
		return 0
	}
	return min(100, factor*h.healthy/h.total)
}

// loads gives each priority its part of 100, and says which of them panic: they use all
// of their hosts. The rules are Envoy's ("Priority levels", "Panic threshold"): the load
// goes to the first priority as far as its health allows, then to the next; only when
// all together are less than whole may a priority panic, and when all of them do the
// load is spread by the number of hosts.
func loads(tiers []health, factor uint64, threshold float64) (share []uint32, panics []bool) {
	share, panics = make([]uint32, len(tiers)), make([]bool, len(tiers))
	var sum, hosts uint64
	for _, t := range tiers {
		sum += t.percent(factor)
		hosts += t.total
	}
	sum = min(sum, 100)
	all := sum < 100 && hosts > 0
	for i, t := range tiers {
		panics[i] = sum < 100 && 100*float64(t.healthy) < threshold*float64(max(t.total, 1))
		all = all && panics[i]
	}
	left, last := uint64(100), -1
	for i, t := range tiers {
		part := uint64(0)
		switch {
		case all:
			part = 100 * t.total / hosts
		case sum > 0:
			part = min(left, t.percent(factor)*100/sum)
		}
		if part > 0 && last < 0 {
			last = i
		}
		share[i] = uint32(part)
		left -= part
	}
	if last >= 0 { // what rounding left over
		share[last] += uint32(left)
	}
	return share, panics
}

// usable are the hosts of a priority with the weights that count: the endpoint's own,
// or with locality weights its part of what the locality gets.
func (t *tier) usable(weighted bool, factor uint64, panics bool) []member {
	if weighted {
		weighted = false
		for _, l := range t.localities {
			weighted = weighted || l.weight > 0
		}
	}
	var out []member
	for i := range t.localities {
		l := &t.localities[i]
		if weighted && l.weight == 0 {
			continue
		}
		from := len(out)
		var sum float64
		for j := range l.members {
			if panics || l.members[j].healthy() {
				out = append(out, l.members[j])
				sum += float64(max(l.members[j].weight, 1))
			}
		}
		if !weighted {
			continue
		}
		whole := float64(l.weight) * 1000
		if !panics {
			whole = whole * float64(l.health().percent(factor)) / 100
		}
		for j := from; j < len(out); j++ {
			out[j].weight = max(uint64(whole*float64(max(out[j].weight, 1))/sum), 1)
		}
	}
	return out
}

// healthy: the configuration and outlier detection let it be used.
func (m *member) healthy() bool { return !m.unhealthy && !m.host.ejected() }

// anyHash stands for the hash of a request that has none.
func anyHash() uint64 { return rand.Uint64() }
