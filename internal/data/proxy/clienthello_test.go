package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// captureHello is the first flight of a crypto/tls client.
func captureHello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, c).Handshake()
		_ = client.Close()
	}()
	var b []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		b = append(b, buf[:n]...)
		if err != nil {
			t.Fatal(err)
		}
		if n := int(b[3])<<8 | int(b[4]); len(b) >= 5+n {
			_ = server.Close()
			<-done
			return b
		}
	}
}

// ext is one extension; helloBytes builds a ClientHello record from parts.
func ext(kind uint16, body []byte) []byte {
	return append([]byte{byte(kind >> 8), byte(kind), byte(len(body) >> 8), byte(len(body))}, body...)
}

func sniExt(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, 0, byte(len(n)>>8), byte(len(n)))
		list = append(list, n...)
	}
	return ext(extServerName, append([]byte{byte(len(list) >> 8), byte(len(list))}, list...))
}

func helloBytes(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0)                // session
	body = append(body, 0, 2, 0x13, 0x01) // suites
	body = append(body, 1, 0)             // compressions
	if all := slices.Concat(extensions...); extensions != nil {
		body = append(body, byte(len(all)>>8), byte(len(all)))
		body = append(body, all...)
	}
	return record22(append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...))
}

func record22(b []byte) []byte {
	return append([]byte{22, 3, 1, byte(len(b) >> 8), byte(len(b))}, b...)
}

// fragmented cuts the message of a one-record hello into records of size bytes.
func fragmented(b []byte, size int) []byte {
	var out []byte
	for chunk := range slices.Chunk(b[5:], size) {
		out = append(out, record22(chunk)...)
	}
	return out
}

func TestParseClientHello(t *testing.T) {
	plain := captureHello(t, &tls.Config{ServerName: "WWW.Wikipedia.org", NextProtos: []string{"h2", "http/1.1"}})
	want := hello{sni: "www.wikipedia.org", alpn: []string{"h2", "http/1.1"}}
	withVersion := func(v byte) []byte { b := slices.Clone(plain); b[1] = v; return b }
	tests := map[string]struct {
		bytes []byte
		want  hello
		err   error
	}{
		"crypto/tls":                {plain, want, nil},
		"followed by more":          {append(slices.Clone(plain), "early data"...), want, nil},
		"in records of 1 byte":      {fragmented(plain, 1), want, nil},
		"in records of 3 bytes":     {fragmented(plain, 3), want, nil},
		"in records of 50 bytes":    {fragmented(plain, 50), want, nil},
		"no server name":            {captureHello(t, &tls.Config{InsecureSkipVerify: true}), hello{}, nil},
		"no extensions":             {helloBytes(), hello{}, nil},
		"TLS 1.2":                   {captureHello(t, &tls.Config{ServerName: "a.example", MaxVersion: tls.VersionTLS12}), hello{sni: "a.example"}, nil},
		"ECH outer":                 {helloBytes(sniExt("public.example"), ext(extECH, []byte{0, 1, 2, 3})), hello{sni: "public.example", ech: true}, nil},
		"underscore":                {helloBytes(sniExt("a_b.example")), hello{sni: "a_b.example"}, nil},
		"nothing":                   {nil, hello{}, errMore},
		"one byte":                  {plain[:1], hello{}, errMore},
		"cut":                       {plain[:len(plain)-1], hello{}, errMore},
		"cut in fragments":          {fragmented(plain, 7)[:200], hello{}, errMore},
		"HTTP":                      {[]byte("GET / HTTP/1.1\r\n"), hello{}, errNotTLS},
		"SSLv2":                     {[]byte{0x80, 0x2e, 1, 0, 2}, hello{}, errNotTLS},
		"binary that begins alike":  {[]byte{22, 0, 0, 0, 9, 1, 0, 0, 5}, hello{}, errMore},
		"binary, whole":             {[]byte{22, 0, 0, 0, 1, 2, 9, 9, 9, 9}, hello{}, errNotTLS},
		"binary, large":             {[]byte{22, 0x20, 0, 0, 1}, hello{}, errNotTLS},
		"another record version":    {withVersion(2), hello{}, errBadHello},
		"alert before the hello":    {append([]byte{21, 3, 1, 0, 2, 1, 0}, plain...), hello{}, errBadHello},
		"empty record":              {append([]byte{22, 3, 1, 0, 0}, plain...), hello{}, errBadHello},
		"server hello":              {record22([]byte{2, 0, 0, 0}), hello{}, errBadHello},
		"another record within":     {append(fragmented(plain, 9)[:14], 23, 3, 3, 0, 1, 0), hello{}, errBadHello},
		"a record too large":        {[]byte{22, 3, 1, 0xff, 0xff, 1, 0, 0, 0}, hello{}, errBadHello},
		"a message too large":       {record22([]byte{1, 0x10, 0, 0}), hello{}, errBadHello},
		"two server names":          {helloBytes(sniExt("a.example", "b.example")), hello{}, errBadHello},
		"server name twice":         {helloBytes(sniExt("a.example"), sniExt("b.example")), hello{}, errBadHello},
		"empty server name":         {helloBytes(sniExt("")), hello{}, errBadHello},
		"NUL in the server name":    {helloBytes(sniExt("a.example\x00.b.example")), hello{}, errBadHello},
		"space in the server name":  {helloBytes(sniExt("a b")), hello{}, errBadHello},
		"newline":                   {helloBytes(sniExt("a\nb")), hello{}, errBadHello},
		"dot at the end":            {helloBytes(sniExt("a.example.")), hello{}, errBadHello},
		"two dots":                  {helloBytes(sniExt("a..example")), hello{}, errBadHello},
		"not a host_name":           {helloBytes(ext(extServerName, []byte{0, 4, 1, 0, 1, 'a'})), hello{}, errBadHello},
		"server name list cut":      {helloBytes(ext(extServerName, []byte{0, 9, 0, 0, 1, 'a'})), hello{}, errBadHello},
		"bytes after the name list": {helloBytes(ext(extServerName, []byte{0, 4, 0, 0, 1, 'a', 0})), hello{}, errBadHello},
		"empty ALPN":                {helloBytes(ext(extALPN, []byte{0, 0})), hello{}, errBadHello},
		"empty ALPN name":           {helloBytes(ext(extALPN, []byte{0, 1, 0})), hello{}, errBadHello},
		"extension cut":             {helloBytes([]byte{0, 0, 0, 9, 1}), hello{}, errBadHello},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseClientHello(tc.bytes)
			if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(hello{})); diff != "" {
				t.Error(diff)
			}
		})
	}
	for i := range plain { // each beginning of a hello asks for more, never decides
		if _, err := parseClientHello(plain[:i]); !errors.Is(err, errMore) {
			t.Fatalf("after %d bytes: %v", i, err)
		}
	}
}

// bytesConn gives bytes to a TLS server and swallows what it answers.
type bytesConn struct {
	io.Reader
	net.Conn
}

func (c bytesConn) Read(b []byte) (int, error)       { return c.Reader.Read(b) }
func (c bytesConn) Write(b []byte) (int, error)      { return len(b), nil }
func (c bytesConn) Close() error                     { return nil }
func (c bytesConn) SetDeadline(time.Time) error      { return nil }
func (c bytesConn) SetWriteDeadline(time.Time) error { return nil }
func (c bytesConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// asServer is what crypto/tls, as a server, understands of the bytes.
func asServer(b []byte) (name string, understood bool) {
	stop := errors.New("stop")
	_ = tls.Server(bytesConn{Reader: bytes.NewReader(b)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, understood = h.ServerName, true
			return nil, stop
		},
	}).Handshake()
	return name, understood
}

// What a TLS server takes for a ClientHello must be seen as one, with the same name, or be refused.
func FuzzParseClientHello(f *testing.F) {
	plain := captureHello(f, &tls.Config{ServerName: "www.wikipedia.org", NextProtos: []string{"h2"}})
	f.Add(plain)
	f.Add(fragmented(plain, 1))
	f.Add(fragmented(plain, 100))
	f.Add(helloBytes(sniExt("a.example"), ext(extALPN, []byte{0, 3, 2, 'h', '2'})))
	f.Add(helloBytes())
	f.Add(append([]byte{21, 3, 1, 0, 2, 1, 0}, plain...))
	f.Add([]byte{22, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxSniff {
			b = b[:maxSniff]
		}
		h, err := parseClientHello(b)
		if name, understood := asServer(b); understood {
			switch {
			case errors.Is(err, errNotTLS), errors.Is(err, errMore):
				t.Fatalf("a server sees %q, we say %v", name, err)
			case err == nil && h.sni != strings.ToLower(name):
				t.Fatalf("a server sees %q, we see %q", name, h.sni)
			}
		}
		if err == nil && strings.ContainsAny(h.sni, "\x00\r\n \"") {
			t.Fatalf("name %q", h.sni)
		}
	})
}

func TestDetectHTTP(t *testing.T) {
	long := strings.Repeat("x", maxSniff)
	tests := map[string]struct {
		want string
		err  error
	}{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n": {http11, nil},
		"GET / HTTP/1.0\n":                  {http10, nil},
		"CONNECT a:443 HTTP/1.1\r\n":        {http11, nil},
		"CUSTOM /x HTTP/1.1\r\n":            {http11, nil},
		"GET / HTTP/3.7\r\n":                {http11, nil}, // the codec refuses it
		"GET /\r\n":                         {http11, nil},
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":  {http2c, nil},
		"PRI * HT":                          {"", errMore},
		"P":                                 {"", errMore},
		"":                                  {"", errMore},
		"GET /" + long[:100]:                {"", errMore},
		"GET /" + long[5:]:                  {http11, nil},
		"FOO /" + long[5:]:                  {"", errNotHTTP},
		"EHLO mail.example\r\n":             {"", errNotHTTP},
		"SSH-2.0-OpenSSH_9.6\r\n":           {"", errNotHTTP},
		"\x16\x03\x01":                      {"", errNotHTTP},
		" GET / HTTP/1.1\r\n":               {"", errNotHTTP},
		"\r\nGET / HTTP/1.1\r\n":            {"", errNotHTTP},
		"AVERYLONGWORDTHATISNOMETHODATALLFORSURE /":     {"", errNotHTTP},
		"*3\r\n$3\r\nSET\r\n":                           {"", errNotHTTP},
		"GET http://a.example/ HTTP/1.1\r\nHost: b\r\n": {http11, nil},
	}
	for in, tc := range tests {
		got, err := detectHTTP([]byte(in))
		if got != tc.want || !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
			t.Errorf("%.40q: %q, %v; want %q, %v", in, got, err, tc.want, tc.err)
		}
	}
}

func FuzzDetectHTTP(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte(http2Preface))
	f.Fuzz(func(t *testing.T, b []byte) {
		word, err := detectHTTP(b)
		if (word == "") != (err != nil) {
			t.Fatalf("%q, %v", word, err)
		}
		if errors.Is(err, errMore) && len(b) >= maxSniff {
			t.Fatal("more bytes are asked for than may be read")
		}
		if errors.Is(err, errNotHTTP) { // more bytes do not change that
			if _, again := detectHTTP(append(slices.Clone(b), " / HTTP/1.1\r\n"...)); again == nil && len(b) < maxSniff {
				t.Fatalf("%q is not HTTP, and with more bytes it is", b)
			}
		}
	})
}
