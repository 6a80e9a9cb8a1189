package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	nethttp "net/http"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// slowOrigin answers "/slow" when release is closed, and says when such a request came.
func slowOrigin(t *testing.T) (address string, came <-chan struct{}, release func()) {
	arrived, gate := make(chan struct{}, 10), make(chan struct{})
	address = serve(t, func(c *net.TCPConn) {
		for r := bufio.NewReader(c); ; {
			req, err := nethttp.ReadRequest(r)
			if err != nil {
				return
			}
			if req.URL.Path == "/slow" {
				arrived <- struct{}{}
				<-gate
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}).String()
	open := true
	release = func() {
		if open {
			open = false
			close(gate)
		}
	}
	t.Cleanup(release)
	return address, arrived, release
}

// When the proxy is told to stop it accepts nothing more, closes connections that are
// idle, lets requests under way finish and says that they are the last, and is gone when
// they are.
func TestDrainHTTP1(t *testing.T) {
	origin, came, release := slowOrigin(t)
	r := start(t, plainHTTP(origin), "10.1.2.3:80", func(o *Options) { o.DrainTimeout = patience })
	idle, busy, fresh := r.dial(), r.dial(), r.dial()
	if got := ask(t, idle, bufio.NewReader(idle), "a.example"); got != "200  ok" {
		t.Fatal(got)
	}
	_, _ = io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n")
	<-came
	r.connections(3)
	r.cancel()
	for _, c := range []net.Conn{idle, fresh} {
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("an idle connection: %d %v, want its end", n, err)
		}
	}
	eventually(t, "no listener", func() bool {
		c, err := net.Dial("tcp", r.address())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	select {
	case <-r.done:
		t.Fatal("gone before the request was answered")
	default:
	}
	release()
	resp := must(nethttp.ReadResponse(bufio.NewReader(busy), nil))(t)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok" || !resp.Close {
		t.Errorf("%q %v, close %v", body, err, resp.Close)
	}
	<-r.done
}

// The same over HTTP/2: streams under way finish, after GOAWAY no more are opened.
func TestDrainHTTP2(t *testing.T) {
	origin, came, release := slowOrigin(t)
	r := start(t, plainHTTP(origin), "10.1.2.3:80", func(o *Options) { o.DrainTimeout = patience })
	transport := &nethttp.Transport{Protocols: new(nethttp.Protocols),
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", r.address()) }}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	client := &nethttp.Client{Transport: transport, Timeout: patience}
	answers := make(chan string, 2)
	for range 2 {
		go func() {
			resp, err := client.Get("http://a.example/slow")
			if err != nil {
				answers <- err.Error()
				return
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			answers <- resp.Proto + " " + string(body)
		}()
	}
	<-came
	<-came
	r.cancel()
	eventually(t, "no more streams", func() bool {
		resp, err := client.Get("http://a.example/")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err != nil
	})
	release()
	for range 2 {
		if got := <-answers; got != "HTTP/2.0 ok" {
			t.Error(got)
		}
	}
	<-r.done
}

// A proxy that retires goes on to serve: each connection, idle ones and new ones, gets
// one more answer, which says that it is the last.
func TestRetireHTTP1(t *testing.T) {
	origin, _, _ := slowOrigin(t)
	r := start(t, plainHTTP(origin), "10.1.2.3:80")
	idle := r.dial()
	if got := ask(t, idle, bufio.NewReader(idle), "a.example"); got != "200  ok" {
		t.Fatal(got)
	}
	r.proxy.Retire(true)
	if got := ask(t, idle, bufio.NewReader(idle), "a.example"); got != "200  ok" {
		t.Fatalf("%s: the listener is for outbound traffic", got)
	}
	r.proxy.Retire(false)
	if !r.proxy.Draining() {
		t.Error("it does not say that it is to end")
	}
	for name, c := range map[string]net.Conn{"idle": idle, "new": r.dial()} {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
		b := bufio.NewReader(c)
		resp := must(nethttp.ReadResponse(b, nil))(t)
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok" || !resp.Close {
			t.Errorf("%s: %q %v, close %v", name, body, err, resp.Close)
		}
		if _, err := b.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: after the answer: %v, want the end", name, err)
		}
	}
}

// The same over HTTP/2: nothing that a client sends is lost, whatever GOAWAY crosses.
func TestRetireHTTP2(t *testing.T) {
	origin, _, _ := slowOrigin(t)
	r := start(t, plainHTTP(origin), "10.1.2.3:80")
	var dials atomic.Int32
	transport := &nethttp.Transport{Protocols: new(nethttp.Protocols),
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			return net.Dial("tcp", r.address())
		}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	client := &nethttp.Client{Transport: transport, Timeout: patience}
	get := func() {
		t.Helper()
		resp, err := client.Get("http://a.example/")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	get()
	before := dials.Load()
	r.proxy.Retire(false)
	eventually(t, "the client connects anew", func() bool { get(); return dials.Load() > before })
	for range 20 {
		get()
	}
}

// A client that is told to go before it has asked would take its new connection for one that
// could not be made, and fail the request (net/http does): it is told with its first.
func TestRetireNewHTTP2(t *testing.T) {
	origin, _, _ := slowOrigin(t)
	r := start(t, plainHTTP(origin), "10.1.2.3:80")
	r.proxy.Retire(false)
	c := r.dial()
	frames := http2.NewFramer(c, c)
	_, err := io.WriteString(c, http2.ClientPreface)
	if err := errors.Join(err, frames.WriteSettings(), frames.WritePing(false, [8]byte{1})); err != nil {
		t.Fatal(err)
	}
	var head bytes.Buffer
	fields := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a.example"}, {":path", "/"}} {
		_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	asked, told, answered := false, false, false
	pings := byte(1)
	for !told || !answered {
		f, err := frames.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if !f.IsAck() {
				err = frames.WritePing(true, f.Data)
			} else if pings++; pings < 50 { // time for a GOAWAY
				err = frames.WritePing(false, [8]byte{pings})
			} else if !asked {
				asked = true
				err = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: head.Bytes()})
			}
		case *http2.GoAwayFrame:
			if told = true; !asked || f.LastStreamID == 0 {
				t.Fatalf("%v before a request", f)
			}
		case *http2.DataFrame:
			answered = answered || f.StreamEnded()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A change of one listener leaves the connections and the socket of another alone, with
// requests under way in both.
func TestChangeDrainsOnlyWhatChanged(t *testing.T) {
	origin, came, release := slowOrigin(t)
	bound := func(l *resource.Listener) *resource.Listener {
		l.BindToPort = true
		return l
	}
	with := func(ports ...uint16) *config.Config {
		cfg := plainHTTP(origin)
		chain := cfg.Listener("0.0.0.0_80").FilterChains[0]
		var listeners []*resource.Listener
		for _, p := range ports {
			listeners = append(listeners, bound(listenerOn(p, chain)))
		}
		var clusters []*resource.Cluster
		for _, c := range cfg.Clusters {
			clusters = append(clusters, c.Cluster)
		}
		return configOf(listeners, clusters...)
	}
	r := start(t, with(80, 81), "10.1.2.3:80")
	to := func(name string) net.Conn {
		t.Helper()
		eventually(t, name, func() bool { return r.sockets.address(name) != "" })
		c := must(net.Dial("tcp", r.sockets.address(name)))(t)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	stays, goes, busy := to("0.0.0.0_80"), to("0.0.0.0_81"), to("0.0.0.0_80")
	reader := bufio.NewReader(stays)
	for _, c := range []struct {
		net.Conn
		r *bufio.Reader
	}{{stays, reader}, {goes, bufio.NewReader(goes)}} {
		if got := ask(t, c.Conn, c.r, "a.example"); got != "200  ok" {
			t.Fatal(got)
		}
	}
	_, _ = io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n")
	<-came
	opened := r.sockets.opened
	r.source.set(with(80))
	if n, err := goes.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("a connection of the listener that is gone: %d %v", n, err)
	}
	if got := ask(t, stays, reader, "a.example"); got != "200  ok" {
		t.Errorf("a connection of the other listener: %s", got)
	}
	release()
	resp := must(nethttp.ReadResponse(bufio.NewReader(busy), nil))(t)
	if resp.StatusCode != 200 || resp.Close {
		t.Errorf("a request of the other listener: %d, close %v", resp.StatusCode, resp.Close)
	}
	if r.sockets.opened != opened {
		t.Error("a socket was opened anew")
	}
}
