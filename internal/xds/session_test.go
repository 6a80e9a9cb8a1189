package xds

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// eachForm runs a test for both forms of the protocol.
func eachForm(t *testing.T, f func(t *testing.T, delta bool)) {
	for name, delta := range map[string]bool{"sotw": false, "delta": true} {
		t.Run(name, func(t *testing.T) { f(t, delta) })
	}
}

type session struct {
	gen    *generator
	server *Server
	store  *store
	client *Client
}

func newSession(t *testing.T, delta bool, first Snapshot) *session {
	t.Helper()
	s := &session{gen: &generator{snap: first}, store: newStore()}
	s.server = NewServer(s.gen, ServerOptions{})
	s.client = NewClient(pipe(t, s.server), ClientOptions{
		Node: node("sidecar~1"), Delta: delta, Handler: s.store,
		MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
	})
	return s
}

func (s *session) change(snap Snapshot) {
	s.gen.set(snap, nil)
	s.server.Changed()
}

func (s *session) typeStatus(typeURL string) TypeStatus {
	for _, n := range s.server.Status() {
		for _, ts := range n.Types {
			if ts.TypeURL == typeURL {
				return ts
			}
		}
	}
	return TypeStatus{}
}

// settled waits until the client has answered everything.
func (s *session) settled(t *testing.T) {
	t.Helper()
	eventually(t, s.store.changed, "everything is answered", func() bool {
		for _, n := range s.server.Status() {
			for _, ts := range n.Types {
				if len(ts.Pending) > 0 {
					return false
				}
			}
		}
		return true
	})
}

func world(t *testing.T, words ...string) Snapshot {
	return snapshot(t, map[string][]string{
		ClusterType: words, EndpointType: words, ListenerType: words, RouteType: words, NameTableType: {"=table"},
	})
}

func TestFollow(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		first := world(t, "a=1", "b=1")
		s := newSession(t, delta, first)
		follow(s.store, s.client)
		run(t, s.client)
		s.store.await(t, first)
		s.settled(t)

		// One route changes: nothing else is handed over.
		s.store.lines()
		second := snapshot(t, map[string][]string{
			ClusterType: {"a=1", "b=1"}, EndpointType: {"a=1", "b=1"}, ListenerType: {"a=1", "b=1"},
			RouteType: {"a=1", "b=2"}, NameTableType: {"=table"},
		})
		s.change(second)
		s.store.await(t, second)
		if got, want := s.store.lines(), []string{"RDS +b"}; !cmp.Equal(got, want) {
			t.Errorf("after a change of one route: %v, want %v", got, want)
		}

		// b goes, c comes: everything of b is gone in the end.
		third := world(t, "a=1", "c=1")
		s.change(third)
		s.store.await(t, third)
		got := s.store.lines()
		if add, gone := line(got, "CDS", "+c"), line(got, "CDS", "-b"); add < 0 || gone < add ||
			line(got, "LDS", "-b") > gone || line(got, "EDS", "-b") < 0 || line(got, "RDS", "-b") < 0 {
			t.Errorf("order of updates: %q", got)
		}
		s.settled(t)
	})
}

func line(lines []string, kind, word string) int {
	return slices.IndexFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, kind+" ") && slices.Contains(strings.Fields(l), word)
	})
}

func TestEmptyAnswer(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		s := newSession(t, delta, Snapshot{})
		s.client.Subscribe(ListenerType, nil)
		run(t, s.client)
		s.store.await(t, Snapshot{ListenerType: {}})
		if got, want := s.store.lines(), []string{"LDS"}; !cmp.Equal(got, want) {
			t.Errorf("diary %v, want %v", got, want)
		}
	})
}

func TestNack(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		first := snapshot(t, map[string][]string{ListenerType: {"a=1", "b=1"}})
		s := newSession(t, delta, first)
		bad := resource(t, ListenerType, "b", "bad")
		s.store.refuse[bad.Version] = true
		s.client.Subscribe(ListenerType, nil)
		run(t, s.client)
		s.store.await(t, first)
		s.settled(t)

		s.change(snapshot(t, map[string][]string{ListenerType: {"a=2", "b=bad"}}))
		eventually(t, s.store.changed, "the server knows of the NACK", func() bool {
			return s.typeStatus(ListenerType).Nack != nil
		})
		got := s.typeStatus(ListenerType)
		if n := got.Nack; n.NodeID != "sidecar~1" || n.TypeURL != ListenerType || n.Version != got.Version ||
			!strings.Contains(n.Message, `b: "b" is not to my taste`) {
			t.Errorf("nack: %+v of version %q", n, got.Version)
		}
		if got.Accepted == got.Version || !slices.Contains(got.Refused, "b") {
			t.Errorf("status after the NACK: %+v", got)
		}
		// The good one of the same response is in use, the bad one is as before.
		s.store.await(t, snapshot(t, map[string][]string{ListenerType: {"a=2", "b=1"}}))

		fixed := snapshot(t, map[string][]string{ListenerType: {"a=2", "b=3"}})
		s.change(fixed)
		s.store.await(t, fixed)
		eventually(t, s.store.changed, "the NACK is over", func() bool {
			ts := s.typeStatus(ListenerType)
			return ts.Nack == nil && ts.Accepted == ts.Version && len(ts.Refused)+len(ts.Pending) == 0
		})
	})
}

func TestExplicitNames(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		all := snapshot(t, map[string][]string{ListenerType: {"a=1", "b=1", "c=1"}, RouteType: {"a=1", "b=1", "c=1"}})
		pick := func(words ...string) Snapshot {
			return snapshot(t, map[string][]string{ListenerType: words, RouteType: words})
		}
		s := newSession(t, delta, all)
		for _, typeURL := range []string{ListenerType, RouteType} {
			s.client.Subscribe(typeURL, []string{"a", "missing"})
		}
		run(t, s.client)
		s.store.await(t, pick("a=1"))
		for _, step := range []struct {
			names []string
			want  Snapshot
		}{
			{[]string{"a", "b"}, pick("a=1", "b=1")},
			{[]string{"c"}, pick("c=1")},
			{[]string{}, pick()},
			{[]string{"a", "c"}, pick("a=1", "c=1")},
			{[]string{"*"}, all},
		} {
			for _, typeURL := range []string{ListenerType, RouteType} {
				s.client.Subscribe(typeURL, step.names)
			}
			s.store.await(t, step.want)
			s.settled(t)
		}
		// What appears later under a name that was asked for is sent.
		for _, typeURL := range []string{ListenerType, RouteType} {
			s.client.Subscribe(typeURL, []string{"a", "missing"})
		}
		s.store.await(t, pick("a=1"))
		s.change(pick("a=1", "missing=1", "other=1"))
		s.store.await(t, pick("a=1", "missing=1"))
	})
}

func TestReconnectResendsNothing(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		first := world(t, "a=1", "b=1", "c=1")
		gen, st := &generator{snap: first}, newStore()
		conn := &switchConn{}
		server := NewServer(gen, ServerOptions{})
		conn.use(pipe(t, server))
		client := NewClient(conn, ClientOptions{
			Node: node("n"), Delta: delta, Handler: st, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond,
		})
		follow(st, client)
		run(t, client)
		st.await(t, first)
		(&session{server: server, store: st}).settled(t)

		// While the client is away b changes and c goes.
		second := world(t, "a=1", "b=2")
		gen.set(second, nil)
		st.lines()
		conn.forget()
		again := NewServer(gen, ServerOptions{})
		conn.use(pipe(t, again))
		server.Close()
		st.await(t, second)
		for _, l := range st.lines() {
			if slices.Contains(strings.Fields(l), "+a") {
				t.Errorf("handed over again though it did not change: %q", l)
			}
		}
		if !delta {
			return
		}
		eventually(t, st.changed, "names are subscribed again", func() bool {
			ts := (&session{server: again}).typeStatus(RouteType)
			return ts.Subscribed == 2 && len(ts.Pending) == 0
		})
		for _, r := range conn.seen() {
			if strings.HasSuffix(r, " a") {
				t.Errorf("sent again though it did not change: %q; all: %q", r, conn.seen())
			}
		}
	})
}

func TestGeneratorFails(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		first := snapshot(t, map[string][]string{ListenerType: {"a=1"}})
		s := newSession(t, delta, first)
		s.client.Subscribe(ListenerType, nil)
		run(t, s.client)
		s.store.await(t, first)
		s.gen.set(nil, errors.New("no such mesh"))
		s.server.Changed()
		eventually(t, s.store.changed, "the status tells", func() bool {
			st := s.server.Status()
			return len(st) == 1 && st[0].Error == "no such mesh"
		})
		if !s.store.has(first) {
			t.Error("the last good configuration is gone")
		}
		second := snapshot(t, map[string][]string{ListenerType: {"a=2"}})
		s.change(second)
		s.store.await(t, second)
		eventually(t, nil, "the error is gone", func() bool { return s.server.Status()[0].Error == "" })
	})
}

// Ten thousand changes while a client is busy are few pushes, and it ends with the last.
func TestChangedCoalesces(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		first := snapshot(t, map[string][]string{ListenerType: {"a=1"}})
		s := newSession(t, delta, first)
		release := make(chan struct{})
		entered := make(chan struct{}, 1)
		s.store.onApply = func(Update) { poke(entered); <-release }
		s.client.Subscribe(ListenerType, nil)
		run(t, s.client)
		<-entered
		for range 10_000 {
			s.server.Changed()
		}
		last := snapshot(t, map[string][]string{ListenerType: {"a=2"}})
		s.change(last)
		close(release)
		s.store.await(t, last)
		if got := len(s.store.lines()); got != 2 {
			t.Errorf("%d updates, want 2", got)
		}
	})
}

func TestManyResources(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		var words []string
		text := strings.Repeat("x", 17<<10)
		for i := range 3000 { // 50 MB: more than one delta response
			words = append(words, strings.Repeat("n", 10)+string(rune('a'+i%26))+time.Duration(i).String()+"="+text)
		}
		all := snapshot(t, map[string][]string{ListenerType: words})
		s := newSession(t, delta, all)
		s.client.Subscribe(ListenerType, nil)
		run(t, s.client)
		s.store.await(t, all)
		if n := len(s.store.lines()); delta && n < 2 || !delta && n != 1 {
			t.Errorf("%d responses", n)
		}
	})
}

func TestSubscribeBeforeRunAndStatus(t *testing.T) {
	s := newSession(t, true, snapshot(t, map[string][]string{ClusterType: {"a=1"}}))
	if got := s.client.Status(); got.Connected || got.Streams != 0 {
		t.Errorf("status before Run: %+v", got)
	}
	s.client.Subscribe(ClusterType, nil)
	stop := run(t, s.client)
	eventually(t, s.store.changed, "connected", func() bool { return s.client.Status().Connected })
	stop()
	if got := s.client.Status(); got.Connected || got.Streams != 1 {
		t.Errorf("status after Run: %+v", got)
	}
	eventually(t, nil, "the server forgot the node", func() bool { return len(s.server.Status()) == 0 })
}

func TestRunRefusesBadOptions(t *testing.T) {
	for name, o := range map[string]ClientOptions{
		"no handler": {Node: node("n")},
		"no node":    {Handler: newStore()},
	} {
		if err := NewClient(nil, o).Run(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
