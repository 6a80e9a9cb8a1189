package http

import (
	"strconv"
	"strings"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// normalisePath is Envoy's normalize_path (RFC 3986 section 6.2.2: escapes of
// unreserved characters are decoded, dot segments resolved, backslashes made slashes)
// and merge_slashes. The query is left alone. A path that is normal already is
// returned as it is.
func (x *exchange) normalisePath(m *resource.HTTPConnectionManager) string {
	p := x.path
	if len(p) == 0 || p[0] != '/' {
		return p
	}
	path, query := cutQuery(p)
	if !needsNormalising(path, m.NormalizePath, m.MergeSlashes) {
		return p
	}
	n := len(x.arena)
	if m.NormalizePath {
		x.arena = appendDecoded(x.arena, path)
		x.arena = x.arena[:n+removeDotSegments(x.arena[n:])]
	} else {
		x.arena = append(x.arena, path...)
	}
	if m.MergeSlashes {
		x.arena = x.arena[:n+mergeSlashes(x.arena[n:])]
	}
	x.arena = append(x.arena, query...)
	return view(x.arena[n:])
}

// hasEscapedNUL reports whether a path has "%00", which servers take for its end or for
// a byte of it. Envoy refuses it where it normalises.
func hasEscapedNUL(path string) bool {
	path, _ = cutQuery(path)
	return strings.Contains(path, "%00")
}

// cutQuery splits "/path?query" before the question mark.
func cutQuery(p string) (path, query string) {
	if i := strings.IndexByte(p, '?'); i >= 0 {
		return p[:i], p[i:]
	}
	return p, ""
}

func needsNormalising(path string, normalise, merge bool) bool {
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '%', '\\':
			if normalise {
				return true
			}
		case '/':
			if i+1 < len(path) && (merge && path[i+1] == '/' || normalise && path[i+1] == '.') {
				return true
			}
		}
	}
	return false
}

// appendDecoded decodes escapes of unreserved characters and turns '\' into '/'.
func appendDecoded(dst []byte, path string) []byte {
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '\\':
			c = '/'
		case c == '%' && i+2 < len(path):
			if n, err := strconv.ParseUint(path[i+1:i+3], 16, 8); err == nil && unreserved(byte(n)) {
				c = byte(n)
				i += 2
			}
		}
		dst = append(dst, c)
	}
	return dst
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// removeDotSegments resolves "." and ".." segments in place (RFC 3986 section 5.2.4)
// and returns the new length. p begins with '/'.
func removeDotSegments(p []byte) int {
	w := 0
	for r := 0; r < len(p); {
		end := r + 1
		for end < len(p) && p[end] != '/' {
			end++
		}
		last := end == len(p)
		switch string(p[r:end]) {
		case "/.":
			if last {
				p[w] = '/'
				w++
			}
		case "/..":
			for w > 0 {
				w--
				if p[w] == '/' {
					break
				}
			}
			if last {
				p[w] = '/'
				w++
			}
		default:
			w += copy(p[w:], p[r:end])
		}
		r = end
	}
	if w == 0 {
		p[0] = '/'
		w = 1
	}
	return w
}

func mergeSlashes(p []byte) int {
	w := 0
	for i, c := range p {
		if c == '/' && i > 0 && p[i-1] == '/' {
			continue
		}
		p[w] = c
		w++
	}
	return w
}

// escapedSlashes treats %2F and %5C in the path as the connection manager says. It
// returns true when it has answered.
func (x *exchange) escapedSlashes(action resource.EscapedSlashes) bool {
	path, query := cutQuery(x.path)
	n := len(x.arena)
	x.arena = appendSlashes(x.arena, path)
	if len(x.arena)-n == len(path) {
		return false
	}
	x.arena = append(x.arena, query...)
	unescaped := view(x.arena[n:])
	switch action {
	case resource.SlashesUnescape:
		x.path, x.entry.Path = unescaped, unescaped
		return false
	case resource.SlashesRedirect:
		if !x.drainable() {
			x.close = true
		}
		x.entry.ResponseCodeDetails = "path_normalization_failed"
		x.resp.Fields.Reset()
		x.resp.Fields.Add("location", unescaped)
		x.answer(307, nil)
		return true
	}
	x.entry.ResponseCodeDetails = "path_normalization_failed"
	x.fail(400, reason.BadRequest, "the path has an escaped slash")
	return true
}

// appendSlashes decodes the escapes of slash and backslash.
func appendSlashes(dst []byte, path string) []byte {
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) {
			switch {
			case path[i+1] == '2' && path[i+2]|0x20 == 'f':
				c = '/'
				i += 2
			case path[i+1] == '5' && path[i+2]|0x20 == 'c':
				c = '\\'
				i += 2
			}
		}
		dst = append(dst, c)
	}
	return dst
}

// stripPort is the authority without its port, where the connection manager takes it
// off: any, or the one of the listener. That of CONNECT says where to go, and stays.
func stripPort(how resource.StripPort, method, authority string, own uint16) string {
	if how == resource.StripNone || method == "CONNECT" {
		return authority
	}
	host, port := http1.SplitPort(authority)
	if how == resource.StripMatching && port != strconv.Itoa(int(own)) {
		return authority
	}
	return host
}
