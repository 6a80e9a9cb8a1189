package record

import (
	"fmt"
	"strconv"
	"strings"
)

// source is where an op reads.
type source uint8

const (
	fromLiteral source = iota
	fromOperator
	fromRequest
	fromResponse
	fromStartTime
	fromNothing // an operator that has no value here
)

// op prints one piece of a line. It is made once per format and read-only after that.
type op struct {
	from   source
	quoted bool   // stands between '"' in a text format
	text   string // the literal, or the header's lower-case name
	alt    string // header to use when the first is absent
	max    int    // bytes printed of a header; 0: all
	call   operator
	time   *timeFormat
}

// Bounds on formats, so that a configuration cannot make the recorder grow without end.
const (
	maxFormatLength = 64 << 10
	maxFormatOps    = 4096
)

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

// compileText makes the ops of a text format. It always gives usable ops: a part
// that it does not understand prints "-" or itself, and the first such is the error.
func compileText(format string) ([]op, error) {
	if len(format) > maxFormatLength {
		return []op{{text: "-\n"}}, fmt.Errorf("access log format of %d bytes: more than %d", len(format), maxFormatLength)
	}
	c := textCompiler{}
	for format != "" && len(c.ops) < maxFormatOps {
		format = c.next(format)
	}
	if format != "" {
		c.fail("access log format: more than %d parts", maxFormatOps)
	}
	return c.ops, c.err
}

type textCompiler struct {
	ops    []op
	quoted bool
	err    error
}

func (c *textCompiler) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// next takes one literal or operator from the start of s and returns the rest.
func (c *textCompiler) next(s string) string {
	if s[0] != '%' {
		n := strings.IndexByte(s, '%')
		if n < 0 {
			n = len(s)
		}
		return c.literal(s, n)
	}
	if strings.HasPrefix(s, "%%") {
		c.literal("%", 1)
		return s[2:]
	}
	name, args, max, n, ok := splitOperator(s)
	if !ok {
		c.fail("access log format: %q is not a command operator", abbreviate(s))
		return c.literal(s, 1)
	}
	o, known := compileOperator(name, args, max)
	if !known {
		c.fail("access log format: %q is not supported", abbreviate(s[:n]))
	}
	o.quoted = c.quoted
	c.ops = append(c.ops, o)
	return s[n:]
}

// literal takes n bytes of s as they are, and keeps count of quotes.
func (c *textCompiler) literal(s string, n int) string {
	if strings.Count(s[:n], `"`)%2 == 1 {
		c.quoted = !c.quoted
	}
	if last := len(c.ops) - 1; last >= 0 && c.ops[last].from == fromLiteral {
		c.ops[last].text += s[:n]
	} else {
		c.ops = append(c.ops, op{text: s[:n]})
	}
	return s[n:]
}

func abbreviate(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

// splitOperator reads %NAME%, %NAME(args)% and %NAME(args):max% at the start of s;
// n is its length. As in Envoy, the arguments end at the first ")" that "%" or
// ":max%" follows.
func splitOperator(s string) (name, args string, max, n int, ok bool) {
	i := 1
	for i < len(s) && (s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9' || s[i] == '_') {
		i++
	}
	if i == 1 || i == len(s) {
		return "", "", 0, 0, false
	}
	name = s[1:i]
	if s[i] == '%' {
		return name, "", 0, i + 1, true
	}
	if s[i] == ':' {
		max, n = readMax(s, i)
		return name, "", max, n, n > 0
	}
	if s[i] != '(' {
		return "", "", 0, 0, false
	}
	for j := i + 1; j < len(s); j++ {
		if s[j] != ')' || j+1 == len(s) {
			continue
		}
		if s[j+1] == '%' {
			return name, s[i+1 : j], 0, j + 2, true
		}
		if s[j+1] == ':' {
			if max, n = readMax(s, j+1); n > 0 {
				return name, s[i+1 : j], max, n, true
			}
		}
	}
	return "", "", 0, 0, false
}

// readMax reads ":digits%" at s[i:]; end 0 says it is not there.
func readMax(s string, i int) (max, end int) {
	j := i + 1
	for j < len(s) && s[j] >= '0' && s[j] <= '9' && j-i <= 7 {
		j++
	}
	if j == i+1 || j == len(s) || s[j] != '%' {
		return 0, 0
	}
	max, _ = strconv.Atoi(s[i+1 : j])
	return max, j + 1
}

// compileOperator is the op of one command operator; known is false for a name that
// Envoy would refuse.
func compileOperator(name, args string, max int) (o op, known bool) {
	switch name {
	case "START_TIME":
		o = op{from: fromStartTime}
		if args != "" {
			o.time = compileTime(args)
		}
		return o, true
	case "REQ", "RESP":
		first, alt, _ := strings.Cut(strings.ToLower(args), "?")
		o = op{from: fromRequest, text: first, alt: alt, max: max}
		if name == "RESP" {
			o.from = fromResponse
		}
		return o, first != ""
	}
	if absent[name] {
		return op{from: fromNothing}, true
	}
	if call := operators[name]; call != nil {
		return op{from: fromOperator, call: call, max: max}, true
	}
	return op{from: fromNothing}, false
}

// value asks an op that is not a literal.
func (o *op) value(r *Recorder, e *Entry) value {
	switch o.from {
	case fromStartTime:
		return value{kind: kindTime}
	case fromRequest, fromResponse:
		v := header(e, o.from, o.text)
		if v.kind == kindNone && o.alt != "" {
			v = header(e, o.from, o.alt)
		}
		return v.cut(o.max)
	case fromOperator:
		return o.call(r, e).cut(o.max)
	}
	return value{}
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
