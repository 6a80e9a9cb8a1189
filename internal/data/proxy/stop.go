package proxy

import (
	"cmp"
	"net"
	"slices"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// OpenListener is a listener with open sockets.
type OpenListener struct {
	Name      string
	Addresses []net.Addr // of its sockets
}

// OpenListeners are the listeners that accept, by name.
func (p *Proxy) OpenListeners() []OpenListener {
	p.acceptors.mu.Lock()
	defer p.acceptors.mu.Unlock()
	out := make([]OpenListener, 0, len(p.acceptors.byKey))
	for _, have := range p.acceptors.byKey {
		l := OpenListener{Name: have.listener.Load().Name}
		for _, s := range have.sockets {
			l.Addresses = append(l.Addresses, s.Addr())
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b OpenListener) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// StopListeners stops accepting, for good: on all listeners, or on those whose
// traffic_direction is INBOUND. Connections that were accepted go on.
func (p *Proxy) StopListeners(inboundOnly bool) {
	if inboundOnly {
		p.acceptors.closeInbound()
		return
	}
	p.acceptors.closeAll()
}

// DrainConnections asks live HTTP connections to end after the request under way: all of
// them, or those of listeners whose traffic_direction is INBOUND.
func (p *Proxy) DrainConnections(inboundOnly bool) {
	for _, c := range p.snapshot() {
		if !inboundOnly || c.acceptor.listener.Load().Direction == resource.DirectionInbound {
			c.drain()
		}
	}
}

// closeInbound closes the listeners for inbound traffic, now and in later configurations.
func (a *acceptors) closeInbound() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inboundClosed = true
	for key, have := range a.byKey {
		if have.listener.Load().Direction == resource.DirectionInbound {
			have.close()
			delete(a.byKey, key)
		}
	}
}
