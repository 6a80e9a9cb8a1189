package http

import (
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"testing"

	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// pairing is what is spoken on either side of the proxy.
type pairing struct{ down, up int }

func (p pairing) String() string { return fmt.Sprintf("h%d to h%d", p.down, p.up) }

func (p pairing) protocol() record.Protocol {
	if p.down == 2 {
		return record.ProtocolHTTP2
	}
	return record.ProtocolHTTP11
}

// matrix runs a scenario for each pairing, with an origin that is net/http's server and
// a client that is net/http's too.
func matrix(t *testing.T, handler nethttp.HandlerFunc, scenario func(t *testing.T, p pairing, w *world, c *caller)) {
	for _, p := range []pairing{{1, 1}, {1, 2}, {2, 1}, {2, 2}} {
		t.Run(p.String(), func(t *testing.T) {
			addr := startServer(t, p.up, handler)
			w := newWorld(t, addr)
			w.speak(p.up)
			w.configure(w.clusterOf("origin", addr), w.routeTo("origin"))
			scenario(t, p, w, newCaller(t, w, p.down))
		})
	}
}

// startServer is a real server that speaks one version, without TLS.
func startServer(t testing.TB, version int, handler nethttp.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = protocols(version)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func protocols(version int) *nethttp.Protocols {
	p := new(nethttp.Protocols)
	p.SetHTTP1(version == 1)
	p.SetUnencryptedHTTP2(version == 2)
	return p
}

// speak makes clusters that are made from now on speak a version.
func (w *world) speak(version int) {
	w.protocol = resource.UpstreamHTTP1
	if version == 2 {
		w.protocol = resource.UpstreamHTTP2
	}
}

// cluster is a copy of the cluster in force.
func (w *world) cluster() *resource.Cluster {
	c := *w.cfg.Load().Clusters["origin"].Cluster
	return &c
}

// caller is a client of one version.
type caller struct {
	t testing.TB
	*nethttp.Client
	url string
}

func newCaller(t testing.TB, w *world, version int) *caller {
	tr := &nethttp.Transport{Protocols: protocols(version), DisableCompression: true, ExpectContinueTimeout: patient}
	t.Cleanup(tr.CloseIdleConnections)
	return &caller{t, &nethttp.Client{Transport: tr, Timeout: patient,
		CheckRedirect: func(*nethttp.Request, []*nethttp.Request) error { return nethttp.ErrUseLastResponse }}, "http://" + w.listener.Addr().String()}
}

// request makes a request for example.com.
func (c *caller) request(method, path string, body io.Reader, header ...string) *nethttp.Request {
	c.t.Helper()
	q, err := nethttp.NewRequest(method, c.url+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	q.Host = "example.com"
	for i := 0; i < len(header); i += 2 {
		q.Header.Add(header[i], header[i+1])
	}
	return q
}

// do sends a request and reads the whole answer.
func (c *caller) do(q *nethttp.Request) (*nethttp.Response, string) {
	c.t.Helper()
	s, err := c.Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Body.Close()
	b, err := io.ReadAll(s.Body)
	if err != nil {
		c.t.Fatalf("%v after %d bytes", err, len(b))
	}
	return s, string(b)
}
