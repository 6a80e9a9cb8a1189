// Package bootstrap is what a proxy is started with, in the form of Envoy's bootstrap
// (envoy.config.bootstrap.v3.Bootstrap, as YAML or JSON): who it is, where its control
// plane is, where it listens for its operator. It writes one that a stock Envoy and
// egret-proxy start with, and reads what egret-proxy can honour.
//
// It must know neither half: the node is handed in as it goes over the wire.
package bootstrap

import (
	"net/netip"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/egret-mesh/egret/internal/xds"
)

// Bootstrap is what egret-proxy takes of a bootstrap.
type Bootstrap struct {
	// Message is all of it, as it was read.
	Message *bootstrapv3.Bootstrap
	Node    *corev3.Node
	// Admin is where the operator is served; the zero value: nowhere.
	Admin netip.AddrPort
	// Servers are the control plane's, in the order in which they are tried.
	Servers []Server
	// Delta says that the incremental form of ADS is spoken (DELTA_GRPC).
	Delta bool
	// LeftOut are the fields that are there but mean nothing to egret-proxy.
	LeftOut []string
}

// Server is one address of the control plane.
type Server struct {
	// Cluster is the static cluster that it is an endpoint of.
	Cluster string
	// Address is host:port, or "unix:" and the path of a socket.
	Address string
	// TLS is nil for plain text.
	TLS            *xds.TLS
	ConnectTimeout time.Duration // 0: the default
}

// Bounds on what is read.
const (
	// MaxSize of a bootstrap, in bytes.
	MaxSize    = 4 << 20
	maxServers = 64
)
