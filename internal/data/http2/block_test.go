package http2

import (
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// decoded runs fields, as "name: value" lines, through a block.
func decoded(kind blockKind, end bool, lines string) *block {
	b := &block{limits: http1.Limits{}.WithDefaults()}
	b.begin(kind, 1, end)
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.Trim(line, "\n"), ": ")
		b.add(hpack.HeaderField{Name: name, Value: value})
	}
	return b
}

const getLines = ":method: GET\n:scheme: http\n:authority: example.com\n:path: /\n"

func TestRequestRefusals(t *testing.T) {
	get := func(more string) string { return getLines + more }
	post := func(more string) string { return strings.Replace(getLines, "GET", "POST", 1) + more }
	without := func(name string) string {
		var s string
		for line := range strings.Lines(getLines) {
			if !strings.HasPrefix(line, name) {
				s += line
			}
		}
		return s
	}
	with := func(name, value string) string { return without(name) + name + ": " + value + "\n" }
	for _, c := range []struct{ rule, lines string }{
		{"", get("")},
		{"", get("x: y\naccept: */*\n")},
		{"pseudo_field_late", "x: y\n" + getLines},
		{"pseudo_field_late", ":method: GET\nx: y\n:path: /\n"},
		{"pseudo_field_unknown", get(":status: 200\n")},
		{"pseudo_field_unknown", get(":host: a\n")},
		{"pseudo_field_unknown", get(":: a\n")},
		{"pseudo_field_repeated", get(":method: GET\n")},
		{"pseudo_field_repeated", get(":path: /\n")},
		{"pseudo_field_repeated", get(":authority: example.com\n")},
		{"pseudo_field_missing", without(":method")},
		{"pseudo_field_missing", without(":path")},
		{"pseudo_field_missing", without(":scheme")},
		{"host_missing", without(":authority")},
		{"", without(":authority") + "host: example.com\n"},
		{"", get("host: EXAMPLE.com:80\n")},
		{"host_target_mismatch", get("host: example.org\n")},
		{"host_target_mismatch", get("host: example.com:81\n")},
		{"host_repeated", get("host: example.com\nhost: example.com\n")},
		{"host_invalid", get("host: a b\n")},
		{"host_invalid", with(":authority", "")},
		{"host_invalid", with(":authority", "a/b")},
		{"target_userinfo", with(":authority", "user@example.com")},
		{"target_scheme", with(":scheme", "ftp")},
		{"target_scheme", with(":scheme", "HTTP")},
		{"target_form", with(":path", "")},
		{"target_form", with(":path", "path")},
		{"target_form", with(":path", "http://example.com/")},
		{"target_form", with(":path", "*")},
		{"target_character", with(":path", "/a b")},
		{"target_form", with(":path", "#b")},
		{"target_form", with(":path", "\x80")},
		{"target_form", with(":path", "*#b")},
		{"target_character", with(":path", "/a\r\nx: y")},
		{"request_line_too_long", with(":path", "/"+strings.Repeat("a", 16<<10))},
		{"method_invalid", with(":method", "")},
		{"method_invalid", with(":method", "get")},
		{"method_invalid", with(":method", "GET /x HTTP/1.1")},
		{"", strings.Replace(with(":path", "*"), "GET", "OPTIONS", 1)},
		{"connection_field", get("connection: close\n")},
		{"connection_field", get("keep-alive: 1\n")},
		{"connection_field", get("proxy-connection: close\n")},
		{"connection_field", get("transfer-encoding: chunked\n")},
		{"connection_field", get("upgrade: websocket\n")},
		{"te_not_trailers", get("te: gzip\n")},
		{"te_not_trailers", get("te: trailers, gzip\n")},
		{"", get("te: trailers\n")},
		{"expect_unknown", get("expect: something\n")},
		{"field_name_uppercase", get("X-Upper: y\n")},
		{"field_name_invalid", get("x y: z\n")},
		{"field_name_invalid", get("x\r\ny: z\n")},
		{"field_name_empty", get(": z\n")},
		{"framing_field_lookalike", get("content_length: 1\n")},
		{"field_value_nul", get("x: a\x00b\n")},
		{"bare_cr", get("x: a\rb\n")},
		{"field_value_control", get("x: a\x7fb\n")},
		{"field_value_space", get("x:  a\n")},
		{"field_value_space", get("x: a\t\n")},
		{"content_length_invalid", post("content-length: +1\n")},
		{"content_length_invalid", post("content-length: 1, 1\n")},
		{"content_length_repeated", post("content-length: 1\ncontent-length: 1\n")},
		{"content_length_conflict", post("content-length: 1\ncontent-length: 2\n")},
		{"content_length_mismatch", post("content-length: 1\n")}, // the stream has ended
		{"connect_pseudo_fields", ":method: CONNECT\n:scheme: http\n:authority: a:1\n"},
		{"connect_pseudo_fields", ":method: CONNECT\n:path: /\n:authority: a:1\n"},
		{"pseudo_field_missing", ":method: CONNECT\n"},
		{"host_invalid", ":method: CONNECT\n:authority: a\n"},
		{"", ":method: CONNECT\n:authority: a:1\n"},
		{"", strings.Replace(get(":protocol: websocket\n"), "GET", "CONNECT", 1)},
		{"protocol_invalid", get(":protocol: websocket\n")},
		{"protocol_invalid", strings.Replace(get(":protocol: web socket\n"), "GET", "CONNECT", 1)},
		{"protocol_invalid", ":method: CONNECT\n:protocol: websocket\n:scheme: http\n:path: /\n"},
		{"header_section_too_large", get("x: " + strings.Repeat("v", 60<<10) + "\n")},
		{"too_many_fields", get(strings.Repeat("x: y\n", 102))},
	} {
		var q http1.Request
		err := decoded(blockRequest, true, c.lines).request(&q, true)
		if got := rule(err); got != c.rule {
			t.Errorf("%.200q: got %q, want %q", c.lines, got, c.rule)
		}
	}
}

func rule(e *Error) string {
	if e == nil {
		return ""
	}
	return e.Rule
}

// TestRefusedRequestIsKnown: what was understood stays, for the record.
func TestRefusedRequestIsKnown(t *testing.T) {
	var q http1.Request
	err := decoded(blockRequest, true, getLines+"user-agent: x\nConnection: close\nlater: y\n").request(&q, true)
	if err == nil || q.Method != "GET" || q.Authority != "example.com" || q.Path != "/" || !q.Fields.Has("user-agent") || q.Fields.Has("later") {
		t.Errorf("%v: %+v", err, q)
	}
}

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		end         bool
		want        http1.Request
	}{
		{"get", getLines, true, http1.Request{Method: "GET", Path: "/"}},
		{"fragment", strings.Replace(getLines, "path: /", "path: /a?b#c", 1), true, http1.Request{Method: "GET", Path: "/a?b"}},
		{"non-ASCII", strings.Replace(getLines, "path: /", "path: /\xc3\xa9?\xff", 1), true, http1.Request{Method: "GET", Path: "/%C3%A9?%FF"}},
		{"unknown length", getLines, false, http1.Request{Method: "GET", Path: "/", Framing: http1.Chunked}},
		{"length", getLines + "content-length: 7\nexpect: 100-Continue\n", false, http1.Request{Method: "GET", Path: "/", Framing: http1.Length, Length: 7, Expect100: true}},
		{"no length", getLines + "content-length: 0\nexpect: 100-continue\n", false, http1.Request{Method: "GET", Path: "/"}},
		{"te", getLines + "te: Trailers\n", true, http1.Request{Method: "GET", Path: "/", TETrailers: true}},
		{"connect", ":method: CONNECT\n:authority: example.com:443\n", false, http1.Request{Method: "CONNECT", Authority: "example.com:443", Form: http1.AuthorityForm}},
		{"extended connect", strings.Replace(getLines, "GET", "CONNECT", 1) + ":protocol: websocket\n", false, http1.Request{Method: "GET", Path: "/", Upgrade: "websocket"}},
		{"asterisk", ":method: OPTIONS\n:scheme: http\n:authority: example.com\n:path: *\n", true, http1.Request{Method: "OPTIONS", Path: "*", Form: http1.AsteriskForm}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var q http1.Request
			if err := decoded(blockRequest, c.end, c.lines).request(&q, true); err != nil {
				t.Fatal(err)
			}
			if c.want.Authority == "" {
				c.want.Authority = "example.com"
			}
			if q.Method != c.want.Method || q.Path != c.want.Path || q.Authority != c.want.Authority || q.Form != c.want.Form ||
				q.Framing != c.want.Framing || q.Length != c.want.Length || q.Expect100 != c.want.Expect100 ||
				q.TETrailers != c.want.TETrailers || q.Upgrade != c.want.Upgrade {
				t.Errorf("got %+v", q)
			}
		})
	}
}

// TestExtendedConnectMustBeOffered: without the setting :protocol has no meaning.
func TestExtendedConnectMustBeOffered(t *testing.T) {
	var q http1.Request
	err := decoded(blockRequest, false, strings.Replace(getLines, "GET", "CONNECT", 1)+":protocol: websocket\n").request(&q, false)
	if rule(err) != "protocol_invalid" {
		t.Error(err)
	}
}

func TestCookiesAreJoined(t *testing.T) {
	var q http1.Request
	err := decoded(blockRequest, true, getLines+"cookie: a=1\nx: y\ncookie: b=2\ncookie: c=3\n").request(&q, false)
	if got, _ := q.Fields.Get("cookie"); err != nil || got != "a=1; b=2; c=3" || q.Fields.Len() != 2 {
		t.Errorf("%v, %q", err, got)
	}
}

func TestResponses(t *testing.T) {
	for _, c := range []struct {
		rule, lines, method, upgrade string
		end                          bool
		status                       int
		framing                      http1.Framing
		declared                     int64
	}{
		{lines: ":status: 200\n", end: true, status: 200, declared: -1},
		{lines: ":status: 200\n", status: 200, framing: http1.Chunked, declared: -1},
		{lines: ":status: 200\ncontent-length: 5\n", status: 200, framing: http1.Length, declared: 5},
		{lines: ":status: 200\ncontent-length: 5\n", method: "HEAD", status: 200, declared: 5},
		{lines: ":status: 200\ncontent-length: 5\n", method: "HEAD", end: true, status: 200, declared: 5},
		{lines: ":status: 200\n", method: "CONNECT", status: 200, declared: -1},
		{lines: ":status: 404\n", method: "CONNECT", status: 404, framing: http1.Chunked, declared: -1},
		{lines: ":status: 204\n", status: 204, declared: -1},
		{lines: ":status: 304\ncontent-length: 5\n", end: true, status: 304, declared: 5},
		{lines: ":status: 103\nlink: x\n", status: 103, declared: -1},
		{lines: ":status: 200\n", upgrade: "websocket", status: 101, declared: -1},
		{lines: ":status: 403\n", upgrade: "websocket", status: 403, framing: http1.Chunked, declared: -1},
		{rule: "interim_ends_stream", lines: ":status: 100\n", end: true},
		{rule: "content_length_mismatch", lines: ":status: 200\ncontent-length: 5\n", end: true},
		{rule: "status_invalid", lines: ":status: 101\n"},
		{rule: "status_invalid", lines: ":status: 099\n"},
		{rule: "status_invalid", lines: ":status: 600\n"},
		{rule: "status_invalid", lines: ":status: 20\n"},
		{rule: "status_invalid", lines: ":status: +20\n"},
		{rule: "pseudo_field_missing", lines: "x: y\n"},
		{rule: "pseudo_field_unknown", lines: ":status: 200\n:method: GET\n"},
		{rule: "connection_field", lines: ":status: 200\nconnection: close\n"},
		{rule: "connection_field", lines: ":status: 200\ntransfer-encoding: chunked\n"},
		{rule: "content_length_conflict", lines: ":status: 200\ncontent-length: 1\ncontent-length: 2\n"},
	} {
		var r http1.Response
		err := decoded(blockResponse, c.end, c.lines).response(&r, c.method, c.upgrade)
		if rule(err) != c.rule {
			t.Errorf("%q: got %v, want %q", c.lines, err, c.rule)
			continue
		}
		if err == nil && (r.Status != c.status || r.Framing != c.framing || r.Declared != c.declared) {
			t.Errorf("%q: %+v", c.lines, r)
		}
	}
}

func TestTrailers(t *testing.T) {
	for _, c := range []struct{ rule, lines string }{
		{"", "grpc-status: 0\ngrpc-message: ok\n"},
		{"pseudo_field_in_trailers", ":status: 200\n"},
		{"trailer_forbidden", "content-length: 1\n"},
		{"trailer_forbidden", "host: a\n"},
		{"trailer_forbidden", "authorization: a\n"},
		{"connection_field", "transfer-encoding: chunked\n"},
		{"field_name_uppercase", "X: y\n"},
		{"trailers_too_large", "x: " + strings.Repeat("v", 8<<10) + "\n"},
	} {
		if err := decoded(blockTrailers, true, c.lines).trailers(); rule(err) != c.rule {
			t.Errorf("%.50q: got %v, want %q", c.lines, err, c.rule)
		}
	}
}
