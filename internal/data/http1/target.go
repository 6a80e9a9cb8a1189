package http1

import (
	"net/netip"
	"strings"
)

// parseTarget finds the form of the target and what its method allows. The
// characters have been checked.
func (q *Request) parseTarget() *Error {
	t := q.Target
	switch {
	case q.Method == "CONNECT":
		q.Form, q.Authority = AuthorityForm, t
		if err := checkAuthority(t, true); err != nil {
			if err == errHostInvalid {
				return errTargetForm
			}
			return err
		}
	case t == "" && q.Method != "OPTIONS" && q.Method != "PRI":
		q.Form, q.Path = OriginForm, "/" // RFC 9112 section 3.2.1
	case t == "":
		return errTargetForm // "*" and "/" are not the same
	case t[0] == '/':
		q.Form, q.Path = OriginForm, t
	case t == "*":
		if q.Method != "OPTIONS" && q.Method != "PRI" {
			return errTargetForm
		}
		q.Form, q.Path = AsteriskForm, t
	default:
		return q.parseAbsolute()
	}
	return nil
}

// cleanTarget makes a target that has one reading of one that is not plain. A fragment is
// not sent (RFC 9112 section 3.2); Envoy drops it where Istio configures it
// (http_reject_path_with_fragment is false in istio-proxy's bootstrap). Bytes that are not
// ASCII stand for themselves in an IRI, and percent-encoded in a URI (RFC 3987 section 3.1).
func cleanTarget(t string) string {
	t, _, _ = strings.Cut(t, "#")
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		if c := t[i]; c < 0x80 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func (q *Request) parseAbsolute() *Error {
	scheme, rest, ok := strings.Cut(q.Target, "://")
	if !ok {
		return errTargetForm
	}
	switch {
	case EqualFold(scheme, "http"):
		q.Scheme = "http"
	case EqualFold(scheme, "https"):
		q.Scheme = "https"
	default:
		return errTargetScheme
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	q.Form, q.Authority, q.Path = AbsoluteForm, rest[:end], rest[end:]
	switch {
	case q.Path == "" && q.Method == "OPTIONS":
		q.Path = "*" // RFC 9112 section 3.2.4
	case q.Path == "":
		q.Path = "/"
	case q.Path[0] == '?':
		return errTargetForm // "http://host?query": parsers differ in what the path is
	}
	if err := checkAuthority(q.Authority, false); err != nil {
		return err
	}
	return nil
}

// setHost judges the Host field against the target.
func (q *Request) setHost(host string, count int) *Error {
	switch {
	case count > 1:
		return errHostRepeated
	case count == 0 && !q.HTTP10:
		return errHostMissing
	case count == 0 && q.Authority == "":
		return errHostMissing
	case count == 0:
		return nil
	}
	if err := checkAuthority(host, false); err != nil {
		return err
	}
	if q.Authority != "" && !sameAuthority(q.Authority, host, q.Scheme) {
		return errHostTarget
	}
	if q.Authority == "" || q.Form == AbsoluteForm {
		q.Authority = host
	}
	return nil
}

// sameAuthority compares hosts without regard to case, and ports by number; a port
// left out is the scheme's.
func sameAuthority(a, b, scheme string) bool {
	if equalFold(a, b) {
		return true
	}
	ah, ap := SplitPort(a)
	bh, bp := SplitPort(b)
	return equalFold(ah, bh) && portOr(ap, scheme) == portOr(bp, scheme)
}

func portOr(port, scheme string) string {
	if port != "" {
		return port
	}
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}

// SplitPort cuts a checked authority into host and port; the brackets of an IPv6
// literal stay. port is "" when there is none.
func SplitPort(authority string) (host, port string) {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || strings.IndexByte(authority[i:], ']') >= 0 {
		return authority, ""
	}
	return authority[:i], authority[i+1:]
}

// checkAuthority accepts a registered name, an IPv4 literal or an IPv6 literal in
// brackets, with an optional port of 1 to 5 digits without superfluous zeros.
// RFC 9110 section 4.2.4: user information is refused.
func checkAuthority(a string, needPort bool) *Error {
	if strings.IndexByte(a, '@') >= 0 {
		return errTargetUser
	}
	host, port := SplitPort(a)
	if len(host) != len(a) && !validPort(port) || needPort && port == "" {
		return errHostInvalid
	}
	if len(host) > 255 || host == "" {
		return errHostInvalid
	}
	if host[0] == '[' {
		return checkIPv6(host)
	}
	if !all(host, clsHost) || host[0] == '.' || strings.Contains(host, "..") {
		return errHostInvalid
	}
	return nil
}

// checkIPv6 wants an address in brackets. Zones, which mean something on one machine
// only, are no part of it (RFC 9110 section 4.2).
func checkIPv6(host string) *Error {
	if host[len(host)-1] != ']' {
		return errHostInvalid
	}
	if a, err := netip.ParseAddr(host[1 : len(host)-1]); err != nil || !a.Is6() || a.Zone() != "" {
		return errHostInvalid
	}
	return nil
}

func validPort(p string) bool {
	if p == "" || len(p) > 5 || p[0] == '0' || !all(p, clsDigit) {
		return false
	}
	n := 0
	for i := 0; i < len(p); i++ {
		n = n*10 + int(p[i]-'0')
	}
	return n <= 65535
}
