package admin

import (
	"fmt"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/xds"
)

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// failure is what a dump tells of a refusal.
func failure(f *config.Failure) (*adminv3.UpdateFailureState, adminv3.ClientResourceStatus) {
	if f == nil {
		return nil, adminv3.ClientResourceStatus_ACKED
	}
	return &adminv3.UpdateFailureState{
		LastUpdateAttempt: timestamp(f.At), Details: f.Details, VersionInfo: f.Version,
	}, adminv3.ClientResourceStatus_NACKED
}

// dynamic are elements of the resources of one type.
func (a *Admin) dynamic(typeURL string, keep func(config.Body) bool, wrap func(config.Body, *anypb.Any) proto.Message, parts func(config.Body, *anypb.Any) error) []element {
	var out []element
	for _, b := range a.options.Proxy.Store().Bodies(typeURL) {
		if !keep(b) {
			continue
		}
		out = append(out, element{name: b.Name, make: func() (proto.Message, error) {
			body, err := b.Any(typeURL)
			if err != nil {
				return nil, fmt.Errorf("%s %q: %w", typeURL, b.Name, err)
			}
			if body != nil && parts != nil {
				if err := parts(b, body); err != nil {
					return nil, fmt.Errorf("%s %q: %w", typeURL, b.Name, err)
				}
			}
			return wrap(b, body), nil
		}})
	}
	return out
}

func all(config.Body) bool { return true }

func (a *Admin) listenerSection() section {
	wrap := func(b config.Body, body *anypb.Any) proto.Message {
		l := &adminv3.ListenersConfigDump_DynamicListener{Name: b.Name}
		l.ErrorState, l.ClientStatus = failure(b.Failure)
		if body == nil {
			return l
		}
		state := &adminv3.ListenersConfigDump_DynamicListenerState{VersionInfo: b.Version, Listener: body, LastUpdated: timestamp(b.Updated)}
		if b.Warming {
			l.WarmingState = state
		} else {
			l.ActiveState = state
		}
		return l
	}
	chains := a.partsOf(xds.FilterChainType)
	return section{&adminv3.ListenersConfigDump{}, []list{{"dynamic_listeners", a.dynamic(xds.ListenerType, all, wrap,
		func(b config.Body, body *anypb.Any) error {
			return addParts(body, chains[b.Name], func(m *listenerv3.Listener, part *listenerv3.FilterChain) {
				m.FilterChains = append(m.FilterChains, part)
			})
		})}}}
}

func (a *Admin) routeSection() section {
	wrap := func(b config.Body, body *anypb.Any) proto.Message {
		r := &adminv3.RoutesConfigDump_DynamicRouteConfig{VersionInfo: b.Version, RouteConfig: body, LastUpdated: timestamp(b.Updated)}
		r.ErrorState, r.ClientStatus = failure(b.Failure)
		return r
	}
	hosts := a.partsOf(xds.VirtualHostType)
	return section{&adminv3.RoutesConfigDump{}, []list{{"dynamic_route_configs", a.dynamic(xds.RouteType, all, wrap,
		func(b config.Body, body *anypb.Any) error {
			return addParts(body, hosts[b.Name], func(m *routev3.RouteConfiguration, part *routev3.VirtualHost) {
				m.VirtualHosts = append(m.VirtualHosts, part)
			})
		})}}}
}

func (a *Admin) clusterSection() section {
	wrap := func(b config.Body, body *anypb.Any) proto.Message {
		c := &adminv3.ClustersConfigDump_DynamicCluster{VersionInfo: b.Version, Cluster: body, LastUpdated: timestamp(b.Updated)}
		c.ErrorState, c.ClientStatus = failure(b.Failure)
		return c
	}
	var static []element
	for _, c := range a.options.Bootstrap.GetStaticResources().GetClusters() {
		static = append(static, element{c.GetName(), func() (proto.Message, error) {
			body, err := anypb.New(c)
			return &adminv3.ClustersConfigDump_StaticCluster{Cluster: body, LastUpdated: timestamp(a.started)}, err
		}})
	}
	return section{&adminv3.ClustersConfigDump{}, []list{
		{"static_clusters", static},
		{"dynamic_active_clusters", a.dynamic(xds.ClusterType, func(b config.Body) bool { return !b.Warming }, wrap, nil)},
		{"dynamic_warming_clusters", a.dynamic(xds.ClusterType, func(b config.Body) bool { return b.Warming }, wrap, nil)},
	}}
}

// partsOf are the parts of listeners or route configurations that were asked for by name,
// by what they are parts of.
func (a *Admin) partsOf(typeURL string) map[string][]*anypb.Any {
	out := map[string][]*anypb.Any{}
	for _, b := range a.options.Proxy.Store().Bodies(typeURL) {
		part, err := b.Any(typeURL)
		if i := strings.LastIndexByte(b.Name, '/'); i > 0 && err == nil && part != nil && !b.Warming {
			out[b.Name[:i]] = append(out[b.Name[:i]], part)
		}
	}
	return out
}

// message is a pointer to a generated message.
type message[T any] interface {
	*T
	proto.Message
}

// addParts puts parts into the resource that they belong to, as Envoy shows them.
func addParts[W, P any, WM message[W], PM message[P]](body *anypb.Any, parts []*anypb.Any, add func(WM, PM)) error {
	if len(parts) == 0 {
		return nil
	}
	whole := WM(new(W))
	if err := body.UnmarshalTo(whole); err != nil {
		return err
	}
	for _, p := range parts {
		part := PM(new(P))
		if err := p.UnmarshalTo(part); err != nil {
			return err
		}
		add(whole, part)
	}
	value, err := proto.Marshal(whole)
	body.Value = value
	return err
}
