package internet

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// queryLog writes down the names that were asked, one a line.
type queryLog struct {
	mu sync.Mutex
	to io.Writer
}

func (q *queryLog) add(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, _ = io.WriteString(q.to, name+"\n") // a full disk must not stop the world
}

// serveDNS answers A and AAAA for the world's names, NXDOMAIN for the rest.
func (s *Server) serveDNS(w World) error {
	hosts := w.hosts()
	handler := dns.HandlerFunc(func(rw dns.ResponseWriter, req *dns.Msg) {
		_ = rw.WriteMsg(s.answer(hosts, req))
	})
	for _, addr := range []netip.Addr{w.DNS, netip.MustParseAddr("127.0.0.1")} {
		if err := s.serveDNSOn(netip.AddrPortFrom(addr, 53), handler); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) serveDNSOn(at netip.AddrPort, handler dns.Handler) error {
	pc, err := net.ListenPacket("udp", at.String())
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", at.String())
	if err != nil {
		_ = pc.Close()
		return err
	}
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: ln, Handler: handler}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		s.closers = append(s.closers, func() { _ = srv.Shutdown() })
		s.wg.Go(func() { _ = srv.ActivateAndServe() })
		<-started
	}
	return nil
}

func (s *Server) answer(hosts map[string][]netip.Addr, req *dns.Msg) *dns.Msg {
	resp := new(dns.Msg)
	resp.SetReply(req)
	resp.RecursionAvailable = true
	if len(req.Question) != 1 {
		resp.Rcode = dns.RcodeFormatError
		return resp
	}
	q := req.Question[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	s.queries.add(name)
	addrs, ok := hosts[name]
	if !ok {
		resp.Rcode = dns.RcodeNameError
		return resp
	}
	hdr := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 60}
	for _, a := range addrs {
		switch {
		case q.Qtype == dns.TypeA && a.Is4():
			resp.Answer = append(resp.Answer, &dns.A{Hdr: hdr, A: net.IP(a.AsSlice())})
		case q.Qtype == dns.TypeAAAA && a.Is6():
			resp.Answer = append(resp.Answer, &dns.AAAA{Hdr: hdr, AAAA: net.IP(a.AsSlice())})
		}
	}
	return resp
}
