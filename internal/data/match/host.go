package match

import (
	"net/netip"
	"strconv"
	"strings"
)

// Host reports whether host matches pattern, without case: "*" matches all,
// "*.example.com" every name below example.com at any depth (not example.com
// itself), "www.example.*" every name with that prefix, anything else exactly.
func Host(pattern, host string) bool {
	switch {
	case pattern == "*":
		return true
	case strings.HasPrefix(pattern, "*"):
		tail := pattern[1:]
		return len(host) > len(tail) && EqualFold(host[len(host)-len(tail):], tail)
	case strings.HasSuffix(pattern, "*"):
		head := pattern[:len(pattern)-1]
		return len(host) > len(head) && EqualFold(host[:len(head)], head)
	}
	return EqualFold(pattern, host)
}

// SplitHost cuts a numeric port off an authority: "example.com:80" gives
// "example.com" and 80, "[::1]:80" gives "[::1]" and 80 (the brackets stay). Where
// there is no port, or it is not one, host is the whole authority and port 0.
func SplitHost(authority string) (host string, port uint16) {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || i < strings.LastIndexByte(authority, ']') {
		return authority, 0
	}
	if authority[0] != '[' && strings.IndexByte(authority, ':') != i {
		return authority, 0 // an IPv6 literal without brackets
	}
	n, ok := parseInt(authority[i+1:])
	if !ok || n < 0 || n > 65535 {
		return authority, 0
	}
	return authority[:i], uint16(n)
}

// LiteralAddress is the address that host is written as, with or without IPv6
// brackets. For a name it is false, without allocation.
func LiteralAddress(host string) (netip.Addr, bool) {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || !looksLikeAddress(host) {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(host)
	return addr.Unmap(), err == nil
}

// looksLikeAddress keeps names away from netip.ParseAddr, whose error allocates.
func looksLikeAddress(host string) bool {
	if strings.IndexByte(host, ':') >= 0 {
		return true
	}
	for i := 0; i < len(host); i++ {
		if host[i] != '.' && (host[i] < '0' || host[i] > '9') {
			return false
		}
	}
	return true
}

// Name is the host that an authority names, for comparison with other names: no
// port, no final dot. Letters keep their case.
func Name(authority string) string {
	host, _ := SplitHost(authority)
	return strings.TrimSuffix(host, ".")
}

// CanonicalName is a name as names are compared and kept: in lower case, without the
// final dot.
func CanonicalName(name string) string { return Lower(strings.TrimSuffix(name, ".")) }

// IsHostName reports whether a canonical name can be a host's: letters, digits, "-" and
// "_" in labels of at most 63 bytes, 253 in all (RFC 1035 section 2.3.4). What else DNS
// could carry (escapes, spaces, binary) is no host's name.
func IsHostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.' && label > 0:
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0
}

// ParsePrefix is the range of an address and a prefix length, with host bits
// cleared and IPv4-mapped addresses as IPv4.
func ParsePrefix(address string, bits uint32) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, err
	}
	if bits > 128 {
		return netip.Prefix{}, strconv.ErrRange
	}
	return addr.Unmap().WithZone("").Prefix(int(bits))
}
