package resource

import (
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/format"
)

const (
	typeTCPProxy = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"

	// Envoy's defaults.
	defaultTCPIdle = time.Hour
)

func (c *decoding) tcpProxy(p *path, a *anypb.Any) *TCPProxy {
	var m tcpproxyv3.TcpProxy
	if !c.unpack(p, a, &m) {
		return nil
	}
	t := &TCPProxy{AccessLogs: c.accessLogs(p, m.GetAccessLog())}
	if d := m.GetIdleTimeout(); d != nil {
		// Envoy: "0s" disables the timeout; ours is then a week.
		if t.IdleTimeout = c.duration(p.field("idle_timeout"), d, 0); t.IdleTimeout == 0 {
			t.IdleTimeout = 7 * 24 * time.Hour
		}
	} else {
		t.IdleTimeout = defaultTCPIdle
	}
	t.MaxDuration = c.duration(p.field("max_downstream_connection_duration"), m.GetMaxDownstreamConnectionDuration(), 0)
	for i, h := range m.GetHashPolicy() { // Envoy takes one only
		if t.HashSource = h.GetSourceIp() != nil; !t.HashSource || i > 0 {
			c.fail(p.at("hash_policy", i), "only source_ip is supported")
		}
	}
	if d := m.GetOnDemand(); d != nil {
		t.OnDemandClusters = true
		c.fromADS(p.field("on_demand").field("odcds_config"), d.GetOdcdsConfig())
	}
	labels := c.metadataMatch(p.field("metadata_match"), m.GetMetadataMatch())
	switch {
	case m.GetCluster() != "":
		t.Clusters = []WeightedCluster{{Name: m.GetCluster(), Weight: 1, Subset: labels.Match()}}
	case m.GetWeightedClusters() != nil:
		for i, w := range m.GetWeightedClusters().GetClusters() {
			own := c.metadataMatch(p.field("weighted_clusters").at("clusters", i).field("metadata_match"), w.GetMetadataMatch())
			t.Clusters = append(t.Clusters, WeightedCluster{Name: w.GetName(), Weight: w.GetWeight(), Subset: labels.Merge(own).Match()})
		}
	}
	c.checkWeights(p, t.Clusters)
	t.Tunnel = c.tunnel(p.field("tunneling_config"), m.GetTunnelingConfig())
	return t
}

// tunnel refuses what Envoy does, and an end that could never be one.
func (c *decoding) tunnel(p *path, m *tcpproxyv3.TcpProxy_TunnelingConfig) *Tunnel {
	if m == nil {
		return nil
	}
	t := &Tunnel{Authority: m.GetHostname(), Dynamic: strings.Contains(m.GetHostname(), "%"), Post: m.GetUsePost(), Path: m.GetPostPath()}
	if t.Authority == "" || strings.ContainsFunc(t.Authority, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		c.fail(p.field("hostname"), "%q is not an authority", clip(t.Authority))
	}
	if _, err := format.Parse(t.Authority); err != nil && t.Dynamic {
		c.fail(p.field("hostname"), "%w", err)
	}
	switch {
	case t.Path != "" && !t.Post:
		c.fail(p.field("post_path"), "set without use_post")
	case t.Path == "":
		t.Path = "/"
	case !strings.HasPrefix(t.Path, "/"):
		c.fail(p.field("post_path"), "%q is not a path", clip(t.Path))
	}
	c.rewrite(p.field("post_path"), t.Path)
	t.Headers = c.headerEdits(p, "headers", m.GetHeadersToAdd(), nil).Add
	return t
}

// checkWeights refuses what no cluster can be picked from.
func (c *decoding) checkWeights(p *path, clusters []WeightedCluster) {
	var total uint64
	for _, w := range clusters {
		if w.Name == "" {
			c.fail(p, "a cluster without a name")
		}
		total += uint64(w.Weight)
	}
	if len(clusters) == 0 || total == 0 || total > 1<<32-1 {
		c.fail(p, "%d clusters with a total weight of %d", len(clusters), total)
	}
}

// cosmeticFilters are filters that only observe, or that do what this proxy does
// not need: peer metadata, statistics, and choosing Istio's ALPN for mutual TLS.
var cosmeticFilters = map[string]bool{
	"io.istio.http.peer_metadata.Config":                        true,
	"envoy.tcp.metadataexchange.config.MetadataExchange":        true,
	"stats.PluginConfig":                                        true,
	"istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig": true,
	"envoy.extensions.filters.http.grpc_stats.v3.FilterConfig":  true,
}

// filterType is the type of a filter's configuration; for a TypedStruct that of
// what is in it.
func filterType(a *anypb.Any) string {
	switch name := typeName(a.GetTypeUrl()); name {
	case "udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct":
		inner, ok := firstString(a.GetValue())
		if !ok {
			return string(name)
		}
		return string(typeName(inner))
	default:
		return string(name)
	}
}

// firstString is field 1 of a message: a TypedStruct's type_url. The last one
// counts, as in every protobuf parser.
func firstString(b []byte) (string, bool) {
	var s string
	found := false
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", false
		}
		b = b[n:]
		if num == 1 && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return "", false
			}
			s, found = string(v), true
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return "", false
		}
		b = b[n:]
	}
	return s, found
}

// cosmeticFilter reports whether a filter can be left out, and counts it then.
func (c *decoding) cosmeticFilter(a *anypb.Any) bool {
	name := filterType(a)
	if !cosmeticFilters[name] {
		return false
	}
	c.skipped(name)
	return true
}

// accessLogs decodes a list of logs; equal lists of a resource are one.
func (c *decoding) accessLogs(p *path, logs []*accesslogv3.AccessLog) []AccessLog {
	if len(logs) != 1 || logs[0].GetFilter() != nil {
		return c.newAccessLogs(p, logs)
	}
	a := logs[0].GetTypedConfig()
	key := a.GetTypeUrl() + "\n" + string(a.GetValue())
	if known, ok := c.logs[key]; ok {
		return known
	}
	bad := len(c.errs)
	out := c.newAccessLogs(p, logs)
	if len(c.errs) == bad {
		if c.logs == nil {
			c.logs = map[string][]AccessLog{}
		}
		c.logs[key] = out
	}
	return out
}

func (c *decoding) newAccessLogs(p *path, logs []*accesslogv3.AccessLog) []AccessLog {
	var out []AccessLog
	for i, m := range logs {
		if l, ok := c.accessLog(p.at("access_log", i), m); ok {
			out = append(out, l)
		}
	}
	return out
}
