package identity

import "sync"

// Keeper has the authority of this moment; who watches the place where it is kept puts it
// here. The zero value has none.
type Keeper struct {
	mu      sync.Mutex
	now     *Authority
	changed chan struct{}
}

// Get is the present authority; nil: none yet.
func (k *Keeper) Get() *Authority {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

// Put replaces the authority.
func (k *Keeper) Put(a *Authority) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = a
	if k.changed != nil {
		close(k.changed)
		k.changed = nil
	}
}

// Changed is closed at the next Put.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.changed == nil {
		k.changed = make(chan struct{})
	}
	return k.changed
}
