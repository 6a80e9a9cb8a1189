package record

import (
	"strings"
)

// operator is a command operator without arguments. What is not in these tables has no
// value here; package format says why.
type operator func(r *Recorder, e *Entry) value

// times are the commands whose argument is a time format.
var times = map[string]bool{
	"START_TIME": true, "START_TIME_LOCAL": true, "EMIT_TIME": true, "EMIT_TIME_LOCAL": true,
	"DOWNSTREAM_PEER_CERT_V_START": true, "DOWNSTREAM_PEER_CERT_V_END": true,
	"UPSTREAM_PEER_CERT_V_START": true, "UPSTREAM_PEER_CERT_V_END": true,
}

// operators are the commands without arguments, or whose argument is not theirs (a time
// format). It is read-only.
var operators = merged(requestOperators, addressOperators, tlsOperators)

func merged(tables ...map[string]operator) map[string]operator {
	all := map[string]operator{}
	for _, t := range tables {
		for name, call := range t {
			all[name] = call
		}
	}
	return all
}

var requestOperators = map[string]operator{
	"START_TIME":       startTime,
	"START_TIME_LOCAL": startTime,
	"EMIT_TIME":        emitTime,
	"EMIT_TIME_LOCAL":  emitTime,

	"PROTOCOL":            func(_ *Recorder, e *Entry) value { return word(string(e.Protocol)) },
	"UPSTREAM_PROTOCOL":   func(_ *Recorder, e *Entry) value { return word(string(e.UpstreamProtocol)) },
	"RESPONSE_CODE":       func(_ *Recorder, e *Entry) value { return number(int64(e.Status)) },
	"RESPONSE_FLAGS":      func(_ *Recorder, e *Entry) value { return value{kind: kindFlags} },
	"RESPONSE_FLAGS_LONG": func(_ *Recorder, e *Entry) value { return value{kind: kindLongFlags} },
	"CONNECTION_TERMINATION_DETAILS": func(_ *Recorder, e *Entry) value {
		return foreign(e.ConnectionTerminationDetails)
	},
	"GRPC_STATUS_NUMBER": grpcNumber,
	"LOCAL_REPLY_BODY":   func(_ *Recorder, e *Entry) value { return foreign(strings.TrimSuffix(e.LocalReplyBody, "\n")) },

	"BYTES_RECEIVED":                 func(_ *Recorder, e *Entry) value { return number(e.BytesReceived) },
	"BYTES_SENT":                     func(_ *Recorder, e *Entry) value { return number(e.BytesSent) },
	"DOWNSTREAM_WIRE_BYTES_RECEIVED": func(_ *Recorder, e *Entry) value { return wire(e, e.BytesReceived) },
	"DOWNSTREAM_WIRE_BYTES_SENT":     func(_ *Recorder, e *Entry) value { return wire(e, e.BytesSent) },
	"UPSTREAM_WIRE_BYTES_SENT":       func(_ *Recorder, e *Entry) value { return wire(e, e.BytesReceived) },
	"UPSTREAM_WIRE_BYTES_RECEIVED":   func(_ *Recorder, e *Entry) value { return wire(e, e.BytesSent) },

	"DURATION":             func(_ *Recorder, e *Entry) value { return number(e.Duration.Milliseconds()) },
	"REQUEST_DURATION":     func(_ *Recorder, e *Entry) value { return since(e.RequestDone) },
	"REQUEST_TX_DURATION":  func(_ *Recorder, e *Entry) value { return since(e.RequestSent) },
	"RESPONSE_DURATION":    func(_ *Recorder, e *Entry) value { return since(e.FirstUpstreamByte) },
	"RESPONSE_TX_DURATION": func(_ *Recorder, e *Entry) value { return txDuration(e) },
	"DOWNSTREAM_HANDSHAKE_DURATION": func(_ *Recorder, e *Entry) value {
		return since(e.DownstreamHandshake)
	},
	"UPSTREAM_CONNECTION_POOL_READY_DURATION": func(_ *Recorder, e *Entry) value { return since(e.UpstreamReady) },

	"ROUTE_NAME":        func(_ *Recorder, e *Entry) value { return foreign(e.RouteName) },
	"FILTER_CHAIN_NAME": func(_ *Recorder, e *Entry) value { return foreign(e.FilterChain) },
	"HOSTNAME":          func(r *Recorder, _ *Entry) value { return foreign(r.hostname) },
	"CONNECTION_ID":     connectionID,
	"STREAM_ID":         streamID,
	"UNIQUE_ID":         func(*Recorder, *Entry) value { return word(newUUID()) },
	"ACCESS_LOG_TYPE":   func(_ *Recorder, e *Entry) value { return word(string(e.logType())) },

	"EGRET_REASON": func(_ *Recorder, e *Entry) value { return word(string(e.Reason)) },
	"EGRET_DETAIL": func(_ *Recorder, e *Entry) value { return foreign(e.Detail) },
}

var addressOperators = map[string]operator{
	"UPSTREAM_HOST":                   upstreamHost,
	"UPSTREAM_REMOTE_ADDRESS":         upstreamHost,
	"UPSTREAM_HOST_NAME":              upstreamHostName,
	"UPSTREAM_HOST_NAME_WITHOUT_PORT": withoutPort(upstreamHostName),
	"UPSTREAM_REMOTE_PORT": func(_ *Recorder, e *Entry) value {
		_, p := splitPort(e.UpstreamHost)
		return foreign(p)
	},
	"UPSTREAM_HOSTS_ATTEMPTED":                   onlyAttempt(upstreamHost),
	"UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT":      onlyAttempt(withoutPort(upstreamHost)),
	"UPSTREAM_HOST_NAMES_ATTEMPTED":              onlyAttempt(upstreamHostName),
	"UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT": onlyAttempt(withoutPort(upstreamHostName)),
	"UPSTREAM_CLUSTER":                           func(_ *Recorder, e *Entry) value { return foreign(e.UpstreamCluster) },
	"UPSTREAM_CLUSTER_RAW":                       func(_ *Recorder, e *Entry) value { return foreign(e.UpstreamCluster) },
	"UPSTREAM_LOCAL_ADDRESS":                     func(_ *Recorder, e *Entry) value { return address(e, upstreamLocal) },
	"UPSTREAM_LOCAL_PORT":                        func(_ *Recorder, e *Entry) value { return port(e, upstreamLocal) },
	"UPSTREAM_REQUEST_ATTEMPT_COUNT":             func(_ *Recorder, e *Entry) value { return number(int64(e.Attempts)) },
	"UPSTREAM_TRANSPORT_FAILURE_REASON":          func(_ *Recorder, e *Entry) value { return foreign(e.UpstreamTransportFailure) },

	"DOWNSTREAM_LOCAL_ADDRESS":            func(_ *Recorder, e *Entry) value { return address(e, downstreamLocal) },
	"DOWNSTREAM_LOCAL_PORT":               func(_ *Recorder, e *Entry) value { return port(e, downstreamLocal) },
	"DOWNSTREAM_DIRECT_LOCAL_ADDRESS":     func(_ *Recorder, e *Entry) value { return address(e, downstreamDirectLocal) },
	"DOWNSTREAM_DIRECT_LOCAL_PORT":        func(_ *Recorder, e *Entry) value { return port(e, downstreamDirectLocal) },
	"DOWNSTREAM_REMOTE_ADDRESS":           func(_ *Recorder, e *Entry) value { return address(e, downstreamRemote) },
	"DOWNSTREAM_REMOTE_PORT":              func(_ *Recorder, e *Entry) value { return port(e, downstreamRemote) },
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":    func(_ *Recorder, e *Entry) value { return address(e, downstreamDirectRemote) },
	"DOWNSTREAM_DIRECT_REMOTE_PORT":       func(_ *Recorder, e *Entry) value { return port(e, downstreamDirectRemote) },
	"DOWNSTREAM_TRANSPORT_FAILURE_REASON": func(_ *Recorder, e *Entry) value { return foreign(e.DownstreamTransportFailure) },
}

func startTime(*Recorder, *Entry) value { return value{kind: kindStart} }

func emitTime(*Recorder, *Entry) value { return value{kind: kindNow} }

// wire are a TCP connection's bytes, which are those on the wire. Of HTTP only bodies
// are counted.
func wire(e *Entry, n int64) value {
	if e.Protocol != ProtocolTCP {
		return value{}
	}
	return number(n)
}

func upstreamHost(_ *Recorder, e *Entry) value { return foreign(e.UpstreamHost) }

// upstreamHostName is the endpoint's name, or its address where it has none.
func upstreamHostName(_ *Recorder, e *Entry) value {
	if e.UpstreamHostName != "" {
		return foreign(e.UpstreamHostName)
	}
	return foreign(e.UpstreamHost)
}

func withoutPort(call operator) operator {
	return func(r *Recorder, e *Entry) value {
		host, _ := splitPort(call(r, e).s)
		return foreign(host)
	}
}

// onlyAttempt has a value where the last host tried was the only one.
func onlyAttempt(call operator) operator {
	return func(r *Recorder, e *Entry) value {
		if e.Attempts > 1 {
			return value{}
		}
		return call(r, e)
	}
}

// txDuration is from the first upstream byte to the last byte sent downstream.
func txDuration(e *Entry) value {
	if e.FirstUpstreamByte <= 0 || e.ResponseDone < e.FirstUpstreamByte {
		return value{}
	}
	return number((e.ResponseDone - e.FirstUpstreamByte).Milliseconds())
}
