package xds

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// foreign is go-control-plane's own server over TCP, with what it was given.
type foreign struct {
	cache cachev3.SnapshotCache
	addr  string
	nacks chan string
}

func startForeign(t *testing.T, addr string) (*foreign, func()) {
	t.Helper()
	f := &foreign{cache: cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil), nacks: make(chan string, 100)}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f.addr = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	nack := func(d interface{ GetMessage() string }, refused bool) {
		if refused {
			select {
			case f.nacks <- d.GetMessage():
			default:
			}
		}
	}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(ctx, f.cache, serverv3.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			nack(r.ErrorDetail, r.ErrorDetail != nil)
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			nack(r.ErrorDetail, r.ErrorDetail != nil)
			return nil
		},
	}))
	done := make(chan error, 1)
	go func() { done <- g.Serve(listener) }()
	stop := func() { cancel(); g.Stop(); <-done }
	return f, stop
}

// set gives the node a consistent set: EDS clusters with endpoints, listeners with routes.
func (f *foreign) set(t *testing.T, version string, words ...string) Snapshot {
	t.Helper()
	resources := map[string][]types.Resource{}
	want := Snapshot{}
	for _, typeURL := range []string{ClusterType, EndpointType, ListenerType, RouteType} {
		resources[typeURL], want[typeURL] = nil, map[string]Resource{}
		for _, w := range words {
			name, text, _ := strings.Cut(w, "=")
			m := foreignMessage(t, typeURL, name, text)
			resources[typeURL] = append(resources[typeURL], m)
			want[typeURL][name] = Resource{Name: name, Body: pack(t, m)}
		}
	}
	snap, err := cachev3.NewSnapshot(version, resources)
	if err != nil {
		t.Fatal(err)
	}
	if err := snap.Consistent(); err != nil {
		t.Fatal(err)
	}
	if err := f.cache.SetSnapshot(t.Context(), "n", snap); err != nil {
		t.Fatal(err)
	}
	return want
}

func foreignMessage(t *testing.T, typeURL, name, text string) proto.Message {
	m := message(typeURL, name, text)
	switch m := m.(type) {
	case *clusterv3.Cluster:
		m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		m.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()}
	case *listenerv3.Listener:
		m.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, &hcmv3.HttpConnectionManager{
				RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: name, ConfigSource: ads()}},
			})},
		}}}}
	case *routev3.RouteConfiguration:
		m.VirtualHosts = []*routev3.VirtualHost{{Name: text, Domains: []string{"*"}}}
	}
	return m
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: b}
}

// content compares by body, because each server has versions of its own.
type content struct {
	*store
	bodies map[string]map[string]string
}

func (c *content) Apply(u Update) map[string]error {
	errs := c.store.Apply(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bodies[u.TypeURL] == nil {
		c.bodies[u.TypeURL] = map[string]string{}
	}
	for _, r := range u.Changed {
		if errs[r.Name] == nil {
			c.bodies[u.TypeURL][r.Name] = BodyVersion(r.Body)
		}
	}
	for _, n := range u.Removed {
		delete(c.bodies[u.TypeURL], n)
	}
	return errs
}

func (c *content) equals(want Snapshot) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for typeURL, resources := range want {
		if len(resources) != len(c.bodies[typeURL]) {
			return false
		}
		for n, r := range resources {
			if c.bodies[typeURL][n] != BodyVersion(r.Body) {
				return false
			}
		}
	}
	return true
}

func TestForeignServer(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		f, stop := startForeign(t, "127.0.0.1:0")
		defer func() { stop() }()
		conn, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := &content{store: newStore(), bodies: map[string]map[string]string{}}
		client := NewClient(conn, ClientOptions{
			Node: node("n"), Delta: delta, Handler: c, MinBackoff: time.Millisecond, MaxBackoff: 50 * time.Millisecond,
		})
		follow(c.store, client)
		client.Subscribe(NameTableType, []string{}) // a foreign server has none
		has := func(want Snapshot) {
			t.Helper()
			eventually(t, c.changed, "the content is the foreign server's", func() bool { return c.equals(want) })
		}
		first := f.set(t, "1", "a=1", "b=1")
		stopClient := run(t, client)
		defer stopClient()
		has(first)
		has(f.set(t, "2", "a=2", "b=1"))
		c.lines()
		has(f.set(t, "3", "a=2", "c=1"))
		if lines := c.lines(); slices.ContainsFunc(lines, func(l string) bool { return slices.Contains(strings.Fields(l), "+a") }) {
			t.Errorf("a did not change, and was handed over again: %q", lines)
		}

		// A refusal reaches the server in words; the old resource stays in use.
		c.mu.Lock()
		bad := foreignMessage(t, ListenerType, "a", "bad")
		c.refuse[foreignVersion(t, delta, bad)] = true
		c.mu.Unlock()
		want := f.set(t, "4", "a=bad", "c=2")
		want[ListenerType]["a"] = Resource{Name: "a", Body: pack(t, foreignMessage(t, ListenerType, "a", "2"))}
		has(want)
		select {
		case msg := <-f.nacks:
			if !strings.Contains(msg, `a: "a" is not to my taste`) {
				t.Errorf("NACK says %q", msg)
			}
		case <-time.After(patience):
			t.Error("no NACK")
		}

		// The server goes and comes back, with other content.
		stop()
		f, stop = startForeign(t, f.addr)
		has(f.set(t, "5", "d=1", "c=2"))
	})
}

// foreignVersion is the version under which our client hands over the message: its
// own of the body, or the foreign server's on a delta stream.
func foreignVersion(t *testing.T, delta bool, m proto.Message) string {
	t.Helper()
	if !delta {
		return BodyVersion(pack(t, m))
	}
	b, err := cachev3.MarshalResource(m)
	if err != nil {
		t.Fatal(err)
	}
	return cachev3.HashResource(b)
}
