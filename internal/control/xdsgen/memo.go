package xdsgen

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// memo keeps parts of resources from one generation to the next, each by the sum of
// everything that it is made from, so that a change costs what it changes. What the
// last snapshot but one needed is forgotten. A nil memo keeps nothing.
type memo struct {
	clusters parts[madeCluster]
	hosts    parts[*madeHost]
	chains   parts[*listenerv3.FilterChain]
}

// madeCluster is a cluster, and its endpoints where EDS gives them; without names
// there is none.
type madeCluster struct{ cluster, endpoints xds.Resource }

// madeHost is a virtual host, frozen, with what a table must know of it.
type madeHost struct {
	name    string
	domains []string
	host    *routev3.VirtualHost
}

// next begins the parts of another snapshot.
func (m *memo) next() {
	m.clusters.next()
	m.hosts.next()
	m.chains.next()
}

type sum [sha256.Size]byte

// parts are the made parts of one kind.
type parts[V any] struct {
	mu          sync.Mutex
	now, before map[sum]V
}

// next lets the parts of before go that nobody asked for since. Where nobody asked for any,
// there was no generation in between.
func (p *parts[V]) next() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.now) > 0 {
		p.before, p.now = p.now, make(map[sum]V, len(p.now))
	}
}

func newMemo() *memo {
	return &memo{
		clusters: parts[madeCluster]{now: map[sum]madeCluster{}},
		hosts:    parts[*madeHost]{now: map[sum]*madeHost{}},
		chains:   parts[*listenerv3.FilterChain]{now: map[sum]*listenerv3.FilterChain{}},
	}
}

// made gives the part with this sum, which build makes if need be. What build calls
// false is not kept.
func (p *parts[V]) made(key sum, build func() (V, bool)) V {
	p.mu.Lock()
	v, ok := p.now[key]
	if !ok {
		if v, ok = p.before[key]; ok {
			p.now[key] = v
		}
	}
	p.mu.Unlock()
	if ok {
		return v
	}
	v, ok = build()
	p.mu.Lock()
	defer p.mu.Unlock()
	if ok {
		p.now[key] = v
	}
	return v
}

// key collects what a part is made from. Every value has its length or a fixed size,
// so different lists of values have different bytes.
type key struct{ b []byte }

func (k *key) sum() sum { return sha256.Sum256(k.b) }

func (k *key) text(list ...string) {
	for _, s := range list {
		k.b = append(binary.AppendUvarint(k.b, uint64(len(s))), s...)
	}
}

func (k *key) texts(list []string) {
	k.number(uint64(len(list)))
	k.text(list...)
}

func (k *key) number(n uint64) { k.b = binary.AppendUvarint(k.b, n) }

func (k *key) flag(b bool) {
	k.b = append(k.b, 0)
	if b {
		k.b[len(k.b)-1] = 1
	}
}

func (k *key) labels(m map[string]string) {
	k.number(uint64(len(m)))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		k.text(name, m[name])
	}
}

func (k *key) prefixes(list []netip.Prefix) {
	k.number(uint64(len(list)))
	for _, p := range list {
		k.text(p.String())
	}
}

// service is all of a service that resources are made from. Who sees it is not in
// it: the scope decides that.
func (k *key) service(s *mesh.Service) {
	k.text(s.Host, s.Namespace, string(s.Resolution), s.Source.Kind, s.Source.Namespace, s.Source.Name)
	k.number(uint64(len(s.Sources)))
	for _, r := range s.Sources {
		k.text(r.Kind, r.Namespace, r.Name)
	}
	k.number(uint64(len(s.Ports)))
	for _, p := range s.Ports {
		k.text(p.Name, string(p.Protocol), p.Declared)
		k.number(uint64(p.Number))
		k.number(uint64(p.TargetPort))
	}
	k.prefixes(s.Addresses)
	k.number(uint64(len(s.AutoAddresses)))
	for _, a := range s.AutoAddresses {
		k.text(a.String())
	}
	k.number(uint64(len(s.Endpoints)))
	for i := range s.Endpoints {
		k.endpoint(&s.Endpoints[i])
	}
	k.flag(s.Internal)
	k.text(string(s.Registry), s.ExternalName)
	k.texts(s.Aliases)
	k.labels(s.Selector)
	k.flag(s.Headless)
	k.flag(s.ClientProtocol)
	k.texts(s.SubjectAltNames)
}

func (k *key) endpoint(e *mesh.Endpoint) {
	k.text(e.Address, e.Locality, e.Network, e.ServiceAccount, e.Namespace, e.Hostname)
	k.number(uint64(e.Weight))
	k.flag(e.Bound)
	k.flag(e.MutualTLS)
	k.labels(e.Labels)
	k.number(uint64(len(e.Ports)))
	for _, name := range slices.Sorted(maps.Keys(e.Ports)) {
		k.text(name)
		k.number(uint64(e.Ports[name]))
	}
}

// chain is all that a TCP chain is made from, without the settings of a rule.
func (k *key) chain(c *chain) {
	k.texts(c.sni)
	k.prefixes(c.prefixes)
	k.text(c.target.statPrefix, string(c.metadata.ProtoReflect().GetUnknown()))
	k.flag(c.metadata == nil)
	k.number(uint64(len(c.target.clusters)))
	for _, w := range c.target.clusters {
		k.text(w.name)
		k.number(uint64(w.weight))
	}
}

// environment is the sum of all that parts are made from besides services: what the
// node is, and what the mesh is like.
func (b *builder) environment() sum {
	var k key
	config, err := marshal.Marshal(b.mesh.Config())
	if err != nil {
		b.fail(err)
	}
	for _, l := range b.logs.traffic {
		log, err := marshal.Marshal(l)
		if err != nil {
			b.fail(err)
		}
		k.text(string(log))
	}
	k.text(string(config), b.mesh.Domain(), b.mesh.ConnectTimeout().String(), b.mesh.PeersSum())
	k.text(string(b.node.Type), b.node.Namespace, b.node.Locality, b.node.SystemCA)
	k.flag(b.node.DNSCapture)
	k.flag(slices.ContainsFunc(b.node.Addresses, netip.Addr.Is4))
	k.flag(slices.ContainsFunc(b.node.Addresses, netip.Addr.Is6))
	return k.sum()
}

// key is one that begins with the environment, and a word for the kind of part.
func (b *builder) key(kind string) *key {
	b.scratch.b = append(b.scratch.b[:0], b.surroundings[:]...)
	b.scratch.text(kind)
	return &b.scratch
}
