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
	kindTime
	kindFlags
	kindLongFlags
	kindDenial // "egret:" and a reason
)

// value is the answer of one command operator; only what its kind names is set.
type value struct {
	kind kind
	s    string
	n    int64
	addr *netip.AddrPort
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

func address(a *netip.AddrPort, k kind) value {
	if !a.Addr().IsValid() {
		return value{}
	}
	return value{kind: k, addr: a}
}

func port(a *netip.AddrPort) value {
	if !a.Addr().IsValid() {
		return value{}
	}
	return number(int64(a.Port()))
}

// since prints a point in the life of a request in milliseconds; 0 is "not reached".
func since(d time.Duration) value {
	if d <= 0 {
		return value{}
	}
	return number(d.Milliseconds())
}

// operator is a command operator without arguments.
type operator func(r *Recorder, e *Entry) value

// operators are the names that take no argument (or whose argument says nothing
// here). See Envoy's "Access log usage", command operators.
var operators = map[string]operator{
	"PROTOCOL":              func(_ *Recorder, e *Entry) value { return word(string(e.Protocol)) },
	"RESPONSE_CODE":         func(_ *Recorder, e *Entry) value { return number(int64(e.Status)) },
	"RESPONSE_CODE_DETAILS": func(_ *Recorder, e *Entry) value { return details(e) },
	"RESPONSE_FLAGS":        func(_ *Recorder, e *Entry) value { return value{kind: kindFlags} },
	"RESPONSE_FLAGS_LONG":   func(_ *Recorder, e *Entry) value { return value{kind: kindLongFlags} },
	"CONNECTION_TERMINATION_DETAILS": func(_ *Recorder, e *Entry) value {
		return foreign(e.ConnectionTerminationDetails)
	},
	"UPSTREAM_TRANSPORT_FAILURE_REASON": func(_ *Recorder, e *Entry) value {
		return foreign(e.UpstreamTransportFailure)
	},
	"BYTES_RECEIVED":       func(_ *Recorder, e *Entry) value { return number(e.BytesReceived) },
	"BYTES_SENT":           func(_ *Recorder, e *Entry) value { return number(e.BytesSent) },
	"DURATION":             func(_ *Recorder, e *Entry) value { return number(e.Duration.Milliseconds()) },
	"REQUEST_DURATION":     func(_ *Recorder, e *Entry) value { return since(e.RequestDone) },
	"RESPONSE_DURATION":    func(_ *Recorder, e *Entry) value { return since(e.FirstUpstreamByte) },
	"RESPONSE_TX_DURATION": func(_ *Recorder, e *Entry) value { return txDuration(e) },

	"UPSTREAM_HOST":           func(_ *Recorder, e *Entry) value { return foreign(e.UpstreamHost) },
	"UPSTREAM_REMOTE_ADDRESS": func(_ *Recorder, e *Entry) value { return foreign(e.UpstreamHost) },
	"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": func(_ *Recorder, e *Entry) value {
		host, _ := splitPort(e.UpstreamHost)
		return foreign(host)
	},
	"UPSTREAM_REMOTE_PORT": func(_ *Recorder, e *Entry) value {
		_, p := splitPort(e.UpstreamHost)
		return foreign(p)
	},
	"UPSTREAM_CLUSTER":       func(_ *Recorder, e *Entry) value { return foreign(e.UpstreamCluster) },
	"UPSTREAM_CLUSTER_RAW":   func(_ *Recorder, e *Entry) value { return foreign(e.UpstreamCluster) },
	"UPSTREAM_LOCAL_ADDRESS": func(_ *Recorder, e *Entry) value { return address(&e.UpstreamLocalAddress, kindAddrPort) },
	"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": func(_ *Recorder, e *Entry) value {
		return address(&e.UpstreamLocalAddress, kindAddr)
	},
	"UPSTREAM_LOCAL_PORT": func(_ *Recorder, e *Entry) value { return port(&e.UpstreamLocalAddress) },
	"UPSTREAM_REQUEST_ATTEMPT_COUNT": func(_ *Recorder, e *Entry) value {
		return number(int64(e.Attempts))
	},

	"DOWNSTREAM_LOCAL_ADDRESS": func(_ *Recorder, e *Entry) value { return address(&e.DownstreamLocal, kindAddrPort) },
	"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": func(_ *Recorder, e *Entry) value {
		return address(&e.DownstreamLocal, kindAddr)
	},
	"DOWNSTREAM_LOCAL_PORT":                         func(_ *Recorder, e *Entry) value { return port(&e.DownstreamLocal) },
	"DOWNSTREAM_REMOTE_ADDRESS":                     remote,
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":        remoteHost,
	"DOWNSTREAM_REMOTE_PORT":                        remotePort,
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":              remote,
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": remoteHost,
	"DOWNSTREAM_DIRECT_REMOTE_PORT":                 remotePort,

	"REQUESTED_SERVER_NAME": func(_ *Recorder, e *Entry) value { return foreign(e.SNI) },
	"ROUTE_NAME":            func(_ *Recorder, e *Entry) value { return foreign(e.RouteName) },
	"HOSTNAME":              func(r *Recorder, _ *Entry) value { return foreign(r.hostname) },
	// Ours: the words of package reason.
	"EGRET_REASON": func(_ *Recorder, e *Entry) value { return word(string(e.Reason)) },
	"EGRET_DETAIL": func(_ *Recorder, e *Entry) value { return foreign(e.Detail) },
}

// absent are Envoy's operators that this proxy knows and has no value for. With
// any argument they print "-".
var absent = map[string]bool{
	"FILTER_STATE": true, "UPSTREAM_FILTER_STATE": true, "DYNAMIC_METADATA": true, "METADATA": true,
	"CLUSTER_METADATA": true, "UPSTREAM_METADATA": true, "CEL": true, "GRPC_STATUS": true,
	"GRPC_STATUS_NUMBER": true, "VIRTUAL_CLUSTER_NAME": true, "CONNECTION_ID": true, "STREAM_ID": true,
	"ENVIRONMENT": true, "LOCAL_REPLY_BODY": true, "ACCESS_LOG_TYPE": true, "UNIQUE_ID": true,
	"TRACE_ID": true, "UPSTREAM_PROTOCOL": true, "UPSTREAM_TLS_VERSION": true, "UPSTREAM_TLS_CIPHER": true,
	"DOWNSTREAM_TLS_VERSION": true, "DOWNSTREAM_TLS_CIPHER": true, "DOWNSTREAM_TLS_SESSION_ID": true,
	"DOWNSTREAM_PEER_SUBJECT": true, "DOWNSTREAM_PEER_ISSUER": true, "DOWNSTREAM_PEER_URI_SAN": true,
	"DOWNSTREAM_LOCAL_SUBJECT": true, "DOWNSTREAM_LOCAL_URI_SAN": true, "DOWNSTREAM_PEER_CERT": true,
	"DOWNSTREAM_TRANSPORT_FAILURE_REASON": true, "UPSTREAM_PEER_SUBJECT": true, "TRAILER": true,
	"UPSTREAM_WIRE_BYTES_RECEIVED": true, "UPSTREAM_WIRE_BYTES_SENT": true,
	"DOWNSTREAM_WIRE_BYTES_RECEIVED": true, "DOWNSTREAM_WIRE_BYTES_SENT": true,
}

func remote(_ *Recorder, e *Entry) value     { return address(&e.DownstreamRemote, kindAddrPort) }
func remoteHost(_ *Recorder, e *Entry) value { return address(&e.DownstreamRemote, kindAddr) }
func remotePort(_ *Recorder, e *Entry) value { return port(&e.DownstreamRemote) }

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

// txDuration is from the first upstream byte to the last byte sent downstream.
func txDuration(e *Entry) value {
	if e.FirstUpstreamByte <= 0 || e.ResponseDone < e.FirstUpstreamByte {
		return value{}
	}
	return number((e.ResponseDone - e.FirstUpstreamByte).Milliseconds())
}

// splitPort splits "ip:port" and "[ip]:port"; without a port it is all host.
func splitPort(s string) (host, port string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.IndexByte(s[i:], ']') >= 0 {
		return s, ""
	}
	return strings.Trim(s[:i], "[]"), s[i+1:]
}

// header is %REQ(name)% and %RESP(name)%. name is lower case.
func header(e *Entry, from source, name string) value {
	if from == fromResponse {
		return responseHeader(e, name)
	}
	s, _ := headerText(e, name)
	return foreign(s)
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

// cut applies the ":max" of an operator to what is text.
func (v value) cut(max int) value {
	if max > 0 && len(v.s) > max {
		v.s = v.s[:max]
	}
	return v
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
		return v.addr.AppendTo(dst)
	case kindAddr:
		return v.addr.Addr().AppendTo(dst)
	case kindTime:
		return o.time.append(dst, e.Start)
	case kindFlags:
		return appendFlags(dst, e.Flags, false)
	case kindLongFlags:
		return appendFlags(dst, e.Flags, true)
	case kindDenial:
		return append(append(dst, "egret:"...), v.s...)
	}
	return dst
}
