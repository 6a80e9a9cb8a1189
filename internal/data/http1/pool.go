package http1

import "sync"

// Sizes of pooled buffers, in bytes. Most messages fit the small one; bodies are read with
// the middle one; the large one holds a header section up to Envoy's limit.
const (
	SmallBuffer  = 4 << 10
	bodyBuffer   = 32 << 10
	largeBuffer  = 64 << 10
	minimalSpace = 512
)

// Pool lends read buffers. Share one between all connections; the zero value is
// ready to use.
type Pool struct {
	small, body, large sync.Pool
}

// Get lends a buffer with room for at least n bytes. Return takes it back.
func (p *Pool) Get(n int) []byte {
	switch {
	case n <= SmallBuffer:
		if b, ok := p.small.Get().(*[SmallBuffer]byte); ok {
			return b[:]
		}
		return new([SmallBuffer]byte)[:]
	case n <= bodyBuffer:
		if b, ok := p.body.Get().(*[bodyBuffer]byte); ok {
			return b[:]
		}
		return new([bodyBuffer]byte)[:]
	case n <= largeBuffer:
		if b, ok := p.large.Get().(*[largeBuffer]byte); ok {
			return b[:]
		}
		return new([largeBuffer]byte)[:]
	}
	return make([]byte, n)
}

// put takes back what get returned. Other sizes are left to the collector.
func (p *Pool) put(b []byte) {
	switch cap(b) {
	case SmallBuffer:
		p.small.Put((*[SmallBuffer]byte)(b[:SmallBuffer]))
	case bodyBuffer:
		p.body.Put((*[bodyBuffer]byte)(b[:bodyBuffer]))
	case largeBuffer:
		p.large.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}

// Small lends a small buffer (4 KiB), for a caller that waits until bytes arrive
// before it wants memory for them. Give it to Reader.Adopt or Return it.
func (p *Pool) Small() []byte { return p.Get(SmallBuffer) }

// Return takes back a buffer lent by the pool.
func (p *Pool) Return(b []byte) { p.put(b) }
