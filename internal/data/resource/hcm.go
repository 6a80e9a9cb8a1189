package resource

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/match"
)

const (
	typeHCM    = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	typeRouter = "envoy.extensions.filters.http.router.v3.Router"
	typeFault  = "envoy.extensions.filters.http.fault.v3.HTTPFault"
	typeCORS   = "envoy.extensions.filters.http.cors.v3.Cors"

	// Envoy's defaults.
	defaultStreamIdle = 5 * time.Minute
	defaultHTTPIdle   = time.Hour
	defaultServerName = "envoy"
)

func (c *decoding) connectionManager(p *path, a *anypb.Any) *HTTPConnectionManager {
	var m hcmv3.HttpConnectionManager
	if !c.unpack(p, a, &m) {
		return nil
	}
	h := &HTTPConnectionManager{
		AccessLogs:                c.accessLogs(p, m.GetAccessLog()),
		UseRemoteAddress:          m.GetUseRemoteAddress().GetValue(),
		SkipXFFAppend:             m.GetSkipXffAppend(),
		NormalizePath:             m.GetNormalizePath().GetValue(),
		MergeSlashes:              m.GetMergeSlashes(),
		Proxy100Continue:          m.GetProxy_100Continue(),
		StreamIdleTimeout:         c.duration(p.field("stream_idle_timeout"), m.GetStreamIdleTimeout(), defaultStreamIdle),
		RequestTimeout:            c.duration(p.field("request_timeout"), m.GetRequestTimeout(), 0),
		RequestHeadersTimeout:     c.duration(p.field("request_headers_timeout"), m.GetRequestHeadersTimeout(), 0),
		IdleTimeout:               c.duration(p.field("common_http_protocol_options").field("idle_timeout"), m.GetCommonHttpProtocolOptions().GetIdleTimeout(), defaultHTTPIdle),
		MaxRequestHeadersKB:       m.GetMaxRequestHeadersKb().GetValue(),
		GenerateRequestID:         isTrue(m.GetGenerateRequestId(), true),
		PreserveExternalRequestID: m.GetPreserveExternalRequestId(),
	}
	c.codec(p, m.GetCodecType())
	c.serverHeader(p, h, &m)
	c.clientCertHeader(p, h, m.GetForwardClientCertDetails())
	c.pathHandling(p, &m)
	c.routeSource(p, h, &m)
	for _, u := range m.GetUpgradeConfigs() {
		if isTrue(u.GetEnabled(), true) {
			h.UpgradeTypes = append(h.UpgradeTypes, match.Lower(u.GetUpgradeType()))
		}
	}
	filters := m.GetHttpFilters()
	for i, f := range filters {
		c.httpFilter(p.at("http_filters", i), f, i == len(filters)-1)
	}
	if len(filters) == 0 {
		c.fail(p.field("http_filters"), "no router filter")
	}
	return h
}

func (c *decoding) codec(p *path, t hcmv3.HttpConnectionManager_CodecType) {
	switch t {
	case hcmv3.HttpConnectionManager_AUTO, hcmv3.HttpConnectionManager_HTTP1:
	default:
		c.fail(p.field("codec_type"), "%s is not supported", t)
	}
}

// serverHeader: Envoy overwrites the response's server header with server_name
// ("envoy" where none is set) unless it is told to pass the upstream's through.
func (c *decoding) serverHeader(p *path, h *HTTPConnectionManager, m *hcmv3.HttpConnectionManager) {
	h.ServerName = m.GetServerName()
	if h.ServerName == "" {
		h.ServerName = defaultServerName
	}
	switch m.GetServerHeaderTransformation() {
	case hcmv3.HttpConnectionManager_OVERWRITE:
	case hcmv3.HttpConnectionManager_APPEND_IF_ABSENT:
		h.ServerNameIfAbsent = true
	case hcmv3.HttpConnectionManager_PASS_THROUGH:
		h.ServerName = ""
	default:
		c.fail(p.field("server_header_transformation"), "%d is not supported", m.GetServerHeaderTransformation())
	}
}

// clientCertHeader: without mutual TLS from the client, which this proxy does not
// terminate, every mode but ALWAYS_FORWARD_ONLY removes x-forwarded-client-cert.
func (c *decoding) clientCertHeader(p *path, h *HTTPConnectionManager, m hcmv3.HttpConnectionManager_ForwardClientCertDetails) {
	switch m {
	case hcmv3.HttpConnectionManager_SANITIZE, hcmv3.HttpConnectionManager_FORWARD_ONLY,
		hcmv3.HttpConnectionManager_APPEND_FORWARD, hcmv3.HttpConnectionManager_SANITIZE_SET:
	case hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY:
		h.KeepForwardedClientCert = true
	default:
		c.fail(p.field("forward_client_cert_details"), "%d is not supported", m)
	}
}

func (c *decoding) pathHandling(p *path, m *hcmv3.HttpConnectionManager) {
	switch m.GetPathWithEscapedSlashesAction() {
	case hcmv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT, hcmv3.HttpConnectionManager_KEEP_UNCHANGED:
	default:
		c.fail(p.field("path_with_escaped_slashes_action"), "%s is not supported", m.GetPathWithEscapedSlashesAction())
	}
}

func (c *decoding) routeSource(p *path, h *HTTPConnectionManager, m *hcmv3.HttpConnectionManager) {
	switch s := m.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_Rds:
		h.RouteConfigName = s.Rds.GetRouteConfigName()
		if h.RouteConfigName == "" {
			c.fail(p.field("rds").field("route_config_name"), "no name")
		}
		c.fromADS(p.field("rds").field("config_source"), s.Rds.GetConfigSource())
	case *hcmv3.HttpConnectionManager_RouteConfig:
		at := p.field("route_config")
		h.Inline = c.routeConfiguration(at, s.RouteConfig, func() (hosts []*VirtualHost, _ decodedParts[*VirtualHost]) {
			for i, vh := range s.RouteConfig.GetVirtualHosts() {
				hosts = append(hosts, c.virtualHost(at.at("virtual_hosts", i), vh))
			}
			return hosts, nil
		})
	default:
		c.fail(p, "neither rds nor route_config")
	}
}

// fromADS: resources come over the one stream there is.
func (c *decoding) fromADS(p *path, m *corev3.ConfigSource) {
	switch m.GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads, *corev3.ConfigSource_Self:
	default:
		c.fail(p, "only ads is supported")
	}
}

// httpFilter accepts the router at the end, cosmetic filters, and fault and CORS
// filters without content (their content would be per route, and is refused there).
func (c *decoding) httpFilter(p *path, f *hcmv3.HttpFilter, last bool) {
	a := f.GetTypedConfig()
	at := p.field("typed_config")
	name := filterType(a)
	if f.GetDisabled() && name != typeRouter {
		c.skipped(name)
		return
	}
	switch {
	case name == typeRouter:
		c.unpack(at, a, &routerv3.Router{})
		if !last {
			c.fail(p, "the router filter is not the last one")
		}
		return
	case name == typeFault:
		if c.unpack(at, a, &faultv3.HTTPFault{}) {
			c.skipped(name)
		}
	case name == typeCORS:
		if c.unpack(at, a, &corsv3.Cors{}) {
			c.skipped(name)
		}
	case !c.cosmeticFilter(a):
		c.fail(p, "HTTP filter %q of type %q is not supported", clip(f.GetName()), clip(name))
	}
	if last {
		c.fail(p, "the last HTTP filter is not the router")
	}
}

// perFilter refuses per-route configuration of filters unless the filter is
// cosmetic: a fault, a CORS policy or an RBAC rule would change what happens.
func (c *decoding) perFilter(p *path, configs map[string]*anypb.Any) {
	for name, a := range configs {
		if !c.cosmeticFilter(a) {
			c.fail(p.field("typed_per_filter_config"), "%q of type %q is not supported", clip(name), clip(filterType(a)))
		}
	}
}

// splitList splits Envoy's comma separated lists.
func splitList(s string) []string {
	var out []string
	for w := range strings.SplitSeq(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}
