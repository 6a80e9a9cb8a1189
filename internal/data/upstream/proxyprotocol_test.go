package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestProxyHeader(t *testing.T) {
	tests := []struct {
		source, destination string
		v1                  string
		v2                  string // after the signature, in hex
	}{
		{"10.0.0.5:40000", "203.0.113.7:80", "PROXY TCP4 10.0.0.5 203.0.113.7 40000 80\r\n", "2111000c 0a000005 cb007107 9c40 0050"},
		{"[2001:db8::1]:1", "[2001:db8::2]:65535", "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
			"21210024 20010db8000000000000000000000001 20010db8000000000000000000000002 0001 ffff"},
		{"[::ffff:10.0.0.5]:1", "203.0.113.7:2", "PROXY TCP4 10.0.0.5 203.0.113.7 1 2\r\n", "2111000c 0a000005 cb007107 0001 0002"},
		{"10.0.0.5:1", "[2001:db8::2]:2", "PROXY TCP6 ::ffff:10.0.0.5 2001:db8::2 1 2\r\n",
			"21210024 00000000000000000000ffff0a000005 20010db8000000000000000000000002 0001 0002"},
		{"[fe80::1%eth0]:1", "[fe80::2]:2", "PROXY TCP6 fe80::1 fe80::2 1 2\r\n", "21210024 fe800000000000000000000000000001 fe800000000000000000000000000002 0001 0002"},
		{"", "203.0.113.7:80", "PROXY UNKNOWN\r\n", "20000000"},
		{"10.0.0.5:1", "", "PROXY UNKNOWN\r\n", "20000000"},
	}
	for _, tt := range tests {
		source, _ := netip.ParseAddrPort(tt.source)
		destination, _ := netip.ParseAddrPort(tt.destination)
		if got := string(appendProxyHeader(nil, resource.ProxyProtocolV1, source, destination)); got != tt.v1 {
			t.Errorf("version 1: %q, want %q", got, tt.v1)
		}
		want, err := hex.DecodeString(strings.ReplaceAll(tt.v2, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendProxyHeader(nil, resource.ProxyProtocolV2, source, destination)); got != proxySignature+string(want) {
			t.Errorf("version 2: %x, want %x", got, want)
		}
	}
}

// readProxyHeader is the other side, by the specification.
func readProxyHeader(r *bufio.Reader) (source, destination netip.AddrPort, err error) {
	if b, _ := r.Peek(len(proxySignature)); string(b) == proxySignature {
		return readProxyHeader2(r)
	}
	line, err := r.ReadString('\n')
	if err != nil || len(line) > 107 || !strings.HasSuffix(line, "\r\n") { // section 2.1
		return source, destination, fmt.Errorf("%q is no line: %w", line, err)
	}
	if line == "PROXY UNKNOWN\r\n" {
		return source, destination, nil
	}
	var family, from, to string
	var fromPort, toPort uint16
	if _, err := fmt.Sscanf(line, "PROXY %s %s %s %d %d\r\n", &family, &from, &to, &fromPort, &toPort); err != nil {
		return source, destination, err
	}
	a, err := netip.ParseAddr(from)
	b, err2 := netip.ParseAddr(to)
	if err := errors.Join(err, err2); err != nil {
		return source, destination, err
	}
	if a.Is4() != (family == "TCP4") || b.Is4() != (family == "TCP4") {
		return source, destination, fmt.Errorf("%q: addresses of another family", line)
	}
	return netip.AddrPortFrom(a, fromPort), netip.AddrPortFrom(b, toPort), nil
}

func readProxyHeader2(r *bufio.Reader) (source, destination netip.AddrPort, err error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return source, destination, err
	}
	body := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return source, destination, err
	}
	n := 4
	switch {
	case head[12] == 0x20 && head[13] == 0 && len(body) == 0:
		return source, destination, nil
	case head[12] == 0x21 && head[13] == 0x11 && len(body) == 12:
	case head[12] == 0x21 && head[13] == 0x21 && len(body) == 36:
		n = 16
	default:
		return source, destination, fmt.Errorf("%x %d bytes", head[12:], len(body))
	}
	a, _ := netip.AddrFromSlice(body[:n])
	b, _ := netip.AddrFromSlice(body[n : 2*n])
	ports := body[2*n:]
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(ports)), netip.AddrPortFrom(b, binary.BigEndian.Uint16(ports[2:])), nil
}

// What is written is read again as the same addresses, and nothing is left over.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, uint16(1), uint16(2), false)
	f.Add(make([]byte, 16), []byte{10, 0, 0, 2}, uint16(0), uint16(65535), true)
	f.Add([]byte{}, []byte{}, uint16(0), uint16(0), true)
	f.Fuzz(func(t *testing.T, from, to []byte, fromPort, toPort uint16, two bool) {
		a, okA := netip.AddrFromSlice(from)
		b, okB := netip.AddrFromSlice(to)
		version := resource.ProxyProtocolV1
		if two {
			version = resource.ProxyProtocolV2
		}
		const payload = "GET / HTTP/1.1\r\n"
		header := appendProxyHeader(nil, version, netip.AddrPortFrom(a, fromPort), netip.AddrPortFrom(b, toPort))
		r := bufio.NewReader(strings.NewReader(string(header) + payload))
		source, destination, err := readProxyHeader(r)
		if err != nil {
			t.Fatal(err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != payload {
			t.Errorf("what follows is %q", rest)
		}
		if !okA || !okB {
			if source.IsValid() || destination.IsValid() {
				t.Errorf("%s and %s out of nothing", source, destination)
			}
			return
		}
		if source.Addr().Unmap() != a.Unmap() || destination.Addr().Unmap() != b.Unmap() || source.Port() != fromPort || destination.Port() != toPort {
			t.Errorf("%s %s, want %s:%d %s:%d", source, destination, a, fromPort, b, toPort)
		}
	})
}

func TestConnectionsBeginWithTheProxyHeader(t *testing.T) {
	leaf := newAuthority(t).leaf(t, "a.example")
	for _, version := range []resource.ProxyProtocol{resource.ProxyProtocolV1, resource.ProxyProtocolV2} {
		for _, encrypted := range []bool{false, true} {
			got := make(chan string, 1)
			addr := listen(t, func(c net.Conn) {
				r := bufio.NewReader(c)
				source, destination, err := readProxyHeader(r)
				got <- fmt.Sprint(source, " ", destination, " ", err)
				if encrypted {
					server := tls.Server(buffered{c, r}, &tls.Config{Certificates: []tls.Certificate{leaf}})
					_, _ = io.WriteString(server, "hello")
					return
				}
				hello(c)
			})
			c := cluster(fmt.Sprint(version, encrypted), resource.DiscoveryStatic, addr.String())
			c.ProxyProtocol = version
			if encrypted {
				c.TLS = &resource.UpstreamTLS{SNI: "a.example", SkipVerify: true}
			}
			m := manager(t, Options{})
			target := &Target{Source: netip.MustParseAddrPort("10.0.0.5:40000"), Local: netip.MustParseAddrPort("203.0.113.7:80")}
			h := pick(t, m, c, target)
			if !h.Keyed() {
				t.Error("connections for different clients count as alike")
			}
			other := *target
			other.Source = netip.MustParseAddrPort("10.0.0.5:40001")
			if m.ConnKey(h, target) == m.ConnKey(h, &other) {
				t.Error("one key for two clients")
			}
			conn, err := m.Dial(t.Context(), c, h, target, nil)
			if err != nil {
				t.Fatal(err)
			}
			readHello(t, conn)
			if want := "10.0.0.5:40000 203.0.113.7:80 <nil>"; <-got != want {
				t.Errorf("version %d: not %s", version, want)
			}
		}
	}
}

// buffered is a connection of which some bytes are read already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

func TestSourceAddress(t *testing.T) {
	from := make(chan string, 1)
	addr := listen(t, func(c net.Conn) {
		from <- c.RemoteAddr().(*net.TCPAddr).IP.String()
		hello(c)
	})
	c := cluster("c", resource.DiscoveryStatic, addr.String())
	c.SourceAddresses = []netip.Addr{netip.MustParseAddr("::6"), netip.MustParseAddr("127.0.0.9")}
	m := manager(t, Options{})
	conn, err := m.Dial(t.Context(), c, pick(t, m, c, nil), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	readHello(t, conn)
	if got := <-from; got != "127.0.0.9" {
		t.Errorf("dialled from %s", got)
	}

	// A dialer that cannot must not connect from elsewhere.
	m = manager(t, Options{Dialer: dialFunc(func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialled")
		return nil, net.ErrClosed
	})})
	if _, err := m.Dial(t.Context(), c, pick(t, m, c, nil), nil, nil); err == nil || err.Reason != reason.UpstreamConnectFailed || !errors.Is(err, errNoSource) {
		t.Errorf("err = %v", err)
	}
}
