package decide_test

import (
	"net/netip"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
)

func decodeAll[T any](t testing.TB, list []*anypb.Any, decode func(*anypb.Any) (*T, error)) []*T {
	t.Helper()
	var out []*T
	for _, a := range list {
		r, err := decode(a)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func build(t testing.TB, rec resourcetest.Recorded, names *resource.NameTable) *config.Config {
	t.Helper()
	return config.Build(
		decodeAll(t, rec.Listeners, resource.DecodeListener),
		decodeAll(t, rec.Routes, resource.DecodeRouteConfiguration),
		decodeAll(t, rec.Clusters, resource.DecodeCluster),
		decodeAll(t, rec.Endpoints, resource.DecodeEndpoints),
		names)
}

// headers is decide.Headers over a map.
type headers map[string]string

func (h headers) Get(name string) (string, bool) {
	v, ok := h[name]
	return v, ok
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// httpConn is a connection on which HTTP was sniffed.
func httpConn(dst string, b decide.Binding) *decide.Conn {
	return &decide.Conn{Source: addrPort("10.0.0.9:40000"), Destination: addrPort(dst), Binding: b, Transport: "raw_buffer", Application: []string{"http/1.1"}}
}

func tlsConn(dst, sni string, b decide.Binding) *decide.Conn {
	return &decide.Conn{Source: addrPort("10.0.0.9:40000"), Destination: addrPort(dst), Binding: b, Transport: "tls", SNI: sni}
}

func tcpConn(dst string, b decide.Binding) *decide.Conn {
	return &decide.Conn{Source: addrPort("10.0.0.9:40000"), Destination: addrPort(dst), Binding: b, Transport: "raw_buffer"}
}
