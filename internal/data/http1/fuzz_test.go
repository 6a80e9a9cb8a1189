package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
)

// FuzzRequest feeds a connection's bytes. Whatever is accepted, net/http must read
// with the same method, host, path, length and body: else there are two readings.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a:80/b?c HTTP/1.1\r\nHost: a:80\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.0\r\nHost: [::1]:80\r\nConnection: keep-alive\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /\xc3\xa9#b HTTP/1.1\r\nHost: a\r\n\r\nGET  HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked;a\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ours := NewReader(bytes.NewReader(data), new(Pool), Limits{})
		theirs := bufio.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\r\n"))))
		for range 4 {
			var q Request
			if err := ours.ReadRequest(&q); err != nil {
				return
			}
			var b Body
			b.Start(ours, q.Framing, q.Length, true)
			body, bodyErr := readAll(&b)
			sameRequest(t, &q, body, bodyErr, theirs)
			if bodyErr != nil || q.Method == "CONNECT" || q.Upgrade != "" {
				return
			}
			if ours.Buffered() >= 2 && string(ours.buf[ours.r:ours.r+2]) == "\r\n" {
				return // net/http does not skip an empty line
			}
			ours.Release()
		}
	})
}

func sameRequest(t *testing.T, q *Request, body string, bodyErr error, theirs *bufio.Reader) {
	t.Helper()
	want, err := http.ReadRequest(theirs)
	if err != nil {
		if theirsIsStricter(q, err) {
			t.Skip()
		}
		t.Fatalf("net/http refuses what we accept: %v\n%+v", err, q)
	}
	if want.Method != q.Method || cleanTarget(want.RequestURI) != q.Target {
		t.Fatalf("method or target: %q %q, net/http %q %q", q.Method, q.Target, want.Method, want.RequestURI)
	}
	if !strings.EqualFold(want.Host, q.Authority) && !sameAuthority(want.Host, q.Authority, q.Scheme) {
		t.Fatalf("host: %q, net/http %q", q.Authority, want.Host)
	}
	if q.Framing == Length && want.ContentLength != q.Length || q.Framing == NoBody && want.ContentLength > 0 {
		t.Fatalf("length: %d, net/http %d", q.Length, want.ContentLength)
	}
	wantBody, wantErr := io.ReadAll(want.Body)
	if bodyErr == nil && wantErr != nil || bodyErr == nil && string(wantBody) != body {
		t.Fatalf("body: %q, net/http %q %v", body, wantBody, wantErr)
	}
	for name, value := range q.Fields.All {
		if name := http.CanonicalHeaderKey(name); name != "Host" && name != "Transfer-Encoding" && name != "Trailer" && !hasValue(want.Header[name], value) {
			t.Fatalf("field %q: %q, net/http %q", name, value, want.Header[name])
		}
	}
}

// theirsIsStricter lists what net/http refuses and we accept on purpose.
func theirsIsStricter(q *Request, err error) bool {
	s := err.Error()
	return strings.Contains(s, "invalid URL escape") || strings.Contains(s, "parse \"") ||
		strings.Contains(s, "bad trailer key") || strings.Contains(s, "invalid character") ||
		strings.Contains(s, "unsupported transfer encoding") || strings.Contains(s, "too many transfer encodings")
}

func hasValue(values []string, v string) bool {
	for _, x := range values {
		if x == v {
			return true
		}
	}
	return false
}

// FuzzResponse: whatever is accepted, net/http must read with the same status,
// length and body.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nabc",
		"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		var s Response
		r := NewReader(bytes.NewReader(data), new(Pool), Limits{})
		if err := r.ReadResponse(&s, method); err != nil {
			return
		}
		var b Body
		b.Start(r, s.Framing, s.Length, false)
		body, bodyErr := readAll(&b)
		want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses what we accept: %v", err)
		}
		if want.StatusCode != s.Status {
			t.Fatalf("status %d, net/http %d", s.Status, want.StatusCode)
		}
		wantBody, wantErr := io.ReadAll(want.Body)
		if s.Status >= 200 && bodyErr == nil && (wantErr != nil || string(wantBody) != body) {
			t.Fatalf("body: %q, net/http %q %v", body, wantBody, wantErr)
		}
	})
}

// FuzzChunked: whatever chunked body is accepted, net/http's decoder must decode alike.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "A\r\n0123456789\r\n00\r\nA: b\r\n\r\n", "1;a\r\nb\r\n0\r\n\r\n", "ffffffffffffffff\r\n"} {
		f.Add([]byte(s), uint8(3), true)
		f.Add([]byte(s), uint8(200), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, step uint8, request bool) {
		r := NewReader(&stepReader{data, int(step) + 1}, new(Pool), Limits{})
		var b Body
		b.Start(r, Chunked, 0, request)
		body, err := readAll(&b)
		if err != nil {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if err != nil || string(want) != body {
			t.Fatalf("body %q, net/http %q %v", body, want, err)
		}
	})
}

// stepReader gives at most step bytes at a time.
type stepReader struct {
	data []byte
	step int
}

func (s *stepReader) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.step)], s.data)
	s.data = s.data[n:]
	return n, nil
}
