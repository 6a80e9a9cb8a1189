package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// What is looked for is found whatever the pieces are that it comes in, and never more
// than maxSniff bytes are read.
func TestLook(t *testing.T) {
	hello := string(captureHello(t, &tls.Config{ServerName: "a.example"}))
	tests := map[string]struct {
		say       string
		tls, http bool
		// The result.
		isTLS    bool
		protocol string
		bad      error
		most     int
	}{
		"HTTP":                      {say: "GET / HTTP/1.1\r\n", tls: true, http: true, protocol: http11},
		"HTTP not looked for":       {say: "GET / HTTP/1.1\r\n", tls: true},
		"TLS":                       {say: hello, tls: true, http: true, isTLS: true},
		"TLS not looked for":        {say: hello, http: true},
		"a line without end":        {say: "GET /" + strings.Repeat("x", 2*maxSniff), tls: true, http: true, protocol: http11, most: maxSniff},
		"a hello without end":       {say: "\x16\x03\x01\x40\x00\x01\x00\x3f\xf0" + strings.Repeat("x", 2*maxSniff), tls: true, http: true, bad: errBadHello, most: maxSniff},
		"a hello that stops":        {say: hello[:50], tls: true, http: true, bad: errHelloTimeout},
		"a request line that stops": {say: "GET /", tls: true, http: true, protocol: http11},
		"a word that stops":         {say: "GE", tls: true, http: true},
		"garbage":                   {say: "\x00\x01\x02", tls: true, http: true},
	}
	for name, tc := range tests {
		for _, chunk := range []int{1, 7, 1 << 20} {
			if chunk == 1 && len(tc.say) > maxSniff {
				continue // quadratic, and no other case than with 7
			}
			client, server := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				for rest := tc.say; rest != ""; {
					n, err := client.Write([]byte(rest[:min(chunk, len(rest))]))
					if err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			timeout := patience
			if tc.bad == errHelloTimeout || strings.HasSuffix(name, "stops") {
				timeout = 300 * time.Millisecond
			}
			var s sniffed
			s.look(server, tc.tls, tc.http, timeout, timeout)
			_ = server.Close()
			<-done
			_ = client.Close()
			if s.tls != tc.isTLS || s.http != tc.protocol || !errors.Is(s.bad, tc.bad) || tc.most > 0 && len(s.bytes) > tc.most {
				t.Errorf("%s in pieces of %d: tls %v, http %q, bad %v, %d bytes", name, chunk, s.tls, s.http, s.bad, len(s.bytes))
			}
		}
	}
}
