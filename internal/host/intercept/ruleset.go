// Package intercept captures a network namespace's traffic: the nftables ruleset
// wanted for a sandbox (Ruleset) or a pod (Pod), a pure value with its text and its
// netlink messages; the original destination of a captured connection; and the log of
// refused packets. It decides nothing about destinations: in a sandbox everything is
// either captured or refused, in a pod what it captures is what it was told.
package intercept

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Ports that capture listens on, as Istio's (istio.io "Ports used by Istio").
const (
	TCPPort     = 15001
	InboundPort = 15006
	DNSPort     = 15053
)

// Ruleset is the desired state of one nftables table.
type Ruleset struct {
	Table string
	// Local destinations are the namespace's own: they are neither captured (but for
	// DNS) nor refused.
	Local []netip.Prefix
	// TCP connections go to TCPPort, DNS over TCP and UDP to any address to DNSPort.
	TCPPort, DNSPort uint16
	// Incoming is the interface whose incoming packets are captured or refused, where the
	// workload has a namespace of its own and this one is its router; "": those that the
	// namespace's own processes send.
	Incoming string
	// LogGroup is the nflog group that is told of refused packets, at most LogRate a
	// second. LogRate 0: no log.
	LogGroup uint16
	LogRate  uint32
}

// snapLength is how much of a refused packet is logged: the largest IPv4 header, or
// IPv6 with some extension headers, and the ports. Bytes.
const snapLength = 160

func (r Ruleset) chains() []chain {
	natHook, filterHook := output, output
	var from rule // which packets
	if r.Incoming != "" {
		natHook, filterHook, from = prerouting, forward, rule{incoming(r.Incoming)}
	}
	on := func(statements ...statement) rule { return append(slices.Clone(from), statements...) }
	nat := chain{name: "nat_" + natHook.name, kind: "nat", hook: natHook, priority: -100, policy: accept}
	nat.rules = append(nat.rules,
		on(destinationPort(unix.IPPROTO_TCP, 53), redirect(r.DNSPort)),
		on(destinationPort(unix.IPPROTO_UDP, 53), redirect(r.DNSPort)))
	filter := chain{name: "filter_" + filterHook.name, kind: "filter", hook: filterHook, priority: 0, policy: drop}
	for _, p := range r.Local {
		nat.rules = append(nat.rules, on(destination(p), verdict("return", expr.VerdictReturn)))
		filter.rules = append(filter.rules, on(destination(p), verdict("accept", expr.VerdictAccept)))
	}
	nat.rules = append(nat.rules, on(protocol(unix.IPPROTO_TCP), redirect(r.TCPPort)))
	if r.LogRate > 0 {
		filter.rules = append(filter.rules, on(limit(r.LogRate), log(r.LogGroup)))
	}
	filter.rules = append(filter.rules, on(reject()))
	return []chain{nat, filter}
}

func (r Ruleset) table() table { return table{r.Table, r.chains()} }

// String is the ruleset in nft(8)'s syntax.
func (r Ruleset) String() string { return r.table().String() }

// Apply makes the ruleset that of the calling thread's network namespace, replacing
// a table of the same name in one transaction. It needs CAP_NET_ADMIN there.
func (r Ruleset) Apply() error { return r.table().apply() }
