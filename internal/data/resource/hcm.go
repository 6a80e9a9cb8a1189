package resource

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/match"
)

const (
	typeHCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

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
		TrustedHops:               m.GetXffNumTrustedHops(),
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
		AlwaysRequestID:           m.GetAlwaysSetRequestIdInResponse(),
		MaxRequestsPerConn:        m.GetCommonHttpProtocolOptions().GetMaxRequestsPerConnection().GetValue(),
		MaxDuration:               c.duration(p.field("common_http_protocol_options").field("max_connection_duration"), m.GetCommonHttpProtocolOptions().GetMaxConnectionDuration(), 0),
		StripPort:                 stripPort(&m),
		AppendForwardedPort:       m.GetAppendXForwardedPort(),
	}
	h.Codec = c.codec(p, m.GetCodecType())
	h.HTTP2 = c.http2(p.field("http2_protocol_options"), m.GetHttp2ProtocolOptions())
	c.serverHeader(p, h, &m)
	c.clientCertHeader(p, h, &m)
	c.escapedSlashes(p, h, m.GetPathWithEscapedSlashesAction())
	c.routeSource(p, h, &m)
	for _, u := range m.GetUpgradeConfigs() {
		if isTrue(u.GetEnabled(), true) {
			h.UpgradeTypes = append(h.UpgradeTypes, match.Lower(u.GetUpgradeType()))
		}
	}
	filters := m.GetHttpFilters()
	for i, f := range filters {
		c.httpFilter(p.at("http_filters", i), h, f, i == len(filters)-1)
	}
	if len(filters) == 0 {
		c.fail(p.field("http_filters"), "no router filter")
	}
	return h
}

func stripPort(m *hcmv3.HttpConnectionManager) StripPort {
	switch {
	case m.GetStripAnyHostPort():
		return StripAny
	case m.GetStripMatchingHostPort():
		return StripMatching
	}
	return StripNone
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

func (c *decoding) clientCertHeader(p *path, h *HTTPConnectionManager, m *hcmv3.HttpConnectionManager) {
	switch mode := m.GetForwardClientCertDetails(); mode {
	case hcmv3.HttpConnectionManager_SANITIZE:
	case hcmv3.HttpConnectionManager_FORWARD_ONLY:
		h.ForwardClientCert = ClientCertForward
	case hcmv3.HttpConnectionManager_APPEND_FORWARD:
		h.ForwardClientCert = ClientCertAppend
	case hcmv3.HttpConnectionManager_SANITIZE_SET:
		h.ForwardClientCert = ClientCertSet
	case hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY:
		h.ForwardClientCert = ClientCertAlwaysForward
	default:
		c.fail(p.field("forward_client_cert_details"), "%d is not supported", mode)
	}
	d := m.GetSetCurrentClientCertDetails()
	h.ClientCertDetails = ClientCertDetails{
		Cert: d.GetCert(), Chain: d.GetChain(), Subject: d.GetSubject().GetValue(), URI: d.GetUri(), DNS: d.GetDns(),
	}
	if h.Via = m.GetVia(); strings.ContainsFunc(h.Via, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		c.fail(p.field("via"), "%q is not the value of a header", clip(h.Via))
	}
}

func (c *decoding) escapedSlashes(p *path, h *HTTPConnectionManager, action hcmv3.HttpConnectionManager_PathWithEscapedSlashesAction) {
	switch action {
	case hcmv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT, hcmv3.HttpConnectionManager_KEEP_UNCHANGED:
	case hcmv3.HttpConnectionManager_REJECT_REQUEST:
		h.EscapedSlashes = SlashesReject
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT:
		h.EscapedSlashes = SlashesRedirect
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD:
		h.EscapedSlashes = SlashesUnescape
	default:
		c.fail(p.field("path_with_escaped_slashes_action"), "%d is not supported", action)
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
