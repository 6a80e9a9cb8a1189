package http2

import "sync"

// maxIdleWorkers bounds the goroutines that wait for work. Each costs 2 to 8 KB: the
// collector shrinks the stacks of those that wait for long.
const maxIdleWorkers = 512

// Workers runs handlers on goroutines that it keeps, so that their stacks, which have
// grown, are used again; and it keeps streams for their storage. The zero value is ready
// to use; share it. Close it at the end.
type Workers struct {
	streams sync.Pool

	mu     sync.Mutex
	idle   []chan *Stream
	closed bool
}

// run calls s.serve on a goroutine.
func (w *Workers) run(s *Stream) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		ch := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		ch <- s
		return
	}
	w.mu.Unlock()
	go w.work(s)
}

func (w *Workers) work(s *Stream) {
	ch := make(chan *Stream, 1)
	for {
		s.serve()
		w.mu.Lock()
		if w.closed || len(w.idle) >= maxIdleWorkers {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, ch)
		w.mu.Unlock()
		var ok bool
		if s, ok = <-ch; !ok {
			return
		}
	}
}

// Close ends the goroutines that wait; those that work end after it. Handlers may still
// be run.
func (w *Workers) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, ch := range w.idle {
		close(ch)
	}
	w.idle = nil
}
