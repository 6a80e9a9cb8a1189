package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// What the client says first decides which chain it gets, on a port whose protocol is
// not declared: Istio's HTTP chain takes what is recognized as plain HTTP/1.1 or as
// HTTP/2 with prior knowledge, a chain for a server name its TLS, and all else is TCP,
// also a client that waits for the server to speak.
func TestWhatTheClientSaysFirst(t *testing.T) {
	origin := func(name string) netip.AddrPort {
		return serve(t, func(c *net.TCPConn) { _, _ = c.Write([]byte(name + ":")); echo(c) })
	}
	block := &resource.VirtualHost{Name: "block_all", Domains: []string{"*"}, Routes: []*resource.Route{{Direct: &resource.DirectResponse{Status: 418}}}}
	httpMatch := resource.FilterChainMatch{TransportProtocol: "raw_buffer", ApplicationProtocols: []string{"http/1.1", "h2c"}}
	l := listenerOn(8080,
		&resource.FilterChain{Name: "http", Match: httpMatch, HTTP: &resource.HTTPConnectionManager{AccessLogs: testLog,
			Inline: &resource.RouteConfiguration{Name: "8080", VirtualHosts: []*resource.VirtualHost{block}}}},
		tcpChain("tls", "a.example"))
	l.DefaultFilterChain = tcpChain("tcp") // among the others Envoy would not find it for plain bytes
	l.InspectTLS, l.InspectHTTP, l.InspectorsTimeout = true, true, 50*time.Millisecond
	cfg := configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("tcp", origin("tcp")), static("tls", origin("tls")))
	hello := func(name string) string { return string(captureHello(t, &tls.Config{ServerName: name})) }
	for name, c := range map[string]struct{ say, answer string }{
		"HTTP/1.1":                        {"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "HTTP"},
		"a method that is not well known": {"PURGE / HTTP/1.1\r\nHost: a.example\r\n\r\n", "HTTP"},
		"HTTP/1.0":                        {"GET / HTTP/1.0\r\n\r\n", "tcp:"},
		"HTTP/2 with prior knowledge":     {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00"},
		"half of HTTP/2's preface":        {"PRI * HT", "tcp:"},
		"TLS to the server name":          {hello("a.example"), "tls:"},
		"TLS to another":                  {hello("b.example"), "tcp:"},
		"TLS without a name":              {hello("127.0.0.1"), "tcp:"},
		"another protocol":                {"SSH-2.0-x\r\n", "tcp:"},
		"bytes":                           {"\x00\x01\x02\x03", "tcp:"},
		"part of a word":                  {"GE", "tcp:"},
		"nothing":                         {"", "tcp:"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, cfg, "10.1.2.3:8080")
			conn := r.dial()
			if _, err := conn.Write([]byte(c.say)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(c.answer))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != c.answer {
				t.Fatalf("%q, %v; want %q", got, err, c.answer)
			}
			if c.answer != "tcp:" && c.answer != "tls:" {
				return
			}
			back := make([]byte, len(c.say)) // what was sniffed arrives, once
			if _, err := io.ReadFull(conn, back); err != nil || string(back) != c.say {
				t.Errorf("%q came back, %v", back, err)
			}
		})
	}
}
