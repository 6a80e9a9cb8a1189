package cli

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// startRoom is what may be allocated before the collector runs for the first time, in
// bytes. Starting allocates about half of that, most of it for good, so that the
// three collections it would cause are for nothing.
const startRoom = 16 << 20

// memory decides for this process when memory is collected and given back.
type memory struct {
	mu   sync.Mutex
	room []byte // never touched, so that it takes no memory; the collector counts it
}

func newMemory() *memory { return &memory{room: make([]byte, startRoom)} }

// settled is called when a configuration has been taken: what reading and making it
// needed, several times of what stays, goes back to the system.
func (m *memory) settled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.room = nil
	runtime.GC() // what is in pools is let go only by the second collection
	debug.FreeOSMemory()
}
