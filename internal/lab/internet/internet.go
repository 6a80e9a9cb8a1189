// Package internet is the simulated internet of the lab and of the scenario tests:
// a DNS server, web sites with certificates of an authority of its own, and plain
// TCP services, each on an address of its own. It is only ever started inside a
// network namespace that was made for it.
//
// It must not know anything of Egret: to the proxies it is the outside world.
package internet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Site is one web site: it answers on port 80 and 443 of its addresses.
type Site struct {
	Host  string
	Addrs []netip.Addr
	// RedirectToHTTPS: port 80 answers 301 to https.
	RedirectToHTTPS bool
	// Certificate is the name that its certificate is for; "" is Host.
	Certificate string
}

// TCPKind says what a TCP service does.
type TCPKind int

// TCP services.
const (
	// Echo returns what it gets.
	Echo TCPKind = iota
	// Banner speaks first, as SMTP and MySQL servers do, then echoes lines.
	Banner
)

// TCPService is a service on one port that is not HTTP.
type TCPService struct {
	Host string
	Addr netip.Addr
	Port uint16
	Kind TCPKind
	// Greeting is what a Banner service says first.
	Greeting string
}

// World is the whole simulated internet.
type World struct {
	// DNS is the resolver's address; it also answers on 127.0.0.1.
	DNS   netip.Addr
	Sites []Site
	TCP   []TCPService
	Proxy ForwardProxy
	// Names have addresses where nothing of this world is, or that are not theirs.
	Names map[string][]netip.Addr
}

// Default is the world of the lab: the hosts that it calls and a few more. All
// addresses are from the ranges for documentation (RFC 5737, RFC 3849).
func Default() World {
	site := func(host string, last byte) Site {
		v6 := netip.MustParseAddr("2001:db8:1::").As16()
		v6[15] = last
		return Site{
			Host:            host,
			Addrs:           []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, last}), netip.AddrFrom16(v6)},
			RedirectToHTTPS: true,
		}
	}
	w := World{
		DNS: netip.MustParseAddr("192.0.2.53"),
		Sites: []Site{
			site("www.wikipedia.org", 10),
			site("en.wikipedia.org", 11),
			site("de.wikipedia.org", 12),
			site("www.google.com", 20),
			site("example.com", 30),
			site("api.example.com", 31),
			site("evil.example.net", 66),
			site("impostor.example.com", 67),
		},
		TCP: []TCPService{
			{Host: "mail.example.com", Addr: netip.MustParseAddr("203.0.113.25"), Port: 25, Kind: Banner,
				Greeting: "220 mail.example.com ESMTP\r\n"},
			{Host: "db.example.com", Addr: netip.MustParseAddr("203.0.113.33"), Port: 3306, Kind: Banner,
				Greeting: "db.example.com ready\n"},
			{Host: "db2.example.com", Addr: netip.MustParseAddr("203.0.113.34"), Port: 3306, Kind: Banner,
				Greeting: "db2.example.com ready\n"},
			// What a workload must never reach: the machine's own loopback services and
			// the cloud's metadata service.
			{Addr: netip.MustParseAddr("127.0.0.1"), Port: 9999, Kind: Banner,
				Greeting: "this is the machine's own loopback service\n"},
			{Addr: netip.MustParseAddr("169.254.169.254"), Port: 80, Kind: Banner,
				Greeting: "this is the cloud's metadata service\n"},
			// One name with two addresses, and a server on a port like any other.
			{Host: "pair.example.com", Addr: netip.MustParseAddr("203.0.113.41"), Port: 7001, Kind: Banner,
				Greeting: "pair one\n"},
			{Host: "pair.example.com", Addr: netip.MustParseAddr("203.0.113.42"), Port: 7001, Kind: Banner,
				Greeting: "pair two\n"},
			{Host: "echo.example.com", Addr: netip.MustParseAddr("203.0.113.7"), Port: 7000, Kind: Echo},
		},
	}
	w.Proxy = ForwardProxy{Host: "proxy.example.com", Addr: netip.MustParseAddr("203.0.113.50"), Port: 3128}
	for i := range w.Sites {
		switch w.Sites[i].Host {
		case "api.example.com", "evil.example.net": // answer in plain text, without the redirect
			w.Sites[i].RedirectToHTTPS = false
		case "impostor.example.com": // has another's certificate
			w.Sites[i].Certificate = "evil.example.net"
		}
	}
	// Names by which their owner would have others call what is not his.
	w.Names = map[string][]netip.Addr{}
	for name, addr := range map[string]string{
		"loopback": "127.0.0.1", "loopback6": "::1", "metadata": "169.254.169.254",
		"mapped": "::ffff:127.0.0.1", "zero": "0.0.0.0", "sinkhole": "240.242.0.1",
	} {
		w.Names[name+".evil.example.net"] = []netip.Addr{netip.MustParseAddr(addr)}
	}
	return w
}

// Addresses lists every address that the world needs on an interface.
func (w World) Addresses() []netip.Addr {
	seen := map[netip.Addr]bool{w.DNS: true}
	out := []netip.Addr{w.DNS}
	add := func(a netip.Addr) {
		if !seen[a] && !a.IsLoopback() {
			seen[a] = true
			out = append(out, a)
		}
	}
	for _, s := range w.Sites {
		for _, a := range s.Addrs {
			add(a)
		}
	}
	for _, t := range w.TCP {
		add(t.Addr)
	}
	if w.Proxy.Port != 0 {
		add(w.Proxy.Addr)
	}
	return out
}

// hosts is every name of the world with its addresses.
func (w World) hosts() map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for _, s := range w.Sites {
		out[s.Host] = append(out[s.Host], s.Addrs...)
	}
	for _, t := range w.TCP {
		if t.Host != "" {
			out[t.Host] = append(out[t.Host], t.Addr)
		}
	}
	if w.Proxy.Host != "" {
		out[w.Proxy.Host] = append(out[w.Proxy.Host], w.Proxy.Addr)
	}
	for name, addrs := range w.Names {
		out[name] = append(out[name], addrs...)
	}
	return out
}

// Server is a running world.
type Server struct {
	// CA is the certificate of the world's authority in PEM.
	CA []byte

	queries *queryLog
	closers []func()
	wg      sync.WaitGroup
}

// Start opens every port of the world. Addresses must be on an interface already;
// those whose family the machine does not have are left out. Each name that the
// world's DNS server is asked becomes a line of queries.
func Start(w World, queries io.Writer) (*Server, error) {
	ca, err := newAuthority(time.Now())
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	s := &Server{CA: ca.pem, queries: &queryLog{to: queries}}
	if err := s.start(w, ca); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(w World, ca *authority) error {
	if err := s.serveDNS(w); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	for _, site := range w.Sites {
		if err := s.serveSite(site, ca); err != nil {
			return fmt.Errorf("site %q: %w", site.Host, err)
		}
	}
	for _, t := range w.TCP {
		if err := s.serveTCP(t); err != nil {
			return fmt.Errorf("tcp service %q: %w", t.Host, err)
		}
	}
	if w.Proxy.Port != 0 {
		if err := s.serveProxy(w.Proxy, w.hosts()); err != nil {
			return fmt.Errorf("proxy %q: %w", w.Proxy.Host, err)
		}
	}
	return nil
}

// Close stops everything and waits for it.
func (s *Server) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.wg.Wait()
}

func listen(addr netip.Addr, port uint16) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(context.Background(), "tcp", netip.AddrPortFrom(addr, port).String())
}

// noSuchFamily reports whether an address cannot be listened on because the
// machine has no such family (IPv6 switched off).
func noSuchFamily(a netip.Addr, err error) bool {
	var op *net.OpError
	return a.Is6() && errors.As(err, &op)
}
