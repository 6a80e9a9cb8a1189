package admin

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"slices"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// host is one endpoint of a cluster. name stands for an address that was not looked up
// yet: names are resolved where they are dialled.
type host struct {
	name                  string // an address, or a name
	port                  uint16
	hostname              string
	priority              uint32
	weight                uint32
	unhealthy, ejected    bool
	connections, requests int64
}

func (h host) address() *corev3.Address { return socketAddress(h.name, h.port) }

func (h host) health() corev3.HealthStatus {
	if h.unhealthy {
		return corev3.HealthStatus_UNHEALTHY
	}
	return corev3.HealthStatus_HEALTHY
}

// hosts are those that the cluster has at run time, or where it was not used yet those of
// the configuration.
func (a *Admin) hosts(c *config.Cluster) []host {
	var out []host
	if infos, used := a.options.Proxy.Upstreams().Hosts(c.Name); used && (len(infos) > 0 || c.Discovery == resource.DiscoveryOriginalDst) {
		for _, i := range infos {
			out = append(out, host{
				name: i.Address.Addr().String(), port: i.Address.Port(), hostname: i.Hostname,
				priority: uint32(i.Priority), weight: i.Weight, unhealthy: i.Unhealthy, ejected: i.Ejected,
				connections: i.Connections, requests: i.Requests,
			})
		}
		return out
	}
	if c.Endpoints == nil {
		return nil
	}
	for _, l := range c.Endpoints.Localities {
		for _, e := range l.Endpoints {
			out = append(out, host{name: e.Host, port: e.Port, hostname: e.Hostname, priority: l.Priority, weight: e.Weight, unhealthy: e.Unhealthy})
		}
	}
	return out
}

// clustersNow are the clusters in force, by name.
func (a *Admin) clustersNow() []*config.Cluster {
	c := a.options.Proxy.Store().Current()
	if c == nil {
		return nil
	}
	return slices.SortedFunc(c.AllClusters(), func(x, y *config.Cluster) int { return cmp.Compare(x.Name, y.Name) })
}

func (a *Admin) clusters(w http.ResponseWriter, r *http.Request) error {
	pattern, err := parsePattern(r.URL.Query().Get("filter"))
	if err != nil {
		return refuse(http.StatusBadRequest, "Invalid re2 regex: %v", err)
	}
	done, err := a.begin(r)
	if err != nil {
		return err
	}
	defer done()
	asJSON := r.URL.Query().Get("format") == "json"
	out := &stream{w: w}
	if asJSON {
		w.Header().Set("Content-Type", "application/json")
		out.open("", "{")
		out.open("cluster_statuses", "[")
	}
	for _, c := range a.clustersNow() {
		if pattern != nil && !pattern.MatchString(c.Name) {
			continue
		}
		status := a.clusterStatus(c)
		if asJSON {
			out.message(status)
		} else if out.err == nil {
			out.err = clusterText(w, status)
		}
	}
	if asJSON {
		out.close("]")
		out.close("}")
		out.write("\n")
	}
	return abort(out.err)
}

func (a *Admin) clusterStatus(c *config.Cluster) *adminv3.ClusterStatus {
	status := &adminv3.ClusterStatus{
		Name: c.Name, ObservabilityName: c.Name, AddedViaApi: true, CircuitBreakers: breakers(c.Breakers),
	}
	if c.Discovery == resource.DiscoveryEDS {
		status.EdsServiceName = c.EDSServiceName
	}
	for _, h := range a.hosts(c) {
		status.HostStatuses = append(status.HostStatuses, &adminv3.HostStatus{
			Address: h.address(), Hostname: h.hostname, Weight: h.weight, Priority: h.priority, Locality: &corev3.Locality{},
			HealthStatus: &adminv3.HostHealthStatus{EdsHealthStatus: h.health(), FailedOutlierCheck: h.ejected},
			Stats: []*adminv3.SimpleMetric{
				{Type: adminv3.SimpleMetric_GAUGE, Name: "cx_active", Value: uint64(max(h.connections, 0))},
				{Type: adminv3.SimpleMetric_GAUGE, Name: "rq_active", Value: uint64(max(h.requests, 0))},
			},
		})
	}
	return status
}

// breakers are the thresholds of both priorities. Without any there is no limit here,
// where Envoy has 1024.
func breakers(t *[2]resource.Thresholds) *clusterv3.CircuitBreakers {
	out := &clusterv3.CircuitBreakers{}
	for i, priority := range []corev3.RoutingPriority{corev3.RoutingPriority_DEFAULT, corev3.RoutingPriority_HIGH} {
		own := resource.Thresholds{MaxConnections: math.MaxUint32, MaxPendingRequests: math.MaxUint32, MaxRequests: math.MaxUint32, MaxRetries: math.MaxUint32}
		if t != nil {
			own = t[i]
		}
		out.Thresholds = append(out.Thresholds, &clusterv3.CircuitBreakers_Thresholds{
			Priority: priority, MaxConnections: wrapperspb.UInt32(own.MaxConnections), MaxPendingRequests: wrapperspb.UInt32(own.MaxPendingRequests),
			MaxRequests: wrapperspb.UInt32(own.MaxRequests), MaxRetries: wrapperspb.UInt32(own.MaxRetries),
		})
	}
	return out
}

// clusterText is the form of /clusters without format=json.
func clusterText(w io.Writer, s *adminv3.ClusterStatus) error {
	lines := [][2]any{{"observability_name", s.GetObservabilityName()}}
	for i, t := range s.GetCircuitBreakers().GetThresholds() {
		priority := []string{"default_priority::", "high_priority::"}[i]
		lines = append(lines,
			[2]any{priority + "max_connections", t.GetMaxConnections().GetValue()},
			[2]any{priority + "max_pending_requests", t.GetMaxPendingRequests().GetValue()},
			[2]any{priority + "max_requests", t.GetMaxRequests().GetValue()},
			[2]any{priority + "max_retries", t.GetMaxRetries().GetValue()})
	}
	lines = append(lines, [2]any{"added_via_api", s.GetAddedViaApi()})
	if s.GetEdsServiceName() != "" {
		lines = append(lines, [2]any{"eds_service_name", s.GetEdsServiceName()})
	}
	for _, h := range s.GetHostStatuses() {
		at := addressText(h.GetAddress()) + "::"
		for _, m := range h.GetStats() {
			lines = append(lines, [2]any{at + m.GetName(), m.GetValue()})
		}
		lines = append(lines, [2]any{at + "hostname", h.GetHostname()}, [2]any{at + "health_flags", healthFlags(h.GetHealthStatus())},
			[2]any{at + "weight", h.GetWeight()}, [2]any{at + "priority", h.GetPriority()})
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%s::%v::%v\n", s.GetName(), l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}

// healthFlags are Envoy's words (HostUtility::healthFlagsToString).
func healthFlags(s *adminv3.HostHealthStatus) string {
	flags := ""
	if s.GetFailedOutlierCheck() {
		flags += "/failed_outlier_check"
	}
	if s.GetEdsHealthStatus() == corev3.HealthStatus_UNHEALTHY {
		flags += "/failed_eds_health"
	}
	return cmp.Or(flags, "healthy")
}

// endpointSection tells, as in Envoy, the endpoints as they are at run time.
func (a *Admin) endpointSection() section {
	var dynamic []element
	for _, c := range a.clustersNow() {
		dynamic = append(dynamic, element{c.Name, func() (proto.Message, error) {
			body, err := anypb.New(a.assignment(c))
			return &adminv3.EndpointsConfigDump_DynamicEndpointConfig{EndpointConfig: body}, err
		}})
	}
	var static []element
	for _, c := range a.options.Bootstrap.GetStaticResources().GetClusters() {
		static = append(static, element{c.GetName(), func() (proto.Message, error) {
			body, err := anypb.New(staticAssignment(c))
			return &adminv3.EndpointsConfigDump_StaticEndpointConfig{EndpointConfig: body}, err
		}})
	}
	return section{&adminv3.EndpointsConfigDump{}, []list{{"static_endpoint_configs", static}, {"dynamic_endpoint_configs", dynamic}}}
}

// staticAssignment has the control plane's endpoints as the bootstrap names them. Nothing
// checks their health, and what is not checked is healthy to Envoy.
func staticAssignment(c *clusterv3.Cluster) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{}
	proto.Merge(out, c.GetLoadAssignment())
	out.ClusterName = c.GetName()
	for _, group := range out.GetEndpoints() {
		for _, e := range group.GetLbEndpoints() {
			if e.GetHealthStatus() == corev3.HealthStatus_UNKNOWN {
				e.HealthStatus = corev3.HealthStatus_HEALTHY
			}
		}
	}
	return out
}

func (a *Admin) assignment(c *config.Cluster) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: c.Name}
	if c.Discovery == resource.DiscoveryEDS {
		out.ClusterName = c.EDSServiceName
	}
	var group *endpointv3.LocalityLbEndpoints
	for _, h := range a.hosts(c) {
		if group == nil || group.GetPriority() != h.priority {
			group = &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{}, Priority: h.priority}
			out.Endpoints = append(out.Endpoints, group)
		}
		e := &endpointv3.LbEndpoint{
			HealthStatus: h.health(), LoadBalancingWeight: wrapperspb.UInt32(h.weight),
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: h.address(), Hostname: h.hostname}},
		}
		if _, err := netip.ParseAddr(h.name); err != nil {
			e.HealthStatus = corev3.HealthStatus_UNKNOWN // not looked up yet
		}
		if h.ejected {
			e.HealthStatus = corev3.HealthStatus_UNHEALTHY
		}
		group.LbEndpoints = append(group.LbEndpoints, e)
	}
	return out
}
