package record

import (
	"strings"
	"time"

	"github.com/egret-mesh/egret/internal/format"
)

// source is where an op reads.
type source uint8

const (
	fromLiteral source = iota
	fromOperator
	fromRequest
	fromResponse
	fromTrailer
	fromNothing // an operator that has no value here
)

// op prints one piece of a line. It is made once per format and read-only after that.
type op struct {
	from   source
	quoted bool   // stands between '"' in a text format
	text   string // the literal, or the header's lower-case name
	alt    string // header to use when the first is absent
	max    int    // bytes printed of a value; 0: all
	call   operator
	time   *timeFormat    // of a point in time
	zone   *time.Location // of a point in time
}

// defaultEnvoyFormat is used for an access log without a format (Envoy's "default format string").
const defaultEnvoyFormat = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ` +
	`%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ` +
	`%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
	`"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"` + "\n"

// IstioTextFormat is Istio's default access log format (EnvoyTextLogFormat in
// istio.io/istio, as documented in "Envoy Access Logs").
const IstioTextFormat = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ` +
	`%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ` +
	`"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ` +
	`%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
	`"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% ` +
	`%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ` +
	`%REQUESTED_SERVER_NAME% %ROUTE_NAME%` + "\n"

// compileText makes the ops of a text format.
func compileText(text string) ([]op, error) {
	parts, err := format.Parse(text)
	if err != nil {
		return nil, err
	}
	ops := make([]op, 0, len(parts))
	for i := range parts {
		ops = append(ops, compilePart(&parts[i]))
	}
	return ops, nil
}

// compilePart is the op of one part of a format that was parsed without an error.
func compilePart(p *format.Part) op {
	o := op{quoted: p.Quoted, max: p.Max}
	switch p.Command {
	case "":
		return op{text: p.Literal}
	case "REQ", "RESP", "TRAILER":
		o.text, o.alt, _ = strings.Cut(strings.ToLower(p.Args), "?")
		o.from = map[string]source{"REQ": fromRequest, "RESP": fromResponse, "TRAILER": fromTrailer}[p.Command]
		return o
	}
	if p.Args != "" && times[p.Command] {
		o.time = compileTime(p.Args)
	}
	o.zone = time.UTC
	if strings.HasSuffix(p.Command, "_LOCAL") {
		o.zone = time.Local
	}
	o.from, o.call = fromOperator, compileOperator(p)
	if o.call == nil {
		o.from = fromNothing
	}
	return o
}

// compileOperator finds what prints a command; nil prints nothing.
func compileOperator(p *format.Part) operator {
	if call := operators[p.Command]; call != nil {
		return call
	}
	if with := withArguments(p.Command); with != nil {
		return with(p.Args)
	}
	return nil
}

// value asks an op that is not a literal.
func (o *op) value(r *Recorder, e *Entry) (v value) {
	switch o.from {
	case fromRequest, fromResponse, fromTrailer:
		v = header(e, o.from, o.text)
		if v.kind == kindNone && o.alt != "" {
			v = header(e, o.from, o.alt)
		}
	case fromOperator:
		v = o.call(r, e)
	}
	if o.max > 0 && len(v.s) > o.max {
		v.s = v.s[:o.max]
	}
	return v
}

// appendText prints the ops of a text format.
func appendText(dst []byte, r *Recorder, e *Entry, ops []op) []byte {
	for i := range ops {
		o := &ops[i]
		if o.from == fromLiteral {
			dst = append(dst, o.text...)
			continue
		}
		dst = o.value(r, e).appendText(dst, e, o)
	}
	return dst
}
