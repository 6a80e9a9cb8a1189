package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/file"
)

const (
	ednsSize     = 1232            // bytes; the DNS flag day 2020 value
	maxCNAMEs    = 12              // followed for one name
	hostsTTL     = 5 * time.Second // of answers from the hosts file
	partialTTL   = 5 * time.Second // when one family could not be asked for
	maxAddresses = 64              // of one family that are used
)

// ResolverOptions say where names are looked up. The zero value means the machine's
// own configuration.
type ResolverOptions struct {
	// ResolvConf and Hosts are paths; "" means /etc/resolv.conf and /etc/hosts. Both
	// are read again when they change.
	ResolvConf, Hosts string
	// Servers replace those of ResolvConf.
	Servers []netip.AddrPort
	// Dialer opens the sockets ("udp" and "tcp"); nil means a net.Dialer.
	Dialer Dialer
	Logger *slog.Logger // nil discards
}

// DNSResolver asks the machine's resolvers, itself: addresses and their TTLs are
// what it is for, and both are lost in getaddrinfo. All names are absolute: search
// and ndots are ignored. It keeps no cache.
type DNSResolver struct {
	conf    *file.Cached[resolvConf]
	hosts   *file.Cached[hostsFile]
	servers []netip.AddrPort
	dialer  Dialer
	log     *slog.Logger
	turn    atomic.Uint32 // for "options rotate"
}

// NewResolver makes a resolver. It opens nothing until it is asked.
func NewResolver(o ResolverOptions) *DNSResolver {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Hosts == "" {
		o.Hosts = "/etc/hosts"
	}
	if o.Dialer == nil {
		o.Dialer = &net.Dialer{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &DNSResolver{
		conf:    file.New(o.ResolvConf, parseResolvConf),
		hosts:   file.New(o.Hosts, parseHosts),
		servers: o.Servers, dialer: o.Dialer, log: o.Logger,
	}
}

// Lookup implements Resolver: address literals, localhost (RFC 6761), the hosts
// file, then DNS, for A and AAAA at the same time. IPv4 addresses come first.
func (r *DNSResolver) Lookup(ctx context.Context, name string, family Family) ([]netip.Addr, TTL, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return ofFamily([]netip.Addr{addr}, family, name, maxTTL)
	}
	name = match.CanonicalName(name)
	if !match.IsHostName(name) {
		return nil, 0, fmt.Errorf("%q is not a host name: %w", name, ErrNoSuchName)
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return ofFamily([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, family, name, maxTTL)
	}
	hosts, err := r.hosts.Get()
	if err != nil {
		r.log.Debug("reading the hosts file failed", "error", err)
	} else if addrs := hosts[name]; len(addrs) > 0 {
		return ofFamily(addrs, family, name, hostsTTL)
	}
	return r.ask(ctx, name, family)
}

// ofFamily is an answer that needs no DNS.
func ofFamily(addrs []netip.Addr, family Family, name string, ttl time.Duration) ([]netip.Addr, TTL, error) {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	switch family {
	case FamilyV4:
		v6 = nil
	case FamilyV6:
		v4 = nil
	}
	if len(v4)+len(v6) == 0 {
		return nil, 0, fmt.Errorf("%q: %w", name, ErrNoAddress)
	}
	return append(v4, v6...), ttl, nil
}

// familyAnswer is the outcome of one query.
type familyAnswer struct {
	addrs []netip.Addr
	ttl   time.Duration
	err   error
}

func (r *DNSResolver) ask(ctx context.Context, name string, family Family) ([]netip.Addr, TTL, error) {
	switch family {
	case FamilyV4:
		a := r.askOne(ctx, name, dns.TypeA)
		return a.addrs, a.ttl, a.err
	case FamilyV6:
		a := r.askOne(ctx, name, dns.TypeAAAA)
		return a.addrs, a.ttl, a.err
	}
	other := make(chan familyAnswer, 1)
	go func() { other <- r.askOne(ctx, name, dns.TypeAAAA) }()
	v4 := r.askOne(ctx, name, dns.TypeA)
	v6 := <-other
	switch {
	case v4.err == nil && v6.err == nil:
		return append(v4.addrs, v6.addrs...), min(v4.ttl, v6.ttl), nil
	case v4.err == nil:
		return v4.addrs, partial(v4.ttl, v6.err), nil
	case v6.err == nil:
		return v6.addrs, partial(v6.ttl, v4.err), nil
	case notFound(v4.err) && !notFound(v6.err):
		return nil, 0, v6.err
	case errors.Is(v6.err, ErrNoAddress):
		return nil, 0, v6.err
	}
	return nil, 0, v4.err
}

// partial shortens the TTL of an answer that lacks a family only because DNS failed.
func partial(ttl time.Duration, err error) time.Duration {
	if notFound(err) {
		return ttl
	}
	return min(ttl, partialTTL)
}

// askOne asks for one type and follows CNAMEs, also those whose target the server
// did not include.
func (r *DNSResolver) askOne(ctx context.Context, name string, qtype uint16) familyAnswer {
	at, ttl := dns.Fqdn(name), maxTTL
	for links := 0; links <= maxCNAMEs; {
		q := new(dns.Msg)
		q.SetQuestion(at, qtype)
		resp, err := r.Exchange(ctx, q)
		if err != nil {
			return familyAnswer{err: fmt.Errorf("looking up %q: %w", name, err)}
		}
		if resp.Rcode == dns.RcodeNameError {
			return familyAnswer{err: fmt.Errorf("%q: %w", name, ErrNoSuchName)}
		}
		c := walk(resp.Answer, at, qtype)
		ttl = min(ttl, c.ttl)
		if len(c.addrs) > 0 {
			return familyAnswer{addrs: c.addrs, ttl: ttl}
		}
		if c.links == 0 {
			return familyAnswer{err: fmt.Errorf("%q: %w", name, ErrNoAddress)}
		}
		links += c.links
		at = c.end
	}
	return familyAnswer{err: fmt.Errorf("%q: more than %d CNAMEs", name, maxCNAMEs)}
}

// chain is what an answer section says about a name.
type chain struct {
	addrs []netip.Addr
	ttl   time.Duration // least of the records used
	end   string        // the last CNAME's target
	links int
}

// walk follows the CNAMEs of an answer section from name and takes the addresses at
// their end; records that do not hang together with name are ignored.
func walk(records []dns.RR, name string, qtype uint16) chain {
	c := chain{ttl: maxTTL, end: dns.CanonicalName(name)}
	for range maxCNAMEs + 1 {
		var next string
		for _, rr := range records {
			h := rr.Header()
			if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != c.end {
				continue
			}
			switch v := rr.(type) {
			case *dns.CNAME:
				next = dns.CanonicalName(v.Target)
			case *dns.A:
				if qtype != dns.TypeA || !c.add(v.A) {
					continue
				}
			case *dns.AAAA:
				if qtype != dns.TypeAAAA || !c.add(v.AAAA) {
					continue
				}
			default:
				continue
			}
			c.ttl = min(c.ttl, time.Duration(h.Ttl)*time.Second)
		}
		if len(c.addrs) > 0 || next == "" || c.links == maxCNAMEs {
			break
		}
		c.end = next
		c.links++
	}
	return c
}

func (c *chain) add(ip net.IP) bool {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok || len(c.addrs) >= maxAddresses {
		return false
	}
	c.addrs = append(c.addrs, addr.Unmap())
	return true
}

// Exchange sends one query to the resolvers, in turn, until one answers with
// NOERROR or NXDOMAIN, and returns that. It sets the ID, recursion and EDNS0 itself;
// the question must be one. Truncated answers are asked for again over TCP.
func (r *DNSResolver) Exchange(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	conf := r.config()
	start := 0
	if conf.rotate {
		start = int(r.turn.Add(1) % uint32(len(conf.servers)))
	}
	var last error
	for range conf.attempts {
		for i := range conf.servers {
			server := conf.servers[(start+i)%len(conf.servers)]
			resp, err := r.once(ctx, q, server, conf.timeout)
			if err == nil {
				return resp, nil
			}
			last = fmt.Errorf("resolver %s: %w", server, err)
			if ctx.Err() != nil {
				return nil, last
			}
		}
	}
	return nil, last
}

func (r *DNSResolver) config() resolvConf {
	conf, err := r.conf.Get()
	if err != nil && len(r.servers) == 0 {
		r.log.Debug("reading the resolver configuration failed", "error", err)
	}
	if len(r.servers) > 0 {
		conf.servers = r.servers
	}
	return conf.withDefaults()
}

// once asks one server: over UDP with EDNS0, without EDNS0 when the server does not
// know it, over TCP when the answer was cut.
func (r *DNSResolver) once(ctx context.Context, q *dns.Msg, server netip.AddrPort, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := r.roundTrip(ctx, query(q, true), "udp", server)
	if err == nil && (resp.Rcode == dns.RcodeFormatError || resp.Rcode == dns.RcodeNotImplemented) {
		resp, err = r.roundTrip(ctx, query(q, false), "udp", server)
	}
	if err == nil && resp.Truncated {
		resp, err = r.roundTrip(ctx, query(q, true), "tcp", server)
	}
	if err != nil {
		return nil, err
	}
	if resp.Rcode != dns.RcodeSuccess && resp.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("answered %s", dns.RcodeToString[resp.Rcode])
	}
	return resp, nil
}

func query(q *dns.Msg, edns bool) *dns.Msg {
	m := &dns.Msg{Question: q.Question}
	m.Id = uint16(rand.Uint32()) // math/rand/v2's top-level functions are ChaCha8, seeded by the system
	m.RecursionDesired = true
	if edns {
		m.SetEdns0(ednsSize, false)
	}
	return m
}

// roundTrip uses a socket, and so a source port, of its own for each query. Over UDP
// it goes on reading until the right answer or the deadline: a wrong ID or question
// is somebody's guess.
func (r *DNSResolver) roundTrip(ctx context.Context, q *dns.Msg, network string, server netip.AddrPort) (*dns.Msg, error) {
	conn, err := r.dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := &dns.Conn{Conn: conn, UDPSize: 4096}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		resp, err := c.ReadMsg()
		switch {
		case err == nil && answers(resp, q):
			return resp, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case network == "tcp" && err == nil:
			return nil, errors.New("the answer is for another question")
		case err != nil && (network == "tcp" || isNetError(err)):
			return nil, err
		}
	}
}

func isNetError(err error) bool {
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, io.EOF)
}

// answers reports whether resp is the answer to q.
func answers(resp, q *dns.Msg) bool {
	if !resp.Response || resp.Id != q.Id || resp.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(resp.Question) == 0 { // some servers leave it out when they refuse
		return resp.Rcode != dns.RcodeSuccess && resp.Rcode != dns.RcodeNameError
	}
	a, b := resp.Question[0], q.Question[0]
	return len(resp.Question) == 1 && a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}
