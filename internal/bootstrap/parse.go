package bootstrap

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"   // in admin.access_log
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3" // in admin.access_log
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3" // HTTP/2 of the xDS cluster
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/egret-mesh/egret/internal/xds"
)

// Parse reads a bootstrap. Its errors name the field that egret-proxy cannot honour.
func Parse(text []byte) (*Bootstrap, error) {
	m, err := decode(text)
	if err != nil {
		return nil, err
	}
	b, err := parse(m)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return b, nil
}

func parse(m *bootstrapv3.Bootstrap) (*Bootstrap, error) {
	b := &Bootstrap{Message: m, Node: m.GetNode()}
	var err error
	if b.LeftOut, err = judge(m, "", topFields); err != nil {
		return nil, err
	}
	if b.Node.GetId() == "" {
		return nil, errors.New("node.id: a control plane needs to know who asks")
	}
	if b.Admin, err = adminAddress(m.GetAdmin()); err != nil {
		return nil, fmt.Errorf("admin.address: %w", err)
	}
	if _, err := judge(m.GetStaticResources(), "static_resources.", staticFields); err != nil {
		return nil, err
	}
	if err := b.dynamic(m.GetDynamicResources(), m.GetStaticResources().GetClusters()); err != nil {
		return nil, err
	}
	for _, c := range m.GetStaticResources().GetClusters() {
		if !slices.ContainsFunc(b.Servers, func(s Server) bool { return s.Cluster == c.GetName() }) {
			b.LeftOut = append(b.LeftOut, "static_resources.clusters["+c.GetName()+"]")
		}
	}
	slices.Sort(b.LeftOut)
	return b, nil
}

// use is what egret-proxy does with a field that is set. What no list has is refused.
type use map[protoreflect.Name]bool // true: honoured, false: left out

var (
	topFields = use{
		"node": true, "admin": true, "static_resources": true, "dynamic_resources": true,
		// What they are about egret-proxy does not have, or does in its own way.
		"layered_runtime": false, "stats_config": false, "stats_flush_interval": false, "stats_sinks": false,
		"tracing": false, "overload_manager": false, "watchdogs": false, "cluster_manager": false,
		"node_context_params": false, "default_regex_engine": false, "header_prefix": false,
		"typed_dns_resolver_config": false, "memory_allocator_manager": false, "application_log_config": false,
		"deferred_stat_options": false, "enable_dispatcher_stats": false,
	}
	// Static listeners would have to be served: then what is refused must be told here.
	staticFields  = use{"clusters": true}
	dynamicFields = use{"ads_config": true, "lds_config": true, "cds_config": true}
	adsFields     = use{
		"api_type": true, "grpc_services": true, "transport_api_version": true,
		"set_node_on_first_message_only": false, // it always is
	}
	clusterFields = use{
		"name": true, "type": true, "load_assignment": true, "connect_timeout": true, "transport_socket": true,
		// ADS is one HTTP/2 stream to one endpoint at a time, with pings of its own.
		"typed_extension_protocol_options": false, "http2_protocol_options": false, "lb_policy": false,
		"upstream_connection_options": false, "circuit_breakers": false, "max_requests_per_connection": false,
		"dns_lookup_family": false, "respect_dns_ttl": false, "dns_refresh_rate": false,
		"per_connection_buffer_limit_bytes": false,
	}
	tlsFields = use{"common_tls_context": true, "sni": true}
	// alpn_protocols is always h2.
	commonTLSFields  = use{"tls_certificates": true, "validation_context": true, "alpn_protocols": false}
	certFields       = use{"certificate_chain": true, "private_key": true}
	validationFields = use{"trusted_ca": true, "match_typed_subject_alt_names": true}
)

// judge names the fields of m that are left out, and refuses what the list does not have.
func judge(m proto.Message, path string, list use) (leftOut []string, err error) {
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		honoured, known := list[f.Name()]
		if !known {
			err = fmt.Errorf("%s%s: egret-proxy cannot honour it", path, f.Name())
		} else if !honoured {
			leftOut = append(leftOut, path+string(f.Name()))
		}
		return err == nil
	})
	return leftOut, err
}

func adminAddress(a *bootstrapv3.Admin) (netip.AddrPort, error) {
	if a.GetAddress() == nil {
		return netip.AddrPort{}, nil
	}
	s := a.GetAddress().GetSocketAddress()
	if s == nil {
		return netip.AddrPort{}, errors.New("not a socket address")
	}
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil || s.GetPortValue() > 65535 {
		return netip.AddrPort{}, fmt.Errorf("%q and %d are not an address and a port", s.GetAddress(), s.GetPortValue())
	}
	return netip.AddrPortFrom(ip, uint16(s.GetPortValue())), nil
}

// dynamic reads where the configuration comes from, which is ADS.
func (b *Bootstrap) dynamic(m *bootstrapv3.Bootstrap_DynamicResources, clusters []*clusterv3.Cluster) error {
	const path = "dynamic_resources."
	if _, err := judge(m, path, dynamicFields); err != nil {
		return err
	}
	for name, source := range map[string]*corev3.ConfigSource{"lds_config": m.GetLdsConfig(), "cds_config": m.GetCdsConfig()} {
		if source.GetAds() == nil {
			return fmt.Errorf("%s%s: only ads is possible", path, name)
		}
	}
	ads := m.GetAdsConfig()
	if _, err := judge(ads, path+"ads_config.", adsFields); err != nil {
		return err
	}
	switch ads.GetApiType() {
	case corev3.ApiConfigSource_GRPC:
	case corev3.ApiConfigSource_DELTA_GRPC:
		b.Delta = true
	default:
		return fmt.Errorf("%sads_config.api_type: %v; GRPC and DELTA_GRPC are possible", path, ads.GetApiType())
	}
	if v := ads.GetTransportApiVersion(); v != corev3.ApiVersion_V3 && v != corev3.ApiVersion_AUTO {
		return fmt.Errorf("%sads_config.transport_api_version: %v; only V3 is possible", path, v)
	}
	for i, s := range ads.GetGrpcServices() {
		name := s.GetEnvoyGrpc().GetClusterName()
		if name == "" {
			return fmt.Errorf("%sads_config.grpc_services[%d]: only envoy_grpc with a cluster_name is possible", path, i)
		}
		at := slices.IndexFunc(clusters, func(c *clusterv3.Cluster) bool { return c.GetName() == name })
		if at < 0 {
			return fmt.Errorf("%sads_config.grpc_services[%d]: there is no static cluster %q", path, i, name)
		}
		servers, err := clusterServers(clusters[at])
		if err != nil {
			return fmt.Errorf("static_resources.clusters[%s].%w", name, err)
		}
		b.Servers = append(b.Servers, servers...)
	}
	if len(b.Servers) == 0 || len(b.Servers) > maxServers {
		return fmt.Errorf("%sads_config.grpc_services: %d addresses of control planes; 1 to %d are possible", path, len(b.Servers), maxServers)
	}
	return nil
}

// clusterServers are the endpoints of a cluster, in the order of their priorities.
func clusterServers(c *clusterv3.Cluster) ([]Server, error) {
	if _, err := judge(c, "", clusterFields); err != nil {
		return nil, err
	}
	switch c.GetType() {
	case clusterv3.Cluster_STATIC, clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
	default:
		return nil, fmt.Errorf("type: %v is not possible", c.GetType())
	}
	secured, err := clusterTLS(c)
	if err != nil {
		return nil, err
	}
	groups := slices.SortedStableFunc(slices.Values(c.GetLoadAssignment().GetEndpoints()), func(a, b *endpointv3.LocalityLbEndpoints) int {
		return cmp.Compare(a.GetPriority(), b.GetPriority())
	})
	var out []Server
	for _, group := range groups {
		for _, e := range group.GetLbEndpoints() {
			address, err := dialAddress(e.GetEndpoint().GetAddress())
			if err != nil {
				return nil, fmt.Errorf("load_assignment: %w", err)
			}
			out = append(out, Server{Cluster: c.GetName(), Address: address, TLS: secured, ConnectTimeout: c.GetConnectTimeout().AsDuration()})
		}
	}
	return out, nil
}

func dialAddress(a *corev3.Address) (string, error) {
	if path := a.GetPipe().GetPath(); path != "" {
		return "unix:" + path, nil
	}
	s := a.GetSocketAddress()
	port := s.GetPortValue()
	if s.GetAddress() == "" || port == 0 || port > 65535 {
		return "", errors.New("an endpoint has neither address with port_value nor pipe")
	}
	return net.JoinHostPort(s.GetAddress(), strconv.FormatUint(uint64(port), 10)), nil
}

// clusterTLS is nil for plain text.
func clusterTLS(c *clusterv3.Cluster) (*xds.TLS, error) {
	socket := c.GetTransportSocket()
	if socket == nil {
		return nil, nil
	}
	context := &tlsv3.UpstreamTlsContext{}
	if err := socket.GetTypedConfig().UnmarshalTo(context); err != nil {
		return nil, fmt.Errorf("transport_socket: only TLS is possible: %w", err)
	}
	t, err := upstreamTLS(context)
	if err != nil {
		return nil, fmt.Errorf("transport_socket.%w", err)
	}
	return t, nil
}

func upstreamTLS(m *tlsv3.UpstreamTlsContext) (*xds.TLS, error) {
	common, validation := m.GetCommonTlsContext(), m.GetCommonTlsContext().GetValidationContext()
	for _, part := range []struct {
		m    proto.Message
		path string
		list use
	}{
		{m, "", tlsFields},
		{common, "common_tls_context.", commonTLSFields},
		{validation, "common_tls_context.validation_context.", validationFields},
	} {
		if _, err := judge(part.m, part.path, part.list); err != nil {
			return nil, err
		}
	}
	t := &xds.TLS{ServerName: m.GetSni()}
	var err error
	if t.CA, err = filename(validation.GetTrustedCa()); err != nil {
		return nil, fmt.Errorf("common_tls_context.validation_context.trusted_ca: %w", err)
	}
	if t.CA == "" {
		return nil, errors.New("common_tls_context.validation_context.trusted_ca: without it nobody checks who the control plane is")
	}
	if t.Names, err = names(validation); err != nil {
		return nil, fmt.Errorf("common_tls_context.validation_context: %w", err)
	}
	switch certs := common.GetTlsCertificates(); {
	case len(certs) == 1:
		if _, err := judge(certs[0], "common_tls_context.tls_certificates[0].", certFields); err != nil {
			return nil, err
		}
		var errKey error
		t.Cert, err = filename(certs[0].GetCertificateChain())
		t.Key, errKey = filename(certs[0].GetPrivateKey())
		if err := cmp.Or(err, errKey); err != nil {
			return nil, fmt.Errorf("common_tls_context.tls_certificates[0]: %w", err)
		}
	case len(certs) > 1:
		return nil, fmt.Errorf("common_tls_context.tls_certificates: %d, one is possible", len(certs))
	}
	return t, nil
}

// filename is the path of a file, so that it can be replaced while the proxy runs.
func filename(s *corev3.DataSource) (string, error) {
	if s == nil {
		return "", nil
	}
	if s.GetFilename() == "" {
		return "", errors.New("only a filename is possible")
	}
	return s.GetFilename(), nil
}

// names are what the server's certificate must be for.
func names(v *tlsv3.CertificateValidationContext) ([]string, error) {
	var out []string
	for _, typed := range v.GetMatchTypedSubjectAltNames() {
		exact, ok := typed.GetMatcher().GetMatchPattern().(*matcherv3.StringMatcher_Exact)
		if !ok || exact.Exact == "" {
			return nil, errors.New("match_typed_subject_alt_names: only exact names are possible")
		}
		out = append(out, exact.Exact)
	}
	if len(out) == 0 {
		return nil, errors.New("match_typed_subject_alt_names: a name is needed that the control plane's certificate must be for")
	}
	return out, nil
}
