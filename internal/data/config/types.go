// Package config assembles the proxy's configuration from decoded resources: it
// drives the xDS client's subscriptions, keeps what has arrived, and publishes an
// immutable Config that is always complete: a listener appears only when every
// route configuration that it names has arrived, a cluster only with its endpoints.
//
// It must not open sockets other than through the xDS client that it is given.
package config

import (
	"context"
	"net/netip"

	"github.com/egret-mesh/egret/internal/data/persistent"
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
	// NamesOnDemand: Names has only what is true of every name; others are asked for.
	NamesOnDemand bool
	// Revision grows by one where a decision that was made before may come out otherwise
	// now. What is only added because it was asked for changes none. 0: not known.
	Revision uint64

	byName      map[string]*resource.Listener
	byAddress   map[netip.AddrPort]*resource.Listener // not bound to a port
	bound       map[netip.AddrPort]*resource.Listener
	serverNames map[string][]uint16  // of all filter chains: ports
	onDemand    []*resource.Listener // those whose filter chains are asked for by name
	byIP        map[netip.Addr]string
	held        persistent.Map[Need, *Held]
	heldByIP    persistent.Map[netip.Addr, []string] // names, sorted
}

// Cluster is a cluster with the endpoints that EDS gave for it (or its own).
type Cluster struct {
	*resource.Cluster
	Endpoints *resource.Endpoints // nil: none known yet
}

// OnDemand is where resources are asked for by name. *Store is one.
type OnDemand interface {
	// Find asks for what is needed, unless it is known, and waits for the answer: not
	// after ctx has ended, and not for longer than a bound of its own. Many that wait for
	// the same thing ask once.
	Find(ctx context.Context, n Need) Answer
	// Look is what is known now. Where that is nothing it asks, and does not wait: the
	// answer comes with a new Revision.
	Look(n Need) Answer
}

// Source is where a proxy reads its configuration.
type Source interface {
	// Current never blocks. It is nil until the first complete configuration.
	Current() *Config
	// Subscribe returns a channel that receives after each publication (latest
	// wins, never blocks the publisher) and a function that ends it.
	Subscribe() (<-chan struct{}, func())
}
