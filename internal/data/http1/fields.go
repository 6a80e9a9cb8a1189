package http1

import "strings"

// ID is a field name that the proxy itself cares about. Comparing IDs is cheaper
// than comparing names, so the parser looks the name up once.
type ID uint8

// Known names. Other is every other name.
const (
	Other ID = iota
	Host
	ContentLength
	TransferEncoding
	Connection
	KeepAlive
	ProxyHop // every "Proxy-" field
	TE
	Trailer
	Upgrade
	Expect
	Date
	Server
	XRequestID
	XForwardedFor
	XForwardedProto
	XEnvoy // every "X-Envoy-" field
)

// Field is one header or trailer field. Name has the case that the peer wrote.
// Both strings alias the read buffer until the message is released.
type Field struct {
	Name, Value string
	ID          ID
	removed     bool
}

// Fields is a header or trailer section. Removed fields stay in the list, unseen,
// and what was parsed keeps its value, so that Original can still tell it.
type Fields struct {
	list   []Field
	parsed int // list[:parsed] came from the peer
}

// Original is the section as it was parsed, whatever has been edited since.
type Original struct{ f *Fields }

// Original views the section as it was parsed.
func (f *Fields) Original() Original { return Original{f} }

// Get is Fields.Get on the section as it was parsed.
func (o Original) Get(name string) (string, bool) {
	for i := range o.f.list[:o.f.parsed] {
		if EqualFold(o.f.list[i].Name, name) {
			return join(o.f.list[i:o.f.parsed], name, true), true
		}
	}
	return "", false
}

// Get returns the value of the field with the lower-case name; several are joined
// by ",". It does not allocate when there is one.
func (f *Fields) Get(name string) (string, bool) {
	for i := range f.list {
		if x := &f.list[i]; !x.removed && EqualFold(x.Name, name) {
			return join(f.list[i:], name, false), true
		}
	}
	return "", false
}

// join returns the first field's value, or all values of the name joined.
func join(list []Field, name string, removed bool) string {
	var parts []string
	for i := 1; i < len(list); i++ {
		if x := &list[i]; (removed || !x.removed) && EqualFold(x.Name, name) {
			if parts == nil {
				parts = append(parts, list[0].Value)
			}
			parts = append(parts, x.Value)
		}
	}
	if parts == nil {
		return list[0].Value
	}
	return strings.Join(parts, ",")
}

// Has reports whether there is a field with the lower-case name.
func (f *Fields) Has(name string) bool {
	for i := range f.list {
		if x := &f.list[i]; !x.removed && EqualFold(x.Name, name) {
			return true
		}
	}
	return false
}

// Known returns the value of the first field with the ID.
func (f *Fields) Known(id ID) (string, bool) {
	for i := range f.list {
		if x := &f.list[i]; x.ID == id && !x.removed {
			return x.Value, true
		}
	}
	return "", false
}

// Len is the number of fields.
func (f *Fields) Len() int {
	n := 0
	for i := range f.list {
		if !f.list[i].removed {
			n++
		}
	}
	return n
}

// All calls yield for each field in order.
func (f *Fields) All(yield func(name, value string) bool) {
	for i := range f.list {
		if x := &f.list[i]; !x.removed && !yield(x.Name, x.Value) {
			return
		}
	}
}

// Add appends a field. The strings must live until the message is released.
func (f *Fields) Add(name, value string) {
	f.list = append(f.list, Field{Name: name, Value: value, ID: identify(name)})
}

// Set removes the fields with the name and appends one.
func (f *Fields) Set(name, value string) {
	for i := range f.list {
		if equalFold(f.list[i].Name, name) {
			f.list[i].removed = true
		}
	}
	f.Add(name, value)
}

// Remove removes every field with the lower-case name.
func (f *Fields) Remove(name string) {
	for i := range f.list {
		if x := &f.list[i]; EqualFold(x.Name, name) {
			x.removed = true
		}
	}
}

// RemoveKnown removes every field with the ID.
func (f *Fields) RemoveKnown(id ID) {
	for i := range f.list {
		if f.list[i].ID == id {
			f.list[i].removed = true
		}
	}
}

// RemoveHop removes what belongs to one connection only (RFC 9110 section 7.6.1):
// Connection and the fields it names, Keep-Alive, Proxy-*, TE, Upgrade; and Host and
// the framing fields, which the writer writes anew from the parsed form. Expect stays.
func (f *Fields) RemoveHop() {
	for i := range f.list {
		x := &f.list[i]
		switch x.ID {
		case Connection:
			if !x.removed {
				f.removeNamed(x.Value)
			}
			x.removed = true
		case Host, ContentLength, TransferEncoding, KeepAlive, ProxyHop, TE, Upgrade:
			x.removed = true
		}
	}
}

func (f *Fields) removeNamed(connection string) {
	for token := range tokens(connection) {
		if equalFold(token, "close") || equalFold(token, "keep-alive") || equalFold(token, "upgrade") {
			continue
		}
		for i := range f.list {
			if equalFold(f.list[i].Name, token) {
				f.list[i].removed = true
			}
		}
	}
}

// Append writes the fields as header lines, without the empty line at the end.
func (f *Fields) Append(dst []byte) []byte {
	for i := range f.list {
		if x := &f.list[i]; !x.removed {
			dst = AppendField(dst, x.Name, x.Value)
		}
	}
	return dst
}

// Reset forgets all fields.
func (f *Fields) Reset() {
	clear(f.list)
	f.list = f.list[:0]
	f.parsed = 0
}

// hasToken reports whether the comma-separated list has the lower-case token.
func hasToken(list, token string) bool {
	if EqualFold(list, token) {
		return true
	}
	for t := range tokens(list) {
		if EqualFold(t, token) {
			return true
		}
	}
	return false
}

// tokens iterates over a comma-separated list, without white space and empty elements.
func tokens(list string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for list != "" {
			var t string
			t, list, _ = strings.Cut(list, ",")
			if t = strings.Trim(t, " \t"); t != "" && !yield(t) {
				return
			}
		}
	}
}

// identify finds the ID of a name. The switch on the length keeps the common case,
// an unknown name, at a few comparisons.
func identify(name string) ID {
	if len(name) == 0 {
		return Other
	}
	switch lower[name[0]] {
	case 'h':
		return known(name, "host", Host)
	case 'c':
		if len(name) == len("connection") {
			return known(name, "connection", Connection)
		}
		return known(name, "content-length", ContentLength)
	case 'd':
		return known(name, "date", Date)
	case 'e':
		return known(name, "expect", Expect)
	case 'k':
		return known(name, "keep-alive", KeepAlive)
	case 'p':
		if len(name) > 6 && EqualFold(name[:6], "proxy-") {
			return ProxyHop
		}
	case 's':
		return known(name, "server", Server)
	case 't':
		return identifyT(name)
	case 'u':
		return known(name, "upgrade", Upgrade)
	case 'x':
		return identifyX(name)
	}
	return Other
}

func identifyT(name string) ID {
	switch len(name) {
	case len("te"):
		return known(name, "te", TE)
	case len("trailer"):
		return known(name, "trailer", Trailer)
	case len("transfer-encoding"):
		return known(name, "transfer-encoding", TransferEncoding)
	}
	return Other
}

func identifyX(name string) ID {
	switch len(name) {
	case len("x-request-id"):
		if id := known(name, "x-request-id", XRequestID); id != Other {
			return id
		}
	case len("x-forwarded-for"):
		if id := known(name, "x-forwarded-for", XForwardedFor); id != Other {
			return id
		}
	case len("x-forwarded-proto"):
		if id := known(name, "x-forwarded-proto", XForwardedProto); id != Other {
			return id
		}
	}
	if len(name) > 8 && EqualFold(name[:8], "x-envoy-") {
		return XEnvoy
	}
	return Other
}

func known(name, want string, id ID) ID {
	if EqualFold(name, want) {
		return id
	}
	return Other
}

// framingLookalike reports whether a name that is not exactly Content-Length or
// Transfer-Encoding reads like one of them to parsers that treat '_' as '-' or
// collapse runs of them.
func framingLookalike(name string) bool {
	if len(name) < len("content-length") || len(name) > 64 {
		return false
	}
	if c := lower[name[0]]; c != 'c' && c != 't' && c != '-' && c != '_' {
		return false
	}
	var b [64]byte
	n := 0
	for i := 0; i < len(name); i++ {
		c := lower[name[i]]
		if c == '-' || c == '_' || c == '.' {
			continue
		}
		b[n] = c
		n++
	}
	return string(b[:n]) == "contentlength" || string(b[:n]) == "transferencoding"
}
