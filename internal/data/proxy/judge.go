package proxy

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// judgeAll asks again for every live connection whether it is allowed, under a new
// configuration. Those that are not are closed and recorded as policy_changed; the
// others notice nothing.
func (p *Proxy) judgeAll(cfg *config.Config) {
	for _, c := range p.snapshot() {
		c.judge(cfg)
	}
}

// judge closes a TCP connection if cfg no longer lets it go where it goes. One that
// is not decided yet decides under the newest configuration itself; HTTP connections
// ask for the current plan with each request and while one is under way, and are drained
// where they could not be opened in the same way again.
func (c *connection) judge(cfg *config.Config) {
	v := c.verdict.Load()
	if v == nil {
		return
	}
	if v.cluster == "" {
		c.judgeHTTP(cfg, v)
		return
	}
	if cfg.DecidesAs(v.cfg) {
		return
	}
	if why := c.stillGoes(cfg, v); why != "" {
		c.kill(ending{reason: reason.PolicyChanged, detail: "the configuration changed: " + why, flags: []string{"UH"}})
	}
}

// judgeHTTP drains a connection whose listener is gone, or whose TLS would be ended
// otherwise now (another certificate, other authorities for clients).
func (c *connection) judgeHTTP(cfg *config.Config, v *verdict) {
	accepted := c.acceptor.in(cfg)
	same := accepted != nil
	if same && v.tls != nil {
		plan, ok := c.decideAgain(cfg, accepted, v.info)
		same = !ok || plan.Chain != nil && reflect.DeepEqual(plan.Chain.TLS, v.tls)
	}
	if same {
		return
	}
	c.drain()
}

// stillGoes says why a TCP connection may not go to its cluster under cfg; "": it may.
func (c *connection) stillGoes(cfg *config.Config, v *verdict) string {
	accepted := c.acceptor.in(cfg)
	if accepted == nil {
		return gone.Detail
	}
	info := v.info
	c.bind(cfg, &info)
	plan, ok := c.decideAgain(cfg, accepted, info)
	if !ok {
		return ""
	}
	if v.tls != nil && (plan.Chain == nil || !reflect.DeepEqual(plan.Chain.TLS, v.tls)) {
		return "its TLS would be ended otherwise now"
	}
	same := func(w resource.WeightedCluster) bool { return w.Name == v.cluster }
	switch {
	case plan.Verdict != decide.Forward:
		return plan.Detail
	case plan.Chain.HTTP != nil:
		return "what goes there must be HTTP now"
	case !slices.ContainsFunc(plan.Clusters, same):
		return fmt.Sprintf("its way is no longer %q", v.cluster)
	case cfg.Cluster(v.cluster) == nil:
		return fmt.Sprintf("there is no cluster %q any more", v.cluster)
	}
	return ""
}
