package record

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// kind says which field of a value is set, and so how it is printed.
type kind uint8

const (
	kindNone    kind = iota // "-" in text, null in JSON
	kindWord                // from a closed list or the configuration's own words
	kindForeign             // from the network: escaped
	kindNumber
	kindDigits // a number that JSON prints as a string, since it is a header
	kindAddrPort
	kindAddr
	kindStart // the entry's
	kindNow
	kindSeconds // a point in time, in seconds since 1970
	kindFlags
	kindLongFlags
	kindDenial // "egret:" and a reason
)

// value is the answer of one command operator; only what its kind names is set. It has
// four words, which Go keeps in registers: larger ones are copied in memory, and there are
// more than twenty in a line.
type value struct {
	kind kind
	s    string
	n    int64 // a number, a place, or seconds
}

// place is one of an entry's addresses.
type place int64

const (
	upstreamLocal place = iota
	upstreamRemote
	downstreamLocal
	downstreamDirectLocal // where the connection arrived, before redirection
	downstreamRemote
	downstreamDirectRemote // who connected, whoever the client is
)

func (p place) of(e *Entry) netip.AddrPort {
	switch p {
	case upstreamLocal:
		return e.UpstreamLocalAddress
	case upstreamRemote:
		host, _ := splitPort(e.UpstreamHost)
		a, _ := netip.ParseAddr(host)
		return netip.AddrPortFrom(a, 0)
	case downstreamDirectLocal:
		if e.DownstreamDirectLocal.IsValid() {
			return e.DownstreamDirectLocal
		}
	case downstreamRemote:
		if e.Client.IsValid() {
			return netip.AddrPortFrom(e.Client, 0)
		}
		return e.DownstreamRemote
	case downstreamDirectRemote:
		return e.DownstreamRemote
	}
	return e.DownstreamLocal
}

func word(s string) value {
	if s == "" {
		return value{}
	}
	return value{kind: kindWord, s: s}
}

func foreign(s string) value {
	if s == "" {
		return value{}
	}
	return value{kind: kindForeign, s: s}
}

func number(n int64) value { return value{kind: kindNumber, n: n} }

func address(e *Entry, p place) value {
	if !p.of(e).IsValid() {
		return value{}
	}
	return value{kind: kindAddrPort, n: int64(p)}
}

func port(e *Entry, p place) value {
	a := p.of(e)
	if !a.IsValid() {
		return value{}
	}
	return number(int64(a.Port()))
}

func (v value) isTime() bool {
	return v.kind == kindStart || v.kind == kindNow || v.kind == kindSeconds
}

func seconds(t time.Time) value { return value{kind: kindSeconds, n: t.Unix()} }

// since prints a point in the life of a request in milliseconds; 0 is "not reached".
func since(d time.Duration) value {
	if d <= 0 {
		return value{}
	}
	return number(d.Milliseconds())
}

// details is RESPONSE_CODE_DETAILS: Envoy's word where there is one, and for a
// denial the reason, so that Istio's default format shows it.
func details(e *Entry) value {
	if e.ResponseCodeDetails != "" {
		return foreign(e.ResponseCodeDetails)
	}
	if e.Reason.Denied() {
		return value{kind: kindDenial, s: string(e.Reason)}
	}
	return value{}
}

// splitPort splits "ip:port" and "[ip]:port"; without a port it is all host.
func splitPort(s string) (host, port string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.IndexByte(s[i:], ']') >= 0 {
		return s, ""
	}
	return strings.Trim(s[:i], "[]"), s[i+1:]
}

// header is %REQ(name)%, %RESP(name)% and %TRAILER(name)%. name is lower case.
func header(e *Entry, from source, name string) value {
	switch from {
	case fromResponse:
		return responseHeader(e, name)
	case fromTrailer:
		return foreign(get(e.ResponseTrailers, name))
	}
	s, _ := headerText(e, name)
	return foreign(s)
}

// get is a header's value; "" where it or all of them are not there.
func get(h Headers, name string) string {
	if h == nil {
		return ""
	}
	s, _ := h.Get(name)
	return s
}

func responseHeader(e *Entry, name string) value {
	if name == ":status" {
		if e.Status == 0 {
			return value{}
		}
		return value{kind: kindDigits, n: int64(e.Status)}
	}
	if e.ResponseHeaders != nil {
		if s, ok := e.ResponseHeaders.Get(name); ok {
			return foreign(s)
		}
	}
	if name == "x-envoy-upstream-service-time" {
		v := since(e.UpstreamServiceTime)
		if v.kind == kindNumber {
			v.kind = kindDigits
		}
		return v
	}
	return value{}
}

// appendText prints v as a text format does: "-" for nothing.
func (v value) appendText(dst []byte, e *Entry, o *op) []byte {
	switch v.kind {
	case kindWord:
		return append(dst, v.s...)
	case kindForeign:
		return appendEscaped(dst, v.s, o.quoted)
	case kindNone:
		return append(dst, '-')
	}
	return v.appendPlain(dst, e, o)
}

// appendPlain prints the kinds whose text is the proxy's own.
func (v value) appendPlain(dst []byte, e *Entry, o *op) []byte {
	switch v.kind {
	case kindNumber, kindDigits:
		return strconv.AppendInt(dst, v.n, 10)
	case kindAddrPort:
		return place(v.n).of(e).AppendTo(dst)
	case kindAddr:
		return place(v.n).of(e).Addr().AppendTo(dst)
	case kindStart:
		return o.time.append(dst, e.Start.In(o.zone))
	case kindNow:
		return o.time.append(dst, time.Now().In(o.zone))
	case kindSeconds:
		return o.time.append(dst, time.Unix(v.n, 0).In(o.zone))
	case kindFlags:
		return appendFlags(dst, e.Flags, false)
	case kindLongFlags:
		return appendFlags(dst, e.Flags, true)
	case kindDenial:
		return append(append(dst, "egret:"...), v.s...)
	}
	return dst
}
