package decide_test

import (
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestFault(t *testing.T) {
	half := resource.Fraction{Numerator: 50, Denominator: 100}
	delay := &resource.FaultDelay{Duration: time.Second, Share: half}
	abort := &resource.FaultAbort{HTTPStatus: 503, Share: half}
	filter := []resource.HTTPFilter{resource.FilterFault}
	for _, tc := range []struct {
		name         string
		hcm          resource.HTTPConnectionManager
		fault        *resource.Fault
		headers      headers
		delay, abort uint32
		want         decide.FaultPlan
	}{
		{"none", resource.HTTPConnectionManager{Filters: filter}, nil, nil, 0, 0, decide.FaultPlan{}},
		{"both", resource.HTTPConnectionManager{Filters: filter}, &resource.Fault{Delay: delay, Abort: abort}, nil, 49, 149, decide.FaultPlan{Delay: time.Second, Abort: abort}},
		{"delay only", resource.HTTPConnectionManager{Filters: filter}, &resource.Fault{Delay: delay, Abort: abort}, nil, 0, 50, decide.FaultPlan{Delay: time.Second}},
		{"abort only", resource.HTTPConnectionManager{Filters: filter}, &resource.Fault{Delay: delay, Abort: abort}, nil, 99, 0, decide.FaultPlan{Abort: abort}},
		{"no filter", resource.HTTPConnectionManager{}, &resource.Fault{Abort: abort}, nil, 0, 0, decide.FaultPlan{}},
		{"the manager's own", resource.HTTPConnectionManager{Filters: filter, Fault: &resource.Fault{Abort: abort}}, nil, nil, 0, 0, decide.FaultPlan{Abort: abort}},
		{"the route's goes first", resource.HTTPConnectionManager{Filters: filter, Fault: &resource.Fault{Abort: abort}}, &resource.Fault{}, nil, 0, 0, decide.FaultPlan{}},
		{"another cluster", resource.HTTPConnectionManager{Filters: filter}, &resource.Fault{Abort: abort, Cluster: "other"}, nil, 0, 0, decide.FaultPlan{}},
		{"the cluster", resource.HTTPConnectionManager{Filters: filter}, &resource.Fault{Abort: abort, Cluster: "c"}, nil, 0, 0, decide.FaultPlan{Abort: abort}},
		{"node unknown", resource.HTTPConnectionManager{Filters: filter}, &resource.Fault{Abort: abort, Nodes: []string{"n"}}, nil, 0, 0, decide.FaultPlan{}},
		{"node", resource.HTTPConnectionManager{Filters: filter}, &resource.Fault{Abort: abort, Nodes: []string{"n"}}, headers{"x-envoy-downstream-service-node": "n"}, 0, 0, decide.FaultPlan{Abort: abort}},
		{"header missing", resource.HTTPConnectionManager{Filters: filter}, &resource.Fault{Abort: abort, Headers: []match.Header{{Name: "x", Value: match.String{Value: "1"}}}}, headers{}, 0, 0, decide.FaultPlan{}},
		{"header", resource.HTTPConnectionManager{Filters: filter}, &resource.Fault{Abort: abort, Headers: []match.Header{{Name: "x", Value: match.String{Value: "1"}}}}, headers{"x": "1"}, 0, 0, decide.FaultPlan{Abort: abort}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decide.Fault(&tc.hcm, &resource.Route{Fault: tc.fault}, &decide.Request{Headers: tc.headers}, "c", tc.delay, tc.abort)
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestCORS(t *testing.T) {
	policy := func(change func(*resource.CORS)) *resource.CORS {
		p := &resource.CORS{Origins: []match.String{{Value: "https://a.com"}}, AllowMethods: "GET,PUT", AllowHeaders: "x-a", ExposeHeaders: "x-b",
			MaxAge: "60", AllowCredentials: true, ForwardUnmatched: true}
		if change != nil {
			change(p)
		}
		return p
	}
	preflight := func(origin string) decide.Request {
		return decide.Request{Method: "OPTIONS", Headers: headers{"origin": origin, "access-control-request-method": "PATCH",
			"access-control-request-headers": "x-q", "access-control-request-private-network": "true"}}
	}
	allowed := []decide.CORSField{{"access-control-allow-origin", "https://a.com"}, {"access-control-allow-credentials", "true"}}
	for _, tc := range []struct {
		name      string
		policy    *resource.CORS
		r         decide.Request
		preflight bool
		fields    []decide.CORSField
	}{
		{"no policy", nil, preflight("https://a.com"), false, nil},
		{"no origin", policy(nil), decide.Request{Method: "GET", Headers: headers{}}, false, nil},
		{"simple request", policy(nil), decide.Request{Method: "GET", Headers: headers{"origin": "https://a.com"}}, false,
			append(allowed, decide.CORSField{"access-control-expose-headers", "x-b"})},
		{"simple request of another", policy(nil), decide.Request{Method: "GET", Headers: headers{"origin": "https://b.com"}}, false, nil},
		{"OPTIONS that is no preflight", policy(nil), decide.Request{Method: "OPTIONS", Headers: headers{"origin": "https://a.com"}}, false,
			append(allowed, decide.CORSField{"access-control-expose-headers", "x-b"})},
		{"preflight", policy(nil), preflight("https://a.com"), true, append(allowed, decide.CORSField{"access-control-allow-methods", "GET,PUT"},
			decide.CORSField{"access-control-allow-headers", "x-a"}, decide.CORSField{"access-control-max-age", "60"})},
		{"preflight of another is forwarded", policy(nil), preflight("https://b.com"), false, nil},
		{"preflight of another is answered", policy(func(p *resource.CORS) { p.ForwardUnmatched, p.AllowCredentials, p.MaxAge = false, false, "" }), preflight("https://b.com"), true,
			[]decide.CORSField{{"access-control-allow-methods", "GET,PUT"}, {"access-control-allow-headers", "x-a"}}},
		{"what was asked for", policy(func(p *resource.CORS) {
			p.AllowMethods, p.AllowHeaders, p.MaxAge, p.AllowCredentials, p.AllowPrivateNetwork = "*", "*", "", false, true
		}), preflight("https://a.com"), true, []decide.CORSField{{"access-control-allow-origin", "https://a.com"}, {"access-control-allow-methods", "PATCH"},
			{"access-control-allow-headers", "x-q"}, {"access-control-allow-private-network", "true"}}},
		{"any origin", policy(func(p *resource.CORS) { p.Origins = []match.String{{Value: "*"}} }), decide.Request{Method: "GET", Headers: headers{"origin": "https://z.com"}}, false,
			[]decide.CORSField{{"access-control-allow-origin", "https://z.com"}, {"access-control-allow-credentials", "true"}, {"access-control-expose-headers", "x-b"}}},
		{"switched off", policy(func(p *resource.CORS) { p.Enabled = resource.Fraction{Denominator: 100} }), preflight("https://a.com"), false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plan := decide.CORS(tc.policy, &tc.r, 7)
			if plan.Preflight != tc.preflight {
				t.Errorf("%+v", plan)
			}
			if diff := cmp.Diff(tc.fields, plan.Fields(nil, &tc.r)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFiltersHaveToBeThere(t *testing.T) {
	route := &resource.Route{CORS: &resource.CORS{}, Fault: &resource.Fault{}, Forward: to("c")}
	both := &resource.HTTPConnectionManager{Filters: []resource.HTTPFilter{resource.FilterFault, resource.FilterCORS}}
	if decide.CORSOf(both, route) == nil || decide.FaultOf(both, route) == nil {
		t.Error("the filters are there")
	}
	if none := (&resource.HTTPConnectionManager{}); decide.CORSOf(none, route) != nil || decide.FaultOf(none, route) != nil {
		t.Error("the filters are not there")
	}
	if decide.CORSOf(both, &resource.Route{CORS: &resource.CORS{}, Direct: &resource.DirectResponse{}}) != nil {
		t.Error("CORS is for routes that forward")
	}
}

// TestHash compares with xxHash64 values of Envoy's own tests (hash_fuzz and
// common/common/hash_test.cc: xxHash64("foo") is 3728699739546630719, of "bar"
// 5234164152756840025) and with its way to combine them.
func TestHash(t *testing.T) {
	const foo, bar = uint64(3728699739546630719), uint64(5234164152756840025)
	byHeader := func(name string) resource.HashPolicy {
		return resource.HashPolicy{Kind: resource.HashHeader, Name: name}
	}
	terminal := byHeader("x")
	terminal.Terminal = true
	conn := &decide.Conn{Source: addrPort("10.0.0.9:40000"), Destination: addrPort("10.0.0.1:80")}
	making := resource.HashPolicy{Kind: resource.HashCookie, Name: "sid", Cookie: &resource.NewCookie{TTL: time.Minute, Path: "/p", Attributes: "; SameSite=Lax"}}
	for _, tc := range []struct {
		name     string
		policies []resource.HashPolicy
		r        decide.Request
		want     uint64
		ok       bool
	}{
		{"header", []resource.HashPolicy{byHeader("x")}, decide.Request{Headers: headers{"x": "foo"}}, foo, true},
		{"no header", []resource.HashPolicy{byHeader("x")}, decide.Request{Headers: headers{}}, 0, false},
		{"query", []resource.HashPolicy{{Kind: resource.HashQuery, Name: "q"}}, decide.Request{Path: "/?a=1&q=foo&q=bar"}, foo, true},
		{"no query", []resource.HashPolicy{{Kind: resource.HashQuery, Name: "q"}}, decide.Request{Path: "/q=foo"}, 0, false},
		{"cookie", []resource.HashPolicy{{Kind: resource.HashCookie, Name: "sid"}}, decide.Request{Headers: headers{"cookie": `a=b; sid="foo"`}}, foo, true},
		{"no cookie and none is made", []resource.HashPolicy{{Kind: resource.HashCookie, Name: "sid"}}, decide.Request{Headers: headers{"cookie": "a=b"}, Conn: conn}, 0, false},
		{"two", []resource.HashPolicy{byHeader("x"), byHeader("y")}, decide.Request{Headers: headers{"x": "foo", "y": "bar"}}, (foo<<1 | foo>>63) ^ bar, true},
		{"the first is missing", []resource.HashPolicy{byHeader("x"), byHeader("y")}, decide.Request{Headers: headers{"y": "bar"}}, bar, true},
		{"terminal", []resource.HashPolicy{terminal, byHeader("y")}, decide.Request{Headers: headers{"x": "foo", "y": "bar"}}, foo, true},
		{"terminal without a value", []resource.HashPolicy{terminal, byHeader("y")}, decide.Request{Headers: headers{"y": "bar"}}, bar, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decide.Hash(tc.policies, &tc.r)
			if got.Hash != tc.want || got.OK != tc.ok || got.Cookie != nil {
				t.Errorf("%+v, want %d %v", got, tc.want, tc.ok)
			}
		})
	}
	bySource := []resource.HashPolicy{{Kind: resource.HashSourceIP, Name: "source_ip"}}
	source := decide.Hash(bySource, &decide.Request{Conn: conn})
	text := decide.Hash([]resource.HashPolicy{byHeader("x")}, &decide.Request{Headers: headers{"x": "10.0.0.9"}})
	if !source.OK || source.Hash != text.Hash {
		t.Errorf("the source address is hashed as text: %+v", source)
	}
	told := decide.Hash(bySource, &decide.Request{Conn: conn, Client: netip.MustParseAddr("1.2.3.4")})
	if !told.OK || told.Hash == source.Hash {
		t.Errorf("the client that a trusted proxy tells is hashed: %+v", told)
	}
	made := decide.Hash([]resource.HashPolicy{making}, &decide.Request{Headers: headers{}, Conn: conn})
	again := decide.Hash([]resource.HashPolicy{making}, &decide.Request{Headers: headers{"cookie": "sid=" + made.CookieValue}, Conn: conn})
	if !made.OK || made.Cookie == nil || again.Cookie != nil || again.Hash != made.Hash {
		t.Errorf("made %+v, then %+v", made, again)
	}
	if got, want := made.SetCookie(), `sid="`+made.CookieValue+`"; Max-Age=60; Path=/p; SameSite=Lax; HttpOnly`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRequestTimeouts(t *testing.T) {
	second := func(n int) time.Duration { return time.Duration(n) * time.Second }
	grpc := func(timeout string) headers {
		return headers{"content-type": "application/grpc+proto", "grpc-timeout": timeout}
	}
	for _, tc := range []struct {
		name string
		f    resource.Forward
		h    headers
		want decide.Timeouts
	}{
		{"the route's", resource.Forward{Timeout: second(5), Retry: &resource.RetryPolicy{PerTryTimeout: second(2)}}, nil, decide.Timeouts{Response: second(5), Try: second(2)}},
		{"one attempt is not longer than all", resource.Forward{Timeout: second(2), Retry: &resource.RetryPolicy{PerTryTimeout: second(5)}}, nil, decide.Timeouts{Response: second(2)}},
		{"the request asks for less", resource.Forward{Timeout: second(5)}, headers{"x-envoy-upstream-rq-timeout-ms": "100", "x-envoy-upstream-rq-per-try-timeout-ms": "50"},
			decide.Timeouts{Response: 100 * time.Millisecond, Try: 50 * time.Millisecond}},
		{"the request asks for more", resource.Forward{Timeout: second(5)}, headers{"x-envoy-upstream-rq-timeout-ms": "60000"}, decide.Timeouts{Response: second(5)}},
		{"the request asks for something else", resource.Forward{Timeout: second(5)}, headers{"x-envoy-upstream-rq-timeout-ms": "-1"}, decide.Timeouts{Response: second(5)}},
		{"the request asks where the route has none", resource.Forward{}, headers{"x-envoy-upstream-rq-timeout-ms": "1000"}, decide.Timeouts{Response: second(1)}},
		{"gRPC without bound", resource.Forward{GRPC: &resource.GRPCTimeout{}}, grpc("3S"), decide.Timeouts{Response: second(3)}},
		{"gRPC over the bound", resource.Forward{Timeout: second(9), GRPC: &resource.GRPCTimeout{Max: second(2)}}, grpc("3S"), decide.Timeouts{Response: second(2)}},
		{"gRPC without its own", resource.Forward{Timeout: second(9), GRPC: &resource.GRPCTimeout{Max: second(2)}}, grpc(""), decide.Timeouts{Response: second(2)}},
		{"gRPC with offset", resource.Forward{GRPC: &resource.GRPCTimeout{Offset: second(1)}}, grpc("3S"), decide.Timeouts{Response: second(2)}},
		{"gRPC with too large an offset", resource.Forward{GRPC: &resource.GRPCTimeout{Offset: second(4)}}, grpc("3S"), decide.Timeouts{Response: second(3)}},
		{"not gRPC", resource.Forward{Timeout: second(9), GRPC: &resource.GRPCTimeout{}}, headers{"content-type": "application/grpc-web", "grpc-timeout": "1S"}, decide.Timeouts{Response: second(9)}},
		{"stream", resource.Forward{Stream: resource.StreamDuration{Max: second(7)}}, nil, decide.Timeouts{Stream: second(7)}},
		{"stream of gRPC", resource.Forward{Stream: resource.StreamDuration{GRPC: &resource.GRPCTimeout{Max: second(2)}}}, grpc("1S"), decide.Timeouts{Stream: second(1)}},
		{"stream of gRPC over the bound", resource.Forward{Stream: resource.StreamDuration{GRPC: &resource.GRPCTimeout{Max: second(2)}}}, grpc("1H"), decide.Timeouts{Stream: second(2)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := decide.RequestTimeouts(&tc.f, &decide.Request{Method: "POST", Headers: tc.h}, true); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func FuzzGRPCTimeout(f *testing.F) {
	for _, s := range []string{"1S", "99999999H", "", "x", "12345678n", "-1S", "100"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, ok := decide.ParseGRPCTimeout(s); d < 0 || !ok && d != 0 {
			t.Errorf("%q: %v %v", s, d, ok)
		}
	})
}

func TestRetryResponse(t *testing.T) {
	for _, tc := range []struct {
		on     string
		status int
		fields headers
		want   bool
	}{
		{"5xx", 500, nil, true}, {"5xx", 499, nil, false}, {"gateway-error", 504, nil, true}, {"gateway-error", 505, nil, false},
		{"retriable-4xx", 409, nil, true}, {"retriable-4xx", 404, nil, false}, {"503", 503, nil, true}, {"503", 504, nil, false},
		{"retriable-status-codes", 418, nil, true}, {"retriable-status-codes", 419, nil, false},
		{"retriable-headers", 200, headers{"x-again": "1"}, true}, {"retriable-headers", 200, nil, false},
		{"unavailable", 200, headers{"grpc-status": "14"}, true}, {"unavailable", 200, headers{"grpc-status": "13"}, false}, {"internal", 200, headers{"grpc-status": "13"}, true},
		{"cancelled", 200, headers{"grpc-status": "1"}, true}, {"deadline-exceeded", 200, headers{"grpc-status": "4"}, true}, {"resource-exhausted", 200, headers{"grpc-status": "8"}, true},
		{"5xx", 503, headers{"x-envoy-ratelimited": "true"}, false}, {"envoy-ratelimited", 429, headers{"x-envoy-ratelimited": "true"}, true},
		{"envoy-ratelimited", 429, nil, false}, {"5xx", 503, headers{"x-envoy-overloaded": "true"}, false},
		{"connect-failure", 503, nil, false}, {"http3-post-connect-failure", 503, nil, false}, {"nonsense", 503, nil, false},
	} {
		p := &resource.RetryPolicy{On: []string{tc.on}, StatusCodes: []uint32{418}, Headers: []match.Header{{Name: "x-again", Value: match.String{Kind: match.Present}}}}
		if got := decide.RetryResponse(p, tc.status, tc.fields); got != tc.want {
			t.Errorf("%s, %d, %v: %v", tc.on, tc.status, tc.fields, got)
		}
	}
}

func TestRetryFailure(t *testing.T) {
	kinds := []decide.Failed{decide.ConnectFailed, decide.ResetFailed, decide.RefusedFailed, decide.TimeoutFailed}
	for on, want := range map[string][]bool{
		"5xx": {true, true, true, true}, "gateway-error": {true, true, true, true}, "reset": {true, true, true, true},
		"connect-failure": {true, false, false, false}, "reset-before-request": {true, false, false, false},
		"refused-stream": {false, false, true, false}, "retriable-4xx": {false, false, false, false},
	} {
		for i, kind := range kinds {
			if got := decide.RetryFailure(&resource.RetryPolicy{On: []string{on}}, kind); got != want[i] {
				t.Errorf("%s, kind %d: %v", on, kind, got)
			}
		}
	}
	safe := &resource.RetryPolicy{RequestHeaders: []match.Header{{Name: "x-safe", Value: match.String{Kind: match.Present}}}}
	if decide.MayRetry(safe, &decide.Request{Headers: headers{}}) || !decide.MayRetry(safe, &decide.Request{Headers: headers{"x-safe": ""}}) || !decide.MayRetry(&resource.RetryPolicy{}, &decide.Request{}) {
		t.Error("retriable_request_headers")
	}
	for attempt, want := range []int{0, 0, 0, 2, 2, 4} {
		if got := decide.LeaveAfter(&resource.RetryPolicy{LeavePriorities: 2}, max(attempt, 1)); got != want {
			t.Errorf("attempt %d leaves the priorities of %d, want %d", attempt, got, want)
		}
	}
}

func TestRateLimitedPause(t *testing.T) {
	now := time.Unix(1000, 0)
	p := &resource.RateLimitedBackOff{Max: time.Minute, Headers: []resource.ResetHeader{{Name: "retry-after"}, {Name: "x-reset", Unix: true}}}
	for _, tc := range []struct {
		h    headers
		want time.Duration
	}{
		{headers{"retry-after": "3"}, 3 * time.Second}, {headers{"x-reset": "1005"}, 5 * time.Second}, {headers{"retry-after": "61", "x-reset": "1002"}, 2 * time.Second},
		{headers{"retry-after": "Fri, 31 Dec"}, 0}, {headers{"x-reset": "900"}, 0}, {headers{"x-reset": "9223372036854775807"}, 0}, {headers{"retry-after": "-1"}, 0}, {headers{}, 0},
	} {
		if got, ok := decide.RateLimitedPause(p, tc.h, now); got != tc.want || ok != (tc.want > 0) {
			t.Errorf("%v: %v", tc.h, got)
		}
	}
}

func TestLocation(t *testing.T) {
	regex := &resource.RegexRewrite{Pattern: regexp.MustCompile("^/old/(.*)$"), Substitution: "/new/${1}"}
	for want, r := range map[string]resource.Redirect{
		"http://a.com:8080/new/x?y":   {RegexRewrite: regex},
		"http://a.com:8080/new/x":     {RegexRewrite: regex, StripQuery: true},
		"https://b.com:444/old/x?y":   {Host: "b.com", Port: 444, Scheme: "https"},
		"https://a.com:8080/old/x?y":  {HTTPSRedirect: true},
		"http://a.com:8080/fixed?own": {Path: "/fixed?own"},
	} {
		if got := decide.Location(&r, &resource.RouteMatch{Path: "/old"}, "http", "a.com:8080", "/old/x?y"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for authority, want := range map[string]string{"a.com": "a.com-shadow", "a.com:81": "a.com-shadow:81", "[::1]:80": "[::1]:80"} {
		if got := decide.ShadowAuthority(&resource.Mirror{}, authority); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if decide.ShadowAuthority(&resource.Mirror{KeepHost: true}, "a.com") != "a.com" {
		t.Error("the host is to be kept")
	}
}

// Whatever a workload sends as cookie or query, hashing ends, and what it makes is a
// cookie that it reads again.
func FuzzHash(f *testing.F) {
	f.Add("a=b; sid=x", "/?q=1&q")
	f.Add(`sid="`, "?")
	f.Fuzz(func(t *testing.T, cookie, path string) {
		policies := []resource.HashPolicy{{Kind: resource.HashQuery, Name: "q"}, {Kind: resource.HashCookie, Name: "sid", Cookie: &resource.NewCookie{}}}
		r := &decide.Request{Path: path, Headers: headers{"cookie": cookie}, Conn: &decide.Conn{Source: addrPort("10.0.0.9:1"), Destination: addrPort("10.0.0.1:80")}}
		plan := decide.Hash(policies, r)
		if !plan.OK {
			t.Fatal("no number")
		}
		if plan.Cookie == nil {
			return
		}
		r.Headers = headers{"cookie": "sid=" + plan.CookieValue}
		if again := decide.Hash(policies, r); again.Hash != plan.Hash || again.Cookie != nil {
			t.Errorf("%+v, then %+v", plan, again)
		}
	})
}
