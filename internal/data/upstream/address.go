package upstream

import (
	"net/netip"
)

// alwaysForbidden are the ranges that an address may not come from unless the
// configuration names the address itself: the machine and its link, metadata
// services, and addresses that are nobody's. RFC 6890 and its registry.
var alwaysForbidden = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),         // this network
	netip.MustParsePrefix("127.0.0.0/8"),       // loopback
	netip.MustParsePrefix("169.254.0.0/16"),    // link-local, with the metadata services
	netip.MustParsePrefix("224.0.0.0/4"),       // multicast
	netip.MustParsePrefix("240.0.0.0/4"),       // reserved; the DNS proxy's own, and broadcast
	netip.MustParsePrefix("::/128"),            // unspecified
	netip.MustParsePrefix("::1/128"),           // loopback
	netip.MustParsePrefix("fe80::/10"),         // link-local
	netip.MustParsePrefix("fec0::/10"),         // site-local (RFC 3879)
	netip.MustParsePrefix("ff00::/8"),          // multicast
	netip.MustParsePrefix("fd00:ec2::254/128"), // EC2's metadata service over IPv6
	netip.MustParsePrefix("fd20:ce::254/128"),  // GCE's metadata service over IPv6
}

// forbidden reports whether an address that nobody wrote down (it came from name
// resolution, or from the workload itself) must not be dialled. IPv6 addresses
// that stand for an IPv4 address are judged as that one too.
func forbidden(addr netip.Addr, more []netip.Prefix) bool {
	if !addr.IsValid() {
		return true
	}
	addr = addr.WithZone("").Unmap()
	if inAny(addr, alwaysForbidden) || inAny(addr, more) {
		return true
	}
	if addr.Is4() {
		return false
	}
	v4s, n := embedded(addr.As16())
	for _, v4 := range v4s[:n] {
		if inAny(v4, alwaysForbidden) || inAny(v4, more) {
			return true
		}
	}
	return false
}

func inAny(addr netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

var (
	compatible = netip.MustParsePrefix("::/96")           // IPv4-compatible, RFC 4291 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // SIIT, RFC 2765
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	nat64local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
)

// embedded returns the IPv4 addresses that an IPv6 address may be translated to
// on the way.
func embedded(b [16]byte) (out [3]netip.Addr, n int) {
	addr := netip.AddrFrom16(b)
	add := func(a, b, c, d byte) {
		out[n] = netip.AddrFrom4([4]byte{a, b, c, d})
		n++
	}
	switch {
	case compatible.Contains(addr), translated.Contains(addr), nat64.Contains(addr):
		add(b[12], b[13], b[14], b[15])
	case nat64local.Contains(addr):
		// The operator chooses the prefix length: /48, /64 and /96 (RFC 6052 2.2).
		add(b[6], b[7], b[9], b[10])
		add(b[9], b[10], b[11], b[12])
		add(b[12], b[13], b[14], b[15])
	case sixToFour.Contains(addr):
		add(b[2], b[3], b[4], b[5])
	case teredo.Contains(addr):
		add(b[4], b[5], b[6], b[7])
		add(^b[12], ^b[13], ^b[14], ^b[15])
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, RFC 5214
		add(b[12], b[13], b[14], b[15])
	}
	return out, n
}
