package http

import (
	"crypto/tls"
	"io"
	"log"
	nethttp "net/http"
	"net/http/httptest"
	"testing"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// With TLS 1.3 a server says only after the client's handshake that it does not take the
// client's certificate, and so may be read in the place of an answer. It is a failure of
// TLS, whenever it is seen.
func TestServerRefusesTheCertificate(t *testing.T) {
	for name, protocol := range map[string]resource.UpstreamProtocol{"HTTP/1.1": resource.UpstreamHTTP1, "HTTP/2": resource.UpstreamHTTP2} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(nethttp.NotFoundHandler())
			s.EnableHTTP2 = true
			s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			defer s.Close()
			w := newWorld(t, s.Listener.Addr().String())
			cluster := w.cluster()
			cluster.Protocol, cluster.TLS = protocol, &resource.UpstreamTLS{SNI: "example.com", SkipVerify: true}
			w.configure(cluster, w.routeTo("origin"))
			caller := newCaller(t, w, 1)
			resp, _ := caller.do(caller.request("GET", "/", nil))
			if got := resp.Header.Get("x-egret-reason"); resp.StatusCode != 503 || got != string(reason.UpstreamTLSFailed) {
				t.Errorf("%d, %s", resp.StatusCode, got)
			}
			if e := w.next(); e.Reason != reason.UpstreamTLSFailed {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}
