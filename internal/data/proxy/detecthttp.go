package proxy

import (
	"bytes"
	"errors"
)

var errNotHTTP = errors.New("not HTTP")

// What detectHTTP finds; the words of Envoy's http_inspector.
const (
	http10 = "http/1.0"
	http11 = "http/1.1"
	http2c = "h2c"
)

// http2Preface is the line that every HTTP/2 connection begins with (RFC 9113, 3.4).
const http2Preface = "PRI * HTTP/2.0\r\n"

// maxMethod is the length of the longest method that is taken for one.
const maxMethod = 32

// knownMethods are enough to call a request line HTTP before its end has come.
var knownMethods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// detectHTTP says whether the first bytes of a connection are an HTTP request: a
// method, a space, a target and "HTTP/x.y" on one line (RFC 9112, 3), or the HTTP/2
// preface. With a known method a line that is longer than what may be read counts as
// HTTP, too: the codec then refuses it with a reason. Otherwise the errors are errMore and errNotHTTP.
func detectHTTP(b []byte) (string, error) {
	if n := min(len(b), len(http2Preface)); n > 0 && string(b[:n]) == http2Preface[:n] {
		if n < len(http2Preface) {
			return "", errMore
		}
		return http2c, nil
	}
	method, err := methodOf(b)
	if err != nil {
		return "", err
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) >= maxSniff && isKnown(method) {
			return http11, nil
		}
		if len(b) >= maxSniff {
			return "", errNotHTTP
		}
		return "", errMore
	}
	return versionOf(bytes.TrimSuffix(b[:end], []byte{'\r'}), isKnown(method))
}

// methodOf is the token before the first space.
func methodOf(b []byte) ([]byte, error) {
	for i, c := range b {
		if c == ' ' && i > 0 {
			return b[:i], nil
		}
		if !isToken(c) || i >= maxMethod {
			return nil, errNotHTTP
		}
	}
	return nil, errMore
}

// versionOf looks at the end of a whole request line. A line of a known method without
// a version (HTTP/0.9) or with an unknown one is HTTP that the codec refuses.
func versionOf(line []byte, known bool) (string, error) {
	const version = " HTTP/1.1"
	if len(line) >= len(version) {
		tail := string(line[len(line)-len(version):])
		switch {
		case tail == " HTTP/1.0":
			return http10, nil
		case tail[:6] == " HTTP/":
			return http11, nil
		}
	}
	if known {
		return http11, nil
	}
	return "", errNotHTTP
}

// startsAsHTTP reports whether the bytes, though not a whole line, can only be HTTP.
func startsAsHTTP(b []byte) bool {
	method, err := methodOf(b)
	return err == nil && isKnown(method)
}

func isKnown(method []byte) bool {
	for _, k := range knownMethods {
		if string(method) == k {
			return true
		}
	}
	return false
}

// isToken is tchar of RFC 9110, 5.6.2.
func isToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}
