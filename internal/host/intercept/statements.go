package intercept

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const register = 1 // of nftables' virtual machine; one is enough

// incoming matches the interface that a packet came in by, outgoing that by which it leaves.
func incoming(name string) statement { return device("iifname", expr.MetaKeyIIFNAME, name) }
func outgoing(name string) statement { return device("oifname", expr.MetaKeyOIFNAME, name) }

func device(word string, key expr.MetaKey, name string) statement {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return statement{
		text:  fmt.Sprintf("%s %q", word, name),
		exprs: []expr.Any{&expr.Meta{Key: key, Register: register}, equal(padded)},
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
	return portMatch(proto, "dport", 2, expr.CmpOpEq, port)
}

func notDestinationPort(proto byte, port uint16) statement {
	return portMatch(proto, "dport", 2, expr.CmpOpNeq, port)
}

func sourcePort(proto byte, port uint16) statement {
	return portMatch(proto, "sport", 0, expr.CmpOpEq, port)
}

// portMatch compares one of the ports with which TCP's and UDP's headers begin.
func portMatch(proto byte, word string, offset uint32, op expr.CmpOp, port uint16) statement {
	return statement{
		text: fmt.Sprintf("%s %s %s%d", protocolName(proto), word, operator(op), port),
		exprs: append(protocol(proto).exprs,
			&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
			&expr.Cmp{Op: op, Register: register, Data: binaryutil.BigEndian.PutUint16(port)}),
	}
}

func operator(op expr.CmpOp) string {
	if op == expr.CmpOpNeq {
		return "!= "
	}
	return ""
}

func destination(p netip.Prefix) statement    { return address("daddr", 16, 24, expr.CmpOpEq, p) }
func notDestination(p netip.Prefix) statement { return address("daddr", 16, 24, expr.CmpOpNeq, p) }
func source(p netip.Prefix) statement         { return address("saddr", 12, 8, expr.CmpOpEq, p) }

// address matches an address of the IPv4 (RFC 791) or IPv6 (RFC 8200) header, at offset4
// or offset6.
func address(field string, offset4, offset6 uint32, op expr.CmpOp, p netip.Prefix) statement {
	word, nfproto, offset := "ip", byte(unix.NFPROTO_IPV4), offset4
	if p.Addr().Is6() {
		word, nfproto, offset = "ip6", unix.NFPROTO_IPV6, offset6
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
	exprs = append(exprs, &expr.Cmp{Op: op, Register: register, Data: p.Masked().Addr().AsSlice()})
	return statement{text: fmt.Sprintf("%s %s %s%s", word, field, operator(op), text), exprs: exprs}
}

// ownerMatch matches the packets of the sockets of a user or group, and those of others.
type ownerMatch struct{ is, isNot statement }

func owner(word string, key expr.MetaKey, id uint32) ownerMatch {
	match := func(op expr.CmpOp) statement {
		return statement{
			text: fmt.Sprintf("meta %s %s%d", word, operator(op), id),
			exprs: []expr.Any{
				&expr.Meta{Key: key, Register: register},
				&expr.Cmp{Op: op, Register: register, Data: binaryutil.NativeEndian.PutUint32(id)},
			},
		}
	}
	return ownerMatch{match(expr.CmpOpEq), match(expr.CmpOpNeq)}
}

// zone puts the packet's connection into a conntrack zone of its own.
func zone(id uint16) statement {
	return statement{
		text: fmt.Sprintf("ct zone set %d", id),
		exprs: []expr.Any{
			&expr.Immediate{Register: register, Data: binaryutil.NativeEndian.PutUint16(id)},
			&expr.Ct{Key: expr.CtKeyZONE, Register: register, SourceRegister: true},
		},
	}
}

// invalid matches packets that conntrack has no connection for.
func invalid() statement {
	return statement{
		text: "ct state invalid",
		exprs: []expr.Any{
			&expr.Ct{Key: expr.CtKeySTATE, Register: register},
			&expr.Bitwise{
				SourceRegister: register, DestRegister: register, Len: 4,
				Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitINVALID), Xor: make([]byte, 4),
			},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
		},
	}
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
