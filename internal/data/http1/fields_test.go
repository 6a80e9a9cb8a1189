package http1

import (
	"bytes"
	"strings"
	"testing"
)

func fieldsOf(t *testing.T, lines ...string) *Fields {
	t.Helper()
	f := new(Fields)
	for _, l := range lines {
		if err := f.parseLine([]byte(l)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestFieldsGet(t *testing.T) {
	f := fieldsOf(t, "A: 1", "B: 2", "a: 3", "C:")
	for _, test := range []struct {
		name, value string
		ok          bool
	}{{"a", "1,3", true}, {"b", "2", true}, {"c", "", true}, {"d", "", false}} {
		if v, ok := f.Get(test.name); v != test.value || ok != test.ok {
			t.Errorf("Get(%q) = %q, %v", test.name, v, ok)
		}
	}
	if n := testing.AllocsPerRun(10, func() { f.Get("b") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFieldsEdit(t *testing.T) {
	f := fieldsOf(t, "A: 1", "B: 2", "a: 3")
	f.Set("a", "4")
	f.Set("new", "5")
	f.Remove("b")
	f.Add("B", "6")
	if got, want := list(f, new(Fields)), "a=4|new=5|B=6"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if f.Len() != 3 {
		t.Errorf("Len %d", f.Len())
	}
}

func TestRemoveHop(t *testing.T) {
	f := fieldsOf(t, "Host: a", "Connection: close, X-Secret, upgrade", "X-Secret: 1", "Keep-Alive: timeout=5",
		"Proxy-Connection: keep-alive", "Proxy-Authorization: Basic x", "TE: trailers", "Upgrade: websocket",
		"Transfer-Encoding: chunked", "Content-Length: 3", "Accept: */*", "x-secret: 2")
	f.RemoveHop()
	if got, want := list(f, new(Fields)), "Accept=*/*"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestIdentify(t *testing.T) {
	for name, want := range map[string]ID{
		"host": Host, "HOST": Host, "content-length": ContentLength, "Connection": Connection, "te": TE,
		"Trailer": Trailer, "Transfer-Encoding": TransferEncoding, "proxy-x": ProxyHop, "proxy-": Other,
		"X-Request-ID": XRequestID, "x-forwarded-for": XForwardedFor, "X-Forwarded-Proto": XForwardedProto,
		"X-Envoy-Expected-Rq-Timeout-Ms": XEnvoy, "x-envoy-int": XEnvoy, "x-envoy-fields-x": XEnvoy, "x-other": Other,
		"content-type": Other, "expect": Expect, "upgrade": Upgrade, "server": Server, "date": Date, "keep-alive": KeepAlive,
	} {
		if got := identify(name); got != want {
			t.Errorf("identify(%q) = %d, want %d", name, got, want)
		}
	}
}

func TestCheckValue(t *testing.T) {
	for c := 0; c < 256; c++ {
		bad := c < 0x20 && c != '\t' || c == 0x7f
		for at := 0; at < 20; at++ {
			v := bytes.Repeat([]byte{0xa0}, 20)
			v[at] = byte(c)
			if err := checkValue(v); (err != nil) != bad {
				t.Fatalf("byte %#x at %d: %v", c, at, err)
			}
		}
	}
}

func TestWrite(t *testing.T) {
	var b []byte
	b = AppendRequestLine(b, "GET", "/a")
	b = AppendField(b, "host", "b")
	b = AppendLength(b, 12)
	b = AppendStatusLine(b, 200, "")
	b = AppendStatusLine(b, 502, "")
	b = AppendStatusLine(b, 299, "Fine")
	b = AppendChunkHead(b, 255)
	b = AppendChunkEnd(b, fieldsOf(t, "T: u"))
	want := "GET /a HTTP/1.1\r\nhost: b\r\ncontent-length: 12\r\nHTTP/1.1 200 OK\r\nHTTP/1.1 502 Bad Gateway\r\n" +
		"HTTP/1.1 299 Fine\r\nff\r\n0\r\nT: u\r\n\r\n"
	if string(b) != want {
		t.Errorf("%q", b)
	}
}

func TestLookalikes(t *testing.T) {
	for _, name := range strings.Fields("Transfer_Encoding Transfer---Encoding Transfer___Encoding Content_Length content.length -content-length") {
		if !framingLookalike(name) {
			t.Errorf("%q passes", name)
		}
	}
	for _, name := range strings.Fields("Content-Type Content-Encoding Transfer-Mode TE X-Content-Length Content-Length-Range") {
		if framingLookalike(name) {
			t.Errorf("%q is refused", name)
		}
	}
}

func TestOriginalKeepsWhatWasParsed(t *testing.T) {
	var q Request
	r := NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\nB: 1\r\nb: 2\r\nConnection: C\r\nC: 3\r\n\r\n"), new(Pool), Limits{})
	if err := r.ReadRequest(&q); err != nil {
		t.Fatal(err)
	}
	q.Fields.RemoveHop()
	q.Fields.Set("b", "9")
	q.Fields.Add("d", "4")
	o := q.Fields.Original()
	for name, want := range map[string]string{"host": "a", "b": "1,2", "c": "3", "d": ""} {
		if got, _ := o.Get(name); got != want {
			t.Errorf("Original %q = %q, want %q", name, got, want)
		}
	}
	if got, _ := q.Fields.Get("b"); got != "9" {
		t.Errorf("b = %q", got)
	}
}
