package xdsgen

import (
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
)

// routesOf are the routes of a virtual host.
func (g generated) routesOf(t *testing.T, config, host string) []*routev3.Route {
	t.Helper()
	for _, v := range g.routes[config].GetVirtualHosts() {
		if v.GetName() == host {
			return v.GetRoutes()
		}
	}
	t.Fatalf("no virtual host %s in %s", host, config)
	return nil
}

// TestRouteFeatures compares with what istiod 1.26 makes of the same fields
// (pilot/pkg/networking/core/route): names, shapes, defaults.
func TestRouteFeatures(t *testing.T) {
	g := world{yaml: hosts + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: features, namespace: default}
spec:
  hosts: [a.example]
  http:
  - match: [{uri: {prefix: /fault}}]
    fault:
      delay: {fixedDelay: 5s, percentage: {value: 0.1}}
      abort: {httpStatus: 503, percentage: {value: 50}}
    route: [{destination: {host: b.example}}]
  - match: [{uri: {prefix: /grpc}}]
    fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}
    route: [{destination: {host: b.example}}]
  - match: [{uri: {prefix: /cors}}]
    corsPolicy:
      allowOrigins: [{exact: "https://a.com"}, {prefix: "https://b."}, {regex: "https://c.*"}]
      allowMethods: [GET, PUT]
      allowHeaders: [x-a, x-b]
      exposeHeaders: [x-c]
      maxAge: 24h
      allowCredentials: true
      unmatchedPreflights: IGNORE
    route: [{destination: {host: b.example}}]
  - match: [{uri: {prefix: /mirror}}]
    mirror: {host: b.example}
    route: [{destination: {host: c.example}}]
  - match: [{uri: {prefix: /mirrors}}]
    mirrors:
    - {destination: {host: b.example, port: {number: 443}, subset: v1}, percentage: {value: 12.5}}
    - {destination: {host: c.example}, percentage: {value: 0}}
    route: [{destination: {host: c.example}}]
  - match: [{uri: {prefix: /remote}}]
    retries: {attempts: 1, retryRemoteLocalities: true, retryIgnorePreviousHosts: false}
    route: [{destination: {host: c.example}}]
`}.generate(t, sidecarNode)
	routes := g.routesOf(t, "80", "a.example:80")
	want := []string{
		`{"typedPerFilterConfig":{"envoy.filters.http.fault":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
			"delay":{"fixedDelay":"5s","percentage":{"numerator":1000,"denominator":"MILLION"}},
			"abort":{"httpStatus":503,"percentage":{"numerator":500000,"denominator":"MILLION"}}}}}`,
		`{"typedPerFilterConfig":{"envoy.filters.http.fault":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
			"abort":{"grpcStatus":14,"percentage":{"numerator":1000000,"denominator":"MILLION"}}}}}`,
		`{"typedPerFilterConfig":{"envoy.filters.http.cors":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
			"allowOriginStringMatch":[{"exact":"https://a.com"},{"prefix":"https://b."},{"safeRegex":{"regex":"https://c.*"}}],
			"allowMethods":"GET,PUT","allowHeaders":"x-a,x-b","exposeHeaders":"x-c","maxAge":"86400","allowCredentials":true,
			"filterEnabled":{"defaultValue":{"numerator":100}},"forwardNotMatchingPreflights":false}}}`,
		`{"route":{"requestMirrorPolicies":[{"cluster":"outbound|80||b.example","runtimeFraction":{"defaultValue":{"numerator":1000000,"denominator":"MILLION"}},"traceSampled":false}]}}`,
		`{"route":{"requestMirrorPolicies":[{"cluster":"outbound|443|v1|b.example","runtimeFraction":{"defaultValue":{"numerator":125000,"denominator":"MILLION"}},"traceSampled":false}]}}`,
		`{"route":{"retryPolicy":{"retryOn":"connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes","numRetries":1,"hostSelectionRetryMaxAttempts":"5",
			"retryPriority":{"name":"envoy.retry_priorities.previous_priorities","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig","updateFrequency":2}}}}}`,
	}
	if len(routes) != len(want) {
		t.Fatalf("%d routes", len(routes))
	}
	for i, text := range want {
		var w routev3.Route
		if err := protojson.Unmarshal([]byte(text), &w); err != nil {
			t.Fatal(err)
		}
		got := &routev3.Route{TypedPerFilterConfig: routes[i].GetTypedPerFilterConfig()}
		if w.GetRoute().GetRequestMirrorPolicies() != nil {
			got.Action = &routev3.Route_Route{Route: &routev3.RouteAction{RequestMirrorPolicies: routes[i].GetRoute().GetRequestMirrorPolicies()}}
		}
		if w.GetRoute().GetRetryPolicy() != nil {
			got.Action = &routev3.Route_Route{Route: &routev3.RouteAction{RetryPolicy: routes[i].GetRoute().GetRetryPolicy()}}
		}
		if diff := cmp.Diff(&w, got, protocmp.Transform()); diff != "" {
			t.Errorf("route %d: %s", i, diff)
		}
	}
}

// TestConsistentHash: a DestinationRule's consistentHash is the hash policy of every
// route to its host, and retries then stay on the host.
func TestConsistentHash(t *testing.T) {
	g := world{yaml: hosts + `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b, namespace: default}
spec:
  host: b.example
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
  subsets:
  - name: v1
    trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: sid, ttl: 60s, path: /p}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: c, namespace: default}
spec:
  host: c.example
  trafficPolicy:
    portLevelSettings:
    - {port: {number: 80}, loadBalancer: {consistentHash: {useSourceIp: true}}}
    - {port: {number: 443}, loadBalancer: {consistentHash: {httpQueryParameterName: q}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: hashed, namespace: default}
spec:
  hosts: [a.example]
  http:
  - match: [{uri: {prefix: /header}}]
    route: [{destination: {host: b.example}}]
  - match: [{uri: {prefix: /cookie}}]
    route: [{destination: {host: b.example, subset: v1}}]
  - match: [{uri: {prefix: /query}}]
    route: [{destination: {host: c.example, port: {number: 443}}}]
  - route:
    - {destination: {host: b.example}, weight: 50}
    - {destination: {host: c.example}, weight: 50}
`}.generate(t, sidecarNode)
	routes := g.routesOf(t, "80", "a.example:80")
	header := `{"header":{"headerName":"x-user"}}`
	source := `{"connectionProperties":{"sourceIp":true}}`
	for i, want := range []string{
		`[` + header + `]`,
		`[{"cookie":{"name":"sid","ttl":"60s","path":"/p"}}]`,
		`[{"queryParameter":{"name":"q"}}]`,
		`[` + header + `,` + source + `]`,
	} {
		checkHash(t, routes[i], want)
		if previous := len(routes[i].GetRoute().GetRetryPolicy().GetRetryHostPredicate()) > 0; previous != (i == 3) {
			t.Errorf("route %d: previous_hosts is %v", i, previous)
		}
	}
	checkHash(t, g.routesOf(t, "80", "b.example:80")[0], `[`+header+`]`)
	checkHash(t, g.routesOf(t, "80", "c.example:80")[0], `[`+source+`]`)
	checkHash(t, g.routesOf(t, "80", "*.w.example:80")[0], `[]`)
}

func checkHash(t *testing.T, r *routev3.Route, want string) {
	t.Helper()
	var w routev3.RouteAction
	if err := protojson.Unmarshal([]byte(`{"hashPolicy":`+want+`}`), &w); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&w, &routev3.RouteAction{HashPolicy: r.GetRoute().GetHashPolicy()}, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// TestHTTPFilters: what routes configure has its filters before the router, as istiod's.
func TestHTTPFilters(t *testing.T) {
	g := world{yaml: hosts}.generate(t, sidecarNode)
	filters := g.listeners["0.0.0.0_80"].GetFilterChains()[0].GetFilters()
	if len(filters) == 0 {
		filters = g.listeners["0.0.0.0_80"].GetDefaultFilterChain().GetFilters()
	}
	var names []string
	for _, f := range unpackAny[*hcmv3.HttpConnectionManager](t, lastFilter(filters).GetTypedConfig()).GetHttpFilters() {
		names = append(names, f.GetName())
	}
	if got := strings.Join(names, " "); got != "envoy.filters.http.fault envoy.filters.http.cors envoy.filters.http.router" {
		t.Error(got)
	}
}

func lastFilter(list []*listenerv3.Filter) *listenerv3.Filter { return list[len(list)-1] }

// TestProxyHeaders: MeshConfig's proxyHeaders, beside what is without them.
func TestProxyHeaders(t *testing.T) {
	config := func(headers string) world {
		return world{yaml: hosts + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: renamed, namespace: default}
spec:
  hosts: [a.example]
  http: [{rewrite: {authority: x.example}, route: [{destination: {host: b.example}}]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
` + headers}
	}
	for _, test := range []struct {
		config, server   string
		through, id, own bool
		attempt, host    bool
	}{
		{"", "", false, true, true, true, false},
		{`    defaultConfig: {proxyHeaders: {server: {value: mine}, xForwardedHost: {enabled: true}}}`, "mine", false, true, true, true, true},
		{`    defaultConfig: {proxyHeaders: {server: {disabled: true}, requestId: {disabled: true}, attemptCount: {disabled: true}, envoyDebugHeaders: {disabled: true}}}`, "", true, false, false, false, false},
	} {
		g := config(test.config).generate(t, sidecarNode)
		chain := g.listeners["0.0.0.0_80"].GetFilterChains()
		filters := g.listeners["0.0.0.0_80"].GetDefaultFilterChain().GetFilters()
		if len(chain) > 0 {
			filters = chain[0].GetFilters()
		}
		m := unpackAny[*hcmv3.HttpConnectionManager](t, lastFilter(filters).GetTypedConfig())
		router := unpackAny[*routerv3.Router](t, m.GetHttpFilters()[len(m.GetHttpFilters())-1].GetTypedConfig())
		through := m.GetServerHeaderTransformation() == hcmv3.HttpConnectionManager_PASS_THROUGH
		id := m.GetGenerateRequestId() == nil || m.GetGenerateRequestId().GetValue()
		if m.GetServerName() != test.server || through != test.through || id != test.id || router.GetSuppressEnvoyHeaders() == test.own {
			t.Errorf("%s: %v, %v", test.config, m, router)
		}
		for _, v := range g.routes["80"].GetVirtualHosts() {
			if v.GetIncludeRequestAttemptCount() != test.attempt {
				t.Errorf("%s: %s: attempt count is %v", test.config, v.GetName(), v.GetIncludeRequestAttemptCount())
			}
		}
		if r := g.routesOf(t, "80", "a.example:80")[0].GetRoute(); r.GetAppendXForwardedHost() != test.host {
			t.Errorf("%s: %v", test.config, r)
		}
	}
}
