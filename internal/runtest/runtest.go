// Package runtest is for tests that run things: it waits for conditions, keeps what is
// logged, ends what runs with the test, and finds ports that nobody else takes. Only tests
// may import it, and it knows nothing of Egret.
package runtest

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Patience bounds every wait for something that comes as soon as the machine gets to it. It
// is what a test waits when it fails, so it says nothing about how fast anything is.
const Patience = time.Minute

// look is how often a condition is looked at.
const look = 5 * time.Millisecond

// Eventually waits until ok, and fails the test when it is not so within Patience; what says
// what was waited for.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.NewTimer(Patience)
	defer late.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("waited %v in vain: %s", Patience, what)
		}
	}
}

// Run runs f until stop is called, or the test ends; both wait for f to return. An error of
// it is an error of the test.
func Run(t testing.TB, what string, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	t.Cleanup(stop)
	return stop
}
