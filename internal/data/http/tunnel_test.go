package http

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// TestTunnels: WebSocket over any pairing of versions, and CONNECT. In HTTP/2 it is
// extended CONNECT (RFC 8441).
func TestTunnels(t *testing.T) {
	for _, p := range []pairing{{1, 2}, {2, 1}, {2, 2}} {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(t, tunnelOrigin(t, p.up).addr)
			addr := w.cluster().Endpoints.Localities[0].Endpoints[0].Address.String()
			w.hcm.HTTP2.AllowConnect = true
			w.speak(p.up)
			w.configure(w.clusterOf("origin", addr), w.routeTo("origin"))
			if p.down == 1 {
				c := w.dial()
				r := bufio.NewReader(c)
				if _, err := io.WriteString(c, get("/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")); err != nil {
					t.Fatal(err)
				}
				if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 101 ") || !hasLine(h, "upgrade: websocket") {
					t.Fatalf("%q", h)
				}
				for _, m := range []string{"abc", "defg"} {
					if _, err := io.WriteString(c, m); err != nil {
						t.Fatal(err)
					}
					expect(t, r, m)
				}
				_ = c.(*net.TCPConn).CloseWrite()
				expect(t, r, "bye")
			} else {
				f := w.dial2()
				f.head(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "example.com", ":path", "/ws", "sec-websocket-version", "13")
				f.until("HEADERS 1 :status=200")
				for _, m := range []string{"abc", "defg"} {
					if err := f.WriteData(1, false, []byte(m)); err != nil {
						t.Fatal(err)
					}
					f.until("DATA 1 " + m)
				}
				if err := f.WriteData(1, true, nil); err != nil {
					t.Fatal(err)
				}
				f.until("DATA 1 bye")
			}
			if e := w.next(); e.Status != 101 || e.Received != 7 || e.Sent != 10 || e.Reason != "" {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

// TestTunnelRefused: what the server answers instead of switching is passed on, and the
// log tells what it means for a WebSocket, as Envoy's does.
func TestTunnelRefused(t *testing.T) {
	for status, details := range map[string]string{"200 OK": "websocket_handshake_unsuccessful", "403 Forbidden": "via_upstream"} {
		o := answering(t, "HTTP/1.1 "+status+"\r\nContent-Length: 2\r\n\r\nno")
		w := newWorld(t, o.addr)
		w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin"))
		if got := w.send(get("/ws", "Connection: Upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Version: 13")); !strings.HasPrefix(got, "HTTP/1.1 "+status) || !strings.HasSuffix(got, "no") {
			t.Errorf("%q", got)
		}
		if e := w.next(); e.Details != details {
			t.Errorf("%s: recorded %+v", status, e)
		}
	}
}

// tunnelOrigin takes a WebSocket upgrade in its version, sends everything back, and
// "bye" at the end.
func tunnelOrigin(t *testing.T, version int) *origin {
	if version == 1 {
		return newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
			head, err := readHeadOf(r)
			if err != nil || !hasLine(head, "connection: upgrade") || !hasLine(head, "upgrade: websocket") || !strings.HasPrefix(head, "GET /ws HTTP/1.1\r\n") {
				_, _ = io.WriteString(c, "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
			_, _ = io.Copy(c, r)
			_, _ = io.WriteString(c, "bye")
		})
	}
	return origin2(t, []xhttp2.Setting{{ID: xhttp2.SettingEnableConnectProtocol, Val: 1}}, func(_ int, f *framed) {
		f.echo(func(stream uint32, text string) {
			if strings.HasPrefix(text, "HEADERS") {
				status := "400"
				if strings.Contains(text, ":method=CONNECT :protocol=websocket") && strings.Contains(text, ":path=/ws") {
					status = "200"
				}
				f.head(stream, status != "200", ":status", status)
			}
		})
	})
}

// TestConnect: CONNECT through a route that allows it, over all pairings.
func TestConnect(t *testing.T) {
	for _, p := range []pairing{{1, 1}, {1, 2}, {2, 1}, {2, 2}} {
		t.Run(p.String(), func(t *testing.T) {
			o := connectOrigin(t, p.up)
			w := newWorld(t, o.addr)
			w.speak(p.up)
			route := w.routeTo("origin")
			route.Match = resource.RouteMatch{Kind: resource.PathConnect}
			route.Forward.Upgrades = []resource.Upgrade{{Type: "connect", Enabled: true}}
			w.configureHost(w.clusterOf("origin", o.addr), &resource.VirtualHost{Name: "v", Domains: []string{"far.example"}, Routes: []*resource.Route{route}})
			if p.down == 1 {
				c := w.dial()
				r := bufio.NewReader(c)
				if _, err := io.WriteString(c, "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 200 ") || hasLine(h, "content-length: 0") {
					t.Fatalf("%q", h)
				}
				if _, err := io.WriteString(c, "abc"); err != nil {
					t.Fatal(err)
				}
				expect(t, r, "abc")
				_ = c.(*net.TCPConn).CloseWrite()
				expect(t, r, "bye")
			} else {
				f := w.dial2()
				f.head(1, false, ":method", "CONNECT", ":authority", "far.example:443")
				f.until("HEADERS 1 :status=200")
				if err := f.WriteData(1, false, []byte("abc")); err != nil {
					t.Fatal(err)
				}
				f.until("DATA 1 abc")
				if err := f.WriteData(1, true, nil); err != nil {
					t.Fatal(err)
				}
				f.until("DATA 1 bye")
			}
			if e := w.next(); e.Status != 200 || e.Received != 3 || e.Sent != 6 || e.Reason != "" || e.Authority != "far.example:443" {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

func connectOrigin(t *testing.T, version int) *origin {
	if version == 1 {
		return newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if head, err := readHeadOf(r); err != nil || !strings.HasPrefix(head, "CONNECT far.example:443 HTTP/1.1\r\n") {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			_, _ = io.Copy(c, r)
			_, _ = io.WriteString(c, "bye")
		})
	}
	return origin2(t, nil, func(_ int, f *framed) {
		f.echo(func(stream uint32, text string) {
			if strings.HasPrefix(text, "HEADERS 1 :method=CONNECT :authority=far.example:443") {
				f.head(stream, false, ":status", "200")
			}
		})
	})
}
