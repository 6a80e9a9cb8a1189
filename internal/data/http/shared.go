package http

import (
	"sync"
	"time"

	"github.com/egret-mesh/egret/internal/data/http2"
)

// sharedPool has the HTTP/2 connections of one host that take new streams.
type sharedPool struct {
	mu    sync.Mutex
	conns []*sharedConn
	// making has the keys for which somebody is connecting.
	making map[string]chan struct{}
	gone   bool
}

// open takes a stream of a connection that has one free. The first that were made
// come first, so that others become idle.
func (sp *sharedPool) open(key string) (*http2.Stream, *sharedConn) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for i := 0; i < len(sp.conns); i++ {
		c := sp.conns[i]
		if c.key != key {
			continue
		}
		s, err := c.client.Open()
		if err == nil {
			if c.requests++; c.requests == c.limit {
				sp.remove(c)
				c.full.Store(true) // see returned
			}
			return s, c
		}
		if err != http2.ErrNoCapacity {
			sp.remove(c) // it ends by itself
			i--
		}
	}
	return nil, nil
}

// claim lets one caller at a time connect for a key. Others get a channel that is
// closed when that is done.
func (sp *sharedPool) claim(key string) (done <-chan struct{}, mine bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if ch := sp.making[key]; ch != nil {
		return ch, false
	}
	if sp.making == nil {
		sp.making = map[string]chan struct{}{}
	}
	sp.making[key] = make(chan struct{})
	return nil, true
}

func (sp *sharedPool) disclaim(key string) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	close(sp.making[key])
	delete(sp.making, key)
}

// put keeps a connection; a host that is gone has none for long.
func (sp *sharedPool) put(c *sharedConn) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.gone || c.requests == c.limit {
		c.full.Store(true) // see returned
		return
	}
	sp.conns = append(sp.conns, c)
}

// drop forgets a connection that has ended.
func (sp *sharedPool) drop(c *sharedConn) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.remove(c)
}

// remove is drop with sp.mu held.
func (sp *sharedPool) remove(c *sharedConn) {
	for i, have := range sp.conns {
		if have == c {
			copy(sp.conns[i:], sp.conns[i+1:])
			sp.conns[len(sp.conns)-1] = nil
			sp.conns = sp.conns[:len(sp.conns)-1]
			return
		}
	}
}

// retire lets the streams that are open end, and keeps no connection more.
func (sp *sharedPool) retire() {
	sp.mu.Lock()
	conns := sp.conns
	sp.conns, sp.gone = nil, true
	sp.mu.Unlock()
	for _, c := range conns {
		c.client.Shutdown()
	}
}

// share keeps a new connection of a host until it ends.
func (p *pool) share(hp *hostPool, c *sharedConn) {
	p.shared.Add(1)
	hp.shared.put(c)
	p.watching.Go(func() {
		hp.shared.await(c)
		hp.shared.drop(c)
		p.shared.Add(-1)
		c.host.Closed(c.priority)
	})
}

// await waits for the end of a connection. One that has reached its age takes no new
// streams, and ends when it has none.
func (sp *sharedPool) await(c *sharedConn) {
	if c.age > 0 {
		old := time.NewTimer(c.age)
		defer old.Stop()
		select {
		case <-c.client.Done():
			return
		case <-old.C:
			sp.drop(c)
			c.client.Shutdown()
		}
	}
	<-c.client.Done()
}

// returned looks whether a connection that just lost a stream is to be kept idle. It is
// not where it has served enough requests, and where there are too many: a workload can
// call any number of names below a wildcard.
func (p *pool) returned(c *sharedConn) {
	if (c.full.Load() || p.shared.Load() > p.most) && c.client.Active() == 0 {
		c.client.Shutdown()
		return
	}
	c.host.Idle() // a stream is free
}
