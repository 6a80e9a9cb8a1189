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

// Retire has HTTP connections end with their next request, those too that come from now
// on: all of them, or those of listeners whose traffic_direction is INBOUND. The proxy goes
// on to accept, for clients that have not heard yet that they should go elsewhere.
func (p *Proxy) Retire(inboundOnly bool) {
	p.retiring.inbound.Store(true)
	if !inboundOnly {
		p.retiring.all.Store(true)
	}
	for _, c := range p.snapshot() {
		c.mu.Lock()
		conn := c.serving // where it is nil yet, the connection will ask itself
		c.mu.Unlock()
		if conn != nil && p.retires(c) {
			conn.Retire()
		}
	}
}

// retires reports that a connection is to end with its next request.
func (p *Proxy) retires(c *connection) bool {
	return p.retiring.all.Load() || p.retiring.inbound.Load() && c.acceptor.listener.Load().Direction == resource.DirectionInbound
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
