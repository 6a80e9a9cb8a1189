// Package config assembles the proxy's configuration from decoded resources: it
// drives the xDS client's subscriptions, keeps what has arrived, and publishes an
// immutable Config that is always complete: a listener appears only when every
// route configuration that it names has arrived, a cluster only with its endpoints.
//
// It must not open sockets other than through the xDS client that it is given.
package config

import (
	"net/netip"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// Config is one complete configuration. It never changes after publication; a
// connection loads it once, an HTTP connection once per request.
type Config struct {
	// Sequence grows by one with each publication.
	Sequence  uint64
	Listeners []*resource.Listener
	Routes    map[string]*resource.RouteConfiguration
	Clusters  map[string]*Cluster
	Names     *resource.NameTable // nil: no name table has arrived

	byName      map[string]*resource.Listener
	byAddress   map[netip.AddrPort]*resource.Listener // not bound to a port
	bound       map[netip.AddrPort]*resource.Listener
	serverNames map[string][]uint16 // of all filter chains: ports
	byIP        map[netip.Addr]string
}

// Cluster is a cluster with the endpoints that EDS gave for it (or its own).
type Cluster struct {
	*resource.Cluster
	Endpoints *resource.Endpoints // nil: none known yet
}

// Source is where a proxy reads its configuration.
type Source interface {
	// Current never blocks. It is nil until the first complete configuration.
	Current() *Config
	// Subscribe returns a channel that receives after each publication (latest
	// wins, never blocks the publisher) and a function that ends it.
	Subscribe() (<-chan struct{}, func())
}
