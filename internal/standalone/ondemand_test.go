package standalone

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/explain"
	"github.com/egret-mesh/egret/internal/xds"
)

// side is one sidecar's view: its configuration, and its DNS.
type side struct {
	store *config.Store
	names *dns.Server
}

// onDemandSide is the sidecar's view when it asks our control plane for what it uses.
func onDemandSide(t *testing.T, s *mesh.Snapshot, n mesh.Node) side {
	t.Helper()
	n.OnDemand = true
	server := xds.NewServer(xdsgen.NewGenerator(s, nil), xds.ServerOptions{})
	pipe, err := xds.NewPipe(server)
	if err != nil {
		t.Fatal(err)
	}
	store := config.NewStore(config.StoreOptions{OnDemand: true, Limits: config.Limits{Rate: 1 << 20, Burst: 1 << 20}})
	client := xds.NewClient(pipe, xds.ClientOptions{Node: xdsgen.EncodeNode(n, meshDomain), Delta: true, Handler: store})
	store.Attach(client)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = client.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := pipe.Close(); err != nil {
			t.Error(err)
		}
	})
	changed, end := store.Subscribe()
	defer end()
	for late := time.After(20 * time.Second); store.Current() == nil || store.Current().Names == nil; {
		select {
		case <-changed:
		case <-late:
			t.Fatal("no base configuration")
		}
	}
	return side{store, dns.New(dns.Options{Source: store, OnDemand: store})}
}

// sideCall is one call: an address that DNS gave for opened, and what the client says.
type sideCall struct {
	opened, says string
	port         uint16
	protocol     string // http, tls, tcp
}

// told is what is decided about a call.
type told struct {
	Address                            string
	Verdict                            decide.Verdict
	Reason                             string
	Listener, Chain, VirtualHost, Name string
	Clusters                           []string
}

// ask runs a decision until nothing is lacking.
func (s side) ask(answers *config.Answers, n config.Need) {
	*answers = answers.And(s.store.Find(context.Background(), n))
}

func (s side) tell(c sideCall) (out told) {
	addr, ok := netip.Addr{}, false
	if addr, ok = literal(c.opened); !ok {
		a := s.names.Assign(s.store.Current(), c.opened)
		for a.Kind == dns.Unasked {
			s.store.Find(context.Background(), config.Need{Kind: config.NeedName, Name: c.opened})
			a = s.names.Assign(s.store.Current(), c.opened)
		}
		out.Address = a.Kind.String()
		addr = netip.MustParseAddr("192.0.2.1")
		if len(a.Addresses) > 0 {
			addr = a.Addresses[0]
		}
	}
	conn := decide.Conn{Source: netip.MustParseAddrPort("10.0.0.1:1000"), Transport: "raw_buffer"}
	switch c.protocol {
	case "http":
		conn.Application = []string{"http/1.1"}
	case "tls":
		conn.Transport, conn.SNI, conn.Application = "tls", c.says, []string{"h2", "http/1.1"}
	}
	var plan decide.ConnPlan
	for {
		cfg := s.store.Current()
		conn.Binding = s.names.Binding(addr)
		conn.Destination = s.names.Destination(cfg, netip.AddrPortFrom(addr, c.port))
		plan = decide.Connection(cfg, cfg.Listener("virtualOutbound"), &conn)
		if plan.Verdict != decide.Ask {
			break
		}
		s.ask(&conn.Answers, plan.Need)
	}
	out.Verdict, out.Reason, out.Listener = plan.Verdict, string(plan.Reason), plan.Listener.Name
	if plan.Chain != nil {
		out.Chain = plan.Chain.Name
	}
	for _, w := range plan.Clusters {
		out.Clusters = append(out.Clusters, w.Name)
	}
	if plan.Verdict != decide.Forward || plan.Chain.HTTP == nil {
		return out
	}
	r := decide.Request{Method: "GET", Scheme: "http", Authority: c.says, Path: "/", Headers: noHeaders{}, Conn: &conn, Answers: conn.Answers}
	var route decide.RoutePlan
	for {
		if route = decide.Route(s.store.Current(), plan.Chain.HTTP, &r); route.Verdict != decide.Ask {
			break
		}
		s.ask(&r.Answers, route.Need)
	}
	out.Verdict, out.Reason = route.Verdict, string(route.Reason)
	if route.VirtualHost != nil {
		out.VirtualHost = route.VirtualHost.Name
	}
	if route.Route != nil {
		out.Name = route.Route.Name
		if f := route.Route.Forward; f != nil {
			for _, w := range f.Clusters {
				if out.Clusters = append(out.Clusters, w.Name); s.store.Current().Cluster(w.Name) == nil {
					out.Clusters = append(out.Clusters, "which is not there")
				}
			}
		}
	}
	return out
}

func literal(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(host)
	return a, err == nil
}

type noHeaders struct{}

func (noHeaders) Get(string) (string, bool) { return "", false }

// Whoever asks for what it uses decides as who has all of it: for every host of the
// examples, and some that are none, on every port and in every protocol, also where the
// client says another name than the one that it opened the connection to.
func TestOnDemandDecidesAsWhole(t *testing.T) {
	folders, err := filepath.Glob("../../examples/[a-z]*")
	folders = slices.DeleteFunc(folders, func(f string) bool { return filepath.Ext(f) != "" })
	if err != nil || len(folders) < 4 {
		t.Fatal(folders, err)
	}
	for _, folder := range folders {
		for _, mode := range []string{"REGISTRY_ONLY", "ALLOW_ANY"} {
			t.Run(filepath.Base(folder)+" "+mode, func(t *testing.T) { compareSides(t, folder, mode) })
		}
	}
}

func compareSides(t *testing.T, folder, mode string) {
	file := filepath.Join(t.TempDir(), "mesh.yaml")
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n    outboundTrafficPolicy: {mode: " + mode + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	paths := []string{file}
	yaml, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range yaml {
		if filepath.Base(f) != "mesh.yaml" {
			paths = append(paths, f)
		}
	}
	objects, _, err := source.Read(paths)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, _ := mesh.New(objects, Registry(objects))
	node := SidecarNode(Workload{Name: "w", Namespace: "default"})
	store, err := explain.ConfigFor(snapshot, node)
	if err != nil {
		t.Fatal(err)
	}
	whole, demand := side{store, dns.New(dns.Options{Source: store})}, onDemandSide(t, snapshot, node)
	hosts := []string{"unknown.test", "a.b.unknown.test", "203.0.113.9"}
	for _, svc := range snapshot.Services() {
		hosts = append(hosts, strings.Replace(svc.Host, "*", "some", 1))
	}
	n, forwarded := 0, 0
	for _, opened := range hosts {
		for _, says := range append(hosts, "") {
			for _, port := range []uint16{80, 443, 3306, 8080} {
				for _, protocol := range []string{"http", "tls", "tcp"} {
					if says == "" && protocol == "http" {
						continue
					}
					if _, address := literal(says); address && protocol == "tls" {
						continue // no server name is an address
					}
					c := sideCall{opened, says, port, protocol}
					want, got := whole.tell(c), demand.tell(c)
					if excused(c, want, got) {
						continue
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatalf("%+v (-whole +on demand):\n%s", c, diff)
					}
					if n++; got.Verdict == decide.Forward {
						forwarded++
					}
				}
			}
		}
	}
	t.Logf("%d calls, %d of them allowed: %+v", n, forwarded, demand.store.OnDemandStats())
	if n < 50 || forwarded == 0 {
		t.Errorf("only %d calls were compared, of which %d are allowed", n, forwarded)
	}
}

// excused are the differences of docs/security.md: which name has an address that was not
// told by DNS is not known on demand.
func excused(c sideCall, want, got told) bool {
	_, address := literal(c.opened)
	return address && c.says != c.opened && want.Reason == "host_mismatch" && (got.Reason == "not_in_registry" || got.Verdict == decide.Forward)
}
