package decide

import (
	"strconv"
	"strings"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// Location is where a redirect leads (Envoy's RedirectAction) for a request with this
// scheme, authority and path with query.
func Location(r *resource.Redirect, m *resource.RouteMatch, scheme, authority, path string) string {
	host, port := splitPort(authority)
	switch {
	case r.HTTPSRedirect:
		scheme = "https"
	case r.Scheme != "":
		scheme = r.Scheme
	}
	if r.Host != "" {
		host, port = r.Host, ""
	}
	if scheme != "http" && port == "80" || scheme != "https" && port == "443" {
		port = "" // the other scheme's default
	}
	if r.Port != 0 {
		port = strconv.FormatUint(uint64(r.Port), 10)
	}
	if port != "" {
		host += ":" + port
	}
	return scheme + "://" + host + redirectPath(r, m, path)
}

func redirectPath(r *resource.Redirect, m *resource.RouteMatch, path string) string {
	bare, query := cutQuery(path)
	switch {
	case r.Path != "":
		if own, ownQuery := cutQuery(r.Path); ownQuery != "" {
			bare, query = own, ownQuery
		} else {
			bare = r.Path
		}
	case r.PrefixRewrite != "":
		bare = ReplacePrefix(m, bare, r.PrefixRewrite)
	case r.RegexRewrite != nil:
		bare = r.RegexRewrite.Pattern.ReplaceAllString(bare, r.RegexRewrite.Substitution)
	}
	if r.StripQuery {
		query = ""
	}
	return bare + query
}

// splitPort splits "host:port"; without a port all of it is the host.
func splitPort(authority string) (host, port string) {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || strings.IndexByte(authority[i:], ']') >= 0 {
		return authority, ""
	}
	return authority[:i], authority[i+1:]
}

// ShadowAuthority is the authority of a mirrored request: "-shadow" after the host, as
// Envoy appends it, so that logs tell the copies. An IPv6 literal would not be one then,
// and stays.
func ShadowAuthority(m *resource.Mirror, authority string) string {
	if m.KeepHost {
		return authority
	}
	host, port := splitPort(authority)
	if strings.HasSuffix(host, "]") {
		return authority
	}
	host += "-shadow"
	if port != "" {
		host += ":" + port
	}
	return host
}
