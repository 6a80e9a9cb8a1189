package http

import (
	"crypto/tls"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// TestAutoConfig: a cluster with auto_config offers both versions of HTTP in TLS and speaks
// what the server chooses; what it chose is remembered, and connections are kept.
func TestAutoConfig(t *testing.T) {
	for name, c := range map[string]struct {
		http2 bool
		want  record.Protocol
	}{"server with HTTP/2": {true, record.ProtocolHTTP2}, "server without": {false, record.ProtocolHTTP11}} {
		for version := 1; version <= 2; version++ {
			t.Run(name+", client of "+[]string{"", "HTTP/1.1", "HTTP/2"}[version], func(t *testing.T) {
				var handshakes atomic.Int32
				s := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
					_, _ = io.WriteString(w, r.Proto)
				}))
				s.EnableHTTP2 = c.http2
				s.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
					handshakes.Add(1)
					if len(h.SupportedProtos) != 2 || h.SupportedProtos[0] != "h2" || h.SupportedProtos[1] != "http/1.1" {
						t.Errorf("offered %q", h.SupportedProtos)
					}
					return nil, nil
				}}
				s.StartTLS()
				defer s.Close()
				w := newWorld(t, s.Listener.Addr().String())
				cluster := w.cluster()
				cluster.Protocol, cluster.TLS = resource.UpstreamAuto, &resource.UpstreamTLS{SNI: "example.com", SkipVerify: true}
				w.configure(cluster, w.routeTo("origin"))
				caller := newCaller(t, w, version)
				want := map[record.Protocol]string{record.ProtocolHTTP2: "HTTP/2.0", record.ProtocolHTTP11: "HTTP/1.1"}[c.want]
				for range 4 {
					if resp, body := caller.do(caller.request("GET", "/", nil)); resp.StatusCode != 200 || body != want {
						t.Errorf("%v %q, want %s", resp, body, want)
					}
					w.next()
					pool := &w.handler.pool
					until(t, "the connection is there for the next", func() bool { return pool.idle.Load()+pool.shared.Load() > 0 })
				}
				if n := handshakes.Load(); n != 1 {
					t.Errorf("%d connections for four requests, one after the other", n)
				}
			})
		}
	}
}
