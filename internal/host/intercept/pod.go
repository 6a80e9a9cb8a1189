package intercept

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/netns"
)

// Pod is the desired state of the nftables table in the network namespace of a pod that
// has a proxy of its own. It captures what Istio's does
// (istio.io/istio/tools/istio-iptables/pkg/capture/run.go): the TCP connections of all
// but the proxy go to OutboundPort, those that come in to InboundPort. UDP but for DNS
// passes by.
type Pod struct {
	Table                     string
	OutboundPort, InboundPort uint16
	// TunnelPort is not captured on its way in (HBONE's, 15008).
	TunnelPort uint16
	// UIDs and GIDs are the proxy's: what it sends is not captured, but for calls to the
	// pod itself, which come in as from outside.
	UIDs, GIDs []uint32

	// AllOutbound captures connections to everywhere; without it those to IncludeRanges.
	// ExcludeRanges pass by in both cases, those to IncludePorts outside of them never.
	AllOutbound                  bool
	IncludeRanges, ExcludeRanges []netip.Prefix
	IncludePorts, ExcludePorts   []uint16

	// AllInbound captures connections to all ports but ExcludeInbound; without it those
	// to IncludeInbound.
	AllInbound                     bool
	IncludeInbound, ExcludeInbound []uint16

	// ExcludeInterfaces are those by which nothing is captured. What comes in by
	// VirtualInterfaces is outbound (a virtual machine's, in the pod).
	ExcludeInterfaces, VirtualInterfaces []string

	// DNSPort takes DNS over UDP and TCP to DNSServers, nil: to any address. 0: not captured.
	DNSPort    uint16
	DNSServers []netip.Addr
	// DropInvalid drops packets that belong to no connection, where the kernel would reset one.
	DropInvalid bool
}

// Addresses of Istio's capture: what the proxy sends from here on lo is for the
// application, and is not captured again.
var (
	passthrough4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 0, 0, 6}), 32)
	passthrough6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{15: 6}), 128)
	local4       = netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 32)
	local6       = netip.PrefixFrom(netip.AddrFrom16([16]byte{15: 1}), 128)
)

// Conntrack zones (Istio's): a query of the application and the one that the proxy makes
// of it may have the same ports and addresses, and must not be taken for one.
const (
	zoneProxy       = 1
	zoneApplication = 2
)

// String is the ruleset in nft(8)'s syntax.
func (p Pod) String() string { return p.table().String() }

// Apply makes the ruleset that of the calling thread's network namespace, replacing a
// table of the same name in one transaction, and gives lo the address ::6, from which
// the proxy calls the application. It needs CAP_NET_ADMIN there.
func (p Pod) Apply() error {
	if err := p.table().apply(); err != nil {
		return err
	}
	address := netns.Request{Protocol: unix.NETLINK_ROUTE, Data: addAddress(passthrough6.Addr())}
	switch err := netns.Exchange(address.Protocol, address.Data); err {
	case nil, unix.EEXIST, unix.EOPNOTSUPP, unix.EACCES, unix.EPERM: // there already, or no IPv6 here
		return nil
	default:
		return fmt.Errorf("add %s to lo: %w", passthrough6.Addr(), err)
	}
}

func (p Pod) table() table {
	t := table{name: p.Table}
	t.chains = append(t.chains,
		chain{name: "nat_output", kind: "nat", hook: output, priority: -100, policy: accept, rules: p.outbound()},
		chain{name: "nat_prerouting", kind: "nat", hook: prerouting, priority: -100, policy: accept, rules: p.inbound()})
	if p.DNSPort != 0 {
		t.chains = append(t.chains,
			chain{name: "raw_output", kind: "filter", hook: output, priority: -300, policy: accept, rules: p.zones()},
			chain{name: "raw_prerouting", kind: "filter", hook: prerouting, priority: -300, policy: accept, rules: p.answerZones()})
	}
	if p.DropInvalid {
		t.chains = append(t.chains, chain{name: "mangle_prerouting", kind: "filter", hook: prerouting, priority: -150, policy: accept,
			rules: []rule{{invalid(), verdict("drop", expr.VerdictDrop)}}})
	}
	return t
}

func pass() statement { return verdict("return", expr.VerdictReturn) }

var tcp, udp byte = unix.IPPROTO_TCP, unix.IPPROTO_UDP

// outbound are the rules for what the pod's processes send.
func (p Pod) outbound() (out []rule) {
	add := func(s ...statement) { out = append(out, rule(s)) }
	for _, name := range p.ExcludeInterfaces {
		add(outgoing(name), pass())
	}
	for _, port := range p.ExcludePorts {
		add(destinationPort(tcp, port), pass())
		add(destinationPort(udp, port), pass())
	}
	add(outgoing("lo"), source(passthrough4), pass())
	add(outgoing("lo"), source(passthrough6), pass())
	for _, uid := range p.UIDs {
		out = append(out, p.ofProxy(owner("skuid", expr.MetaKeySKUID, uid), p.DNSPort != 0)...)
	}
	for _, gid := range p.GIDs {
		out = append(out, p.ofProxy(owner("skgid", expr.MetaKeySKGID, gid), false)...)
	}
	if p.DNSPort != 0 {
		for _, proto := range []byte{tcp, udp} {
			for _, to := range p.toServers() {
				out = append(out, append(rule{destinationPort(proto, 53)}, append(to, redirect(p.DNSPort))...))
			}
		}
	}
	for _, prefix := range append([]netip.Prefix{local4, local6}, p.ExcludeRanges...) {
		add(destination(prefix), pass())
	}
	for _, port := range p.IncludePorts {
		add(destinationPort(tcp, port), redirect(p.OutboundPort))
	}
	if p.AllOutbound {
		add(protocol(tcp), redirect(p.OutboundPort))
		return out
	}
	for _, prefix := range p.IncludeRanges {
		add(destination(prefix), protocol(tcp), redirect(p.OutboundPort))
	}
	return out
}

// ofProxy are the rules about who sends: calls of the proxy to the pod itself by another
// address than lo's come in as from outside, the application's own to itself and all
// others of the proxy pass by. skipDNS: queries of the proxy to a server in the pod are
// no such calls.
func (p Pod) ofProxy(who ownerMatch, skipDNS bool) (out []rule) {
	for _, local := range []netip.Prefix{local4, local6} {
		r := rule{outgoing("lo"), notDestination(local), notDestinationPort(tcp, p.TunnelPort)}
		if skipDNS {
			r = append(r, notDestinationPort(tcp, 53))
		}
		out = append(out, append(r, who.is, redirect(p.InboundPort)))
	}
	if !slices.ContainsFunc(p.IncludeRanges, func(r netip.Prefix) bool { return r.Addr().IsLoopback() }) {
		r := rule{outgoing("lo")}
		if p.DNSPort != 0 {
			r = append(r, notDestinationPort(tcp, 53))
		}
		out = append(out, append(r, who.isNot, pass()))
	}
	return append(out, rule{who.is, pass()})
}

// toServers match the DNS servers whose queries are captured.
func (p Pod) toServers() (out []rule) {
	if len(p.DNSServers) == 0 {
		return []rule{nil}
	}
	for _, s := range p.DNSServers {
		out = append(out, rule{destination(netip.PrefixFrom(s, s.BitLen()))})
	}
	return out
}

// inbound are the rules for what comes into the pod.
func (p Pod) inbound() (out []rule) {
	add := func(s ...statement) { out = append(out, rule(s)) }
	for _, name := range p.VirtualInterfaces {
		for _, prefix := range p.IncludeRanges {
			if !p.AllOutbound {
				add(incoming(name), destination(prefix), protocol(tcp), redirect(p.OutboundPort))
			}
		}
		if p.AllOutbound {
			add(incoming(name), protocol(tcp), redirect(p.OutboundPort))
		}
		add(incoming(name), pass())
	}
	for _, name := range p.ExcludeInterfaces {
		add(incoming(name), pass())
	}
	add(destinationPort(tcp, p.TunnelPort), pass())
	if !p.AllInbound {
		for _, port := range p.IncludeInbound {
			add(destinationPort(tcp, port), redirect(p.InboundPort))
		}
		return out
	}
	for _, port := range p.ExcludeInbound {
		add(destinationPort(tcp, port), pass())
	}
	add(protocol(tcp), redirect(p.InboundPort))
	return out
}

// zones keep the application's queries apart from the proxy's.
func (p Pod) zones() (out []rule) {
	owners := []statement{}
	for _, uid := range p.UIDs {
		owners = append(owners, owner("skuid", expr.MetaKeySKUID, uid).is)
	}
	for _, gid := range p.GIDs {
		owners = append(owners, owner("skgid", expr.MetaKeySKGID, gid).is)
	}
	for _, who := range owners {
		out = append(out,
			rule{destinationPort(udp, 53), who, zone(zoneProxy), pass()},
			rule{sourcePort(udp, p.DNSPort), who, zone(zoneApplication), pass()})
	}
	for _, to := range p.toServers() {
		out = append(out, append(append(rule{destinationPort(udp, 53)}, to...), zone(zoneApplication)))
	}
	return out
}

// answerZones are for the answers of the servers, which are to the proxy.
func (p Pod) answerZones() (out []rule) {
	if len(p.DNSServers) == 0 {
		return []rule{{sourcePort(udp, 53), zone(zoneProxy)}}
	}
	for _, s := range p.DNSServers {
		out = append(out, rule{sourcePort(udp, 53), source(netip.PrefixFrom(s, s.BitLen())), zone(zoneProxy)})
	}
	return out
}
