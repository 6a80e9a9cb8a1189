package xdsgen

import (
	"bytes"
	"slices"
	"strings"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// lbEndpoint is one endpoint of a cluster.
type lbEndpoint struct {
	host     string
	port     uint32
	weight   uint32
	locality string
	labels   map[string]string
	mutual   bool // its proxy takes the mesh's TLS
}

// endpointsOf are the endpoints that serve the port and have the subset's labels.
func (b *builder) endpointsOf(t *target) []lbEndpoint {
	out := make([]lbEndpoint, 0, len(t.service.Endpoints))
	for i := range t.service.Endpoints {
		e := &t.service.Endpoints[i]
		if !mesh.SelectedBy(t.labels, e.Labels) {
			continue
		}
		if port, ok := e.Port(t.port); ok {
			out = append(out, lbEndpoint{
				host: e.Address, port: port, weight: e.Weight, locality: e.Locality, labels: e.Labels,
				mutual: b.mesh.AutoMutualTLS() && t.service.Internal && b.mesh.TakesMutualTLS(t.service, e, port),
			})
		}
	}
	return out
}

// dnsEndpointsOf are endpointsOf, or the host itself for a service without any.
func (b *builder) dnsEndpointsOf(t *target) []lbEndpoint {
	if len(t.service.Endpoints) > 0 {
		return b.endpointsOf(t)
	}
	if mesh.IsWildcard(t.service.Host) || len(t.labels) > 0 {
		return nil
	}
	port := t.port.Number
	if t.port.TargetPort != 0 {
		port = t.port.TargetPort
	}
	return []lbEndpoint{{host: t.service.Host, port: port}}
}

// assignment groups endpoints by priority and locality, in the order of their appearance.
func (b *builder) assignment(name string, endpoints []lbEndpoint, where localities) *endpointv3.ClusterLoadAssignment {
	groups := groupsOf(endpoints, where)
	var room [512]byte // for one endpoint it is enough
	w := appendText(room[:0], assignmentName, name)
	for i := range groups {
		w = groups[i].encode(w)
	}
	out := &endpointv3.ClusterLoadAssignment{}
	out.ProtoReflect().SetUnknown(bytes.Clone(w))
	return out
}

// endpointGroup are the endpoints of one priority and locality.
type endpointGroup struct {
	locality  string
	rank      int // then the priority: the ranks without gaps
	weight    uint32
	endpoints []*lbEndpoint
}

func groupsOf(endpoints []lbEndpoint, where localities) []endpointGroup {
	groups := make([]endpointGroup, 0, 1)
	sums := map[string]uint32{}
	for i := range endpoints {
		e := &endpoints[i]
		rank := where.rank(e)
		g := slices.IndexFunc(groups, func(g endpointGroup) bool { return g.rank == rank && g.locality == e.locality })
		if g < 0 {
			g = len(groups)
			groups = append(groups, endpointGroup{locality: e.locality, rank: rank})
		}
		groups[g].endpoints = append(groups[g].endpoints, e)
		groups[g].weight += e.share()
		sums[e.locality] += e.share()
	}
	ranks := make([]int, 0, len(groups))
	for i := range groups {
		ranks = append(ranks, groups[i].rank)
	}
	slices.Sort(ranks)
	ranks = slices.Compact(ranks)
	shares := where.distribute(sums)
	for i := range groups {
		g := &groups[i]
		g.rank = slices.Index(ranks, g.rank)
		if share, named := shares[g.locality]; shares != nil {
			if g.weight = share; !named {
				g.endpoints = nil
			}
		}
	}
	return groups
}

// share is the endpoint's weight, which is 1 where none is given.
func (e *lbEndpoint) share() uint32 { return max(1, e.weight) }

// Field numbers of ClusterLoadAssignment and of what is in it
// (envoy/config/endpoint/v3/endpoint_components.proto, envoy/config/core/v3/address.proto).
const (
	assignmentName, assignmentEndpoints                       = 1, 2
	groupLocality, groupEndpoints, groupWeight, groupPriority = 1, 2, 3, 5
	lbEndpointEndpoint, lbEndpointMetadata, lbEndpointWeight  = 1, 3, 4
	endpointAddress, addressSocket                            = 1, 1
	socketHost, socketPort                                    = 2, 3
	localityRegion, localityZone, localitySubZone             = 1, 2, 3
	wrappedValue                                              = 1
)

// encode adds the group as LocalityLbEndpoints.
func (g *endpointGroup) encode(w []byte) []byte {
	w, whole := begin(w, assignmentEndpoints)
	w, at := begin(w, groupLocality)
	w = end(appendLocality(w, g.locality), at)
	for _, e := range g.endpoints {
		w = e.encode(w)
	}
	if g.weight > 0 {
		w, at = begin(w, groupWeight)
		w = end(appendNumber(w, wrappedValue, uint64(g.weight)), at)
	}
	if g.rank > 0 {
		w = appendNumber(w, groupPriority, uint64(g.rank))
	}
	return end(w, whole)
}

// encode adds the endpoint as an LbEndpoint.
func (e *lbEndpoint) encode(w []byte) []byte {
	w, whole := begin(w, groupEndpoints)
	w, endpoint := begin(w, lbEndpointEndpoint)
	w, address := begin(w, endpointAddress)
	w, socket := begin(w, addressSocket)
	if e.host != "" {
		w = appendText(w, socketHost, e.host)
	}
	w = appendNumber(w, socketPort, uint64(e.port))
	w = end(end(end(w, socket), address), endpoint)
	if e.mutual {
		var metadata int
		w, metadata = begin(w, lbEndpointMetadata)
		var match entry
		w, match = beginEntry(w, transportSocketMatch)
		w = end(match.end(textEntry(w, tlsModeKey, tlsModeIstio)), metadata)
	}
	w, weight := begin(w, lbEndpointWeight)
	return end(end(appendNumber(w, wrappedValue, uint64(e.share())), weight), whole)
}

// appendLocality reads "region/zone/subzone".
func appendLocality(w []byte, s string) []byte {
	for field := localityRegion; s != ""; field++ {
		part, rest, _ := strings.Cut(s, "/")
		if field == localitySubZone {
			part, rest = s, ""
		}
		if s = rest; part != "" {
			w = appendText(w, protowire.Number(field), part)
		}
	}
	return w
}
