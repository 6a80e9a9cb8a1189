package http1

import "strings"

// maxCodings bounds the transfer codings of a message besides chunked.
const maxCodings = 8

// codingNames are the registered transfer codings (RFC 9112 section 7.2) and how they are
// written when they go on. identity means nothing (RFC 2616 section 3.6) and goes.
var codingNames = [...]struct{ name, written string }{
	{"gzip", "gzip"}, {"x-gzip", "gzip"}, {"deflate", "deflate"},
	{"compress", "compress"}, {"x-compress", "compress"}, {"identity", ""},
}

// addCodings adds one Transfer-Encoding field. All fields together are one list (RFC 9110
// section 5.3), and chunked is its last member and only there (RFC 9112 section 6.1).
func (f *framing) addCodings(v string) *Error {
	f.coding++
	if !f.chunked && f.coding == 1 && EqualFold(v, "chunked") {
		f.chunked = true
		return nil
	}
	f.listed = true
	for more := true; more; {
		var member string
		member, v, more = strings.Cut(v, ",")
		if err := f.addCoding(member); err != nil {
			return err
		}
	}
	return nil
}

// addCoding adds one member of the list. Parameters are read and dropped: no registered
// coding has any (RFC 9112 section 7).
func (f *framing) addCoding(member string) *Error {
	name, parameters, _ := strings.Cut(member, ";")
	if !plainParameters(parameters) {
		return errCodingUnknown
	}
	name = trimText(name)
	switch {
	case EqualFold(name, "chunked") && f.chunked:
		return errCodingRepeated
	case EqualFold(name, "chunked"):
		f.chunked = true
		return nil
	}
	for i := range codingNames {
		if !EqualFold(name, codingNames[i].name) {
			continue
		}
		if f.members++; f.chunked || f.members > maxCodings {
			return errCodingLast
		}
		if written := codingNames[i].written; written != "" {
			f.codings += written + ", "
		}
		return nil
	}
	return errCodingUnknown
}

// plainParameters accepts empty ones, tokens, and tokens with a token for a value. A
// quoted string could hide a comma from one parser and not from another.
func plainParameters(s string) bool {
	for s != "" {
		var p string
		p, s, _ = strings.Cut(s, ";")
		if p = trimText(p); p == "" {
			continue
		}
		name, value, has := strings.Cut(p, "=")
		if name == "" || !all(name, clsToken) || has && (value == "" || !all(value, clsToken)) {
			return false
		}
	}
	return true
}

func trimText(s string) string { return strings.Trim(s, " \t") }
