package upstream

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func testHosts(names ...string) []*Host {
	m := &Manager{start: time.Now()}
	s := &state{manager: m}
	var out []*Host
	for _, n := range names {
		out = append(out, &Host{cluster: s, text: n})
	}
	return out
}

// choiceOf is a choice by a policy with its default settings.
func choiceOf(policy resource.LBPolicy) *choice {
	return &choice{state: &state{manager: &Manager{start: time.Now()}}, policy: policy, config: &resource.Balancing{}}
}

func groupOf(hosts []*Host, weights ...uint64) *group {
	var members []member
	for i, h := range hosts {
		members = append(members, member{host: h, weight: weights[i]})
	}
	return newGroup(&config.Cluster{Cluster: &resource.Cluster{}}, members)
}

func TestRoundRobinGivesEachItsShare(t *testing.T) {
	tests := []struct {
		name    string
		weights []uint64
		rounds  int
		want    []int
	}{
		{"equal", []uint64{1, 1, 1}, 30, []int{10, 10, 10}},
		{"equal but not one", []uint64{7, 7}, 20, []int{10, 10}},
		{"weighted", []uint64{1, 2, 7}, 100, []int{10, 20, 70}},
		{"a common divisor", []uint64{100, 300}, 40, []int{10, 30}},
		{"zero counts as one", []uint64{0, 3}, 40, []int{10, 30}},
		{"one host", []uint64{5}, 3, []int{3}},
		{"huge weights", []uint64{1 << 33, 3 << 33}, 40, []int{10, 30}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hosts := testHosts("a", "b", "c")[:len(tt.weights)]
			var members []member
			for i, w := range tt.weights {
				members = append(members, member{host: hosts[i], weight: w})
			}
			c := choiceOf(resource.LBRoundRobin)
			g := newGroup(&config.Cluster{Cluster: &resource.Cluster{}}, members)
			got := make([]int, len(hosts))
			for range tt.rounds {
				h := g.next(c, 0)
				for i := range hosts {
					if hosts[i] == h {
						got[i]++
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWeightsBeyond32BitsStayBounded(t *testing.T) {
	hosts := testHosts("a", "b")
	g := groupOf(hosts, 1<<60+1, 1<<61)
	if g.total >= 1<<31 {
		t.Errorf("total = %d", g.total)
	}
	seen := map[*Host]bool{}
	for i := uint64(0); i < g.total; i += g.total / 64 {
		seen[g.hosts[g.at(i)]] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d hosts have a share", len(seen))
	}
}

func TestLeastRequestPrefersTheIdle(t *testing.T) {
	hosts := testHosts("busy", "idle")
	hosts[0].active.Store(100)
	g := groupOf(hosts, 1, 1)
	c := choiceOf(resource.LBLeastRequest)
	idle := 0
	for range 2000 {
		if g.next(c, 0) == hosts[1] {
			idle++
		}
	}
	// Of two random choices the idle one is among them with probability 3/4.
	if idle < 1300 || idle > 1700 {
		t.Errorf("the idle host was chosen %d of 2000 times, want about 1500", idle)
	}
}

func TestChoose(t *testing.T) {
	all := testHosts("a", "b", "c")
	a, b, c := all[0], all[1], all[2]
	lb := &balancer{groups: []*group{groupOf([]*Host{a, b}, 1, 1), groupOf([]*Host{c}, 1)}, share: []uint32{100, 100}}
	tests := []struct {
		name    string
		suspect []*Host
		avoid   []*Host
		want    []*Host // any of
	}{
		{"the lowest priority", nil, nil, []*Host{a, b}},
		{"not an avoided one", nil, []*Host{a}, []*Host{b}},
		{"not one that just failed", []*Host{b}, nil, []*Host{a}},
		{"one that just failed rather than an avoided one", []*Host{b}, []*Host{a}, []*Host{b}},
		{"the next priority when all are avoided", nil, []*Host{a, b}, []*Host{c}},
		{"an avoided one when there is no other", nil, []*Host{a, b, c}, []*Host{a, b}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, h := range all {
				h.failedAt.Store(0)
			}
			for _, h := range tt.suspect {
				h.Failed()
			}
			for _, policy := range []resource.LBPolicy{resource.LBRoundRobin, resource.LBLeastRequest, resource.LBRandom} {
				for range 50 {
					if got := lb.choose(choiceOf(policy), tt.avoid); !slices.Contains(tt.want, got) {
						t.Fatalf("policy %d chose %s", policy, got)
					}
				}
			}
		})
	}
	leave := choiceOf(resource.LBRandom)
	for _, tt := range []struct {
		leave []*Host
		want  []*Host
	}{{[]*Host{a}, []*Host{c}}, {[]*Host{c}, []*Host{a, b}}, {[]*Host{a, c}, []*Host{a, b}}} {
		a.failedAt.Store(0)
		b.failedAt.Store(0)
		leave.leave = tt.leave
		if got := lb.choose(leave, nil); !slices.Contains(tt.want, got) {
			t.Errorf("leaving the priorities of %v chose %s", tt.leave, got)
		}
	}
	if new(balancer).choose(choiceOf(resource.LBRandom), nil) != nil {
		t.Error("a host out of nothing")
	}
}
