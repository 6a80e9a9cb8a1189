// Package xds speaks Envoy's Aggregated Discovery Service: streams, subscriptions,
// ACK, NACK, for the server and the client side, state of the world and delta from
// one code path. The payload is opaque: it never looks into a resource.
//
// It must not import control, data or host.
package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Type URLs of the resources that Egret's halves exchange.
const (
	ListenerType  = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType     = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	ClusterType   = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType  = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	NameTableType = "type.googleapis.com/istio.networking.nds.v1.NameTable"
	// SecretType is SDS over ADS: keys and authorities by name. Who may have which is up to
	// the view (Viewer); they are never in a copy on disk.
	SecretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

	// The parts of a route configuration and of a listener that a proxy asks for by name,
	// when it needs them: VHDS, Envoy's
	// https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/vhds,
	// and FCDS (Listener.fcds_config). Their names are "<route configuration>/<host>" and
	// "<listener>/<server name>", in lower case.
	VirtualHostType = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
	FilterChainType = "type.googleapis.com/envoy.config.listener.v3.FilterChain"
)

// OnDemandMetadata is the key of the node metadata by which a proxy says, with "true",
// that it asks by name for what it uses. It then subscribes to clusters by name only,
// also to those that its listeners and routes refer to from the start; to each host's
// name table by the host's name; and to all name tables ("*") for the one with the name
// "", which has what is true of every name: the key "*" where each may be looked up.
const OnDemandMetadata = "EGRET_ON_DEMAND"

// Resource is one named resource. Version changes when, and only when, the body does.
type Resource struct {
	Name    string
	Version string
	Body    *anypb.Any

	alias bool // Name is another name that it was asked for by
}

// Snapshot is all resources for one node: type URL -> name -> resource. It is
// immutable after it was handed over.
type Snapshot map[string]map[string]Resource

// Generator makes the snapshot for a node. It must be safe for concurrent use, and
// gives the same bytes for the same input, so that versions are stable.
type Generator interface {
	Generate(node *corev3.Node) (Snapshot, error)
}

// Nack is what a client said about a resource it refused.
type Nack struct {
	NodeID, TypeURL, Version string
	Message                  string
}

// Update is what the client hands to its handler: what changed of one type and
// what is gone. For a state-of-the-world stream the client computes the difference
// itself, so handlers see one form only. The first answer to a wildcard subscription is
// handed over even if it is empty: then there are no such resources. Removed has only
// names that were handed over before: deleted by the server, or no longer subscribed to.
type Update struct {
	TypeURL string
	Changed []Resource
	Removed []string
	// Absent are names that were asked for, and that the server says do not exist. It may
	// say later that they do. Delta streams only.
	Absent []string
}

// Handler takes updates from the client, one call at a time. The errors, by
// resource name, become the NACK; an empty map is an ACK. Resources without an
// error are taken as applied.
type Handler interface {
	Apply(Update) map[string]error
}
