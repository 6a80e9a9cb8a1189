// Package control is a control plane for benchmarks: Istio objects become xDS with
// Egret's own generator, served over ADS on loopback. Egret's proxy and Envoy are fed
// from it alike, so both carry out the same resources.
//
// It must not write resources of its own. The one thing that it may change is where a
// listener is bound, and only for a proxy that nothing captures traffic for (Binds).
package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/xds"
)

// Domain of the mesh: Istio's default.
const Domain = "cluster.local"

// Options of Start.
type Options struct {
	YAML      string // Istio objects
	AccessLog string // file; "": none
	// Gateway is where the egress gateway listens, for its ports 80 and 443; the zero
	// value is no gateway.
	Gateway Gateway
	// Binds gives listeners by name an address to bind to. For a sidecar that
	// nothing captures traffic for; see binder.
	Binds map[string]netip.AddrPort
	Log   *slog.Logger
}

// Gateway is an egress gateway's place on loopback.
type Gateway struct {
	Address     netip.Addr
	HTTP, HTTPS uint16
}

// Plane is a running control plane.
type Plane struct {
	options   Options
	generator *recorded
	last      *mesh.Snapshot
	snapshots map[string]*mesh.Snapshot // by the YAML
	server    *xds.Server
	grpc      *grpc.Server
	listener  net.Listener
	served    sync.WaitGroup
}

// Start serves ADS, delta and state of the world, on a free port of loopback.
func Start(o Options) (*Plane, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Plane{options: o, snapshots: map[string]*mesh.Snapshot{}}
	snapshot, err := p.snapshot(o.YAML)
	if err != nil {
		return nil, err
	}
	p.generator = newRecorded(snapshot, o)
	p.server = xds.NewServer(p.generator, xds.ServerOptions{Logger: o.Log})
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	p.grpc = grpc.NewServer(xds.GRPCOptions()...)
	p.server.Register(p.grpc)
	p.served.Go(func() { p.grpc.Serve(p.listener) }) // ends with Close
	return p, nil
}

// Address is where ADS is served.
func (p *Plane) Address() string { return p.listener.Addr().String() }

// Change replaces the Istio objects. It returns when the proxies are being told. What it
// made of the same objects before it uses again: see recorded.
func (p *Plane) Change(yaml string) error {
	s, err := p.snapshot(yaml)
	if err != nil {
		return err
	}
	p.generator.set(s)
	p.server.Changed()
	return nil
}

func (p *Plane) snapshot(yaml string) (*mesh.Snapshot, error) {
	if s := p.snapshots[yaml]; s != nil {
		return s, nil
	}
	objects, problems := istioapi.Decode("bench.yaml", []byte(yaml))
	options := mesh.Options{
		DefaultPolicy: mesh.RegistryOnly, AccessLogFile: p.options.AccessLog,
		FilterGatewayClusters: true, Previous: p.last,
	}
	if p.options.Gateway != (Gateway{}) {
		options.BuiltIn = []*mesh.Service{p.options.Gateway.service()}
	}
	s, more := mesh.New(objects, options)
	for _, problem := range append(problems, more...) {
		if problem.Severity == istioapi.Error {
			return nil, errors.New(problem.String())
		}
	}
	p.last, p.snapshots[yaml] = s, s
	return s, nil
}

// Nacks are what the proxies refused of what they were sent.
func (p *Plane) Nacks() []string {
	var out []string
	for _, n := range p.server.Status() {
		for _, t := range n.Types {
			if t.Nack != nil {
				out = append(out, fmt.Sprintf("%s refuses %s: %s", n.NodeID, t.TypeURL, t.Nack.Message))
			}
		}
	}
	return out
}

// Settled says whether every connected proxy has answered for all that it was sent,
// and there is one.
func (p *Plane) Settled() bool {
	all := p.server.Status()
	for _, n := range all {
		if n.Error != "" || len(n.Types) == 0 {
			return false
		}
		for _, t := range n.Types {
			if len(t.Pending) > 0 || t.Version != t.Accepted {
				return false
			}
		}
	}
	return len(all) > 0
}

// Close ends it and all its streams.
func (p *Plane) Close() {
	p.server.Close()
	p.grpc.Stop()
	p.served.Wait()
}

// Names of the egress gateway, as Istio's demo profile has them.
const (
	GatewayHost      = gatewayName + "." + gatewayNamespace + ".svc." + Domain
	gatewayName      = "istio-egressgateway"
	gatewayNamespace = "istio-system"
)

var gatewayLabels = map[string]string{"istio": "egressgateway", "app": gatewayName}

func (g Gateway) service() *mesh.Service {
	return &mesh.Service{
		Host: GatewayHost, Namespace: gatewayNamespace, Internal: true,
		Source: istioapi.Ref{Kind: "Service", Namespace: gatewayNamespace, Name: gatewayName},
		Ports: []mesh.Port{
			{Number: 80, TargetPort: uint32(g.HTTP), Name: "http", Protocol: mesh.ProtocolHTTP, Declared: "HTTP"},
			{Number: 443, TargetPort: uint32(g.HTTPS), Name: "https", Protocol: mesh.ProtocolHTTPS, Declared: "HTTPS"},
		},
		Resolution: mesh.ResolutionStatic,
		Addresses:  []netip.Prefix{netip.MustParsePrefix("240.240.255.1/32")},
		Endpoints:  []mesh.Endpoint{{Address: g.Address.String(), Labels: gatewayLabels, Weight: 1}},
	}
}

// SidecarNode is a workload's proxy with DNS capture.
func SidecarNode() *corev3.Node {
	return xdsgen.EncodeNode(mesh.Node{
		Type: mesh.NodeSidecar, Name: "bench", Namespace: "default",
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, DNSCapture: true,
	}, Domain)
}

// HTTPAddress is where its port 80 is.
func (g Gateway) HTTPAddress() string { return netip.AddrPortFrom(g.Address, g.HTTP).String() }

// Node is the egress gateway at g.
func (g Gateway) Node() *corev3.Node {
	return xdsgen.EncodeNode(mesh.Node{
		Type: mesh.NodeRouter, Name: gatewayName, Namespace: gatewayNamespace,
		Labels: gatewayLabels, Addresses: []netip.Addr{g.Address},
	}, Domain)
}
