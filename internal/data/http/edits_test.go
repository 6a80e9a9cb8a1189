package http

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestNormalisePath(t *testing.T) {
	for _, test := range []struct {
		path, want       string
		normalise, merge bool
	}{
		{"/a/b?c=/../d", "/a/b?c=/../d", true, false},
		{"/a/./b", "/a/b", true, false},
		{"/a/../b", "/b", true, false},
		{"/a/b/..", "/a/", true, false},
		{"/a/b/.", "/a/b/", true, false},
		{"/../../etc", "/etc", true, false},
		{"/..", "/", true, false},
		{"/.", "/", true, false},
		{"/a/...", "/a/...", true, false},
		{"/a/.b/..c", "/a/.b/..c", true, false},
		{"/%61/%2e%2E/b", "/b", true, false},
		{"/a%2fb%2Fc", "/a%2fb%2Fc", true, false}, // escaped slashes are left alone
		{"/a%00b%zz%", "/a%00b%zz%", true, false},
		{`/a\..\b`, "/b", true, false},
		{"/a//b///c?d//e", "/a/b/c?d//e", false, true},
		{"/a//b", "/a//b", true, false},
		{"/a/.//../b", "/a/b", true, true},
		{"/a/../b", "/a/../b", false, false},
		{"*", "*", true, true},
		{"", "", true, true},
	} {
		x := &exchange{path: test.path}
		m := &resource.HTTPConnectionManager{NormalizePath: test.normalise, MergeSlashes: test.merge}
		if got := x.normalisePath(m); got != test.want {
			t.Errorf("%q (normalise %v, merge %v) = %q, want %q", test.path, test.normalise, test.merge, got, test.want)
		}
	}
}

func FuzzNormalisePath(f *testing.F) {
	for _, p := range []string{"/a/../b", "/%2e%2e/", `\..\`, "//..//", "/.?.."} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		m := &resource.HTTPConnectionManager{NormalizePath: true, MergeSlashes: true}
		once := (&exchange{path: "/" + p}).normalisePath(m)
		path, _ := cutQuery(once)
		for _, segment := range strings.Split(path, "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q has a dot segment in %q", p, once)
			}
		}
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, `\`) {
			t.Fatalf("%q became %q", p, once)
		}
	})
}

func TestRedirectLocation(t *testing.T) {
	prefix := resource.RouteMatch{Kind: resource.PathPrefix, Path: "/old"}
	for _, test := range []struct {
		r               resource.Redirect
		authority, path string
		want            string
	}{
		{resource.Redirect{HTTPSRedirect: true}, "a.com", "/x?y", "https://a.com/x?y"},
		{resource.Redirect{HTTPSRedirect: true}, "a.com:80", "/x", "https://a.com/x"},
		{resource.Redirect{HTTPSRedirect: true}, "a.com:8080", "/x", "https://a.com:8080/x"},
		{resource.Redirect{HTTPSRedirect: true, Port: 8443}, "a.com:80", "/x", "https://a.com:8443/x"},
		{resource.Redirect{Host: "b.com"}, "a.com:8080", "/x", "http://b.com/x"},
		{resource.Redirect{Path: "/new"}, "a.com", "/old/x?y", "http://a.com/new?y"},
		{resource.Redirect{Path: "/new?z", StripQuery: false}, "a.com", "/old/x?y", "http://a.com/new?z"},
		{resource.Redirect{PrefixRewrite: "/new"}, "a.com", "/old/x?y", "http://a.com/new/x?y"},
		{resource.Redirect{StripQuery: true}, "[::1]:81", "/x?y", "http://[::1]:81/x"},
	} {
		if got := decide.Location(&test.r, &prefix, "http", test.authority, test.path); got != test.want {
			t.Errorf("%+v of %s%s = %q, want %q", test.r, test.authority, test.path, got, test.want)
		}
	}
}

// TestRequestEdits has what a route may do to a request: the line and fields that
// reach the upstream.
func TestRequestEdits(t *testing.T) {
	add := func(name, value string, action resource.HeaderAction) resource.HeaderEdits {
		return resource.HeaderEdits{Add: []resource.HeaderAdd{{Name: name, Value: value, Action: action, Dynamic: strings.Contains(value, "%")}}}
	}
	tests := []struct {
		name    string
		set     func(w *world, r *resource.Route)
		request string
		want    []string // lines, or with "!" before what must not be there
	}{
		{"append", func(_ *world, r *resource.Route) { r.RequestHeaders = add("x-a", "2", resource.AppendIfExistsOrAdd) },
			get("/", "X-A: 1", "Connection: close"), []string{"X-A: 1", "x-a: 2"}},
		{"add if absent", func(_ *world, r *resource.Route) { r.RequestHeaders = add("x-a", "2", resource.AddIfAbsent) },
			get("/", "X-A: 1", "Connection: close"), []string{"X-A: 1", "!x-a: 2"}},
		{"overwrite", func(_ *world, r *resource.Route) { r.RequestHeaders = add("x-a", "2", resource.OverwriteIfExistsOrAdd) },
			get("/", "X-A: 1", "Connection: close"), []string{"!X-A: 1", "x-a: 2"}},
		{"overwrite if exists", func(_ *world, r *resource.Route) { r.RequestHeaders = add("x-a", "2", resource.OverwriteIfExists) },
			get("/", "Connection: close"), []string{"!x-a: 2"}},
		{"remove", func(_ *world, r *resource.Route) { r.RequestHeaders.Remove = []string{"x-a"} },
			get("/", "X-A: 1", "x-a: 3", "Connection: close"), []string{"!X-A: 1", "!x-a: 3"}},
		{"operators", func(_ *world, r *resource.Route) {
			r.RequestHeaders = add("x-a", "%REQ(X-B?:path)% %PROTOCOL% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT% 100%% %REQ(none)% %REQ(x-b):2%", resource.AppendIfExistsOrAdd)
		}, get("/", "X-B: bbb", "Connection: close"), []string{"x-a: bbb HTTP/1.1 10.0.0.5 80 100%  bb"}},
		{"prefix rewrite", func(_ *world, r *resource.Route) { r.Match.Path, r.Forward.PrefixRewrite = "/old", "/new" },
			get("/old/x?y", "Connection: close"), []string{"GET /new/x?y HTTP/1.1", "x-envoy-original-path: /old/x?y"}},
		{"regex rewrite", func(_ *world, r *resource.Route) {
			r.Forward.RegexRewrite = &resource.RegexRewrite{Pattern: regexp.MustCompile("/([a-z]+)/([a-z]+)"), Substitution: "/${2}/${1}"}
		}, get("/one/two?y", "Connection: close"), []string{"GET /two/one?y HTTP/1.1"}},
		{"host rewrite", func(_ *world, r *resource.Route) { r.Forward.HostRewrite = "other.com" },
			get("/", "Connection: close"), []string{"host: other.com", "!Host: example.com"}},
		{"host rewrite of a weighted cluster", func(_ *world, r *resource.Route) { r.Forward.Clusters[0].HostRewrite = "canary.com" },
			get("/", "Connection: close"), []string{"host: canary.com", "!Host: example.com"}},
		{"the route's host rewrite goes first", func(_ *world, r *resource.Route) {
			r.Forward.HostRewrite, r.Forward.Clusters[0].HostRewrite = "other.com", "canary.com"
		}, get("/", "Connection: close"), []string{"host: other.com"}},
		{"timeout header", func(_ *world, r *resource.Route) { r.Forward.Timeout = 15 * time.Second },
			get("/", "Connection: close"), []string{"x-envoy-expected-rq-timeout-ms: 15000"}},
		{"request id is kept", func(*world, *resource.Route) {}, get("/", "X-Request-ID: mine", "Connection: close"), []string{"X-Request-ID: mine"}},
		{"remote address", func(w *world, _ *resource.Route) { w.hcm.UseRemoteAddress = true },
			get("/", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Request-ID: mine", "X-Envoy-Retry-On: 5xx", "Connection: close"),
			[]string{"x-forwarded-for: 1.2.3.4,10.0.0.5", "x-forwarded-proto: http", "!X-Forwarded-Proto: https", "!X-Request-ID: mine", "!X-Envoy-Retry-On: 5xx"}},
		{"trusted proxies", func(w *world, r *resource.Route) {
			w.hcm.UseRemoteAddress, w.hcm.TrustedHops, w.hcm.AppendForwardedPort = true, 2, true
			r.RequestHeaders = add("x-a", "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", resource.AppendIfExistsOrAdd)
		}, get("/", "X-Forwarded-For: 6.6.6.6, 1.2.3.4", "X-Forwarded-For: 10.9.9.9", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443", "Connection: close"),
			[]string{"x-a: 1.2.3.4:0 10.0.0.5", "x-forwarded-for: 6.6.6.6, 1.2.3.4,10.9.9.9,10.0.0.5", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443"}},
		{"trusted proxies that tell nothing", func(w *world, r *resource.Route) {
			w.hcm.UseRemoteAddress, w.hcm.TrustedHops = true, 2
			r.RequestHeaders = add("x-a", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", resource.AppendIfExistsOrAdd)
		}, get("/", "X-Forwarded-For: 1.2.3.4", "Connection: close"), []string{"x-a: 10.0.0.5", "x-forwarded-proto: http"}},
		{"forwarded proto is kept", func(*world, *resource.Route) {}, get("/", "X-Forwarded-Proto: https", "Connection: close"), []string{"X-Forwarded-Proto: https", "!x-forwarded-proto: http"}},
		{"client certificate", func(*world, *resource.Route) {}, get("/", "X-Forwarded-Client-Cert: x", "Connection: close"), []string{"!X-Forwarded-Client-Cert: x"}},
		{"normalised path", func(*world, *resource.Route) {}, get("/a/../b", "Connection: close"), []string{"GET /b HTTP/1.1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := answering(t, okHello)
			w := newWorld(t, o.addr)
			route := w.routeTo("origin")
			test.set(w, route)
			w.configure(w.clusterOf("origin", o.addr), route)
			if got := w.send(test.request); !strings.HasSuffix(got, "hello") {
				t.Fatalf("%q", got)
			}
			up := "\r\n" + o.head(t)
			for _, line := range test.want {
				line, not := strings.CutPrefix(line, "!")
				if strings.Contains(up, "\r\n"+line+"\r\n") == not {
					t.Errorf("line %q in %q", line, up)
				}
			}
		})
	}
}

// TestEditOrder: the cluster entry's edits come first, the route configuration's last.
func TestEditOrder(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	edits := func(v string) resource.HeaderEdits {
		return resource.HeaderEdits{Add: []resource.HeaderAdd{{Name: "x-order", Value: v}}}
	}
	route := w.routeTo("origin")
	route.RequestHeaders, route.ResponseHeaders = edits("route"), edits("route")
	c := &route.Forward.Clusters[0]
	c.RequestHeaders, c.ResponseHeaders = edits("cluster"), edits("cluster")
	w.configureHost(w.clusterOf("origin", o.addr), &resource.VirtualHost{Name: "v", Domains: []string{"example.com"}, Routes: []*resource.Route{route},
		RequestHeaders: edits("host"), ResponseHeaders: edits("host")})
	inline := w.plan.Load().Chain.HTTP.Inline
	inline.RequestHeaders, inline.ResponseHeaders = edits("config"), edits("config")
	w.plan.Store(w.plan.Load()) // publishes what was changed
	got := w.send(get("/", "Connection: close"))
	order := regexp.MustCompile(`x-order: (\w+)`)
	for _, message := range []string{got, o.head(t)} {
		var have []string
		for _, m := range order.FindAllStringSubmatch(message, -1) {
			have = append(have, m[1])
		}
		if s := strings.Join(have, " "); s != "cluster route host config" {
			t.Errorf("order %q", s)
		}
	}
}

func TestAutoHostRewrite(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	cluster := w.clusterOf("origin", o.addr)
	cluster.Endpoints.Localities[0].Endpoints[0].Hostname = "real.example.org"
	route := w.routeTo("origin")
	route.Forward.AutoHostRewrite = true
	w.configure(cluster, route)
	w.send(get("/", "Connection: close"))
	if up := o.head(t); !hasLine(up, "host: real.example.org") {
		t.Errorf("%q", up)
	}
}

func TestTargetOfAddressThatStandsForAName(t *testing.T) {
	c := &Conn{}
	c.Info.Binding.Name = "www.example.com"
	for address, want := range map[string]string{"240.241.0.7:80": "www.example.com", "203.0.113.7:80": "", "[2001:db8::1]:80": ""} {
		c.Info.Destination = netip.MustParseAddrPort(address)
		if got := (&exchange{c: c}).targetOf().Name; got != want {
			t.Errorf("%s: name %q, want %q", address, got, want)
		}
	}
}
