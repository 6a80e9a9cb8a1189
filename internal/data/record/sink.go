package record

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a sink.
const (
	// maxPending is how many bytes wait for a slow file before lines are dropped.
	maxPending = 4 << 20
	// flushSize is what makes a flush without waiting for the interval.
	flushSize = 64 << 10
	// flushInterval is the least time between two flushes under load; the first line
	// after a pause, and every denial, is written at once. A flush is what wakes other
	// threads under load: with 20 of them in a second the slowest hundredth of the
	// requests meets one.
	flushInterval = 250 * time.Millisecond
	// reopenInterval is the least time between two attempts to open the file.
	reopenInterval = time.Second
)

// sink is one log file: lines are put into a bounded buffer, one goroutine opens the
// file and writes. A file that is slow, stuck or cannot be opened costs lines, which
// are counted, never time of the caller.
type sink struct {
	path    string
	open    func(path string) (io.WriteCloser, error)
	log     *slog.Logger
	dropped *atomic.Uint64
	lost    func(error) // told once per series of failures

	mu      sync.Mutex
	pending []byte
	lines   uint64 // in pending
	closed  bool

	wake   chan struct{} // there is something
	urgent chan struct{} // write it without waiting
	stop   chan struct{}
	done   chan struct{}

	// Of the writing goroutine only.
	file     io.WriteCloser
	lastOpen time.Time
	failing  bool // told once per series of failures
	torn     bool // the file ends inside of a line
}

// newSink makes a sink; run does its work.
func newSink(path string, open func(string) (io.WriteCloser, error), log *slog.Logger, dropped *atomic.Uint64) *sink {
	s := &sink{
		path: path, open: open, log: log, dropped: dropped,
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	return s
}

// put takes a copy of one line (or several). It never blocks on the file.
func (s *sink) put(line []byte, urgent bool) {
	s.mu.Lock()
	if s.closed || len(s.pending)+len(line) > maxPending {
		s.mu.Unlock()
		s.dropped.Add(1)
		return
	}
	s.pending = append(s.pending, line...)
	s.lines++
	urgent = urgent || len(s.pending) >= flushSize
	s.mu.Unlock()
	signal(s.wake)
	if urgent {
		signal(s.urgent)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes until stop, then once more what is left.
func (s *sink) run() {
	defer close(s.done)
	timer := time.NewTimer(flushInterval)
	defer timer.Stop()
	var spare []byte
	for {
		select {
		case <-s.wake:
		case <-s.stop:
			s.flush(spare)
			if s.file != nil {
				_ = s.file.Close()
			}
			return
		}
		spare = s.flush(spare)
		timer.Reset(flushInterval)
		select {
		case <-s.urgent:
		case <-timer.C:
		case <-s.stop:
		}
	}
}

// flush writes what is pending and returns the buffer to be filled next but one.
func (s *sink) flush(spare []byte) []byte {
	s.mu.Lock()
	out, lines := s.pending, s.lines
	s.pending, s.lines = spare[:0], 0
	s.mu.Unlock()
	if len(out) > 0 {
		if n, err := s.write(out); err != nil {
			s.torn = s.torn && n == 0 || n > 0 && out[n-1] != '\n'
			s.dropped.Add(lines - min(lines, uint64(bytes.Count(out[:n], []byte{'\n'}))))
			if !s.failing {
				s.log.Error("access log not written", "path", s.path, "error", err)
				s.lost(err)
			}
			s.failing = true
		} else {
			s.failing = false
		}
	}
	if cap(out) > 4*flushSize { // a burst is over: give the memory back
		return nil
	}
	return out[:0]
}

// write tells how much of b was written, which a full disk can cut anywhere.
func (s *sink) write(b []byte) (int, error) {
	if s.file == nil {
		if now := time.Now(); now.Sub(s.lastOpen) < reopenInterval {
			return 0, fmt.Errorf("open %q: waiting after a failure", s.path)
		} else {
			s.lastOpen = now
		}
		f, err := s.open(s.path)
		if err != nil {
			return 0, err
		}
		s.file = f
	}
	if s.torn { // the next line must not become the end of half a line
		if _, err := s.file.Write([]byte{'\n'}); err != nil {
			return 0, s.broken(err)
		}
		s.torn = false
	}
	n, err := s.file.Write(b)
	if err != nil {
		return max(0, min(n, len(b))), s.broken(err)
	}
	return n, nil
}

// broken closes a file that took no more.
func (s *sink) broken(err error) error {
	_ = s.file.Close()
	s.file = nil
	return err
}

// close writes what is left and waits for that until the timer fires.
func (s *sink) close(giveUp <-chan time.Time) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	s.mu.Unlock()
	select {
	case <-s.done:
		return nil
	case <-giveUp:
		return fmt.Errorf("access log %q: the file takes nothing, the last lines are lost", s.path)
	}
}

// OpenFile is the default of Options.Open: it appends to path, and makes it (0640)
// where it is not there. "/dev/stdout" and "/dev/stderr" are the process's own, also
// where these are sockets and so cannot be opened by name.
func OpenFile(path string) (io.WriteCloser, error) {
	switch path {
	case "/dev/stdout":
		return unclosed{os.Stdout}, nil
	case "/dev/stderr":
		return unclosed{os.Stderr}, nil
	}
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
}

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }
