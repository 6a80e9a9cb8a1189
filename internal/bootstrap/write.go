package bootstrap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/egret-mesh/egret/internal/xds"
)

// Options of New. Node and Servers are needed.
type Options struct {
	Node  *corev3.Node
	Admin netip.AddrPort
	// Servers are the control plane's addresses, host:port: each next one is for when
	// those before do not answer.
	Servers []string
	TLS     *xds.TLS // nil: plain text
}

// clusterName is Istio's name for the cluster of the control plane.
const clusterName = "xds-grpc"

// connectTimeout to the control plane.
const connectTimeout = time.Second

// New makes a bootstrap with which a stock Envoy, and egret-proxy, takes all else by
// delta ADS.
func New(o Options) (*bootstrapv3.Bootstrap, error) {
	cluster, err := xdsCluster(o)
	if err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Node: o.Node,
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			LdsConfig: fromADS(), CdsConfig: fromADS(),
			AdsConfig: &corev3.ApiConfigSource{
				ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
				SetNodeOnFirstMessageOnly: true,
				GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
					EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: clusterName},
				}}},
			},
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{cluster}},
	}
	if o.Admin.IsValid() {
		b.Admin = &bootstrapv3.Admin{Address: socketAddress(o.Admin.Addr().String(), uint32(o.Admin.Port()))}
	}
	return b, nil
}

// fromADS waits for the first configuration without end: better no listeners than some
// that lead nowhere.
func fromADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
}

func xdsCluster(o Options) (*clusterv3.Cluster, error) {
	c := &clusterv3.Cluster{
		Name:                          clusterName,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:                durationpb.New(connectTimeout),
		LoadAssignment:                &endpointv3.ClusterLoadAssignment{ClusterName: clusterName},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{},
	}
	for i, address := range o.Servers {
		host, portText, err := net.SplitHostPort(address)
		port, errPort := strconv.ParseUint(portText, 10, 16)
		if err != nil || errPort != nil || host == "" || port == 0 {
			return nil, fmt.Errorf("%q is not HOST:PORT", address)
		}
		if _, err := netip.ParseAddr(host); err != nil {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		}
		c.LoadAssignment.Endpoints = append(c.LoadAssignment.Endpoints, &endpointv3.LocalityLbEndpoints{
			Priority: uint32(i),
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
				Endpoint: &endpointv3.Endpoint{Address: socketAddress(host, uint32(port))},
			}}},
		})
	}
	if len(o.Servers) == 0 || len(o.Servers) > maxServers {
		return nil, fmt.Errorf("%d addresses of control planes; 1 to %d are possible", len(o.Servers), maxServers)
	}
	// Pings find a control plane that went away without a word.
	http2, err := anypb.New(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
					Interval: durationpb.New(30 * time.Second), Timeout: durationpb.New(10 * time.Second),
				}},
			},
		},
	}})
	if err != nil {
		return nil, err
	}
	c.TypedExtensionProtocolOptions["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = http2
	if o.TLS != nil {
		if c.TransportSocket, err = transportSocket(o.TLS); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func transportSocket(t *xds.TLS) (*corev3.TransportSocket, error) {
	switch {
	case t.CA == "":
		return nil, errors.New("TLS needs the authorities that the control plane's certificate comes from")
	case len(t.Names) == 0:
		return nil, errors.New("TLS needs a name that the control plane's certificate is for")
	case (t.Cert == "") != (t.Key == ""):
		return nil, errors.New("TLS: a certificate needs its key, and a key its certificate")
	}
	validation := &tlsv3.CertificateValidationContext{TrustedCa: fileSource(t.CA)}
	for _, name := range t.Names {
		validation.MatchTypedSubjectAltNames = append(validation.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{
			SanType: sanType(name),
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
		})
	}
	common := &tlsv3.CommonTlsContext{
		AlpnProtocols:         []string{"h2"},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation},
	}
	if t.Cert != "" {
		common.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: fileSource(t.Cert), PrivateKey: fileSource(t.Key)}}
	}
	typed, err := anypb.New(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: t.ServerName})
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed},
	}, nil
}

// sanType says which kind of subject alternative name a name is.
func sanType(name string) tlsv3.SubjectAltNameMatcher_SanType {
	if _, err := netip.ParseAddr(name); err == nil {
		return tlsv3.SubjectAltNameMatcher_IP_ADDRESS
	}
	if u, err := url.Parse(name); err == nil && u.Scheme != "" {
		return tlsv3.SubjectAltNameMatcher_URI
	}
	return tlsv3.SubjectAltNameMatcher_DNS
}

func fileSource(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}

func socketAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
