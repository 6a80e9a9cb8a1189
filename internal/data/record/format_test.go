package record

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

type headers map[string]string

func (h headers) Get(name string) (string, bool) { v, ok := h[name]; return v, ok }

// istioDefault is Istio's default format as a stock istiod 1.26 sends it.
const istioDefault = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"

var start = time.Date(2026, 11, 23, 4, 5, 6, 78_912_345, time.FixedZone("x", 3600))

func httpEntry() *Entry {
	return &Entry{
		Start: start, Duration: 226*time.Millisecond + 900*time.Microsecond,
		RequestDone: 3 * time.Millisecond, FirstUpstreamByte: 100 * time.Millisecond, ResponseDone: 225 * time.Millisecond,
		Protocol: ProtocolHTTP11, Method: "GET", Path: "/wiki?q=1", Authority: "www.wikipedia.org",
		RequestHeaders:  headers{"user-agent": "curl/8.5.0", "x-request-id": "cc21d9b0", "x-forwarded-for": "10.0.35.28"},
		ResponseHeaders: headers{"server": "envoy"},
		Status:          301, ResponseCodeDetails: "via_upstream", BytesSent: 154,
		UpstreamHost: "198.35.26.96:80", UpstreamCluster: "outbound|80||www.wikipedia.org",
		UpstreamLocalAddress: netip.MustParseAddrPort("10.0.0.5:41000"), UpstreamServiceTime: 120 * time.Millisecond,
		DownstreamLocal: netip.MustParseAddrPort("240.240.0.1:80"), DownstreamRemote: netip.MustParseAddrPort("10.0.0.5:40000"),
		RouteName: "default", Attempts: 1, Host: "www.wikipedia.org",
	}
}

func line(t *testing.T, l resource.AccessLog, e *Entry) string {
	t.Helper()
	f, err := compile(&l)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	return string(f.append(nil, &Recorder{hostname: "laptop"}, e))
}

func TestIstioDefaultText(t *testing.T) {
	if istioDefault != IstioTextFormat {
		t.Error("IstioTextFormat is not what istiod sends")
	}
	tcp := &Entry{
		Start: start, Duration: 34 * time.Millisecond, BytesReceived: 1000, BytesSent: 2000, SNI: "www.wikipedia.org",
		UpstreamHost: "198.35.26.96:443", UpstreamCluster: "outbound|443||www.wikipedia.org",
		UpstreamLocalAddress: netip.MustParseAddrPort("10.0.0.5:41000"),
		DownstreamLocal:      netip.MustParseAddrPort("[2001:db8::1]:443"), DownstreamRemote: netip.MustParseAddrPort("10.0.0.5:40000"),
	}
	deniedTCP := &Entry{
		Start: start, Reason: reason.NotInRegistry, Flags: []string{"UH"}, UpstreamCluster: "BlackHoleCluster",
		SNI: "www.google.com", DownstreamLocal: netip.MustParseAddrPort("240.242.0.1:443"), DownstreamRemote: netip.MustParseAddrPort("10.0.0.5:40000"),
	}
	deniedHTTP := httpEntry()
	deniedHTTP.Reason, deniedHTTP.ResponseCodeDetails, deniedHTTP.Status = reason.NotInRegistry, "", 502
	deniedHTTP.UpstreamHost, deniedHTTP.UpstreamCluster, deniedHTTP.RouteName = "", "", "block_all"
	deniedHTTP.UpstreamLocalAddress, deniedHTTP.UpstreamServiceTime = netip.AddrPort{}, 0
	tests := map[string]struct {
		entry *Entry
		want  string
	}{
		"forwarded HTTP": {httpEntry(), `[2026-11-23T03:05:06.078Z] "GET /wiki?q=1 HTTP/1.1" 301 - via_upstream - "-" 0 154 226 120 "10.0.35.28" "curl/8.5.0" "cc21d9b0" "www.wikipedia.org" "198.35.26.96:80" outbound|80||www.wikipedia.org 10.0.0.5:41000 240.240.0.1:80 10.0.0.5:40000 - default` + "\n"},
		"denied HTTP":    {deniedHTTP, `[2026-11-23T03:05:06.078Z] "GET /wiki?q=1 HTTP/1.1" 502 - egret:not_in_registry - "-" 0 154 226 - "10.0.35.28" "curl/8.5.0" "cc21d9b0" "www.wikipedia.org" "-" - - 240.240.0.1:80 10.0.0.5:40000 - block_all` + "\n"},
		"TCP":            {tcp, `[2026-11-23T03:05:06.078Z] "- - -" 0 - - - "-" 1000 2000 34 - "-" "-" "-" "-" "198.35.26.96:443" outbound|443||www.wikipedia.org 10.0.0.5:41000 [2001:db8::1]:443 10.0.0.5:40000 www.wikipedia.org -` + "\n"},
		"denied TCP":     {deniedTCP, `[2026-11-23T03:05:06.078Z] "- - -" 0 UH egret:not_in_registry - "-" 0 0 0 - "-" "-" "-" "-" "-" BlackHoleCluster - 240.242.0.1:443 10.0.0.5:40000 www.google.com -` + "\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, line(t, resource.AccessLog{Text: istioDefault}, tc.entry)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// istioJSON is Istio's default JSON format (EnvoyJSONLogFormatIstio).
func istioJSON() map[string]any {
	return map[string]any{
		"start_time": "%START_TIME%", "route_name": "%ROUTE_NAME%", "method": "%REQ(:METHOD)%",
		"path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%",
		"response_flags": "%RESPONSE_FLAGS%", "response_code_details": "%RESPONSE_CODE_DETAILS%",
		"connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%", "bytes_received": "%BYTES_RECEIVED%",
		"bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%", "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
		"x_forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%", "request_id": "%REQ(X-REQUEST-ID)%",
		"authority": "%REQ(:AUTHORITY)%", "upstream_host": "%UPSTREAM_HOST%", "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
		"upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%", "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
		"downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "requested_server_name": "%REQUESTED_SERVER_NAME%",
		"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	}
}

func TestIstioDefaultJSON(t *testing.T) {
	want := `{"authority":"www.wikipedia.org","bytes_received":0,"bytes_sent":154,"connection_termination_details":null,` +
		`"downstream_local_address":"240.240.0.1:80","downstream_remote_address":"10.0.0.5:40000","duration":226,"method":"GET",` +
		`"path":"/wiki?q=1","protocol":"HTTP/1.1","request_id":"cc21d9b0","requested_server_name":null,"response_code":301,` +
		`"response_code_details":"via_upstream","response_flags":"-","route_name":"default","start_time":"2026-11-23T03:05:06.078Z",` +
		`"upstream_cluster":"outbound|80||www.wikipedia.org","upstream_host":"198.35.26.96:80","upstream_local_address":"10.0.0.5:41000",` +
		`"upstream_service_time":"120","upstream_transport_failure_reason":null,"user_agent":"curl/8.5.0","x_forwarded_for":"10.0.35.28"}` + "\n"
	if diff := cmp.Diff(want, line(t, resource.AccessLog{JSON: istioJSON()}, httpEntry())); diff != "" {
		t.Error(diff)
	}
}

func TestJSONShapes(t *testing.T) {
	l := resource.AccessLog{JSON: map[string]any{
		"a": map[string]any{"sni": "%REQUESTED_SERVER_NAME%", "n": "%BYTES_SENT%", "both": "%REQUESTED_SERVER_NAME%/%BYTES_SENT%"},
		"b": []any{"%PROTOCOL%", 7.0, true, nil, "plain \"text\""},
		"c": "%START_TIME(%s \"%3f\")%",
		"d": "", "e": "%DYNAMIC_METADATA(x:y)%",
	}}
	want := `{"a":{"both":"-/154","n":154,"sni":null},"b":["HTTP/1.1",7,true,null,"plain \"text\""],"c":"1795403106 \"078\"","d":"","e":null}` + "\n"
	if diff := cmp.Diff(want, line(t, l, httpEntry())); diff != "" {
		t.Error(diff)
	}
	l.OmitEmpty = true
	want = `{"a":{"both":"-/154","n":154},"b":["HTTP/1.1",7,true,null,"plain \"text\""],"c":"1795403106 \"078\"","d":""}` + "\n"
	if diff := cmp.Diff(want, line(t, l, httpEntry())); diff != "" {
		t.Error(diff)
	}
}

func TestOperators(t *testing.T) {
	e := httpEntry()
	e.Flags = []string{"UF", "URX"}
	e.Reason, e.Detail = reason.UpstreamConnectFailed, "connection refused"
	e.UpstreamTransportFailure = "TLS error: bad cert"
	e.UpstreamHost = "[2001:db8::5]:8443"
	tests := map[string]string{
		"%%":                                     "%",
		"100%% %PROTOCOL%":                       "100% HTTP/1.1",
		"%START_TIME(%Y/%m/%d %H:%M:%S.%6f %Z)%": "2026/11/23 03:05:06.078912 UTC",
		"%START_TIME(%s.%9f)%":                   "1795403106.078912345",
		"%START_TIME(%FT%TZ %b %e %a %j %E3S %%)%":  "2026-11-23T03:05:06Z Nov 23 Mon 327 06.078 %",
		"%START_TIME(%1f|%f|%Q|%)%":                 "0|078912345|%Q|%",
		"%REQ(x-missing?user-agent):4%":             "curl",
		"%REQ(X-MISSING?ALSO-MISSING)%":             "-",
		"%REQ(HOST)%":                               "www.wikipedia.org",
		"%RESP(Server)%":                            "envoy",
		"%RESP(:STATUS)%":                           "301",
		"%TRAILER(grpc-status)%":                    "-",
		"%RESPONSE_FLAGS%":                          "UF,URX",
		"%RESPONSE_FLAGS_LONG%":                     "UpstreamConnectionFailure,UpstreamRetryLimitExceeded",
		`"%UPSTREAM_TRANSPORT_FAILURE_REASON%"`:     `"TLS error: bad cert"`,
		"%UPSTREAM_TRANSPORT_FAILURE_REASON%":       `TLS\x20error:\x20bad\x20cert`,
		"%REQUEST_DURATION% %RESPONSE_DURATION%":    "3 100",
		"%RESPONSE_TX_DURATION% %DURATION%":         "125 226",
		"%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%":    "2001:db8::5",
		"%UPSTREAM_REMOTE_PORT%":                    "8443",
		"%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%":     "10.0.0.5",
		"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%":   "240.240.0.1",
		"%DOWNSTREAM_LOCAL_PORT%":                   "80",
		"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%":  "10.0.0.5",
		"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%":        "10.0.0.5:40000",
		"%UPSTREAM_REQUEST_ATTEMPT_COUNT%":          "1",
		"%HOSTNAME%":                                "laptop",
		"%EGRET_REASON%":                            "upstream_connect_failed",
		"%FILTER_STATE(a.b:PLAIN):10% %CEL(x%y)% .": "- - .",
		"%DYNAMIC_METADATA(a:b(c)d)%":               "-",
	}
	for format, want := range tests {
		if got := line(t, resource.AccessLog{Text: format}, e); got != want {
			t.Errorf("%s\n got %q\nwant %q", format, got, want)
		}
	}
}

func TestFormatErrors(t *testing.T) {
	tests := map[string]string{
		"a %NO_SUCH_THING% b":   "a - b",
		"50% of %PROTOCOL%":     "50% of HTTP/1.1",
		"%PROTOCOL":             "%PROTOCOL",
		"%REQ(x%":               "%REQ(x%",
		"%REQ(x):%":             "%REQ(x):%",
		"%REQ()%":               "-",
		"%REQ(x):999999999999%": "%REQ(x):999999999999%",
		"%":                     "%",
		"%lower%":               "%lower%",
	}
	for format, want := range tests {
		ops, err := compileText(format)
		if err == nil {
			t.Errorf("%s: no error", format)
		}
		if got := string(appendText(nil, &Recorder{}, httpEntry(), ops)); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
	if _, err := compileText(strings.Repeat("%%", maxFormatLength)); err == nil {
		t.Error("an endless format is taken")
	}
}

// A workload must not be able to forge a line, end a field or change a terminal.
func TestInjection(t *testing.T) {
	evil := "x\" 200 - ok\n[2026-11-23T00:00:00.000Z] \"GET / HTTP/1.1\" 200\r\x1b[2J\x00\u2028é\xff\\"
	e := httpEntry()
	e.Path, e.Authority, e.SNI, e.Method = evil, evil, evil, evil
	e.RequestHeaders = headers{"user-agent": evil}
	got := line(t, resource.AccessLog{Text: istioDefault}, e)
	if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") || strings.ContainsAny(got, "\r\x1b\x00") {
		t.Errorf("forged text line: %q", got)
	}
	if n := strings.Count(got, `"`); n != 14 {
		t.Errorf("%d quotes, the format has 14: %q", n, got)
	}
	clean := line(t, resource.AccessLog{Text: istioDefault}, httpEntry())
	if a, b := fields(got), fields(clean); a != b {
		t.Errorf("%d fields outside of quotes, want %d: %q", a, b, got)
	}
	got = line(t, resource.AccessLog{JSON: istioJSON()}, e)
	if strings.Count(got, "\n") != 1 {
		t.Errorf("forged JSON line: %q", got)
	}
	var back map[string]any
	if err := json.Unmarshal([]byte(got), &back); err != nil {
		t.Fatalf("not JSON: %v: %q", err, got)
	}
	if want := strings.ToValidUTF8(evil, "\ufffd"); back["path"] != want {
		t.Errorf("path: got %q, want %q", back["path"], want)
	}
}

// fields counts what is separated by spaces outside of quotes.
func fields(s string) int {
	n, quoted := 1, false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ' ' && !quoted:
			n++
		}
	}
	return n
}

func FuzzFormat(f *testing.F) {
	f.Add(istioDefault, "curl/8")
	f.Add(defaultEnvoyFormat, "a\"b\nc")
	f.Add("%START_TIME(%E3S%3f%)%:1%%REQ(a?b):3%%", "\xff")
	f.Add("%REQ(%):%", "")
	f.Fuzz(func(t *testing.T, format, agent string) {
		e := httpEntry()
		e.RequestHeaders = headers{"user-agent": agent, "a": agent}
		e.Path = agent
		r := &Recorder{}
		ops, err := compileText(format)
		text := string(appendText(nil, r, e, ops))
		if err == nil && !strings.Contains(format, "\n") && strings.Contains(text, "\n") {
			t.Errorf("%q makes a second line: %q", format, text)
		}
		n, _ := compileJSON(map[string]any{"k": format, format: []any{format, map[string]any{"x": format}}})
		if b := n.appendJSON(nil, r, e, true); !json.Valid(b) {
			t.Errorf("%q gives invalid JSON %q", format, b)
		}
	})
}

func TestTextLineDoesNotAllocate(t *testing.T) {
	f, err := compile(&resource.AccessLog{Text: istioDefault})
	if err != nil {
		t.Fatal(err)
	}
	e, r, b := httpEntry(), &Recorder{}, make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { b = f.append(b[:0], r, e) }); n != 0 {
		t.Errorf("%v allocations per text line", n)
	}
	j, err := compile(&resource.AccessLog{JSON: istioJSON()})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { b = j.append(b[:0], r, e) }); n != 0 {
		t.Errorf("%v allocations per JSON line", n)
	}
}

func BenchmarkTextLine(b *testing.B) {
	f, err := compile(&resource.AccessLog{Text: istioDefault})
	if err != nil {
		b.Fatal(err)
	}
	e, r, buf := httpEntry(), &Recorder{}, make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = f.append(buf[:0], r, e)
	}
}
