package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	nethttp "net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// internet resolves names to addresses of the documentation range, and knows which
// socket of the test stands for which address.
type internet struct {
	names   map[string]netip.Addr
	sockets map[string]func() string
}

func (n *internet) Lookup(_ context.Context, name string, _ upstream.Family) ([]netip.Addr, upstream.TTL, error) {
	if a, ok := n.names[name]; ok {
		return []netip.Addr{a}, time.Minute, nil
	}
	return nil, 0, fmt.Errorf("%q: %w", name, upstream.ErrNoSuchName)
}

func (n *internet) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to := n.sockets[address]
	if to == nil {
		return nil, fmt.Errorf("nothing listens at %s", address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, to())
}

func (n *internet) options() upstream.Options { return upstream.Options{Dialer: n, Resolver: n} }

func decoded[T any](t *testing.T, list []*anypb.Any, decode func(*anypb.Any) (T, error)) []T {
	t.Helper()
	var out []T
	for _, a := range list {
		v, err := decode(a)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func reference(t *testing.T, policy, node string) *config.Config {
	t.Helper()
	rec := resourcetest.Reference(t, policy, node)
	return config.Build(decoded(t, rec.Listeners, resource.DecodeListener), decoded(t, rec.Routes, resource.DecodeRouteConfiguration),
		decoded(t, rec.Clusters, resource.DecodeCluster), decoded(t, rec.Endpoints, resource.DecodeEndpoints), nil)
}

// website answers HTTP with its name and what the request passed through.
func website(t *testing.T, name string) func() string {
	return at(serve(t, func(c *net.TCPConn) {
		for r := bufio.NewReader(c); ; {
			req, err := nethttp.ReadRequest(r)
			if err != nil {
				return
			}
			body := fmt.Sprintf("%s: %s", name, req.Host)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 301 Moved\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	}))
}

// secure is the same over TLS, without HTTP: it says its name.
func secure(t *testing.T, name string) func() string {
	cert := certificate(t, name)
	return at(serve(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		_, _ = s.Write([]byte(name))
		_ = s.CloseWrite()
	}))
}

func at(a netip.AddrPort) func() string { return func() string { return a.String() } }

// The lab, served by two proxies that have exactly what a stock istiod 1.26 sends to
// its sidecar and its egress gateway.
func TestLabWithIstiosOwnResources(t *testing.T) {
	wikipedia, google := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("198.51.100.8")
	var gatewayAt atomic.Pointer[func() string]
	net := &internet{names: map[string]netip.Addr{"www.wikipedia.org": wikipedia, "www.google.com": google}, sockets: map[string]func() string{
		"198.51.100.7:80": website(t, "wikipedia"), "198.51.100.7:443": secure(t, "www.wikipedia.org"),
		"198.51.100.8:80": website(t, "google"), "198.51.100.8:443": secure(t, "www.google.com"),
		"10.244.0.20:8080": func() string { return (*gatewayAt.Load())() },
	}}
	for _, policy := range []string{"registry_only", "allow_any"} {
		t.Run(policy, func(t *testing.T) {
			gateway := startIn(t, net.options(), reference(t, policy, "egressgateway"), "0.0.0.0:0")
			at := func() string { return gateway.sockets.address("0.0.0.0_80") }
			gatewayAt.Store(&at)
			eventually(t, "the gateway's listener", func() bool { return gateway.sockets.address("0.0.0.0_80") != "" })
			sidecar := startIn(t, net.options(), reference(t, policy, "sidecar"), "198.51.100.7:80")
			to := func(dst string) {
				sidecar.sockets.mu.Lock()
				defer sidecar.sockets.mu.Unlock()
				sidecar.sockets.dst = netip.MustParseAddrPort(dst)
			}
			overHTTP := func(dst, host string) string {
				to(dst)
				c := sidecar.dial()
				defer c.Close()
				return ask(t, c, bufio.NewReader(c), host)
			}
			overTLS := func(dst, sni string) string {
				to(dst)
				raw := sidecar.dial()
				defer raw.Close()
				c := tls.Client(raw, &tls.Config{ServerName: sni, InsecureSkipVerify: true})
				b := make([]byte, 100)
				n, err := c.Read(b)
				if err != nil {
					return err.Error()
				}
				return string(b[:n])
			}
			if got := overHTTP("198.51.100.7:80", "www.wikipedia.org"); got != "301  wikipedia: www.wikipedia.org" {
				t.Errorf("wikipedia: %s", got)
			}
			contains(t, gateway, "outbound|80||www.wikipedia.org")
			contains(t, sidecar, `"10.244.0.20:8080" outbound|80|wikipedia|istio-egressgateway.istio-system.svc.cluster.local`)
			if got := overTLS("198.51.100.7:443", "www.wikipedia.org"); got != "www.wikipedia.org" {
				t.Errorf("wikipedia over TLS: %s", got)
			}
			contains(t, sidecar, `outbound|443||www.wikipedia.org`)
			http, tls := overHTTP("198.51.100.8:80", "www.google.com"), overTLS("198.51.100.8:443", "www.google.com")
			if policy == "allow_any" {
				if http != "301  google: www.google.com" || tls != "www.google.com" {
					t.Errorf("google: %s; %s", http, tls)
				}
				contains(t, sidecar, "PassthroughCluster")
				return
			}
			if !strings.HasPrefix(http, "502 not_in_registry egret: not_in_registry: www.google.com is not in the registry") {
				t.Errorf("google: %s", http)
			}
			if !strings.Contains(tls, "unrecognized name") {
				t.Errorf("google over TLS: %s", tls)
			}
			contains(t, sidecar, `502 - egret:not_in_registry`)
			contains(t, sidecar, `"- - -" 0 UH egret:not_in_registry - "-" 0 0 `)
		})
	}
}

// contains waits for a line with text in it.
func contains(t *testing.T, r *rig, text string) {
	t.Helper()
	eventually(t, text, func() bool {
		return slices.ContainsFunc(r.logs.lines(), func(l string) bool { return strings.Contains(l, text) })
	})
}
