package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/data/http"
	"github.com/egret-mesh/egret/internal/data/proxy"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/xds"
)

// originHost is the name that the registry has for the origin.
const originHost = "origin.bench.test"

// patience bounds how long the first configuration may take.
const patience = 30 * time.Second

type options struct {
	origin    netip.AddrPort
	listen    string
	accessLog string // "": none
	entries   int
	log       *slog.Logger
}

// run serves until ctx ends; ready is called with the address once connections are
// served.
func run(ctx context.Context, o options, ready func(netip.AddrPort)) error {
	server, node, err := controlPlane(o)
	if err != nil {
		return err
	}
	defer server.Close()
	pipe, err := xds.NewPipe(server)
	if err != nil {
		return err
	}
	defer pipe.Close()
	store := config.NewStore(config.StoreOptions{Logger: o.log})
	client := xds.NewClient(pipe, xds.ClientOptions{
		Node: xdsgen.EncodeNode(node, "cluster.local"), Delta: true, Handler: store, Logger: o.log,
	})
	store.Attach(client)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	defer func() { <-ended }()
	defer cancel()
	if err := published(ctx, store); err != nil {
		return err
	}
	return serve(ctx, o, store, ready)
}

// controlPlane is the ADS server for a registry with the origin and others.
func controlPlane(o options) (*xds.Server, mesh.Node, error) {
	node := mesh.Node{
		Type: mesh.NodeSidecar, Name: "bench", Namespace: "default",
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, DNSCapture: true,
	}
	objects, problems := istioapi.Decode("bench.yaml", []byte(registry(o)))
	snapshot, more := mesh.New(objects, mesh.Options{DefaultPolicy: mesh.RegistryOnly, AccessLogFile: o.accessLog})
	for _, p := range append(problems, more...) {
		if p.Severity == istioapi.Error {
			return nil, node, errors.New(p.String())
		}
	}
	return xds.NewServer(xdsgen.NewGenerator(snapshot), xds.ServerOptions{Logger: o.log}), node, nil
}

// registry is the Istio objects: the origin, and o.entries services like it.
func registry(o options) string {
	const entry = `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]q, namespace: default}
spec:
  hosts: [%[2]q]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: %[4]d}]
  endpoints: [{address: %[3]q}]
`
	var b strings.Builder
	address, port := o.origin.Addr().String(), o.origin.Port()
	fmt.Fprintf(&b, entry, "origin", originHost, address, port)
	for i := range o.entries {
		fmt.Fprintf(&b, entry, fmt.Sprintf("other-%d", i), fmt.Sprintf("other-%d.bench.test", i), address, port)
	}
	return b.String()
}

// published waits for a complete configuration, with the name table.
func published(ctx context.Context, store *config.Store) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	changed, unsubscribe := store.Subscribe()
	defer unsubscribe()
	for c := store.Current(); c == nil || c.Names == nil; c = store.Current() {
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("no configuration: %w", ctx.Err())
		}
	}
	return nil
}

// serve runs the proxy on the configuration of the store.
func serve(ctx context.Context, o options, store *config.Store, ready func(netip.AddrPort)) error {
	recorder, err := record.New(record.Options{
		Logger: o.log, Workload: record.Workload{Name: "bench", Namespace: "default"},
	})
	if err != nil {
		return err
	}
	defer recorder.Close()
	manager := upstream.NewManager(upstream.Options{Source: store, Logger: o.log})
	defer manager.Close()
	names := dns.New(dns.Options{Source: store, Recorder: recorder, Logger: o.log})
	answer := names.Assign(store.Current(), originHost)
	if len(answer.Addresses) == 0 {
		return fmt.Errorf("the name table has no address for %q", originHost)
	}
	handler := http.NewHandler(http.Options{Upstreams: manager, Recorder: recorder, Logger: o.log})
	defer handler.Close()
	s := &sockets{listen: o.listen, destination: netip.AddrPortFrom(answer.Addresses[0], 80), ready: ready}
	return proxy.New(proxy.Options{
		Source: store, Sockets: s, Upstreams: manager, HTTP: handler,
		Recorder: recorder, Binder: names, Logger: o.log,
	}).Run(ctx)
}

// sockets stands for the capture: one loopback socket for the listener that takes
// captured connections, and for all of them one original destination.
type sockets struct {
	listen      string
	destination netip.AddrPort
	ready       func(netip.AddrPort)
	opened      atomic.Bool
}

// Listen opens the outbound listener; others have no socket here.
func (s *sockets) Listen(ctx context.Context, l *resource.Listener) ([]net.Listener, error) {
	if !l.UseOriginalDst || l.Direction == resource.DirectionInbound || !s.opened.CompareAndSwap(false, true) {
		return nil, nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.listen)
	if err != nil {
		return nil, err
	}
	address, err := netip.ParseAddrPort(ln.Addr().String())
	if err != nil {
		return nil, err
	}
	s.ready(address)
	return []net.Listener{ln}, nil
}

// OriginalDestination is the origin's registered address.
func (s *sockets) OriginalDestination(net.Conn) (netip.AddrPort, error) { return s.destination, nil }
