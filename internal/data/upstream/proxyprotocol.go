package upstream

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// proxySignature begins a header of version 2 of the PROXY protocol (section 2.2 of
// HAProxy's proxy-protocol.txt).
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// appendProxyHeader appends the PROXY protocol's header for a connection that a client
// opened from source to destination. Where those are not known, or of no use, it says
// so: UNKNOWN in version 1 and LOCAL in version 2, as for connections of the proxy's own.
func appendProxyHeader(b []byte, version resource.ProxyProtocol, source, destination netip.AddrPort) []byte {
	from, to := source.Addr().Unmap().WithZone(""), destination.Addr().Unmap().WithZone("")
	known := from.IsValid() && to.IsValid()
	four := known && from.Is4() && to.Is4()
	if version == resource.ProxyProtocolV1 {
		if !known {
			return append(b, "PROXY UNKNOWN\r\n"...)
		}
		family := "PROXY TCP4 "
		if !four {
			family = "PROXY TCP6 "
		}
		b = appendFamily(append(b, family...), from, four)
		b = appendFamily(append(b, ' '), to, four)
		b = strconv.AppendUint(append(b, ' '), uint64(source.Port()), 10)
		b = strconv.AppendUint(append(b, ' '), uint64(destination.Port()), 10)
		return append(b, "\r\n"...)
	}
	b = append(b, proxySignature...)
	switch {
	case !known:
		return append(b, 0x20, 0, 0, 0) // LOCAL, UNSPEC
	case four:
		f, t := from.As4(), to.As4()
		b = append(b, 0x21, 0x11, 0, 12) // PROXY, TCP over IPv4
		b = append(append(b, f[:]...), t[:]...)
	default:
		f, t := from.As16(), to.As16()
		b = append(b, 0x21, 0x21, 0, 36) // PROXY, TCP over IPv6
		b = append(append(b, f[:]...), t[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, source.Port())
	return binary.BigEndian.AppendUint16(b, destination.Port())
}

// appendFamily writes an address; with one of the other family beside it an IPv4 address
// is written as an IPv6 one.
func appendFamily(b []byte, a netip.Addr, four bool) []byte {
	if !four {
		a = netip.AddrFrom16(a.As16())
	}
	return a.AppendTo(b)
}

// sendProxyHeader begins a connection with the header, until the deadline.
func (h *Host) sendProxyHeader(conn net.Conn, t *Target, deadline time.Time) error {
	var source, destination netip.AddrPort
	if t != nil {
		source, destination = t.Source, t.Local
	}
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write(appendProxyHeader(nil, h.proxy, source, destination)); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}
