package config

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

// NeedKind is what kind of resource is asked for by name.
type NeedKind uint8

// Kinds of needs. NeedNothing is the zero Need's.
const (
	NeedNothing NeedKind = iota
	NeedVirtualHost
	NeedFilterChain
	NeedCluster
	NeedName // of the name table
	needKinds
)

// Need is a resource that a decision lacks, to be asked for by name.
type Need struct {
	Kind NeedKind
	// Of is the route configuration or the listener's name for its filter chains.
	Of   string
	Name string // host, server name, cluster; hosts in lower case
}

var needTypes = [needKinds]string{NeedVirtualHost: xds.VirtualHostType, NeedFilterChain: xds.FilterChainType, NeedCluster: xds.ClusterType, NeedName: xds.NameTableType}

// Resource is the resource's type URL and name on the wire.
func (n Need) Resource() (typeURL, name string) {
	if n.Of != "" {
		return needTypes[n.Kind], n.Of + "/" + n.Name
	}
	return needTypes[n.Kind], n.Name
}

// String is for people.
func (n Need) String() string {
	words := [needKinds]string{"nothing", "virtual host", "filter chain", "cluster", "name"}
	_, name := n.Resource()
	return words[n.Kind] + " " + name
}

// needOf is the need that a resource of the wire answers. No host has a "/".
func needOf(kind NeedKind, name string) Need {
	if kind == NeedCluster || kind == NeedName {
		return Need{Kind: kind, Name: name}
	}
	i := strings.LastIndexByte(name, '/')
	return Need{Kind: kind, Of: name[:max(i, 0)], Name: name[i+1:]}
}

// Outcome is what became of a need.
type Outcome uint8

// Outcomes.
const (
	// NotAsked: it is not known yet, or no longer.
	NotAsked Outcome = iota
	// Found: it is in the configuration.
	Found
	// Absent: the control plane says that it does not exist.
	Absent
	// Refused: there is one, but it could not be used.
	Refused
	// Unavailable: the control plane could not be asked, or did not answer in time.
	Unavailable
)

// Answer is the outcome of one need. Detail says why, where it is Refused or Unavailable.
type Answer struct {
	Need    Need
	Outcome Outcome
	Detail  string
}

// Answers are what a decision has asked so far; there are few.
type Answers []Answer

// Of is the answer to a need.
func (a Answers) Of(n Need) Answer {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i].Need == n {
			return a[i]
		}
	}
	return Answer{Need: n}
}

// And is a with one more answer. It leaves a as it is.
func (a Answers) And(one Answer) Answers { return append(a[:len(a):len(a)], one) }

// Offline is an OnDemand where nothing can be asked for.
type Offline struct{}

// Find is Look.
func (Offline) Find(_ context.Context, n Need) Answer { return Offline{}.Look(n) }

// Look finds nothing.
func (Offline) Look(n Need) Answer {
	return Answer{Need: n, Outcome: Unavailable, Detail: "nothing can be asked for here"}
}

// Held is a resource that was asked for by name and is there. One of its first four
// fields is set.
type Held struct {
	VirtualHost *resource.VirtualHost
	FilterChain *resource.FilterChain
	Cluster     *Cluster
	Name        *HeldName

	use *use
}

// HeldName is an entry of the name table. Key is what it was found by: the name, or a
// wildcard.
type HeldName struct {
	Key  string
	Info resource.NameInfo
}

// use is how a held resource is used. It outlives the resource's versions.
type use struct {
	recently atomic.Bool
	pins     atomic.Int32
}

// Touch notes that the resource is used: it stays longer than others that are not.
func (h *Held) Touch() {
	if h != nil && !h.use.recently.Load() {
		h.use.recently.Store(true)
	}
}

// Pin keeps the resource from making room for others, until Unpin.
func (h *Held) Pin() {
	if h != nil {
		h.use.pins.Add(1)
	}
}

// Unpin ends a Pin.
func (h *Held) Unpin() {
	if h != nil {
		h.use.pins.Add(-1)
	}
}
