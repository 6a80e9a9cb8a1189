package xdsgen

import (
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	networking "istio.io/api/networking/v1alpha3"
)

// hosts are plain services that routes may lead to.
const hosts = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: services, namespace: default}
spec:
  hosts: [a.example, b.example, c.example, "*.w.example"]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: tls, protocol: TLS}
  - {number: 5432, name: tcp, protocol: TCP}
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: single, namespace: default}
spec:
  hosts: [single.example]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: DNS
---
`

func TestHTTPMatches(t *testing.T) {
	g := world{yaml: hosts + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes, namespace: default}
spec:
  hosts: [a.example]
  http:
  - match: [{uri: {exact: /exact}}]
    directResponse: {status: 201}
  - match: [{uri: {prefix: /Fold}, ignoreUriCase: true}]
    directResponse: {status: 202}
  - match: [{uri: {regex: "/re/[0-9]+"}}]
    directResponse: {status: 203}
  - match: [{method: {exact: PUT}, headers: {x-kind: {prefix: ab}}}, {headers: {x-any: {}}}]
    directResponse: {status: 204}
  - match: [{uri: {prefix: /without}, withoutHeaders: {x-no: {exact: "1"}}}]
    directResponse: {status: 205}
  - match: [{queryParams: {q: {exact: v}}}]
    directResponse: {status: 206}
  - match: [{authority: {exact: "a.example:80"}}]
    directResponse: {status: 207}
  - match: [{port: 81, uri: {prefix: /port}}, {sourceLabels: {run: other}, uri: {prefix: /port}}, {sourceNamespace: other, uri: {prefix: /port}}, {gateways: [gw], uri: {prefix: /port}}]
    directResponse: {status: 208}
  - match: [{port: 80, sourceLabels: {run: test}, sourceNamespace: default, gateways: [mesh], uri: {prefix: /here}}]
    redirect: {scheme: https, authority: b.example, redirectCode: 302}
  - match: [{uri: {prefix: /split}}]
    route:
    - {destination: {host: b.example}, weight: 25}
    - {destination: {host: single.example}, weight: 75}
    - {destination: {host: c.example}, weight: 0}
  - route: [{destination: {host: c.example, port: {number: 443}, subset: v1}}]
  - match: [{uri: {prefix: /never}}]
    directResponse: {status: 299}
`}.generate(t, sidecarNode)
	at := func(c call) call {
		c.to = "1.1.1.1:80"
		if c.host == "" {
			c.host = "a.example"
		}
		return c
	}
	const last = "outbound|443|v1|c.example"
	g.check(t, []step{
		{at(call{path: "/exact"}), "201"},
		{at(call{path: "/exactly"}), last},
		{at(call{path: "/fOLD/x"}), "202"},
		{at(call{path: "/re/12"}), "203"},
		{at(call{path: "/re/12x"}), last},
		{at(call{method: "PUT", headers: map[string]string{"x-kind": "abc"}}), "204"},
		{at(call{headers: map[string]string{"x-kind": "abc"}}), last},
		{at(call{headers: map[string]string{"x-any": "whatever"}}), "204"},
		{at(call{path: "/without"}), "205"},
		{at(call{path: "/without", headers: map[string]string{"x-no": "2"}}), "205"},
		{at(call{path: "/without", headers: map[string]string{"x-no": "1"}}), last},
		{at(call{query: map[string]string{"q": "v"}}), "206"},
		{at(call{host: "a.example:80"}), "207"},
		{at(call{path: "/port"}), last},
		{at(call{path: "/here"}), "redirect https://b.example"},
		{at(call{path: "/split"}), "outbound|80||b.example=25,outbound|8080||single.example=75"},
		{at(call{path: "/never"}), last},
		{at(call{host: "b.example"}), "outbound|80||b.example"},
	})
}

func TestVirtualServiceHosts(t *testing.T) {
	g := world{yaml: hosts + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wildcard, namespace: default}
spec:
  hosts: ["*.example"]
  http: [{directResponse: {status: 210}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: exact, namespace: default}
spec:
  hosts: [a.example]
  http: [{directResponse: {status: 211}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: later, namespace: default}
spec:
  hosts: [a.example]
  http: [{directResponse: {status: 212}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: unregistered, namespace: default}
spec:
  hosts: [nowhere.test]
  http: [{route: [{destination: {host: a.example}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: short, namespace: default}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: ratings}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: hidden, namespace: other}
spec:
  hosts: [b.example]
  exportTo: ["."]
  http: [{directResponse: {status: 213}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: gate, namespace: default}
spec:
  hosts: [c.example]
  gateways: [gate]
  http: [{directResponse: {status: 214}}]
`}.generate(t, captured())
	at := func(host string) call { return call{to: "1.1.1.1:80", host: host} }
	g.check(t, []step{
		{at("a.example"), "211"},
		{at("b.example"), "210"},
		{at("c.example"), "210"},
		{at("x.w.example"), "210"},
		{at("nowhere.test"), "outbound|80||a.example"},
		{at("reviews"), "outbound|80||ratings.default.svc.cluster.local"},
		{at("reviews.default"), "outbound|80||ratings.default.svc.cluster.local"},
		{at("reviews.default.svc.cluster.local"), "outbound|80||ratings.default.svc.cluster.local"},
		{call{to: "1.1.1.1:8080", host: "nowhere.test"}, "502"},
	})
	if _, ok := g.names(t)["nowhere.test"]; !ok {
		t.Error("the host of a VirtualService is not in the name table")
	}
}

func TestTLSAndTCPRoutes(t *testing.T) {
	g := world{yaml: hosts + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tls, namespace: default}
spec:
  hosts: [a.example, b.example]
  tls:
  - match: [{port: 443, sniHosts: [a.example], sourceLabels: {run: other}}]
    route: [{destination: {host: c.example}}]
  - match: [{port: 443, sniHosts: [a.example]}]
    route:
    - {destination: {host: b.example, port: {number: 443}}, weight: 40}
    - {destination: {host: c.example, port: {number: 443}}, weight: 60}
  - match: [{port: 444, sniHosts: [b.example]}]
    route: [{destination: {host: c.example}}]
  - match: [{port: 443, sniHosts: [b.example], destinationSubnets: [10.0.0.0/8]}]
    route: [{destination: {host: a.example}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tcp, namespace: default}
spec:
  hosts: [a.example]
  tcp:
  - match: [{destinationSubnets: [10.0.0.0/8], port: 5432}]
    route: [{destination: {host: b.example}}]
  - match: [{port: 5432, sourceNamespace: other}]
    route: [{destination: {host: single.example}}]
  - match: [{port: 5432, sourceNamespace: default}]
    route: [{destination: {host: c.example}}]
`}.generate(t, sidecarNode)
	g.check(t, []step{
		{call{to: "1.1.1.1:443", sni: "a.example"}, "outbound|443||b.example=40,outbound|443||c.example=60"},
		{call{to: "10.1.1.1:443", sni: "b.example"}, "outbound|443||a.example"},
		{call{to: "1.1.1.1:443", sni: "b.example"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:443", sni: "c.example"}, "outbound|443||c.example"},
		{call{to: "1.1.1.1:443", sni: "x.w.example"}, "outbound|443||*.w.example"},
		{call{to: "10.1.1.1:5432"}, "outbound|5432||b.example"},
		{call{to: "1.1.1.1:5432"}, "outbound|5432||c.example"},
	})
}

func TestRouteActions(t *testing.T) {
	g := world{yaml: hosts + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: actions, namespace: default}
spec:
  hosts: [a.example]
  http:
  - name: all
    match: [{name: m, uri: {prefix: /all}}]
    timeout: 3s
    retries: {attempts: 4, perTryTimeout: 1s, retryOn: "5xx,503,reset"}
    rewrite: {uri: /new, authority: new.example}
    headers:
      request: {set: {x-set: "1"}, add: {x-add: "2"}, remove: [x-gone]}
      response: {remove: [server]}
    route:
    - destination: {host: b.example}
      headers: {response: {add: {x-from: b}}}
  - name: none
    retries: {attempts: 0}
    rewrite: {uriRegexRewrite: {match: "/(.*)", rewrite: "/x/\\1"}}
    headers: {request: {set: {Host: other.example}}}
    route: [{destination: {host: b.example}}]
`}.generate(t, sidecarNode)
	var routes []*routev3.Route
	for _, v := range g.routes["80"].GetVirtualHosts() {
		if v.GetName() == "a.example:80" {
			routes = v.GetRoutes()
		}
	}
	if len(routes) != 2 {
		t.Fatalf("got %d routes, want 2", len(routes))
	}
	all := routes[0].GetRoute()
	if routes[0].GetName() != "all.m" || all.GetTimeout().GetSeconds() != 3 || all.GetPrefixRewrite() != "/new" ||
		all.GetHostRewriteLiteral() != "new.example" {
		t.Errorf("route all: %v", routes[0])
	}
	r := all.GetRetryPolicy()
	if r.GetRetryOn() != "5xx,reset,retriable-status-codes" || r.GetNumRetries().GetValue() != 4 ||
		!cmp.Equal(r.GetRetriableStatusCodes(), []uint32{503}) || r.GetPerTryTimeout().GetSeconds() != 1 {
		t.Errorf("retries: %v", r)
	}
	var edits []string
	for _, h := range routes[0].GetRequestHeadersToAdd() {
		edits = append(edits, h.GetHeader().GetKey()+" "+h.GetAppendAction().String())
	}
	edits = append(edits, routes[0].GetRequestHeadersToRemove()...)
	for _, h := range routes[0].GetResponseHeadersToAdd() {
		edits = append(edits, h.GetHeader().GetKey())
	}
	edits = append(edits, routes[0].GetResponseHeadersToRemove()...)
	want := []string{"x-set OVERWRITE_IF_EXISTS_OR_ADD", "x-add APPEND_IF_EXISTS_OR_ADD", "x-gone", "x-from", "server"}
	if diff := cmp.Diff(want, edits); diff != "" {
		t.Errorf("header edits (-want +got):\n%s", diff)
	}
	none := routes[1].GetRoute()
	if none.GetRetryPolicy() != nil || none.GetHostRewriteLiteral() != "other.example" ||
		none.GetRegexRewrite().GetSubstitution() != `/x/\1` || len(routes[1].GetRequestHeadersToAdd()) != 0 {
		t.Errorf("route none: %v", routes[1])
	}
}

func TestRedirect(t *testing.T) {
	for name, c := range map[string]struct {
		in   *networking.HTTPRedirect
		want *routev3.RedirectAction
	}{
		"defaults": {&networking.HTTPRedirect{Uri: "/x"}, &routev3.RedirectAction{
			PathRewriteSpecifier: &routev3.RedirectAction_PathRedirect{PathRedirect: "/x"},
		}},
		"default port left away": {
			&networking.HTTPRedirect{Scheme: "https", RedirectPort: &networking.HTTPRedirect_Port{Port: 443}, RedirectCode: 308},
			&routev3.RedirectAction{
				SchemeRewriteSpecifier: &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: "https"},
				PathRewriteSpecifier:   &routev3.RedirectAction_PathRedirect{},
				ResponseCode:           routev3.RedirectAction_PERMANENT_REDIRECT,
			}},
		"from request port": {
			&networking.HTTPRedirect{Authority: "h", RedirectPort: &networking.HTTPRedirect_DerivePort{
				DerivePort: networking.HTTPRedirect_FROM_REQUEST_PORT}},
			&routev3.RedirectAction{
				HostRedirect: "h", PortRedirect: 8080, PathRewriteSpecifier: &routev3.RedirectAction_PathRedirect{},
			}},
	} {
		if diff := cmp.Diff(c.want, redirectAction(c.in, 8080), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestOperationNamesTheRoute(t *testing.T) {
	g := world{yaml: hosts}.generate(t, sidecarNode)
	for _, v := range g.routes["80"].GetVirtualHosts() {
		if v.GetName() == "block_all" {
			continue
		}
		if op := v.GetRoutes()[0].GetDecorator().GetOperation(); !strings.HasPrefix(op, v.GetName()) {
			t.Errorf("virtual host %s has operation %q", v.GetName(), op)
		}
	}
}
