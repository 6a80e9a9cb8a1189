package istioapi

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/egret-mesh/egret/internal/format"
)

// usedMeshFields are the fields of MeshConfig that Egret reads.
var usedMeshFields = map[protoreflect.Name]bool{
	"access_log_file": true, "access_log_format": true, "access_log_encoding": true,
	"outbound_traffic_policy": true, "root_namespace": true, "trust_domain": true,
	"trust_domain_aliases": true, "enable_auto_mtls": true, // of pods
	"path_normalization": true, "default_http_retry_policy": true,
	"default_config":          true,                                 // see proxyConfig
	"enable_prometheus_merge": true, "inbound_traffic_policy": true, // of pods that are injected
	"connect_timeout": true, "protocol_detection_timeout": true,
	"extension_providers": true, "default_providers": true,
	"default_service_export_to": true, "default_virtual_service_export_to": true, "default_destination_rule_export_to": true,
}

func (c *checker) meshConfig(m *meshconfig.MeshConfig) {
	const at = "data." + meshKey
	c.outboundPolicy(m.OutboundTrafficPolicy, at+".outboundTrafficPolicy")
	c.exportTo(at+".defaultServiceExportTo", m.DefaultServiceExportTo, false)
	c.exportTo(at+".defaultVirtualServiceExportTo", m.DefaultVirtualServiceExportTo, false)
	c.exportTo(at+".defaultDestinationRuleExportTo", m.DefaultDestinationRuleExportTo, false)
	if m.RootNamespace != "" {
		c.label(at+".rootNamespace", "namespace", m.RootNamespace)
	}
	if m.TrustDomain != "" {
		c.host(at+".trustDomain", checkFQDN(m.TrustDomain))
	}
	c.duration(at+".connectTimeout", m.ConnectTimeout)
	if m.ConnectTimeout.AsDuration() > time.Hour {
		c.fail(CodeInvalid, at+".connectTimeout", "is over an hour")
	}
	if m.ProtocolDetectionTimeout.AsDuration() < 0 {
		c.fail(CodeInvalid, at+".protocolDetectionTimeout", "is negative")
	}
	c.logPath(at+".accessLogFile", m.AccessLogFile)
	c.logFormat(at+".accessLogFormat", m.AccessLogFormat, m.AccessLogEncoding == meshconfig.MeshConfig_JSON)
	c.retries(m.DefaultHttpRetryPolicy, at+".defaultHttpRetryPolicy")
	c.providers(m.ExtensionProviders, at+".extensionProviders")
	c.ignored(len(m.DefaultProviders.GetTracing()) > 0, at+".defaultProviders.tracing", "the proxy makes no spans")
	others := slices.ContainsFunc(m.DefaultProviders.GetMetrics(), func(name string) bool { return name != "prometheus" })
	c.ignored(others, at+".defaultProviders.metrics", "metrics are always there, for Prometheus")
	c.unread(m, at, usedMeshFields)
	c.proxyConfig(m.DefaultConfig, at+".defaultConfig")
}

// unread tells which fields are set that egret does not look at.
func (c *checker) unread(m proto.Message, at string, used map[protoreflect.Name]bool) {
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() { // in the order of the type, so that problems are, too
		if fd := fields.Get(i); m.ProtoReflect().Has(fd) && !used[fd.Name()] {
			c.info(CodeNotImplemented, at+"."+fd.JSONName(), "is not read by egret")
		}
	}
}

// usedProxyHeaders are the fields of ProxyConfig.proxyHeaders that Egret reads.
var usedProxyHeaders = map[protoreflect.Name]bool{
	"request_id": true, "server": true, "attempt_count": true, "envoy_debug_headers": true, "x_forwarded_host": true,
}

// usedProxyFields are the fields of ProxyConfig that Egret reads; most are for injection,
// and for the proxy of a pod.
var usedProxyFields = map[protoreflect.Name]bool{
	"proxy_headers": true, "gateway_topology": true,
	"discovery_address": true, "proxy_metadata": true, "concurrency": true, "service_cluster": true, "termination_drain_duration": true,
	"status_port": true, "proxy_admin_port": true, "hold_application_until_proxy_starts": true, "interception_mode": true, "image": true,
}

func (c *checker) proxyConfig(p *meshconfig.ProxyConfig, at string) {
	if p == nil {
		return
	}
	c.unread(p, at, usedProxyFields)
	if t := p.GetGatewayTopology(); t != nil {
		c.unread(t, at+".gatewayTopology", map[protoreflect.Name]bool{"forward_client_cert_details": true, "num_trusted_proxies": true})
	}
	h := p.GetProxyHeaders()
	if h == nil {
		return
	}
	at += ".proxyHeaders"
	c.unread(h, at, usedProxyHeaders)
	if name := h.GetServer().GetValue(); strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		c.fail(CodeInvalid, at+".server.value", "%q is not the value of a header", name)
	}
}

func (c *checker) logPath(path, file string) {
	if file != "" && !strings.HasPrefix(file, "/") {
		c.fail(CodeInvalid, path, "%q is not an absolute path; for the standard output write /dev/stdout", file)
	}
}

// logFormat: what the proxy would refuse, with all listeners that have it, is refused
// here. Text that is no JSON object is not used, as in Istio.
func (c *checker) logFormat(path, text string, isJSON bool) {
	if text == "" {
		return
	}
	if isJSON {
		var object map[string]any
		if err := json.Unmarshal([]byte(text), &object); err != nil || len(object) == 0 {
			c.warn(CodeInvalid, path, "is not a JSON object with fields, so that Istio's default format is used")
			return
		}
		c.jsonFormat(path, object)
	} else if _, err := format.Parse(text); err != nil {
		c.fail(CodeInvalid, path, "%v", err)
	}
}

func (c *checker) jsonFormat(path string, object map[string]any) {
	if err := format.CheckJSON(object); err != nil {
		c.fail(CodeInvalid, path, "%v", err)
	}
}

func (c *checker) outboundPolicy(p *meshconfig.MeshConfig_OutboundTrafficPolicy, at string) {
	if p == nil {
		c.warn(CodeInsecure, at, "is not set, so that it is ALLOW_ANY (Istio's default for a MeshConfig): hosts that are not in the registry can be called. Set mode REGISTRY_ONLY to refuse them")
		return
	}
	c.refused(p.Mode == meshconfig.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY_DYNAMIC_DNS, at+".mode", "use REGISTRY_ONLY or ALLOW_ANY")
	c.ignored(p.Tls != nil, at+".tls", "unknown destinations are reached as the workload calls them")
}
