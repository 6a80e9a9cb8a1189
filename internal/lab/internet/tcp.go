package internet

import (
	"bufio"
	"io"
	"net"
	"sync"
	"time"
)

// connTimeout ends forgotten connections, so that nothing outlives a test.
const connTimeout = 2 * time.Minute

func (s *Server) serveTCP(t TCPService) error {
	ln, err := listen(t.Addr, t.Port)
	if err != nil {
		return err
	}
	conns := &connSet{open: map[net.Conn]bool{}}
	s.closers = append(s.closers, conns.closeAll, func() { _ = ln.Close() })
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.add(c)
			s.wg.Go(func() {
				defer conns.remove(c)
				_ = c.SetDeadline(time.Now().Add(connTimeout))
				talk(t, c)
			})
		}
	})
	return nil
}

func talk(t TCPService, c net.Conn) {
	if t.Kind == Echo {
		_, _ = io.Copy(c, c)
		return
	}
	if _, err := io.WriteString(c, t.Greeting); err != nil {
		return
	}
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		if _, err := io.WriteString(c, "you said: "+lines.Text()+"\n"); err != nil {
			return
		}
	}
}

// connSet closes what is still open at the end.
type connSet struct {
	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

func (s *connSet) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return
	}
	s.open[c] = true
}

func (s *connSet) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	_ = c.Close()
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		_ = c.Close()
	}
}
