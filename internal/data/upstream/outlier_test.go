package upstream

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// detecting is a cluster with outlier detection as istiod would ask for it.
func detecting(change func(*resource.OutlierDetection), eps ...string) *config.Cluster {
	c := cluster("c", resource.DiscoveryStatic, eps...)
	c.Outlier = &resource.OutlierDetection{
		Consecutive5xx: resource.Enforced{Threshold: 3, Percent: 100},
		Interval:       10 * time.Second, BaseEjection: 30 * time.Second, MaxEjection: 300 * time.Second, MaxPercent: 100,
	}
	if change != nil {
		change(c.Outlier)
	}
	return c
}

func report(h *Host, statuses ...int) {
	for _, s := range statuses {
		h.Answered(s)
	}
}

func TestConsecutiveFailuresEject(t *testing.T) {
	gateway := func(d *resource.OutlierDetection) {
		d.Consecutive5xx.Percent, d.ConsecutiveGateway = 0, resource.Enforced{Threshold: 2, Percent: 100}
	}
	split := func(d *resource.OutlierDetection) {
		d.SplitLocal, d.ConsecutiveLocal = true, resource.Enforced{Threshold: 2, Percent: 100}
	}
	tests := []struct {
		name   string
		change func(*resource.OutlierDetection)
		report func(*Host)
		want   bool
	}{
		{"three of 500", nil, func(h *Host) { report(h, 500, 503, 500) }, true},
		{"two of 500", nil, func(h *Host) { report(h, 500, 500) }, false},
		{"an answer in between", nil, func(h *Host) { report(h, 500, 500, 404, 500, 500) }, false},
		{"no answer counts too", nil, func(h *Host) { report(h, 500); h.TimedOut(); h.ConnectionLost() }, true},
		{"gateway errors", gateway, func(h *Host) { report(h, 502, 504) }, true},
		{"a 500 is no gateway error", gateway, func(h *Host) { report(h, 502, 500, 503) }, false},
		{"not enforced", func(d *resource.OutlierDetection) { d.Consecutive5xx.Percent = 0 }, func(h *Host) { report(h, 500, 500, 500) }, false},
		{"no threshold", func(d *resource.OutlierDetection) { d.Consecutive5xx.Threshold = 0 }, func(h *Host) { report(h, 500, 500, 500) }, false},
		{"local failures apart", split, func(h *Host) { h.TimedOut(); h.ConnectionLost() }, true},
		{"local failures apart, a connection in between", split, func(h *Host) { h.TimedOut(); h.localSuccess(false); h.TimedOut() }, false},
		{"local failures are not 5xx when apart", split, func(h *Host) { report(h, 500, 500); h.TimedOut() }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := manager(t, Options{})
			c := detecting(tt.change, "192.0.2.1:80", "192.0.2.2:80")
			h := pick(t, m, c, nil)
			tt.report(h)
			if got := len(reached(t, m, c, nil, 50)) == 1; got != tt.want {
				t.Errorf("ejected: %v", got)
			}
		})
	}
}

func TestEjectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Options{})
		defer m.Close()
		c := detecting(nil, "192.0.2.1:80", "192.0.2.2:80")
		h := pick(t, m, c, nil)
		in := func() bool { return slices.Contains(reached(t, m, c, nil, 50), h.String()) }
		// Each ejection that follows at once is longer by the base.
		for _, length := range []time.Duration{30 * time.Second, time.Minute, 90 * time.Second} {
			report(h, 500, 500, 500)
			if in() {
				t.Fatal("not ejected")
			}
			pass(length - time.Second)
			if in() {
				t.Fatalf("back before %s", length)
			}
			pass(2 * time.Second)
			if !in() {
				t.Fatalf("not back after %s", length)
			}
		}
		// Each good interval makes the next one shorter.
		pass(time.Minute)
		report(h, 500, 500, 500)
		pass(31 * time.Second)
		if !in() {
			t.Error("good intervals are not heeded")
		}
	})
}

func TestMaxEjectionPercent(t *testing.T) {
	tests := []struct {
		percent uint32
		always  bool
		want    int
	}{{10, false, 0}, {10, true, 1}, {50, false, 2}, {99, false, 3}, {100, false, 4}}
	for _, tt := range tests {
		m := manager(t, Options{})
		c := detecting(func(d *resource.OutlierDetection) { d.MaxPercent, d.AlwaysEjectOne = tt.percent, tt.always },
			"192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80", "192.0.2.4:80")
		ejected := 0
		seen := map[*Host]bool{}
		for len(seen) < 4 {
			h, err := m.Pick(t.Context(), c, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if seen[h] {
				continue
			}
			seen[h] = true
			if len(seen) == 4 {
				for each := range seen {
					report(each, 500, 500, 500)
				}
			}
		}
		for each := range seen {
			if each.ejected() {
				ejected++
			}
		}
		if ejected != tt.want {
			t.Errorf("%d percent: %d of 4 ejected, want %d", tt.percent, ejected, tt.want)
		}
		if tt.want == 4 {
			if _, err := m.Pick(t.Context(), c, nil, nil); err == nil || err.Reason != reason.NoHealthyUpstream {
				t.Errorf("all are ejected, but: %v", err)
			}
		}
	}
}

func TestEjectionLeadsToTheNextPriority(t *testing.T) {
	m := manager(t, Options{})
	c := detecting(nil)
	c.Endpoints.Localities = []resource.Locality{localityOf(0, "192.0.2.1:80"), localityOf(1, "192.0.2.2:80")}
	report(pick(t, m, c, nil), 500, 500, 500)
	if got := reached(t, m, c, nil, 50); !slices.Equal(got, []string{"192.0.2.2:80"}) {
		t.Error(got)
	}
}

func TestRatesEject(t *testing.T) {
	failure := func(d *resource.OutlierDetection) {
		d.FailurePercent = resource.RateRule{Enforced: resource.Enforced{Threshold: 50, Percent: 100}, Hosts: 3, Volume: 10}
	}
	success := func(d *resource.OutlierDetection) {
		d.SuccessRate = resource.RateRule{Enforced: resource.Enforced{Threshold: 1500, Percent: 100}, Hosts: 3, Volume: 10}
	}
	tests := []struct {
		name   string
		change func(*resource.OutlierDetection)
		bad, n int // failures of n requests at one of five hosts
		want   bool
	}{
		{"failure percentage", failure, 12, 20, true},
		{"too few failures", failure, 8, 20, false},
		{"too few requests", failure, 4, 5, false},
		{"success rate", success, 12, 20, true},
		{"no outlier", success, 0, 20, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewManager(Options{})
				defer m.Close()
				c := detecting(func(d *resource.OutlierDetection) { d.Consecutive5xx.Percent = 0; tt.change(d) },
					"192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80", "192.0.2.4:80", "192.0.2.5:80")
				hosts := map[string]*Host{}
				for range 200 {
					h := pick(t, m, c, nil)
					hosts[h.String()] = h
				}
				for i := range tt.n {
					for name, h := range hosts {
						status := 200
						if name == "192.0.2.1:80" && i < tt.bad {
							status = 500
						}
						h.Answered(status)
					}
				}
				pass(11 * time.Second)
				hosts["192.0.2.2:80"].Answered(200)
				for name, h := range hosts {
					if want := tt.want && name == "192.0.2.1:80"; h.ejected() != want {
						t.Errorf("%s: ejected: %v", name, h.ejected())
					}
				}
			})
		})
	}
}

func TestARefusedConnectionCounts(t *testing.T) {
	m := manager(t, Options{})
	c := detecting(nil, refused(t), listen(t, hello).String())
	for range 20 {
		conn, h, err := m.Connect(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		h.Closed(resource.PriorityDefault)
		for _, each := range m.all()[0].hosts {
			each.failedAt.Store(0) // so that it is tried again at once
		}
	}
	if got := reached(t, m, c, nil, 50); len(got) != 1 {
		t.Error(got)
	}
}

func TestReportsDoNotAllocate(t *testing.T) {
	m := manager(t, Options{})
	h := pick(t, m, detecting(nil, "192.0.2.1:80", "192.0.2.2:80"), nil)
	if n := testing.AllocsPerRun(100, func() { h.Answered(200) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
