package proxy

// relieveSample is how many connections are looked at to find one to part with.
const relieveSample = 16

// scarce reports that few connections are left: seven of eight are in use.
func (p *Proxy) scarce() bool { return p.count.Load() > int64(p.maxConnections)*7/8 }

// relieve makes room for a new connection while connections are scarce: of some HTTP
// connections the oldest is drained. An idle one is closed at once, one with a request
// under way after it. So clients that open connections and say nothing do not keep
// others out.
func (p *Proxy) relieve() {
	var oldest *connection
	p.mu.Lock()
	looked := 0
	for c := range p.live { // in no order
		if c.canDrain() && (oldest == nil || c.start.Before(oldest.start)) {
			oldest = c
		}
		if looked++; looked == relieveSample {
			break
		}
	}
	p.mu.Unlock()
	if oldest != nil {
		oldest.drain()
	}
}

// canDrain: it speaks HTTP, and has not been asked yet.
func (c *connection) canDrain() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serving != nil && !c.serving.Draining()
}
