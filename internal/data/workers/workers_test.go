package workers

import (
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// Every task is done, before the end and after it, and no goroutine is left.
func TestPool(t *testing.T) {
	defer goleak.VerifyNone(t)
	var p Pool[func()]
	do := func(f func()) { f() }
	for range 3 {
		var all sync.WaitGroup
		gate := make(chan struct{})
		for range 10 {
			all.Add(1)
			p.Run(4, func() { defer all.Done(); <-gate }, do)
		}
		close(gate)
		all.Wait()
	}
	p.mu.Lock()
	if n := len(p.idle); n > 4 {
		t.Errorf("%d goroutines wait", n)
	}
	p.mu.Unlock()
	p.Close()
	after := make(chan struct{})
	p.Run(4, func() { close(after) }, do)
	<-after
}
