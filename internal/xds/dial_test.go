package xds

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/file/filetest"
)

// issue is a certificate as this package's options have it.
func issue(t *testing.T, a *filetest.Authority, name string, until time.Time) TLS {
	t.Helper()
	cert, key := a.Issue(t, name, until)
	return TLS{CA: a.CA, Cert: cert, Key: key}
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
	a, stranger := filetest.NewAuthority(t), filetest.NewAuthority(t)
	day := time.Now().Add(24 * time.Hour)
	server := issue(t, a, "istiod", day)
	good := issue(t, a, "proxy", day)
	good.Names = []string{"spiffe://cluster.local/istiod"}
	of := func(change func(*TLS)) TLS {
		c := good
		change(&c)
		return c
	}
	foreign := issue(t, stranger, "proxy", day)
	for name, c := range map[string]struct {
		client TLS
		want   string // "": it works
	}{
		"both known":               {good, ""},
		"no certificate":           {of(func(c *TLS) { c.Cert, c.Key = "", "" }), "connection error"},
		"of another authority":     {of(func(c *TLS) { c.Cert, c.Key = foreign.Cert, foreign.Key }), "connection error"},
		"expired":                  {of(func(c *TLS) { x := issue(t, a, "old", time.Now().Add(-time.Hour)); c.Cert, c.Key = x.Cert, x.Key }), "connection error"},
		"a server of another name": {of(func(c *TLS) { c.Names = []string{"spiffe://cluster.local/other"} }), "certificate"},
		"a server of nobody":       {of(func(c *TLS) { c.CA = stranger.CA }), "unknown authority"},
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
	a := filetest.NewAuthority(t)
	serverTLS := issue(t, a, "istiod", time.Now().Add(24*time.Hour))
	clientTLS := issue(t, a, "proxy", time.Now().Add(-time.Hour))
	clientTLS.Names = []string{"spiffe://cluster.local/istiod"}
	snap := lab(t)
	s := NewServer(&generator{snap: snap}, ServerOptions{})
	at, _ := listen(t, s, "", &serverTLS)
	store := newStore()
	client := NewClient(dialTo(t, at, &clientTLS), quick(ClientOptions{Handler: store}))
	follow(store, client)
	run(t, client)
	eventually(t, nil, "the expired certificate is refused", func() bool { return client.Status().LastError != "" })
	issue(t, a, "proxy", time.Now().Add(24*time.Hour)) // the same files
	store.await(t, snap)
}

func TestCredentialsThatCannotBeMeant(t *testing.T) {
	a := filetest.NewAuthority(t)
	good := issue(t, a, "x", time.Now().Add(time.Hour))
	for _, c := range []TLS{{}, {Cert: good.Cert}, {Cert: good.Cert, Key: "none"}, {Cert: good.Cert, Key: good.Key, CA: good.Key}} {
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
