package http1

import "unsafe"

// What a codec of another version of HTTP needs to read the same messages with the
// same strictness (data/http2).

// errFieldUpper is for HTTP/2 only.
var errFieldUpper = &Error{"field_name_uppercase", 400, "a field name has upper-case letters, which HTTP/2 does not allow"}

// CheckLowerName identifies a field name as HTTP/2 has it (RFC 9113 section 8.2.1): a
// token without upper-case letters, which cannot be mistaken for a framing field.
func CheckLowerName(name string) (ID, *Error) {
	if name == "" {
		return Other, errFieldEmpty
	}
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case class[c]&clsToken == 0:
			return Other, errFieldName
		case lower[c] != c:
			return Other, errFieldUpper
		}
	}
	id := identify(name)
	if id == Other && framingLookalike(name) {
		return Other, errFieldLookLike
	}
	return id, nil
}

// CheckValue is nil when a field value has no control characters but HTAB.
func CheckValue(v string) *Error {
	return checkValue(unsafe.Slice(unsafe.StringData(v), len(v)))
}

// CheckMethod is nil when every parser reads the method alike.
func CheckMethod(m string) *Error {
	if m == "" || len(m) > maxMethod || !all(m, clsMethod) {
		return errMethod
	}
	return nil
}

// CleanPath is p, which is the origin form of a target or, with OPTIONS, "*" (RFC 9113
// section 8.3.1): without a fragment, and with bytes that are not ASCII percent-encoded.
func CleanPath(method, p string) (string, *Error) {
	plain := true
	for i := 0; i < len(p); i++ {
		switch class[p[i]] & (clsTarget | clsTargetOther) {
		case 0:
			return p, errTargetChar
		case clsTargetOther:
			plain = false
		}
	}
	if !plain {
		p = cleanTarget(p)
	}
	if p == "" || p[0] != '/' && (p != "*" || method != "OPTIONS") {
		return p, errTargetForm
	}
	return p, nil
}

// CheckAuthority is nil when a is a name or address with an optional port; needPort
// makes the port required.
func CheckAuthority(a string, needPort bool) *Error { return checkAuthority(a, needPort) }

// SameAuthority compares hosts without regard to case, and ports by number; a port
// left out is the scheme's.
func SameAuthority(a, b, scheme string) bool { return sameAuthority(a, b, scheme) }

// ParseLength reads a Content-Length: plain decimal digits without superfluous zeros,
// up to 2^63-1.
func ParseLength(v string) (int64, bool) { return parseLength(v) }

// Refusals that the other codec shares.
var (
	ErrLengthInvalid    = errLengthInvalid
	ErrLengthConflict   = errLengthConflict
	ErrLengthRepeated   = errLengthRepeated
	ErrHostMissing      = errHostMissing
	ErrHostRepeated     = errHostRepeated
	ErrHostTarget       = errHostTarget
	ErrTargetScheme     = errTargetScheme
	ErrHeadTooLarge     = errHeadTooLarge
	ErrTooManyFields    = errTooManyFields
	ErrExpect           = errExpect
	ErrTrailersTooLarge = errTrailersTooLarge
	ErrTrailerForbidden = errTrailerForbidden
)

// ForbiddenTrailer reports whether a field has no place in a trailer section (RFC 9110
// section 6.5.1).
func ForbiddenTrailer(f *Field) bool { return forbiddenTrailer(f) }

// AddParsed appends a field that came from the peer and has been identified. The
// strings must live until the message is released.
func (f *Fields) AddParsed(name, value string, id ID) {
	f.list = append(f.list, Field{Name: name, Value: value, ID: id})
	f.parsed = len(f.list)
}

// Each calls yield for each field in order.
func (f *Fields) Each(yield func(*Field) bool) {
	for i := range f.list {
		if x := &f.list[i]; !x.removed && !yield(x) {
			return
		}
	}
}

// Body lends a buffer of the size that bodies are read with (32 KiB).
func (p *Pool) Body() []byte { return p.Get(bodyBuffer) }
