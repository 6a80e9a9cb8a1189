package sandbox

import (
	"errors"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/intercept"
)

const (
	packetLogGroup = 15001
	// packetLogRate bounds the packets that are reported, a second; the rest is refused
	// without a report.
	packetLogRate = 50
	// packetBacklog is how many reports wait for a slow reader.
	packetBacklog = 128
)

// PacketDenied is a packet of the command that was refused because it is neither TCP
// nor DNS.
type PacketDenied struct {
	Protocol uint8 // IP protocol number
	// The ports are 0 for protocols without.
	Source, Destination netip.AddrPort
}

// ProtocolName is the name of an IP protocol number in lower case ("udp", "icmp"), or
// the number.
func (p PacketDenied) ProtocolName() string {
	switch p.Protocol {
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_IGMP:
		return "igmp"
	}
	return strconv.Itoa(int(p.Protocol))
}

// Packets reports refused packets, at most some per second, and drops reports that
// nobody takes. It is closed when the sandbox is closed; where the kernel has no
// packet log, at once.
func (s *Sandbox) Packets() <-chan PacketDenied { return s.packets }

func (s *Sandbox) startPacketLog() {
	if s.packetLog == nil {
		close(s.packets)
		return
	}
	s.workers.Go(func() {
		defer close(s.packets)
		s.readPacketLog()
	})
}

func (s *Sandbox) readPacketLog() {
	buf := make([]byte, 1<<16)
	for {
		n, err := s.packetLog.Read(buf)
		if errors.Is(err, unix.ENOBUFS) {
			continue // reports were lost
		}
		if err != nil {
			return
		}
		packets, err := intercept.ParsePacketLog(buf[:n])
		if err != nil {
			s.log.Debug("unreadable packet log message", "error", err)
		}
		for _, p := range packets {
			select {
			case s.packets <- PacketDenied(p):
			default:
			}
		}
	}
}
