package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/runtest"
)

// internet is the outside: a Resolver and Forwarder that counts who was asked for.
type internet struct {
	mu    sync.Mutex
	asked []string
	wait  chan struct{} // when set, lookups wait for it
}

func (n *internet) note(q string) {
	n.mu.Lock()
	n.asked = append(n.asked, q)
	n.mu.Unlock()
}

func (n *internet) questions() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

func (n *internet) Lookup(ctx context.Context, name string, f upstream.Family) ([]netip.Addr, upstream.TTL, error) {
	n.note(fmt.Sprintf("%s/%d", name, f))
	if n.wait != nil {
		select {
		case <-n.wait:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	switch name {
	case "real.example":
		if f == upstream.FamilyV6 {
			return nil, 0, fmt.Errorf("%w", upstream.ErrNoAddress)
		}
		return []netip.Addr{netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("240.241.0.1")}, 77 * time.Second, nil
	case "broken.example":
		return nil, 0, errors.New("unreachable")
	}
	return nil, 0, fmt.Errorf("%w", upstream.ErrNoSuchName)
}

func (n *internet) Exchange(_ context.Context, q *mdns.Msg) (*mdns.Msg, error) {
	n.note(fmt.Sprintf("%s %s", q.Question[0].Name, mdns.Type(q.Question[0].Qtype)))
	m := new(mdns.Msg)
	m.SetReply(q)
	m.SetEdns0(4096, true)
	if q.Question[0].Qtype == mdns.TypeMX {
		mx, _ := mdns.NewRR("real.example. 60 IN MX 10 mail.real.example.")
		evil, _ := mdns.NewRR("mail.real.example. 60 IN A 240.241.0.1")
		m.Answer, m.Extra = []mdns.RR{mx}, append(m.Extra, evil)
	}
	return m, nil
}

// serve starts the server over UDP and TCP on loopback.
func serve(t testing.TB, s *Server) (udp, tcp string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.ServePacket(ctx, pc); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := s.ServeStream(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return pc.LocalAddr().String(), l.Addr().String()
}

func ask(t testing.TB, network, addr string, q *mdns.Msg) *mdns.Msg {
	t.Helper()
	c := mdns.Client{Net: network, Timeout: 10 * time.Second}
	m, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%v: %v", q.Question, err)
	}
	return m
}

// show is the answer in one line.
func show(m *mdns.Msg) string {
	out := []string{mdns.RcodeToString[m.Rcode]}
	for _, rr := range append(slices.Clone(m.Answer), m.Ns...) {
		f := strings.Fields(rr.String())
		out = append(out, fmt.Sprintf("%s/%s", strings.Join(f[4:], ","), f[1]))
	}
	return strings.Join(out, " ")
}

func question(name string, qtype uint16) *mdns.Msg {
	q := new(mdns.Msg)
	q.SetQuestion(mdns.Fqdn(name), qtype)
	return q
}

func TestAnswers(t *testing.T) {
	restricted := registry
	open := append(slices.Clone(registry), "*")
	tests := []struct {
		name  string
		table []string
		query string
		qtype uint16
		want  string
		told  []string
		asked []string
	}{
		{"registered", restricted, "www.example.com", mdns.TypeA, "NOERROR 240.240.0.1/30", nil, nil},
		{"registered, IPv6", restricted, "www.example.com", mdns.TypeAAAA, "NOERROR", nil, nil},
		{"both families: A", restricted, "dual.example.com", mdns.TypeA, "NOERROR 192.0.2.7/30", nil, nil},
		{"both families: AAAA", restricted, "dual.example.com", mdns.TypeAAAA, "NOERROR 2001:db8::7/30", nil, nil},
		{"binding", restricted, "x.wild.example.com", mdns.TypeA, "NOERROR 240.241.0.1/30", nil, nil},
		{"binding, IPv6", restricted, "x.wild.example.com", mdns.TypeAAAA, "NOERROR", nil, nil},
		{"HTTPS of a registered name", restricted, "www.example.com", mdns.TypeHTTPS, "NOERROR", nil, nil},
		{"SVCB of a wildcard", restricted, "x.wild.example.com", mdns.TypeSVCB, "NOERROR", nil, nil},
		{"MX of a registered name", restricted, "www.example.com", mdns.TypeMX, "NOERROR", []string{"dns_type_refused MX www.example.com"}, nil},
		{"TXT of a wildcard", restricted, "data.wild.example.com", mdns.TypeTXT, "NOERROR", []string{"dns_type_refused TXT data.wild.example.com"}, nil},
		{"unknown", restricted, "secret.evil.example", mdns.TypeA, "NOERROR 240.242.0.1/5", []string{"dns_not_in_registry A secret.evil.example"}, nil},
		{"unknown, IPv6", restricted, "secret.evil.example", mdns.TypeAAAA, "NOERROR", []string{"dns_not_in_registry AAAA secret.evil.example"}, nil},
		{"unknown, TXT", restricted, "secret.evil.example", mdns.TypeTXT, "NOERROR", []string{"dns_not_in_registry TXT secret.evil.example"}, nil},
		{"unknown, HTTPS", restricted, "secret.evil.example", mdns.TypeHTTPS, "NOERROR", []string{"dns_not_in_registry HTTPS secret.evil.example"}, nil},
		{"not a host name", restricted, `a\000b.example`, mdns.TypeA, "NXDOMAIN", []string{`dns_not_in_registry A a\000b.example`}, nil},
		{"ANY", restricted, "www.example.com", mdns.TypeANY, "REFUSED", []string{"dns_type_refused ANY www.example.com"}, nil},
		{"AXFR", open, "example.com", mdns.TypeAXFR, "REFUSED", []string{"dns_type_refused AXFR example.com"}, nil},
		{"PTR of the table", restricted, "1.0.240.240.in-addr.arpa", mdns.TypePTR, "NOERROR www.example.com./5", nil, nil},
		{"PTR of a shared address", restricted, "2.0.240.240.in-addr.arpa", mdns.TypePTR, "NOERROR istio-egressgateway.istio-system./5 istio-egressgateway.istio-system.svc.cluster.local./5", nil, nil},
		{"PTR of loopback", restricted, "1.0.0.127.in-addr.arpa", mdns.TypePTR, "NOERROR localhost./5", nil, nil},
		{"PTR of a stranger", restricted, "8.8.8.8.in-addr.arpa", mdns.TypePTR, "NXDOMAIN", []string{"dns_not_in_registry PTR 8.8.8.8.in-addr.arpa"}, nil},
		{"localhost", restricted, "localhost", mdns.TypeA, "NOERROR 127.0.0.1/3600", nil, nil},
		{"localhost, IPv6", restricted, "localhost", mdns.TypeAAAA, "NOERROR ::1/3600", nil, nil},
		{"localhost, MX", restricted, "localhost", mdns.TypeMX, "NOERROR", nil, nil},
		{"search domain", restricted, "www.example.com.ns.search.local", mdns.TypeA, "NXDOMAIN", nil, nil},
		{"search domain, MX", restricted, "www.example.com.ns.search.local", mdns.TypeMX, "NXDOMAIN", nil, nil},

		{"outside", open, "real.example", mdns.TypeA, "NOERROR 203.0.113.5/77", nil, []string{"real.example/1"}},
		{"outside, no IPv6", open, "real.example", mdns.TypeAAAA, "NOERROR", nil, []string{"real.example/2"}},
		{"outside, no such name", open, "nx.example", mdns.TypeA, "NXDOMAIN", nil, []string{"nx.example/1"}},
		{"outside, broken", open, "broken.example", mdns.TypeA, "SERVFAIL", nil, []string{"broken.example/1"}},
		{"outside, MX", open, "real.example", mdns.TypeMX, "NOERROR 10,mail.real.example./60", nil, []string{"real.example. MX"}},
		{"outside, HTTPS", open, "real.example", mdns.TypeHTTPS, "NOERROR", nil, []string{"real.example. HTTPS"}},
		{"outside, PTR", open, "8.8.8.8.in-addr.arpa", mdns.TypePTR, "NOERROR", nil, []string{"8.8.8.8.in-addr.arpa. PTR"}},
		{"reserved PTR stays here", open, "9.9.241.240.in-addr.arpa", mdns.TypePTR, "NXDOMAIN", nil, nil},
		{"registered, everything allowed", open, "www.example.com", mdns.TypeHTTPS, "NOERROR", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, rec, out := &source{}, &recorder{}, &internet{}
			src.set(tt.table...)
			s := New(Options{Source: src, Resolver: out, Recorder: rec, SearchDomains: []string{"ns.search.local"}})
			udp, tcp := serve(t, s)
			m := ask(t, "udp", udp, question(tt.query, tt.qtype))
			if got := show(m); got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
			if len(m.Extra) != 0 {
				t.Errorf("additional records %v", m.Extra)
			}
			if diff := cmp.Diff(tt.told, rec.told()); diff != "" {
				t.Errorf("recorded (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.asked, out.questions()); diff != "" {
				t.Errorf("asked outside (-want +got)\n%s", diff)
			}
			if got := show(ask(t, "tcp", tcp, question(tt.query, tt.qtype))); got != tt.want {
				t.Errorf("over TCP %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAnswerWithoutTable(t *testing.T) {
	s := New(Options{Source: &source{}})
	udp, _ := serve(t, s)
	for _, qtype := range []uint16{mdns.TypeA, mdns.TypeMX, mdns.TypePTR} {
		for _, name := range []string{"www.example.com", "1.0.240.240.in-addr.arpa"} {
			if m := ask(t, "udp", udp, question(name, qtype)); m.Rcode != mdns.RcodeServerFailure {
				t.Errorf("%s", m)
			}
		}
	}
}

func TestRegisteringANameTakesEffectAtOnce(t *testing.T) {
	src := &source{}
	src.set(registry...)
	s := New(Options{Source: src, Recorder: &recorder{}})
	udp, _ := serve(t, s)
	a := ask(t, "udp", udp, question("new.example", mdns.TypeA)).Answer[0].(*mdns.A)
	addr, _ := netip.AddrFromSlice(a.A)
	if b := s.Binding(addr.Unmap()); b.Name != "new.example" || !b.Unregistered {
		t.Errorf("%+v", b)
	}
	src.set("new.example 240.240.0.77")
	if b := s.Binding(addr.Unmap()); b.Name != "new.example" || b.Unregistered {
		t.Errorf("%+v", b)
	}
	if got := show(ask(t, "udp", udp, question("new.example", mdns.TypeA))); got != "NOERROR 240.240.0.77/30" {
		t.Error(got)
	}
}

func TestRefusalsAreWrittenWhereDenialsAre(t *testing.T) {
	logs := []resource.AccessLog{{Path: "/dev/stdout"}}
	src, rec := &source{}, &recorder{}
	cfg := src.set(registry...)
	src.current.Store(&config.Config{Names: cfg.Names, Listeners: []*resource.Listener{
		{Name: "virtualInbound", UseOriginalDst: true, Direction: resource.DirectionInbound, AccessLogs: []resource.AccessLog{{Path: "no"}}},
		{Name: "virtualOutbound", UseOriginalDst: true, FilterChains: []*resource.FilterChain{{TCP: &resource.TCPProxy{AccessLogs: logs}}}},
	}})
	udp, _ := serve(t, New(Options{Source: src, Recorder: rec}))
	ask(t, "udp", udp, question("evil.example", mdns.TypeA))
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if diff := cmp.Diff([][]resource.AccessLog{logs}, rec.logs); diff != "" {
		t.Error(diff)
	}
	e := rec.entries[0]
	if !e.DownstreamRemote.Addr().IsLoopback() || e.Authority != "evil.example" || e.Protocol != "DNS" || !strings.Contains(e.Detail, "evil.example") || e.Start.IsZero() {
		t.Errorf("%+v", e)
	}
}

func TestMalformedPackets(t *testing.T) {
	ok, _ := question("www.example.com", mdns.TypeA).Pack()
	change := func(f func(q *mdns.Msg)) []byte {
		q := question("www.example.com", mdns.TypeA)
		f(q)
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := []struct {
		name   string
		packet []byte
		want   string // "" is no answer at all
	}{
		{"fine", ok, "NOERROR"},
		{"empty", nil, ""},
		{"half a header", ok[:11], ""},
		{"a response", change(func(q *mdns.Msg) { q.Response = true }), ""},
		{"cut in the name", ok[:20], "FORMERR"},
		{"garbage after the question count", append(slices.Clone(ok[:12]), 0xff, 0xff, 0xff), "FORMERR"},
		{"no question", change(func(q *mdns.Msg) { q.Question = nil }), "FORMERR"},
		{"two questions", change(func(q *mdns.Msg) { q.Question = append(q.Question, q.Question[0]) }), "FORMERR"},
		{"status", change(func(q *mdns.Msg) { q.Opcode = mdns.OpcodeStatus }), "NOTIMP"},
		{"update", change(func(q *mdns.Msg) { q.Opcode = mdns.OpcodeUpdate }), "NOTIMP"},
		{"chaos", change(func(q *mdns.Msg) { q.Question[0].Qclass = mdns.ClassCHAOS }), "REFUSED"},
		{"EDNS version 1", change(func(q *mdns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetVersion(1) }), "BADVERS"},
		{"a name that points at itself", append(append(slices.Clone(ok[:12]), 0xc0, 0x0c), ok[len(ok)-4:]...), "FORMERR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := read(tt.packet)
			if x == nil {
				if tt.want != "" {
					t.Fatalf("no answer, want %s", tt.want)
				}
				return
			}
			src := &source{}
			src.set(registry...)
			if x.resp == nil && New(Options{Source: src}).answer(x) != answered {
				t.Fatal("asked outside")
			}
			out, err := x.pack(true)
			if err != nil {
				t.Fatal(err)
			}
			m := new(mdns.Msg)
			if err := m.Unpack(out); err != nil {
				t.Fatal(err)
			}
			id := binary.BigEndian.Uint16(tt.packet)
			if got := rcodeName(m); got != tt.want || m.Id != id || !m.Response {
				t.Errorf("%s, id %d (want %d), response %v; want %s", got, m.Id, id, m.Response, tt.want)
			}
		})
	}
}

func rcodeName(m *mdns.Msg) string {
	if m.Rcode == mdns.RcodeBadVers {
		return "BADVERS"
	}
	return mdns.RcodeToString[m.Rcode]
}

func TestAnswersFitThePacket(t *testing.T) {
	line := "big.example"
	for i := range 200 {
		line += fmt.Sprintf(" 192.0.2.%d", i)
	}
	src := &source{}
	src.set(line)
	udp, tcp := serve(t, New(Options{Source: src}))
	for _, tt := range []struct {
		edns uint16
		max  int
	}{{0, 512}, {100, 512}, {1232, 1232}, {65535, 1232}} {
		q := question("big.example", mdns.TypeA)
		if tt.edns != 0 {
			q.SetEdns0(tt.edns, false)
		}
		c, err := net.Dial("udp", udp)
		if err != nil {
			t.Fatal(err)
		}
		packet, _ := q.Pack()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 65535)
		n, err := c.Read(buf)
		_ = c.Close()
		m := new(mdns.Msg)
		if err != nil || n > tt.max || m.Unpack(buf[:n]) != nil || !m.Truncated || len(m.Answer) == 0 {
			t.Errorf("EDNS %d: %d bytes, %v, truncated %v", tt.edns, n, err, m.Truncated)
		}
		if (m.IsEdns0() != nil) != (tt.edns != 0) {
			t.Errorf("EDNS %d: the answer has %v", tt.edns, m.IsEdns0())
		}
	}
	if m := ask(t, "tcp", tcp, question("big.example", mdns.TypeA)); len(m.Answer) != 200 || m.Truncated {
		t.Errorf("over TCP: %d records", len(m.Answer))
	}
}

// TestFloodOfOutsideQuestionsIsBounded: slow lookups use up the tokens, then SERVFAIL.
func TestFloodOfOutsideQuestionsIsBounded(t *testing.T) {
	src, out := &source{}, &internet{wait: make(chan struct{})}
	src.set(append(slices.Clone(registry), "*")...)
	s := New(Options{Source: src, Resolver: out})
	udp, _ := serve(t, s)
	c, err := net.Dial("udp", udp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	conn := &mdns.Conn{Conn: c, UDPSize: 4096}
	for i := range maxOutside {
		if err := conn.WriteMsg(question(fmt.Sprintf("n%d.example", i), mdns.TypeA)); err != nil {
			t.Fatal(err)
		}
		runtest.Eventually(t, fmt.Sprintf("question %d is asked outside", i), func() bool { return len(out.questions()) == i+1 })
	}
	for _, tt := range []struct {
		name string
		want int
	}{{"one.more.example", mdns.RcodeServerFailure}, {"www.example.com", mdns.RcodeSuccess}} {
		q := question(tt.name, mdns.TypeA)
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		m, err := conn.ReadMsg()
		if err != nil || m.Id != q.Id || m.Rcode != tt.want {
			t.Errorf("%s: %v, %v", tt.name, m, err)
		}
	}
	close(out.wait)
	for range maxOutside {
		if m, err := conn.ReadMsg(); err != nil || m.Rcode != mdns.RcodeNameError {
			t.Fatalf("%v, %v", m, err)
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, q := range []*mdns.Msg{
		question("www.example.com", mdns.TypeA), question("x.wild.example.com", mdns.TypeAAAA),
		question("evil.example", mdns.TypeTXT), question("1.0.240.240.in-addr.arpa", mdns.TypePTR),
		question("www.example.com", mdns.TypeANY),
	} {
		q.SetEdns0(4096, true)
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1})
	src := &source{}
	src.set(append(slices.Clone(registry), "*")...)
	rec, out := &recorder{}, &internet{}
	s := New(Options{Source: src, Resolver: out, Recorder: rec, SearchDomains: []string{"ns.search.local"}})
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, udp := range []bool{true, false} {
			x := read(packet)
			if x == nil {
				return
			}
			if x.resp == nil && s.answer(x) != answered {
				s.ask(t.Context(), x)
			}
			b, err := x.pack(udp)
			if err != nil {
				return // not sent; counted
			}
			m := new(mdns.Msg)
			if err := m.Unpack(b); err != nil {
				t.Fatalf("the answer is malformed: %v", err)
			}
			if !m.Response || m.Id != binary.BigEndian.Uint16(packet) {
				t.Fatalf("not an answer: %v", m)
			}
			if udp && len(b) > maxUDPAnswer {
				t.Fatalf("%d bytes", len(b))
			}
		}
		rec.told()
		out.asked = nil
	})
}
