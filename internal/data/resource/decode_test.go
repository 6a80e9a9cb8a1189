package resource_test

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
)

// What a refusal says: which resource, where in it, and what.
func checkRefused(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
}

const hcmType = `"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"`
const routerFilter = `{"name":"router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}`

// inHCM is a listener around fields of a connection manager.
func inHCM(fields, filters string) string {
	return `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":80}},"filterChains":[{"filters":[{"name":"hcm","typedConfig":{` + hcmType + `,
		"rds":{"configSource":{"ads":{}},"routeConfigName":"80"},` + fields + `"httpFilters":[` + filters + `]}}]}]}`
}

const faultFilter = `{"name":"fault","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}}`

func TestListenerRefused(t *testing.T) {
	tcp := `{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"c"}}`
	with := func(fields string) string {
		return `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":80}},` + fields + `}`
	}
	chain := func(fields string) string {
		return with(`"filterChains":[{` + fields + `"filters":[` + tcp + `]}]`)
	}
	tunnelled := func(tunnel string) string {
		return with(`"filterChains":[{"filters":[` + strings.Replace(tcp, `"cluster":"c"`, `"cluster":"c","tunnelingConfig":`+tunnel, 1) + `]}]`)
	}
	filtered := func(filter string) string {
		return with(`"filterChains":[{"filters":[` + tcp + `]}],"accessLog":[{"name":"f","filter":` + filter + `,"typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog","path":"/dev/stdout"}}]`)
	}
	logged := func(format string) string {
		return with(`"filterChains":[{"filters":[` + tcp + `]}],"accessLog":[{"name":"f","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog","path":"/dev/stdout",` + format + `}}]`)
	}
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"unknown network filter", with(`"filterChains":[{"filters":[{"name":"mongo","typedConfig":{"@type":"type.googleapis.com/x.Mongo"}},` + tcp + `]}]`), []string{`listener "l"`, "filter_chains[0].filters[0]", "x.Mongo"}},
		{"network RBAC", with(`"filterChains":[{"filters":[{"name":"rbac","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"}},` + tcp + `]}]`), []string{"rbac.v3.RBAC"}},
		{"RBAC under a cosmetic name", with(`"filterChains":[{"filters":[{"name":"istio.metadata_exchange","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"}},` + tcp + `]}]`), []string{"rbac.v3.RBAC"}},
		{"TypedStruct of an unknown filter", with(`"filterChains":[{"filters":[{"name":"istio.stats","typedConfig":{"@type":"type.googleapis.com/udpa.type.v1.TypedStruct","typeUrl":"type.googleapis.com/envoy.Wasm"}},` + tcp + `]}]`), []string{"envoy.Wasm"}},
		{"no terminal filter", with(`"filterChains":[{"filters":[]}]`), []string{"terminal"}},
		{"filter after the terminal one", with(`"filterChains":[{"filters":[` + tcp + `,` + tcp + `]}]`), []string{"not the last"}},
		{"answers of its own that are edited", inHCM(`"localReplyConfig":{"mappers":[]},`, routerFilter), []string{"local_reply_config"}},
		{"no chains", with(`"useOriginalDst":true`), []string{"filter_chains"}},
		{"matcher tree", with(`"filterChains":[{"filters":[` + tcp + `]}],"filterChainMatcher":{"matcherList":{}}`), []string{"filter_chain_matcher"}},
		{"listener filter", with(`"listenerFilters":[{"name":"pp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"}}],"filterChains":[{"filters":[` + tcp + `]}]`), []string{"listener_filters[0]", "ProxyProtocol"}},
		{"source type", chain(`"filterChainMatch":{"sourceType":"EXTERNAL"},`), []string{"source_type", "EXTERNAL"}},
		{"server name", chain(`"filterChainMatch":{"serverNames":["a.*.com"]},`), []string{"server_names[0]", "a.*.com"}},
		{"bare wildcard", chain(`"filterChainMatch":{"serverNames":["*"]},`), []string{"server_names[0]"}},
		{"port out of range", chain(`"filterChainMatch":{"destinationPort":70000},`), []string{"destination_port", "70000"}},
		{"address range", chain(`"filterChainMatch":{"prefixRanges":[{"addressPrefix":"10.0.0.0","prefixLen":40}]},`), []string{"prefix_ranges[0]"}},
		{"proxy protocol", chain(`"useProxyProto":true,`), []string{"use_proxy_proto"}},
		{"transport socket", chain(`"transportSocket":{"name":"quic","typedConfig":{"@type":"type.googleapis.com/x.Quic"}},`), []string{"transport_socket", "x.Quic"}},
		{"the same match twice", with(`"filterChains":[{"filters":[` + tcp + `]},{"filters":[` + tcp + `]}]`), []string{"same connections"}},
		{"UDP", `{"name":"l","address":{"socketAddress":{"protocol":"UDP","address":"0.0.0.0","portValue":53}},"filterChains":[{"filters":[` + tcp + `]}]}`, []string{"UDP"}},
		{"pipe", `{"name":"l","address":{"pipe":{"path":"/x"}},"filterChains":[{"filters":[` + tcp + `]}]}`, []string{"address"}},
		{"transparent", with(`"transparent":true,"filterChains":[{"filters":[` + tcp + `]}]`), []string{"transparent"}},
		{"tunnel to nowhere", tunnelled(`{}`), []string{"typed_config.tunneling_config.hostname"}},
		{"tunnel with a break", tunnelled(`{"hostname":"a:1\r\nx: y"}`), []string{"tunneling_config.hostname"}},
		{"tunnel with a bad operator", tunnelled(`{"hostname":"%NO_SUCH%:1"}`), []string{"tunneling_config.hostname", "NO_SUCH"}},
		{"tunnel's path without POST", tunnelled(`{"hostname":"a:1","postPath":"/x"}`), []string{"tunneling_config.post_path"}},
		{"tunnel's headers", tunnelled(`{"hostname":"a:1","headersToAdd":[{"header":{"key":"Transfer-Encoding","value":"x"}}]}`), []string{"tunneling_config.headers_to_add[0]", "transfer-encoding"}},
		{"tunnel's request id", tunnelled(`{"hostname":"a:1","requestIdHeader":"x"}`), []string{"tunneling_config.request_id_header"}},
		{"HTTP RBAC", inHCM("", `{"name":"rbac","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"}},`+routerFilter), []string{"filter_chains[0].filters[0].typed_config.http_filters[0]", "rbac"}},
		{"optional RBAC too", inHCM("", `{"name":"rbac","isOptional":true,"typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"}},`+routerFilter), []string{"rbac"}},
		{"fault by header", inHCM("", `{"name":"fault","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault","abort":{"headerAbort":{}}}},`+routerFilter), []string{"http_filters[0].typed_config.abort.header_abort"}},
		{"fault twice", inHCM("", faultFilter+","+faultFilter+","+routerFilter), []string{"http_filters[1]", "second"}},
		{"bandwidth fault", inHCM("", `{"name":"fault","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault","responseRateLimit":{"fixedLimit":{"limitKbps":"1"}}}},`+routerFilter), []string{"response_rate_limit"}},
		{"no router", inHCM("", `{"name":"cors","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}}`), []string{"router"}},
		{"router first", inHCM("", routerFilter+","+routerFilter), []string{"not the last"}},
		{"codec", inHCM(`"codecType":"HTTP3",`, routerFilter), []string{"codec_type", "HTTP3"}},
		{"underscores", inHCM(`"commonHttpProtocolOptions":{"headersWithUnderscoresAction":"REJECT_REQUEST"},`, routerFilter), []string{"headers_with_underscores_action", "REJECT_REQUEST"}},
		{"command operator", logged(`"logFormat":{"textFormat":"%PROTOCOL% %NO_SUCH%"}`), []string{"access_log[0].typed_config", "%NO_SUCH%"}},
		{"command operator in JSON", logged(`"logFormat":{"jsonFormat":{"a":{"b":"%REQ%"}}}`), []string{"access_log[0].typed_config", "a: b:", "%REQ%", "header name"}},
		{"a file in a log", logged(`"logFormat":{"textFormat":"%FILE_CONTENT(/etc/passwd)%"}`), []string{"FILE_CONTENT", "not supported"}},
		{"process rate limit of a log", filtered(`{"extensionFilter":{"name":"r","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.filters.process_ratelimit.v3.ProcessRateLimitFilter"}}}`), []string{"access_log[0].filter.extension_filter", "ProcessRateLimitFilter"}},
		{"expression of a log", filtered(`{"extensionFilter":{"name":"cel","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter","expression":"response.cod > 4"}}}`), []string{"extension_filter.typed_config.expression", "response.cod"}},
		{"CEL access log filter", with(`"filterChains":[{"filters":[` + tcp + `]}],"accessLog":[{"name":"f","filter":{"extensionFilter":{"name":"cel"}},"typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog","path":"/dev/stdout"}}]`), []string{"access_log[0].filter.extension_filter"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := resourcetest.Listener(t, tc.text)
			_, err := resource.DecodeListener(a)
			checkRefused(t, err, tc.want...)
			if l := resource.RejectedListener(a, err); l != nil && (l.Rejected == "" || l.Name != "l" || l.Address.Port() == 0) {
				t.Errorf("stand-in: %+v", l)
			}
		})
	}
}

func routeConfig(vhost, routeFields string) string {
	return `{"name":"80","virtualHosts":[{"name":"v","domains":["a.com"],` + vhost + `"routes":[{` + routeFields + `}]}]}`
}

func TestRouteRefused(t *testing.T) {
	ok := `"match":{"prefix":"/"},"route":{"cluster":"c"}`
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"cluster header", routeConfig("", `"match":{"prefix":"/"},"route":{"clusterHeader":"x"}`), []string{`route configuration "80"`, "virtual_hosts[0].routes[0].route.cluster_header", `"x"`}},
		{"no cluster", routeConfig("", `"match":{"prefix":"/"},"route":{}`), []string{"0 clusters"}},
		{"no weight", routeConfig("", `"match":{"prefix":"/"},"route":{"weightedClusters":{"clusters":[{"name":"c","weight":0}]}}`), []string{"total weight of 0"}},
		{"hedging", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","hedgePolicy":{"hedgeOnPerTryTimeout":true}}`), []string{"routes[0].route.hedge_policy"}},
		{"idle timeout of one attempt", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","retryPolicy":{"retryOn":"5xx","perTryIdleTimeout":"1s"}}`), []string{"routes[0].route.retry_policy.per_try_idle_timeout"}},
		{"hedging on the virtual host", routeConfig(`"hedgePolicy":{"hedgeOnPerTryTimeout":true},`, ok), []string{"virtual_hosts[0].hedge_policy"}},
		{"a header chooses the mirror", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","requestMirrorPolicies":[{"clusterHeader":"m"}]}`), []string{"request_mirror_policies[0].cluster_header"}},
		{"mirror to nowhere", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","requestMirrorPolicies":[{}]}`), []string{"request_mirror_policies[0].cluster"}},
		{"a header chooses the host", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","hostRewriteHeader":"x"}`), []string{"host_rewrite_header"}},
		{"URI template", routeConfig("", `"match":{"pathMatchPolicy":{"name":"x"}},"route":{"cluster":"c"}`), []string{"path_match_policy"}},
		{"TLS match", routeConfig("", `"match":{"prefix":"/","tlsContext":{"presented":true}},"route":{"cluster":"c"}`), []string{"tls_context"}},
		{"metadata match", routeConfig("", `"match":{"prefix":"/","dynamicMetadata":[{"filter":"x"}]},"route":{"cluster":"c"}`), []string{"dynamic_metadata"}},
		{"hash of filter state", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","hashPolicy":[{"filterState":{"key":"x"}}]}`), []string{"hash_policy[0].filter_state"}},
		{"hash cookie that breaks out", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","hashPolicy":[{"cookie":{"name":"a","ttl":"1s","path":"/; Domain=x"}}]}`), []string{"hash_policy[0].cookie"}},
		{"fault by header on the route", routeConfig("", ok+`,"typedPerFilterConfig":{"envoy.filters.http.fault":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault","delay":{"headerDelay":{}}}}`), []string{"typed_per_filter_config.delay.header_delay"}},
		{"abort with a status that is none", routeConfig("", ok+`,"typedPerFilterConfig":{"envoy.filters.http.fault":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault","abort":{"httpStatus":101}}}`), []string{"abort.http_status", "101"}},
		{"two faults", routeConfig("", ok+`,"typedPerFilterConfig":{"a":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"},"b":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}}`), []string{"typed_per_filter_config", "twice"}},
		{"CORS with a line break", routeConfig("", ok+`,"typedPerFilterConfig":{"envoy.filters.http.cors":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy","allowMethods":"a\nb"}}`), []string{"typed_per_filter_config"}},
		{"CORS in the old field", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","cors":{"maxAge":"1"}}`), []string{"route.cors"}},
		{"fault for all routes", `{"name":"80","typedPerFilterConfig":{"envoy.filters.http.fault":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}}}`, []string{"typed_per_filter_config", "HTTPFault"}},
		{"retry of another kind", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","retryPolicy":{"retryPriority":{"name":"x"}}}`), []string{"retry_priority"}},
		{"subset match of another kind", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","metadataMatch":{"filterMetadata":{"other":{"a":"b"}}}}`), []string{"metadata_match", "other"}},
		{"priority without frequency", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","retryPolicy":{"retryPriority":{"name":"p","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"}}}}`), []string{"update_frequency"}},
		{"per-route RBAC on the virtual host", routeConfig(`"typedPerFilterConfig":{"rbac":{"@type":"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute"}},`, ok), []string{"virtual_hosts[0].typed_per_filter_config"}},
		{"rate limits", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","rateLimits":[{"actions":[{"remoteAddress":{}}]}]}`), []string{"rate_limits"}},
		{"internal redirect", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","internalRedirectPolicy":{}}`), []string{"internal_redirect_policy"}},
		{"regex", routeConfig("", `"match":{"safeRegex":{"regex":"("}},"route":{"cluster":"c"}`), []string{"safe_regex", "missing closing"}},
		{"substitution group", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","regexRewrite":{"pattern":{"regex":"a"},"substitution":"\\1"}}`), []string{"substitution"}},
		{"header edit of host", routeConfig("", ok+`,"requestHeadersToAdd":[{"header":{"key":"Host","value":"x"}}]`), []string{"request_headers_to_add[0]", "host"}},
		{"header edit of a pseudo header", routeConfig("", ok+`,"requestHeadersToRemove":[":path"]`), []string{"request_headers_to_remove[0]"}},
		{"header edit with a line break", routeConfig("", ok+`,"responseHeadersToAdd":[{"header":{"key":"x","value":"a\r\nb: c"}}]`), []string{"response_headers_to_add[0]"}},
		{"header edit with an operator that is none", routeConfig("", ok+`,"requestHeadersToAdd":[{"header":{"key":"x","value":"%NO_SUCH_THING%"}}]`), []string{"request_headers_to_add[0]", "NO_SUCH_THING"}},
		{"response framing", routeConfig("", ok+`,"responseHeadersToRemove":["Content-Length"]`), []string{"content-length"}},
		{"direct response from a file", routeConfig("", `"match":{"prefix":"/"},"directResponse":{"status":200,"body":{"filename":"/etc/passwd"}}`), []string{"direct_response.body"}},
		{"direct response body", routeConfig("", `"match":{"prefix":"/"},"directResponse":{"status":200,"body":{"inlineString":"`+strings.Repeat("x", 5000)+`"}}`), []string{"5000 bytes"}},
		{"redirect with a space", routeConfig("", `"match":{"prefix":"/"},"redirect":{"hostRedirect":"a b"}`), []string{"redirect"}},
		{"no action", routeConfig("", `"match":{"prefix":"/"}`), []string{"routes[0]"}},
		{"vhds from elsewhere", `{"name":"80","vhds":{"configSource":{"apiConfigSource":{"apiType":"DELTA_GRPC"}}}}`, []string{"vhds"}},
		{"a domain twice", `{"name":"80","virtualHosts":[{"name":"v","domains":["a.com","a.com"]}]}`, []string{"a.com"}},
		{"negative timeout", routeConfig("", `"match":{"prefix":"/"},"route":{"cluster":"c","timeout":"-1s"}`), []string{"timeout"}},
		{"no name", `{"virtualHosts":[]}`, []string{"name"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := resource.DecodeRouteConfiguration(resourcetest.Route(t, tc.text))
			checkRefused(t, err, tc.want...)
		})
	}
}

func TestClusterRefused(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"the old subset policy", `{"name":"c","lbPolicy":"LOAD_BALANCING_POLICY_CONFIG"}`, []string{`cluster "c"`, "lb_policy", "LOAD_BALANCING_POLICY_CONFIG"}},
		{"cluster type", `{"name":"c","clusterType":{"name":"x"}}`, []string{"cluster_type"}},
		{"subsets by lists", `{"name":"c","lbSubsetConfig":{"listAsAny":true}}`, []string{"lb_subset_config.list_as_any"}},
		{"header chooses the destination", `{"name":"c","type":"ORIGINAL_DST","lbPolicy":"CLUSTER_PROVIDED","originalDstLbConfig":{"useHttpHeader":true}}`, []string{"original_dst_lb_config.use_http_header"}},
		{"resolvers", `{"name":"c","type":"STRICT_DNS","typedDnsResolverConfig":{"name":"x","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig","resolvers":[{"socketAddress":{"address":"8.8.8.8","portValue":53}}]}}}`, []string{"resolvers"}},
		{"name in a static cluster", `{"name":"c","type":"STATIC","loadAssignment":{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"a.com","portValue":80}}}}]}]}}`, []string{"load_assignment.endpoints[0].lb_endpoints[0].endpoint.address", "a.com"}},
		{"no host name", `{"name":"c","type":"STRICT_DNS","loadAssignment":{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"a b","portValue":80}}}}]}]}}`, []string{"a b"}},
		{"endpoint without port", `{"name":"c","type":"STATIC","loadAssignment":{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.1"}}}}]}]}}`, []string{"port_value"}},
		{"unix socket", `{"name":"c","type":"STATIC","loadAssignment":{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"pipe":{"path":"/run/x"}}}}]}]}}`, []string{"pipe"}},
		{"transport socket", `{"name":"c","transportSocket":{"name":"x","typedConfig":{"@type":"type.googleapis.com/x.Socket"}}}`, []string{"transport_socket", "x.Socket"}},
		{"drop overload", `{"name":"c","loadAssignment":{"clusterName":"c","policy":{"dropOverloads":[{"category":"x","dropPercentage":{"numerator":1}}]}}}`, []string{"drop_overloads"}},
		{"HTTP/3", `{"name":"c","typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicitHttpConfig":{"http3ProtocolOptions":{}}}}}`, []string{"http3_protocol_options"}},
		{"active health checks", `{"name":"c","healthChecks":[{"timeout":"1s","interval":"1s","tcpHealthCheck":{}}]}`, []string{"health_checks"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := resource.DecodeCluster(resourcetest.Cluster(t, tc.text))
			checkRefused(t, err, tc.want...)
		})
	}
}

func TestRouteDecodes(t *testing.T) {
	rc, err := resource.DecodeRouteConfiguration(resourcetest.Route(t, `{"name":"80","virtualHosts":[
		{"name":"v","domains":["a.com"],"retryPolicy":{"retryOn":"5xx, reset","retryBackOff":{"baseInterval":"0.1s"}},"metadata":{"filterMetadata":{"egret":{"objects":["VirtualService/ns/vs","VirtualService/ns/vs","bad"]}}},"routes":[
			{"name":"w","match":{"path":"/x","caseSensitive":false,"headers":[{"name":"X-A","presentMatch":false},{"name":"b","stringMatch":{"prefix":"p"},"invertMatch":true,"treatMissingHeaderAsEmpty":true}],
				"queryParameters":[{"name":"q"}],"runtimeFraction":{"defaultValue":{"numerator":5,"denominator":"TEN_THOUSAND"}}},
			 "route":{"weightedClusters":{"clusters":[{"name":"c1","weight":90},{"name":"c2","weight":10,"requestHeadersToAdd":[{"header":{"key":"X-C","value":"%REQ(x)%"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD"}]}]},
				"timeout":"3s","regexRewrite":{"pattern":{"regex":"^/x/(.*)$"},"substitution":"/y/\\1$\\\\"},"upgradeConfigs":[{"upgradeType":"CONNECT"}]}},
			{"match":{"pathSeparatedPrefix":"/r"},"redirect":{"httpsRedirect":true,"responseCode":"TEMPORARY_REDIRECT"}},
			{"match":{"prefix":"/d"},"directResponse":{"status":418,"body":{"inlineString":"tea"}}}]},
		{"name":"t","domains":["t.com"],"requireTls":"ALL"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	vh := rc.VirtualHost("a.com")
	if diff := cmp.Diff([]resource.Object{{Kind: "VirtualService", Namespace: "ns", Name: "vs"}}, vh.Objects); diff != "" {
		t.Error(diff)
	}
	r := vh.Routes[0]
	want := resource.RouteMatch{Kind: resource.PathExact, Path: "/x", IgnoreCase: true, RuntimeNumerator: 5, RuntimeDenominator: 10000,
		Headers: []match.Header{
			{Name: "x-a", Value: match.String{Kind: match.Present}, Invert: true},
			{Name: "b", Value: match.String{Kind: match.Prefix, Value: "p"}, Invert: true, TreatMissingAsEmpty: true}},
		Query: []match.Query{{Name: "q", Value: match.String{Kind: match.Present}}}}
	if diff := cmp.Diff(want, r.Match); diff != "" {
		t.Error(diff)
	}
	f := r.Forward
	if f.Timeout != 3*time.Second || f.Clusters[0].Weight != 90 || !cmp.Equal(f.Upgrades, []resource.Upgrade{{Type: "connect", Enabled: true}}) {
		t.Errorf("%+v", f)
	}
	if diff := cmp.Diff([]resource.HeaderAdd{{Name: "x-c", Value: "%REQ(x)%", Action: resource.OverwriteIfExistsOrAdd, Dynamic: true}}, f.Clusters[1].RequestHeaders.Add); diff != "" {
		t.Error(diff)
	}
	if got := f.RegexRewrite.Pattern.ReplaceAllString("/x/abc", f.RegexRewrite.Substitution); got != `/y/abc$\` {
		t.Errorf("rewritten to %q", got)
	}
	if diff := cmp.Diff(&resource.RetryPolicy{On: []string{"5xx", "reset"}, NumRetries: 1, BackOffBase: 100 * time.Millisecond}, f.Retry); diff != "" {
		t.Error(diff)
	}
	if d := vh.Routes[1].Redirect; !d.HTTPSRedirect || d.Status != 307 || vh.Routes[1].Match.Kind != resource.PathSeparatedPrefix {
		t.Errorf("%+v", vh.Routes[1])
	}
	if d := vh.Routes[2].Direct; d.Status != 418 || string(d.Body) != "tea" {
		t.Errorf("%+v", d)
	}
	if s := rc.VirtualHost("t.com").TLSRedirect; s == nil || !s.Redirect.HTTPSRedirect || s.Redirect.Status != 301 {
		t.Errorf("%+v", s)
	}
}

const allFeatures = `{"name":"80","mostSpecificHeaderMutationsWins":true,"virtualHosts":[{"name":"v","domains":["a.com"],"includeAttemptCountInResponse":true,
		"requestMirrorPolicies":[{"cluster":"vm","disableShadowHostSuffixAppend":true}],
		"typedPerFilterConfig":{"cors":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy","allowOriginStringMatch":[{"exact":"https://v.com"}],"allowMethods":"GET","maxAge":"1","filterEnabled":{"defaultValue":{"numerator":0}}}},
		"routes":[
		{"match":{"prefix":"/","grpc":{}},"route":{"cluster":"c","timeout":"0s","maxGrpcTimeout":"0s","clusterNotFoundResponseCode":"INTERNAL_SERVER_ERROR","appendXForwardedHost":true,
			"requestMirrorPolicies":[{"cluster":"m","runtimeFraction":{"defaultValue":{"numerator":125000,"denominator":"MILLION"}},"traceSampled":false}],
			"hashPolicy":[{"header":{"headerName":"X-User"},"terminal":true},{"cookie":{"name":"sid","ttl":"60s","path":"/p","attributes":[{"name":"SameSite","value":"Lax"},{"name":"Secure"}]}},{"cookie":{"name":"own"}},{"connectionProperties":{"sourceIp":true}},{"connectionProperties":{}},{"queryParameter":{"name":"q"}}],
			"retryPolicy":{"retryOn":"retriable-headers","retriableHeaders":[{"name":"X-Again"}],"retriableRequestHeaders":[{"name":"X-Safe"}],"rateLimitedRetryBackOff":{"resetHeaders":[{"name":"Retry-After"},{"name":"X-Reset","format":"UNIX_TIMESTAMP"}]},
				"retryPriority":{"name":"p","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig","updateFrequency":2}}}},
		 "typedPerFilterConfig":{
			"envoy.filters.http.fault":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault","delay":{"fixedDelay":"5s","percentage":{"numerator":1000,"denominator":"MILLION"}},
				"abort":{"grpcStatus":14,"percentage":{"numerator":50}},"headers":[{"name":"x"}],"upstreamCluster":"c","downstreamNodes":["n"],"maxActiveFaults":3},
			"envoy.filters.http.cors":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy","allowOriginStringMatch":[{"prefix":"https://a"}],"allowCredentials":true,"maxAge":"86400","forwardNotMatchingPreflights":false}}},
		{"match":{"prefix":"/s"},"route":{"cluster":"c","priority":"HIGH","metadataMatch":{"filterMetadata":{"envoy.lb":{"version":"v1"}}},"maxStreamDuration":{"maxStreamDuration":"7s","grpcTimeoutHeaderMax":"3s","grpcTimeoutHeaderOffset":"1s"}}},
		{"match":{"prefix":"/r"},"redirect":{"regexRewrite":{"pattern":{"regex":"^/r/(.*)"},"substitution":"/x/\\1"}}}]}]}`

// TestRouteFeatures: what a stock istiod makes of fault, corsPolicy, mirror, timeout,
// retries and consistentHash, and what a virtual host hands down.
func TestRouteFeatures(t *testing.T) {
	rc, err := resource.DecodeRouteConfiguration(resourcetest.Route(t, allFeatures))
	if err != nil {
		t.Fatal(err)
	}
	vh := rc.VirtualHosts[0]
	first, second, third := vh.Routes[0], vh.Routes[1], vh.Routes[2]
	three := uint32(3)
	if !rc.MostSpecificWins || !vh.IncludeAttemptCountInResponse || !first.Match.GRPC {
		t.Errorf("%+v", vh)
	}
	present := match.String{Kind: match.Present}
	if diff := cmp.Diff(&resource.Fault{
		Delay: &resource.FaultDelay{Duration: 5 * time.Second, Share: resource.Fraction{Numerator: 1000, Denominator: 1_000_000}},
		Abort: &resource.FaultAbort{GRPCStatus: 14, Share: resource.Fraction{Numerator: 50, Denominator: 100}}, Headers: []match.Header{{Name: "x", Value: present}},
		Cluster: "c", Nodes: []string{"n"}, MaxActive: &three}, first.Fault); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&resource.CORS{Origins: []match.String{{Kind: match.Prefix, Value: "https://a"}}, AllowMethods: "GET", MaxAge: "86400", AllowCredentials: true}, first.CORS); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&resource.CORS{Origins: []match.String{{Value: "https://v.com"}}, AllowMethods: "GET", MaxAge: "1", ForwardUnmatched: true, Enabled: resource.Fraction{Denominator: 100}}, second.CORS); diff != "" {
		t.Error(diff)
	}
	want := &resource.Forward{
		Clusters: []resource.WeightedCluster{{Name: "c", Weight: 1}}, NotFoundStatus: 500, AppendForwardedHost: true, GRPC: &resource.GRPCTimeout{},
		Mirrors: []resource.Mirror{{Cluster: "m", Share: resource.Fraction{Numerator: 125000, Denominator: 1_000_000}}},
		HashPolicies: []resource.HashPolicy{{Kind: resource.HashHeader, Name: "x-user", Terminal: true},
			{Kind: resource.HashCookie, Name: "sid", Cookie: &resource.NewCookie{TTL: time.Minute, Path: "/p", Attributes: "; SameSite=Lax; Secure"}},
			{Kind: resource.HashCookie, Name: "own"}, {Kind: resource.HashSourceIP, Name: "source_ip"}, {Kind: resource.HashQuery, Name: "q"}},
		Retry: &resource.RetryPolicy{On: []string{"retriable-headers"}, NumRetries: 1, Headers: []match.Header{{Name: "x-again", Value: present}}, RequestHeaders: []match.Header{{Name: "x-safe", Value: present}},
			LeavePriorities: 2, RateLimited: &resource.RateLimitedBackOff{Max: 5 * time.Minute, Headers: []resource.ResetHeader{{Name: "retry-after"}, {Name: "x-reset", Unix: true}}}},
	}
	if diff := cmp.Diff(want, first.Forward); diff != "" {
		t.Error(diff)
	}
	want = &resource.Forward{Clusters: want.Clusters, Mirrors: []resource.Mirror{{Cluster: "vm", KeepHost: true}},
		Priority: resource.PriorityHigh, Subset: resource.Labels{{Key: "version", Value: `"v1"`}}.Match(),
		Stream: resource.StreamDuration{Max: 7 * time.Second, GRPC: &resource.GRPCTimeout{Max: 3 * time.Second, Offset: time.Second}}}
	if diff := cmp.Diff(want, second.Forward); diff != "" {
		t.Error(diff)
	}
	if got := third.Redirect.RegexRewrite.Pattern.ReplaceAllString("/r/a", third.Redirect.RegexRewrite.Substitution); got != "/x/a" {
		t.Errorf("redirected to %q", got)
	}
}

func TestConnectionManagerFilters(t *testing.T) {
	l, err := resource.DecodeListener(resourcetest.Listener(t, inHCM(`"stripAnyHostPort":true,"alwaysSetRequestIdInResponse":true,"commonHttpProtocolOptions":{"maxRequestsPerConnection":7},`,
		`{"name":"cors","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}},`+
			`{"name":"fault","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault","abort":{"httpStatus":503,"percentage":{"numerator":1}}}},`+
			`{"name":"router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router","suppressEnvoyHeaders":true}}`)))
	if err != nil {
		t.Fatal(err)
	}
	h := l.FilterChains[0].HTTP
	if !cmp.Equal(h.Filters, []resource.HTTPFilter{resource.FilterCORS, resource.FilterFault}) || h.Fault == nil || h.Fault.Abort.HTTPStatus != 503 {
		t.Errorf("%+v", h)
	}
	if h.StripPort != resource.StripAny || !h.AlwaysRequestID || h.MaxRequestsPerConn != 7 || !h.SuppressEnvoyHeaders {
		t.Errorf("%+v", h)
	}
}

func TestUpstreamTLS(t *testing.T) {
	const plain = `"tlsParams":{"tlsMinimumProtocolVersion":"TLSv1_2"}`
	secret := func(name string) string {
		return `"combinedValidationContext":{"defaultValidationContext":{"matchSubjectAltNames":[{"exact":"a.com"}]},"validationContextSdsSecretConfig":{"name":"` + name + `","sdsConfig":{"ads":{}}}}`
	}
	const agent = `"sdsConfig":{"apiConfigSource":{"apiType":"GRPC","transportApiVersion":"V3","grpcServices":[{"envoyGrpc":{"clusterName":"sds-grpc"}}]}}`
	sans := []match.String{{Value: "a.com"}}
	for _, tc := range []struct {
		name, common, outer string
		want                resource.UpstreamTLS
		unsupported         string
	}{
		{"no validation", plain, `,"sni":"a.com"`, resource.UpstreamTLS{SNI: "a.com", SkipVerify: true, MinVersion: tls.VersionTLS12}, ""},
		{"CA file", `"validationContext":{"trustedCa":{"filename":"/etc/ssl/certs/ca-certificates.crt"}}`, `,"autoHostSni":true,"autoSniSanValidation":true`, resource.UpstreamTLS{CAFile: "/etc/ssl/certs/ca-certificates.crt", AutoHostSNI: true, AutoSANCheck: true}, ""},
		{"inline CA", `"validationContext":{"trustedCa":{"inlineString":"PEM"},"matchTypedSubjectAltNames":[{"sanType":"DNS","matcher":{"exact":"a.com"}}]}`, "", resource.UpstreamTLS{InlineCA: []byte("PEM"), SANs: sans}, ""},
		{"system roots", `"validationContext":{"systemRootCerts":{}}`, "", resource.UpstreamTLS{SystemCA: true}, ""},
		{"Istio's system roots", secret("file-root:system"), "", resource.UpstreamTLS{SystemCA: true, SANs: sans}, ""},
		{"Istio's CA file", secret("file-root:/etc/ca.pem"), "", resource.UpstreamTLS{CAFile: "/etc/ca.pem", SANs: sans}, ""},
		{"Istio's client certificate file", `"tlsCertificateSdsSecretConfigs":[{"name":"file-cert:/c.pem~/k.pem"}],` + secret("file-root:system"), "", resource.UpstreamTLS{SystemCA: true, SANs: sans, CertFile: "/c.pem", KeyFile: "/k.pem"}, ""},
		{"not verified on purpose", `"validationContext":{"trustedCa":{"filename":"/x"},"trustChainVerification":"ACCEPT_UNTRUSTED"}`, "", resource.UpstreamTLS{CAFile: "/x", SkipVerify: true}, ""},
		{"Istio's mesh identity", `"tlsCertificateSdsSecretConfigs":[{"name":"default",` + agent + `}],"combinedValidationContext":{"defaultValidationContext":{"matchSubjectAltNames":[{"exact":"a.com"}]},"validationContextSdsSecretConfig":{"name":"ROOTCA",` + agent + `}}`, "",
			resource.UpstreamTLS{CertSecret: "default", CASecret: "ROOTCA", SANs: sans}, ""},
		{"secrets of SDS over ADS", `"tlsCertificateSdsSecretConfigs":[{"name":"kubernetes://c","sdsConfig":{"ads":{}}}],` + secret("kubernetes://c-cacert"), "",
			resource.UpstreamTLS{CertSecret: "kubernetes://c", CASecret: "kubernetes://c-cacert", SANs: sans, Subscribed: []string{"kubernetes://c", "kubernetes://c-cacert"}}, ""},
		{"authorities of another SDS server", `"validationContextSdsSecretConfig":{"name":"ROOTCA",` + strings.Replace(agent, "sds-grpc", "other", 1) + `}`, "", resource.UpstreamTLS{}, "ROOTCA"},
		{"a client certificate of no SDS server", `"tlsCertificateSdsSecretConfigs":[{"name":"default"}]`, "", resource.UpstreamTLS{}, `"default"`},
		{"half of a certificate's files", `"tlsCertificateSdsSecretConfigs":[{"name":"file-cert:/c.pem"}]`, "", resource.UpstreamTLS{}, "file-cert:/c.pem"},
		{"names without a CA", `"validationContext":{"matchSubjectAltNames":[{"exact":"a.com"}]}`, "", resource.UpstreamTLS{}, "without a CA"},
		{"pinning", `"validationContext":{"trustedCa":{"filename":"/x"},"verifyCertificateHash":["00"]}`, "", resource.UpstreamTLS{}, "verify_certificate_hash"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := resource.DecodeCluster(resourcetest.Cluster(t, `{"name":"c","transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext","commonTlsContext":{`+tc.common+`}`+tc.outer+`}}}`))
			if err != nil {
				t.Fatal(err)
			}
			if tc.unsupported != "" {
				if !strings.Contains(c.TLS.Unsupported, tc.unsupported) {
					t.Errorf("unsupported: %q", c.TLS.Unsupported)
				}
				return
			}
			if diff := cmp.Diff(&tc.want, c.TLS); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClusterDecodes(t *testing.T) {
	c, err := resource.DecodeCluster(resourcetest.Cluster(t, `{"name":"c","type":"STRICT_DNS","maxRequestsPerConnection":7,"commonLbConfig":{"localityWeightedLbConfig":{}},
		"circuitBreakers":{"thresholds":[{"priority":"HIGH","maxConnections":1,"retryBudget":{"budgetPercent":{"value":12.5}}},{"maxConnections":4294967295,"maxPendingRequests":5,"maxRetries":0}]},
		"upstreamConnectionOptions":{"tcpKeepalive":{"keepaliveTime":30}},
		"transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}},
		"typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"upstreamHttpProtocolOptions":{"autoSni":true,"autoSanValidation":true},"explicitHttpConfig":{"http2ProtocolOptions":{"allowConnect":true,"maxConcurrentStreams":9,"initialStreamWindowSize":65535}}}},
		"loadAssignment":{"clusterName":"c","endpoints":[{"priority":1,"loadBalancingWeight":3,"locality":{"region":"r"},"lbEndpoints":[
			{"healthStatus":"DRAINING","endpoint":{"hostname":"h","address":{"socketAddress":{"address":"10.0.0.1","portValue":80}}},"metadata":{"filterMetadata":{"envoy.transport_socket_match":{"tlsMode":"istio"}}}},
			{"loadBalancingWeight":4,"endpoint":{"address":{"socketAddress":{"address":"a.com","portValue":81}}}}]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxRequestsPerConn != 7 || c.Protocol != resource.UpstreamHTTP2 || !c.HTTP2.AllowConnect || c.HTTP2.MaxConcurrentStreams != 9 || c.HTTP2.StreamWindow != 65535 || c.TCPKeepalive.Time != 30*time.Second || c.ConnectTimeout != 5*time.Second {
		t.Errorf("%+v", c)
	}
	breakers := [2]resource.Thresholds{
		{MaxConnections: resource.NoLimit, MaxPendingRequests: 5, MaxRequests: 1024, MaxRetries: 0},
		{MaxConnections: 1, MaxPendingRequests: 1024, MaxRequests: 1024, MaxRetries: 3, RetryBudget: &resource.RetryBudget{Percent: 12.5, MinConcurrency: 3}},
	}
	if diff := cmp.Diff(&breakers, c.Breakers); diff != "" {
		t.Errorf("circuit breakers (-want +got)\n%s", diff)
	}
	if !c.TLS.AutoSNI || !c.TLS.AutoSANCheck {
		t.Errorf("%+v", c.TLS)
	}
	want := []resource.Locality{{Priority: 1, Weight: 3, Endpoints: []resource.Endpoint{
		{Host: "10.0.0.1", Port: 80, Address: netip.MustParseAddrPort("10.0.0.1:80"), Hostname: "h", Weight: 1, Unhealthy: true, TLSLabels: map[string]string{"tlsMode": "istio"}},
		{Host: "a.com", Port: 81, Weight: 4},
	}}}
	if diff := cmp.Diff(want, c.Endpoints.Localities, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestEndpointsRefused(t *testing.T) {
	for _, text := range []string{
		`{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"a.com","portValue":80}}}}]}]}`,
		`{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpointName":"x"}]}]}`,
		`{"endpoints":[]}`,
	} {
		if _, err := resource.DecodeEndpoints(resourcetest.Endpoints(t, text)); err == nil {
			t.Errorf("accepted %s", text)
		}
	}
}

func TestWrongType(t *testing.T) {
	a := resourcetest.Cluster(t, `{"name":"c"}`)
	_, err := resource.DecodeListener(a)
	checkRefused(t, err, "envoy.config.cluster.v3.Cluster")
	unknown := &anypb.Any{TypeUrl: a.TypeUrl, Value: append(append([]byte{}, a.Value...), 0xfa, 0xff, 0xff, 0x7f, 0x01, 'x')}
	_, err = resource.DecodeCluster(unknown)
	checkRefused(t, err, "does not know")
}

func TestNameTableLookup(t *testing.T) {
	table := &resource.NameTable{Names: map[string]resource.NameInfo{"a.com": {}, "*.a.com": {}, "*.b.a.com": {}, "*": {}}}
	for name, want := range map[string]string{"a.com": "a.com", "x.a.com": "*.a.com", "x.b.a.com": "*.b.a.com", "b.com": "", "*": "", "": "", ".a.com": ""} {
		if _, key, ok := table.Lookup(name); key != want && ok || ok != (want != "") {
			t.Errorf("%q: got %q %v, want %q", name, key, ok, want)
		}
	}
}

// Whatever bytes come, decoding ends without a panic: with a resource or an error.
func FuzzDecode(f *testing.F) {
	types := []string{"envoy.config.listener.v3.Listener", "envoy.config.route.v3.RouteConfiguration", "envoy.config.cluster.v3.Cluster", "envoy.config.endpoint.v3.ClusterLoadAssignment", "istio.networking.nds.v1.NameTable", "envoy.config.route.v3.VirtualHost", "envoy.config.listener.v3.FilterChain", "envoy.extensions.transport_sockets.tls.v3.Secret"}
	f.Add(uint8(7), secretOf(f, `{"name":"a","validationContext":{"trustedCa":{"inlineString":"x"}}}`).Value)
	f.Add(uint8(0), resourcetest.Listener(f, inHCM(`"normalizePath":true,`, routerFilter)).Value)
	f.Add(uint8(1), resourcetest.Route(f, routeConfig("", `"match":{"safeRegex":{"regex":"a"}},"route":{"cluster":"c","regexRewrite":{"pattern":{"regex":"(a)"},"substitution":"\\1"}}`)).Value)
	f.Add(uint8(1), resourcetest.Route(f, allFeatures).Value)
	f.Add(uint8(0), resourcetest.Listener(f, inHCM(`"pathWithEscapedSlashesAction":"UNESCAPE_AND_FORWARD",`, faultFilter+`,{"name":"cors","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}},`+routerFilter)).Value)
	f.Add(uint8(2), resourcetest.Cluster(f, `{"name":"c","type":"EDS","edsClusterConfig":{"edsConfig":{"ads":{}}}}`).Value)
	f.Add(uint8(3), resourcetest.Endpoints(f, `{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.1","portValue":80}}}}]}]}`).Value)
	f.Add(uint8(0), resourcetest.Listener(f, `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":443}},"filterChains":[{"transportSocketConnectTimeout":"15s",
		"filters":[{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"c"}}],
		"transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","commonTlsContext":{
			"tlsParams":{"cipherSuites":["[ECDHE-RSA-AES128-GCM-SHA256|x]"]},"tlsCertificateSdsSecretConfigs":[{"name":"file-cert:/c~/k"}],"validationContext":{"trustedCa":{"filename":"/ca"},"matchSubjectAltNames":[{"exact":"a"}]}}}}}]}`).Value)
	f.Add(uint8(5), resourcetest.VirtualHost(f, `{"name":"v","domains":["*.b"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c"}}]}`).Value)
	f.Add(uint8(6), resourcetest.FilterChain(f, onDemandChain("*.b")).Value)
	f.Add(uint8(4), []byte{0x0a, 0x05, 0x0a, 0x03, 'a', '.', 'b'})
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		a := &anypb.Any{TypeUrl: "type.googleapis.com/" + types[int(kind)%len(types)], Value: body}
		switch int(kind) % len(types) {
		case 0:
			l, err := resource.DecodeListener(a)
			if (l == nil) == (err == nil) {
				t.Fatal("neither or both")
			}
			if err != nil {
				resource.RejectedListener(a, err)
				return
			}
			l.FindChain(&resource.ChainQuery{SNI: "a.b", Application: []string{"h2"}})
		case 1:
			if rc, err := resource.DecodeRouteConfiguration(a); err == nil {
				rc.VirtualHost("a.b:80")
			}
		case 2:
			resource.DecodeCluster(a)
		case 3:
			resource.DecodeEndpoints(a)
		case 4:
			if table, err := resource.DecodeNameTable(a); err == nil {
				table.Lookup("a.b.c")
			}
		case 5:
			if vh, err := (resource.Decoder{}).VirtualHost(nil, "a.b", a); err == nil {
				vh.Clusters()
			}
		case 6:
			if chain, err := (resource.Decoder{}).FilterChain("a.b", a); err == nil {
				chain.Clusters()
				chain.Takes(&resource.ChainQuery{SNI: "a.b", Transport: "tls"})
			}
		case 7:
			if s, err := (resource.Decoder{}).Secret(a); err == nil && (s.Certificate == nil) == (len(s.Authorities) == 0) {
				t.Fatal("neither or both")
			}
		}
	})
}
