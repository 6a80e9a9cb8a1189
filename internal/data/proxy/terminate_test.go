package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	nethttp "net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)
	return &authority{t: t, cert: must(x509.ParseCertificate(der))(t), key: key, pem: toPEM("CERTIFICATE", der), next: 2}
}

func toPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue makes a certificate and its key in PEM, good for server and client.
func (a *authority) issue(names ...string) (cert, key []byte) {
	a.t.Helper()
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(a.t)
	a.next++
	template := &x509.Certificate{SerialNumber: big.NewInt(a.next), DNSNames: names, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key))(a.t)
	return toPEM("CERTIFICATE", der), toPEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(k))(a.t))
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) inline(names ...string) resource.Certificate {
	cert, key := a.issue(names...)
	return resource.Certificate{InlineCert: cert, InlineKey: key}
}

// terminating serves HTTPS for one host on a listener like a gateway's.
func terminating(origin string, spec *resource.DownstreamTLS, inspect bool) *config.Config {
	cfg := httpConfig(netip.MustParseAddrPort(origin), "a.example")
	l := listenerOn(443, &resource.FilterChain{Name: "https", TLS: spec, HTTP: cfg.Listener("0.0.0.0_80").FilterChains[0].HTTP})
	l.InspectTLS = inspect
	return configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("web", netip.MustParseAddrPort(origin)))
}

// web answers with the scheme and host that arrive.
func web(t *testing.T) string {
	return serve(t, func(c *net.TCPConn) {
		for r := bufio.NewReader(c); ; {
			req, err := nethttp.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n"+fixed(req.Header.Get("x-forwarded-proto")+" "+req.Host, 21))
		}
	}).String()
}

func fixed(s string, n int) string { return (s + strings.Repeat(".", n))[:n] }

func TestTerminate(t *testing.T) {
	ca, strange := newAuthority(t), newAuthority(t)
	clientOf := func(a *authority, names ...string) *tls.Config {
		cert, key := a.issue(names...)
		return &tls.Config{Certificates: []tls.Certificate{must(tls.X509KeyPair(cert, key))(t)}}
	}
	server := func(change func(*resource.DownstreamTLS)) *resource.DownstreamTLS {
		spec := &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}}
		if change != nil {
			change(spec)
		}
		return spec
	}
	mutual := func(s *resource.DownstreamTLS) {
		s.RequireClientCertificate = true
		s.Verify = &resource.Verification{InlineCA: ca.pem, SANs: []match.String{{Kind: match.Exact, Value: "client.example"}}}
	}
	optional := func(s *resource.DownstreamTLS) { s.Verify = &resource.Verification{InlineCA: ca.pem} }
	tests := []struct {
		name   string
		spec   *resource.DownstreamTLS
		client *tls.Config
		want   string // what the client gets, or a part of its error
		log    string // of a refusal
	}{
		{"simple", server(nil), &tls.Config{}, "200", ""},
		{"protocols that both know", server(func(s *resource.DownstreamTLS) { s.ALPN = []string{"istio-http/1.1", "http/1.1"} }),
			&tls.Config{NextProtos: []string{"istio-http/1.1", "http/1.1"}}, "200 http/1.1", ""},
		{"a client that would rather speak HTTP/2, where only HTTP/1.1 is offered", server(func(s *resource.DownstreamTLS) { s.ALPN = []string{"http/1.1"} }),
			&tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "200 http/1.1", ""},
		{"no protocol in common is no obstacle, as in Envoy", server(func(s *resource.DownstreamTLS) { s.ALPN = []string{"http/1.1"} }),
			&tls.Config{NextProtos: []string{"foo"}}, "200 -", ""},
		{"too old a client", server(func(s *resource.DownstreamTLS) { s.MinVersion = tls.VersionTLS13 }),
			&tls.Config{MaxVersion: tls.VersionTLS12}, "protocol version not supported", "downstream_tls_failed"},
		{"newest version", server(func(s *resource.DownstreamTLS) { s.MaxVersion = tls.VersionTLS12 }), &tls.Config{}, "200", ""},
		{"cipher suites", server(func(s *resource.DownstreamTLS) {
			s.MaxVersion, s.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}), &tls.Config{CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, "handshake failure", "downstream_tls_failed"},
		{"mutual", server(mutual), clientOf(ca, "client.example"), "200", ""},
		{"mutual, without a certificate", server(mutual), &tls.Config{}, "certificate required", "downstream_tls_failed"},
		{"mutual, of another authority", server(mutual), clientOf(strange, "client.example"), "bad certificate", "downstream_tls_failed"},
		{"mutual, with another name", server(mutual), clientOf(ca, "other.example"), "bad certificate", "downstream_tls_failed"},
		{"optional, without", server(optional), &tls.Config{}, "200", ""},
		{"optional, of another authority", server(optional), clientOf(strange, "x.example"), "bad certificate", "downstream_tls_failed"},
		{"the certificate that has the name", server(func(s *resource.DownstreamTLS) {
			s.Certificates = []resource.Certificate{strange.inline("b.example"), ca.inline("a.example")}
		}), &tls.Config{}, "200", ""},
		{"the files are not there", &resource.DownstreamTLS{Certificates: []resource.Certificate{{CertFile: "/none.pem", KeyFile: "/none.key"}}},
			&tls.Config{}, "EOF", "downstream_tls_failed"},
	}
	origin := web(t)
	for _, tc := range tests {
		for name, inspect := range map[string]bool{"": true, " (no inspector)": false} {
			t.Run(tc.name+name, func(t *testing.T) {
				r := start(t, terminating(origin, tc.spec, inspect), "10.1.2.3:443")
				got := overTLS(t, r.dial(), tc.client, ca)
				if !strings.Contains(got, tc.want) {
					t.Errorf("%s, want %s", got, tc.want)
				}
				if tc.log != "" {
					sni := "a.example"
					if !inspect {
						sni = "-"
					}
					r.logged(tc.log + " - 0 0 " + sni + " -")
				}
			})
		}
	}
}

// overTLS asks a.example over TLS: status, protocol and body, or the error.
func overTLS(t *testing.T, raw net.Conn, client *tls.Config, ca *authority) string {
	t.Helper()
	defer raw.Close()
	cfg := client.Clone()
	cfg.RootCAs, cfg.ServerName = ca.pool(), "a.example"
	c := tls.Client(raw, cfg)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"); err != nil {
		return err.Error()
	}
	resp, err := nethttp.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error()
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasPrefix(string(body), "https a.example") {
		t.Errorf("%q, %v", body, err)
	}
	proto := c.ConnectionState().NegotiatedProtocol
	if proto == "" {
		proto = "-"
	}
	return resp.Status[:3] + " " + proto
}

// The access log tells the session, of requests and of TCP connections.
func TestTLSIsLogged(t *testing.T) {
	ca := newAuthority(t)
	spec := &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}, MaxVersion: tls.VersionTLS12, Verify: &resource.Verification{InlineCA: ca.pem}}
	cert, key := ca.issue("client.example")
	client := &tls.Config{Certificates: []tls.Certificate{must(tls.X509KeyPair(cert, key))(t)}}
	cfg := terminating(web(t), spec, true)
	format := []resource.AccessLog{{Path: "log", Text: "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_DNS_SAN%\n"}}
	cfg.Listener("0.0.0.0_443").FilterChains[0].HTTP.AccessLogs = format
	r := start(t, cfg, "10.1.2.3:443")
	if got := overTLS(t, r.dial(), client, ca); !strings.HasPrefix(got, "200") {
		t.Fatal(got)
	}
	r.logged("TLSv1.2 client.example")
	chain := tcpChain("web")
	chain.TLS, chain.TCP.AccessLogs = spec, format
	l := listenerOn(443, chain)
	l.InspectTLS = true
	r = start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("web", netip.MustParseAddrPort(web(t)))), "10.1.2.3:443")
	tcp := client.Clone()
	tcp.ServerName, tcp.RootCAs = "a.example", ca.pool()
	c := tls.Client(r.dial(), tcp)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	r.logged("TLSv1.2 client.example")
}

// HTTP/2 is agreed on by ALPN and spoken inside of TLS that is ended here.
func TestHTTP2InsideOfTLS(t *testing.T) {
	ca := newAuthority(t)
	spec := &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}, ALPN: []string{"h2", "http/1.1"}}
	r := start(t, terminating(web(t), spec, true), "10.1.2.3:443")
	transport := &nethttp.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: ca.pool(), ServerName: "a.example"},
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", r.address()) }}
	defer transport.CloseIdleConnections()
	client := &nethttp.Client{Transport: transport, Timeout: patience}
	for range 3 {
		resp := must(client.Get("https://a.example/"))(t)
		body := must(io.ReadAll(resp.Body))(t)
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != 200 || !strings.HasPrefix(string(body), "https a.example") {
			t.Errorf("%s %d %q", resp.Proto, resp.StatusCode, body)
		}
	}
}

// A certificate is read again when its files were replaced; while they do not fit to
// each other the last good one is served.
func TestCertificateIsReadAgain(t *testing.T) {
	first, second := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	spec := &resource.DownstreamTLS{Certificates: []resource.Certificate{{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}}}
	put := func(name string, data []byte) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := first.issue("a.example")
	put("cert.pem", cert)
	put("key.pem", key)
	r := start(t, terminating(web(t), spec, true), "10.1.2.3:443")
	for _, step := range []struct {
		change func()
		ca     *authority
	}{
		{func() {}, first},
		{func() { cert, key = second.issue("a.example"); put("cert.pem", cert) }, first},
		{func() { put("key.pem", key) }, second},
		{func() { put("key.pem", []byte("broken")) }, second},
	} {
		step.change()
		if got := overTLS(t, r.dial(), &tls.Config{}, step.ca); !strings.HasPrefix(got, "200") {
			t.Errorf("%s", got)
		}
	}
}

// Bytes of a TCP chain go in the clear to the upstream, both ways, and the ends of
// both directions are passed on.
func TestTerminateTCP(t *testing.T) {
	ca := newAuthority(t)
	origin := serve(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		_, _ = c.Write(append([]byte("got "), b...))
	})
	chain := tcpChain("db")
	chain.TLS = &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}, ALPN: []string{"postgresql"}}
	l := listenerOn(5432, chain)
	l.InspectTLS = true
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("db", origin)), "10.1.2.3:5432")
	c := tls.Client(r.dial(), &tls.Config{RootCAs: ca.pool(), ServerName: "a.example", NextProtos: []string{"postgresql"}})
	if _, err := c.Write([]byte("query")); err != nil {
		t.Fatal(err)
	}
	if got := c.ConnectionState().NegotiatedProtocol; got != "postgresql" {
		t.Errorf("protocol %q", got)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := string(must(io.ReadAll(c))(t)); got != "got query" {
		t.Errorf("%q", got)
	}
	r.logged("- db 5 9 a.example -")
}

// What does not begin as TLS, or never ends its hello, is refused and recorded.
func TestTerminateRefuses(t *testing.T) {
	ca := newAuthority(t)
	spec := func() *resource.DownstreamTLS {
		return &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}, HandshakeTimeout: 50 * time.Millisecond}
	}
	plain := captureHello(t, &tls.Config{ServerName: "a.example"})
	for name, first := range map[string]string{
		"plain HTTP":             "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"nothing":                "",
		"half a hello":           string(plain[:len(plain)/2]),
		"a hello, and then none": string(plain),
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, terminating("127.0.0.1:1", spec(), false), "10.1.2.3:443")
			c := r.dial()
			if _, err := io.WriteString(c, first); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, c) // until it is closed
			r.logged("downstream_tls_failed - 0 0 - -")
		})
	}
}

// Sessions are resumed, and the client's certificate is judged again then.
func TestSessionResumption(t *testing.T) {
	ca := newAuthority(t)
	for name, without := range map[string]bool{"tickets": false, "no tickets": true} {
		t.Run(name, func(t *testing.T) {
			spec := &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}, NoSessionTickets: without, ALPN: []string{"http/1.1"}}
			r := start(t, terminating(web(t), spec, true), "10.1.2.3:443")
			cache := tls.NewLRUClientSessionCache(1)
			resumed := false
			for range 2 {
				c := tls.Client(r.dial(), &tls.Config{RootCAs: ca.pool(), ServerName: "a.example", ClientSessionCache: cache, NextProtos: []string{"http/1.1"}})
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
				if _, err := nethttp.ReadResponse(bufio.NewReader(c), nil); err != nil {
					t.Fatal(err)
				}
				resumed = c.ConnectionState().DidResume
				_ = c.Close()
			}
			if resumed == without {
				t.Errorf("resumed: %v", resumed)
			}
		})
	}
}

// A new certificate for clients, or a new authority, drains the connections that were
// made under the old one, and no others.
func TestTLSChangeDrains(t *testing.T) {
	ca := newAuthority(t)
	origin := web(t)
	spec := &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}}
	r := start(t, terminating(origin, spec, true), "10.1.2.3:443")
	c := tls.Client(r.dial(), &tls.Config{RootCAs: ca.pool(), ServerName: "a.example"})
	br := bufio.NewReader(c)
	ask := func() {
		t.Helper()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
		resp := must(nethttp.ReadResponse(br, nil))(t)
		_ = must(io.ReadAll(resp.Body))(t)
		if resp.Close {
			t.Error("the connection is drained")
		}
	}
	ask()
	same := *spec
	r.source.set(terminating(origin, &same, true))
	eventually(t, "the configuration", func() bool { return r.proxy.servers.len() == 0 })
	ask()
	changed := same
	changed.Verify, changed.RequireClientCertificate = &resource.Verification{InlineCA: ca.pem}, true
	r.source.set(terminating(origin, &changed, true))
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("%v, want the end of the connection", err)
	}
	r.connections(0)
}

func (s *servers) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// What is known of the client's TLS and certificate is on the record of its requests.
func TestTLSOnTheRecord(t *testing.T) {
	ca := newAuthority(t)
	spec := &resource.DownstreamTLS{Certificates: []resource.Certificate{ca.inline("a.example")}, RequireClientCertificate: true,
		Verify: &resource.Verification{InlineCA: ca.pem}}
	cfg := terminating(web(t), spec, true)
	cfg.Listener("0.0.0.0_443").FilterChains[0].HTTP.AccessLogs = []resource.AccessLog{{Path: "log",
		Text: "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_DNS_SAN% %FILTER_CHAIN_NAME% %CONNECTION_ID% %UPSTREAM_PROTOCOL% %UPSTREAM_TLS_VERSION%\n"}}
	r := start(t, cfg, "10.1.2.3:443")
	cert, key := ca.issue("client.example")
	c := tls.Client(r.dial(), &tls.Config{ServerName: "a.example", RootCAs: ca.pool(), Certificates: []tls.Certificate{must(tls.X509KeyPair(cert, key))(t)}})
	if got := ask(t, c, bufio.NewReader(c), "a.example"); !strings.HasPrefix(got, "200 ") {
		t.Fatal(got)
	}
	r.logged("TLSv1.3 client.example https 1 HTTP/1.1 -")
}
