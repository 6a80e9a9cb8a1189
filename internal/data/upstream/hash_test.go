package upstream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// The values are those of Envoy's own test of its hashes.
func TestHashesAreEnvoys(t *testing.T) {
	tests := []struct {
		key            string
		xxhash, murmur uint64
	}{
		{"foo", 3728699739546630719, 9631199822919835226},
		{"bar", 5234164152756840025, 11474628671133349555},
		{"foo\nbar", 8917841378505826757, 16306510975912980159},
		{"lyft", 4400747396090729504, 12847078931730529320},
		{"", 17241709254077376921, 6142509188972423790},
	}
	for _, tt := range tests {
		if got := xxhash.Sum64String(tt.key); got != tt.xxhash {
			t.Errorf("xxhash of %q is %d, want %d", tt.key, got, tt.xxhash)
		}
		if got := murmur2([]byte(tt.key)); got != tt.murmur {
			t.Errorf("murmur of %q is %d, want %d", tt.key, got, tt.murmur)
		}
	}
}

// hashPolicies are the policies that hash.
var hashPolicies = []struct {
	name    string
	cluster resource.Cluster
}{
	{"ring hash", resource.Cluster{LB: resource.LBRingHash}},
	{"ring hash with murmur", resource.Cluster{LB: resource.LBRingHash, Balancing: resource.Balancing{Murmur: true, MinRing: 4096}}},
	{"maglev", resource.Cluster{LB: resource.LBMaglev}},
	{"small maglev", resource.Cluster{LB: resource.LBMaglev, Balancing: resource.Balancing{MaglevSize: 2039}}},
}

func hashMembers(n int, weight func(int) uint64) []member {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("192.0.2.%d:80", i))
	}
	var members []member
	for i, h := range testHosts(names...) {
		members = append(members, member{host: h, weight: weight(i)})
	}
	return members
}

func one(int) uint64 { return 1 }

func TestHashPoliciesSpreadByWeight(t *testing.T) {
	for _, p := range hashPolicies {
		t.Run(p.name, func(t *testing.T) {
			members := hashMembers(8, func(i int) uint64 { return uint64(1 + i%2*2) }) // 1, 3, 1, 3, ...
			g := newGroup(&config.Cluster{Cluster: &p.cluster}, members)
			counts := make([]int, len(members))
			random := rand.New(rand.NewPCG(1, 2))
			const n = 160000
			for range n {
				counts[g.table.find(random.Uint64(), 0)]++
			}
			for i, got := range counts {
				want := n / 16 * int(members[i].weight)
				if got < want*6/10 || got > want*15/10 {
					t.Errorf("host %d with weight %d got %d, want about %d", i, members[i].weight, got, want)
				}
			}
		})
	}
}

// A host that leaves takes its own share with it, and of the others little moves: in a
// ring because minimum_ring_size gives those that stay a few places more, in Maglev's
// table as section 5.3 of the paper says.
func TestHashPoliciesMoveLittle(t *testing.T) {
	for _, p := range hashPolicies {
		t.Run(p.name, func(t *testing.T) {
			members := hashMembers(10, one)
			c := &config.Cluster{Cluster: &p.cluster}
			before, after := newGroup(c, members), newGroup(c, slices.Delete(slices.Clone(members), 4, 5))
			random := rand.New(rand.NewPCG(3, 4))
			const n = 100000
			moved, left := 0, 0
			for range n {
				hash := random.Uint64()
				was, is := before.hosts[before.table.find(hash, 0)], after.hosts[after.table.find(hash, 0)]
				switch {
				case was == members[4].host:
					left++
				case was != is:
					moved++
				}
			}
			if left < n/20 || left > n/5 {
				t.Errorf("the host had %d of %d", left, n)
			}
			if moved > n*9/100 {
				t.Errorf("%d of %d moved between hosts that stayed", moved, n)
			}
		})
	}
}

// With as many places for each host nothing else moves at all.
func TestARingMovesOnlyTheShareOfTheHostThatLeft(t *testing.T) {
	members := hashMembers(8, one)
	rest := slices.Delete(slices.Clone(members), 3, 4)
	before := newRing(&resource.Balancing{MinRing: 800}, members)
	after := newRing(&resource.Balancing{MinRing: 700}, rest)
	random := rand.New(rand.NewPCG(7, 8))
	for range 100000 {
		hash := random.Uint64()
		was, is := members[before.find(hash, 0)].host, rest[after.find(hash, 0)].host
		if was != is && was != members[3].host {
			t.Fatalf("hash %d moved from %s to %s", hash, was, is)
		}
	}
}

func TestHashPoliciesDoNotDependOnTheOrder(t *testing.T) {
	for _, p := range hashPolicies {
		members := hashMembers(7, one)
		c := &config.Cluster{Cluster: &p.cluster}
		a := newGroup(c, members)
		other := slices.Clone(members)
		slices.Reverse(other)
		b := newGroup(c, other)
		random := rand.New(rand.NewPCG(5, 6))
		for range 1000 {
			hash := random.Uint64()
			if a.hosts[a.table.find(hash, 0)] != b.hosts[b.table.find(hash, 0)] {
				t.Fatalf("%s: the host of %d depends on the order", p.name, hash)
			}
		}
	}
}

func TestHashKeys(t *testing.T) {
	h := testHosts("192.0.2.1:80")[0]
	h.hostname = "a.example"
	labels := resource.Labels{{Key: "hash_key", Value: `"shard-1"`}}
	tests := []struct {
		b    resource.Balancing
		m    member
		want string
	}{
		{resource.Balancing{}, member{host: h}, "192.0.2.1:80"},
		{resource.Balancing{HashHostname: true}, member{host: h}, "a.example"},
		{resource.Balancing{HashHostname: true}, member{host: h, labels: labels}, "shard-1"},
	}
	for _, tt := range tests {
		if got := hashKey(&tt.b, &tt.m); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.b, got, tt.want)
		}
	}
}

func TestTheHashOfTheTargetDecides(t *testing.T) {
	m := manager(t, Options{})
	for _, p := range hashPolicies {
		c := cluster(p.name, resource.DiscoveryStatic, "192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80", "192.0.2.4:80")
		c.LB, c.Balancing = p.cluster.LB, p.cluster.Balancing
		seen := map[*Host]bool{}
		for hash := range uint64(200) {
			target := &Target{Hash: hash * 0x9e3779b97f4a7c15, HasHash: true}
			first := pick(t, m, c, target)
			seen[first] = true
			for range 5 {
				if pick(t, m, c, target) != first {
					t.Fatalf("%s: one hash, several hosts", p.name)
				}
			}
			if other := pick(t, m, c, target, first); other == first {
				t.Errorf("%s: the host to be avoided is chosen", p.name)
			}
		}
		if len(seen) != 4 {
			t.Errorf("%s: only %d of the hosts are used", p.name, len(seen))
		}
		if n := len(reached(t, m, c, nil, 200)); n != 4 {
			t.Errorf("%s: without a hash only %d of the hosts are used", p.name, n)
		}
	}
}

func TestRingSizeIsBounded(t *testing.T) {
	tests := []struct {
		hosts      int
		least, max uint64
		want       int
	}{
		{3, 1024, 0, 1026}, // a whole number for each
		{3, 10, 0, 12},
		{100, 1024, 50, 50},
	}
	for _, tt := range tests {
		r := newRing(&resource.Balancing{MinRing: tt.least, MaxRing: tt.max}, hashMembers(tt.hosts, one))
		if len(r.hashes) != tt.want {
			t.Errorf("%+v: %d places", tt, len(r.hashes))
		}
	}
}

func BenchmarkPickHashed(b *testing.B) {
	for _, p := range hashPolicies {
		b.Run(p.name, func(b *testing.B) {
			c := cluster("static", resource.DiscoveryStatic, "192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")
			c.LB, c.Balancing = p.cluster.LB, p.cluster.Balancing
			m := manager(b, Options{Source: newSource(c)})
			target := &Target{HasHash: true}
			b.ReportAllocs()
			for b.Loop() {
				target.Hash += 0x9e3779b97f4a7c15
				if _, err := m.Pick(b.Context(), c, target, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
