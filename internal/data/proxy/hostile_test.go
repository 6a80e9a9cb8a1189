package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	nethttp "net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// plainHTTP serves HTTP on port 80, like a gateway; everything goes to the origin.
func plainHTTP(origin string) *config.Config {
	cfg := httpConfig(netip.MustParseAddrPort(origin), "a.example")
	l := listenerOn(80, &resource.FilterChain{Name: "http", HTTP: cfg.Listener("0.0.0.0_80").FilterChains[0].HTTP})
	return configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("web", netip.MustParseAddrPort(origin)))
}

// okServer answers every request.
func okServer(t *testing.T) string {
	return serve(t, func(c *net.TCPConn) {
		for r := bufio.NewReader(c); ; {
			req, err := nethttp.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}).String()
}

// address is where clients connect to.
func (r *rig) address() string {
	r.t.Helper()
	eventually(r.t, "the listener", func() bool { return r.sockets.address("virtualOutbound") != "" })
	return r.sockets.address("virtualOutbound")
}

// serves fails unless a well-behaved client is served.
func (r *rig) serves() {
	r.t.Helper()
	c := r.dial()
	defer c.Close()
	if got := ask(r.t, c, bufio.NewReader(c), "a.example"); got != "200  ok" {
		r.t.Errorf("a good client gets %s", got)
	}
}

// triesOnce reports whether a well-behaved client is served at once.
func (r *rig) triesOnce() bool {
	c, err := net.Dial("tcp", r.address())
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"); err != nil {
		return false
	}
	resp, err := nethttp.ReadResponse(bufio.NewReader(c), nil)
	return err == nil && resp.StatusCode == 200
}

// Ten thousand connections that do what hostile clients do: each may cost a little
// memory, and a good client is served all the while.
func TestManyHostileConnections(t *testing.T) {
	hello := string(captureHello(t, &tls.Config{ServerName: "a.example"}))
	origin := okServer(t)
	piece := []byte("2000\r\n" + strings.Repeat("x", 8192) + "\r\n") // one for all: this process counts the origin, too
	var flowing, pieces atomic.Int64                                 // connections, and what they have taken
	endless := serve(t, func(c *net.TCPConn) {
		var head [1]byte // no parser, whose stack would be counted
		_, err := c.Read(head[:])
		if err == nil {
			_, err = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		}
		for flowing.Add(1); err == nil; pieces.Add(1) {
			_, err = c.Write(piece)
		}
	}).String()
	tls443 := func() *config.Config {
		l := tlsListener()
		l.InspectorsTimeout = patience
		cfg := plainHTTP(origin)
		return configOf(append(cfg.Listeners, l), static("web", netip.MustParseAddrPort(origin)))
	}
	tests := map[string]struct {
		cfg    *config.Config
		dst    string
		says   string
		least  int   // connections that stay
		most   int   // connections that stay, at most: the others are refused; 0: all may
		each   int64 // bytes per connection, at most
		number int   // of connections
	}{
		"silent":             {plainHTTP(origin), "10.1.2.3:80", "", 10_000, 0, 12 << 10, 10_000},
		"half a head":        {plainHTTP(origin), "10.1.2.3:80", "GET / HTTP/1.1\r\nHost: a.exam", 10_000, 0, 20 << 10, 10_000},
		"a large half head":  {plainHTTP(origin), "10.1.2.3:80", "GET / HTTP/1.1\r\nA: " + strings.Repeat("a", 40<<10), 1, 512, 12 << 10, 10_000},
		"half a small body":  {plainHTTP(origin), "10.1.2.3:80", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nab", 10_000, 0, 28 << 10, 10_000},
		"half a large body":  {plainHTTP(origin), "10.1.2.3:80", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 99999\r\n\r\nab", 3000, 0, 80 << 10, 3000},
		"unread answers":     {plainHTTP(endless), "10.1.2.3:80", "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", 1000, 0, 80 << 10, 1000},
		"half a ClientHello": {tls443(), "10.1.2.3:443", hello[:len(hello)/2], 1, 0, 12 << 10, 10_000},
		"half a handshake":   {terminating(origin, &resource.DownstreamTLS{Certificates: []resource.Certificate{newAuthority(t).inline("a.example")}, HandshakeTimeout: patience}, true), "10.1.2.3:443", hello, 1, 0, 64 << 10, 1000}, // each costs a signature
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if testing.Short() {
				t.Skip("ten thousand connections in short mode")
			}
			number := tc.number
			if raceEnabled {
				number /= 20
			}
			r := start(t, tc.cfg, tc.dst)
			before, rssBefore := memory(t)
			end := flood(t, number, r.address(), tc.says)
			defer end()
			eventually(t, "the connections", func() bool { return r.proxy.Info().Connections >= min(tc.least, number) })
			if tc.most > 0 {
				eventually(t, "those that are refused are gone", func() bool { return r.proxy.Info().Connections <= tc.most })
			}
			if name == "unread answers" {
				eventually(t, "answers that are stuck", func() bool {
					before := pieces.Load()
					runtime.GC() // takes a while
					return flowing.Load() == int64(number) && pieces.Load() == before
				})
			}
			if tc.dst == "10.1.2.3:80" && name != "unread answers" { // whose origin serves nobody well
				r.serves()
			}
			after, rss := memory(t)
			if n := r.proxy.Info().Connections; n < min(tc.least, number) {
				t.Errorf("%d connections are left, want %d", n, min(tc.least, number))
			}
			each := (after - before) / int64(number)
			t.Logf("%d connections: %d bytes each of heap and stack, resident %d MiB before, %d MiB now", r.proxy.Info().Connections, each, rssBefore>>20, rss>>20)
			if each > tc.each && !raceEnabled { // the detector needs memory of its own
				t.Errorf("%d bytes for each of %d connections, want at most %d", each, number, tc.each)
			}
		})
	}
}

// Clients that open connections and say nothing do not keep others out: when few are
// left, idle ones make room.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	r := start(t, plainHTTP(okServer(t)), "10.1.2.3:80", func(o *Options) { o.MaxConnections = 64 })
	end := flood(t, 200, r.address(), "")
	defer end()
	for range 10 {
		eventually(t, "room for a client that tries again", r.triesOnce)
	}
	if n := r.proxy.Info().Connections; n > 64 {
		t.Errorf("%d connections", n)
	}
}

// A connection that is made room for with finishes the request under way.
func TestMakingRoomIsGentle(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	answer := sync.OnceFunc(func() { close(release) })
	origin := serve(t, func(c *net.TCPConn) {
		if _, err := nethttp.ReadRequest(bufio.NewReader(c)); err == nil {
			close(asked)
			<-release
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}).String()
	t.Cleanup(answer)
	r := start(t, plainHTTP(origin), "10.1.2.3:80", func(o *Options) { o.MaxConnections = 8 })
	c := r.dial()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	<-asked // before that the proxy may take it for an idle one
	for range 32 {
		other, err := net.Dial("tcp", r.address()) // refused while all are in use
		if err == nil {
			defer other.Close()
		}
	}
	answer()
	resp := must(nethttp.ReadResponse(bufio.NewReader(c), nil))(t)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok" || resp.StatusCode != 200 {
		t.Errorf("%d %q, %v", resp.StatusCode, body, err)
	}
}

// ClientHellos in every form, where TLS is ended: what a server may accept is served,
// the rest is refused and recorded.
func TestHostileHellosWhereTLSEnds(t *testing.T) {
	ca := newAuthority(t)
	spec := &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}, HandshakeTimeout: patience}
	r := start(t, terminating(web(t), spec, true), "10.1.2.3:443") // the client needs its time, too
	if got := overTLS(t, &inPieces{Conn: r.dial(), size: 1}, &tls.Config{}, ca); !strings.HasPrefix(got, "200") {
		t.Errorf("byte by byte: %s", got)
	}
	r.logged("- web 0 21 a.example -")
	short := terminating(web(t), spec, true)
	short.Listener("0.0.0.0_443").InspectorsTimeout = 300 * time.Millisecond
	hasty := start(t, short, "10.1.2.3:443")
	plain := captureHello(t, &tls.Config{ServerName: "a.example"})
	large := helloBytes(sniExt("a.example"), ext(0x1234, make([]byte, 64<<10-1)))
	for name, c := range map[string]struct {
		r     *rig
		first []byte
	}{
		"64 KiB":               {r, large},
		"64 KiB in fragments":  {r, fragmented(large, 1000)},
		"never finished":       {hasty, fragmented(plain, 7)[:100]},
		"empty records before": {r, append(bytes.Repeat([]byte{22, 3, 1, 0, 0}, 100), plain...)},
		"an alert before":      {r, append([]byte{21, 3, 1, 0, 2, 1, 0}, plain...)},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(told(c.r))
			conn := c.r.dial()
			_, _ = conn.Write(c.first)
			_, _ = io.Copy(io.Discard, conn)
			recorded(t, c.r, before+1, "bad_request")
		})
	}
	if got := overTLS(t, &inPieces{Conn: r.dial(), size: 1 << 20}, &tls.Config{}, ca); !strings.HasPrefix(got, "200") {
		t.Errorf("afterwards: %s", got)
	}
}

// inPieces writes a few bytes at a time.
type inPieces struct {
	net.Conn
	size int
}

func (c *inPieces) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		n, err := c.Conn.Write(p[:min(c.size, len(p))])
		total += n
		if err != nil {
			return total, err
		}
		p = p[n:]
	}
	return total, nil
}
