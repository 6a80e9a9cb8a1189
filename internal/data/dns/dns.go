// Package dns is the DNS proxy of a captured workload. It answers from the name
// table that the control plane sends, hands out addresses of its own for names that
// have none, and so knows for every connection which name it was opened to. A name
// that the table does not know is never looked up outside: DNS cannot carry data out.
//
// It must not decide what a workload may reach: an unknown name gets a sinkhole
// address, and the proxy refuses the connection. What it does not answer it records.
//
// What is answered:
//
//	name                     A            AAAA        HTTPS, SVCB  PTR          others
//	localhost, *.localhost   127.0.0.1    ::1         empty        -            empty
//	in the table, addresses  these        these       empty        -            empty, recorded
//	in the table, without    binding*     empty       empty        -            empty, recorded
//	unknown, "*" in table    outside      outside     outside      outside      outside
//	unknown                  sinkhole, r. empty, r.   empty, r.    NXDOMAIN, r. empty, r.
//
// (*: outside with Options.NoBindings.) "Empty" is NOERROR without records, "r." is
// recorded as dns_not_in_registry. PTR queries for addresses that this proxy or the table gave out are answered with their
// name. HTTPS and SVCB are empty, so that no other address, port or encrypted SNI is
// learned. Unknown names below a search domain are NXDOMAIN without a record: the
// workload's resolver goes on with the name that was meant. ANY, AXFR and IXFR are
// never answered, nor classes other than IN.
//
// Where the table's names are asked for on demand, a query for one that is not known waits
// for the answer. Where there is none it is SERVFAIL, recorded as config_not_available.
package dns

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// Ranges that the proxy hands addresses out of. Both are in 240.0.0.0/4, which is
// routed nowhere (RFC 1112 section 4), next to Istio's 240.240.0.0/16.
var (
	BindingRange  = netip.MustParsePrefix("240.241.0.0/16")
	SinkholeRange = netip.MustParsePrefix("240.242.0.0/16")

	reserved = netip.MustParsePrefix("240.0.0.0/4")
)

// TTLs of the answers.
const (
	tableTTL    = 30 * time.Second
	sinkholeTTL = 5 * time.Second // the name may be registered any moment
	localTTL    = time.Hour
)

// maxAssigned bounds the names that have an address in each range.
const maxAssigned = 8192

// Recorder is where refusals are told; *record.Recorder is one.
type Recorder interface {
	Record(*record.Entry, []resource.AccessLog)
}

// Forwarder sends a query outside as it is; *upstream.DNSResolver is one. It is only
// used where the name table has the key "*".
type Forwarder interface {
	Exchange(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error)
}

// Options of a Server.
type Options struct {
	Source config.Source
	// OnDemand is where names are asked for that the configuration does not have; nil: nowhere.
	OnDemand config.OnDemand
	// Resolver answers A and AAAA where the table has "*". If it is a Forwarder too,
	// it is used for all other types; otherwise they are refused.
	Resolver upstream.Resolver
	Recorder Recorder
	Logger   *slog.Logger // nil discards
	// NoBindings says that the proxy cannot ask which name an address was handed out for
	// (Envoy): a name that is known without an address is looked up outside, as Istio's
	// agent does. Where it does not exist (only a VirtualService has it) it gets an
	// address all the same: HTTP goes by the request's Host.
	NoBindings bool
	// SearchDomains are the workload's, where it has some (Kubernetes).
	SearchDomains []string
}

// Server is the DNS proxy. All methods are safe for concurrent use.
type Server struct {
	source    config.Source
	onDemand  config.OnDemand
	resolver  upstream.Resolver
	forwarder Forwarder
	log       *slog.Logger
	search    []string
	noBinding bool
	refusals  *refusals
	bindings  *pool
	sinkholes *pool
	outside   chan struct{} // tokens for queries under way outside
	asking    chan struct{} // tokens for queries that wait for the control plane
	reverse   atomic.Pointer[reverseIndex]
	reversing sync.Mutex // who makes it
	counts    counters
}

type counters struct {
	queries, refused, dropped atomic.Uint64
}

// Stats are totals since the start.
type Stats struct {
	Queries uint64 // well-formed questions
	Refused uint64 // of them, refused and recorded (or counted, when too many)
	Dropped uint64 // packets that were not answered
	// Unwritten is how many refusals were counted in a later record of the same
	// name, or not written at all, to keep the log from flooding.
	Unwritten uint64
	// Bindings and Sinkholes are the names that have an address now.
	Bindings, Sinkholes int
}

// New makes a server; ServePacket and ServeStream serve with it.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		source: o.Source, onDemand: o.OnDemand, resolver: o.Resolver, log: o.Logger, noBinding: o.NoBindings,
		refusals:  newRefusals(o.Recorder, time.Now),
		bindings:  newPool(BindingRange, maxAssigned),
		sinkholes: newPool(SinkholeRange, maxAssigned),
		outside:   make(chan struct{}, maxOutside),
		asking:    make(chan struct{}, maxAsking),
	}
	if s.onDemand == nil {
		s.onDemand = config.Offline{}
	}
	s.forwarder, _ = o.Resolver.(Forwarder)
	for _, d := range o.SearchDomains {
		s.search = append(s.search, "."+match.CanonicalName(strings.TrimPrefix(d, ".")))
	}
	return s
}

// Stats returns the totals.
func (s *Server) Stats() Stats {
	return Stats{
		Queries: s.counts.queries.Load(), Refused: s.counts.refused.Load(),
		Dropped: s.counts.dropped.Load(), Unwritten: s.refusals.unwritten.Load(),
		Bindings: s.bindings.len(), Sinkholes: s.sinkholes.len(),
	}
}

// Kind says where an answer comes from.
type Kind uint8

// Kinds of answers.
const (
	// Unknown: not in the registry; the address is a sinkhole's.
	Unknown Kind = iota
	// Table: the name table has addresses for the name.
	Table
	// Bound: the name is known without an address; it got one of BindingRange and
	// is resolved when it is dialled.
	Bound
	// Ranged: the name table has CIDRs for the name: it is looked up outside, and the
	// answers within them are good.
	Ranged
	// Outside: not known, but every name may be looked up.
	Outside
	// Local: localhost.
	Local
	// Search: not known, below a search domain: there is no such name.
	Search
	// NoTable: the name table has not arrived yet.
	NoTable
	// Unasked: the control plane has to be asked for the name.
	Unasked
)

var kindNames = [...]string{"unknown", "table", "bound", "ranged", "outside", "local", "search", "no table", "unasked"}

func (k Kind) String() string { return kindNames[k] }

// Answer is what a workload is told about a name.
type Answer struct {
	Kind Kind
	// Key is the key of the name table that decided: the name, a "*.suffix", or "*".
	Key string
	// Addresses to answer with, both families; none for Ranged, Outside, Search, NoTable
	// and Unasked.
	Addresses []netip.Addr
	// Prefixes that an answer from outside must be in; nil: any.
	Prefixes []netip.Prefix
	TTL      time.Duration
}

// Assign answers for a name, in any case and with or without a final dot. A name
// that needs an address of the proxy's own gets or keeps one. One that is not known is
// asked for, but not waited for: that is Unasked.
func (s *Server) Assign(cfg *config.Config, name string) Answer {
	name = match.CanonicalName(name)
	a := s.assign(cfg, config.NotAsked, name)
	if a.Kind == Unasked {
		a = s.assign(cfg, s.onDemand.Look(needOf(name)).Outcome, name)
	}
	return a
}

// assign is Assign for a canonical name; asked is what the control plane said of it.
func (s *Server) assign(cfg *config.Config, asked config.Outcome, name string) Answer {
	kind, key, info := classify(cfg, asked, s.search, name)
	if kind == Bound && s.noBinding {
		kind = Outside
	}
	a := Answer{Kind: kind, Key: key, Addresses: info.Addresses, TTL: tableTTL}
	switch kind {
	case Ranged:
		a.Prefixes = info.Prefixes
	case Bound:
		a.Addresses = []netip.Addr{s.bindings.assign(name)}
	case Unknown:
		a.Addresses, a.TTL = nil, sinkholeTTL
		if match.IsHostName(name) {
			a.Addresses = []netip.Addr{s.sinkholes.assign(name)}
		}
	case Local:
		a.TTL = localTTL
	}
	return a
}

var localAddresses = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// classify says what the name table knows of a canonical name, and which of its keys
// says so; asked is what the control plane said of the name, where it was asked.
func classify(cfg *config.Config, asked config.Outcome, search []string, name string) (Kind, string, resource.NameInfo) {
	none := resource.NameInfo{}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761 6.3
		return Local, "", resource.NameInfo{Addresses: localAddresses}
	}
	if cfg == nil || cfg.Names == nil && !cfg.NamesOnDemand {
		return NoTable, "", none
	}
	if key, info, ok := find(cfg, name); ok {
		switch {
		case len(info.Addresses) > 0:
			return Table, key, info
		case len(info.Prefixes) > 0:
			return Ranged, key, info
		}
		return Bound, key, none
	}
	if cfg.NamesOnDemand && asked != config.Absent && match.IsHostName(name) {
		return Unasked, "", none
	}
	for _, d := range search {
		if strings.HasSuffix(name, d) {
			return Search, "", none
		}
	}
	if cfg.AnyName() {
		return Outside, "*", none
	}
	return Unknown, "", none
}

// find looks a name of a host up: itself, then the longest wildcard. The key "*" is
// not a wildcard but a permission.
func find(cfg *config.Config, name string) (string, resource.NameInfo, bool) {
	if !match.IsHostName(name) {
		return "", resource.NameInfo{}, false
	}
	cfg.Held(needOf(name)).Touch()
	info, key, ok := cfg.Name(name)
	return key, info, ok
}

func needOf(name string) config.Need { return config.Need{Kind: config.NeedName, Name: name} }

// look classifies a name that is in use already: what is not known of it is asked for,
// but not waited for.
func (s *Server) look(cfg *config.Config, name string) (Kind, string, resource.NameInfo) {
	kind, key, info := classify(cfg, config.NotAsked, nil, name)
	if kind == Unasked {
		return classify(cfg, s.onDemand.Look(needOf(name)).Outcome, nil, name)
	}
	return kind, key, info
}

// Binding tells which name a connection to addr was opened to. Whether the name is
// registered is looked at now, not when the address was handed out: so a sinkhole
// address becomes good at once when its name is registered, and a binding becomes
// Unregistered when its name is not any more. An address that several names of the
// table share is nobody's binding: its Name is "". Asking keeps the binding alive.
func (s *Server) Binding(addr netip.Addr) decide.Binding {
	addr = addr.Unmap()
	cfg := s.source.Current()
	b := decide.Binding{Strict: true}
	if p := s.poolOf(addr); p != nil {
		if b.Name = p.name(addr); b.Name != "" {
			kind, _, _ := s.look(cfg, b.Name)
			b.Unregistered, b.Unknown = kind == Unknown || kind == NoTable, kind == Unasked
		}
		return b
	}
	if names := s.namesOf(cfg, addr); len(names) == 1 && names[0][0] != '*' {
		b.Name = names[0]
	}
	return b
}

// Names are the keys of the name table that have the address, sorted; for an address
// that the proxy handed out itself, its name.
func (s *Server) Names(addr netip.Addr) []string {
	addr = addr.Unmap()
	if p := s.poolOf(addr); p != nil {
		if name := p.name(addr); name != "" {
			return []string{name}
		}
		return nil
	}
	return s.namesOf(s.source.Current(), addr)
}

// namesOf are the names of the table with an address, sorted.
func (s *Server) namesOf(cfg *config.Config, addr netip.Addr) []string {
	names := s.index(table(cfg)).names[addr]
	if cfg == nil || !cfg.NamesOnDemand {
		return names
	}
	names = append(slices.Clone(names), cfg.HeldNamesOf(addr)...)
	slices.Sort(names)
	return slices.Compact(names)
}

// Destination is where a connection to dst leads in cfg: when dst is an address that
// the proxy handed out for a name, and the table has addresses for this name by now,
// the first of them; else dst itself. With it a workload that still uses an old
// answer reaches the listener that the name has now.
func (s *Server) Destination(cfg *config.Config, dst netip.AddrPort) netip.AddrPort {
	addr := dst.Addr().Unmap()
	p := s.poolOf(addr)
	if p == nil {
		return dst
	}
	name := p.name(addr)
	if name == "" {
		return dst
	}
	if kind, _, info := s.look(cfg, name); kind == Table {
		return netip.AddrPortFrom(info.Addresses[0], dst.Port())
	}
	return dst
}

func (s *Server) poolOf(addr netip.Addr) *pool {
	switch {
	case BindingRange.Contains(addr):
		return s.bindings
	case SinkholeRange.Contains(addr):
		return s.sinkholes
	}
	return nil
}

func table(cfg *config.Config) *resource.NameTable {
	if cfg == nil {
		return nil
	}
	return cfg.Names
}
