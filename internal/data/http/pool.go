package http

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/upstream"
)

// sweepEvery is how often idle upstream connections are looked at.
const sweepEvery = 5 * time.Second

// defaultUpstreamIdle is Envoy's idle_timeout of upstream connections.
const defaultUpstreamIdle = time.Hour

// pool keeps the idle upstream connections by host. Connections of a host that is
// gone from the configuration are closed.
type pool struct {
	limit int      // of one host
	most  int64    // of all together
	hosts sync.Map // *upstream.Host -> *hostPool
	idle  atomic.Int64
	// shared counts the HTTP/2 connections, and watching waits for those who watch them.
	shared   atomic.Int64
	watching sync.WaitGroup

	mu       sync.Mutex
	sweeper  *time.Timer
	sweeping bool
	wanted   bool // something became idle since the sweep began
	closed   bool
}

// hostPool has the idle connections of one host, the last used last.
type hostPool struct {
	all  *atomic.Int64 // idle connections of all hosts
	mu   sync.Mutex
	idle []*upstreamConn
	gone bool

	shared sharedPool
	// speaks1: the host chose HTTP/1.1 where it could have HTTP/2.
	speaks1 atomic.Bool
}

// of finds or makes the pool of a host.
func (p *pool) of(h *upstream.Host) *hostPool {
	if v, ok := p.hosts.Load(h); ok {
		return v.(*hostPool)
	}
	v, had := p.hosts.LoadOrStore(h, &hostPool{all: &p.idle})
	hp := v.(*hostPool)
	if !had {
		h.OnGone(func() {
			p.hosts.Delete(h)
			hp.retire()
		})
	}
	return hp
}

// get takes the connection used last, or nil.
func (hp *hostPool) get(key string) *upstreamConn {
	hp.mu.Lock()
	defer hp.mu.Unlock()
	for i := len(hp.idle) - 1; i >= 0; i-- {
		u := hp.idle[i]
		if u.key != key {
			continue
		}
		copy(hp.idle[i:], hp.idle[i+1:])
		hp.idle[len(hp.idle)-1] = nil
		hp.idle = hp.idle[:len(hp.idle)-1]
		hp.all.Add(-1)
		return u
	}
	return nil
}

// put keeps a connection for later, or closes it where there are enough.
func (p *pool) put(u *upstreamConn, now time.Duration) {
	u.since = now
	hp := u.home
	hp.mu.Lock()
	if hp.gone || len(hp.idle) >= p.limit || p.idle.Load() >= p.most {
		hp.mu.Unlock()
		u.close()
		return
	}
	hp.idle = append(hp.idle, u)
	hp.all.Add(1)
	first := len(hp.idle) == 1
	hp.mu.Unlock()
	u.host.Idle()
	if first {
		p.startSweeper(now)
	}
}

// retire closes the idle connections and keeps no more.
func (hp *hostPool) retire() {
	hp.mu.Lock()
	idle := hp.idle
	hp.idle, hp.gone = nil, true
	hp.all.Add(-int64(len(idle)))
	hp.mu.Unlock()
	for _, u := range idle {
		u.close()
	}
	hp.shared.retire()
}

// startSweeper makes sure that idle connections are looked at.
func (p *pool) startSweeper(now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	if p.sweeping || p.closed {
		return
	}
	p.sweeping = true
	begin := time.Now().Add(-now)
	p.sweeper = time.AfterFunc(sweepEvery, func() { p.sweep(time.Since(begin), begin) })
}

// sweep closes what the upstream closed, what is idle for too long, and stops when
// nothing is idle.
func (p *pool) sweep(now time.Duration, begin time.Time) {
	p.mu.Lock()
	p.wanted = false
	p.mu.Unlock()
	left := 0
	p.hosts.Range(func(_, v any) bool {
		left += v.(*hostPool).sweep(now)
		return true
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.sweeping = left > 0 || p.wanted; p.sweeping {
		p.sweeper = time.AfterFunc(sweepEvery, func() { p.sweep(time.Since(begin), begin) })
	}
}

// sweep returns how many connections stay.
func (hp *hostPool) sweep(now time.Duration) int {
	hp.mu.Lock()
	var dead []*upstreamConn
	kept := hp.idle[:0]
	for _, u := range hp.idle {
		if now-u.since > u.idle || u.old(now) || closedByPeer(u.conn) {
			dead = append(dead, u)
		} else {
			kept = append(kept, u)
		}
	}
	clear(hp.idle[len(kept):])
	hp.idle = kept
	hp.all.Add(-int64(len(dead)))
	hp.mu.Unlock()
	for _, u := range dead {
		u.close()
	}
	return len(kept)
}

// close closes all connections. Nobody uses one any more.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	p.mu.Unlock()
	p.hosts.Range(func(k, v any) bool {
		p.hosts.Delete(k)
		v.(*hostPool).retire()
		return true
	})
	p.watching.Wait()
}
