package http

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	nethttp "net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// tape is a client's connection of which all bytes are known before.
type tape struct {
	mu   sync.Mutex
	in   []byte
	step int // most bytes of one read
	out  bytes.Buffer
	late bool
}

func (c *tape) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.late:
		return 0, os.ErrDeadlineExceeded
	case len(c.in) == 0:
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.step)], c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *tape) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }
func (c *tape) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = !t.IsZero() && t.Before(time.Now())
	return nil
}
func (c *tape) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// wiretap is an upstream's connection: it keeps what arrives, and answers each request
// when net/http finds it whole.
type wiretap struct {
	mu       sync.Mutex
	changed  *sync.Cond
	got      []byte
	answered int
	closed   bool
	late     bool
	answer   []byte // not read yet
}

func newWiretap() *wiretap {
	c := &wiretap{}
	c.changed = sync.NewCond(&c.mu)
	return c
}

func (c *wiretap) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.late {
		return 0, net.ErrClosed
	}
	c.got = append(c.got, p...)
	c.changed.Broadcast()
	return len(p), nil
}

func (c *wiretap) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.late:
			return 0, os.ErrDeadlineExceeded
		case len(c.answer) == 0 && whole(c.got) > c.answered:
			c.answered++
			c.answer = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		if len(c.answer) > 0 {
			n := copy(p, c.answer)
			c.answer = c.answer[n:]
			return n, nil
		}
		c.changed.Wait()
	}
}

// whole is the number of whole requests. Where net/http refuses one it does not see those
// after it, so that our own parser counts, and at least one: the comparison at the end tells.
func whole(b []byte) int {
	requests, err := parseWithNetHTTP(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		ours, _ := parseOurselves(b)
		return max(len(requests)+1, len(ours))
	}
	return len(requests)
}

func (c *wiretap) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed.Broadcast()
	return nil
}

func (c *wiretap) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (c *wiretap) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (c *wiretap) SetReadDeadline(t time.Time) error  { return c.SetDeadline(t) }
func (c *wiretap) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }
func (c *wiretap) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = !t.IsZero() && t.Before(time.Now())
	c.changed.Broadcast()
	return nil
}

// onWire is what two parsers must agree on.
type onWire struct{ method, target, host, body string }

func parseWithNetHTTP(b []byte) ([]onWire, error) {
	var out []onWire
	for r := bufio.NewReader(bytes.NewReader(b)); ; {
		req, err := nethttp.ReadRequest(r)
		if err != nil {
			return out, err
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return out, err
		}
		out = append(out, onWire{req.Method, req.RequestURI, strings.ToLower(req.Host), string(body)})
	}
}

// parseOurselves also lists what was refused last, as an error.
func parseOurselves(b []byte) ([]onWire, error) {
	var out []onWire
	r := http1.NewReader(bytes.NewReader(b), new(http1.Pool), http1.Limits{Fields: 1000, HeaderBytes: 1 << 20, RequestLine: 1 << 20})
	for {
		var q http1.Request
		if err := r.ReadRequest(&q); err != nil {
			if errors.Is(err, http1.ErrClosed) {
				err = io.EOF
			}
			return out, err
		}
		m := onWire{method: strings.Clone(q.Method), target: strings.Clone(q.Target), host: strings.ToLower(q.Authority)}
		var body http1.Body
		for body.Start(r, q.Framing, q.Length, true); ; {
			p, err := body.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return out, err
			}
			m.body += string(p)
		}
		out = append(out, m)
		r.Release()
	}
}

// everywhere lets every host go to the same place.
func everywhere(t testing.TB, protocol resource.UpstreamProtocol, dial upstream.Dialer) (*Handler, func(net.Conn) *Conn) {
	t.Helper()
	l := &resource.Listener{Name: "l", Address: netip.MustParseAddrPort("0.0.0.0:80")}
	to := netip.MustParseAddrPort("192.0.2.1:80")
	c := &resource.Cluster{Name: "c", ConnectTimeout: patient, Protocol: protocol, Endpoints: &resource.Endpoints{ClusterName: "c",
		Localities: []resource.Locality{{Endpoints: []resource.Endpoint{{Host: "192.0.2.1", Port: 80, Address: to, Weight: 1}}}}}}
	m := &resource.HTTPConnectionManager{UpgradeTypes: []string{"websocket"}, UseRemoteAddress: true, GenerateRequestID: true,
		Inline: &resource.RouteConfiguration{Name: "80", VirtualHosts: []*resource.VirtualHost{{Name: "all", Domains: []string{"*"},
			Routes: []*resource.Route{{Match: resource.RouteMatch{Path: "/"}, Forward: &resource.Forward{Clusters: []resource.WeightedCluster{{Name: "c", Weight: 1}}}}}}}}}
	if err := m.Inline.Index(); err != nil {
		t.Fatal(err)
	}
	plan := decide.ConnPlan{Verdict: decide.Forward, Listener: l, Chain: &resource.FilterChain{Name: "http", HTTP: m}}
	cfg := config.Build([]*resource.Listener{l}, nil, []*resource.Cluster{c}, nil, nil)
	manager := upstream.NewManager(upstream.Options{Dialer: dial})
	h := NewHandler(Options{Upstreams: manager, Recorder: nowhere{}})
	t.Cleanup(func() { h.Close(); manager.Close() })
	info := decide.Conn{Source: netip.MustParseAddrPort("10.0.0.5:40000"), Destination: netip.MustParseAddrPort("203.0.113.7:80")}
	return h, func(n net.Conn) *Conn {
		return &Conn{Net: n, Info: info, Plan: func() (*config.Config, decide.ConnPlan) { return cfg, plan }}
	}
}

type nowhere struct{ *record.Recorder }

func (nowhere) Record(*record.Entry, []resource.AccessLog) {}

// tapped dials wiretaps.
type tapped struct {
	mu    sync.Mutex
	conns []*wiretap
}

func (d *tapped) DialContext(context.Context, string, string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newWiretap()
	d.conns = append(d.conns, c)
	return c, nil
}

// take returns what each connection got, and forgets it.
func (d *tapped) take() (raw [][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		c.mu.Lock()
		raw = append(raw, bytes.Clone(c.got))
		c.mu.Unlock()
	}
	d.conns = nil
	return raw
}

// FuzzForward sends a client's bytes through the whole handler. What goes upstream must
// be read alike by net/http and by our own parser, and be the requests that our parser
// finds in the client's bytes: each once, in order, with the same body.
func FuzzForward(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2?x HTTP/1.1\r\nHost: b:80\r\nA: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"GET http://a:80/b HTTP/1.0\r\nConnection: keep-alive, x\r\nX: y\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length\r\nTE: trailers\r\nTrailer: a\r\n\r\n",
		"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /\xc3\xa9#b HTTP/1.1\r\nHost: a\r\n\r\nGET  HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked;a\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s), uint16(4096))
		f.Add([]byte(s), uint16(1))
	}
	d := &tapped{}
	h, conn := everywhere(f, resource.UpstreamHTTP1, d)
	f.Fuzz(func(t *testing.T, data []byte, step uint16) {
		h.Close() // the idle connections of the last run
		d.take()
		c := &tape{in: data, step: int(step) + 1}
		done := make(chan struct{})
		go func() { defer close(done); h.Serve(context.Background(), conn(c)) }()
		select {
		case <-done:
		case <-time.After(patient):
			t.Fatalf("it does not end; forwarded until now: %q", d.take())
		}
		sent, _ := parseOurselves(data)
		var forwarded []onWire
		for _, b := range d.take() {
			theirs, theirErr := parseWithNetHTTP(b)
			ours, ourErr := parseOurselves(b)
			if theirErr != nil && theirsRefuse(theirErr) {
				t.Skip()
			}
			if (theirErr == io.EOF) != (ourErr == io.EOF) || len(theirs) != len(ours) {
				t.Fatalf("net/http: %q %v\nwe:       %q %v\nforwarded %q", theirs, theirErr, ours, ourErr, b)
			}
			for i := range ours {
				if ours[i] != theirs[i] {
					t.Fatalf("we read %q, net/http %q, forwarded %q", ours[i], theirs[i], b)
				}
			}
			forwarded = append(forwarded, ours...)
		}
		sameAsSent(t, sent, forwarded)
	})
}

// theirsRefuse lists what net/http refuses of what is accepted and forwarded on purpose.
func theirsRefuse(err error) bool {
	s := err.Error()
	return strings.Contains(s, "invalid URL escape") || strings.Contains(s, "parse \"") ||
		strings.Contains(s, "bad trailer key") || strings.Contains(s, "invalid character") || strings.Contains(s, "unsupported transfer encoding")
}

// sameAsSent: what was forwarded is what was sent, in order; some may be missing
// (answered by ourselves, or not whole when the client's bytes ended).
func sameAsSent(t *testing.T, sent, forwarded []onWire) {
	t.Helper()
	for _, got := range forwarded {
		found := false
		for len(sent) > 0 && !found {
			want := sent[0]
			sent = sent[1:]
			target := want.target
			if target == "" {
				target = "/"
			}
			if i := strings.Index(target, "://"); i >= 0 && target[0] != '/' { // the absolute form goes on as the origin form
				rest := target[i+3:]
				target = "/"
				if j := strings.IndexAny(rest, "/?"); j >= 0 {
					target = rest[j:]
				} else if want.method == "OPTIONS" {
					target = "*"
				}
			}
			found = got.method == want.method && got.target == target && got.host == want.host && got.body == want.body
		}
		if !found {
			t.Fatalf("forwarded, but not sent: %q", got)
		}
	}
}
