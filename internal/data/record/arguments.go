package record

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/egret-mesh/egret/internal/format"
)

// withArguments are the commands that an argument changes; package format has checked
// it. It is a function, since %COALESCE% needs the table itself.
func withArguments(command string) func(args string) operator {
	switch command {
	case "RESPONSE_CODE_DETAILS":
		return codeDetails
	case "GRPC_STATUS":
		return grpcName
	case "REQUESTED_SERVER_NAME":
		return serverName
	case "REQ_WITHOUT_QUERY":
		return withoutQuery
	case "PATH":
		return requestPath
	case "QUERY_PARAM":
		return queryParameter
	case "QUERY_PARAMS":
		return queryParameters
	case "COMMON_DURATION":
		return commonDuration
	case "ENVIRONMENT":
		return environment
	case "COALESCE":
		return firstOf
	case "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":
		return masked(upstreamLocal)
	case "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":
		return masked(upstreamRemote)
	case "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":
		return masked(downstreamLocal)
	case "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT":
		return masked(downstreamDirectLocal)
	case "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":
		return masked(downstreamRemote)
	case "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT":
		return masked(downstreamDirectRemote)
	}
	return nil
}

// codeDetails: unless ALLOW_WHITESPACES is asked for, spaces become '_', as in Envoy.
func codeDetails(how string) operator {
	return func(_ *Recorder, e *Entry) value {
		v := details(e)
		if how == "" && strings.IndexByte(v.s, ' ') >= 0 {
			v.s = strings.ReplaceAll(v.s, " ", "_")
		}
		return v
	}
}

// masked is an address without its port, or the network of that prefix length that it
// is in. A length that is too long for the address leaves nothing to print.
func masked(p place) func(string) operator {
	return func(length string) operator {
		bits, err := strconv.Atoi(length)
		return func(_ *Recorder, e *Entry) value {
			a := p.of(e)
			if err != nil && a.IsValid() { // no length was given
				return value{kind: kindAddr, n: int64(p)}
			}
			network, err := a.Addr().Prefix(bits)
			if err != nil || !a.IsValid() {
				return value{}
			}
			return word(network.String())
		}
	}
}

// serverName is REQUESTED_SERVER_NAME(X:Y): the TLS server name, or the request's host.
func serverName(args string) operator {
	which, from, _ := strings.Cut(args, ":")
	host := func(e *Entry) string {
		original := ""
		if from != "HOST" {
			original = get(e.RequestHeaders, "x-envoy-original-host")
		}
		if original != "" || from == "ORIG" {
			return original
		}
		return e.Authority
	}
	return func(_ *Recorder, e *Entry) value {
		switch {
		case which == "HOST_FIRST" && host(e) != "":
			return foreign(host(e))
		case which == "SNI_FIRST" && e.SNI == "":
			return foreign(host(e))
		}
		return foreign(e.SNI)
	}
}

// withoutQuery is REQ_WITHOUT_QUERY(X?Y): a header's value up to the first '?'.
func withoutQuery(args string) operator {
	name, alternative, _ := strings.Cut(strings.ToLower(args), "?")
	return func(_ *Recorder, e *Entry) value {
		s, _ := headerText(e, name)
		if s == "" && alternative != "" {
			s, _ = headerText(e, alternative)
		}
		s, _, _ = strings.Cut(s, "?")
		return foreign(s)
	}
}

// requestPath is PATH(X:Y): with the query or without, before or after a rewrite.
func requestPath(args string) operator {
	query, from, _ := strings.Cut(args, ":")
	return func(_ *Recorder, e *Entry) value {
		s := ""
		if from != "PATH" {
			s = get(e.RequestHeaders, "x-envoy-original-path")
		}
		if s == "" && from != "ORIG" {
			s = e.Path
		}
		if query == "NQ" {
			s, _, _ = strings.Cut(s, "?")
		}
		return foreign(s)
	}
}

// queryParameter is QUERY_PARAM(X): the first value of that name, decoded.
func queryParameter(name string) operator {
	return func(_ *Recorder, e *Entry) value {
		_, query, _ := strings.Cut(e.Path, "?")
		for pair := range strings.SplitSeq(query, "&") {
			key, text, _ := strings.Cut(pair, "=")
			if key, err := url.QueryUnescape(key); err != nil || key != name {
				continue
			}
			if text, err := url.QueryUnescape(text); err == nil {
				return foreign(text)
			}
		}
		return value{}
	}
}

func queryParameters(how string) operator {
	return func(_ *Recorder, e *Entry) value {
		_, query, _ := strings.Cut(e.Path, "?")
		if how == "DECODED" {
			if s, err := url.QueryUnescape(query); err == nil {
				query = s
			}
		}
		return foreign(query)
	}
}

// point gives a point in the life of a request or connection, since Entry.Start; not
// reached where ok is false.
func point(e *Entry, name string) (d time.Duration, ok bool) {
	reached := func(d time.Duration) (time.Duration, bool) { return d, d > 0 }
	tcp := e.Protocol == ProtocolTCP
	switch name {
	case "DS_CX_BEG":
		if tcp {
			return 0, true
		}
		return e.ConnectionStart.Sub(e.Start), !e.ConnectionStart.IsZero()
	case "DS_CX_END":
		return e.Duration, tcp
	case "US_CX_BEG":
		return reached(e.UpstreamConnectBegin)
	case "US_CX_END":
		return reached(e.UpstreamConnected)
	}
	if tcp {
		return 0, false
	}
	switch name {
	case "DS_RX_BEG":
		return 0, true
	case "DS_RX_END":
		return reached(e.RequestDone)
	case "US_TX_END":
		return reached(e.RequestSent)
	case "US_RX_BEG", "DS_TX_BEG": // the head is passed on as soon as it is there
		return reached(e.FirstUpstreamByte)
	case "US_RX_END", "DS_TX_END":
		return reached(e.ResponseDone)
	}
	return 0, false
}

// commonDuration is COMMON_DURATION(START:END:PRECISION).
func commonDuration(args string) operator {
	f := strings.Split(args, ":")
	unit := map[string]time.Duration{"ms": time.Millisecond, "us": time.Microsecond, "ns": time.Nanosecond}[f[2]]
	return func(_ *Recorder, e *Entry) value {
		from, ok := point(e, f[0])
		to, ok2 := point(e, f[1])
		if !ok || !ok2 {
			return value{}
		}
		return number(int64((to - from) / unit))
	}
}

func environment(name string) operator {
	return func(r *Recorder, _ *Entry) value {
		if r.getenv == nil {
			return value{}
		}
		return foreign(r.getenv(name))
	}
}

// firstOf is COALESCE: the first of several commands that has a value.
func firstOf(args string) operator {
	parts, err := format.Coalesced(args)
	if err != nil {
		return nil
	}
	ops := make([]op, len(parts))
	for i := range parts {
		ops[i] = compilePart(&parts[i])
	}
	return func(r *Recorder, e *Entry) value {
		for i := range ops {
			v := ops[i].value(r, e)
			switch v.kind {
			case kindNone:
				continue
			case kindWord, kindForeign, kindNumber, kindDigits, kindAddrPort, kindAddr:
				return v
			}
			return foreign(string(v.appendPlain(nil, e, &ops[i]))) // has a format of its own
		}
		return value{}
	}
}
