package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

const (
	maxMessage     = 4096 // bytes of a query
	maxUDPAnswer   = 1232 // bytes, whatever the client says it takes
	outsideTimeout = 8 * time.Second
	maxOutside     = 128 // queries under way outside; more are answered SERVFAIL
	maxAsking      = 256 // queries that wait for the control plane; more are answered SERVFAIL
)

// exchange is one question on its way through the server.
type exchange struct {
	req  *mdns.Msg
	resp *mdns.Msg // nil: do not answer
	q    query
	kind uint16 // the question's type
	// within are the prefixes that an answer from outside must be in; nil: any.
	within []netip.Prefix
	// asked is what the control plane said of the name.
	asked config.Outcome
	// bind: a name that does not exist outside gets an address of BindingRange.
	bind bool
}

// read parses a packet. When the exchange has a resp already, that is the answer; nil
// means that the packet deserves none.
func read(packet []byte) *exchange {
	if len(packet) < 12 || packet[2]&0x80 != 0 { // no header, or a response
		return nil
	}
	x := &exchange{req: new(mdns.Msg)}
	if err := x.req.Unpack(packet); err != nil || len(x.req.Question) != 1 {
		x.req, x.resp = new(mdns.Msg), new(mdns.Msg)
		x.resp.Id = uint16(packet[0])<<8 | uint16(packet[1])
		x.resp.Response, x.resp.Rcode = true, mdns.RcodeFormatError
		if opcode := int(packet[2] >> 3 & 0xf); opcode != mdns.OpcodeQuery {
			x.resp.Opcode, x.resp.Rcode = opcode, mdns.RcodeNotImplemented
		}
		return x
	}
	switch opt := x.req.IsEdns0(); {
	case x.req.Opcode != mdns.OpcodeQuery:
		x.reply(mdns.RcodeNotImplemented)
		return x
	case opt != nil && opt.Version() != 0:
		x.reply(mdns.RcodeBadVers)
		return x
	}
	question := x.req.Question[0]
	x.kind = question.Qtype
	x.q = query{name: match.CanonicalName(question.Name), qtype: mdns.Type(x.kind).String()}
	return x
}

// reply makes the answer; records may be added to resp.Answer.
func (x *exchange) reply(rcode int) {
	x.resp = new(mdns.Msg)
	x.resp.SetReply(x.req)
	x.resp.RecursionAvailable = true
	if x.req.IsEdns0() != nil {
		x.resp.SetEdns0(maxUDPAnswer, false)
	}
	x.resp.Rcode = rcode
}

// pack writes the answer, cut to what the transport and the client take.
func (x *exchange) pack(udp bool) ([]byte, error) {
	size := mdns.MaxMsgSize
	if udp {
		size = mdns.MinMsgSize
		if opt := x.req.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), size), maxUDPAnswer)
		}
	}
	x.resp.Compress = true
	x.resp.Truncate(size)
	return x.resp.Pack()
}

// next is what an exchange waits for.
type next uint8

const (
	answered next = iota
	outside       // an answer from outside
	asking        // an answer of the control plane about the name
)

// answer fills in x.resp from the name table, or returns what the answer has to wait for.
func (s *Server) answer(x *exchange) next {
	s.counts.queries.Add(1)
	return s.answerFrom(s.source.Current(), x)
}

// answerFrom answers by one configuration, and what was asked about the name.
func (s *Server) answerFrom(cfg *config.Config, x *exchange) next {
	if x.req.Question[0].Qclass != mdns.ClassINET || meta(x.kind) {
		x.reply(mdns.RcodeRefused)
		s.refuse(cfg, x, reason.DNSTypeRefused, "queries of this class or type are not answered")
		return answered
	}
	if x.kind == mdns.TypePTR {
		if addr, ok := reverseAddress(x.q.name); ok {
			return s.answerReverse(cfg, x, addr)
		}
	}
	if x.kind != mdns.TypeA && x.kind != mdns.TypeAAAA {
		return s.answerOther(cfg, x)
	}
	a := s.assign(cfg, x.asked, x.q.name)
	switch a.Kind {
	case Unasked:
		return asking
	case Outside, Ranged:
		x.within, x.bind = a.Prefixes, s.noBinding && a.Kind == Outside && a.Key != "*"
		return outside
	case NoTable:
		x.reply(mdns.RcodeServerFailure)
		return answered
	case Search:
		x.reply(mdns.RcodeNameError)
		return answered
	case Unknown:
		s.refuseUnknown(cfg, x)
		if len(a.Addresses) == 0 {
			x.reply(mdns.RcodeNameError)
			return answered
		}
	}
	x.reply(mdns.RcodeSuccess)
	x.addresses(a.Addresses, a.TTL)
	return answered
}

// answerOther answers for types that are not addresses: from here, with nothing.
func (s *Server) answerOther(cfg *config.Config, x *exchange) next {
	kind, _, _ := classify(cfg, x.asked, s.search, x.q.name)
	if kind == Unasked {
		return asking
	}
	x.reply(mdns.RcodeSuccess)
	switch kind {
	case NoTable:
		x.reply(mdns.RcodeServerFailure)
	case Search:
		x.reply(mdns.RcodeNameError)
	case Outside:
		if s.forwarder != nil {
			return outside
		}
		s.refuse(cfg, x, reason.DNSTypeRefused, "only A and AAAA are answered")
	case Unknown:
		s.refuseUnknown(cfg, x)
	case Table, Bound, Ranged:
		if x.kind != mdns.TypeHTTPS && x.kind != mdns.TypeSVCB {
			s.refuse(cfg, x, reason.DNSTypeRefused, "for names of the registry only A and AAAA are answered")
		}
	}
	return answered
}

// answerReverse answers a PTR query for a whole address.
func (s *Server) answerReverse(cfg *config.Config, x *exchange, addr netip.Addr) next {
	names := s.Names(addr)
	if addr.IsLoopback() {
		names = []string{"localhost"}
	}
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n[0] == '*' })
	if len(names) == 0 {
		kind, _, _ := classify(cfg, config.Absent, nil, x.q.name) // no host has such a name
		switch {
		case kind == NoTable:
			x.reply(mdns.RcodeServerFailure)
			return answered
		case kind == Outside && s.forwarder != nil && !reserved.Contains(addr):
			return outside
		}
		x.reply(mdns.RcodeNameError)
		if kind != Outside {
			s.refuse(cfg, x, reason.DNSNotInRegistry, "no name of the registry has this address, and it was not looked up outside")
		}
		return answered
	}
	x.reply(mdns.RcodeSuccess)
	for _, n := range names {
		x.resp.Answer = append(x.resp.Answer, &mdns.PTR{Hdr: x.header(mdns.TypePTR, sinkholeTTL), Ptr: mdns.Fqdn(n)})
	}
	return answered
}

func (x *exchange) header(t uint16, ttl time.Duration) mdns.RR_Header {
	return mdns.RR_Header{Name: x.req.Question[0].Name, Rrtype: t, Class: mdns.ClassINET, Ttl: uint32(ttl / time.Second)}
}

// addresses adds those of the family that was asked for.
func (x *exchange) addresses(addrs []netip.Addr, ttl time.Duration) {
	for _, a := range addrs {
		a = a.Unmap()
		switch {
		case x.kind == mdns.TypeA && a.Is4():
			x.resp.Answer = append(x.resp.Answer, &mdns.A{Hdr: x.header(mdns.TypeA, ttl), A: net.IP(a.AsSlice())})
		case x.kind == mdns.TypeAAAA && a.Is6():
			x.resp.Answer = append(x.resp.Answer, &mdns.AAAA{Hdr: x.header(mdns.TypeAAAA, ttl), AAAA: net.IP(a.AsSlice())})
		}
	}
}

func (s *Server) refuseUnknown(cfg *config.Config, x *exchange) {
	s.refuse(cfg, x, reason.DNSNotInRegistry,
		fmt.Sprintf("no ServiceEntry has the host %q, so it was not looked up outside", x.q.name))
}

func (s *Server) refuse(cfg *config.Config, x *exchange, why reason.Reason, detail string) {
	s.counts.refused.Add(1)
	s.refusals.record(x.q, why, detail, accessLogs(cfg))
}

// meta are the types that are not of records: ANY, AXFR, IXFR, TKEY, OPT and so on
// (RFC 6895 3.1).
func meta(t uint16) bool { return t == mdns.TypeNone || t == mdns.TypeOPT || t >= 128 && t <= 255 }

// accessLogs are those of the listener that has all outbound connections: the denial
// of a name belongs where the denial of the connection would have been written.
func accessLogs(cfg *config.Config) []resource.AccessLog {
	if cfg == nil {
		return nil
	}
	for _, l := range cfg.Listeners {
		if !l.UseOriginalDst || l.Direction == resource.DirectionInbound {
			continue
		}
		if len(l.AccessLogs) > 0 {
			return l.AccessLogs
		}
		for _, c := range append(slices.Clone(l.FilterChains), l.DefaultFilterChain) {
			if c != nil && c.TCP != nil && len(c.TCP.AccessLogs) > 0 {
				return c.TCP.AccessLogs
			}
		}
	}
	return nil
}

// wait asks the control plane about the name and answers, unless that has to be asked
// outside.
func (s *Server) wait(ctx context.Context, x *exchange) next {
	for range 2 { // more only when the name made room for others at once
		a := s.onDemand.Find(ctx, needOf(x.q.name))
		if why, detail := decide.Asked(a); why != "" {
			x.reply(mdns.RcodeServerFailure)
			s.refuse(s.source.Current(), x, why, detail)
			return answered
		}
		x.asked = a.Outcome
		if n := s.answerFrom(s.source.Current(), x); n != asking {
			return n
		}
	}
	x.reply(mdns.RcodeServerFailure)
	return answered
}

// ask fills in x.resp with what is found outside.
func (s *Server) ask(ctx context.Context, x *exchange) {
	ctx, cancel := context.WithTimeout(ctx, outsideTimeout)
	defer cancel()
	x.reply(mdns.RcodeServerFailure)
	var err error
	if x.kind == mdns.TypeA || x.kind == mdns.TypeAAAA {
		err = s.askAddresses(ctx, x)
	} else {
		err = s.askOther(ctx, x)
	}
	if err != nil {
		s.log.Debug("query outside failed", "name", x.q.name, "type", x.q.qtype, "error", err)
	}
}

func (s *Server) askAddresses(ctx context.Context, x *exchange) error {
	if s.resolver == nil {
		return errors.New("no resolver")
	}
	family := upstream.FamilyV4
	if x.kind == mdns.TypeAAAA {
		family = upstream.FamilyV6
	}
	addrs, ttl, err := s.resolver.Lookup(ctx, x.q.name, family)
	switch {
	case errors.Is(err, upstream.ErrNoSuchName) && x.bind:
		x.reply(mdns.RcodeSuccess)
		x.addresses([]netip.Addr{s.bindings.assign(x.q.name)}, tableTTL)
		return nil
	case errors.Is(err, upstream.ErrNoSuchName):
		x.reply(mdns.RcodeNameError)
		return nil
	case err != nil && !errors.Is(err, upstream.ErrNoAddress):
		return err
	}
	x.reply(mdns.RcodeSuccess)
	x.addresses(slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		return reserved.Contains(a) || x.within != nil && !slices.ContainsFunc(x.within, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	}), ttl)
	return nil
}

func (s *Server) askOther(ctx context.Context, x *exchange) error {
	q := new(mdns.Msg)
	q.SetQuestion(x.req.Question[0].Name, x.kind)
	found, err := s.forwarder.Exchange(ctx, q)
	if err != nil {
		return err
	}
	x.reply(found.Rcode)
	x.resp.Answer = slices.DeleteFunc(found.Answer, unwanted)
	x.resp.Ns = slices.DeleteFunc(found.Ns, unwanted)
	x.resp.Extra = append(x.resp.Extra, slices.DeleteFunc(found.Extra, unwanted)...)
	return nil
}

// unwanted records of a foreign answer: EDNS0 is between neighbours, and addresses
// that this proxy gives out itself come from nobody else.
func unwanted(rr mdns.RR) bool {
	switch v := rr.(type) {
	case *mdns.OPT:
		return true
	case *mdns.A:
		a, ok := netip.AddrFromSlice(v.A)
		return !ok || reserved.Contains(a.Unmap())
	}
	return false
}
