package upstream

import (
	"math/rand/v2"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// member is a host with its weight, while a group is built.
type member struct {
	host   *Host
	weight uint64
}

// group is the healthy hosts of one priority. It never changes.
type group struct {
	hosts []*Host
	// cumulative weights, strictly growing; nil when all weights are equal.
	cumulative []uint64
	total      uint64
	stride     uint64 // for round robin; coprime to total
}

func newGroup(members []member) *group {
	g := &group{}
	equal := true
	for _, m := range members {
		g.hosts = append(g.hosts, m.host)
		equal = equal && m.weight == members[0].weight
	}
	if equal {
		return g
	}
	weights := make([]uint64, len(members))
	var divisor uint64
	for i, m := range members {
		weights[i] = max(m.weight, 1)
		divisor = gcd(weights[i], divisor)
	}
	for shift := 0; ; shift++ { // keeps position*stride inside 64 bits
		g.cumulative, g.total = g.cumulative[:0], 0
		for _, w := range weights {
			g.total += max((w/divisor)>>shift, 1)
			g.cumulative = append(g.cumulative, g.total)
		}
		if g.total < 1<<31 {
			break
		}
	}
	g.stride = coprime(g.total)
	return g
}

// at is the host whose share covers position n < total.
func (g *group) at(n uint64) *Host {
	i := sort.Search(len(g.cumulative), func(i int) bool { return g.cumulative[i] > n })
	return g.hosts[i]
}

func (g *group) random() *Host {
	if g.cumulative == nil {
		return g.hosts[rand.IntN(len(g.hosts))]
	}
	return g.at(rand.Uint64N(g.total))
}

// next chooses by policy. turn is the cluster's round robin counter.
//
// Weighted round robin walks the cumulative weights with a stride coprime to their
// sum: each host gets exactly its share in a full round, well spread, without a lock.
func (g *group) next(policy resource.LBPolicy, turn *atomic.Uint64) *Host {
	if len(g.hosts) == 1 {
		return g.hosts[0]
	}
	switch policy {
	case resource.LBLeastRequest: // Envoy's choice_count of 2
		a, b := g.random(), g.random()
		if b.active.Load() < a.active.Load() {
			return b
		}
		return a
	case resource.LBRandom:
		return g.random()
	default:
		if g.cumulative == nil {
			return g.hosts[turn.Add(1)%uint64(len(g.hosts))]
		}
		return g.at(turn.Add(1) % g.total * g.stride % g.total)
	}
}

// choose takes a host of the first group that has one not to be avoided; hosts that
// just failed come after those that did not, and an avoided one is the last resort.
// It returns nil only when there is no host at all.
func choose(groups []*group, policy resource.LBPolicy, turn *atomic.Uint64, avoid []*Host) *Host {
	for _, g := range groups {
		for range 3 {
			if h := g.next(policy, turn); !slices.Contains(avoid, h) && !h.suspect() {
				return h
			}
		}
		var second *Host
		start := rand.IntN(len(g.hosts))
		for i := range g.hosts {
			h := g.hosts[(start+i)%len(g.hosts)]
			if slices.Contains(avoid, h) {
				continue
			}
			if !h.suspect() {
				return h
			}
			second = h
		}
		if second != nil {
			return second
		}
	}
	if len(groups) == 0 {
		return nil
	}
	return groups[0].next(policy, turn)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// coprime is a number near the golden section of n that shares no divisor with it.
func coprime(n uint64) uint64 {
	for s := n * 618 / 1000; s > 1; s-- {
		if gcd(s, n) == 1 {
			return s
		}
	}
	return 1
}

// shares gives each endpoint of a priority its effective weight: the locality's
// weight split over its endpoints. Where locality weights are missing or the sum of
// their endpoints' (what istiod writes), that is just the endpoint's own weight.
func shares(localities []resource.Locality) [][]uint64 {
	out := make([][]uint64, len(localities))
	plain := true
	sums := make([]uint64, len(localities)) // of healthy endpoints
	for i, l := range localities {
		var all uint64
		for _, e := range l.Endpoints {
			w := uint64(max(e.Weight, 1))
			out[i] = append(out[i], w)
			all += w
			if !e.Unhealthy {
				sums[i] += w
			}
		}
		plain = plain && (l.Weight == 0 || uint64(l.Weight) == all)
	}
	if plain {
		return out
	}
	for i, l := range localities {
		for j := range out[i] {
			if l.Weight != 0 && sums[i] != 0 {
				out[i][j] = max(uint64(l.Weight)*out[i][j]*1000/sums[i], 1)
			} else {
				out[i][j] *= 1000
			}
		}
	}
	return out
}
