package intercept

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Packet is one packet that the ruleset refused.
type Packet struct {
	Protocol uint8 // the IP protocol number (IANA): 17 UDP, 1 ICMP, 58 ICMPv6, 132 SCTP
	// The ports are 0 for protocols that have none.
	Source, Destination netip.AddrPort
}

// nflog's messages (linux/netfilter/nfnetlink_log.h).
const (
	nflogMessagePacket = 0
	nflogMessageConfig = 1

	nflogAttributePayload = 9

	nflogConfigCommand   = 1 // u8: 1 binds the socket to the group
	nflogConfigMode      = 2 // be32 bytes to copy, u8 mode: 2 copies packets, u8 padding
	nflogConfigThreshold = 5 // be32 packets to wait for before a message is sent

	nlaTypeMask = 0x3fff // linux/netlink.h NLA_TYPE_MASK
)

// PacketLogRequests are the messages that bind a NETLINK_NETFILTER socket to an nflog
// group, each to be sent by itself. They need CAP_NET_ADMIN in the socket's network
// namespace; reading afterwards needs nothing.
func PacketLogRequests(group uint16) [][]byte {
	config := func(kind uint16, value []byte) []byte {
		body := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, group)
		body = binary.NativeEndian.AppendUint16(body, uint16(unix.SizeofNlAttr+len(value)))
		body = binary.NativeEndian.AppendUint16(body, kind)
		body = append(body, value...)
		for len(body)%unix.NLMSG_ALIGNTO != 0 {
			body = append(body, 0)
		}
		return appendMessage(nil, unix.NFNL_SUBSYS_ULOG<<8|nflogMessageConfig, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 0, body)
	}
	return [][]byte{
		config(nflogConfigCommand, []byte{1}),
		config(nflogConfigMode, append(binary.BigEndian.AppendUint32(nil, snapLength), 2, 0)),
		config(nflogConfigThreshold, binary.BigEndian.AppendUint32(nil, 1)),
	}
}

// ParsePacketLog reads one datagram of an nflog socket. Messages of other kinds and
// packets that cannot be read are left out; an error says that the datagram itself
// is malformed.
func ParsePacketLog(b []byte) ([]Packet, error) {
	var packets []Packet
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return packets, errors.New("malformed netlink message")
		}
		kind := binary.NativeEndian.Uint16(b[4:])
		if kind == unix.NFNL_SUBSYS_ULOG<<8|nflogMessagePacket {
			payload, err := packetPayload(b[unix.SizeofNlMsghdr:size])
			if err != nil {
				return packets, err
			}
			if p, err := ParsePacket(payload); err == nil {
				packets = append(packets, p)
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return packets, nil
}

func packetPayload(b []byte) ([]byte, error) {
	const header = 4 // struct nfgenmsg
	if len(b) < header {
		return nil, errors.New("malformed nflog message")
	}
	for b = b[header:]; len(b) >= unix.SizeofNlAttr; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return nil, errors.New("malformed nflog attribute")
		}
		if binary.NativeEndian.Uint16(b[2:])&nlaTypeMask == nflogAttributePayload {
			return b[unix.SizeofNlAttr:size], nil
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil, errors.New("nflog message without a packet")
}

// ParsePacket reads the addresses, protocol and ports of an IP packet that may have
// been cut off (RFC 791, RFC 8200).
func ParsePacket(b []byte) (Packet, error) {
	if len(b) == 0 {
		return Packet{}, errors.New("empty packet")
	}
	switch b[0] >> 4 {
	case 4:
		return parseIPv4(b)
	case 6:
		return parseIPv6(b)
	}
	return Packet{}, fmt.Errorf("IP version %d", b[0]>>4)
}

func parseIPv4(b []byte) (Packet, error) {
	header := int(b[0]&0x0f) * 4
	if header < 20 || len(b) < header {
		return Packet{}, errors.New("IPv4 header cut off")
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	rest := b[header:]
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		rest = nil // not the first fragment: no ports
	}
	return withPorts(b[9], src, dst, rest), nil
}

func parseIPv6(b []byte) (Packet, error) {
	const header = 40
	if len(b) < header {
		return Packet{}, errors.New("IPv6 header cut off")
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, rest := b[6], b[header:]
	for {
		size := 0
		switch next {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(rest) >= 2 {
				size = (int(rest[1]) + 1) * 8
			}
		case unix.IPPROTO_FRAGMENT:
			if size = 8; len(rest) >= size && binary.BigEndian.Uint16(rest[2:])&^7 != 0 {
				return withPorts(rest[0], src, dst, nil), nil
			}
		default:
			return withPorts(next, src, dst, rest), nil
		}
		if size == 0 || len(rest) < size {
			return withPorts(next, src, dst, nil), nil // cut off in an extension header
		}
		next, rest = rest[0], rest[size:]
	}
}

// withPorts adds the ports of the protocols that begin with them: UDP (RFC 768), TCP
// (RFC 9293), SCTP (RFC 9260), DCCP (RFC 4340), UDP-Lite (RFC 3828).
func withPorts(proto uint8, src, dst netip.Addr, rest []byte) Packet {
	var from, to uint16
	switch proto {
	case unix.IPPROTO_UDP, unix.IPPROTO_TCP, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_UDPLITE:
		if len(rest) >= 4 {
			from, to = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		}
	}
	return Packet{Protocol: proto, Source: netip.AddrPortFrom(src, from), Destination: netip.AddrPortFrom(dst, to)}
}
