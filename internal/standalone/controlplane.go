package standalone

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/xds"
)

const (
	gatewayHost      = "istio-egressgateway.istio-system.svc.cluster.local"
	gatewayName      = "istio-egressgateway"
	gatewayNamespace = "istio-system"
)

var gatewayLabels = map[string]string{"istio": "egressgateway", "app": gatewayName}

// Registry is what the mesh on one machine adds to the objects of the user: the
// egress gateway's service. It has the ports 80 and 443 of Istio's demo profile, and
// each further port that a Gateway of the user opens on it.
func Registry(objects istioapi.Objects) mesh.Options {
	ports := []mesh.Port{
		{Number: 80, TargetPort: 8080, Name: "http", Protocol: mesh.ProtocolHTTP, Declared: "HTTP"},
		{Number: 443, TargetPort: 8443, Name: "https", Protocol: mesh.ProtocolHTTPS, Declared: "HTTPS"},
	}
	for _, g := range objects.Gateways {
		if !mesh.SelectedBy(g.Spec.GetSelector(), gatewayLabels) {
			continue
		}
		for _, s := range g.Spec.GetServers() {
			p := s.GetPort()
			if p == nil || slices.ContainsFunc(ports, func(have mesh.Port) bool {
				return have.Number == p.GetNumber() || have.TargetPort == p.GetNumber()
			}) {
				continue
			}
			ports = append(ports, mesh.Port{
				Number: p.GetNumber(), Name: fmt.Sprintf("port-%d", p.GetNumber()),
				Protocol: mesh.ProtocolOf(p.GetProtocol()), Declared: p.GetProtocol(),
			})
		}
	}
	return mesh.Options{AccessLogFile: standardLog, FilterGatewayClusters: true, BuiltIn: []*mesh.Service{{
		Host:       gatewayHost,
		Namespace:  gatewayNamespace,
		Source:     istioapi.Ref{Kind: "Service", Namespace: gatewayNamespace, Name: gatewayName},
		Ports:      ports,
		Resolution: mesh.ResolutionStatic,
		Addresses:  []netip.Prefix{netip.PrefixFrom(gatewayServiceAddress, 32)},
		Endpoints:  []mesh.Endpoint{{Address: gatewayAddress.String(), Labels: gatewayLabels, Weight: 1}},
		Internal:   true,
		// The gateway is a proxy too: gRPC must reach it as HTTP/2, and HTTP/1 costs less as it is.
		ClientProtocol: true,
	}}}
}

// SidecarNode is the workload's proxy.
func SidecarNode(w Workload) mesh.Node {
	return mesh.Node{
		ID:         fmt.Sprintf("sidecar~%s~%s.%s~%s.svc.cluster.local", workloadAddress, w.Name, w.Namespace, w.Namespace),
		Type:       mesh.NodeSidecar,
		Name:       w.Name,
		Namespace:  w.Namespace,
		Labels:     w.Labels,
		Addresses:  []netip.Addr{workloadAddress},
		DNSCapture: true,
	}
}

// GatewayNode is the egress gateway.
func GatewayNode() mesh.Node {
	return mesh.Node{
		ID:        fmt.Sprintf("router~%s~%s.%s~%s.svc.cluster.local", gatewayAddress, gatewayName, gatewayNamespace, gatewayNamespace),
		Type:      mesh.NodeRouter,
		Name:      gatewayName,
		Namespace: gatewayNamespace,
		Labels:    gatewayLabels,
		Addresses: []netip.Addr{gatewayAddress},
	}
}

// controlPlane turns what the source has into xDS for whoever connects.
type controlPlane struct {
	files     *source.Watcher
	generator *xdsgen.Generator
	server    *xds.Server
	// tell hands over the problems of a new state.
	tell func([]istioapi.Problem)
	last *mesh.Snapshot
}

func newControlPlane(files *source.Watcher, logger *slog.Logger, tell func([]istioapi.Problem)) *controlPlane {
	c := &controlPlane{files: files, tell: tell}
	c.generator = xdsgen.NewGenerator(c.snapshot(files.Current()))
	c.server = xds.NewServer(c.generator, xds.ServerOptions{Logger: logger})
	return c
}

// snapshot builds the mesh from a state of the source, and tells its problems.
func (c *controlPlane) snapshot(state *source.State) *mesh.Snapshot {
	options := Registry(state.Objects)
	options.Previous = c.last
	snapshot, problems := mesh.New(state.Objects, options)
	c.last = snapshot
	c.tell(withoutRepeats(state.Problems, problems))
	return snapshot
}

// withoutRepeats adds to the problems of reading those of building, except where
// reading has told of the same field already.
func withoutRepeats(reading, building []istioapi.Problem) []istioapi.Problem {
	type place struct {
		file   string
		object istioapi.Ref
		field  string
	}
	told := map[place]bool{}
	for _, p := range reading {
		told[place{p.File, p.Object, p.Field}] = true
	}
	all := slices.Clone(reading)
	for _, p := range building {
		if !told[place{p.File, p.Object, p.Field}] {
			all = append(all, p)
		}
	}
	return all
}

// run follows the source until ctx ends.
func (c *controlPlane) run(ctx context.Context) error {
	states, unsubscribe := c.files.Subscribe()
	defer unsubscribe()
	for {
		select {
		case <-ctx.Done():
			return nil
		case state := <-states:
			c.generator.Set(c.snapshot(state))
			c.server.Changed()
		}
	}
}
