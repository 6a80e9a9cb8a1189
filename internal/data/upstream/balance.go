package upstream

import (
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// member is an endpoint's host with what the configuration says of it.
type member struct {
	host      *Host
	weight    uint64
	unhealthy bool
	labels    resource.Labels
}

// group is the hosts of one priority that may be used. It never changes.
type group struct {
	hosts []*Host
	// cumulative weights, strictly growing; nil when all weights are equal.
	cumulative []uint64
	total      uint64
	stride     uint64 // for round robin; coprime to total
	table      table  // of the policies that hash
	// warmAt is the Manager.now when all hosts have their full share (slow start); 0:
	// they have.
	warmAt int64
}

// newGroup makes the group of hosts with their weights, for a policy.
func newGroup(c *config.Cluster, members []member) *group {
	g := &group{}
	equal := true
	for _, m := range members {
		g.hosts = append(g.hosts, m.host)
		equal = equal && m.weight == members[0].weight
		if w := c.Balancing.SlowStart.Window; w > 0 {
			g.warmAt = max(g.warmAt, m.host.since+int64(w))
		}
	}
	if !equal {
		g.weigh(members)
	}
	switch c.LB {
	case resource.LBRingHash:
		g.table = newRing(&c.Balancing, members)
	case resource.LBMaglev:
		g.table = newMaglev(&c.Balancing, members)
	}
	return g
}

func (g *group) weigh(members []member) {
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
}

// at is the index of the host whose share covers position n < total.
func (g *group) at(n uint64) int {
	return sort.Search(len(g.cumulative), func(i int) bool { return g.cumulative[i] > n })
}

func (g *group) random() int {
	if g.cumulative == nil {
		return rand.IntN(len(g.hosts))
	}
	return g.at(rand.Uint64N(g.total))
}

// weight of a host in relation to the others of the group.
func (g *group) weight(i int) uint64 {
	switch {
	case g.cumulative == nil:
		return 1
	case i == 0:
		return g.cumulative[0]
	}
	return g.cumulative[i] - g.cumulative[i-1]
}

// choice is what a policy needs to know of a connection or request.
type choice struct {
	state  *state
	policy resource.LBPolicy
	config *resource.Balancing
	hash   uint64
	leave  []*Host // hosts whose priorities are left
}

// next chooses by policy; attempt counts the choices that were not taken.
func (g *group) next(c *choice, attempt int) *Host {
	if len(g.hosts) == 1 {
		return g.hosts[0]
	}
	if g.table != nil {
		return g.hosts[g.table.find(c.hash, attempt)]
	}
	h := g.hosts[g.index(c)]
	if g.warmAt == 0 {
		return h
	}
	now := c.state.manager.now()
	if now >= g.warmAt {
		return h
	}
	for range 4 { // a host that warms up gives some of its turns away
		if rand.Float64() < h.warmth(&c.config.SlowStart, now) {
			break
		}
		h = g.hosts[g.index(c)]
	}
	return h
}

// index is the choice of the policies that do not hash.
//
// Weighted round robin walks the cumulative weights with a stride coprime to their
// sum: each host gets exactly its share in a full round, well spread, without a lock.
func (g *group) index(c *choice) int {
	switch c.policy {
	case resource.LBLeastRequest:
		return g.leastRequest(c.config)
	case resource.LBRandom:
		return g.random()
	}
	turn := c.state.turn.Add(1)
	if g.cumulative == nil {
		return int(turn % uint64(len(g.hosts)))
	}
	return g.at(turn % g.total * g.stride % g.total)
}

// leastRequest takes the least busy of choice_count hosts that are taken by chance and
// weight. Unlike in Envoy those with weights are chosen so too: what counts then is
// the number of active requests in relation to the weight.
func (g *group) leastRequest(b *resource.Balancing) int {
	best := g.random()
	if b.IgnoreActive {
		return best
	}
	for range max(b.ChoiceCount, 2) - 1 {
		i := g.random()
		if g.cumulative == nil {
			if g.hosts[i].active.Load() < g.hosts[best].active.Load() {
				best = i
			}
			continue
		}
		if uint64(g.hosts[i].active.Load())*g.weight(best) < uint64(g.hosts[best].active.Load())*g.weight(i) {
			best = i
		}
	}
	return best
}

// choose takes a host of the group that the load goes to; hosts that just failed come
// after those that did not. Where a group has only hosts to be avoided the others have
// their turn, in order, and an avoided one is the last resort. It returns nil only when
// there is no host at all.
func (b *balancer) choose(c *choice, avoid []*Host) *Host {
	if len(b.groups) == 0 {
		return nil
	}
	first := b.first(c.hash)
	if len(c.leave) > 0 {
		first = b.leaving(first, c.leave)
	}
	if h := b.groups[first].choose(c, avoid); h != nil {
		return h
	}
	for i, g := range b.groups {
		if i != first {
			if h := g.choose(c, avoid); h != nil {
				return h
			}
		}
	}
	return b.groups[first].next(c, 0)
}

// leaving is the first priority that none of the hosts is of; first where there is none.
func (b *balancer) leaving(first int, hosts []*Host) int {
	used := func(h *Host) bool { return slices.Contains(hosts, h) }
	for i, g := range b.groups {
		if !slices.ContainsFunc(g.hosts, used) {
			return i
		}
	}
	return first
}

func (g *group) choose(c *choice, avoid []*Host) *Host {
	for attempt := range 3 {
		if h := g.next(c, attempt); !slices.Contains(avoid, h) && !h.suspect() {
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
	return second
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
