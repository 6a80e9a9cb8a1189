package xds

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/backoff"
)

// FuzzModels runs the client's model against the server's, without a wire: every byte is
// one event (the client wants something else, the content changes, one message is
// delivered, the stream breaks). However they interleave, when all has been
// delivered the client has exactly what it wants of what there is.
func FuzzModels(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0x01, 0x82, 0x10, 0xc0, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef})
	f.Add([]byte{0xe4, 0x60, 0x80, 0x2f, 0x40, 0x80, 0xe1, 0xe4, 0x60, 0x80, 0x40, 0x80, 0xe5, 0x20, 0xc0})
	f.Add([]byte("the quick brown fox jumps over the lazy dog, then does it all again"))
	f.Fuzz(func(t *testing.T, events []byte) {
		if len(events) > 500 {
			return
		}
		for _, delta := range []bool{false, true} {
			for _, typeURL := range []string{ClusterType, ListenerType, RouteType, VirtualHostType} {
				playModels(t, typeURL, delta, events)
			}
		}
	})
}

func playModels(t *testing.T, typeURL string, delta bool, events []byte) {
	m := &models{t: t, typeURL: typeURL, delta: delta, current: map[string]Resource{}, handed: map[string]string{}}
	m.watch = newWatch(typeURL, delta)
	m.connect()
	for _, e := range events {
		m.event(e)
	}
	for turns := 0; m.deliver() || m.serve() || m.speak(); turns++ {
		if turns > 10*len(events)+100 {
			t.Fatalf("%s delta=%v: client and server never come to rest", short(typeURL), delta)
		}
	}
	m.drop()
	if w := m.watch; w.started && (w.wanted.wildcard != w.told.wildcard || !maps.Equal(w.wanted.names, w.told.names)) && (delta || !w.wanted.empty()) {
		t.Fatalf("%s delta=%v: the client wants %v and told %v", short(typeURL), delta, w.wanted, w.told)
	}
	want := map[string]string{}
	for n, r := range m.current {
		if m.watch.keeps(n) {
			want[n] = r.Version
		}
	}
	if !delta && !fullState(typeURL) { // a deletion is not told in this form
		maps.DeleteFunc(m.handed, func(n, _ string) bool { return m.watch.keeps(n) && want[n] == "" })
		maps.DeleteFunc(m.watch.have, func(n, _ string) bool { return m.watch.keeps(n) && want[n] == "" })
	}
	if d := cmp.Diff(want, m.handed); d != "" {
		t.Fatalf("%s delta=%v: the client's content (-want +got):\n%s", short(typeURL), delta, d)
	}
	if !maps.Equal(m.watch.have, m.handed) {
		t.Fatalf("the client believes to have %v, its handler has %v", m.watch.have, m.handed)
	}
	if m.sub == nil {
		return // never asked for anything
	}
	for n, h := range m.sub.held.all() {
		if h.state == ackPending && h.seq > 0 {
			t.Fatalf("%q was never answered", n.Value())
		}
	}
}

// models is a client and a server with the messages between them.
type models struct {
	t            *testing.T
	typeURL      string
	delta        bool
	watch        *watch
	sub          *subscription
	current, old map[string]Resource
	requests     []*request
	responses    []*response
	handed       map[string]string // what the handler has
}

func (m *models) connect() {
	m.watch.restart()
	m.sub, m.requests, m.responses = nil, nil, nil
}

func (m *models) event(e byte) {
	arg := int(e & 0x1f)
	switch e >> 5 {
	case 0:
		m.watch.want(newInterest(subset(arg)))
	case 1:
		m.old, m.current = m.current, m.content(arg)
		if m.sub == nil {
			break
		}
		if arg&1 == 0 {
			m.sub.review()
			break
		}
		names := Compare(Snapshot{m.typeURL: m.old}, Snapshot{m.typeURL: m.current})
		m.sub.reviewNames(names[m.typeURL])
	case 2:
		m.serve()
	case 3:
		m.speak()
	case 4, 5:
		m.deliver()
	case 6:
		m.drop()
	case 7:
		if arg == 0 {
			m.connect()
		} else if m.delta {
			m.ask(string(rune('a'+arg&3)), arg&4 != 0)
		}
	}
}

// ask asks for a name, or no longer; the handler throws away what it had of it. Who has
// everything gives nothing up.
func (m *models) ask(name string, more bool) {
	if !more && m.watch.wanted.wildcard {
		return
	}
	delete(m.handed, name)
	if more {
		m.watch.ask([]string{name}, nil)
	} else {
		m.watch.ask(nil, []string{name})
	}
}

// subset turns bits into names; no bits are the wildcard, the highest one alone is none.
func subset(bits int) []string {
	if bits == 0 {
		return nil
	}
	names := []string{}
	for i := range 4 {
		if bits&(1<<i) != 0 {
			names = append(names, string(rune('a'+i)))
		}
	}
	return names
}

func (m *models) content(bits int) map[string]Resource {
	out := map[string]Resource{}
	for i := range 4 {
		if bits&(1<<i) != 0 {
			n := string(rune('a' + i))
			out[n] = resource(m.t, m.typeURL, n, strconv.Itoa(bits>>4))
		}
	}
	return out
}

// serve is one turn of the server's sending side.
func (m *models) serve() bool {
	if m.sub == nil {
		return false
	}
	any := false
	for _, p := range []phase{phaseUpdate, phaseRemove} {
		for n := 0; ; n++ {
			if n > 100 {
				m.t.Fatal("take never ends")
			}
			now, old := &Whole{all: Snapshot{m.typeURL: m.current}}, &Whole{all: Snapshot{m.typeURL: m.old}}
			r, _ := m.sub.take(typeState{now, m.typeURL}, typeState{old, m.typeURL}, p, "1", 300)
			if r == nil {
				break
			}
			m.responses = append(m.responses, r)
			any = true
		}
	}
	m.old = nil
	return any
}

// speak is one turn of the client's sending side.
func (m *models) speak() bool {
	r := m.watch.next()
	if r != nil {
		m.requests = append(m.requests, r)
	}
	return r != nil
}

// deliver brings one message to each side.
func (m *models) deliver() bool {
	any := false
	if len(m.requests) > 0 {
		r := m.requests[0]
		m.requests, any = m.requests[1:], true
		if m.sub == nil {
			m.sub = newSubscription(m.typeURL, m.delta)
			m.sub.open(r)
		} else {
			m.sub.next(r)
		}
	}
	if len(m.responses) > 0 {
		r := m.responses[0]
		m.responses, any = m.responses[1:], true
		m.apply(r)
	}
	return any
}

func (m *models) apply(r *response) {
	in := &response{typeURL: r.typeURL, nonce: r.nonce, version: r.version, removed: r.removed}
	for _, res := range r.resources {
		if !m.delta {
			res = Resource{Body: res.Body} // all that the wire has
		}
		in.resources = append(in.resources, res)
	}
	m.drop()
	u, errs, _ := m.watch.difference(in)
	for _, res := range u.Changed {
		m.handed[res.Name] = res.Version
	}
	for _, n := range u.Absent {
		if m.handed[n] != "" || !m.watch.wanted.has(n) {
			m.t.Fatalf("%q is absent, and handed over or not asked for", n)
		}
	}
	for _, n := range u.Removed {
		delete(m.handed, n)
	}
	m.watch.applied(in, u, errs)
}

func (m *models) drop() {
	for _, n := range m.watch.dropped() {
		delete(m.handed, n)
	}
}

func TestDifference(t *testing.T) {
	a1, a2, b1 := resource(t, ListenerType, "a", "1"), resource(t, ListenerType, "a", "2"), resource(t, ListenerType, "b", "1")
	nameless := func(r Resource) Resource { return Resource{Body: r.Body} }
	wrong := nameless(resource(t, ClusterType, "a", "1"))
	broken := Resource{Body: &anypb.Any{TypeUrl: ListenerType, Value: []byte{0x0a, 0xff}}}
	for name, c := range map[string]struct {
		delta            bool
		have             []Resource
		come             []Resource
		removed          []string
		changed, gone    []string
		refused          []string
		handOverAnything bool
	}{
		"sotw: new and gone":                     {have: []Resource{a1}, come: []Resource{nameless(b1)}, changed: []string{"b"}, gone: []string{"a"}, handOverAnything: true},
		"sotw: the same":                         {have: []Resource{a1}, come: []Resource{nameless(a1)}},
		"sotw: changed":                          {have: []Resource{a1}, come: []Resource{nameless(a2)}, changed: []string{"a"}, handOverAnything: true},
		"sotw: unreadable, so nothing is absent": {have: []Resource{a1}, come: []Resource{broken}, refused: []string{""}},
		"sotw: of another type":                  {have: []Resource{a1}, come: []Resource{wrong, nameless(a1)}, refused: []string{""}},
		"sotw: twice":                            {come: []Resource{nameless(a1), nameless(a2)}, refused: []string{"a"}},
		"delta: absence means nothing":           {delta: true, have: []Resource{a1}, come: []Resource{b1}, changed: []string{"b"}, handOverAnything: true},
		"delta: removed":                         {delta: true, have: []Resource{a1}, removed: []string{"a", "a", "never had"}, gone: []string{"a"}, handOverAnything: true},
		"delta: no body":                         {delta: true, have: []Resource{a1}, come: []Resource{{Name: "a"}}, refused: []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatch(ListenerType, c.delta)
			w.want(newInterest(nil))
			w.known = true
			for _, r := range c.have {
				w.have[r.Name] = r.Version
			}
			u, errs, give := w.difference(&response{typeURL: ListenerType, resources: c.come, removed: c.removed})
			if got := names(u.Changed); !cmp.Equal(got, c.changed) {
				t.Errorf("changed %q, want %q", got, c.changed)
			}
			if !cmp.Equal(u.Removed, c.gone) {
				t.Errorf("removed %q, want %q", u.Removed, c.gone)
			}
			if got := slices.Sorted(maps.Keys(errs)); !cmp.Equal(got, c.refused) {
				t.Errorf("refused %q, want %q", got, c.refused)
			}
			if give != c.handOverAnything {
				t.Errorf("handed over: %v", give)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		failures int
		random   float64
		want     time.Duration
	}{
		{0, 0, 100 * ms}, {1, 0, 200 * ms}, {3, 0, 800 * ms}, {4, 0, time.Second}, {1 << 30, 0, time.Second},
		{0, 0.5, 75 * ms}, {1 << 30, 1, 500 * ms},
	} {
		if got := backoff.Pause(c.failures, 100*ms, time.Second, c.random); got != c.want {
			t.Errorf("backoff(%d, random %v) = %v, want %v", c.failures, c.random, got, c.want)
		}
	}
}

func TestNonce(t *testing.T) {
	for nonce, want := range map[string]string{
		"v/1": "1 v true", "a/b/7": "7 a/b true", "/3": "3  true", "": "0  false", "x": "0  false",
		"v/0": "0 v false", "v/-1": "0 v false", "v/": "0 v false", "v/99999999999999999999": "18446744073709551615 v false",
	} {
		seq, version, ok := parseNonce(nonce)
		if got := fmt.Sprint(seq, " ", version, " ", ok); got != want {
			t.Errorf("parseNonce(%q) = %q, want %q", nonce, got, want)
		}
	}
	if seq, v, ok := parseNonce(makeNonce("a/b", 12)); seq != 12 || v != "a/b" || !ok {
		t.Error("a nonce does not come back")
	}
}

func TestResourceName(t *testing.T) {
	for _, typeURL := range []string{ClusterType, EndpointType, ListenerType, RouteType} {
		if got, err := resourceName(resource(t, typeURL, "it", "x").Body); got != "it" || err != nil {
			t.Errorf("%s: %q, %v", short(typeURL), got, err)
		}
		if got, err := resourceName(resource(t, typeURL, "", "x").Body); err == nil {
			t.Errorf("%s without a name: %q", short(typeURL), got)
		}
	}
	if got, err := resourceName(resource(t, NameTableType, "", "x").Body); got != "" || err != nil {
		t.Errorf("name table: %q, %v", got, err)
	}
}

func FuzzResourceName(f *testing.F) {
	f.Add([]byte("\x0a\x01a"))
	f.Add([]byte("\x0a\x05a"))
	f.Add([]byte("\x13\x0a\x01a\x14\x0a\x01b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := resourceName(&anypb.Any{TypeUrl: ClusterType, Value: b})
		if (err == nil) == (name == "") {
			t.Errorf("name %q, error %v", name, err)
		}
		if err != nil {
			return
		}
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), "last")
		if again, err := resourceName(&anypb.Any{TypeUrl: ClusterType, Value: b}); again != "last" || err != nil {
			t.Errorf("with a further name: %q, %v", again, err)
		}
	})
}
