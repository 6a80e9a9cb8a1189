// Package intercept captures a network namespace's traffic: the nftables ruleset
// wanted (a pure value, with its text and its netlink messages), the original
// destination of a captured connection, and the log of refused packets. It decides
// nothing about destinations: everything is either captured or refused.
package intercept

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/netns"
)

// Ports that capture listens on, as Istio's (istio.io "Ports used by Istio").
const (
	TCPPort = 15001
	DNSPort = 15053
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

type chain struct {
	name, kind string
	hook       hook
	priority   int32
	policy     uint32
	rules      []rule
}

// hook is where in the kernel a chain is called (linux/netfilter.h).
type hook struct {
	name   string
	number uint32
}

var (
	prerouting = hook{"prerouting", unix.NF_INET_PRE_ROUTING}
	forward    = hook{"forward", unix.NF_INET_FORWARD}
	output     = hook{"output", unix.NF_INET_LOCAL_OUT}
)

// rule is one rule as text and as expressions, made together so that they agree.
type rule []statement

type statement struct {
	text  string
	exprs []expr.Any
}

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

// String is the ruleset in nft(8)'s syntax.
func (r Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", r.Table)
	for _, c := range r.chains() {
		policy := map[uint32]string{accept: "accept", drop: "drop"}[c.policy]
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %d; policy %s;\n", c.name, c.kind, c.hook.name, c.priority, policy)
		for _, rule := range c.rules {
			words := make([]string, len(rule))
			for i, s := range rule {
				words[i] = s.text
			}
			fmt.Fprintf(&b, "\t\t%s\n", strings.Join(words, " "))
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// Apply makes the ruleset that of the calling thread's network namespace, replacing
// a table of the same name in one transaction. It needs CAP_NET_ADMIN there.
func (r Ruleset) Apply() error {
	batch, err := r.Batch(true)
	if err != nil {
		return err
	}
	if err := netns.Exchange(unix.NETLINK_NETFILTER, batch); err != nil {
		return fmt.Errorf("apply nftables table %q: %w", r.Table, err)
	}
	return nil
}

const register = 1 // of nftables' virtual machine; one is enough

// incoming matches the interface that a packet came in by.
func incoming(name string) statement {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return statement{
		text:  fmt.Sprintf("iifname %q", name),
		exprs: []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, equal(padded)},
	}
}

func protocol(p byte) statement {
	return statement{
		text:  "meta l4proto " + protocolName(p),
		exprs: []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, equal([]byte{p})},
	}
}

func protocolName(p byte) string {
	if p == unix.IPPROTO_TCP {
		return "tcp"
	}
	return "udp"
}

func destinationPort(proto byte, port uint16) statement {
	return statement{
		text: fmt.Sprintf("%s dport %d", protocolName(proto), port),
		exprs: append(protocol(proto).exprs,
			&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			equal(binaryutil.BigEndian.PutUint16(port))),
	}
}

// destination matches the address of the IPv4 (RFC 791) or IPv6 (RFC 8200) header.
func destination(p netip.Prefix) statement {
	word, nfproto, offset := "ip", byte(unix.NFPROTO_IPV4), uint32(16)
	if p.Addr().Is6() {
		word, nfproto, offset = "ip6", unix.NFPROTO_IPV6, 24
	}
	text := p.Masked().String()
	if p.IsSingleIP() {
		text = p.Addr().String()
	}
	size := uint32(p.Addr().BitLen() / 8)
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, equal([]byte{nfproto}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
	}
	if !p.IsSingleIP() {
		exprs = append(exprs, &expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: size,
			Mask: mask(p), Xor: make([]byte, size),
		})
	}
	return statement{text: word + " daddr " + text, exprs: append(exprs, equal(p.Masked().Addr().AsSlice()))}
}

func mask(p netip.Prefix) []byte {
	m := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

func redirect(port uint16) statement {
	return statement{
		text: fmt.Sprintf("redirect to :%d", port),
		exprs: []expr.Any{
			&expr.Immediate{Register: register, Data: binaryutil.BigEndian.PutUint16(port)},
			&expr.Redir{RegisterProtoMin: register, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
		},
	}
}

func verdict(text string, kind expr.VerdictKind) statement {
	return statement{text: text, exprs: []expr.Any{&expr.Verdict{Kind: kind}}}
}

func limit(rate uint32) statement {
	return statement{
		text: fmt.Sprintf("limit rate %d/second burst %d packets", rate, rate),
		exprs: []expr.Any{&expr.Limit{
			Type: expr.LimitTypePkts, Rate: uint64(rate), Unit: expr.LimitTimeSecond, Burst: rate,
		}},
	}
}

func log(group uint16) statement {
	return statement{
		text: fmt.Sprintf("log group %d snaplen %d queue-threshold 1", group, snapLength),
		exprs: []expr.Any{&expr.Log{
			Key:   1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_QTHRESHOLD,
			Group: group, Snaplen: snapLength, QThreshold: 1,
		}},
	}
}

func reject() statement {
	return statement{
		text:  "reject with icmpx admin-prohibited",
		exprs: []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}},
	}
}
