// Package memory decides for a whole process when memory is collected and given back to
// the system. Starting and taking a configuration need several times of what stays.
//
// It must not know what the memory is for.
package memory

import "sync"

// startRoom is what may be allocated before the collector runs for the first time, in
// bytes. Starting allocates about half of that, most of it for good, so that the
// three collections it would cause are for nothing.
const startRoom = 16 << 20

// Keeper is the process's memory. It is safe for concurrent use.
type Keeper struct {
	mu   sync.Mutex
	room []byte // never touched, so that it takes no memory; the collector counts it
}

// New lets the collector wait until a configuration has settled, or until startRoom is used. Call it first.
func New() *Keeper { return &Keeper{room: make([]byte, startRoom)} }

// Settled is called when a configuration has been taken: what reading and making it
// needed goes back to the system, heap as well as program.
func (k *Keeper) Settled() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.room = nil
	collect()
	_ = forgetProgram() // then it stays as it is
}
