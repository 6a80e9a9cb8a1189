package egretproxy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/proxyconfig"
	"github.com/egret-mesh/egret/internal/proxystatus"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

// table is what proxy-config prints of the proxy at an admin address.
func table(t *testing.T, admin, kind, format string, f proxyconfig.Filter) string {
	t.Helper()
	dump, err := proxyconfig.Read(strings.NewReader(get(t, "http://"+admin+"/config_dump?include_eds")))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := proxyconfig.Print(&out, f.Select(dump), kind, proxyconfig.Options{Format: format, Verbose: true, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Under the same control plane proxy-config prints the same of an Egret proxy and of a
// stock Envoy, and egretd tells that both have everything.
func TestProxyConfigOfBoth(t *testing.T) {
	gateway := runtest.FreeAddress(t)
	dir := t.TempDir()
	policy(t, dir, "api.example.com", website(t, "origin"), gateway)
	p := startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0", MonitoringAddress: "127.0.0.1:0"})
	works := func() bool { return ask(gateway.String(), "api.example.com") == "200 origin: api.example.com" }

	ours := runtest.FreeAddress(t)
	stop := startProxy(t, writeBootstrap(t, gatewayNode, ours, nil, p.xds))
	runtest.Eventually(t, "the proxy answers", works)
	kinds := []string{"listeners", "routes", "clusters", "endpoints"}
	egret := map[string]string{}
	for _, kind := range kinds {
		egret[kind] = table(t, ours.String(), kind, "short", proxyconfig.Filter{})
	}
	for kind, want := range map[string]string{
		"listeners": "Route: http.", "routes": "api.example.com", "endpoints": "HEALTHY",
		"clusters": "api.example.com      80       -          outbound      EDS",
	} {
		if !strings.Contains(egret[kind], want) {
			t.Errorf("no %q in\n%s", want, egret[kind])
		}
	}
	if got := table(t, ours.String(), "bootstrap", "short", proxyconfig.Filter{}); !strings.Contains(got, "Egret Version:") {
		t.Error(got)
	}
	if got := table(t, ours.String(), "clusters", "json", proxyconfig.Filter{FQDN: "api", Direction: "outbound", Port: 80}); !strings.Contains(got, `"edsClusterConfig"`) || strings.Contains(got, "xds-grpc") {
		t.Error(got)
	}
	if got := table(t, ours.String(), "all", "yaml", proxyconfig.Filter{}); !strings.Contains(got, "\nlisteners:\n") {
		t.Error(got)
	}
	checkSynced(t, p)
	stop()

	theirs := runtest.FreeAddress(t)
	startEnvoy(t, findEnvoy(t), writeBootstrap(t, gatewayNode, theirs, nil, p.xds))
	runtest.Eventually(t, "Envoy answers", works)
	for _, kind := range kinds {
		got := table(t, theirs.String(), kind, "short", proxyconfig.Filter{})
		if strings.ReplaceAll(got, theirs.String(), ours.String()) != egret[kind] {
			t.Errorf("%s of Envoy:\n%s\nof Egret:\n%s", kind, got, egret[kind])
		}
	}
	checkSynced(t, p)
}

// picky is a proxy that refuses every cluster with a word in its body, until that is nothing.
type picky struct {
	mu   sync.Mutex
	word string
}

func (p *picky) Apply(u xds.Update) map[string]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	errs := map[string]error{}
	for _, r := range u.Changed {
		if u.TypeURL == xds.ClusterType && p.word != "" && strings.Contains(string(r.Body.GetValue()), p.word) {
			errs[r.Name] = fmt.Errorf("%s leads to %s, where I will not go", r.Name, p.word)
		}
	}
	return errs
}

// What a proxy refuses is told by egret proxy-status: the proxy, the resource, its words,
// and an exit status; and no longer when there is something better.
func TestProxyStatusTellsOfRefusals(t *testing.T) {
	dir := t.TempDir()
	entry := func(address string) {
		replace(t, filepath.Join(dir, "entry.yaml"), fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  endpoints: [{address: %s}]
`, address))
	}
	entry("bad.example.net")
	p := startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0", MonitoringAddress: "127.0.0.1:0"})
	conn, err := xds.Dial(p.xds, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	node := mesh.Node{Type: mesh.NodeSidecar, Name: "web", Namespace: "shop", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	client := xds.NewClient(conn, xds.ClientOptions{Node: xdsgen.EncodeNode(node, "cluster.local"), Delta: true, Handler: &picky{word: "bad.example.net"}})
	client.Subscribe(xds.ClusterType, nil)
	client.Subscribe(xds.ListenerType, nil)
	stop := runtest.Run(t, "picky proxy", client.Run)
	defer stop()
	egret := filepath.Join(programs(t), "egret")
	says := func(status int, words ...string) func() bool {
		return func() bool {
			cmd := exec.Command(egret, "proxy-status", "--monitoring-address", p.monitoring)
			out, err := cmd.Output()
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			return cmd.ProcessState.ExitCode() == status && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(string(out), w) })
		}
	}
	runtest.Eventually(t, "the refusal is told", says(1, "web.shop     ERROR     SYNCED",
		"\nweb.shop refuses CDS ", "outbound|80||api.example.com leads to bad.example.net, where I will not go\n"))
	entry("good.example.net")
	runtest.Eventually(t, "nothing is left of it", says(0, "web.shop     SYNCED     SYNCED"))
}

func checkSynced(t *testing.T, p *plane) {
	t.Helper()
	runtest.Eventually(t, "proxy-status has nothing to say", func() bool {
		all, err := proxystatus.Read(strings.NewReader(p.status(t)))
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		bad, err := proxystatus.Print(&out, all)
		if err != nil {
			t.Fatal(err)
		}
		return !bad && len(all) == 1 && strings.Contains(out.String(), "istio-egressgateway.istio-system     SYNCED     SYNCED")
	})
}
