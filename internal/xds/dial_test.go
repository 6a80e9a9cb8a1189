package xds

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// authority signs certificates and writes them as files.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.path("ca.pem"), "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes name.pem and name.key: a certificate for a SPIFFE name, until then.
func (a *authority) issue(t *testing.T, name string, until time.Time) TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(until.UnixNano()), Subject: pkix.Name{CommonName: name},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/" + name}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	der2, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := TLS{CA: a.path("ca.pem"), Cert: a.path(name + ".pem"), Key: a.path(name + ".key")}
	writePEM(t, out.Key, "PRIVATE KEY", der2)
	writePEM(t, out.Cert, "CERTIFICATE", der)
	return out
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path+"~", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

// listen serves s over TCP on loopback until stop or the end of the test; address "" is a
// free one.
func listen(t *testing.T, s *Server, address string, secured *TLS) (at string, stop func()) {
	t.Helper()
	options := GRPCOptions()
	if secured != nil {
		creds, err := secured.ServerCredentials()
		if err != nil {
			t.Fatal(err)
		}
		options = append(options, grpc.Creds(creds))
	}
	if address == "" {
		address = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	s.Register(server)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	stop = sync.OnceFunc(func() {
		server.Stop()
		<-served
	})
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

func dialTo(t *testing.T, address string, secured *TLS) *grpc.ClientConn {
	t.Helper()
	c, err := Dial(address, secured, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// diary is a log that can be read.
type diary struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (d *diary) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(b)
}

func (d *diary) logger() *slog.Logger { return slog.New(slog.NewTextHandler(d, nil)) }

// count is how many lines have a text.
func (d *diary) count(text string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for line := range strings.Lines(d.text.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func quick(o ClientOptions) ClientOptions {
	o.Node, o.Delta = node("sidecar~1"), true
	o.MinBackoff, o.MaxBackoff = time.Millisecond, 10*time.Millisecond
	return o
}

func lab(t *testing.T) Snapshot {
	return snapshot(t, map[string][]string{
		ClusterType: {"c=1", "d=1"}, EndpointType: {"c=1", "d=1"}, ListenerType: {"l=1"}, RouteType: {"l=1"}, NameTableType: {"=1"},
	})
}

// Over TLS each side wants to know who the other one is.
func TestMutualTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	day := time.Now().Add(24 * time.Hour)
	server := a.issue(t, "istiod", day)
	good := a.issue(t, "proxy", day)
	good.Names = []string{"spiffe://cluster.local/istiod"}
	of := func(change func(*TLS)) TLS {
		c := good
		change(&c)
		return c
	}
	foreign := stranger.issue(t, "proxy", day)
	for name, c := range map[string]struct {
		client TLS
		want   string // "": it works
	}{
		"both known":               {good, ""},
		"no certificate":           {of(func(c *TLS) { c.Cert, c.Key = "", "" }), "connection error"},
		"of another authority":     {of(func(c *TLS) { c.Cert, c.Key = foreign.Cert, foreign.Key }), "connection error"},
		"expired":                  {of(func(c *TLS) { x := a.issue(t, "old", time.Now().Add(-time.Hour)); c.Cert, c.Key = x.Cert, x.Key }), "connection error"},
		"a server of another name": {of(func(c *TLS) { c.Names = []string{"spiffe://cluster.local/other"} }), "certificate"},
		"a server of nobody":       {of(func(c *TLS) { c.CA = stranger.path("ca.pem") }), "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			snap := lab(t)
			s := NewServer(&generator{snap: snap}, ServerOptions{})
			at, _ := listen(t, s, "", &server)
			store := newStore()
			client := NewClient(dialTo(t, at, &c.client), quick(ClientOptions{Handler: store}))
			follow(store, client)
			run(t, client)
			if c.want == "" {
				store.await(t, snap)
				return
			}
			eventually(t, nil, "the handshake fails", func() bool { return strings.Contains(client.Status().LastError, c.want) })
			if store.has(Snapshot{ClusterType: snap[ClusterType]}) {
				t.Error("it got something")
			}
		})
	}
}

// A certificate that expires while the control plane is away is read again from its file.
func TestCertificatesAreReadAgain(t *testing.T) {
	a := newAuthority(t)
	serverTLS := a.issue(t, "istiod", time.Now().Add(24*time.Hour))
	clientTLS := a.issue(t, "proxy", time.Now().Add(-time.Hour))
	clientTLS.Names = []string{"spiffe://cluster.local/istiod"}
	snap := lab(t)
	s := NewServer(&generator{snap: snap}, ServerOptions{})
	at, _ := listen(t, s, "", &serverTLS)
	store := newStore()
	client := NewClient(dialTo(t, at, &clientTLS), quick(ClientOptions{Handler: store}))
	follow(store, client)
	run(t, client)
	eventually(t, nil, "the expired certificate is refused", func() bool { return client.Status().LastError != "" })
	a.issue(t, "proxy", time.Now().Add(24*time.Hour)) // the same files
	store.await(t, snap)
}

func TestCredentialsThatCannotBeMeant(t *testing.T) {
	a := newAuthority(t)
	good := a.issue(t, "x", time.Now().Add(time.Hour))
	for _, c := range []TLS{{}, {Cert: good.Cert}, {Cert: good.Cert, Key: a.path("none")}, {Cert: good.Cert, Key: good.Key, CA: good.Key}} {
		if _, err := c.ServerCredentials(); err == nil {
			t.Errorf("a server takes %+v", c)
		}
	}
	for _, c := range []TLS{{CA: good.CA}, {CA: good.CA, Names: []string{"x"}, Cert: good.Cert}} {
		if _, err := c.ClientCredentials(); err == nil {
			t.Errorf("a client takes %+v", c)
		}
	}
}
