// Package workers keeps goroutines whose stacks have grown, and runs what is short on them.
//
// It must not know what it runs, nor bound how much runs at a time.
package workers

import "sync"

// Pool runs tasks on goroutines that it keeps. The zero value is ready to use. Close it at
// the end.
type Pool[T any] struct {
	mu     sync.Mutex
	idle   []chan T
	closed bool
}

// Run calls do(task) on a goroutine. When that is done the goroutine waits for more, if no
// more than keep do; each costs 2 to 8 KB, as the collector shrinks the stacks of those
// that wait for long. All calls have the same do.
func (p *Pool[T]) Run(keep int, task T, do func(T)) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		ch := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		ch <- task
		return
	}
	p.mu.Unlock()
	go p.work(keep, task, do)
}

func (p *Pool[T]) work(keep int, task T, do func(T)) {
	ch := make(chan T, 1)
	for {
		do(task)
		var none T
		task = none // it may be freed while nothing else comes
		p.mu.Lock()
		if p.closed || len(p.idle) >= keep {
			p.mu.Unlock()
			return
		}
		p.idle = append(p.idle, ch)
		p.mu.Unlock()
		var more bool
		if task, more = <-ch; !more {
			return
		}
	}
}

// Close ends the goroutines that wait; those that work end after it. Tasks may still be
// run.
func (p *Pool[T]) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, ch := range p.idle {
		close(ch)
	}
	p.idle = nil
}
