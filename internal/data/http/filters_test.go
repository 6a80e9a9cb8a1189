package http

import (
	"bufio"
	"io"
	"net"
	nethttp "net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// TestFaults: requests are answered, or held back and then go on.
func TestFaults(t *testing.T) {
	all := resource.Fraction{}
	none := resource.Fraction{Denominator: 100}
	one := uint32(0)
	for _, test := range []struct {
		name    string
		fault   resource.Fault
		request string
		want    []string // in the response
		status  int
		reason  reason.Reason
		flags   string
	}{
		{"abort", resource.Fault{Abort: &resource.FaultAbort{HTTPStatus: 418, Share: all}}, get("/"), []string{"HTTP/1.1 418 ", "x-egret-reason: fault_injected"}, 418, reason.FaultInjected, "FI"},
		{"abort for none", resource.Fault{Abort: &resource.FaultAbort{HTTPStatus: 418, Share: none}}, get("/"), []string{"HTTP/1.1 200 ", "hello"}, 200, "", ""},
		{"abort of gRPC", resource.Fault{Abort: &resource.FaultAbort{GRPCStatus: 14, Share: all}}, get("/", "Content-Type: application/grpc"), []string{"HTTP/1.1 200 ", "grpc-status: 14", "content-type: application/grpc"}, 200, reason.FaultInjected, "FI"},
		{"delay", resource.Fault{Delay: &resource.FaultDelay{Duration: 30 * time.Millisecond, Share: all}}, get("/"), []string{"HTTP/1.1 200 ", "hello"}, 200, "", "DI"},
		{"delay, then abort", resource.Fault{Delay: &resource.FaultDelay{Duration: time.Millisecond, Share: all}, Abort: &resource.FaultAbort{HTTPStatus: 500, Share: all}}, get("/"), []string{"HTTP/1.1 500 "}, 500, reason.FaultInjected, "DI,FI"},
		{"too many", resource.Fault{Abort: &resource.FaultAbort{HTTPStatus: 500, Share: all}, MaxActive: &one}, get("/"), []string{"HTTP/1.1 200 "}, 200, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := answering(t, okHello)
			w := newWorld(t, o.addr)
			w.hcm.Filters = []resource.HTTPFilter{resource.FilterFault, resource.FilterCORS}
			route := w.routeTo("origin")
			route.Fault = &test.fault
			w.configure(w.clusterOf("origin", o.addr), route)
			c := w.dial()
			// Twice: the connection can be used again.
			for range 2 {
				if _, err := io.WriteString(c, test.request); err != nil {
					t.Fatal(err)
				}
				e := w.next()
				if e.Status != test.status || e.Reason != test.reason || e.Flags != test.flags {
					t.Errorf("recorded %+v", e)
				}
			}
			got := w.send(strings.Replace(test.request, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in %q", want, got)
				}
			}
			if n := w.handler.faults.Load(); n != 0 {
				t.Errorf("%d active faults", n)
			}
		})
	}
}

// TestFaultDelayEndsWithTheClient: a request that is held back is not held for a client
// that has left, and its timeout begins afterwards.
func TestFaultDelayEndsWithTheClient(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	w.hcm.Filters = []resource.HTTPFilter{resource.FilterFault}
	route := w.routeTo("origin")
	route.Fault = &resource.Fault{Delay: &resource.FaultDelay{Duration: time.Hour}}
	w.configure(w.clusterOf("origin", o.addr), route)
	c := w.dial()
	if _, err := io.WriteString(c, get("/")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if e := w.next(); e.Reason != reason.DownstreamClosed || e.Flags != "DI,DC" {
		t.Errorf("recorded %+v", e)
	}
	short := w.routeTo("origin")
	short.Forward.Timeout = 150 * time.Millisecond
	short.Fault = &resource.Fault{Delay: &resource.FaultDelay{Duration: 200 * time.Millisecond}}
	w.configure(w.clusterOf("origin", o.addr), short)
	// On a busy machine the answer may take longer than the timeout; then it is asked again.
	until(t, "an answer", func() bool { return strings.HasSuffix(w.send(get("/", "Connection: close")), "hello") })
}

func TestCORS(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	w.hcm.Filters = []resource.HTTPFilter{resource.FilterFault, resource.FilterCORS}
	route := w.routeTo("origin")
	route.CORS = &resource.CORS{Origins: []match.String{{Value: "https://a.com"}}, AllowMethods: "GET", ExposeHeaders: "x-b", MaxAge: "60"}
	w.configure(w.clusterOf("origin", o.addr), route)
	preflight := func(origin string) string {
		return "OPTIONS / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nOrigin: " + origin + "\r\nAccess-Control-Request-Method: GET\r\n\r\n"
	}
	for _, test := range []struct {
		name, request string
		want, not     []string
		details       string
	}{
		{"preflight", preflight("https://a.com"), []string{"access-control-allow-origin: https://a.com", "access-control-allow-methods: GET", "access-control-max-age: 60", "content-length: 0"}, []string{"hello"}, "cors_response"},
		{"preflight of another origin", preflight("https://b.com"), []string{"access-control-allow-methods: GET"}, []string{"allow-origin", "hello"}, "cors_response"},
		{"request", get("/", "Connection: close", "Origin: https://a.com"), []string{"access-control-allow-origin: https://a.com", "access-control-expose-headers: x-b", "hello"}, []string{"allow-methods"}, "via_upstream"},
		{"request of another origin", get("/", "Connection: close", "Origin: https://b.com"), []string{"hello"}, []string{"access-control"}, "via_upstream"},
		{"request without origin", get("/", "Connection: close"), []string{"hello"}, []string{"access-control"}, "via_upstream"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := w.send(test.request)
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in %q", want, got)
				}
			}
			for _, not := range test.not {
				if strings.Contains(got, not) {
					t.Errorf("%q in %q", not, got)
				}
			}
			if e := w.next(); e.Details != test.details {
				t.Errorf("recorded %+v", e)
			}
		})
	}
	// The browser must be able to read a failure too.
	w.configure(w.clusterOf("other", o.addr), route)
	if got := w.send(get("/", "Connection: close", "Origin: https://a.com")); !strings.Contains(got, "503") || !strings.Contains(got, "access-control-allow-origin: https://a.com") {
		t.Errorf("%q", got)
	}
}

// TestHash: requests with the same key have the same number, and a client without the
// cookie gets one.
func TestHashCookie(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	route := w.routeTo("origin")
	route.Forward.HashPolicies = []resource.HashPolicy{{Kind: resource.HashCookie, Name: "sid", Cookie: &resource.NewCookie{TTL: time.Minute}}}
	w.configure(w.clusterOf("origin", o.addr), route)
	got := w.send(get("/", "Connection: close"))
	_, rest, ok := strings.Cut(got, "set-cookie: sid=\"")
	value, _, _ := strings.Cut(rest, `"`)
	if !ok || value == "" || !strings.Contains(rest, "; Max-Age=60; HttpOnly\r\n") {
		t.Fatalf("%q", got)
	}
	if got := w.send(get("/", "Connection: close", "Cookie: sid="+value)); strings.Contains(got, "set-cookie") {
		t.Errorf("%q", got)
	}
}

// TestStreamDuration ends a response that goes on for too long.
func TestStreamDuration(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHeadOf(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
		_, _ = r.ReadByte() // until the proxy gives up
	})
	w := newWorld(t, o.addr)
	route := w.routeTo("origin")
	route.Forward.Stream.Max = 100 * time.Millisecond
	w.configure(w.clusterOf("origin", o.addr), route)
	ended := func() told {
		if _, err := io.WriteString(w.dial(), get("/")); err != nil {
			t.Fatal(err)
		}
		return w.next()
	}
	e := ended()
	for e.Status == 504 { // a busy machine: the head did not come in time
		e = ended()
	}
	if e.Reason != reason.UpstreamTimeout || e.Flags != "DT" || e.Details != "max_duration_timeout" || e.Status != 200 {
		t.Errorf("recorded %+v", e)
	}
}

// TestWishes: what a client asks of Envoy's router counts where it asks for less, and
// does not go further.
func TestWishes(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = readHeadOf(r)
		_, _ = r.ReadByte() // no answer
	})
	w := newWorld(t, o.addr)
	route := w.routeTo("origin")
	route.Forward.Timeout = patient
	w.configure(w.clusterOf("origin", o.addr), route)
	if got := w.send(get("/", "Connection: close", "x-envoy-upstream-rq-timeout-ms: 50", "x-envoy-max-retries: 9", "x-envoy-retry-on: 5xx")); !strings.HasPrefix(got, "HTTP/1.1 504") {
		t.Errorf("%q", got)
	}
	if e := w.next(); e.Reason != reason.UpstreamTimeout || e.Attempts != 1 {
		t.Errorf("recorded %+v", e)
	}
	echo := answering(t, okHello)
	w.configure(w.clusterOf("origin", echo.addr), route)
	w.send(get("/", "Connection: close", "x-envoy-upstream-rq-timeout-ms: 90000", "x-envoy-max-retries: 9", "x-envoy-retry-on: 5xx", "x-envoy-hedge-on-per-try-timeout: true"))
	up := echo.head(t)
	if !hasLine(up, "x-envoy-expected-rq-timeout-ms: 10000") || strings.Contains(up, "retr") || strings.Contains(up, "hedge") || strings.Contains(up, "90000") {
		t.Errorf("%q", up)
	}
	// gRPC's own timeout is the route's where the route allows, and the upstream is told.
	grpc := w.routeTo("origin")
	grpc.Forward.GRPC = &resource.GRPCTimeout{Max: 2 * time.Second}
	w.configure(w.clusterOf("origin", echo.addr), grpc)
	w.send(strings.Replace(get("/", "Connection: close", "content-type: application/grpc", "grpc-timeout: 1M"), "GET", "POST", 1))
	if up := echo.head(t); !hasLine(up, "grpc-timeout: 2000m") {
		t.Errorf("%q", up)
	}
}

// TestSmallRules: what a route, virtual host or connection manager adds or leaves away.
func TestSmallRules(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	w.hcm.SuppressEnvoyHeaders = true
	route := w.routeTo("origin")
	route.Forward.Timeout, route.Forward.PrefixRewrite, route.Match.Path = patient, "/new", "/old"
	route.Forward.HostRewrite, route.Forward.AppendForwardedHost = "other.com", true
	route.RequestHeaders.Add = []resource.HeaderAdd{{Name: "x-empty", Action: resource.OverwriteIfExistsOrAdd}, {Name: "x-kept", KeepEmpty: true},
		{Name: "x-id", Value: "%REQ(x-request-id)%/%ROUTE_NAME%/%REQ(x-tab)%", Dynamic: true},
		{Name: "x-none", Value: "%REQ(x-not-there)%", Dynamic: true}}
	vh := &resource.VirtualHost{Name: "v", Domains: []string{"example.com"}, Routes: []*resource.Route{route}, IncludeAttemptCountInResponse: true}
	w.configureHost(w.clusterOf("origin", o.addr), vh)
	got := w.send(get("/old", "Connection: close", "X-Forwarded-Host: first.com", "x-empty: stays", "X-Request-Id: 7", "x-tab: a\tb"))
	if !strings.Contains(got, "x-envoy-attempt-count: 1\r\n") || strings.Contains(got, "x-envoy-upstream-service-time") {
		t.Errorf("%q", got)
	}
	up := o.head(t)
	for _, line := range []string{"host: other.com", "x-forwarded-host: first.com,example.com", "x-empty: stays", "x-kept: ", "x-id: 7/default/a\tb"} {
		if !hasLine(up, line) {
			t.Errorf("no %q in %q", line, up)
		}
	}
	for _, not := range []string{"x-envoy-expected", "x-envoy-original-path", "x-none"} {
		if strings.Contains(up, not) {
			t.Errorf("%q in %q", not, up)
		}
	}
	// Which level has the last word.
	leveled := *route
	leveled.RequestHeaders.Add = []resource.HeaderAdd{{Name: "x-level", Value: "route", Action: resource.OverwriteIfExistsOrAdd}}
	vh = &resource.VirtualHost{Name: "v", Domains: vh.Domains, Routes: []*resource.Route{&leveled}}
	vh.RequestHeaders.Add = []resource.HeaderAdd{{Name: "x-level", Value: "host", Action: resource.OverwriteIfExistsOrAdd}}
	for _, want := range []string{"host", "route"} {
		w.mostSpecificWins = want == "route"
		w.configureHost(w.clusterOf("origin", o.addr), vh)
		w.send(get("/old", "Connection: close"))
		if up := o.head(t); !hasLine(up, "x-level: "+want) {
			t.Errorf("no %q in %q", want, up)
		}
	}
	// The answer where the cluster is not there.
	missing := w.routeTo("origin")
	missing.Forward.NotFoundStatus = 500
	w.configure(w.clusterOf("another", o.addr), missing)
	if got := w.send(get("/old", "Connection: close")); !strings.HasPrefix(got, "HTTP/1.1 500") || !strings.Contains(got, "no_cluster") {
		t.Errorf("%q", got)
	}
}

// TestManagerRules are those of the connection manager.
func TestManagerRules(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	w.hcm.StripPort, w.hcm.AlwaysRequestID, w.hcm.MaxRequestsPerConn = resource.StripMatching, true, 2
	configure := func() { w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin")) }
	configure()
	c := w.dial()
	r := bufio.NewReader(c)
	for _, host := range []string{"example.com:80", "example.com:81"} {
		if _, err := io.WriteString(c, strings.Replace(get("/", "X-Request-Id: 7"), "example.com", host, 1)); err != nil {
			t.Fatal(err)
		}
		head := headOf(t, r)
		if !hasLine(head, "x-request-id: 7") || hasLine(head, "connection: close") != (host == "example.com:81") {
			t.Errorf("%q", head)
		}
		expect(t, r, "hello")
		if up := o.head(t); !hasLine(up, "host: "+strings.TrimSuffix(host, ":80")) {
			t.Errorf("%q", up)
		}
	}
	for _, test := range []struct {
		action     resource.EscapedSlashes
		path, want string
		up         string
	}{
		{resource.SlashesKeep, "/a%2fb%5Cc", "HTTP/1.1 200", "GET /a%2fb%5Cc HTTP"},
		{resource.SlashesReject, "/a%2Fb", "HTTP/1.1 400", ""},
		{resource.SlashesReject, "/a?%2F", "HTTP/1.1 200", "GET /a?%2F HTTP"},
		{resource.SlashesRedirect, "/a%2Fb?c%2Fd", "HTTP/1.1 307 Temporary Redirect\r\nlocation: /a/b?c%2Fd\r\n", ""},
		{resource.SlashesUnescape, "/a%2Fb%2f%2E%2e%2fc", "HTTP/1.1 200", "GET /a/c HTTP"},
		{resource.SlashesUnescape, "/a%5c..%5cb", "HTTP/1.1 200", "GET /b HTTP"},
	} {
		w.hcm.EscapedSlashes = test.action
		configure()
		if got := w.send(get(test.path, "Connection: close")); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %q", test.path, got)
		}
		if test.up == "" {
			continue
		}
		if up := o.head(t); !strings.HasPrefix(up, test.up) {
			t.Errorf("%s: %q", test.path, up)
		}
	}
}

// TestVersionsFilters: faults, CORS, mirrors and retries are the same whatever is spoken.
func TestVersionsFilters(t *testing.T) {
	var again atomic.Bool
	mirrored := make(chan string, 8)
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.HasSuffix(r.Host, "-shadow") {
			mirrored <- r.Method + " " + r.Host + " " + string(body)
		} else if r.URL.Path == "/retry" && again.CompareAndSwap(false, true) {
			w.WriteHeader(503)
			return
		}
		_, _ = w.Write(body)
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		again.Store(false)
		w.hcm.Filters = []resource.HTTPFilter{resource.FilterFault, resource.FilterCORS}
		origin := w.cluster()
		fault, cors, both := w.routeTo("origin"), w.routeTo("origin"), w.routeTo("origin")
		fault.Match.Path, fault.Fault = "/fault", &resource.Fault{Abort: &resource.FaultAbort{HTTPStatus: 418}}
		cors.Match.Path, cors.CORS = "/cors", &resource.CORS{Origins: []match.String{{Value: "https://a.com"}}, AllowMethods: "PUT"}
		both.Forward.Mirrors = []resource.Mirror{{Cluster: "origin"}}
		both.Forward.Retry = &resource.RetryPolicy{On: []string{"5xx"}, NumRetries: 1, BackOffBase: time.Millisecond}
		w.configure(origin, fault, cors, both)
		if s, _ := c.do(c.request("GET", "/fault", nil)); s.StatusCode != 418 || s.Header.Get("X-Egret-Reason") != "fault_injected" {
			t.Errorf("%v", s)
		}
		s, _ := c.do(c.request("OPTIONS", "/cors", nil, "Origin", "https://a.com", "Access-Control-Request-Method", "PUT"))
		if s.StatusCode != 200 || s.Header.Get("Access-Control-Allow-Methods") != "PUT" || s.Header.Get("Access-Control-Allow-Origin") != "https://a.com" {
			t.Errorf("%v", s)
		}
		// A body without a length: it is sent again, and mirrored, when it is complete.
		s, body := c.do(c.request("POST", "/retry", struct{ io.Reader }{strings.NewReader("streamed")}))
		if s.StatusCode != 200 || body != "streamed" {
			t.Errorf("%v %q", s, body)
		}
		if got := <-mirrored; got != "POST example.com-shadow streamed" {
			t.Errorf("mirrored %q", got)
		}
		for _, attempts := range []uint32{0, 0, 2} {
			if e := w.next(); e.Attempts != attempts || e.Protocol != p.protocol() {
				t.Errorf("recorded %+v", e)
			}
		}
	})
}
