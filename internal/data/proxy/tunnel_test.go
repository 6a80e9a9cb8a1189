package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// connectProxy is an HTTP proxy of net/http, over HTTP/1.1 and cleartext HTTP/2: a tunnel
// to echo.example:7 echoes, with the request told first; others are refused.
func connectProxy(t *testing.T) netip.AddrPort {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "echo.example:7" || r.Method == "POST" && r.URL.Path != "/in" {
			http.Error(w, "no way", http.StatusForbidden)
			return
		}
		greeting := fmt.Sprintf("%s %s %s;", r.Method, r.Proto, r.Header.Get("x-token"))
		if r.ProtoMajor == 1 && r.Method == "CONNECT" {
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			// In one write: what comes out of the tunnel follows the answer at once.
			_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"+greeting)
			_, _ = io.Copy(conn, buffered)
			return
		}
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_, _ = io.WriteString(w, greeting)
		_ = rc.Flush()
		buf := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	})
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

func TestTunnel(t *testing.T) {
	proxy := connectProxy(t)
	for name, c := range map[string]struct {
		protocol resource.UpstreamProtocol
		tunnel   resource.Tunnel
		greeting string
	}{
		"HTTP/1.1":          {resource.UpstreamHTTP1, resource.Tunnel{Authority: "echo.example:7"}, "CONNECT HTTP/1.1 ;"},
		"HTTP/2":            {resource.UpstreamHTTP2, resource.Tunnel{Authority: "echo.example:7"}, "CONNECT HTTP/2.0 ;"},
		"POST over HTTP/1":  {resource.UpstreamHTTP1, resource.Tunnel{Authority: "echo.example:7", Post: true, Path: "/in"}, "POST HTTP/1.1 ;"},
		"POST over HTTP/2":  {resource.UpstreamHTTP2, resource.Tunnel{Authority: "echo.example:7", Post: true, Path: "/in"}, "POST HTTP/2.0 ;"},
		"client's protocol": {resource.UpstreamDownstream, resource.Tunnel{Authority: "echo.example:7"}, "CONNECT HTTP/1.1 ;"},
		"headers": {resource.UpstreamHTTP2, resource.Tunnel{Authority: "echo.example:7", Headers: []resource.HeaderAdd{
			{Name: "x-token", Value: "from %DOWNSTREAM_LOCAL_ADDRESS%", Dynamic: true}}}, "CONNECT HTTP/2.0 from 10.1.2.3:443;"},
	} {
		t.Run(name, func(t *testing.T) {
			chain := tcpChain("proxy")
			chain.TCP.Tunnel = &c.tunnel
			cluster := static("proxy", proxy)
			cluster.Protocol = c.protocol
			r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(443, chain)}, cluster), "10.1.2.3:443")
			client := r.dial()
			// More than one frame and one chunk, both ways at once.
			text := strings.Repeat("0123456789abcdef", 20<<10)
			go func() { _, _ = io.WriteString(client, text); _ = client.CloseWrite() }()
			got, err := io.ReadAll(client)
			if err != nil || string(got) != c.greeting+text {
				t.Errorf("%d bytes that begin with %.60q, %v; want %q and %d bytes", len(got), got, err, c.greeting, len(text))
			}
			r.logged(fmt.Sprintf("- proxy %d %d - -", len(text), len(got)))
			r.connections(0)
		})
	}
}

// What no tunnel comes of is told, and nothing of the client's bytes is sent.
func TestNoTunnel(t *testing.T) {
	honest := connectProxy(t)
	saying := func(answer string) netip.AddrPort {
		return serve(t, func(c *net.TCPConn) {
			if r, err := http.ReadRequest(bufio.NewReader(c)); err != nil || r.Method != "CONNECT" || r.Host != "echo.example:7" {
				t.Errorf("the request: %v, %v", r, err)
			}
			_, _ = io.WriteString(c, answer)
			_ = c.CloseWrite()
			if rest, _ := io.ReadAll(c); len(rest) > 0 {
				t.Errorf("%q was sent without a tunnel", rest)
			}
		})
	}
	for name, c := range map[string]struct {
		proxy     netip.AddrPort
		protocol  resource.UpstreamProtocol
		authority string
		want      string
	}{
		"refused":                {honest, resource.UpstreamHTTP1, "other.example:7", "upstream_connect_failed proxy 0 0 - UF"},
		"refused over HTTP/2":    {honest, resource.UpstreamHTTP2, "other.example:7", "upstream_connect_failed proxy 0 0 - UF"},
		"no name to ask for":     {honest, resource.UpstreamHTTP1, "%REQUESTED_SERVER_NAME%:7", "upstream_connect_failed proxy 0 0 - UF"},
		"not HTTP":               {saying("SSH-2.0-x\r\n\r\n"), resource.UpstreamHTTP1, "echo.example:7", "upstream_protocol_error proxy 0 0 - UPE"},
		"two readings":           {saying("HTTP/1.1 200 OK\r\nA : b\r\n\r\n"), resource.UpstreamHTTP1, "echo.example:7", "upstream_protocol_error proxy 0 0 - UPE"},
		"another protocol":       {saying("HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\n"), resource.UpstreamHTTP1, "echo.example:7", "upstream_connect_failed proxy 0 0 - UF"},
		"interim without an end": {saying(strings.Repeat("HTTP/1.1 103 x\r\n\r\n", 20)), resource.UpstreamHTTP1, "echo.example:7", "upstream_connect_failed proxy 0 0 - UF"},
		"gone":                   {saying(""), resource.UpstreamHTTP1, "echo.example:7", "upstream_connect_failed proxy 0 0 - UF"},
	} {
		t.Run(name, func(t *testing.T) {
			chain := tcpChain("proxy")
			chain.TCP.Tunnel = &resource.Tunnel{Authority: c.authority, Dynamic: strings.Contains(c.authority, "%")}
			cluster := static("proxy", c.proxy)
			cluster.Protocol = c.protocol
			r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(443, chain)}, cluster), "10.1.2.3:443")
			eventually(t, "the listener", func() bool { return r.sockets.address("virtualOutbound") != "" })
			if client, err := net.Dial("tcp", r.sockets.address("virtualOutbound")); err == nil { // the reset may come before
				_, _ = io.WriteString(client, "secret")
				if b, _ := io.ReadAll(client); len(b) > 0 {
					t.Errorf("%q came", b)
				}
				_ = client.Close()
			}
			r.logged(c.want)
			r.connections(0)
		})
	}
}

// A connection that is killed while the proxy thinks about the tunnel ends.
func TestTunnelIsInterrupted(t *testing.T) {
	for name, protocol := range map[string]resource.UpstreamProtocol{"HTTP/1.1": resource.UpstreamHTTP1, "HTTP/2": resource.UpstreamHTTP2} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{})
			silent := serve(t, func(c *net.TCPConn) {
				_, _ = c.Read(make([]byte, 64))
				close(asked)
				_, _ = io.Copy(io.Discard, c)
			})
			chain := tcpChain("proxy")
			chain.TCP.Tunnel = &resource.Tunnel{Authority: "echo.example:7"}
			cluster := static("proxy", silent)
			cluster.Protocol = protocol
			r := start(t, configOf([]*resource.Listener{virtualOutbound("proxy"), listenerOn(443, chain)}, cluster), "10.1.2.3:443")
			client := r.dial()
			_, _ = client.Write([]byte("x"))
			<-asked
			r.source.set(configOf([]*resource.Listener{virtualOutbound(blackHole)}, static(blackHole, silent)))
			if _, err := io.ReadAll(client); err == nil {
				t.Error("not closed")
			}
			r.connections(0)
		})
	}
}
