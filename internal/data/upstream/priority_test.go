package upstream

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// The examples are those of Envoy's documentation ("Priority levels", "Panic threshold").
func TestLoads(t *testing.T) {
	h := func(healthy, total uint64) health { return health{total, healthy} }
	no, yes := false, true
	tests := []struct {
		name      string
		tiers     []health
		threshold float64
		share     []uint32
		panics    []bool
	}{
		{"whole", []health{h(10, 10), h(10, 10)}, 50, []uint32{100, 0}, []bool{no, no}},
		{"72% is enough", []health{h(72, 100), h(100, 100)}, 50, []uint32{100, 0}, []bool{no, no}},
		{"71% is nearly enough", []health{h(71, 100), h(100, 100)}, 50, []uint32{99, 1}, []bool{no, no}},
		{"half", []health{h(50, 100), h(100, 100)}, 50, []uint32{70, 30}, []bool{no, no}},
		{"a quarter", []health{h(25, 100), h(100, 100)}, 50, []uint32{35, 65}, []bool{no, no}},
		{"nothing in the first", []health{h(0, 100), h(100, 100)}, 50, []uint32{0, 100}, []bool{no, no}},
		{"three levels", []health{h(25, 100), h(25, 100), h(100, 100)}, 50, []uint32{35, 35, 30}, []bool{no, no, no}},
		{"less than whole: both panic, spread by hosts", []health{h(25, 100), h(25, 100)}, 50, []uint32{50, 50}, []bool{yes, yes}},
		{"one panics", []health{h(5, 100), h(65, 100)}, 50, []uint32{8, 92}, []bool{yes, no}},
		{"none is healthy", []health{h(0, 10), h(0, 30)}, 50, []uint32{25, 75}, []bool{yes, yes}},
		{"no threshold", []health{h(0, 10), h(0, 30)}, 0, []uint32{0, 0}, []bool{no, no}},
		{"no threshold, little health", []health{h(1, 100), h(0, 100)}, 0, []uint32{100, 0}, []bool{no, no}},
		{"no hosts", []health{h(0, 0)}, 50, []uint32{0}, []bool{yes}},
		{"nothing", nil, 50, []uint32{}, []bool{}},
	}
	for _, tt := range tests {
		share, panics := loads(tt.tiers, defaultOverprovisioning, tt.threshold)
		if diff := cmp.Diff(tt.share, share); diff != "" {
			t.Errorf("%s: share (-want +got)\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.panics, panics); diff != "" {
			t.Errorf("%s: panics (-want +got)\n%s", tt.name, diff)
		}
	}
}

// of is a cluster of localities.
func of(name string, localities ...resource.Locality) *config.Cluster {
	c := cluster(name, resource.DiscoveryEDS)
	c.Endpoints.Localities = localities
	return c
}

// counts picks n times.
func counts(t *testing.T, m *Manager, c *config.Cluster, target *Target, n int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		out[pick(t, m, c, target).String()]++
	}
	return out
}

// about fails unless got is within a fifth of want.
func about(t *testing.T, what string, got, want int) {
	t.Helper()
	if got < want*8/10 || got > want*12/10 {
		t.Errorf("%s: %d, want about %d", what, got, want)
	}
}

func TestLoadSpillsOverToTheNextPriority(t *testing.T) {
	m := manager(t, Options{})
	c := of("spill", localityOf(0, "192.0.2.1:80", "!192.0.2.2:80"), localityOf(1, "192.0.2.3:80"))
	got := counts(t, m, c, nil, 10000)
	about(t, "the first", got["192.0.2.1:80"], 7000)
	about(t, "the second", got["192.0.2.3:80"], 3000)

	// The hash decides the priority too.
	c.LB = resource.LBRingHash
	for hash := range uint64(100) {
		if n := len(reached(t, m, c, &Target{Hash: hash, HasHash: true}, 10)); n != 1 {
			t.Errorf("hash %d leads to %d hosts", hash, n)
		}
	}

	c = of("overprovisioned", localityOf(0, "192.0.2.1:80", "!192.0.2.2:80"), localityOf(1, "192.0.2.3:80"))
	c.Endpoints.Overprovisioning = 200
	if got := reached(t, m, c, nil, 100); !slices.Equal(got, []string{"192.0.2.1:80"}) {
		t.Error(got)
	}
}

func TestPanic(t *testing.T) {
	m := manager(t, Options{})
	c := of("panic", localityOf(0, "192.0.2.1:80", "!192.0.2.2:80", "!192.0.2.3:80"))
	if got := reached(t, m, c, nil, 100); len(got) != 1 {
		t.Errorf("without a threshold %v is used", got)
	}
	c = of("panic 2", localityOf(0, "192.0.2.1:80", "!192.0.2.2:80", "!192.0.2.3:80"))
	c.Balancing.PanicThreshold = 50
	if got := reached(t, m, c, nil, 100); len(got) != 3 {
		t.Errorf("in panic only %v is used", got)
	}
}

func TestLocalityWeights(t *testing.T) {
	m := manager(t, Options{})
	localities := func() []resource.Locality {
		a, b, off := localityOf(0, "192.0.2.1:80", "192.0.2.2:80"), localityOf(0, "192.0.2.3:80"), localityOf(0, "192.0.2.4:80")
		a.Weight, b.Weight = 80, 20
		return []resource.Locality{a, b, off}
	}
	c := of("weighted", localities()...)
	c.LB, c.Balancing.LocalityWeighted = resource.LBRandom, true
	got := counts(t, m, c, nil, 10000)
	about(t, "half of the large", got["192.0.2.1:80"], 4000)
	about(t, "the small", got["192.0.2.3:80"], 2000)
	if got["192.0.2.4:80"] != 0 {
		t.Error("a locality without weight is used")
	}

	c = of("half sick", localities()...)
	c.LB, c.Balancing.LocalityWeighted = resource.LBRandom, true
	c.Endpoints.Localities[0].Endpoints[1].Unhealthy = true
	got = counts(t, m, c, nil, 10000)
	about(t, "what is left of the large, 80 * 0.7", got["192.0.2.1:80"], 7368)

	c = of("not weighted", localities()...)
	c.LB = resource.LBRandom
	got = counts(t, m, c, nil, 10000)
	for host, n := range got {
		about(t, host, n, 2500)
	}
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Options{})
		defer m.Close()
		c := cluster("slow", resource.DiscoveryStatic, "192.0.2.1:80", "192.0.2.2:80")
		c.Balancing.SlowStart = resource.SlowStart{Window: 100 * time.Second, Aggression: 1, MinWeight: 10}
		pick(t, m, c, nil)
		pass(time.Hour)
		next := *c
		next.Endpoints = &resource.Endpoints{Localities: []resource.Locality{localityOf(0, "192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")}}
		share := func() int { return counts(t, m, &next, nil, 9000)["192.0.2.3:80"] }
		// Of each turn of three it keeps the part p: p / (2 + p).
		about(t, "new", share(), 9000*10/210)
		pass(50 * time.Second)
		about(t, "half warm", share(), 9000*50/250)
		pass(time.Minute)
		about(t, "warm", share(), 3000)
	})
}

func labelled(l resource.Locality, labels ...resource.Labels) resource.Locality {
	for i := range l.Endpoints {
		l.Endpoints[i].Labels = labels[i]
	}
	return l
}

func label(kv ...string) (out resource.Labels) {
	for i := 0; i < len(kv); i += 2 {
		out = append(out, resource.Label{Key: kv[i], Value: kv[i+1]})
	}
	return out
}

func TestSubsets(t *testing.T) {
	const a, b, d, all = "192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80", "192.0.2.1:80 192.0.2.2:80 192.0.2.3:80"
	byVersion := resource.SubsetSelector{Keys: []string{"version"}, Fallback: resource.SubsetNotDefined}
	byBoth := resource.SubsetSelector{Keys: []string{"stage", "version"}, Fallback: resource.SubsetKeys, FallbackKeys: []string{"version"}}
	strict := resource.SubsetSelector{Keys: []string{"stage"}}
	cfg := resource.Subsets{Selectors: []resource.SubsetSelector{byVersion, byBoth, strict}, Default: label("version", "1"), Fallback: resource.SubsetDefault}
	anyOf := func(f resource.SubsetFallback) resource.Subsets { out := cfg; out.Fallback = f; return out }
	tests := []struct {
		name string
		cfg  resource.Subsets
		ask  resource.Labels
		want string // "": no host
	}{
		{"one key", cfg, label("version", "2"), b + " " + d},
		{"two keys", cfg, label("stage", "canary", "version", "2"), d},
		{"two keys, none has both: fewer keys", cfg, label("stage", "prod", "version", "2"), b + " " + d},
		{"no such value: the default subset", cfg, label("version", "9"), a},
		{"no such key: the default subset", cfg, label("colour", "red"), a},
		{"nothing asked: the default subset", cfg, nil, a},
		{"the selector says no", cfg, label("stage", "nowhere"), ""},
		{"any endpoint", anyOf(resource.SubsetAnyEndpoint), label("version", "9"), all},
		{"no fallback", anyOf(resource.SubsetNoFallback), label("version", "9"), ""},
		{"no fallback and nothing asked", anyOf(resource.SubsetNoFallback), nil, ""},
		{"another type of value", cfg, label("version", `"2"`), a},
	}
	m := manager(t, Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := of(tt.name, labelled(localityOf(0, a, b, d), label("version", "1"), label("stage", "dev", "version", "2"), label("stage", "canary", "version", "2")))
			c.Subsets = &tt.cfg
			got := map[string]bool{}
			for range 100 {
				h, err := m.Pick(t.Context(), c, &Target{Subset: tt.ask.Match()}, nil)
				if err != nil {
					if err.Reason != reason.NoHealthyUpstream || err.Flag != "UH" {
						t.Fatal(err)
					}
					continue
				}
				got[h.String()] = true
			}
			var want []string
			for _, host := range []string{a, b, d} {
				if strings.Contains(tt.want, host) {
					want = append(want, host)
				}
			}
			if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got)), cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAnEmptyDefaultSubsetGivesWay(t *testing.T) {
	m := manager(t, Options{})
	c := cluster("c", resource.DiscoveryStatic, "192.0.2.1:80")
	c.Subsets = &resource.Subsets{Fallback: resource.SubsetDefault, Default: label("a", "1"), PanicAny: true,
		Selectors: []resource.SubsetSelector{{Keys: []string{"a"}, Fallback: resource.SubsetNotDefined}}}
	pick(t, m, c, nil)
}
