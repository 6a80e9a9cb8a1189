package proxy

import "sync"

// maxIdleWorkers bounds the goroutines that wait for work. Each costs 2 to 8 KB: the
// collector shrinks the stacks of those that wait for long.
const maxIdleWorkers = 64

// task is what a worker does.
type task interface{ work() }

// workers runs tasks on goroutines that it keeps: a short connection costs less where the
// stack has grown already. The zero value is ready to use. Close it at the end.
type workers struct {
	mu     sync.Mutex
	idle   []chan task
	closed bool
}

// run does a task on a goroutine of its own.
func (w *workers) run(t task) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		ch := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		ch <- t
		return
	}
	w.mu.Unlock()
	go w.work(t)
}

func (w *workers) work(t task) {
	ch := make(chan task, 1)
	for {
		t.work()
		t = nil // it may be freed while nothing else comes
		w.mu.Lock()
		if w.closed || len(w.idle) >= maxIdleWorkers {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, ch)
		w.mu.Unlock()
		var more bool
		if t, more = <-ch; !more {
			return
		}
	}
}

// close ends the goroutines that wait; those that work end after it.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, ch := range w.idle {
		close(ch)
	}
	w.idle = nil
}
