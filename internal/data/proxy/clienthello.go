package proxy

import "errors"

// maxSniff bounds what is read before a connection is decided: the first bytes, in
// which a ClientHello or an HTTP request line must be found (Envoy's
// TLS_MAX_CLIENT_HELLO is 16 KiB as well).
const maxSniff = 16 << 10

// hello is what is used of a TLS ClientHello.
type hello struct {
	sni  string   // lower case; "" when there is none
	alpn []string // as offered
	// ech: the hello has the encrypted_client_hello extension, so sni may be an outer
	// name only (or the extension is GREASE). The decision is on what can be seen.
	ech bool
}

// Answers of the detectors other than a result.
var (
	errMore   = errors.New("more bytes are needed")
	errNotTLS = errors.New("not TLS")
	// errBadHello: it begins as a ClientHello and then breaks RFC 8446 or RFC 6066.
	// A server behind might read such bytes otherwise than we do, so they are refused.
	errBadHello = errors.New("malformed ClientHello")
)

const (
	recordAlert        = 21
	recordHandshake    = 22
	recordHeader       = 5
	maxRecord          = 1 << 14
	typeClientHello    = 1
	extServerName      = 0
	extALPN            = 16
	extECH             = 0xfe0d
	maxServerNameBytes = 255
)

// parseClientHello reads a ClientHello from the first bytes of a connection: one
// handshake message in one or more TLS records (RFC 8446, 4.1.2 and 5.1). The errors are
// errMore, errNotTLS and errBadHello. No bytes that a TLS server could take for a
// ClientHello are errNotTLS.
func parseClientHello(b []byte) (hello, error) {
	switch {
	case len(b) == 0:
		return hello{}, errMore
	case b[0] != recordHandshake && b[0] != recordAlert:
		return hello{}, errNotTLS
	case len(b) == 1:
		return hello{}, errMore
	case b[0] == recordAlert && b[1] == 3: // some servers skip warnings before the hello
		return hello{}, errBadHello
	case b[0] == recordAlert || b[1] >= 0x10:
		return hello{}, errNotTLS
	}
	message, err := handshakeMessage(b)
	if err == nil && b[1] != 3 { // clients send no such version, and servers do not look at it
		err = errBadHello
	} else if errors.Is(err, errBadHello) && b[1] != 3 {
		err = errNotTLS
	}
	if err != nil {
		return hello{}, err
	}
	return parseHelloBody(message)
}

// handshakeMessage joins the fragments of the first handshake message and returns
// its body. b is bounded by maxSniff, and so is the result.
func handshakeMessage(b []byte) ([]byte, error) {
	var joined []byte
	for first := true; ; first = false {
		if len(b) < recordHeader {
			return nil, errMore
		}
		n := int(b[3])<<8 | int(b[4])
		if b[0] != recordHandshake || n == 0 || n > maxRecord {
			return nil, errBadHello // another record, or an empty one, within the message
		}
		fragment := b[recordHeader:]
		complete := len(fragment) >= n
		if complete {
			fragment = fragment[:n]
		}
		if first && len(fragment) >= 4 { // the usual case: no copy
			joined = fragment[:len(fragment):len(fragment)]
		} else {
			joined = append(joined, fragment...)
		}
		if len(joined) > 0 && joined[0] != typeClientHello {
			return nil, errBadHello
		}
		if len(joined) >= 4 {
			length := int(joined[1])<<16 | int(joined[2])<<8 | int(joined[3])
			if length+4+recordHeader > maxSniff {
				return nil, errBadHello
			}
			if len(joined) >= 4+length {
				return joined[4 : 4+length], nil
			}
		}
		if !complete {
			return nil, errMore
		}
		b = b[recordHeader+n:]
	}
}

// fields takes length-prefixed fields off a byte string; bad stays set after the first
// that does not fit.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n > len(f.b) {
		f.bad = true
		return nil
	}
	out := f.b[:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) number(bytes int) int {
	n := 0
	for _, c := range f.take(bytes) {
		n = n<<8 | int(c)
	}
	return n
}

// vector takes a field with a length of lengthBytes before it.
func (f *fields) vector(lengthBytes int) fields {
	n := f.number(lengthBytes)
	return fields{b: f.take(n), bad: f.bad}
}

func parseHelloBody(b []byte) (hello, error) {
	f := fields{b: b}
	f.take(2 + 32) // legacy_version, random
	session := f.vector(1)
	suites := f.vector(2)
	compressions := f.vector(1)
	if f.bad || len(session.b) > 32 || len(suites.b) < 2 || len(suites.b)%2 != 0 || len(compressions.b) == 0 {
		return hello{}, errBadHello
	}
	if len(f.b) == 0 { // before TLS 1.3 extensions may be left out
		return hello{}, nil
	}
	extensions := f.vector(2)
	if f.bad || len(f.b) != 0 {
		return hello{}, errBadHello
	}
	return parseExtensions(extensions)
}

// parseExtensions refuses an extension that is there twice (RFC 8446, 4.2).
func parseExtensions(f fields) (hello, error) {
	var h hello
	var seen [1 << 16 / 64]uint64
	for len(f.b) > 0 {
		kind := f.number(2)
		body := f.vector(2)
		if f.bad || seen[kind/64]&(1<<(kind%64)) != 0 {
			return hello{}, errBadHello
		}
		seen[kind/64] |= 1 << (kind % 64)
		ok := true
		switch kind {
		case extServerName:
			h.sni, ok = parseServerName(body)
		case extALPN:
			h.alpn, ok = parseALPN(body)
		case extECH:
			h.ech = true
		}
		if !ok {
			return hello{}, errBadHello
		}
	}
	return h, nil
}

// parseServerName reads the one host_name of RFC 6066, 3. More than one name, another
// type, or bytes that no DNS name has are refused: servers differ in which they take.
func parseServerName(f fields) (string, bool) {
	list := f.vector(2)
	if f.bad || len(f.b) != 0 {
		return "", false
	}
	kind := list.number(1)
	name := list.vector(2)
	if list.bad || kind != 0 || len(list.b) != 0 {
		return "", false
	}
	return serverName(name.b)
}

// serverName checks and lower-cases a name: letters, digits, "-", "_" and single dots
// between labels.
func serverName(b []byte) (string, bool) {
	if len(b) == 0 || len(b) > maxServerNameBytes {
		return "", false
	}
	lower := make([]byte, len(b))
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_':
		case c == '.' && i > 0 && i < len(b)-1 && b[i-1] != '.':
		default:
			return "", false
		}
		lower[i] = c
	}
	return string(lower), true
}

// parseALPN reads the protocol list of RFC 7301.
func parseALPN(f fields) ([]string, bool) {
	list := f.vector(2)
	if f.bad || len(f.b) != 0 || len(list.b) == 0 {
		return nil, false
	}
	var names []string
	for len(list.b) > 0 {
		name := list.vector(1)
		if list.bad || len(name.b) == 0 {
			return nil, false
		}
		if len(names) < 32 { // more than that says nothing to a filter chain
			names = append(names, string(name.b))
		}
	}
	return names, true
}
