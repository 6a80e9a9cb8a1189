package xds

import (
	"context"
	"maps"
	"slices"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Viewer is a Generator that makes what nodes get once for all nodes that get the same.
type Viewer interface {
	Generator
	// View is the view that a node belongs to now; ctx is its stream's. Leave ends its use.
	View(ctx context.Context, node *corev3.Node) (View, error)
}

// View is what a group of nodes gets. It is safe for concurrent use.
type View interface {
	// State is what they get now, made anew when the input changed.
	State() (State, error)
	// Stale says that the node may belong to another view since the input changed.
	Stale() bool
	// Hold says that a stream subscribes to resources of a type by name, Release that it
	// does so no longer. What nobody holds need not be kept.
	Hold(typeURL string, names []string)
	Release(typeURL string, names []string)
	Leave()
}

// State is a view at one moment. It never changes.
type State interface {
	// Sequence counts up with each change of the view's content; it is never 0.
	Sequence() uint64
	// All are the resources that a wildcard subscription gets, by name.
	All(typeURL string) map[string]Resource
	// Find is a resource by its name; it may be one that All does not have.
	Find(typeURL, name string) (Resource, bool)
	// Changed are the names of the resources that have changed, appeared or gone since an
	// earlier sequence of the view, each once; all that was held then is judged.
	// False: that is not known, or nearly everything has changed.
	Changed(typeURL string, since uint64) ([]string, bool)
}

// Awaiting is a State with resources of which it is not known yet whether they exist: nothing
// is said of them until a later state knows.
type Awaiting interface {
	State
	Awaits(typeURL, name string) bool
}

// typeState is the resources of one type in a state; without one there are none.
type typeState struct {
	state   State
	typeURL string
}

func (c typeState) all() map[string]Resource {
	if c.state == nil {
		return nil
	}
	return c.state.All(c.typeURL)
}

func (c typeState) find(name string) (Resource, bool) {
	if c.state == nil {
		return Resource{}, false
	}
	return c.state.Find(c.typeURL, name)
}

func (c typeState) awaits(name string) bool {
	s, ok := c.state.(Awaiting)
	return ok && s.Awaits(c.typeURL, name)
}

// Whole is a State that has all resources, and knows what changed since the one before it.
type Whole struct {
	sequence uint64
	all      Snapshot
	history  History
}

// History is what the last changes of a view did: for each, type -> names. It is a value:
// it never changes. The zero value is empty.
type History struct{ steps []map[string][]string }

// maxHistory bounds the changes that a state can tell of one by one.
const maxHistory = 64

// Add is the history with one more step. Nil names mean that everything has changed.
func (h History) Add(names map[string][]string) History {
	return History{append(slices.Clone(h.steps[max(0, len(h.steps)+1-maxHistory):]), names)}
}

// Since joins the last steps; see State.Changed.
func (h History) Since(steps uint64, typeURL string) ([]string, bool) {
	if steps > uint64(len(h.steps)) {
		return nil, false
	}
	recent := h.steps[uint64(len(h.steps))-steps:]
	if len(recent) == 1 {
		return recent[0][typeURL], recent[0] != nil
	}
	seen := map[string]struct{}{}
	for _, names := range recent {
		if names == nil {
			return nil, false
		}
		for _, n := range names[typeURL] {
			seen[n] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(seen)), true
}

// Next is the state after before, which may be nil: the first one. Where the content is the
// same, it is before itself.
func Next(before *Whole, all Snapshot) *Whole {
	if before == nil {
		return &Whole{sequence: 1, all: all}
	}
	names := Compare(before.all, all)
	if names != nil && len(names) == 0 {
		return before
	}
	return &Whole{sequence: before.sequence + 1, all: all, history: before.history.Add(names)}
}

// Compare gives the names of what differs, by type; nil when that is most of it.
func Compare(before, after Snapshot) map[string][]string {
	names := map[string][]string{}
	changed, total := 0, 0
	for typeURL, resources := range after {
		old := before[typeURL]
		total += len(resources)
		for name, r := range resources {
			if was, ok := old[name]; !ok || was.Version != r.Version {
				names[typeURL] = append(names[typeURL], name)
				changed++
			}
		}
	}
	for typeURL, resources := range before {
		for name := range resources {
			if _, ok := after[typeURL][name]; !ok {
				names[typeURL] = append(names[typeURL], name)
				changed++
			}
		}
	}
	if changed > 100 && changed > total/2 {
		return nil
	}
	return names
}

// Sequence implements State.
func (w *Whole) Sequence() uint64 { return w.sequence }

// All implements State.
func (w *Whole) All(typeURL string) map[string]Resource { return w.all[typeURL] }

// Find implements State.
func (w *Whole) Find(typeURL, name string) (Resource, bool) {
	r, ok := w.all[typeURL][name]
	return r, ok
}

// Changed implements State.
func (w *Whole) Changed(typeURL string, since uint64) ([]string, bool) {
	if since > w.sequence {
		return nil, false
	}
	return w.history.Since(w.sequence-since, typeURL)
}

// ownView is the view of one stream, for generators whose nodes share nothing.
type ownView struct {
	server *Server
	node   *corev3.Node

	mu      sync.Mutex
	made    *Whole
	changes uint64 // of the server, that made has
}

func (v *ownView) State() (State, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	changes := v.server.changes.Load()
	if v.made != nil && v.changes == changes {
		return v.made, nil
	}
	all, err := v.server.generator.Generate(v.node)
	if err != nil {
		return nil, err
	}
	v.made, v.changes = Next(v.made, all), changes
	return v.made, nil
}

func (v *ownView) Stale() bool              { return false }
func (v *ownView) Hold(string, []string)    {}
func (v *ownView) Release(string, []string) {}
func (v *ownView) Leave()                   {}
