package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// listen runs f for each connection to a loopback listener, and closes it after.
func listen(t testing.TB, f func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				f(c)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// hello says hello and waits for the other side to close.
func hello(c net.Conn) {
	_, _ = c.Write([]byte("hello"))
	_, _ = io.Copy(io.Discard, c)
}

func readHello(t *testing.T, c net.Conn) {
	t.Helper()
	buf := make([]byte, 5)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello" {
		t.Errorf("read %q, %v", buf, err)
	}
	_ = c.Close()
}

// refused is a loopback address where nobody listens.
func refused(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// dialFunc is a Dialer.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

func TestDialReturnsPlainTCP(t *testing.T) {
	addr := listen(t, hello)
	m := manager(t, Options{})
	c := cluster("c", resource.DiscoveryStatic, addr.String())
	c.TCPKeepalive = &resource.TCPKeepalive{Time: 7 * time.Second, Interval: 3 * time.Second, Probes: 2}
	h := pick(t, m, c, nil)
	conn, err := m.Dial(t.Context(), c, h, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := conn.(*net.TCPConn); !ok {
		t.Errorf("%T cannot be spliced", conn)
	}
	checkKeepAlive(t, conn.(*net.TCPConn), 7, 3, 2)
	readHello(t, conn)
}

func TestDialFailures(t *testing.T) {
	m := manager(t, Options{})
	c := cluster("c", resource.DiscoveryStatic, refused(t))
	h := pick(t, m, c, nil)
	_, err := m.Dial(t.Context(), c, h, nil, nil)
	if err == nil || err.Reason != reason.UpstreamConnectFailed || err.Flag != "UF" || err.Host != h.String() {
		t.Errorf("error %+v", err)
	}
	if !h.suspect() {
		t.Error("the host is not suspect")
	}

	// A caller who goes away says nothing about the host.
	h.connected()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Dial(ctx, c, h, nil, nil); err == nil || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if h.suspect() {
		t.Error("a caller who went away makes the host suspect")
	}
}

func TestDialHeedsTheConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Options{Dialer: dialFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})})
		defer m.Close()
		for _, timeout := range []time.Duration{0, 2 * time.Second} {
			c := cluster("c"+timeout.String(), resource.DiscoveryStatic, "192.0.2.1:80")
			c.ConnectTimeout = timeout
			want := timeout
			if want == 0 {
				want = defaultConnectTimeout
			}
			start := time.Now()
			_, err := m.Dial(t.Context(), c, pick(t, m, c, nil), nil, nil)
			if err == nil || !errors.Is(err, errConnectTimeout) || err.Reason != reason.UpstreamConnectFailed {
				t.Errorf("error %v", err)
			}
			if took := time.Since(start); took != want {
				t.Errorf("took %s, want %s", took, want)
			}
		}
	})
}

// TestDialJudgesTheAddress: even a host that should never have been picked is refused.
func TestDialJudgesTheAddress(t *testing.T) {
	addr := listen(t, hello)
	m := manager(t, Options{})
	c := cluster("PassthroughCluster", resource.DiscoveryOriginalDst)
	s := m.state(c)
	h := s.destination(c, hostKey{addr: addr})
	if _, err := m.Dial(t.Context(), c, h, nil, nil); err == nil || err.Reason != reason.AddressForbidden {
		t.Errorf("error %v", err)
	}
}

func TestConnectTriesOtherHosts(t *testing.T) {
	good := listen(t, hello)
	m := manager(t, Options{})
	c := cluster("c", resource.DiscoveryStatic, refused(t), good.String(), refused(t))
	for range 10 {
		conn, h, err := m.Connect(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if h.Addr() != good {
			t.Errorf("connected to %s", h)
		}
		readHello(t, conn)
	}
}

func TestConnectStopsAfterFourHosts(t *testing.T) {
	var mu sync.Mutex
	var dialled []string
	m := manager(t, Options{Dialer: dialFunc(func(_ context.Context, _, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		dialled = append(dialled, address)
		return nil, errors.New("refused")
	})})
	tests := []struct{ hosts, want int }{{1, 1}, {2, 2}, {4, 4}, {9, 4}}
	for _, tt := range tests {
		var eps []string
		for i := range tt.hosts {
			eps = append(eps, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 80).String())
		}
		dialled = nil
		c := cluster("c"+strconv.Itoa(tt.hosts), resource.DiscoveryStatic, eps...)
		_, h, err := m.Connect(t.Context(), c, nil)
		if err == nil || err.Reason != reason.UpstreamConnectFailed || h == nil {
			t.Fatalf("host %v, error %v", h, err)
		}
		slices.Sort(dialled)
		if n := len(slices.Compact(dialled)); len(dialled) != tt.want || n != tt.want {
			t.Errorf("%d hosts: %d attempts on %d of them, want %d", tt.hosts, len(dialled), n, tt.want)
		}
		if err.Host != h.String() {
			t.Errorf("the error is about %s, the host is %s", err.Host, h)
		}
	}
	_, h, err := m.Connect(t.Context(), cluster("none", resource.DiscoveryStatic), nil)
	if h != nil || err == nil || err.Reason != reason.NoHealthyUpstream {
		t.Errorf("host %v, error %v", h, err)
	}
}

// TestConnectFallsBackOverFamilies: an address that cannot be reached costs a try, not
// the connection.
func TestConnectFallsBackOverFamilies(t *testing.T) {
	z := &zone{ttl: time.Minute}
	z.set("dual.example", "192.0.2.1", "2001:db8::1")
	m := manager(t, Options{Resolver: z, Dialer: dialFunc(func(_ context.Context, _, address string) (net.Conn, error) {
		if address != "192.0.2.1:443" {
			return nil, errors.New("network is unreachable")
		}
		a, b := net.Pipe()
		_ = b.Close()
		return a, nil
	})})
	for _, c := range []*config.Cluster{
		cluster("strict", resource.DiscoveryStrictDNS, "dual.example:443"),
		cluster("logical", resource.DiscoveryLogicalDNS, "dual.example:443"),
		cluster("dst", resource.DiscoveryOriginalDst),
	} {
		for range 5 {
			conn, h, err := m.Connect(t.Context(), c, &Target{Destination: netip.MustParseAddrPort("240.241.0.1:443"), Name: "dual.example"})
			if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
			if h.String() != "192.0.2.1:443" {
				t.Errorf("%s: connected to %s", c.Name, h)
			}
			_ = conn.Close()
		}
	}
}
