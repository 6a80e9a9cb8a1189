package xdsgen

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// Generator makes resources from the current snapshot, once for all nodes that get the
// same. It implements xds.Viewer, and is safe for concurrent use. It keeps what it made,
// for the next snapshot.
type Generator struct {
	memo  *memo
	place Place

	mu      sync.Mutex // guards what follows
	current *mesh.Snapshot
	number  uint64         // of current; the first is 1
	steps   []mesh.Changes // the last ones, each from one snapshot to the next
	labels  uint64         // number of the snapshot since which the labels count that count now
	views   map[string]*member
}

// maxSteps bounds the changes that a view can be behind and still know what changed.
const maxSteps = 64

// Place says where a proxy is, by its namespace and name, as "region/zone/subzone"; "": not
// known.
type Place func(namespace, name string) string

// NewGenerator begins with a snapshot. Proxies that do not say where they are are asked of
// place; nil knows of none.
func NewGenerator(s *mesh.Snapshot, place Place) *Generator {
	return &Generator{memo: newMemo(), place: place, current: s, number: 1, labels: 1, views: map[string]*member{}}
}

// Set replaces the snapshot; then tell the xDS server (Changed).
func (g *Generator) Set(s *mesh.Snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.memo.next()
	g.steps = append(g.steps[max(0, len(g.steps)+1-maxSteps):], mesh.Diff(g.current, s))
	g.number++
	if !slices.Equal(g.current.LabelKeys(), s.LabelKeys()) {
		g.labels = g.number
	}
	g.current = s
}

// Generate implements xds.Generator: all resources of a node, as if nobody shared them.
func (g *Generator) Generate(n *corev3.Node) (xds.Snapshot, error) {
	node, err := g.node(n)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	snapshot := g.current
	g.mu.Unlock()
	return generate(snapshot, node, g.memo)
}

// node reads a node, with its place.
func (g *Generator) node(n *corev3.Node) (mesh.Node, error) {
	node, err := DecodeNode(n)
	if err == nil && node.Locality == "" && g.place != nil {
		node.Locality = g.place(node.Namespace, node.Name)
	}
	return node, err
}

// View implements xds.Viewer.
func (g *Generator) View(_ context.Context, n *corev3.Node) (xds.View, error) {
	node, err := g.node(n)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	node = relevant(node, g.current.LabelKeys())
	k := viewKey(node)
	m := g.views[k]
	if m == nil || m.labels != g.labels {
		m = &member{generator: g, key: k, node: node, labels: g.labels}
		if node.OnDemand {
			m.view = newNamedView(m)
		} else {
			m.view = &fullView{member: m}
		}
		g.views[k] = m
	}
	m.users++
	return m.view, nil
}

var _ xds.Viewer = (*Generator)(nil)

// relevant is the node without what no resource depends on.
func relevant(n mesh.Node, labels []string) mesh.Node {
	all := n.Labels
	n.Name, n.Labels = "", map[string]string{}
	for _, k := range labels {
		if v, ok := all[k]; ok {
			n.Labels[k] = v
		}
	}
	return n
}

// viewKey is the same for nodes that get the same. A sidecar's addresses matter by their
// family only; a gateway's servers are bound by the service that has its addresses.
func viewKey(n mesh.Node) string {
	var k key
	k.text(string(n.Type), n.Namespace, n.Locality)
	k.labels(n.Labels)
	k.text(n.SystemCA)
	k.flag(n.DNSCapture)
	k.flag(n.Unprivileged)
	k.flag(n.OnDemand)
	k.flag(slices.ContainsFunc(n.Addresses, netip.Addr.Is4))
	k.flag(slices.ContainsFunc(n.Addresses, netip.Addr.Is6))
	if n.Type == mesh.NodeRouter {
		for _, a := range n.Addresses {
			k.text(a.String())
		}
	}
	return string(k.b)
}

// now is the current snapshot, its number, and what changed since an earlier one.
func (g *Generator) now(since uint64) (s *mesh.Snapshot, number uint64, changes mesh.Changes) {
	g.mu.Lock()
	defer g.mu.Unlock()
	behind := g.number - since
	if since == 0 || behind > uint64(len(g.steps)) {
		return g.current, g.number, mesh.Changes{All: true, Base: true}
	}
	for _, c := range g.steps[uint64(len(g.steps))-behind:] {
		changes.All = changes.All || c.All
		changes.Base = changes.Base || c.Base
		changes.Keys = append(changes.Keys, c.Keys...)
	}
	return g.current, g.number, changes
}

// member is what is the same for both kinds of views.
type member struct {
	generator *Generator
	key       string
	node      mesh.Node
	labels    uint64 // the generator's, when the view was made
	view      xds.View
	users     int // the generator's lock guards it
}

// Stale implements xds.View.
func (m *member) Stale() bool {
	m.generator.mu.Lock()
	defer m.generator.mu.Unlock()
	return m.labels != m.generator.labels
}

// Leave implements xds.View.
func (m *member) Leave() {
	g := m.generator
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.users--; m.users == 0 && g.views[m.key] == m {
		delete(g.views, m.key)
	}
}

// fullView has everything, for proxies that take all.
type fullView struct {
	*member
	mu     sync.Mutex
	number uint64
	made   *xds.Whole
}

// State implements xds.View.
func (v *fullView) State() (xds.State, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	snapshot, number, changes := v.generator.now(v.number)
	if number == v.number || v.node.Type == mesh.NodeSidecar && changes.None() {
		v.number = number
		return v.made, nil
	}
	all, err := generate(snapshot, v.node, v.generator.memo)
	if err != nil {
		return nil, err
	}
	v.made, v.number = xds.Next(v.made, all), number
	return v.made, nil
}

// Hold implements xds.View: all is kept anyway.
func (v *fullView) Hold(string, []string) {}

// Release implements xds.View.
func (v *fullView) Release(string, []string) {}
