package proxy

import (
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// unsettled is the refusal of a connection whose questions do not come to an end.
func unsettled(plan decide.ConnPlan) decide.ConnPlan {
	plan.Verdict, plan.Reason = decide.Deny, reason.ConfigNotAvailable
	plan.Detail = "what was asked for by name did not stay: too many other names are asked for"
	return plan
}

// ask waits for what the decision lacks. The answer is the connection's from then on. It
// returns false when the connection was killed meanwhile.
func (c *connection) ask(n config.Need) bool {
	ctx, end := c.context()
	defer end()
	answer := c.p.onDemand.Find(ctx, n)
	c.info.Answers = c.info.Answers.And(answer)
	return ctx.Err() == nil
}

// decideAgain decides about a connection that was decided before. What is not known now
// is asked for, but not waited for: then ok is false, and what was decided stays.
func (c *connection) decideAgain(cfg *config.Config, accepted *resource.Listener, info decide.Conn) (plan decide.ConnPlan, ok bool) {
	ok = decide.Again(info.Answers, c.p.onDemand.Look, func(answers config.Answers) (config.Need, bool) {
		info.Answers = answers
		plan = decide.Connection(cfg, accepted, &info)
		return plan.Need, plan.Verdict == decide.Ask
	})
	return plan, ok
}

// cluster is where the connection goes. Where the chain says so (on_demand) it is asked
// for when it is not there.
func (c *connection) cluster(v *verdict) (*config.Cluster, *upstream.Error) {
	tcp := v.plan.Chain.TCP
	cluster, need := decide.Cluster(v.cfg, tcp != nil && tcp.OnDemandClusters, nil, v.cluster)
	if need.Kind != config.NeedNothing && c.ask(need) {
		if why, detail := decide.Asked(c.info.Answers.Of(need)); why != "" {
			return nil, &upstream.Error{Reason: why, Flag: "NC", Detail: detail}
		}
		cluster = c.p.source.Current().Cluster(v.cluster)
	}
	if cluster == nil {
		return nil, &upstream.Error{Reason: reason.NoCluster, Flag: "NC", Detail: "there is no cluster " + v.cluster}
	}
	return cluster, nil
}
