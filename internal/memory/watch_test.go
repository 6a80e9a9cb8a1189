package memory

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestCrowd(t *testing.T) {
	for name, c := range map[string]struct {
		counts []int
		want   []bool
	}{
		"few":                   {[]int{10, 1000, 10}, []bool{false, false, false}},
		"many end at once":      {[]int{20_000, 100, 100}, []bool{false, false, true}},
		"waits for the last":    {[]int{20_000, 9_000, 1_000, 990}, []bool{false, false, false, true}},
		"once":                  {[]int{5000, 10, 10, 10, 10}, []bool{false, false, true, false, false}},
		"each crowd":            {[]int{5000, 10, 10, 5000, 10, 10}, []bool{false, false, true, false, false, true}},
		"a steady one is there": {[]int{5000, 4990, 5010}, []bool{false, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var got crowd
			for i, n := range c.counts {
				if g := got.gone(n); g != c.want[i] {
					t.Errorf("%d goroutines at %d: %v", n, i, g)
				}
			}
		})
	}
}

// Configurations one after the other are waited for; what they needed goes back after the
// last one, and again after the next.
func TestWatchWaitsForTheLastConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		k, changed, done := New(), make(chan struct{}), make(chan struct{})
		go func() { defer close(done); k.Watch(ctx, configurations(changed)) }()
		for range 3 {
			<-time.After(quiet / 2)
			changed <- struct{}{}
		}
		<-time.After(quiet - time.Nanosecond)
		synctest.Wait()
		if !k.waits() {
			t.Error("given back before the last configuration has settled")
		}
		<-time.After(time.Nanosecond)
		synctest.Wait()
		if k.waits() {
			t.Error("not given back when the last configuration has settled")
		}
		cancel()
		<-done
	})
}

type configurations chan struct{}

func (c configurations) Subscribe() (<-chan struct{}, func()) { return c, func() {} }

func (k *Keeper) waits() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.room != nil
}

// The stacks of goroutines that have ended go back to the system without a collection
// that somebody else needs.
func TestWatchGivesStacksBack(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k := New()
	k.Settled()
	done, count := make(chan struct{}), make(chan time.Time)
	go func() { defer close(done); k.watch(ctx, nil, count) }()
	before := stacks()
	var up, down sync.WaitGroup
	end := make(chan struct{})
	const crowd = 4 * many
	for range crowd {
		up.Add(1)
		down.Go(func() { deep(64); up.Done(); <-end })
	}
	up.Wait()
	count <- time.Now()
	high := stacks()
	close(end)
	down.Wait()
	count <- time.Now() // they are ending
	count <- time.Now()
	count <- time.Now() // taken when the collection is over
	if after := stacks(); after > before+(high-before)/4 {
		t.Fatalf("%d bytes before, %d with %d goroutines, %d after them", before, high, crowd, after)
	}
	cancel()
	<-done
}

// stacks are the bytes that goroutines' stacks take. What the system says would do where
// there is no race detector, which keeps a shadow of them.
func stacks() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}

// deep makes a stack of some 16 KB.
func deep(n int) byte {
	var frame [256]byte
	frame[n] = byte(n)
	if n == 0 {
		return frame[0]
	}
	return deep(n-1) + frame[n]
}
