package xdsgen

import (
	"errors"
	"fmt"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// marshal is deterministic, so that versions change only with content.
var marshal = proto.MarshalOptions{Deterministic: true}

// builder makes the resources of one node.
type builder struct {
	// The same for all builders of one generation; read-only.
	mesh   *mesh.Snapshot
	node   mesh.Node
	scope  *mesh.Scope
	logs   accessLogs
	shared shared
	memo   *memo // nil: nothing is kept
	// known, for parts of a mesh, is what only the whole can tell; nil: this is the whole.
	known *known
	// surroundings is the sum of what all parts in the memo are made from.
	surroundings sum

	// Its own.
	facts   facts
	scratch key
	// The messages of the cluster and chain that are being made: large, and encoded at once.
	scratchCluster *clusterv3.Cluster
	scratchOptions *httpv3.HttpProtocolOptions
	scratchTCP     *tcpproxyv3.TcpProxy
	// routes of a VirtualService by what they depend on.
	routes map[routesKey][]*routeEntry
	// used are the clusters that routes lead to; nil where all are made.
	used map[string]bool
	out  xds.Snapshot
	err  error // the first one
}

// Generate makes all resources of a node. The cost is linear in the services that
// the node sees. Clusters and listeners are made side by side.
func Generate(snapshot *mesh.Snapshot, node mesh.Node) (xds.Snapshot, error) {
	return generate(snapshot, node, nil)
}

func generate(snapshot *mesh.Snapshot, node mesh.Node, memo *memo) (xds.Snapshot, error) {
	if node.Type != mesh.NodeSidecar && node.Type != mesh.NodeRouter && node.Type != mesh.NodeProxyless {
		return nil, fmt.Errorf("node %q has type %q; known are %q, %q and %q", node.ID, node.Type, mesh.NodeSidecar, mesh.NodeRouter, mesh.NodeProxyless)
	}
	b := newBuilder(snapshot, node, memo)
	b.begin()
	clusters := *b
	clusters.begin()
	var work sync.WaitGroup
	switch {
	case node.Type == mesh.NodeProxyless:
		clusters.proxylessClusters()
		b.proxyless()
	case node.Type == mesh.NodeSidecar:
		work.Go(clusters.clusters)
		b.sidecar()
	case snapshot.FilterGatewayClusters():
		b.used = map[string]bool{}
		b.gateway()
		clusters.used = b.used
		clusters.clusters()
	default:
		work.Go(clusters.clusters)
		b.gateway()
	}
	if node.Type != mesh.NodeProxyless {
		b.nameTable()
	}
	work.Wait()
	b.out[xds.ClusterType] = clusters.out[xds.ClusterType]
	b.out[xds.EndpointType] = clusters.out[xds.EndpointType]
	if err := errors.Join(b.err, clusters.err); err != nil {
		return nil, fmt.Errorf("generate resources for node %q: %w", node.ID, err)
	}
	return b.out, nil
}

// newBuilder has what is the same for all resources of a node.
func newBuilder(snapshot *mesh.Snapshot, node mesh.Node, memo *memo) *builder {
	b := &builder{mesh: snapshot, node: node, scope: snapshot.Scope(node), memo: memo}
	b.shared = b.newShared(snapshot)
	b.logs = b.newAccessLogs()
	if memo != nil {
		b.surroundings = b.environment()
	}
	return b
}

// begin gives b what it fills in itself.
func (b *builder) begin() {
	b.facts, b.scratch = newFacts(), key{}
	b.scratchCluster, b.scratchOptions = &clusterv3.Cluster{}, &httpv3.HttpProtocolOptions{}
	b.scratchTCP = &tcpproxyv3.TcpProxy{}
	b.routes = map[routesKey][]*routeEntry{}
	b.out = xds.Snapshot{}
	for _, typeURL := range []string{xds.ListenerType, xds.RouteType, xds.ClusterType, xds.EndpointType, xds.NameTableType} {
		b.out[typeURL] = map[string]xds.Resource{}
	}
	if b.used == nil {
		b.out[xds.ClusterType] = make(map[string]xds.Resource, 2*len(b.scope.Services))
	}
}

// pack is m as an Any. Only text that is not valid UTF-8 can fail; it is remembered.
func (b *builder) pack(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, marshal); err != nil {
		b.fail(fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().FullName(), err))
	}
	return a
}

func (b *builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// emit adds a resource to the output. The first of a name stays.
func (b *builder) emit(typeURL, name string, m proto.Message) {
	if _, ok := b.out[typeURL][name]; ok {
		return
	}
	body, err := marshal.Marshal(m)
	if err != nil {
		b.fail(fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().FullName(), err))
	}
	b.emitBody(typeURL, name, &anypb.Any{TypeUrl: typeURL, Value: body})
}

// emitKept adds a resource that was made before; without a body there is none.
func (b *builder) emitKept(typeURL string, r xds.Resource) {
	if _, ok := b.out[typeURL][r.Name]; !ok && r.Body != nil {
		b.out[typeURL][r.Name] = r
	}
}

func (b *builder) emitBody(typeURL, name string, body *anypb.Any) {
	b.out[typeURL][name] = xds.Resource{Name: name, Version: xds.BodyVersion(body), Body: body}
}
