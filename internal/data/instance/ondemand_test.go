package instance_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	mdns "github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/data/instance"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

// plane is a control plane with hosts that are asked for by name. It can go away.
type plane struct {
	t      *testing.T
	mu     sync.Mutex
	bodies xds.Snapshot
	server *xds.Server
	grpc   *grpc.Server
	served sync.WaitGroup
	listen net.Listener
}

func (p *plane) Generate(*corev3.Node) (xds.Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := xds.Snapshot{}
	for typeURL, all := range p.bodies {
		out[typeURL] = map[string]xds.Resource{}
		for name, r := range all {
			out[typeURL][name] = r
		}
	}
	return out, nil
}

// set changes resources; a nil body removes one.
func (p *plane) set(typeURL, name string, body *anypb.Any) {
	p.mu.Lock()
	if p.bodies[typeURL] == nil {
		p.bodies[typeURL] = map[string]xds.Resource{}
	}
	p.bodies[typeURL][name] = xds.Resource{Name: name, Version: xds.BodyVersion(body), Body: body}
	if body == nil {
		delete(p.bodies[typeURL], name)
	}
	p.mu.Unlock()
	if s := p.server; s != nil {
		s.Changed()
	}
}

func (p *plane) start() {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.listen = l
	p.mu.Unlock()
	p.server, p.grpc = xds.NewServer(p, xds.ServerOptions{}), grpc.NewServer(xds.GRPCOptions()...)
	p.server.Register(p.grpc)
	server := p.grpc
	p.served.Go(func() { _ = server.Serve(l) })
}

func (p *plane) stop() {
	p.server.Close()
	p.grpc.Stop()
	p.served.Wait()
}

func (p *plane) dial(ctx context.Context, _ string) (net.Conn, error) {
	p.mu.Lock()
	address := p.listen.Addr().String()
	p.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// host registers a host: HTTP on port 80 of the listener "http", TLS on "tls", and a name.
func (p *plane) host(name, pattern, upstream string) {
	p.t.Helper()
	at := netip.MustParseAddrPort(upstream)
	p.set(xds.ClusterType, "c-"+pattern, resourcetest.Cluster(p.t, fmt.Sprintf(`{"name":"c-%s","type":"STATIC","loadAssignment":{"clusterName":"c-%s","endpoints":[{"lbEndpoints":[
		{"endpoint":{"address":{"socketAddress":{"address":%q,"portValue":%d}}}}]}]}}`, pattern, pattern, at.Addr(), at.Port())))
	p.set(xds.VirtualHostType, "80/"+name, resourcetest.VirtualHost(p.t, fmt.Sprintf(`{"name":%q,"domains":[%q],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c-%s"}}]}`, pattern, pattern, pattern)))
	p.set(xds.FilterChainType, "tls/"+name, resourcetest.FilterChain(p.t, fmt.Sprintf(`{"name":%q,"filterChainMatch":{"serverNames":[%q]},"filters":[{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"c-%s"}}]}`, pattern, pattern, pattern)))
	p.set(xds.NameTableType, name, nameEntry(name, "240.240.0.1"))
}

func (p *plane) remove(name string) {
	for typeURL, n := range map[string]string{xds.VirtualHostType: "80/" + name, xds.FilterChainType: "tls/" + name, xds.NameTableType: name} {
		p.set(typeURL, n, nil)
	}
}

func nameEntry(name, ip string) *anypb.Any {
	info := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), ip)
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), info)
	return &anypb.Any{TypeUrl: xds.NameTableType, Value: protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)}
}

// sockets listens on the loopback for each listener by its name.
type sockets struct {
	mu   sync.Mutex
	open map[string]string
}

func (s *sockets) Listen(_ context.Context, l *resource.Listener) ([]net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[l.Name] = ln.Addr().String()
	return []net.Listener{ln}, nil
}

func (*sockets) OriginalDestination(net.Conn) (netip.AddrPort, error) { return netip.AddrPort{}, nil }

func (s *sockets) address(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[name]
}

// world is a proxy on demand with its control plane.
type world struct {
	t       *testing.T
	plane   *plane
	proxy   *instance.Instance
	sockets *sockets
	log     *runtest.Log
	dns     string
	plain   *httptest.Server
	secure  *httptest.Server
}

const baseHTTP = `{"name":"http","address":{"socketAddress":{"address":"0.0.0.0","portValue":80}},"filterChains":[{"filters":[{"name":"hcm","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
	"accessLog":[{"name":"file","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog","path":"/dev/stdout"}}],
	"rds":{"configSource":{"ads":{}},"routeConfigName":"80"},"httpFilters":[{"name":"on_demand","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand","odcds":{"source":{"ads":{}}}}},
	{"name":"router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`

const baseTLS = `{"name":"tls","address":{"socketAddress":{"address":"0.0.0.0","portValue":443}},"fcdsConfig":{"configSource":{"ads":{}}},
	"listenerFilters":[{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],
	"defaultFilterChain":{"filters":[{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"BlackHoleCluster"}}]}}`

const blockAll = `{"name":"80","vhds":{"configSource":{"ads":{}}},"ignorePortInHostMatching":true,"virtualHosts":[{"name":"block_all","domains":["*"],"routes":[{"match":{"prefix":"/"},"directResponse":{"status":502}}]}]}`

func newWorld(t *testing.T, limits config.Limits) *world {
	t.Helper()
	w := &world{t: t, plane: &plane{t: t, bodies: xds.Snapshot{}}, sockets: &sockets{open: map[string]string{}}, log: runtest.NewLog(t, "the proxy")}
	echo := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprintf(rw, "hello from %s", r.Host) })
	w.plain, w.secure = httptest.NewServer(echo), httptest.NewTLSServer(echo)
	t.Cleanup(w.plain.Close)
	t.Cleanup(w.secure.Close)
	w.plane.set(xds.ListenerType, "http", resourcetest.Listener(t, baseHTTP))
	w.plane.set(xds.ListenerType, "tls", resourcetest.Listener(t, baseTLS))
	w.plane.set(xds.RouteType, "80", resourcetest.Route(t, blockAll))
	w.plane.set(xds.ClusterType, "BlackHoleCluster", resourcetest.Cluster(t, `{"name":"BlackHoleCluster","type":"STATIC"}`))
	w.plane.start()
	conn, err := grpc.NewClient("passthrough:///plane", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(w.plane.dial))
	if err != nil {
		t.Fatal(err)
	}
	metadata, err := structpb.NewStruct(map[string]any{xds.OnDemandMetadata: "true"})
	if err != nil {
		t.Fatal(err)
	}
	w.proxy, err = instance.New(instance.Options{
		ControlPlanes: []grpc.ClientConnInterface{conn}, Node: &corev3.Node{Id: "n", Metadata: metadata}, OnDemand: limits, Dialer: new(net.Dialer),
		OpenLog: func(string) (io.WriteCloser, error) { return w.log, nil }, DrainTimeout: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	names := dns.New(dns.Options{Source: w.proxy.Store(), OnDemand: w.proxy.Store(), Recorder: w.proxy.Recorder()})
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.dns = packets.LocalAddr().String()
	running.Go(func() { _ = w.proxy.Configure(ctx) })
	running.Go(func() { _ = w.proxy.Serve(ctx, w.sockets, nil) })
	running.Go(func() { _ = names.ServePacket(ctx, packets) })
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the proxy: %+v, what it asks for: %+v", w.proxy.Info(), w.proxy.Store().OnDemandStats())
		}
		cancel()
		running.Wait()
		if err := w.proxy.Close(); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		w.plane.stop()
	})
	w.until("the proxy listens", func() bool { return w.sockets.address("http") != "" && w.sockets.address("tls") != "" })
	return w
}

// until waits for a condition.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	runtest.Eventually(w.t, what, ok)
}

// client asks the proxy, over HTTP/2 or HTTP/1.
func (w *world) client(two bool) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", w.sockets.address("http"))
	}}
	tr.Protocols.SetHTTP1(!two)
	tr.Protocols.SetUnencryptedHTTP2(two)
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// get is the status, the reason and the body of a call.
func (w *world) get(c *http.Client, host string) string {
	w.t.Helper()
	res, err := c.Get("http://" + host + "/")
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	if why := res.Header.Get("x-egret-reason"); why != "" {
		return fmt.Sprint(res.StatusCode, " ", why)
	}
	return string(body)
}

func (w *world) want(c *http.Client, host, want string) {
	w.t.Helper()
	if got := w.get(c, host); got != want {
		w.t.Errorf("%s: %q, want %q", host, got, want)
	}
}

func (w *world) asked() uint64 { return w.proxy.Store().OnDemandStats().Asked }

// tls connects to a server name.
func (w *world) tls(name string) (*tls.Conn, error) {
	return tls.Dial("tcp", w.sockets.address("tls"), &tls.Config{ServerName: name, InsecureSkipVerify: true})
}

// query is the rcode and the addresses for a name.
func (w *world) query(name string) string {
	w.t.Helper()
	q := new(mdns.Msg)
	q.SetQuestion(name+".", mdns.TypeA)
	m, _, err := (&mdns.Client{Timeout: 20 * time.Second}).Exchange(q, w.dns)
	if err != nil {
		w.t.Fatal(err)
	}
	out := mdns.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		if a, ok := rr.(*mdns.A); ok {
			out += " " + a.A.String()
		}
	}
	return out
}
