package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/resource"
)

const blackHole = resource.BlackHoleCluster

func TestForward(t *testing.T) {
	origin := serve(t, echo)
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(5432, tcpChain("db"))}, static("db", origin)), "10.1.2.3:5432")
	c := r.dial()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello" {
		t.Fatalf("%q, %v", buf, err)
	}
	r.connections(1)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		t.Fatalf("%q, %v", rest, err)
	}
	r.logged("- db 5 5 - -")
	r.connections(0)
}

// The client ends its half first; what the server sends then still arrives, and the other way round.
func TestHalfClose(t *testing.T) {
	origin := serve(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		_, _ = fmt.Fprintf(c, "got %d", len(b))
	})
	sayFirst := serve(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("bye"))
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		if string(b) != "still here" {
			t.Errorf("after the half close: %q", b)
		}
	})
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, tcpChain("a")), listenerOn(2, tcpChain("b"))},
		static("a", origin), static("b", sayFirst)), "10.1.2.3:1")
	c := r.dial()
	_, _ = c.Write([]byte("1234567"))
	_ = c.CloseWrite()
	if got := string(must(io.ReadAll(c))(t)); got != "got 7" {
		t.Errorf("%q", got)
	}
	r.sockets.mu.Lock()
	r.sockets.dst = netip.MustParseAddrPort("10.1.2.3:2")
	r.sockets.mu.Unlock()
	c = r.dial()
	if got := string(must(io.ReadAll(c))(t)); got != "bye" {
		t.Errorf("%q", got)
	}
	_, _ = c.Write([]byte("still here"))
	_ = c.CloseWrite()
	r.logged("- a 7 5 - -")
	r.logged("- b 10 3 - -")
}

// A large transfer is whole. That it is spliced is tested in package socket.
func TestLargeTransfer(t *testing.T) {
	const size = 64 << 20
	want := make([]byte, 1<<20)
	_, _ = rand.Read(want)
	origin := serve(t, func(c *net.TCPConn) {
		for range size / len(want) {
			if _, err := c.Write(want); err != nil {
				t.Error(err)
				return
			}
		}
	})
	r := start(t, configOf([]*resource.Listener{virtualOutbound("db")}, static("db", origin)), "10.1.2.3:5432")
	c := r.dial()
	buf := make([]byte, len(want))
	for i := range size / len(want) {
		if _, err := io.ReadFull(c, buf); err != nil || !bytes.Equal(buf, want) {
			t.Fatalf("megabyte %d: %v", i, err)
		}
	}
	if _, err := c.Read(buf); err != io.EOF {
		t.Fatal(err)
	}
	_ = c.Close()
	r.logged(fmt.Sprintf("- db 0 %d - -", size))
}

// Where the server speaks first, on a port without inspectors nothing is waited for;
// on one with inspectors the connection goes on after the timeout.
func TestServerFirst(t *testing.T) {
	origin := serve(t, func(c *net.TCPConn) { _, _ = c.Write([]byte("220 ready\r\n")); echo(c) })
	inspecting := listenerOn(3306, tcpChain("db"))
	inspecting.InspectTLS, inspecting.InspectHTTP, inspecting.InspectorsTimeout = true, true, 20*time.Millisecond
	for name, l := range map[string]*resource.Listener{"plain": listenerOn(3306, tcpChain("db")), "inspectors": inspecting} {
		t.Run(name, func(t *testing.T) {
			r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("db", origin)), "10.1.2.3:3306")
			c := r.dial()
			buf := make([]byte, 11)
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "220 ready\r\n" {
				t.Fatalf("%q, %v", buf, err)
			}
			_ = c.Close()
			r.logged("- db 0 11 - -")
		})
	}
}

// Where the listener does not want to go on after the timeout, the connection is closed.
func TestTimeoutWithoutContinue(t *testing.T) {
	l := listenerOn(3306, tcpChain("db"))
	l.InspectTLS, l.InspectorsTimeout, l.ContinueOnTimeout = true, 10*time.Millisecond, false
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("db", serve(t, echo))), "10.1.2.3:3306")
	c := r.dial()
	if b, err := io.ReadAll(c); err == nil && len(b) > 0 {
		t.Errorf("%q", b)
	}
	r.logged("downstream_timeout - 0 0 - -")
}

// tlsListener routes by SNI as Istio does; everything else is refused.
func tlsListener() *resource.Listener {
	l := listenerOn(443, tcpChain("wiki", "www.wikipedia.org"))
	l.InspectTLS = true
	l.DefaultFilterChain = tcpChain(blackHole)
	return l
}

func TestTLSByServerName(t *testing.T) {
	cert := certificate(t, "www.wikipedia.org")
	origin := serve(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		_, _ = io.Copy(s, s)
	})
	tests := map[string]struct {
		sni     string
		binding decide.Binding
		allowed bool
		log     string
		alert   string
	}{
		"allowed":  {sni: "www.wikipedia.org", allowed: true},
		"denied":   {sni: "www.google.com", log: "not_in_registry BlackHoleCluster 0 0 www.google.com UH", alert: "unrecognized name"},
		"missing":  {sni: "", log: "address_not_in_registry BlackHoleCluster 0 0 - UH", alert: "access denied"},
		"mismatch": {sni: "www.wikipedia.org", binding: decide.Binding{Name: "www.google.com", Strict: true}, log: "sni_mismatch - 0 0 www.wikipedia.org UH", alert: "unrecognized name"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := configOf([]*resource.Listener{virtualOutbound(blackHole), tlsListener()}, static("wiki", origin))
			r := start(t, cfg, "10.1.2.3:443")
			r.bindings["10.1.2.3"] = tc.binding
			c := tls.Client(r.dial(), &tls.Config{ServerName: tc.sni, InsecureSkipVerify: true})
			err := c.Handshake()
			if !tc.allowed {
				if err == nil || !strings.Contains(err.Error(), tc.alert) {
					t.Errorf("the client sees %v, want the alert %q", err, tc.alert)
				}
				r.logged(tc.log)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte("over TLS"))
			buf := make([]byte, 8)
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "over TLS" {
				t.Fatalf("%q, %v", buf, err)
			}
		})
	}
}

// A hello in tiny pieces is the same hello; one that never ends is refused, not
// passed on as something else.
func TestSlowHello(t *testing.T) {
	l := tlsListener()
	l.InspectorsTimeout = 50 * time.Millisecond
	l.DefaultFilterChain = tcpChain("raw")
	secret := make(chan struct{}, 1)
	origin := serve(t, func(*net.TCPConn) { secret <- struct{}{} })
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("raw", origin)), "10.1.2.3:443")
	c := r.dial()
	_, _ = c.Write(captureHello(t, &tls.Config{ServerName: "www.google.com"})[:100])
	if _, err := io.ReadAll(c); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	r.logged("bad_request - 0 0 - DPE")
	c = r.dial()
	_, _ = c.Write(helloBytes(sniExt("a\x00b")))
	if b := must(io.ReadAll(c))(t); !bytes.Equal(b, []byte{21, 3, 3, 0, 2, 2, alertDecodeError}) {
		t.Errorf("%x", b)
	}
	r.logged("bad_request - 0 0 - DPE")
	select {
	case <-secret:
		t.Error("the connection reached the origin")
	default:
	}
}

// On a port that leads nowhere: what is said first tells how to refuse it, and its name.
func TestDeniedPort(t *testing.T) {
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole)}), "240.242.0.1:8080")
	r.bindings["240.242.0.1"] = decide.Binding{Name: "www.google.com", Unregistered: true, Strict: true}
	c := r.dial()
	_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: www.google.com\r\n\r\n"))
	head := make([]byte, 12)
	if _, err := io.ReadFull(c, head); err != nil || string(head) != "HTTP/1.1 502" {
		t.Errorf("%q, %v", head, err)
	}
	_ = c.Close()

	tc := tls.Client(r.dial(), &tls.Config{ServerName: "www.google.com"})
	if err := tc.Handshake(); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Error(err)
	}
	r.logged("not_in_registry BlackHoleCluster 0 0 www.google.com UH")

	silent := r.dial()
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent client sees %v", err)
	}
	r.logged("not_in_registry BlackHoleCluster 0 0 - UH")
	garbage := r.dial()
	_, _ = garbage.Write([]byte{0, 1, 2, 3})
	if _, err := garbage.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a binary client sees %v", err)
	}
	r.connections(0)
}

func TestFailures(t *testing.T) {
	closed := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	to := closed.Addr().(*net.TCPAddr).AddrPort()
	_ = closed.Close()
	empty := static("empty", to)
	empty.Endpoints.Localities = nil
	r := start(t, configOf([]*resource.Listener{virtualOutbound("refuses"), listenerOn(1, tcpChain("nowhere")), listenerOn(2, tcpChain("empty"))},
		static("refuses", to), empty), "10.1.2.3:9")
	for port, want := range map[uint16]string{
		9: "upstream_connect_failed refuses 0 0 - UF", 1: "no_cluster nowhere 0 0 - NC", 2: "no_healthy_upstream empty 0 0 - UH",
	} {
		r.sockets.mu.Lock()
		r.sockets.dst = netip.AddrPortFrom(netip.MustParseAddr("10.1.2.3"), port)
		r.sockets.mu.Unlock()
		r.closedAtOnce()
		r.logged(want)
	}
}

// Who ended a connection is told as Envoy does: by its flag where the upstream reset it.
func TestUpstreamReset(t *testing.T) {
	origin := serve(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 2))
		_ = c.SetLinger(0)
	})
	for _, kind := range []string{"plain", "TLS that ends here"} {
		t.Run(kind, func(t *testing.T) {
			ca := newAuthority(t)
			chain := tcpChain("db")
			if kind != "plain" {
				chain.TLS = &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}, HandshakeTimeout: patience}
			}
			r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, chain)}, static("db", origin)), "10.1.2.3:1")
			var c net.Conn = r.dial()
			if kind != "plain" {
				c = tls.Client(c, &tls.Config{ServerName: "a.example", RootCAs: ca.pool()})
			}
			if _, err := io.WriteString(c, "ab"); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, c)
			r.logged("upstream_reset db 2 0 - UR")
		})
	}
}

// A server that takes TLS but not the certificate that it is shown says so after the
// client's handshake (TLS 1.3); it is a failure of TLS.
func TestServerRefusesTheCertificate(t *testing.T) {
	own := certificate(t, "db.example")
	origin := serve(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13})
		_ = s.Handshake()
		_, _ = io.Copy(io.Discard, c) // so that the alert is not lost by a reset
	})
	db := static("db", origin)
	db.TLS = &resource.UpstreamTLS{SNI: "db.example", SkipVerify: true}
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, tcpChain("db"))}, db), "10.1.2.3:1")
	r.closedAtOnce()
	r.logged("upstream_tls_failed db 0 0 - UC")
}

func TestIdleTimeout(t *testing.T) {
	origin := serve(t, echo)
	chain := tcpChain("db")
	chain.TCP.IdleTimeout = 30 * time.Millisecond
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, chain)}, static("db", origin)), "10.1.2.3:1")
	c := r.dial()
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	r.logged("downstream_timeout db 0 0 - SI")
}

// A new configuration closes exactly the connections that it does not allow.
func TestJudgedAgain(t *testing.T) {
	origin := serve(t, echo)
	clusters := []*resource.Cluster{static("a", origin), static("b", origin), static("gateway", origin)}
	cfg := configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, tcpChain("a")), listenerOn(2, tcpChain("b")), listenerOn(3, tcpChain("b"))}, clusters...)
	r := start(t, cfg, "10.1.2.3:1")
	open := func(port uint16) *net.TCPConn {
		r.sockets.mu.Lock()
		r.sockets.dst = netip.AddrPortFrom(netip.MustParseAddr("10.1.2.3"), port)
		r.sockets.mu.Unlock()
		c := r.dial()
		ping(t, c)
		return c
	}
	one, two, three := open(1), open(2), open(3)
	r.connections(3)
	// 1 stays, under a new chain value; 2 has no listener any more; 3 has to go another way.
	r.source.set(configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, tcpChain("a")), listenerOn(3, tcpChain("gateway"))}, clusters...))
	for _, c := range []*net.TCPConn{two, three} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection that is no longer allowed: %v", err)
		}
	}
	r.connections(1)
	ping(t, one)
	r.logged("policy_changed b 4 4 - UH")
	// The cluster is gone.
	r.source.set(configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, tcpChain("a"))}))
	if _, err := one.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to a cluster that is gone: %v", err)
	}
	r.logged("policy_changed a 8 8 - UH")
}

func ping(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ping" {
		t.Fatalf("%q, %v", buf, err)
	}
}

func TestListenersFollowTheConfiguration(t *testing.T) {
	origin := serve(t, echo)
	bound := func(name, address, cluster string) *resource.Listener {
		return &resource.Listener{Name: name, Address: netip.MustParseAddrPort(address), BindToPort: true, FilterChains: []*resource.FilterChain{tcpChain(cluster)}}
	}
	clusters := []*resource.Cluster{static("a", origin), static("b", origin)}
	r := start(t, configOf([]*resource.Listener{virtualOutbound("a")}, clusters...), "10.1.2.3:1")
	c := r.dial()
	ping(t, c)
	before := r.sockets.address("virtualOutbound")

	r.source.set(configOf([]*resource.Listener{virtualOutbound("a"), bound("0.0.0.0_8080", "0.0.0.0:8080", "b")}, clusters...))
	eventually(t, "a second listener", func() bool {
		return slices.Equal(r.proxy.Info().Listeners, []string{"0.0.0.0_8080", "virtualOutbound"})
	})
	gateway := must(net.Dial("tcp", r.sockets.address("0.0.0.0_8080")))(t)
	defer gateway.Close()
	ping(t, gateway)

	r.source.set(configOf([]*resource.Listener{virtualOutbound("a"), bound("renamed", "0.0.0.0:8080", "b")}, clusters...))
	eventually(t, "the new name", func() bool { return slices.Equal(r.proxy.Info().Listeners, []string{"renamed", "virtualOutbound"}) })
	ping(t, gateway) // the same address: the same socket, and the connection stays
	if r.sockets.opened != 2 {
		t.Errorf("%d sockets were opened, want 2", r.sockets.opened)
	}

	r.source.set(configOf([]*resource.Listener{virtualOutbound("a")}, clusters...))
	if _, err := gateway.Read(make([]byte, 1)); err == nil {
		t.Error("a connection of a listener that is gone still lives")
	}
	eventually(t, "the socket to be closed", func() bool {
		d, err := net.Dial("tcp", r.sockets.address("0.0.0.0_8080"))
		if err == nil {
			_ = d.Close()
		}
		return err != nil
	})
	ping(t, c)
	if r.sockets.address("virtualOutbound") != before {
		t.Error("the socket of an unchanged listener was replaced")
	}
}

// A listener that cannot be opened is tried again.
func TestListenRetry(t *testing.T) {
	r := start(t, nil, "10.1.2.3:1")
	r.sockets.mu.Lock()
	r.sockets.fail = true
	r.sockets.mu.Unlock()
	r.source.set(configOf([]*resource.Listener{virtualOutbound("a")}, static("a", serve(t, echo))))
	r.sockets.mu.Lock()
	r.sockets.fail = false
	r.sockets.mu.Unlock()
	ping(t, r.dial())
}

func TestTooManyConnections(t *testing.T) {
	r := start(t, configOf([]*resource.Listener{virtualOutbound("a")}, static("a", serve(t, echo))), "10.1.2.3:1", func(o *Options) { o.MaxConnections = 2 })
	first, second := r.dial(), r.dial()
	ping(t, first)
	ping(t, second)
	r.closedAtOnce()
	ping(t, first)
	_ = first.Close()
	r.connections(1)
	ping(t, r.dial())
}

// Draining stops accepting, lets live connections end, and closes those that do not.
func TestDrain(t *testing.T) {
	r := start(t, configOf([]*resource.Listener{virtualOutbound("a")}, static("a", serve(t, echo))), "10.1.2.3:1", func(o *Options) { o.DrainTimeout = patience })
	c := r.dial()
	ping(t, c)
	r.cancel()
	eventually(t, "no listeners", func() bool { return len(r.proxy.Info().Listeners) == 0 })
	ping(t, c)
	select {
	case <-r.done:
		t.Fatal("Run returned while a connection lives")
	default:
	}
	_ = c.Close()
	<-r.done
	r.logged("- a 8 8 - -")
}

func TestDrainByForce(t *testing.T) {
	r := start(t, configOf([]*resource.Listener{virtualOutbound("a")}, static("a", serve(t, echo))), "10.1.2.3:1", func(o *Options) { o.DrainTimeout = time.Millisecond })
	c := r.dial()
	ping(t, c)
	r.cancel()
	<-r.done
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	r.logged("draining a 4 4 - -")
}

func TestChoose(t *testing.T) {
	counts := map[string]int{}
	for range 4000 {
		name, _ := choose([]resource.WeightedCluster{{Name: "a", Weight: 3}, {Name: "b", Weight: 1}, {Name: "never"}})
		counts[name]++
	}
	if counts["never"] != 0 || counts["a"]+counts["b"] != 4000 || counts["a"] < 2*counts["b"] || counts["b"] == 0 {
		t.Errorf("%v", counts)
	}
}

// The kernel tells how long a spliced connection has been quiet.
func TestQuietFor(t *testing.T) {
	to := serve(t, echo)
	c := must(net.Dial("tcp", to.String()))(t)
	defer c.Close()
	eventually(t, "quiet", func() bool { q, ok := quietFor(c); return !ok || q >= 50*time.Millisecond })
	begin := time.Now()
	ping(t, c)
	q, ok := quietFor(c)
	if since := time.Since(begin); !ok || q > since+20*time.Millisecond { // the kernel counts in ticks
		t.Errorf("quiet for %s (%v) when data moved within %s", q, ok, since)
	}
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	if _, ok := quietFor(pipe); ok {
		t.Error("a pipe has no TCP_INFO")
	}
}
