package decide

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// A decision may lack something that is asked for by name (VHDS, FCDS, on-demand CDS,
// the name table). Then its verdict is Ask: whoever decides asks, adds the answer to the
// Answers, and decides again. Where nothing can be answered it is refused: what a host
// is cannot be guessed.

// MaxAsked bounds the questions of one decision. A name has at most 127 labels, and a
// cluster may be for a wildcard at each; nobody registers such names.
const MaxAsked = 16

// Again decides anew about what was decided before: once decides with the answers and tells
// what it asks for, if anything. look answers with what is known; where something else is
// needed Again does not wait for it and returns false.
func Again(answers config.Answers, look func(config.Need) config.Answer, once func(config.Answers) (need config.Need, asks bool)) bool {
	for range MaxAsked {
		need, asks := once(answers)
		if !asks {
			return true
		}
		answer := look(need)
		if answer.Outcome != config.Absent {
			return false
		}
		answers = answers.And(answer)
	}
	return false
}

// Asked is the refusal for an answer that decides nothing; "" where the decision goes on.
func Asked(a config.Answer) (reason.Reason, string) {
	switch a.Outcome {
	case config.Unavailable:
		return reason.ConfigNotAvailable, fmt.Sprintf("the configuration for %s is not known to the proxy: %s", printable(a.Need.Name), a.Detail)
	case config.Refused:
		return reason.ConfigRejected, fmt.Sprintf("the configuration for %s was refused: %s", printable(a.Need.Name), a.Detail)
	}
	return "", ""
}

// ask is the plan that asks for n, or refuses where asking was in vain.
func (p ConnPlan) ask(answers config.Answers, n config.Need) ConnPlan {
	if r, detail := Asked(answers.Of(n)); r != "" {
		return p.deny(r, detail)
	}
	p.Verdict, p.Need = Ask, n
	return p
}

func (p RoutePlan) ask(answers config.Answers, n config.Need) RoutePlan {
	if r, detail := Asked(answers.Of(n)); r != "" {
		return p.deny(http.StatusServiceUnavailable, r, detail)
	}
	p.Verdict, p.Need = Ask, n
	return p
}

// findChain is the filter chain for a connection. Like an address, a server name of the
// listener's own chains is more specific than one that is asked for.
func findChain(cfg *config.Config, l *resource.Listener, c *Conn, q *resource.ChainQuery) (*resource.FilterChain, *config.Held, config.Need) {
	chain := l.FindChain(q)
	if l.OnDemand == "" || q.Transport != "tls" || !match.IsHostName(q.SNI) {
		return chain, nil, config.Need{}
	}
	if chain != nil && (len(chain.Match.PrefixRanges) > 0 || len(chain.Match.ServerNames) > 0) {
		return chain, nil, config.Need{}
	}
	n := config.Need{Kind: config.NeedFilterChain, Of: l.OnDemand, Name: q.SNI}
	switch h := cfg.Held(n); {
	case h != nil && h.FilterChain.Takes(q):
		return h.FilterChain, h, config.Need{}
	case h != nil || c.Answers.Of(n).Outcome == config.Absent:
		return chain, nil, config.Need{}
	}
	return chain, nil, n
}

// findHost is the virtual host for a request.
func findHost(cfg *config.Config, hcm *resource.HTTPConnectionManager, rc *resource.RouteConfiguration, r *Request) (*resource.VirtualHost, *config.Held, config.Need) {
	if !rc.OnDemand || !hcm.OnDemand {
		return rc.VirtualHost(r.Authority), nil, config.Need{}
	}
	if vh := rc.Special(r.Authority); vh != nil {
		return vh, nil, config.Need{}
	}
	host, ok := hostToAsk(rc, r)
	if !ok {
		return rc.VirtualHost(r.Authority), nil, config.Need{}
	}
	n := config.Need{Kind: config.NeedVirtualHost, Of: rc.Name, Name: host}
	if h := cfg.Held(n); h != nil {
		return h.VirtualHost, h, config.Need{}
	}
	if r.Answers.Of(n).Outcome == config.Absent {
		return rc.VirtualHost(r.Authority), nil, config.Need{}
	}
	return nil, nil, n
}

// hostToAsk is the host that a virtual host is asked for by: in lower case as in Envoy,
// without the port where that is the listener's own or does not count. What can be no
// host's name or address no virtual host is asked for.
func hostToAsk(rc *resource.RouteConfiguration, r *Request) (string, bool) {
	authority := match.Lower(r.Authority)
	host, port := match.SplitHost(authority)
	if port != 0 && !rc.IgnorePortInHostMatching && (r.Conn == nil || r.Conn.Destination.Port() != port) {
		return authority, match.IsHostName(host)
	}
	if _, literal := match.LiteralAddress(host); literal {
		return host, true
	}
	return host, match.IsHostName(host)
}

// lacksName is the need for what the name table says of a host, where that is not known.
func lacksName(cfg *config.Config, answers config.Answers, host string) config.Need {
	if !cfg.NamesOnDemand {
		return config.Need{}
	}
	host = match.Lower(strings.TrimSuffix(host, "."))
	if !match.IsHostName(host) {
		return config.Need{}
	}
	if _, literal := match.LiteralAddress(host); literal {
		return config.Need{}
	}
	n := config.Need{Kind: config.NeedName, Name: host}
	if _, _, ok := cfg.Name(host); ok || answers.Of(n).Outcome == config.Absent {
		return config.Need{}
	}
	return n
}

// lacksCluster is the need for a cluster that is not there, where clusters are asked for.
func lacksCluster(cfg *config.Config, answers config.Answers, name string) config.Need {
	n := config.Need{Kind: config.NeedCluster, Name: name}
	if cfg.Cluster(name) != nil || answers.Of(n).Outcome == config.Absent {
		return config.Need{}
	}
	return n
}

// Cluster is the cluster that a share of a route leads to, nil where it is not there.
// Where clusters are asked for the need says that it has to be.
func Cluster(cfg *config.Config, onDemand bool, answers config.Answers, name string) (*config.Cluster, config.Need) {
	c := cfg.Cluster(name)
	if c != nil || !onDemand {
		return c, config.Need{}
	}
	return nil, lacksCluster(cfg, answers, name)
}
