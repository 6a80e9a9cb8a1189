package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/egret-mesh/egret/internal/file"
)

// nameServer is a real DNS server on loopback, UDP and TCP on the same port.
type nameServer struct {
	addr netip.AddrPort
	mu   sync.Mutex
	asks []string // "udp A x.example."
}

func (s *nameServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asks...)
}

func startServer(t testing.TB, handle func(w dns.ResponseWriter, q *dns.Msg)) *nameServer {
	t.Helper()
	s := &nameServer{}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		s.mu.Lock()
		s.asks = append(s.asks, fmt.Sprintf("%s %s %s", w.LocalAddr().Network(), dns.Type(q.Question[0].Qtype), q.Question[0].Name))
		s.mu.Unlock()
		handle(w, q)
	})
	var udp net.PacketConn
	var tcp net.Listener
	for try := 0; ; try++ {
		var err error
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			break
		}
		_ = udp.Close()
		if try > 20 {
			t.Fatal(err)
		}
	}
	s.addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // runs after the shutdowns
	for _, srv := range []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { _ = srv.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
	return s
}

// records makes a handler from zone lines: answers of the name and type asked for,
// without following CNAMEs.
func records(lines ...string) func(dns.ResponseWriter, *dns.Msg) {
	var rrs []dns.RR
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			panic(err)
		}
		rrs = append(rrs, rr)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		name, known := strings.ToLower(q.Question[0].Name), false
		for _, rr := range rrs {
			if rr.Header().Name != name {
				continue
			}
			known = true
			if t := rr.Header().Rrtype; t == q.Question[0].Qtype || t == dns.TypeCNAME {
				m.Answer = append(m.Answer, rr)
			}
		}
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	}
}

func resolver(t testing.TB, servers ...*nameServer) *DNSResolver {
	o := ResolverOptions{
		ResolvConf: filepath.Join(t.TempDir(), "none"),
		Hosts:      filepath.Join(t.TempDir(), "none"),
	}
	for _, s := range servers {
		o.Servers = append(o.Servers, s.addr)
	}
	return NewResolver(o)
}

func lookup(r *DNSResolver, name string, f Family) (string, time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	addrs, ttl, err := r.Lookup(ctx, name, f)
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, " "), ttl, err
}

func TestLookup(t *testing.T) {
	s := startServer(t, records(
		"both.example. 300 IN A 192.0.2.1",
		"both.example. 200 IN A 192.0.2.2",
		"both.example. 100 IN AAAA 2001:db8::1",
		"four.example. 60 IN A 192.0.2.4",
		"six.example. 60 IN AAAA 2001:db8::6",
		"text.example. 60 IN TXT hello",
		"alias.example. 30 IN CNAME both.example.",
		"alias2.example. 900 IN CNAME alias.example.",
		"dangling.example. 30 IN CNAME nowhere.example.",
		"loop.example. 30 IN CNAME pool.example.",
		"pool.example. 30 IN CNAME loop.example.",
		"_srv.four.example. 60 IN A 192.0.2.44",
	))
	r := resolver(t, s)
	tests := []struct {
		name   string
		family Family
		want   string
		ttl    time.Duration
		err    error
	}{
		{"both.example", FamilyAny, "192.0.2.1 192.0.2.2 2001:db8::1", 100 * time.Second, nil},
		{"BOTH.example.", FamilyV4, "192.0.2.1 192.0.2.2", 200 * time.Second, nil},
		{"both.example", FamilyV6, "2001:db8::1", 100 * time.Second, nil},
		{"four.example", FamilyAny, "192.0.2.4", 60 * time.Second, nil},
		{"six.example", FamilyAny, "2001:db8::6", 60 * time.Second, nil},
		{"six.example", FamilyV4, "", 0, ErrNoAddress},
		{"text.example", FamilyAny, "", 0, ErrNoAddress},
		{"alias.example", FamilyAny, "192.0.2.1 192.0.2.2 2001:db8::1", 30 * time.Second, nil},
		{"alias2.example", FamilyV4, "192.0.2.1 192.0.2.2", 30 * time.Second, nil},
		{"dangling.example", FamilyAny, "", 0, ErrNoSuchName},
		{"nx.example", FamilyAny, "", 0, ErrNoSuchName},
		{"_srv.four.example", FamilyV4, "192.0.2.44", 60 * time.Second, nil},
		{"192.0.2.77", FamilyAny, "192.0.2.77", maxTTL, nil},
		{"::ffff:192.0.2.77", FamilyV4, "192.0.2.77", maxTTL, nil},
		{"2001:db8::77", FamilyV4, "", 0, ErrNoAddress},
		{"localhost", FamilyV4, "127.0.0.1", maxTTL, nil},
		{"a.localhost", FamilyAny, "127.0.0.1 ::1", maxTTL, nil},
		{"", FamilyAny, "", 0, ErrNoSuchName},
		{"a..b", FamilyAny, "", 0, ErrNoSuchName},
		{`a\.b.example`, FamilyAny, "", 0, ErrNoSuchName},
		{"a b.example", FamilyAny, "", 0, ErrNoSuchName},
		{strings.Repeat("a", 64) + ".example", FamilyAny, "", 0, ErrNoSuchName},
		{strings.Repeat("abcdefg.", 33) + "example", FamilyAny, "", 0, ErrNoSuchName},
	}
	for _, tt := range tests {
		got, ttl, err := lookup(r, tt.name, tt.family)
		if got != tt.want || !errors.Is(err, tt.err) || err == nil && ttl != tt.ttl {
			t.Errorf("Lookup(%q, %d) = %q, %s, %v; want %q, %s, %v", tt.name, tt.family, got, ttl, err, tt.want, tt.ttl, tt.err)
		}
	}
	if _, _, err := lookup(r, "loop.example", FamilyV4); err == nil || notFound(err) {
		t.Errorf("a loop of CNAMEs: %v", err)
	}
	if n := len(s.asked()); n > 80 {
		t.Errorf("%d queries", n)
	}
}

func TestLookupTakesChainsInOneAnswer(t *testing.T) {
	s := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		for _, l := range []string{
			"stranger.example. 5 IN A 203.0.113.66", // does not hang together with the question
			"c.example. 50 IN A 192.0.2.9",
			"b.example. 40 IN CNAME c.example.",
			"A.example. 90 IN CNAME b.example.",
		} {
			rr, _ := dns.NewRR(l)
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})
	got, ttl, err := lookup(resolver(t, s), "a.example", FamilyV4)
	if got != "192.0.2.9" || ttl != 40*time.Second || err != nil {
		t.Errorf("%q, %s, %v", got, ttl, err)
	}
	if n := len(s.asked()); n != 1 {
		t.Errorf("%d queries for one answer", n)
	}
}

func TestLookupUsesTCPWhenTruncated(t *testing.T) {
	s := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if w.LocalAddr().Network() == "udp" {
			m.Truncated = true
		} else {
			for i := range 100 {
				rr, _ := dns.NewRR(fmt.Sprintf("big.example. 60 IN A 192.0.2.%d", i))
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})
	got, _, err := lookup(resolver(t, s), "big.example", FamilyV4)
	if err != nil || len(strings.Fields(got)) != maxAddresses {
		t.Errorf("%q, %v: want %d addresses", got, err, maxAddresses)
	}
	if diff := cmp.Diff([]string{"udp A big.example.", "tcp A big.example."}, s.asked()); diff != "" {
		t.Error(diff)
	}
}

// TestLookupIgnoresForgeries: answers with another ID or question, or not answers at
// all, that come before the right one.
func TestLookupIgnoresForgeries(t *testing.T) {
	s := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		forge := func(change func(*dns.Msg)) {
			m := new(dns.Msg)
			m.SetReply(q)
			rr, _ := dns.NewRR("x.example. 60 IN A 203.0.113.66")
			m.Answer = []dns.RR{rr}
			change(m)
			out, _ := m.Pack()
			_, _ = w.Write(out)
		}
		forge(func(m *dns.Msg) { m.Id++ })
		forge(func(m *dns.Msg) { m.Question[0].Name = "y.example." })
		forge(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT })
		forge(func(m *dns.Msg) { m.Question = nil })
		forge(func(m *dns.Msg) { m.Response = false })
		_, _ = w.Write([]byte{byte(q.Id >> 8), byte(q.Id), 0x80})
		records("x.example. 60 IN A 192.0.2.1")(w, q)
	})
	if got, _, err := lookup(resolver(t, s), "x.example", FamilyV4); got != "192.0.2.1" {
		t.Errorf("%q, %v", got, err)
	}
}

func rcode(code int) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetRcode(q, code)
		_ = w.WriteMsg(m)
	}
}

func TestLookupGoesOnToTheNextServer(t *testing.T) {
	good := startServer(t, records("x.example. 60 IN A 192.0.2.1"))
	for _, code := range []int{dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotImplemented, dns.RcodeFormatError} {
		bad := startServer(t, rcode(code))
		if got, _, err := lookup(resolver(t, bad, good), "x.example", FamilyV4); got != "192.0.2.1" {
			t.Errorf("%s: %q, %v", dns.RcodeToString[code], got, err)
		}
		if len(bad.asked()) == 0 {
			t.Error("the first server was not asked")
		}
		_, _, err := lookup(resolver(t, bad), "x.example", FamilyV4)
		if err == nil || notFound(err) || !strings.Contains(err.Error(), dns.RcodeToString[code]) {
			t.Errorf("only a bad server: %v", err)
		}
	}
	// A port that nobody listens on.
	gone := &nameServer{addr: netip.MustParseAddrPort(refused(t))}
	if got, _, err := lookup(resolver(t, gone, good), "x.example", FamilyAny); got != "192.0.2.1" {
		t.Errorf("refused: %q, %v", got, err)
	}
	// NXDOMAIN is an answer.
	nx := startServer(t, rcode(dns.RcodeNameError))
	if got, _, err := lookup(resolver(t, nx, good), "x.example", FamilyV4); !errors.Is(err, ErrNoSuchName) {
		t.Errorf("NXDOMAIN first: %q, %v", got, err)
	}
}

func TestLookupWithoutEDNS(t *testing.T) {
	s := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if q.IsEdns0() != nil {
			rcode(dns.RcodeFormatError)(w, q)
			return
		}
		records("x.example. 60 IN A 192.0.2.1")(w, q)
	})
	if got, _, err := lookup(resolver(t, s), "x.example", FamilyV4); got != "192.0.2.1" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestLookupWithOneFamilyBroken(t *testing.T) {
	s := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Qtype == dns.TypeAAAA {
			rcode(dns.RcodeServerFailure)(w, q)
			return
		}
		records("x.example. 600 IN A 192.0.2.1", "none.example. 60 IN TXT x")(w, q)
	})
	r := resolver(t, s)
	if got, ttl, err := lookup(r, "x.example", FamilyAny); got != "192.0.2.1" || ttl != partialTTL {
		t.Errorf("%q, %s, %v: want the other family, for a short time", got, ttl, err)
	}
	if _, _, err := lookup(r, "none.example", FamilyAny); err == nil || notFound(err) {
		t.Errorf("no A, and AAAA unknown: %v, want a failure that may be retried", err)
	}
}

func TestLookupGivesUp(t *testing.T) {
	s := startServer(t, func(dns.ResponseWriter, *dns.Msg) {})
	r := resolver(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := r.Lookup(ctx, "x.example", FamilyAny); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
}

func TestResolverRereadsItsFiles(t *testing.T) {
	dir := t.TempDir()
	r := NewResolver(ResolverOptions{
		ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts"),
		Dialer: dialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			return nil, errors.New("dialled " + address)
		}),
	})
	dialled := func(want string) {
		t.Helper()
		if _, _, err := lookup(r, "x.example", FamilyV4); err == nil || !strings.Contains(err.Error(), "dialled "+want) {
			t.Errorf("err = %v, want %s to be asked", err, want)
		}
	}
	dialled("127.0.0.1:53") // the default of resolv.conf(5)
	replace(t, filepath.Join(dir, "resolv.conf"), []byte("nameserver 192.0.2.53\n"))
	dialled("192.0.2.53:53")
	replace(t, filepath.Join(dir, "resolv.conf"), []byte("nameserver 2001:db8::53\n"))
	dialled("[2001:db8::53]:53")

	replace(t, filepath.Join(dir, "hosts"), []byte("192.0.2.8 X.example alias\n2001:db8::8 x.example # six\n"))
	if got, ttl, err := lookup(r, "x.example", FamilyAny); got != "192.0.2.8 2001:db8::8" || ttl != hostsTTL {
		t.Errorf("%q, %s, %v", got, ttl, err)
	}
	if got, _, err := lookup(r, "alias", FamilyV6); !errors.Is(err, ErrNoAddress) {
		t.Errorf("%q, %v", got, err)
	}
	replace(t, filepath.Join(dir, "hosts"), []byte("192.0.2.9 x.example\n"))
	if got, _, err := lookup(r, "x.example", FamilyAny); got != "192.0.2.9" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Remove(filepath.Join(dir, "hosts")); err != nil {
		t.Fatal(err)
	}
	dialled("[2001:db8::53]:53")
}

func TestParseResolvConf(t *testing.T) {
	tests := []struct {
		text string
		want resolvConf
	}{
		{"", resolvConf{}},
		{"# nameserver 192.0.2.1\n; nameserver 192.0.2.1\nnameserver\nnameserver x\nfoo bar", resolvConf{}},
		{"nameserver 192.0.2.1\nsearch a b\nnameserver\tfe80::1%eth0 trailing\r\n", resolvConf{
			servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[fe80::1%eth0]:53")}}},
		{"options ndots:5 timeout:2 attempts:3 rotate", resolvConf{timeout: 2 * time.Second, attempts: 3, rotate: true}},
		{"options timeout:99999999999999999999 attempts:-1 timeout:0 attempts:x", resolvConf{}},
		{"options timeout:900 attempts:900", resolvConf{timeout: maxTimeout, attempts: maxAttempts}},
		{strings.Repeat("nameserver 192.0.2.1\n", 100), resolvConf{servers: repeat(netip.MustParseAddrPort("192.0.2.1:53"), maxServers)}},
	}
	for _, tt := range tests {
		got, err := parseResolvConf([]byte(tt.text))
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(resolvConf{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got)\n%s", tt.text, err, diff)
		}
	}
}

func repeat[T any](v T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func TestResolverRotates(t *testing.T) {
	a := startServer(t, records("x.example. 60 IN A 192.0.2.1"))
	b := startServer(t, records("x.example. 60 IN A 192.0.2.1"))
	r := resolver(t, a, b)
	r.conf = file.New(write(t, "resolv.conf", []byte("options rotate\n")), parseResolvConf)
	for range 4 {
		if _, _, err := lookup(r, "x.example", FamilyV4); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.asked()) != 2 || len(b.asked()) != 2 {
		t.Errorf("%d and %d queries", len(a.asked()), len(b.asked()))
	}
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\noptions rotate timeout:1\n"))
	f.Add([]byte("127.0.0.1 localhost # x\n::1 a b c\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseResolvConf(data)
		if err != nil || len(c.servers) > maxServers {
			t.Errorf("%v, %d servers", err, len(c.servers))
		}
		c = c.withDefaults()
		if len(c.servers) == 0 || c.timeout <= 0 || c.timeout > maxTimeout || c.attempts <= 0 || c.attempts > maxAttempts {
			t.Errorf("%+v", c)
		}
		hosts, err := parseHosts(data)
		for name, addrs := range hosts {
			if len(addrs) == 0 || name != strings.ToLower(name) {
				t.Errorf("%q: %v", name, addrs)
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// FuzzWalk gives the answer section of hostile servers to walk.
func FuzzWalk(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("a.example.", dns.TypeA)
	for _, l := range []string{"a.example. 30 IN CNAME b.example.", "b.example. 20 IN A 192.0.2.1", "b.example. 20 IN AAAA 2001:db8::1"} {
		rr, _ := dns.NewRR(l)
		m.Answer = append(m.Answer, rr)
	}
	seed, _ := m.Pack()
	f.Add(seed)
	f.Fuzz(func(t *testing.T, packet []byte) {
		m := new(dns.Msg)
		if m.Unpack(packet) != nil {
			return
		}
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			c := walk(m.Answer, "a.example.", qtype)
			if c.links > maxCNAMEs || len(c.addrs) > maxAddresses || c.ttl < 0 || c.ttl > maxTTL {
				t.Errorf("%+v", c)
			}
			for _, a := range c.addrs {
				if !a.IsValid() || a.Is4In6() || qtype == dns.TypeA && !a.Is4() {
					t.Errorf("address %s", a)
				}
			}
		}
	})
}
