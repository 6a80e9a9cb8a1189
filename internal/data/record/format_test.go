package record

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/format"
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
		"%START_TIME(%FT%TZ %b %e %a %j %E3S %%)%": "2026-11-23T03:05:06Z Nov 23 Mon 327 06.078 %",
		"%START_TIME(%1f|%f|%Q|%)%":                "0|078912345|%Q|%",
		"%REQ(x-missing?user-agent):4%":            "curl",
		"%REQ(X-MISSING?ALSO-MISSING)%":            "-",
		"%REQ(HOST)%":                              "www.wikipedia.org",
		"%RESP(Server)%":                           "envoy",
		"%RESP(:STATUS)%":                          "301",
		"%TRAILER(grpc-status)%":                   "-",
		"%RESPONSE_FLAGS%":                         "UF,URX",
		"%RESPONSE_FLAGS_LONG%":                    "UpstreamConnectionFailure,UpstreamRetryLimitExceeded",
		`"%UPSTREAM_TRANSPORT_FAILURE_REASON%"`:    `"TLS error: bad cert"`,
		"%UPSTREAM_TRANSPORT_FAILURE_REASON%":      `TLS\x20error:\x20bad\x20cert`,
		"%REQUEST_DURATION% %RESPONSE_DURATION%":   "3 100",
		"%RESPONSE_TX_DURATION% %DURATION%":        "125 226",
		"%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%":   "2001:db8::5",
		"%UPSTREAM_REMOTE_PORT%":                   "8443",
		"%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%":    "10.0.0.5",
		"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%":  "240.240.0.1",
		"%DOWNSTREAM_LOCAL_PORT%":                  "80",
		"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%": "10.0.0.5",
		"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%":       "10.0.0.5:40000",
		"%UPSTREAM_REQUEST_ATTEMPT_COUNT%":         "1",
		"%HOSTNAME%":                               "laptop",
		"%EGRET_REASON%":                           "upstream_connect_failed",
		"%FILTER_STATE(a.b:PLAIN):10% .":           "- .",
		"%DYNAMIC_METADATA(a:b(c)d)%":              "-",
	}
	for format, want := range tests {
		if got := line(t, resource.AccessLog{Text: format}, e); got != want {
			t.Errorf("%s\n got %q\nwant %q", format, got, want)
		}
	}
}

// What the decoder should have refused is never half a line.
func TestUnusableFormat(t *testing.T) {
	if _, err := compileText("%PROTOCOL% %NO_SUCH_THING%"); err == nil {
		t.Error("no error")
	}
	for _, l := range []resource.AccessLog{{Text: "%NO_SUCH_THING%"}, {JSON: map[string]any{"a": "%NO_SUCH_THING%"}}} {
		f := newRecorder(t, Options{}).format(&l)
		want := line(t, resource.AccessLog{Text: defaultEnvoyFormat}, httpEntry())
		if got := string(f.append(nil, &Recorder{}, httpEntry())); got != want {
			t.Errorf("got %q, want Envoy's default %q", got, want)
		}
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
	f.Add(`%COALESCE({"operators": ["UPSTREAM_TLS_VERSION", {"command": "REQ", "param": "a"}]}):3%`, "\x00")
	f.Add("%PATH(NQ:ORIG)%%QUERY_PARAM(a)%%QUERY_PARAMS(DECODED)%%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%", "/x?a=%00b")
	f.Fuzz(func(t *testing.T, format, agent string) {
		e := httpEntry()
		e.RequestHeaders = headers{"user-agent": agent, "a": agent}
		e.Path = agent
		r := &Recorder{}
		ops, err := compileText(format)
		if err != nil {
			return
		}
		text := string(appendText(nil, r, e, ops))
		if !strings.Contains(format, "\n") && strings.Contains(text, "\n") {
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

// sessionPair are the two sides of a mutual TLS session.
func sessionPair(t *testing.T) (client, server *credentials.Session) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spiffe, _ := url.Parse("spiffe://cluster.local/ns/default/sa/test")
	template := &x509.Certificate{SerialNumber: big.NewInt(0xbeef), Subject: pkix.Name{CommonName: "test", Organization: []string{"Egret"}},
		NotBefore: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), NotAfter: time.Date(9999, 1, 2, 3, 4, 5, 0, time.UTC),
		DNSNames: []string{"a.example", "b.example"}, URIs: []*url.URL{spiffe}, IPAddresses: []net.IP{{10, 0, 0, 1}}, EmailAddresses: []string{"x@example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12})
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	c := tls.Client(a, &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewSession(c.ConnectionState(), leaf), credentials.NewSession(s.ConnectionState(), leaf)
}

func TestTLSOperators(t *testing.T) {
	e := httpEntry()
	e.UpstreamTLS, e.DownstreamTLS = sessionPair(t)
	sum := sha256.Sum256(e.DownstreamTLS.PeerCertificates[0].Raw)
	for format, want := range map[string]string{
		"%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER%": "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256",
		"%UPSTREAM_TLS_VERSION% %UPSTREAM_TLS_CIPHER%":     "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256",
		`"%DOWNSTREAM_LOCAL_SUBJECT%"`:                     `"CN=test,O=Egret"`,
		"%DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_LOCAL_DNS_SAN% %DOWNSTREAM_LOCAL_IP_SAN% %DOWNSTREAM_LOCAL_EMAIL_SAN%": "spiffe://cluster.local/ns/default/sa/test a.example,b.example 10.0.0.1 x@example.com",
		"%UPSTREAM_LOCAL_URI_SAN% %UPSTREAM_LOCAL_DNS_SAN% %UPSTREAM_LOCAL_IP_SAN%":                                    "spiffe://cluster.local/ns/default/sa/test a.example,b.example 10.0.0.1",
		`"%DOWNSTREAM_PEER_SUBJECT%"`:                                        `"CN=test,O=Egret"`,
		"%DOWNSTREAM_PEER_URI_SAN%":                                          "spiffe://cluster.local/ns/default/sa/test",
		"%DOWNSTREAM_PEER_DNS_SAN% %DOWNSTREAM_PEER_IP_SAN%":                 "a.example,b.example 10.0.0.1",
		"%DOWNSTREAM_PEER_EMAIL_SAN%":                                        "x@example.com",
		"%DOWNSTREAM_PEER_SERIAL% %DOWNSTREAM_PEER_CHAIN_SERIALS%":           "beef beef",
		"%DOWNSTREAM_PEER_FINGERPRINT_256%":                                  hex.EncodeToString(sum[:]),
		"%DOWNSTREAM_PEER_CERT_V_START(%Y)% %UPSTREAM_PEER_CERT_V_END%":      "2026 9999-01-02T03:04:05.000Z",
		"%DOWNSTREAM_PEER_ISSUER_SERIAL%":                                    "-",
		"%UPSTREAM_PEER_DNS_SAN%":                                            "a.example,b.example",
		"%DOWNSTREAM_TLS_SESSION_ID%":                                        "-",
		`%COALESCE({"operators": ["SPAN_ID", "DOWNSTREAM_TLS_VERSION"]}):5%`: "TLSv1",
	} {
		if got := line(t, resource.AccessLog{Text: format}, e); got != want {
			t.Errorf("%s\n got %q\nwant %q", format, got, want)
		}
	}
	cert := line(t, resource.AccessLog{Text: "%DOWNSTREAM_PEER_CERT%"}, e)
	if text, err := url.PathUnescape(cert); err != nil || !strings.HasPrefix(text, "-----BEGIN CERTIFICATE-----\n") {
		t.Errorf("DOWNSTREAM_PEER_CERT: %q %v", text, err)
	}
}

func TestOperatorsWithArguments(t *testing.T) {
	e := httpEntry()
	e.Path = "/new?q=a%20b&r&q=2"
	e.RequestHeaders = headers{"x-envoy-original-path": "/old?z=1", "x-request-id": "id-1", "x-envoy-original-host": "old.example"}
	e.ResponseCodeDetails = "a b"
	e.ConnectionStart = start.Add(-time.Second)
	e.UpstreamConnectBegin, e.UpstreamConnected, e.RequestSent = time.Millisecond, 1500*time.Microsecond, 2*time.Millisecond
	e.UpstreamProtocol, e.UpstreamHostName = ProtocolHTTP2, "origin.example:80"
	e.FilterChain, e.ConnectionID, e.LocalReplyBody = "chain", 7, "egret: no\n"
	e.DownstreamDirectLocal = netip.MustParseAddrPort("10.0.0.5:15001")
	e.ResponseTrailers = headers{"x-t": "trailer"}
	for format, want := range map[string]string{
		"%PATH% %PATH(NQ)% %PATH(WQ:PATH)% %PATH(:ORIG)%":                                                                  "/old?z=1 /old /new?q=a%20b&r&q=2 /old?z=1",
		`"%QUERY_PARAM(q)%" %QUERY_PARAM(r)% %QUERY_PARAM(z)%`:                                                             `"a b" - -`,
		`%QUERY_PARAMS% "%QUERY_PARAMS(DECODED)%" %QUERY_PARAMS(ORIG):3%`:                                                  `q=a%20b&r&q=2 "q=a b&r&q=2" q=a`,
		"%REQ_WITHOUT_QUERY(X-NONE?:PATH):3%":                                                                              "/ne",
		"%REQUEST_HEADER(X-REQUEST-ID)% %RESPONSE_HEADER(SERVER)%":                                                         "id-1 envoy",
		"%RESPONSE_TRAILER(X-T)% %TRAILER(x-none?x-t):2%":                                                                  "trailer tr",
		`%RESPONSE_CODE_DETAILS% "%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%"`:                                             `a_b "a b"`,
		"%COMMON_DURATION(DS_CX_BEG:DS_RX_BEG:ms)%":                                                                        "1000",
		"%COMMON_DURATION(US_CX_BEG:US_CX_END:us)%":                                                                        "500",
		"%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:ns)%":                                                                        "100000000",
		"%COMMON_DURATION(US_RX_BEG:DS_TX_END:ms)% %REQUEST_TX_DURATION%":                                                  "125 2",
		"%COMMON_DURATION(DS_RX_BEG:US_HS_END:ms)% %COMMON_DURATION(a:b:ms)%":                                              "- -",
		"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%":                                                                     "10.0.0.0/16",
		"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(64)%":                                                                     "-",
		"%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24)%":                                                                       "198.35.26.0/24",
		"%DOWNSTREAM_DIRECT_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_LOCAL_PORT%":                                                 "10.0.0.5:15001 15001",
		"%UPSTREAM_PROTOCOL% %UPSTREAM_HOST_NAME%":                                                                         "HTTP/2 origin.example:80",
		"%UPSTREAM_HOST_NAME_WITHOUT_PORT% %UPSTREAM_HOSTS_ATTEMPTED%":                                                     "origin.example 198.35.26.96:80",
		"%FILTER_CHAIN_NAME% %CONNECTION_ID% %STREAM_ID% %ACCESS_LOG_TYPE%":                                                "chain 7 id-1 DownstreamEnd",
		`"%LOCAL_REPLY_BODY%" %ENVIRONMENT(POD):2% %ENVIRONMENT(NONE)%`:                                                    `"egret: no" pd -`,
		"%REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(SNI_FIRST)%":                                                       "- old.example",
		"%REQUESTED_SERVER_NAME(HOST_FIRST:HOST)%":                                                                         "www.wikipedia.org",
		"%UPSTREAM_WIRE_BYTES_SENT% %TRACE_ID% %VIRTUAL_CLUSTER_NAME%":                                                     "- - -",
		`%COALESCE({"operators": ["REQUESTED_SERVER_NAME", {"command": "REQ", "param": ":authority", "max_length": 3}]})%`: "www",
		`%COALESCE({"operators": ["REQUESTED_SERVER_NAME", {"command": "START_TIME", "param": "%Y"}]})%`:                   "2026",
	} {
		f, err := compile(&resource.AccessLog{Text: format})
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		r := &Recorder{getenv: func(name string) string { return map[string]string{"POD": "pd-1"}[name] }}
		if got := string(f.append(nil, r, e)); got != want {
			t.Errorf("%s\n got %q\nwant %q", format, got, want)
		}
	}
	e.Attempts = 2
	if got := line(t, resource.AccessLog{Text: "%UPSTREAM_HOSTS_ATTEMPTED%"}, e); got != "-" {
		t.Errorf("after a retry only the last host is known, got %q", got)
	}
}

func TestGRPCStatus(t *testing.T) {
	const all = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%"
	grpc := headers{"content-type": "application/grpc+proto"}
	for name, c := range map[string]struct {
		entry Entry
		want  string
	}{
		"trailers":         {Entry{Protocol: ProtocolHTTP2, Status: 200, RequestHeaders: grpc, ResponseTrailers: headers{"grpc-status": "3"}}, "InvalidArgument INVALID_ARGUMENT 3 3"},
		"headers":          {Entry{Protocol: ProtocolHTTP2, Status: 200, RequestHeaders: grpc, ResponseHeaders: headers{"grpc-status": "0"}}, "OK OK 0 0"},
		"the HTTP status":  {Entry{Protocol: ProtocolHTTP2, Status: 503, RequestHeaders: grpc}, "Unavailable UNAVAILABLE 14 14"},
		"no such number":   {Entry{Protocol: ProtocolHTTP2, RequestHeaders: grpc, ResponseTrailers: headers{"grpc-status": "77"}}, "77 77 77 77"},
		"no number":        {Entry{Protocol: ProtocolHTTP2, RequestHeaders: grpc, ResponseTrailers: headers{"grpc-status": "x"}}, "-1 -1 -1 -1"},
		"not answered":     {Entry{Protocol: ProtocolHTTP2, RequestHeaders: grpc}, "- - - -"},
		"gRPC-Web":         {Entry{Protocol: ProtocolHTTP2, RequestHeaders: headers{"content-type": "application/grpc-web"}, ResponseHeaders: headers{"grpc-status": "1"}}, "- - - -"},
		"HTTP/1.1 is none": {Entry{Protocol: ProtocolHTTP11, RequestHeaders: grpc, ResponseHeaders: headers{"grpc-status": "1"}}, "- - - -"},
	} {
		if got := line(t, resource.AccessLog{Text: all}, &c.entry); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Of one TCP connection all logs have the same STREAM_ID; other connections have others.
func TestStreamID(t *testing.T) {
	r := newRecorder(t, Options{})
	ids := map[string]bool{}
	f, err := compile(&resource.AccessLog{Text: "%STREAM_ID%"})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint64{1, 1, 2} {
		ids[string(f.append(nil, r, &Entry{ConnectionID: id}))] = true
	}
	if len(ids) != 2 {
		t.Errorf("%v", ids)
	}
	for id := range ids {
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
			t.Errorf("%q is not a UUID", id)
		}
	}
}

// Every command that is said to print has code that prints, and no other has.
func TestCommandsAreComplete(t *testing.T) {
	headerCommands := []string{"REQ", "RESP", "TRAILER"}
	for _, c := range format.Commands() {
		has := operators[c.Name] != nil || withArguments(c.Name) != nil || slices.Contains(headerCommands, c.Name)
		if has != (c.Use == format.Prints) {
			t.Errorf("%s: has code %v, said to be used as %d", c.Name, has, c.Use)
		}
	}
	for name := range operators {
		if _, ok := format.Lookup(name); !ok {
			t.Errorf("%s is not a command", name)
		}
	}
}
