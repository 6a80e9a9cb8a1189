package egretproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/cli"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/egretproxy"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

// TestMain is also each of the programs, by the name that it is called by.
func TestMain(m *testing.M) {
	args := os.Args[1:]
	switch filepath.Base(os.Args[0]) {
	case "egretd":
		os.Exit(egretd.Main(args, os.Stdout, os.Stderr))
	case "egret-proxy":
		os.Exit(egretproxy.Main(args, os.Stdout, os.Stderr))
	case "egret":
		os.Exit(cli.Main("egret", args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	goleak.VerifyTestMain(m)
}

// programs is a folder with the programs.
func programs(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"egretd", "egret-proxy", "egret"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// plane is an egretd at work.
type plane struct {
	xds, secure, monitoring string
	stop                    func()
}

func startPlane(t *testing.T, o egretd.Options) *plane {
	t.Helper()
	p := &plane{}
	listening := make(chan struct{})
	o.Logger = runtest.Logger(t, "egretd")
	o.Listening = func(xds, secure, monitoring net.Addr) {
		for a, to := range map[net.Addr]*string{xds: &p.xds, secure: &p.secure, monitoring: &p.monitoring} {
			if a != nil {
				*to = a.String()
			}
		}
		close(listening)
	}
	failed := make(chan struct{})
	p.stop = runtest.Run(t, "egretd", func(ctx context.Context) error {
		defer close(failed)
		return egretd.Run(ctx, o)
	})
	select {
	case <-listening:
	case <-failed:
		t.Fatal("egretd did not start")
	}
	return p
}

// status is what egretd tells of its proxies.
func (p *plane) status(t *testing.T) string { return get(t, "http://"+p.monitoring+"/debug/syncz") }

func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: runtest.Patience}
	r, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// gatewayNode is the egress gateway, as it tells who it is.
var gatewayNode = mesh.Node{
	Type: mesh.NodeRouter, Name: "istio-egressgateway", Namespace: "istio-system",
	Labels:    map[string]string{"istio": "egressgateway"},
	Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
}

// writeBootstrap makes the text that egret bootstrap prints.
func writeBootstrap(t *testing.T, node mesh.Node, admin netip.AddrPort, secured *xds.TLS, servers ...string) []byte {
	t.Helper()
	n := xdsgen.EncodeNode(node, "cluster.local")
	n.Cluster = node.Name
	n.Metadata.Fields["NAME"] = structpb.NewStringValue(node.Name)
	m, err := bootstrap.New(bootstrap.Options{Node: n, Admin: admin, Servers: servers, TLS: secured})
	if err != nil {
		t.Fatal(err)
	}
	text, err := bootstrap.YAML(m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// startProxy starts egret-proxy with a bootstrap.
func startProxy(t *testing.T, text []byte) (stop func()) {
	t.Helper()
	b, err := bootstrap.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return runtest.Run(t, "egret-proxy", func(ctx context.Context) error {
		return egretproxy.Run(ctx, egretproxy.Options{Bootstrap: b, Logger: runtest.Logger(t, "egret-proxy"), DrainTimeout: -1})
	})
}

// website answers every request with its name and the host that was asked for.
func website(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s: %s", name, r.Host) })
}

// serve serves HTTP on loopback until the test ends.
func serve(t *testing.T, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return netip.MustParseAddrPort(ln.Addr().String())
}

// ask sends one request for a host to an address, on a connection of its own.
func ask(address, host string) string {
	c, err := net.DialTimeout("tcp", address, runtest.Patience)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(runtest.Patience)); err != nil {
		return err.Error()
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return err.Error()
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error()
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", r.StatusCode, body)
}

// policy writes the YAML of an egress gateway for one host that is at origin; the
// gateway listens at listener.
func policy(t *testing.T, dir, host string, origin, listener netip.AddrPort) {
	t.Helper()
	text := fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: egress-gateway, namespace: istio-system}
spec:
  hosts: [istio-egressgateway.istio-system.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: %d}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, labels: {istio: egressgateway}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: site}
spec:
  hosts: [%s]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: %d}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [%s]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: through-gateway}
spec:
  hosts: [%s]
  gateways: [mesh, egress]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]
  - match: [{gateways: [egress], port: 80}]
    route: [{destination: {host: %s, port: {number: 80}}}]
`, listener.Port(), host, origin.Port(), host, host, host)
	replace(t, filepath.Join(dir, "policy.yaml"), text)
}

// replace writes a file whole or not at all.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+"~", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

// slowWebsite tells of each request, and answers when it may.
func slowWebsite(t *testing.T) (at netip.AddrPort, requests chan struct{}, answer chan struct{}) {
	t.Helper()
	requests, answer = make(chan struct{}, 16), make(chan struct{})
	return serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests <- struct{}{}
		<-answer
		fmt.Fprint(w, "slow")
	}), requests, answer
}
