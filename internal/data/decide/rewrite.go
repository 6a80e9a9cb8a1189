package decide

import (
	"net/http"
	"strings"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Upstream is the cluster that an HTTP request goes to. Where it cannot go there, the
// cluster is nil, and the status, reason and detail say what to answer.
func Upstream(cfg *config.Config, to *resource.WeightedCluster) (*config.Cluster, int, reason.Reason, string) {
	name := ""
	if to != nil {
		name = to.Name
	}
	cluster := (*config.Cluster)(nil)
	if cfg != nil {
		cluster = cfg.Cluster(name)
	}
	if cluster == nil {
		return nil, http.StatusServiceUnavailable, reason.NoCluster, "the route's cluster " + name + " does not exist"
	}
	return cluster, 0, "", ""
}

// RewriteAuthority is the authority that goes upstream: the route's rewrite, else that
// of the weighted cluster, else what the client sent.
func RewriteAuthority(f *resource.Forward, to *resource.WeightedCluster, authority string) string {
	switch {
	case f.HostRewrite != "":
		return f.HostRewrite
	case to.HostRewrite != "":
		return to.HostRewrite
	}
	return authority
}

// RewritePath applies the route's prefix or regex rewrite to a path with query.
func RewritePath(f *resource.Forward, m *resource.RouteMatch, path string) string {
	switch {
	case f.PrefixRewrite != "":
		return ReplacePrefix(m, path, f.PrefixRewrite)
	case f.RegexRewrite != nil:
		path, query := cutQuery(path)
		return f.RegexRewrite.Pattern.ReplaceAllString(path, f.RegexRewrite.Substitution) + query
	}
	return path
}

// ReplacePrefix replaces what the route's path match matched: a prefix, or the whole
// path for an exact or regex match.
func ReplacePrefix(m *resource.RouteMatch, path, with string) string {
	bare, query := cutQuery(path)
	rest := ""
	if m.Kind == resource.PathPrefix || m.Kind == resource.PathSeparatedPrefix {
		rest = bare[min(len(m.Path), len(bare)):]
	}
	return with + rest + query
}

// cutQuery splits "/path?query" before the question mark.
func cutQuery(p string) (path, query string) {
	if i := strings.IndexByte(p, '?'); i >= 0 {
		return p[:i], p[i:]
	}
	return p, ""
}
