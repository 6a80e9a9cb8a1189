package xdsgen

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// marshal is deterministic, so that versions change only with content.
var marshal = proto.MarshalOptions{Deterministic: true}

// builder makes the resources of one node.
type builder struct {
	mesh   *mesh.Snapshot
	node   mesh.Node
	scope  *mesh.Scope
	logs   accessLogs
	shared shared
	facts  facts
	// routes of a VirtualService by what they depend on.
	routes map[routesKey][]*routeEntry
	out    xds.Snapshot
	err    error // the first one
}

// Generate makes all resources of a node. The cost is linear in the services that
// the node sees.
func Generate(snapshot *mesh.Snapshot, node mesh.Node) (xds.Snapshot, error) {
	b := &builder{
		mesh:   snapshot,
		node:   node,
		scope:  snapshot.Scope(node),
		routes: map[routesKey][]*routeEntry{},
		out: xds.Snapshot{
			xds.ListenerType: {}, xds.RouteType: {}, xds.ClusterType: {}, xds.EndpointType: {}, xds.NameTableType: {},
		},
	}
	b.facts = newFacts()
	b.shared = newShared(snapshot)
	b.logs = b.newAccessLogs()
	b.clusters()
	switch node.Type {
	case mesh.NodeSidecar:
		b.sidecar()
	case mesh.NodeRouter:
		b.gateway()
	default:
		return nil, fmt.Errorf("node %q has type %q; known are %q and %q", node.ID, node.Type, mesh.NodeSidecar, mesh.NodeRouter)
	}
	b.nameTable()
	if b.err != nil {
		return nil, fmt.Errorf("generate resources for node %q: %w", node.ID, b.err)
	}
	return b.out, nil
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
	b.emitBody(typeURL, name, b.pack(m))
}

func (b *builder) emitBody(typeURL, name string, body *anypb.Any) {
	b.out[typeURL][name] = xds.Resource{Name: name, Version: xds.BodyVersion(body), Body: body}
}
