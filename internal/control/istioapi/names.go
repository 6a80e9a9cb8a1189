package istioapi

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// IsLabel reports whether s is a DNS label as Kubernetes has it for namespaces and
// port names (RFC 1123: lower case letters, digits, inner hyphens, at most 63).
func IsLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// isSubdomain is Kubernetes' rule for object names.
func isSubdomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !IsLabel(label) {
			return false
		}
	}
	return true
}

// checkFQDN is Istio's rule for host names without wildcard: labels of RFC 1123 in
// any case, a last label that is not all digits, at most 255 bytes.
func checkFQDN(host string) error {
	switch {
	case host == "":
		return errors.New("a host name must not be empty")
	case len(host) > 255:
		return fmt.Errorf("%q is longer than 255 bytes", host[:40]+"...")
	case strings.HasSuffix(host, "."):
		return fmt.Errorf("%q ends with a dot; write it without", host)
	case strings.Contains(host, "://") || strings.Contains(host, "/"):
		return fmt.Errorf("%q is a URL or path; only the host name belongs here", host)
	}
	if name, port, ok := strings.Cut(host, ":"); ok {
		if _, err := strconv.Atoi(port); err == nil {
			return fmt.Errorf("%q has a port; write only %q here", host, name)
		}
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if !IsLabel(strings.ToLower(label)) {
			return fmt.Errorf("%q is not a host name (the part %q is not letters, digits and inner hyphens, 1 to 63 of them)", host, label)
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return fmt.Errorf("%q is not a host name (the last part is all digits)", host)
	}
	return nil
}

// checkWildcard allows "*" and "*.suffix" beside host names. Istio takes "*-x.suffix",
// too, with a warning in places; no proxy of Egret's matches it, so it is refused.
func checkWildcard(host string) error {
	if host == "*" {
		return nil
	}
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		return checkFQDN(rest)
	}
	if strings.Contains(host, "*") {
		return fmt.Errorf("%q: a wildcard can only be the whole first part, as in \"*.example.com\"", host)
	}
	return checkFQDN(host)
}

// hostMatches reports whether every name of sub is also one of host's: equality, or
// a wildcard over a name or a narrower wildcard.
func hostMatches(host, sub string) bool {
	host, sub = strings.ToLower(host), strings.ToLower(sub)
	if host == sub || host == "*" {
		return true
	}
	suffix, ok := strings.CutPrefix(host, "*")
	return ok && strings.HasSuffix(strings.TrimPrefix(sub, "*"), suffix)
}

// ParseCIDR reads an address or a CIDR range.
func ParseCIDR(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("%q is not a CIDR range such as 192.0.2.0/24", s)
		}
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is not an IP address or CIDR range", s)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func isIP(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Zone() == ""
}

// protocols by Istio's names, lower case; the value is true for HTTP ones.
var protocols = map[string]bool{
	"http": true, "http2": true, "grpc": true, "grpc-web": true,
	"https": false, "tls": false, "tcp": false, "mongo": false, "redis": false, "mysql": false, "udp": false,
}

var protocolNames = []string{"HTTP", "HTTPS", "TLS", "TCP", "HTTP2", "GRPC", "GRPC-WEB", "MONGO", "REDIS", "MYSQL", "UDP"}

func isHTTP(protocol string) bool { return protocols[strings.ToLower(protocol)] }

func isTLS(protocol string) bool {
	return strings.EqualFold(protocol, "HTTPS") || strings.EqualFold(protocol, "TLS")
}
