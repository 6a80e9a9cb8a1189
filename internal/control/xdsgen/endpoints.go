package xdsgen

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// lbEndpoint is one endpoint of a cluster.
type lbEndpoint struct {
	host     string
	port     uint32
	weight   uint32
	locality string
	labels   map[string]string
}

// endpointsOf are the endpoints that serve the port and have the subset's labels.
func endpointsOf(t *target) []lbEndpoint {
	out := make([]lbEndpoint, 0, len(t.service.Endpoints))
	for i := range t.service.Endpoints {
		e := &t.service.Endpoints[i]
		if !mesh.SelectedBy(t.labels, e.Labels) {
			continue
		}
		if port, ok := e.Port(t.port); ok {
			out = append(out, lbEndpoint{host: e.Address, port: port, weight: e.Weight, locality: e.Locality, labels: e.Labels})
		}
	}
	return out
}

// dnsEndpointsOf are endpointsOf, or the host itself for a service without any.
func dnsEndpointsOf(t *target) []lbEndpoint {
	if len(t.service.Endpoints) > 0 {
		return endpointsOf(t)
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
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	type group struct {
		rank     int
		locality string
	}
	groups := map[group]*endpointv3.LocalityLbEndpoints{}
	sums := map[string]uint32{}
	var ranks []int
	var order []group
	for i := range endpoints {
		e := &endpoints[i]
		key := group{where.rank(e), e.locality}
		g := groups[key]
		if g == nil {
			g = &endpointv3.LocalityLbEndpoints{Locality: localityOf(e.locality)}
			groups[key] = g
			order, ranks = append(order, key), append(ranks, key.rank)
			out.Endpoints = append(out.Endpoints, g)
		}
		weight := b.shared.one
		if e.weight > 1 {
			weight = uint32Value(e.weight)
		}
		sums[e.locality] += weight.GetValue()
		g.LbEndpoints = append(g.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: socketAddress(e.host, e.port),
			}},
			LoadBalancingWeight: weight,
		})
	}
	slices.Sort(ranks)
	ranks = slices.Compact(ranks)
	shares := where.distribute(sums)
	for i, g := range out.Endpoints {
		g.Priority = uint32(slices.Index(ranks, order[i].rank))
		sum := uint32(0)
		for _, e := range g.LbEndpoints {
			sum += e.GetLoadBalancingWeight().GetValue()
		}
		if share, named := shares[order[i].locality]; shares != nil {
			sum = share
			if !named {
				g.LbEndpoints = nil
			}
		}
		if sum > 0 {
			g.LoadBalancingWeight = uint32Value(sum)
		}
	}
	return out
}

// localityOf reads "region/zone/subzone".
func localityOf(s string) *corev3.Locality {
	region, rest, _ := strings.Cut(s, "/")
	zone, sub, _ := strings.Cut(rest, "/")
	return &corev3.Locality{Region: region, Zone: zone, SubZone: sub}
}
