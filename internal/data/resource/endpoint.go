package resource

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/egret-mesh/egret/internal/data/match"
)

const keyTransportSocketMatch = "envoy.transport_socket_match"

// Endpoints decodes an envoy.config.endpoint.v3.ClusterLoadAssignment from EDS:
// every endpoint is an IP address.
func (d Decoder) Endpoints(a *anypb.Any) (*Endpoints, error) {
	c := d.begin()
	var m endpointv3.ClusterLoadAssignment
	var out *Endpoints
	if c.unpack(nil, a, &m) {
		out = c.endpoints(nil, &m, false)
		if out.ClusterName == "" {
			c.fail(nil, "a cluster load assignment needs a cluster name")
		}
	}
	if err := c.end("endpoints of", m.GetClusterName(), &m); err != nil {
		return nil, err
	}
	return out, nil
}

// endpoints decodes a load assignment; named says that hosts may be names to resolve.
func (c *decoding) endpoints(p *path, m *endpointv3.ClusterLoadAssignment, named bool) *Endpoints {
	out := &Endpoints{ClusterName: m.GetClusterName(), Overprovisioning: m.GetPolicy().GetOverprovisioningFactor().GetValue()}
	for i, group := range m.GetEndpoints() {
		at := p.at("endpoints", i)
		l := Locality{
			Priority: group.GetPriority(), Weight: group.GetLoadBalancingWeight().GetValue(),
		}
		for j, e := range group.GetLbEndpoints() {
			if endpoint, ok := c.endpoint(at.at("lb_endpoints", j), e, named); ok {
				l.Endpoints = append(l.Endpoints, endpoint)
			}
		}
		out.Localities = append(out.Localities, l)
	}
	return out
}

// Factor is the overprovisioning factor in percent; 0: none is given.
func (e *Endpoints) Factor() uint32 {
	if e == nil {
		return 0
	}
	return e.Overprovisioning
}

func (c *decoding) endpoint(p *path, m *endpointv3.LbEndpoint, named bool) (Endpoint, bool) {
	at := p.field("endpoint").field("address")
	host, port := c.socketAddress(at, m.GetEndpoint().GetAddress())
	e := Endpoint{Host: host, Port: port, Hostname: m.GetEndpoint().GetHostname(), Weight: weight(m.GetLoadBalancingWeight())}
	if addr, err := netip.ParseAddr(host); err == nil {
		e.Address = netip.AddrPortFrom(addr.Unmap(), port)
	} else if !named {
		c.fail(at, "%q is not an IP address", clip(host))
	} else if !match.IsHostName(match.CanonicalName(host)) {
		c.fail(at, "%q is neither an IP address nor a host name", clip(host))
	}
	switch m.GetHealthStatus() {
	case corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY, corev3.HealthStatus_DEGRADED:
	case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_DRAINING, corev3.HealthStatus_TIMEOUT:
		e.Unhealthy = true
	default:
		c.fail(p.field("health_status"), "%d is not supported", m.GetHealthStatus())
	}
	e.TLSLabels = endpointLabels(m.GetMetadata())
	e.Labels = endpointLBLabels(m.GetMetadata())
	return e, true
}

// weight is 1 where none is given.
func weight(w *wrapperspb.UInt32Value) uint32 {
	if w.GetValue() == 0 {
		return 1
	}
	return w.GetValue()
}

func endpointLabels(m *corev3.Metadata) map[string]string {
	fields := m.GetFilterMetadata()[keyTransportSocketMatch].GetFields()
	if len(fields) == 0 {
		return nil
	}
	out := make(map[string]string, len(fields))
	for k, v := range fields {
		if text, ok := v.GetKind().(*structpb.Value_StringValue); ok {
			out[k] = text.StringValue
		}
	}
	return out
}
