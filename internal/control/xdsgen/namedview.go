package xdsgen

import (
	"sync"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// namedView has what its sidecars ask for by name: made when the first asks, kept until
// the last is gone. What is asked for by the same host is made together, from the part of
// the mesh that has to do with the host; a change makes only those anew whose part it
// touches.
type namedView struct {
	*member
	mu     sync.Mutex
	number uint64 // of the snapshot that at is made from
	at     *moment
	hosts  map[string]*host
	unmade map[*host]struct{} // those that nobody has looked at yet
	// touched by has the hosts by what was looked up for them.
	touchedBy map[string]map[*host]struct{}
}

// host is what sidecars ask for by one host.
type host struct {
	name  string
	held  map[typedName]int // how many streams hold it
	named *named            // nil: not made yet
}

type typedName struct{ typeURL, name string }

// moment is a namedView at one time. It implements xds.State.
type moment struct {
	view     *namedView
	sequence uint64
	builder  *builder // read-only
	base     xds.Snapshot
	history  xds.History
}

func newNamedView(m *member) *namedView {
	return &namedView{member: m, hosts: map[string]*host{}, unmade: map[*host]struct{}{}, touchedBy: map[string]map[*host]struct{}{}}
}

// Hold implements xds.View.
func (v *namedView) Hold(typeURL string, names []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range names {
		name := hostIn(typeURL, n)
		if name == "" {
			continue
		}
		h := v.hosts[name]
		if h == nil {
			h = &host{name: name, held: map[typedName]int{}}
			v.hosts[name], v.unmade[h] = h, struct{}{}
		}
		h.held[typedName{typeURL, n}]++
	}
}

// Release implements xds.View.
func (v *namedView) Release(typeURL string, names []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range names {
		h := v.hosts[hostIn(typeURL, n)]
		if h == nil {
			continue
		}
		k := typedName{typeURL, n}
		if h.held[k]--; h.held[k] <= 0 {
			delete(h.held, k)
		}
		if len(h.held) == 0 {
			v.set(h, nil)
			delete(v.hosts, h.name)
			delete(v.unmade, h)
		}
	}
}

// set replaces what was made of a host.
func (v *namedView) set(h *host, n *named) {
	if h.named != nil {
		for _, k := range h.named.keys {
			delete(v.touchedBy[k], h)
			if len(v.touchedBy[k]) == 0 {
				delete(v.touchedBy, k)
			}
		}
	}
	h.named = n
	if n == nil {
		return
	}
	delete(v.unmade, h)
	for _, k := range n.keys {
		if v.touchedBy[k] == nil {
			v.touchedBy[k] = map[*host]struct{}{}
		}
		v.touchedBy[k][h] = struct{}{}
	}
}

// State implements xds.View.
func (v *namedView) State() (xds.State, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	snapshot, number, changes := v.generator.now(v.number)
	if number == v.number {
		return v.at, nil
	}
	if v.at != nil && changes.None() {
		// The moment stays: what is made from its snapshot is the same.
		v.number = number
		return v.at, nil
	}
	next, err := v.step(snapshot, changes)
	if err != nil {
		return nil, err
	}
	v.at, v.number = next, number
	return next, nil
}

// step makes the moment after the present one.
func (v *namedView) step(snapshot *mesh.Snapshot, changes mesh.Changes) (*moment, error) {
	next := &moment{view: v, sequence: 1}
	if v.at != nil && !changes.Base {
		next.builder = v.at.builder.with(snapshot)
		next.base = v.at.base
	} else {
		b := newBuilder(snapshot, v.node, nil)
		base, err := b.base()
		if err != nil {
			return nil, err
		}
		next.builder, next.base = b, base
	}
	if v.at == nil {
		return next, nil
	}
	names := xds.Compare(v.at.base, next.base)
	if names == nil { // so much that it is not listed: whoever holds something looks at all
		names = map[string][]string{}
		changes.All = true
	}
	everything := changes.All
	routes, locked := v.at.builder.known.same(next.builder.known)
	changes.All = changes.All || !locked
	for h := range v.touched(changes, !routes) {
		v.remake(h, next, names)
	}
	for h := range v.unmade { // who asked may be answered from the moment before
		for k := range h.held {
			names[k.typeURL] = append(names[k.typeURL], k.name)
		}
	}
	next.sequence = v.at.sequence + 1
	next.history = v.at.history.Add(names)
	if everything {
		next.history = v.at.history.Add(nil)
	}
	return next, nil
}

// touched are the hosts that changes touch; routes: there are other route configurations.
func (v *namedView) touched(changes mesh.Changes, routes bool) map[*host]struct{} {
	out := map[*host]struct{}{}
	if changes.All || routes {
		for _, h := range v.hosts {
			if changes.All || h.named != nil && h.named.elsewhere {
				out[h] = struct{}{}
			}
		}
	}
	for _, k := range changes.Keys {
		for h := range v.touchedBy[k] {
			out[h] = struct{}{}
		}
	}
	return out
}

// remake makes anew what is held of a host, and adds to names what differs.
func (v *namedView) remake(h *host, at *moment, names map[string][]string) {
	before := h.named
	if before == nil {
		return // it is in unmade
	}
	v.set(h, at.builder.named(h.name))
	for k := range h.held {
		was, had := before.find(k.typeURL, k.name)
		is, has := h.named.find(k.typeURL, k.name)
		if had != has || was.Version != is.Version {
			names[k.typeURL] = append(names[k.typeURL], k.name)
		}
	}
}

// with is the builder for another snapshot, where what all resources share is the same.
func (b *builder) with(snapshot *mesh.Snapshot) *builder {
	c := *b
	c.mesh, c.scope = snapshot, nil
	return &c
}

// Sequence implements xds.State.
func (m *moment) Sequence() uint64 { return m.sequence }

// All implements xds.State.
func (m *moment) All(typeURL string) map[string]xds.Resource { return m.base[typeURL] }

// Find implements xds.State.
func (m *moment) Find(typeURL, name string) (xds.Resource, bool) {
	if r, ok := m.base[typeURL][name]; ok {
		return r, true
	}
	host := hostIn(typeURL, name)
	if host == "" {
		return xds.Resource{}, false
	}
	return m.view.named(m, host).find(typeURL, name)
}

// named is what there is of a host at a moment. It is kept where somebody holds it.
func (v *namedView) named(m *moment, name string) *named {
	v.mu.Lock()
	defer v.mu.Unlock()
	h := v.hosts[name]
	if h == nil || v.at != m {
		return m.builder.named(name)
	}
	if h.named == nil {
		v.set(h, m.builder.named(name))
	}
	return h.named
}

// Changed implements xds.State.
func (m *moment) Changed(typeURL string, since uint64) ([]string, bool) {
	if since > m.sequence {
		return nil, false
	}
	return m.history.Since(m.sequence-since, typeURL)
}
