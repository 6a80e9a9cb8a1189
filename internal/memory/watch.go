package memory

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// quiet is how long no configuration must come for it to have settled, and how often
	// goroutines are counted.
	quiet = 2 * time.Second
	// many goroutines that have ended are worth a collection: their stacks, and what they
	// had in hand, are megabytes.
	many = 1024
)

// Configurations tells when one has come; the function that it returns ends that.
type Configurations interface {
	Subscribe() (<-chan struct{}, func())
}

// Watch gives memory back when it is likely that much of it is free: when configurations
// have come and then none for two seconds, and when many connections have ended or come
// to rest. It returns when ctx ends. Call it once.
func (k *Keeper) Watch(ctx context.Context, configurations Configurations) {
	changed, unsubscribe := configurations.Subscribe()
	defer unsubscribe()
	count := time.NewTicker(quiet)
	defer count.Stop()
	k.watch(ctx, changed, count.C)
}

// watch counts goroutines at each tick of count.
func (k *Keeper) watch(ctx context.Context, changed <-chan struct{}, count <-chan time.Time) {
	settled := time.NewTimer(quiet)
	defer settled.Stop()
	var c crowd
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			settled.Reset(quiet)
		case <-settled.C:
			k.Settled()
		case <-count:
			if c.gone(runtime.NumGoroutine()) {
				collect()
			}
		}
	}
}

// collect gives what is free of the heap, stacks too, back to the system.
func collect() {
	runtime.GC() // what is in pools is let go only by the second collection
	debug.FreeOSMemory()
}

// crowd is how many goroutines there were.
type crowd struct {
	most int // since the last time that it was gone
	last int
}

// gone says whether many of them have ended, and no more are about to. Each crowd is
// gone once.
func (c *crowd) gone(now int) bool {
	ending := c.last-now > many/8
	c.last, c.most = now, max(c.most, now)
	if ending || c.most-now < many {
		return false
	}
	c.most = now
	return true
}
