package dns

import (
	"container/list"
	"net/netip"
	"sync"
)

// pool hands addresses of one /16 out to names. It keeps at most max of them: the
// least recently used name makes room. Addresses are given in turn, so that one that
// became free is not given to another name before the whole range was walked.
type pool struct {
	base netip.Addr
	max  int

	mu     sync.Mutex
	next   uint16
	byName map[string]*list.Element
	byAddr map[uint16]*list.Element
	used   *list.List // of assigned, most recently used first
}

type assigned struct {
	name string
	low  uint16 // the last two bytes of the address
}

// newPool needs a /16, and max well below 65534.
func newPool(prefix netip.Prefix, max int) *pool {
	return &pool{
		base: prefix.Masked().Addr(), max: max, next: 1,
		byName: map[string]*list.Element{}, byAddr: map[uint16]*list.Element{}, used: list.New(),
	}
}

// assign gives the name its address, a new one if it has none.
func (p *pool) assign(name string) netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.byName[name]; e != nil {
		p.used.MoveToFront(e)
		return p.addr(e.Value.(assigned).low)
	}
	if p.used.Len() >= p.max {
		e := p.used.Back()
		old := p.used.Remove(e).(assigned)
		delete(p.byName, old.name)
		delete(p.byAddr, old.low)
	}
	for p.byAddr[p.next] != nil || p.next == 0 || p.next == 0xffff {
		p.next++
	}
	a := assigned{name: name, low: p.next}
	p.next++
	e := p.used.PushFront(a)
	p.byName[name], p.byAddr[a.low] = e, e
	return p.addr(a.low)
}

// name is whose address it is, "" when nobody's; it counts as a use.
func (p *pool) name(addr netip.Addr) string {
	b := addr.As4()
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.byAddr[uint16(b[2])<<8|uint16(b[3])]
	if e == nil {
		return ""
	}
	p.used.MoveToFront(e)
	return e.Value.(assigned).name
}

func (p *pool) addr(low uint16) netip.Addr {
	b := p.base.As4()
	b[2], b[3] = byte(low>>8), byte(low)
	return netip.AddrFrom4(b)
}

func (p *pool) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used.Len()
}
