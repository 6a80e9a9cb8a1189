package xdsgen

import (
	"math"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// shared are messages that many resources contain. They are built once per
// generation and never changed.
type shared struct {
	zero               *durationpb.Duration
	one                *wrapperspb.UInt32Value
	yes, no            *wrapperspb.BoolValue
	socketTimeout      *durationpb.Duration // transport_socket_connect_timeout: Istio's 15 s
	connectTimeout     *durationpb.Duration
	dnsRefresh         *durationpb.Duration
	dnsJitter          *durationpb.Duration
	sniffTimeout       *durationpb.Duration // protocolDetectionTimeout
	ads                *corev3.ConfigSource
	breakers           *clusterv3.CircuitBreakers
	previousPriorities *routev3.RetryPolicy_RetryPriority
	previousHosts      []*routev3.RetryPolicy_RetryHostPredicate
	retry              *routev3.RetryPolicy
	hashedRetry        *routev3.RetryPolicy // for a route with a hash policy
	tlsInspector       *listenerv3.ListenerFilter
	httpInspector      *listenerv3.ListenerFilter
	filters            []*hcmv3.HttpFilter // of HTTP chains; the router is the last
	prefixMatch        *routev3.RouteMatch
	nearest            *networking.LocalityLoadBalancerSetting // the mesh's default: fail over by locality
	workload, roots    *tlsv3.SdsSecretConfig                  // the mesh's identity of the proxy, and whom to believe
	tlsMode            *structpb.Struct                        // of endpoints that take the mesh's TLS
	plain              *clusterv3.Cluster_TransportSocketMatch // for all others
}

func (b *builder) newShared(s *mesh.Snapshot) shared {
	h := shared{
		zero:           durationpb.New(0),
		one:            wrapperspb.UInt32(1),
		yes:            wrapperspb.Bool(true),
		no:             wrapperspb.Bool(false),
		socketTimeout:  durationpb.New(15 * time.Second),
		connectTimeout: durationpb.New(s.ConnectTimeout()),
		dnsRefresh:     durationpb.New(time.Minute),
		dnsJitter:      durationpb.New(100 * time.Millisecond),
		sniffTimeout:   durationpb.New(0),
		nearest:        &networking.LocalityLoadBalancerSetting{},
		prefixMatch:    &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
	}
	if d := s.Config().GetDnsRefreshRate(); d != nil {
		h.dnsRefresh = d
	}
	if d := s.Config().GetProtocolDetectionTimeout(); d != nil {
		h.sniffTimeout = d
	}
	h.ads = frozen(&corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		InitialFetchTimeout:   h.zero,
		ResourceApiVersion:    corev3.ApiVersion_V3,
	})
	h.identities(b)
	h.breakers = frozen(breakers(&clusterv3.CircuitBreakers_Thresholds{}))
	h.previousHosts = []*routev3.RetryPolicy_RetryHostPredicate{{
		Name: "envoy.retry_host_predicates.previous_hosts",
		ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
			TypedConfig: b.pack(&previoushostsv3.PreviousHostsPredicate{}),
		},
	}}
	h.previousPriorities = &routev3.RetryPolicy_RetryPriority{
		Name: "envoy.retry_priorities.previous_priorities",
		ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
			TypedConfig: b.pack(&prioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 2}),
		},
	}
	if r := h.retryPolicy(s.Config().GetDefaultHttpRetryPolicy(), false); r != nil {
		h.retry = frozen(r)
		h.hashedRetry = frozen(h.retryPolicy(s.Config().GetDefaultHttpRetryPolicy(), true))
	}
	h.tlsInspector = &listenerv3.ListenerFilter{
		Name: "envoy.filters.listener.tls_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{
			TypedConfig: b.pack(&tlsinspectorv3.TlsInspector{InitialReadBufferSize: wrapperspb.UInt32(512)}),
		},
	}
	h.httpInspector = &listenerv3.ListenerFilter{
		Name: "envoy.filters.listener.http_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{
			TypedConfig: b.pack(&httpinspectorv3.HttpInspector{}),
		},
	}
	for _, f := range []struct {
		name   string
		config proto.Message
	}{{faultFilter, &faultv3.HTTPFault{}}, {corsFilter, &corsv3.Cors{}}, {"envoy.filters.http.router", &routerv3.Router{
		SuppressEnvoyHeaders: b.proxyHeaders().GetEnvoyDebugHeaders().GetDisabled().GetValue(),
	}}} {
		h.filters = append(h.filters, &hcmv3.HttpFilter{
			Name: f.name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(f.config)},
		})
	}
	if b.node.OnDemand {
		h.filters = slices.Insert(h.filters, len(h.filters)-1, b.onDemandFilter(h.ads))
	}
	return h
}

// frozen is m with its body already encoded, carried as unrecognized bytes: for parts
// that many resources contain, so that each is encoded once. On the wire it is the
// same message. Nobody may look into it.
func frozen[M proto.Message](m M) M {
	body, err := marshal.Marshal(m)
	if err != nil {
		return m // whoever packs it is told
	}
	out := m.ProtoReflect().New()
	out.SetUnknown(body)
	return out.Interface().(M)
}

// breakers fills the limits that t leaves out with "unlimited", as Istio does
// (Envoy's own default would be 1024).
func breakers(t *clusterv3.CircuitBreakers_Thresholds) *clusterv3.CircuitBreakers {
	unlimited := wrapperspb.UInt32(math.MaxUint32)
	for _, limit := range []**wrapperspb.UInt32Value{&t.MaxConnections, &t.MaxPendingRequests, &t.MaxRequests, &t.MaxRetries} {
		if *limit == nil {
			*limit = unlimited
		}
	}
	t.TrackRemaining = true
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{t}}
}

// socketAddress is an IP address or a name, and a port.
func socketAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
