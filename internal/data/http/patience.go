package http

import (
	"context"
	"sync"
	"time"
)

// canceller makes a context's cancel function something the watch can interrupt.
type canceller context.CancelFunc

// SetDeadline cancels: the watch only ever sets a deadline in the past.
func (c canceller) SetDeadline(time.Time) error {
	c()
	return nil
}

// patience is a context that ends when the watch interrupts. It makes its channel
// only when somebody waits, so that it costs nothing where nobody does.
type patience struct {
	mu    sync.Mutex
	done  chan struct{}
	ended bool
}

var _ context.Context = (*patience)(nil)

func (p *patience) reset() {
	p.mu.Lock()
	p.done, p.ended = nil, false
	p.mu.Unlock()
}

// Deadline is none.
func (p *patience) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value is none.
func (p *patience) Value(any) any { return nil }

// Done is closed when the exchange is interrupted.
func (p *patience) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done = make(chan struct{})
		if p.ended {
			close(p.done)
		}
	}
	return p.done
}

// Err is context.Canceled after the interruption.
func (p *patience) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return context.Canceled
	}
	return nil
}

// SetDeadline ends the patience: the watch only ever sets a deadline in the past.
func (p *patience) SetDeadline(time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended = true
		if p.done != nil {
			close(p.done)
		}
	}
	return nil
}
