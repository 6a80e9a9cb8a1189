package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// httpConfig serves HTTP on port 80; hosts that allowed names go to the origin.
func httpConfig(origin netip.AddrPort, allowed ...string) *config.Config {
	block := &resource.VirtualHost{Name: "block_all", Domains: []string{"*"}, Routes: []*resource.Route{{Direct: &resource.DirectResponse{Status: 502}}}}
	rc := &resource.RouteConfiguration{Name: "80", VirtualHosts: []*resource.VirtualHost{block}}
	for _, host := range allowed {
		rc.VirtualHosts = append(rc.VirtualHosts, &resource.VirtualHost{Name: host, Domains: []string{host},
			Routes: []*resource.Route{{Forward: &resource.Forward{Clusters: []resource.WeightedCluster{{Name: "web", Weight: 1}}}}}})
	}
	l := listenerOn(80, &resource.FilterChain{Name: "http", Match: resource.FilterChainMatch{TransportProtocol: "raw_buffer", ApplicationProtocols: []string{"http/1.1", "h2c"}},
		HTTP: &resource.HTTPConnectionManager{AccessLogs: testLog, Inline: rc}})
	l.InspectHTTP = true
	l.DefaultFilterChain = tcpChain(blackHole)
	return configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("web", origin))
}

// ask sends a request and reads the head of the answer.
func ask(t *testing.T, c net.Conn, r *bufio.Reader, host string) string {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		t.Fatal(err)
	}
	resp := must(nethttp.ReadResponse(r, nil))(t)
	body := must(io.ReadAll(resp.Body))(t)
	return fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("x-egret-reason"), body)
}

// One keep-alive connection: each request is judged by the configuration of its time.
func TestHTTP(t *testing.T) {
	origin := serve(t, func(c *net.TCPConn) {
		for r := bufio.NewReader(c); ; {
			if _, err := nethttp.ReadRequest(r); err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		}
	})
	r := start(t, httpConfig(origin, "www.wikipedia.org"), "10.1.2.3:80")
	c := r.dial()
	br := bufio.NewReader(c)
	if got := ask(t, c, br, "www.wikipedia.org"); got != "200  ok" {
		t.Error(got)
	}
	if got := ask(t, c, br, "www.google.com"); !strings.HasPrefix(got, "502 not_in_registry egret: not_in_registry: ") {
		t.Error(got)
	}
	r.source.set(httpConfig(origin, "www.google.com"))
	if got := ask(t, c, br, "www.google.com"); got != "200  ok" {
		t.Error(got)
	}
	if got := ask(t, c, br, "www.wikipedia.org"); !strings.HasPrefix(got, "502 not_in_registry ") {
		t.Error(got)
	}
	_ = c.Close()
	r.connections(0)
}

// A denied keep-alive connection is served once the policy allows it.
func TestDeniedHTTPIsServedAfterAChange(t *testing.T) {
	origin := serve(t, func(c *net.TCPConn) {
		if _, err := nethttp.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		}
	})
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole)}), "10.1.2.3:80")
	c := r.dial()
	br := bufio.NewReader(c)
	if got := ask(t, c, br, "www.wikipedia.org"); !strings.HasPrefix(got, "502 address_not_in_registry ") {
		t.Error(got)
	}
	r.source.set(httpConfig(origin, "www.wikipedia.org"))
	if got := ask(t, c, br, "www.wikipedia.org"); got != "200  ok" {
		t.Error(got)
	}
}

// What is not HTTP on a port that HTTP shares goes to the other chain, which refuses it.
func TestNotHTTPOnAnHTTPPort(t *testing.T) {
	r := start(t, httpConfig(netip.MustParseAddrPort("127.0.0.1:9"), "www.wikipedia.org"), "10.1.2.3:80")
	c := r.dial()
	_, _ = c.Write([]byte("SSH-2.0-x\r\n"))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	r.logged("address_not_in_registry BlackHoleCluster 0 0 - UH")
	tc := tls.Client(r.dial(), &tls.Config{ServerName: "www.wikipedia.org"})
	if err := tc.Handshake(); err == nil || !strings.Contains(err.Error(), "remote error") {
		t.Error(err)
	}
}

// A response that is under way ends when its host is no longer allowed.
func TestStreamEndsWithThePolicy(t *testing.T) {
	origin := serve(t, func(c *net.TCPConn) {
		if _, err := nethttp.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nfirst"))
		_, _ = c.Read(make([]byte, 1)) // until the proxy closes
	})
	r := start(t, httpConfig(origin, "www.wikipedia.org"), "10.1.2.3:80")
	c := r.dial()
	_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: www.wikipedia.org\r\n\r\n"))
	br := bufio.NewReader(c)
	resp := must(nethttp.ReadResponse(br, nil))(t)
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	r.source.set(httpConfig(origin))
	if _, err := resp.Body.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the response goes on: %v", err)
	}
	eventually(t, "the record", func() bool {
		return slices.ContainsFunc(r.logs.lines(), func(l string) bool { return strings.HasPrefix(l, "policy_changed ") })
	})
}

// A connection of that age is closed where it is idle, without waiting for a request.
func TestHTTPConnectionDuration(t *testing.T) {
	cfg := httpConfig(serve(t, echo))
	for _, l := range cfg.Listeners {
		for _, chain := range l.FilterChains {
			if chain.HTTP != nil {
				chain.HTTP.MaxDuration = 50 * time.Millisecond
			}
		}
	}
	r := start(t, cfg, "10.1.2.3:80")
	c := r.dial()
	br := bufio.NewReader(c)
	if got := ask(t, c, br, "nowhere.example"); !strings.HasPrefix(got, "502") {
		t.Errorf("%q", got)
	}
	if rest, err := io.ReadAll(br); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v", rest, err)
	}
	r.connections(0)
}
