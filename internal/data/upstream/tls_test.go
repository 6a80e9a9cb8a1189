package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// authority is a certificate authority for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key, a.pem = a.issue(t, tmpl)
	return a
}

// issue signs with the authority, or with the new key itself for the first.
func (a *authority) issue(t *testing.T, tmpl *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (a *authority) leaf(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, n := range names {
		if ip, err := netip.ParseAddr(n); err == nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, net.IP(ip.AsSlice()))
		} else if u, err := url.Parse(n); err == nil && u.Scheme != "" {
			tmpl.URIs = append(tmpl.URIs, u)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	cert, key, _ := a.issue(t, tmpl)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// tlsServer answers "hello" over TLS and tells what each client said.
func tlsServer(t *testing.T, cfg *tls.Config) (netip.AddrPort, <-chan tls.ConnectionState) {
	t.Helper()
	states := make(chan tls.ConnectionState, 64)
	addr := listen(t, func(c net.Conn) {
		s := tls.Server(c, cfg)
		if s.Handshake() == nil {
			states <- s.ConnectionState()
			hello(s)
		}
	})
	return addr, states
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func sans(kind match.StringKind, values ...string) []match.String {
	var out []match.String
	for _, v := range values {
		s := match.String{Kind: kind, Value: v}
		if kind == match.Regex {
			s.Regex = regexp.MustCompile(`\A(?:` + v + `)\z`)
		}
		out = append(out, s)
	}
	return out
}

func TestTLSVerification(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	caFile := write(t, "ca.pem", ca.pem)
	cert := ca.leaf(t, "www.example.com", "*.wild.example.com", "spiffe://cluster.local/ns/a/sa/b", "192.0.2.5")
	addr, _ := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{cert}})
	system := x509.NewCertPool()
	system.AddCert(ca.cert)
	m := manager(t, Options{Roots: system})
	strange := manager(t, Options{Roots: x509.NewCertPool()})

	tests := []struct {
		name      string
		tls       resource.UpstreamTLS
		authority string
		manager   *Manager
		fails     string // part of the error; "": works
	}{
		{"system authorities and the right name", resource.UpstreamTLS{SystemCA: true, SNI: "www.example.com"}, "", m, ""},
		{"CA file", resource.UpstreamTLS{CAFile: caFile, SNI: "www.example.com"}, "", strange, ""},
		{"inline CA", resource.UpstreamTLS{InlineCA: ca.pem, SNI: "www.example.com"}, "", strange, ""},
		{"unknown authority", resource.UpstreamTLS{SystemCA: true, SNI: "www.example.com"}, "", strange, "unknown authority"},
		{"nothing configured means verify", resource.UpstreamTLS{SNI: "www.example.com"}, "", strange, "unknown authority"},
		{"another CA file", resource.UpstreamTLS{CAFile: write(t, "o.pem", other.pem), SNI: "www.example.com"}, "", m, "unknown authority"},
		{"CA file missing", resource.UpstreamTLS{CAFile: filepath.Join(t.TempDir(), "none.pem")}, "", m, "none.pem"},
		{"CA file without a certificate", resource.UpstreamTLS{CAFile: write(t, "bad.pem", []byte("x"))}, "", m, "no certificate"},
		{"wrong name", resource.UpstreamTLS{SystemCA: true, SNI: "evil.example"}, "", m, "not evil.example"},
		{"no name at all: the address", resource.UpstreamTLS{SystemCA: true}, "", m, "127.0.0.1"},
		{"skip verify", resource.UpstreamTLS{SkipVerify: true, SNI: "evil.example"}, "", strange, ""},
		{"SAN exact", resource.UpstreamTLS{SystemCA: true, SNI: "x", SANs: sans(match.Exact, "no.example", "www.example.com")}, "", m, ""},
		{"SAN exact against a wildcard name", resource.UpstreamTLS{SystemCA: true, SNI: "x", SANs: sans(match.Exact, "a.wild.example.com")}, "", m, ""},
		{"SAN exact URI", resource.UpstreamTLS{SystemCA: true, SNI: "x", SANs: sans(match.Exact, "spiffe://cluster.local/ns/a/sa/b")}, "", m, ""},
		{"SAN exact address", resource.UpstreamTLS{SystemCA: true, SNI: "x", SANs: sans(match.Exact, "192.0.2.5")}, "", m, ""},
		{"SAN prefix", resource.UpstreamTLS{SystemCA: true, SNI: "x", SANs: sans(match.Prefix, "spiffe://cluster.local/")}, "", m, ""},
		{"SAN suffix", resource.UpstreamTLS{SystemCA: true, SNI: "x", SANs: sans(match.Suffix, ".example.com")}, "", m, ""},
		{"SAN regex", resource.UpstreamTLS{SystemCA: true, SNI: "x", SANs: sans(match.Regex, "www\\.[a-z]+\\.com")}, "", m, ""},
		{"SAN regex is for the whole name", resource.UpstreamTLS{SystemCA: true, SNI: "x", SANs: sans(match.Regex, "www")}, "", m, "www.example.com"},
		{"no SAN matches, though the SNI would", resource.UpstreamTLS{SystemCA: true, SNI: "www.example.com", SANs: sans(match.Exact, "no.example")}, "", m, "no subject alternative name"},
		{"SANs do not replace the chain", resource.UpstreamTLS{SystemCA: true, SANs: sans(match.Exact, "www.example.com")}, "", strange, "unknown authority"},
		{"auto SNI and SAN", resource.UpstreamTLS{SystemCA: true, AutoSNI: true, AutoSANCheck: true}, "WWW.example.com:443", m, ""},
		{"auto SAN of another host", resource.UpstreamTLS{SystemCA: true, AutoSNI: true, AutoSANCheck: true}, "evil.example", m, "not evil.example"},
		{"auto SAN takes the place of SANs", resource.UpstreamTLS{SystemCA: true, SNI: "x", AutoSANCheck: true, SANs: sans(match.Suffix, ".com")}, "evil.example", m, "not evil.example"},
		{"unsupported", resource.UpstreamTLS{Unsupported: "secrets come from SDS"}, "", m, "secrets come from SDS"},
		{"server too old", resource.UpstreamTLS{SystemCA: true, SNI: "www.example.com", MaxVersion: tls.VersionTLS11}, "", m, ""},
	}
	tests[len(tests)-1].fails = "version"
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := cluster("c"+string(rune('a'+i)), resource.DiscoveryStatic, addr.String())
			c.TLS = &tt.tls
			target := &Target{Authority: tt.authority}
			conn, err := tt.manager.Dial(t.Context(), c, pick(t, tt.manager, c, target), target, nil)
			if tt.fails == "" {
				if err != nil {
					t.Fatal(err)
				}
				readHello(t, conn)
				return
			}
			if err == nil {
				_ = conn.Close()
				t.Fatalf("connected, want an error with %q", tt.fails)
			}
			if err.Reason != reason.UpstreamTLSFailed || err.Flag != "UF" || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("error %q, reason %s; want %q", err, err.Reason, tt.fails)
			}
		})
	}
}

func TestTLSHello(t *testing.T) {
	ca := newAuthority(t)
	addr, states := tlsServer(t, &tls.Config{
		Certificates: []tls.Certificate{ca.leaf(t, "www.example.com")}, NextProtos: []string{"h2", "http/1.1", "istio"},
	})
	m := manager(t, Options{})
	tests := []struct {
		name      string
		tls       resource.UpstreamTLS
		authority string
		sni, alpn string
		key       string
		hostname  string
	}{
		{"the endpoint's name", resource.UpstreamTLS{SNI: "a.example", AutoHostSNI: true}, "b.example", "host.example", "", "host.example", "Host.example"},
		{"the endpoint's name, verified", resource.UpstreamTLS{AutoHostSNI: true, AutoSANCheck: true}, "b.example", "host.example", "", "host.example", "host.example"},
		{"auto SNI before the endpoint's name", resource.UpstreamTLS{AutoSNI: true, AutoHostSNI: true}, "b.example", "b.example", "", "b.example", "host.example"},
		{"an endpoint without a name", resource.UpstreamTLS{SNI: "a.example", AutoHostSNI: true}, "", "a.example", "", "a.example", ""},
		{"fixed SNI", resource.UpstreamTLS{SNI: "a.example"}, "b.example", "a.example", "", "a.example", ""},
		{"auto SNI", resource.UpstreamTLS{AutoSNI: true}, "B.example:8443", "b.example", "", "b.example", ""},
		{"auto SNI without an authority", resource.UpstreamTLS{AutoSNI: true, SNI: "a.example"}, "", "a.example", "", "a.example", ""},
		{"an address is not sent", resource.UpstreamTLS{AutoSNI: true}, "192.0.2.1:443", "", "", "192.0.2.1", ""},
		{"another name to verify", resource.UpstreamTLS{SNI: "a.example", AutoSANCheck: true}, "b.example", "a.example", "", "a.example b.example", ""},
		{"other protocols", resource.UpstreamTLS{ALPN: []string{"istio"}}, "", "", "istio", "", ""},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.tls.SkipVerify = true
			c := cluster("c"+string(rune('a'+i)), resource.DiscoveryStatic, addr.String())
			c.TLS = &tt.tls
			c.Endpoints.Localities[0].Endpoints[0].Hostname = tt.hostname
			target := &Target{Authority: tt.authority}
			h := pick(t, m, c, target)
			if key := m.ConnKey(h, target); key != tt.key {
				t.Errorf("key %q, want %q", key, tt.key)
			}
			conn, err := m.Dial(t.Context(), c, h, target, nil)
			if err != nil {
				t.Fatal(err)
			}
			readHello(t, conn)
			s := <-states
			if diff := cmp.Diff([]string{tt.sni, tt.alpn}, []string{s.ServerName, s.NegotiatedProtocol}); diff != "" {
				t.Errorf("SNI, ALPN (-want +got)\n%s", diff)
			}
		})
	}
}

// TestALPN: a request is never sent in another version of HTTP than the server chose.
func TestALPN(t *testing.T) {
	ca := newAuthority(t)
	addr, states := tlsServer(t, &tls.Config{
		Certificates: []tls.Certificate{ca.leaf(t, "www.example.com")}, NextProtos: []string{"h2", "http/1.1", "istio"},
	})
	m := manager(t, Options{})
	one, two, either := []string{"http/1.1"}, []string{"h2"}, []string{"h2", "http/1.1"}
	for i, tt := range []struct {
		configured, request []string
		want                string
	}{
		{nil, nil, ""},
		{nil, one, "http/1.1"},
		{nil, two, "h2"},
		{either, nil, "h2"},
		{either, one, "http/1.1"},
		{either, two, "h2"},
		{either, either, "h2"},
		{two, one, "http/1.1"},
		{one, two, "h2"},
		{[]string{"istio", "h2"}, one, "istio"},
	} {
		c := cluster(fmt.Sprintf("alpn%d", i), resource.DiscoveryStatic, addr.String())
		c.TLS = &resource.UpstreamTLS{SkipVerify: true, ALPN: tt.configured}
		target := &Target{ALPN: tt.request}
		conn, err := m.Dial(t.Context(), c, pick(t, m, c, target), target, nil)
		if err != nil {
			t.Fatal(err)
		}
		readHello(t, conn)
		if s := <-states; s.NegotiatedProtocol != tt.want {
			t.Errorf("configured %q, request %q: %q, want %q", tt.configured, tt.request, s.NegotiatedProtocol, tt.want)
		}
	}
}

func TestTLSClientCertificateIsReadAgain(t *testing.T) {
	ca := newAuthority(t)
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	addr, states := tlsServer(t, &tls.Config{
		Certificates: []tls.Certificate{ca.leaf(t, "www.example.com")}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled: true,
	})
	dir := t.TempDir()
	spec := &resource.UpstreamTLS{SkipVerify: true, CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	m := manager(t, Options{})
	c := cluster("c", resource.DiscoveryStatic, addr.String())
	c.TLS = spec
	dial := func() (net.Conn, *Error) { return m.Dial(t.Context(), c, pick(t, m, c, nil), nil, nil) }
	if _, err := dial(); err == nil || !strings.Contains(err.Error(), "cert.pem") {
		t.Errorf("without the file: %v", err)
	}
	for _, name := range []string{"one.example", "two.longer.example"} {
		cert := ca.leaf(t, name)
		key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		replace(t, spec.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
		replace(t, spec.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}))
		conn, derr := dial()
		if derr != nil {
			t.Fatal(derr)
		}
		readHello(t, conn)
		if got := (<-states).PeerCertificates[0].DNSNames[0]; got != name {
			t.Errorf("the client certificate is %s, want %s", got, name)
		}
	}
}

// replace renames a new file over the old one, as those who rotate files do.
func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestTransportSocketMatches(t *testing.T) {
	ca := newAuthority(t)
	secure, _ := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, "www.example.com")}})
	plain := listen(t, hello)
	m := manager(t, Options{})
	istio := resource.TLSMatch{Name: "tlsMode-istio", Labels: map[string]string{"tlsMode": "istio"}, TLS: &resource.UpstreamTLS{SkipVerify: true}}
	disabled := resource.TLSMatch{Name: "tlsMode-disabled", Labels: map[string]string{}}
	own := &resource.UpstreamTLS{SkipVerify: true}
	tests := []struct {
		name    string
		labels  map[string]string
		matches []resource.TLSMatch
		tls     *resource.UpstreamTLS
		want    bool
	}{
		{"labels match", map[string]string{"tlsMode": "istio", "x": "y"}, []resource.TLSMatch{istio, disabled}, nil, true},
		{"no label", nil, []resource.TLSMatch{istio, disabled}, own, false},
		{"another value", map[string]string{"tlsMode": "x"}, []resource.TLSMatch{istio, disabled}, nil, false},
		{"none matches: the cluster's own", nil, []resource.TLSMatch{istio}, own, true},
		{"the first that matches", map[string]string{"tlsMode": "istio"}, []resource.TLSMatch{disabled, istio}, own, false},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := plain
			if tt.want {
				addr = secure
			}
			c := &config.Cluster{Cluster: &resource.Cluster{Name: "c" + string(rune('a'+i)), Discovery: resource.DiscoveryEDS, TLS: tt.tls, TLSMatches: tt.matches}}
			c.Endpoints = &resource.Endpoints{Localities: []resource.Locality{{Endpoints: []resource.Endpoint{{Address: addr, TLSLabels: tt.labels}}}}}
			h := pick(t, m, c, nil)
			if h.TLS() != tt.want {
				t.Fatalf("TLS: %v", h.TLS())
			}
			conn, err := m.Dial(t.Context(), c, h, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			readHello(t, conn)
		})
	}
}

// TestHandshakeIsBoundByTheConnectTimeout: a server that accepts and says nothing.
func TestHandshakeIsBoundByTheConnectTimeout(t *testing.T) {
	silent := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<16)); _, _ = c.Read(make([]byte, 1)) })
	m := manager(t, Options{})
	c := cluster("c", resource.DiscoveryStatic, silent.String())
	c.TLS, c.ConnectTimeout = &resource.UpstreamTLS{SkipVerify: true}, 50*time.Millisecond
	_, err := m.Dial(t.Context(), c, pick(t, m, c, nil), nil, nil)
	if err == nil || err.Reason != reason.UpstreamTLSFailed {
		t.Errorf("error %v", err)
	}
}
