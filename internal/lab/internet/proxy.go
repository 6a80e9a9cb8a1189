package internet

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// ForwardProxy is an HTTP proxy of this world: it makes tunnels (CONNECT over HTTP/1.1
// and cleartext HTTP/2) to the names of the world, and nothing else.
type ForwardProxy struct {
	Host string
	Addr netip.Addr
	Port uint16
}

func (s *Server) serveProxy(p ForwardProxy, hosts map[string][]netip.Addr) error {
	ln, err := listen(p.Addr, p.Port)
	if err != nil {
		return err
	}
	conns := &connSet{open: map[net.Conn]bool{}}
	s.closers = append(s.closers, conns.closeAll)
	s.serveHTTP(ln, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, port, err := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || err != nil || len(hosts[name]) == 0 {
			http.Error(w, "this proxy makes tunnels to names of the world only", http.StatusForbidden)
			return
		}
		up, err := net.DialTimeout("tcp", net.JoinHostPort(hosts[name][0].String(), port), 10*time.Second)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		conns.add(up)
		defer conns.remove(up)
		_ = up.SetDeadline(time.Now().Add(connTimeout))
		if r.ProtoMajor == 1 {
			tunnel1(w, up, conns)
		} else {
			tunnel2(w, r, up)
		}
	}), &tls.Config{})
	return nil
}

func tunnel1(w http.ResponseWriter, up net.Conn, conns *connSet) {
	down, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	conns.add(down)
	defer conns.remove(down)
	_ = down.SetDeadline(time.Now().Add(connTimeout))
	if _, err := io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, buffered)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(down, up)
	_ = down.Close()
	<-done
}

func tunnel2(w http.ResponseWriter, r *http.Request, up net.Conn) {
	flush := http.NewResponseController(w).Flush
	if flush() != nil {
		return
	}
	go func() { // ends with the request, at the latest when the handler returns
		_, _ = io.Copy(up, r.Body)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	buf := make([]byte, 16<<10)
	for {
		n, err := up.Read(buf)
		if _, werr := w.Write(buf[:n]); werr != nil || flush() != nil || err != nil {
			return
		}
	}
}
