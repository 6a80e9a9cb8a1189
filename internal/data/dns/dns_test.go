package dns

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a config.Source whose name table a test sets.
type source struct{ current atomic.Pointer[config.Config] }

func (s *source) Current() *config.Config              { return s.current.Load() }
func (s *source) Subscribe() (<-chan struct{}, func()) { return make(chan struct{}), func() {} }

// set takes lines of a name and its addresses.
func (s *source) set(lines ...string) *config.Config {
	t := &resource.NameTable{Names: map[string]resource.NameInfo{}}
	for _, l := range lines {
		f := strings.Fields(l)
		var info resource.NameInfo
		for _, a := range f[1:] {
			if p, err := netip.ParsePrefix(a); err == nil {
				info.Prefixes = append(info.Prefixes, p)
				continue
			}
			info.Addresses = append(info.Addresses, netip.MustParseAddr(a))
		}
		t.Names[f[0]] = info
	}
	cfg := &config.Config{Names: t}
	s.current.Store(cfg)
	return cfg
}

// recorder keeps the entries; the server hands it each one for itself.
type recorder struct {
	mu      sync.Mutex
	entries []record.Entry
	logs    [][]resource.AccessLog
}

func (r *recorder) Record(e *record.Entry, logs []resource.AccessLog) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, *e)
	r.logs = append(r.logs, logs)
}

// told are the entries as "reason type name", and forgets them.
func (r *recorder) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.entries {
		out = append(out, fmt.Sprintf("%s %s %s", e.Reason, e.Method, e.Host))
	}
	r.entries = nil
	return out
}

var registry = []string{
	"www.example.com 240.240.0.1",
	"dual.example.com 192.0.2.7 2001:db8::7",
	"known.example.com",
	"range.example.com 192.0.2.0/24",
	"*.wild.example.com",
	"*.deep.wild.example.com 192.0.2.9",
	"istio-egressgateway.istio-system.svc.cluster.local 240.240.0.2",
	"istio-egressgateway.istio-system 240.240.0.2",
}

func TestAssign(t *testing.T) {
	tests := []struct {
		name  string
		query string
		allow bool
		kind  Kind
		key   string
		want  string // addresses, or the range of an address
	}{
		{"exact", "www.example.com", false, Table, "www.example.com", "240.240.0.1"},
		{"case and final dot", "WWW.Example.COM.", false, Table, "www.example.com", "240.240.0.1"},
		{"two families", "dual.example.com", false, Table, "dual.example.com", "192.0.2.7 2001:db8::7"},
		{"known without address", "known.example.com", false, Bound, "known.example.com", "240.241.0.0/16"},
		{"known with a CIDR", "range.example.com", false, Ranged, "range.example.com", ""},
		{"wildcard", "a.wild.example.com", false, Bound, "*.wild.example.com", "240.241.0.0/16"},
		{"wildcard over several labels", "a.b.wild.example.com", false, Bound, "*.wild.example.com", "240.241.0.0/16"},
		{"the longest wildcard", "a.deep.wild.example.com", false, Table, "*.deep.wild.example.com", "192.0.2.9"},
		{"a wildcard's own name below another", "deep.wild.example.com", false, Bound, "*.wild.example.com", "240.241.0.0/16"},
		{"a wildcard is not its suffix", "wild.example.com", false, Unknown, "", "240.242.0.0/16"},
		{"the wildcard itself is not a name", "*.wild.example.com", false, Unknown, "", ""},
		{"a suffix in the middle of a label", "awild.example.com", false, Unknown, "", "240.242.0.0/16"},
		{"short name of a service", "istio-egressgateway.istio-system", false, Table, "istio-egressgateway.istio-system", "240.240.0.2"},
		{"unknown", "evil.example", false, Unknown, "", "240.242.0.0/16"},
		{"unknown single label", "evil", false, Unknown, "", "240.242.0.0/16"},
		{"unknown, everything allowed", "evil.example", true, Outside, "*", ""},
		{"known, everything allowed", "known.example.com", true, Bound, "known.example.com", "240.241.0.0/16"},
		{"not a host name", `a\032b.wild.example.com`, false, Unknown, "", ""},
		{"the root", ".", false, Unknown, "", ""},
		{"localhost", "localhost", true, Local, "", "127.0.0.1 ::1"},
		{"below localhost", "App.LocalHost.", false, Local, "", "127.0.0.1 ::1"},
		{"below a search domain", "www.example.com.default.svc.cluster.local", false, Search, "", ""},
		{"known below a search domain", "istio-egressgateway.istio-system.svc.cluster.local", false, Table, "istio-egressgateway.istio-system.svc.cluster.local", "240.240.0.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := &source{}
			lines := registry
			if tt.allow {
				lines = append(slices.Clone(lines), "*")
			}
			cfg := src.set(lines...)
			s := New(Options{Source: src, SearchDomains: []string{"default.svc.cluster.local", "svc.cluster.local."}})
			a := s.Assign(cfg, tt.query)
			if a.Kind != tt.kind || a.Key != tt.key {
				t.Errorf("kind %s, key %q; want %s, %q", a.Kind, a.Key, tt.kind, tt.key)
			}
			if p, err := netip.ParsePrefix(tt.want); err == nil {
				if len(a.Addresses) != 1 || !p.Contains(a.Addresses[0]) {
					t.Errorf("addresses %v, want one of %s", a.Addresses, p)
				}
				if again := s.Assign(cfg, tt.query); again.Addresses[0] != a.Addresses[0] {
					t.Error("another address at the second time")
				}
				return
			}
			var got []string
			for _, addr := range a.Addresses {
				got = append(got, addr.String())
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("addresses %q, want %q", s, tt.want)
			}
		})
	}
	s := New(Options{Source: &source{}})
	for _, cfg := range []*config.Config{nil, {}} {
		if a := s.Assign(cfg, "www.example.com"); a.Kind != NoTable || len(a.Addresses) != 0 {
			t.Errorf("without a table: %+v", a)
		}
	}
}

// A proxy that cannot ask for bindings gets connections to addresses that are real.
func TestAssignWithoutBindings(t *testing.T) {
	src := &source{}
	cfg := src.set(append(slices.Clone(registry), "*.wild.example.com")...)
	s := New(Options{Source: src, Recorder: &recorder{}, NoBindings: true})
	for name, want := range map[string]Kind{
		"www.example.com": Table, "known.example.com": Outside, "any.wild.example.com": Outside, "no.such.example": Unknown,
	} {
		if a := s.Assign(cfg, name); a.Kind != want || want == Outside && len(a.Addresses) > 0 {
			t.Errorf("%s: %v %v, want %v", name, a.Kind, a.Addresses, want)
		}
	}
}

func TestBinding(t *testing.T) {
	src := &source{}
	cfg := src.set(append(slices.Clone(registry), "one.example 192.0.2.50", "two.example 192.0.2.50")...)
	s := New(Options{Source: src})
	bound := s.Assign(cfg, "a.wild.example.com").Addresses[0]
	sunk := s.Assign(cfg, "Later.Example").Addresses[0]
	check := func(addr netip.Addr, name string, unregistered bool) {
		t.Helper()
		want := decide.Binding{Name: name, Unregistered: unregistered, Strict: true}
		if diff := cmp.Diff(want, s.Binding(addr)); diff != "" {
			t.Errorf("Binding(%s) (-want +got)\n%s", addr, diff)
		}
	}
	check(netip.MustParseAddr("240.240.0.1"), "www.example.com", false)
	check(netip.MustParseAddr("::ffff:240.240.0.1"), "www.example.com", false)
	check(netip.MustParseAddr("2001:db8::7"), "dual.example.com", false)
	check(netip.MustParseAddr("192.0.2.50"), "", false) // of two names
	check(netip.MustParseAddr("192.0.2.9"), "", false)  // of a wildcard
	check(netip.MustParseAddr("8.8.8.8"), "", false)
	check(netip.MustParseAddr("240.241.77.77"), "", false) // never handed out
	check(bound, "a.wild.example.com", false)
	check(sunk, "later.example", true)
	if diff := cmp.Diff([]string{"one.example", "two.example"}, s.Names(netip.MustParseAddr("192.0.2.50"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"later.example"}, s.Names(sunk)); diff != "" {
		t.Error(diff)
	}

	// The registry changes: addresses that clients remember change their meaning.
	dst := netip.AddrPortFrom(sunk, 443)
	cfg = src.set("later.example 240.240.0.9")
	check(sunk, "later.example", false)
	check(bound, "a.wild.example.com", true)
	check(netip.MustParseAddr("240.240.0.1"), "", false)
	check(netip.MustParseAddr("240.240.0.9"), "later.example", false)
	if got := s.Destination(cfg, dst); got.String() != "240.240.0.9:443" {
		t.Errorf("Destination = %s", got)
	}
	cfg = src.set("later.example")
	check(sunk, "later.example", false)
	if got := s.Destination(cfg, dst); got != dst {
		t.Errorf("Destination = %s", got)
	}
	for _, other := range []string{"8.8.8.8:53", "240.242.99.99:80"} {
		if got := s.Destination(cfg, netip.MustParseAddrPort(other)); got.String() != other {
			t.Errorf("Destination(%s) = %s", other, got)
		}
	}
	src.set("*")
	check(sunk, "later.example", false)
	src.current.Store(nil)
	check(sunk, "later.example", true)
}

func TestPoolIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	src := &source{}
	cfg := src.set("*.wild.example")
	rec := &recorder{}
	s := New(Options{Source: src, Recorder: rec})
	used := s.Assign(cfg, "used.wild.example").Addresses[0]
	idle := s.Assign(cfg, "idle.wild.example").Addresses[0]
	live := s.Assign(cfg, "live.example").Addresses[0]
	seen := map[netip.Addr]string{}
	for i := range 100_000 {
		s.Assign(cfg, fmt.Sprintf("n%d.wild.example", i))
		a := s.Assign(cfg, fmt.Sprintf("n%d.example", i)).Addresses[0]
		if i < maxAssigned-1 {
			if before, ok := seen[a]; ok {
				t.Fatalf("%s was given to %s and %d", a, before, i)
			}
			seen[a] = fmt.Sprint(i)
		}
		if !SinkholeRange.Contains(a) || a == live || a.As4()[3] == 0 && a.As4()[2] == 0 || a == netip.MustParseAddr("240.242.255.255") {
			t.Fatalf("%s was given to name %d", a, i)
		}
		if i%1000 == 0 && (s.Binding(used).Name != "used.wild.example" || s.Binding(live).Name != "live.example") {
			t.Fatalf("a binding in use was given away after %d names", i)
		}
	}
	if st := s.Stats(); st.Bindings != maxAssigned || st.Sinkholes != maxAssigned {
		t.Errorf("%+v", st)
	}
	if got := s.Binding(idle).Name; got == "idle.wild.example" {
		t.Error("a binding that nobody uses is kept forever")
	}
	for _, p := range []*pool{s.bindings, s.sinkholes} {
		if len(p.byName) != maxAssigned || len(p.byAddr) != maxAssigned {
			t.Errorf("%d names, %d addresses", len(p.byName), len(p.byAddr))
		}
	}
}

func TestServerIsSafeForConcurrentUse(t *testing.T) {
	src := &source{}
	src.set(registry...)
	s := New(Options{Source: src, Recorder: &recorder{}})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				name := fmt.Sprintf("n%d.wild.example.com", i%50)
				a := s.Assign(src.Current(), name)
				if len(a.Addresses) == 1 && s.Binding(a.Addresses[0]).Name != name {
					t.Errorf("%s is bound to another name", name)
				}
				s.Assign(src.Current(), fmt.Sprintf("g%d-%d.example", g, i))
				s.Binding(netip.MustParseAddr("240.240.0.1"))
				if i%100 == 0 {
					src.set(registry...)
				}
			}
		})
	}
	wg.Wait()
}

func TestReverseAddress(t *testing.T) {
	tests := map[string]string{
		"1.0.240.240.in-addr.arpa":   "240.240.0.1",
		"0.240.240.in-addr.arpa":     "",
		"1.1.0.240.240.in-addr.arpa": "",
		"256.0.240.240.in-addr.arpa": "",
		"in-addr.arpa":               "",
		"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": "2001:db8::7",
		"g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": "",
		"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa":   "",
		"www.example.com": "",
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		got, ok := reverseAddress(name)
		if want := tests[name]; ok != (want != "") || ok && got.String() != want {
			t.Errorf("reverseAddress(%q) = %s, %v; want %q", name, got, ok, want)
		}
	}
}

func BenchmarkBinding(b *testing.B) {
	src := &source{}
	cfg := src.set(registry...)
	s := New(Options{Source: src})
	a := s.Assign(cfg, "a.wild.example.com").Addresses[0]
	b.ReportAllocs()
	for b.Loop() {
		s.Binding(a)
	}
}
