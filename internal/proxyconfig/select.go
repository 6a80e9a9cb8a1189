package proxyconfig

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
)

// Filter is what istioctl's flags select; the zero value: everything. Each field is looked
// at by the kinds of resources that have it.
type Filter struct {
	Address   string // of listeners and endpoints
	Port      uint32
	Type      string // of listeners: HTTP, TCP, HTTP+TCP
	Name      string // of route configurations
	FQDN      string // of clusters: a part of their name, as the next two
	Subset    string
	Direction string
	Cluster   string // of endpoints
	Status    string // of endpoints: HEALTHY, ...
}

// Select is the dump with what the filter selects, sorted as istioctl does.
func (f Filter) Select(d *Dump) *Dump {
	out := *d
	out.Listeners = keep(d.Listeners, f.listener)
	slices.SortStableFunc(out.Listeners, func(a, b *listenerv3.Listener) int {
		return cmp.Or(cmp.Compare(port(a), port(b)), cmp.Compare(addresses(a)[0], addresses(b)[0]), cmp.Compare(listenerType(a), listenerType(b)))
	})
	out.Routes = keep(d.Routes, func(r *routev3.RouteConfiguration) bool { return f.Name == "" || f.Name == r.GetName() })
	slices.SortStableFunc(out.Routes, func(a, b *routev3.RouteConfiguration) int { return compareNumbers(a.GetName(), b.GetName()) })
	out.Clusters = keep(d.Clusters, func(c *clusterv3.Cluster) bool { return f.cluster(c.GetName()) })
	slices.SortStableFunc(out.Clusters, func(a, b *clusterv3.Cluster) int { return compareClusters(a.GetName(), b.GetName()) })
	out.Endpoints = nil
	for _, e := range d.Endpoints {
		if chosen := f.endpoints(e); chosen != nil {
			out.Endpoints = append(out.Endpoints, chosen)
		}
	}
	slices.SortStableFunc(out.Endpoints, func(a, b *endpointv3.ClusterLoadAssignment) int {
		return compareClusters(a.GetClusterName(), b.GetClusterName())
	})
	out.Secrets = slices.SortedStableFunc(slices.Values(d.Secrets), func(a, b Secret) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return &out
}

func keep[T any](all []T, good func(T) bool) (out []T) {
	for _, one := range all {
		if good(one) {
			out = append(out, one)
		}
	}
	return out
}

func (f Filter) listener(l *listenerv3.Listener) bool {
	return (f.Address == "" || slices.ContainsFunc(addresses(l), func(a string) bool { return strings.EqualFold(a, f.Address) })) &&
		(f.Port == 0 || port(l) == f.Port) &&
		(f.Type == "" || strings.EqualFold(listenerType(l), f.Type))
}

func (f Filter) cluster(name string) bool {
	return strings.Contains(name, f.FQDN) && strings.Contains(name, f.Subset) && strings.Contains(name, f.Direction) &&
		(f.Port == 0 || strings.Contains(name, "|"+strconv.FormatUint(uint64(f.Port), 10)+"|"))
}

// endpoints is what is selected of a cluster's, nil where that is nothing.
func (f Filter) endpoints(all *endpointv3.ClusterLoadAssignment) *endpointv3.ClusterLoadAssignment {
	if f.Cluster != "" && !strings.EqualFold(f.Cluster, all.GetClusterName()) {
		return nil
	}
	out, ok := proto.Clone(all).(*endpointv3.ClusterLoadAssignment)
	if !ok {
		return nil
	}
	some := false
	for _, group := range out.GetEndpoints() {
		group.LbEndpoints = keep(group.GetLbEndpoints(), f.endpoint)
		some = some || len(group.GetLbEndpoints()) > 0
	}
	if !some {
		return nil
	}
	return out
}

func (f Filter) endpoint(e *endpointv3.LbEndpoint) bool {
	at := e.GetEndpoint().GetAddress()
	return (f.Address == "" || strings.EqualFold(at.GetSocketAddress().GetAddress(), f.Address) || strings.EqualFold(endpointAddress(e), f.Address)) &&
		(f.Port == 0 || at.GetSocketAddress().GetPortValue() == f.Port) &&
		(f.Status == "" || strings.EqualFold(e.GetHealthStatus().String(), f.Status))
}

func endpointAddress(e *endpointv3.LbEndpoint) string {
	a := e.GetEndpoint().GetAddress()
	if s := a.GetSocketAddress(); s != nil {
		return net.JoinHostPort(s.GetAddress(), strconv.FormatUint(uint64(s.GetPortValue()), 10))
	}
	if id := a.GetEnvoyInternalAddress(); id != nil {
		return "envoy://" + id.GetServerListenerName() + "/" + id.GetEndpointId()
	}
	return a.GetPipe().GetPath()
}

// clusterParts are the parts of Istio's name of a cluster: "outbound|80|subset|host". A
// name of another form is the host.
func clusterParts(name string) (direction, port, subset, host string) {
	parts := strings.SplitN(name, "|", 4)
	if len(parts) < 4 {
		return "", "", "", name
	}
	return parts[0], parts[1], parts[2], parts[3]
}

func compareClusters(a, b string) int {
	directionA, portA, subsetA, hostA := clusterParts(a)
	directionB, portB, subsetB, hostB := clusterParts(b)
	return cmp.Or(cmp.Compare(hostA, hostB), cmp.Compare(subsetA, subsetB), compareNumbers(portA, portB), cmp.Compare(directionA, directionB))
}

// compareNumbers compares as numbers, and others as text after them.
func compareNumbers(a, b string) int {
	nA, errA := strconv.Atoi(a)
	nB, errB := strconv.Atoi(b)
	switch {
	case errA == nil && errB == nil:
		return cmp.Compare(nA, nB)
	case errA == nil:
		return -1
	case errB == nil:
		return 1
	}
	return cmp.Compare(a, b)
}
