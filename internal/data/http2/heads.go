package http2

import (
	"strconv"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// Indexes of the static table (RFC 7541 appendix A).
const (
	staticGET   = 2
	staticPOST  = 3
	staticRoot  = 4
	staticHTTP  = 6
	staticHTTPS = 7
)

// request appends the pseudo-header fields of a request.
func (e *encoder) request(dst []byte, q *http1.Request, scheme string) []byte {
	connect := q.Method == "CONNECT"
	switch {
	case q.Upgrade != "":
		dst = e.field(dst, ":method", "CONNECT", false)
		dst = e.field(dst, ":protocol", q.Upgrade, false)
	case q.Method == "GET":
		dst = appendIndexed(dst, staticGET)
	case q.Method == "POST":
		dst = appendIndexed(dst, staticPOST)
	default:
		dst = e.field(dst, ":method", q.Method, false)
	}
	if !connect {
		if scheme == "https" {
			dst = appendIndexed(dst, staticHTTPS)
		} else {
			dst = appendIndexed(dst, staticHTTP)
		}
	}
	dst = e.field(dst, ":authority", q.Authority, false)
	switch {
	case connect:
	case q.Path == "/":
		dst = appendIndexed(dst, staticRoot)
	default:
		dst = e.field(dst, ":path", q.Path, false)
	}
	if q.TETrailers {
		dst = e.field(dst, "te", "trailers", false)
	}
	return dst
}

// status appends :status.
func (e *encoder) status(dst []byte, status int) []byte {
	switch status {
	case 101, 200:
		return appendIndexed(dst, 8)
	case 204, 206:
		return appendIndexed(dst, uint64(9+(status-204)/2))
	case 304:
		return appendIndexed(dst, 11)
	case 400:
		return appendIndexed(dst, 12)
	case 404:
		return appendIndexed(dst, 13)
	case 500:
		return appendIndexed(dst, 14)
	}
	var digits [4]byte
	return e.field(dst, ":status", text(strconv.AppendInt(digits[:0], int64(status), 10)), false)
}

// fields appends header or trailer fields.
func (e *encoder) fields(dst []byte, f *http1.Fields) []byte {
	var lower [64]byte
	for x := range f.Each {
		switch x.ID {
		case http1.Host, http1.ContentLength, http1.TransferEncoding, http1.Connection,
			http1.KeepAlive, http1.Upgrade, http1.TE:
			continue
		case http1.ProxyHop:
			if http1.EqualFold(x.Name, "proxy-connection") {
				continue
			}
		}
		name := lowerName(lower[:0], x.Name)
		dst = e.field(dst, name, x.Value, secret(name))
	}
	return dst
}

// lowerName is the name in lower case, in dst where it must be changed.
func lowerName(dst []byte, name string) string {
	for i := 0; i < len(name); i++ {
		if c := name[i]; c >= 'A' && c <= 'Z' {
			dst = append(dst, name...)
			for ; i < len(dst); i++ {
				if c := dst[i]; c >= 'A' && c <= 'Z' {
					dst[i] = c + 'a' - 'A'
				}
			}
			return text(dst)
		}
	}
	return name
}

// secret reports whether a field must not be kept in tables, where an attacker who
// shares the connection could guess at it (RFC 7541 section 7.1).
func secret(name string) bool {
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie":
		return true
	}
	return false
}
