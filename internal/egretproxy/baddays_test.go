package egretproxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/egretproxy"
	"github.com/egret-mesh/egret/internal/file/filetest"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

// relay is the network between a proxy and its control plane; it counts what comes down
// on each connection.
type relay struct {
	at   string
	mu   sync.Mutex
	down []*atomic.Int64
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{at: ln.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.carry(c, to) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		running.Wait()
	})
	return r
}

func (r *relay) carry(c net.Conn, to string) {
	defer func() { _ = c.Close() }()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	count := &atomic.Int64{}
	r.mu.Lock()
	r.down = append(r.down, count)
	r.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, c)
		_ = up.Close()
	}()
	_, _ = io.Copy(counting{c, count}, up)
	_ = c.Close()
	<-done
}

// counting counts what is written.
type counting struct {
	io.Writer
	n *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// counts are the bytes of each connection that carried any.
func (r *relay) counts() (out []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.down {
		if n := c.Load(); n > 0 {
			out = append(out, n)
		}
	}
	return out
}

// load asks all the time, until stop; then it tells how many requests there were, and the
// answers that were not wanted.
func load(address, host, want string) (stop func() (int, []string)) {
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		n       int
		bad     []string
	)
	ctx, cancel := context.WithCancel(context.Background())
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				got := ask(address, host)
				mu.Lock()
				if n++; got != want {
					bad = append(bad, got)
				}
				mu.Unlock()
			}
		})
	}
	return func() (int, []string) {
		cancel()
		running.Wait()
		return n, bad
	}
}

// checkBrought waits until a control plane knows what a proxy brought along, and the
// proxy has acknowledged the rest.
func checkBrought(t *testing.T, p *plane) {
	t.Helper()
	held := map[string]int{xds.ClusterType: 2, xds.EndpointType: 1, xds.ListenerType: 1, xds.RouteType: 1}
	runtest.Eventually(t, "the proxy is known", func() bool {
		var status []discovery.SyncStatus
		if err := json.Unmarshal([]byte(p.status(t)), &status); err != nil || len(status) != 1 {
			return false
		}
		for _, of := range status[0].Types {
			if of.Held != held[of.TypeURL] || len(of.Pending) > 0 || of.Sent != of.Acked {
				return false
			}
		}
		return len(status[0].Types) >= len(held)
	})
}

// The control plane is killed and comes back, under load: no request fails, nothing that
// the proxy has is sent again, and the next change arrives.
func TestControlPlaneRestartsUnderLoad(t *testing.T) {
	first, second := website(t, "first"), website(t, "second")
	gateway, xdsAddress := runtest.FreeAddress(t), runtest.FreeAddress(t).String()
	dir := t.TempDir()
	policy(t, dir, "api.example.com", first, gateway)
	o := egretd.Options{Paths: []string{dir}, XDSAddress: xdsAddress, MonitoringAddress: "127.0.0.1:0"}
	p := startPlane(t, o)
	between := newRelay(t, xdsAddress)
	startProxy(t, writeBootstrap(t, gatewayNode, runtest.FreeAddress(t), nil, between.at))
	const want = "200 first: api.example.com"
	runtest.Eventually(t, "the gateway answers", func() bool { return ask(gateway.String(), "api.example.com") == want })

	stop := load(gateway.String(), "api.example.com", want)
	for range 3 {
		p.stop()
		p = startPlane(t, o)
		checkBrought(t, p)
	}
	n, bad := stop()
	if len(bad) > 0 || n == 0 {
		t.Errorf("%d of %d requests failed: %s", len(bad), n, bad)
	}
	counts := between.counts()
	if len(counts) < 4 {
		t.Fatalf("connections: %d", counts)
	}
	for _, again := range counts[1:] {
		if again > counts[0]/2 {
			t.Errorf("%d bytes after a reconnection, %d at first: it was sent again", again, counts[0])
		}
	}
	policy(t, dir, "api.example.com", second, gateway)
	runtest.Eventually(t, "the change is in force", func() bool {
		return ask(gateway.String(), "api.example.com") == "200 second: api.example.com"
	})
}

// Of two control planes one may go.
func TestTwoControlPlanes(t *testing.T) {
	first, second := website(t, "first"), website(t, "second")
	gateway := runtest.FreeAddress(t)
	dir := t.TempDir()
	policy(t, dir, "api.example.com", first, gateway)
	o := egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0", MonitoringAddress: "127.0.0.1:0"}
	one, two := startPlane(t, o), startPlane(t, o)
	startProxy(t, writeBootstrap(t, gatewayNode, runtest.FreeAddress(t), nil, one.xds, two.xds))
	runtest.Eventually(t, "the gateway answers", func() bool {
		return ask(gateway.String(), "api.example.com") == "200 first: api.example.com"
	})
	checkMonitoring(t, one)
	one.stop()
	checkBrought(t, two)
	policy(t, dir, "api.example.com", second, gateway)
	runtest.Eventually(t, "the change is in force", func() bool {
		return ask(gateway.String(), "api.example.com") == "200 second: api.example.com"
	})
}

// A proxy that is started while the control plane is away serves what it had.
func TestProxyStartsWithoutItsControlPlane(t *testing.T) {
	origin := website(t, "origin")
	gateway := runtest.FreeAddress(t)
	dir := t.TempDir()
	policy(t, dir, "api.example.com", origin, gateway)
	p := startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0"})
	b, err := bootstrap.Parse(writeBootstrap(t, gatewayNode, runtest.FreeAddress(t), nil, p.xds))
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	start := func() func() {
		return runtest.Run(t, "egret-proxy", func(ctx context.Context) error {
			return egretproxy.Run(ctx, egretproxy.Options{Bootstrap: b, Logger: runtest.Logger(t, "egret-proxy"), DrainTimeout: -1, Copy: copied})
		})
	}
	serves := func() bool { return ask(gateway.String(), "api.example.com") == "200 origin: api.example.com" }
	stop := start()
	runtest.Eventually(t, "the gateway answers", serves)
	stop()
	p.stop()
	if serves() {
		t.Fatal("somebody else answers")
	}
	start()
	runtest.Eventually(t, "the gateway answers from its copy", serves)
}

// Over TLS, with certificates on both sides that are renewed while the control plane is
// away; egret-proxy and Envoy.
func TestCertificates(t *testing.T) {
	for name, start := range map[string]func(*testing.T, []byte){
		"egret-proxy": func(t *testing.T, text []byte) { startProxy(t, text) },
		"envoy":       func(t *testing.T, text []byte) { startEnvoy(t, findEnvoy(t), text) },
	} {
		t.Run(name, func(t *testing.T) {
			a := filetest.NewAuthority(t)
			until := time.Now().Add(time.Hour)
			if name == "egret-proxy" {
				until = time.Now().Add(-time.Minute) // Envoy reads files once
			}
			gateway := runtest.FreeAddress(t)
			dir := t.TempDir()
			policy(t, dir, "api.example.com", website(t, "origin"), gateway)
			o := egretd.Options{Paths: []string{dir}, TLSAddress: runtest.FreeAddress(t).String(), MonitoringAddress: "127.0.0.1:0", TLS: xds.TLS{CA: a.CA}}
			o.TLS.Cert, o.TLS.Key = a.Issue(t, "istiod", until)
			own := &xds.TLS{CA: a.CA, Names: []string{filetest.SPIFFE("istiod")}}
			own.Cert, own.Key = a.Issue(t, "proxy", until)
			p := startPlane(t, o)
			start(t, writeBootstrap(t, gatewayNode, runtest.FreeAddress(t), own, p.secure))
			if name == "egret-proxy" {
				p.stop()
				a.Issue(t, "proxy", time.Now().Add(time.Hour))
				a.Issue(t, "istiod", time.Now().Add(time.Hour))
				p = startPlane(t, o)
			}
			runtest.Eventually(t, "the gateway answers", func() bool {
				return ask(gateway.String(), "api.example.com") == fmt.Sprintf("200 origin: %s", "api.example.com")
			})
			checkMonitoring(t, p)
		})
	}
}
