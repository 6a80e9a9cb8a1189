package http

import (
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// decide chooses the route. What is lacking for that is asked for, while the request waits
// and its body is not read. It returns false when the request has been answered.
func (x *exchange) decide() bool {
	x.plan = x.h.route(x.cfg, x.hcm, &x.dreq)
	for range decide.MaxAsked {
		if x.plan.Verdict != decide.Ask {
			x.plan.Held.Touch()
			return true
		}
		if !x.ask(x.plan.Need) {
			return false
		}
		x.plan = x.h.route(x.cfg, x.hcm, &x.dreq)
	}
	x.fail(503, reason.ConfigNotAvailable, "what was asked for by name did not stay: too many other names are asked for")
	return false
}

// ask waits for something that is asked for by name, and goes on with the configuration
// that is current then. It returns false when the request has been answered.
func (x *exchange) ask(n config.Need) bool {
	p := new(patience)
	if !x.startWatching() || !x.watch.attach(p) {
		x.failUpstream(x.interruption())
		return false
	}
	answer := x.h.onDemand.Find(p, n)
	// Without the watch afterwards: it looks at what is set up next.
	if !x.watch.attach(nil) || !x.watch.clear() {
		x.failUpstream(x.interruption())
		return false
	}
	x.dreq.Answers = x.dreq.Answers.And(answer)
	cfg, plan, m := planOf(x.c)
	x.cfg, x.cplan, x.hcm = cfg, plan, m
	if m == nil {
		x.denyConnection()
		return false
	}
	return true
}

// askCluster asks for the cluster that was picked, where it is not there and the filter
// on_demand says so. It returns false when the request has been answered.
func (x *exchange) askCluster() bool {
	if x.weighted == nil || !x.hcm.OnDemandClusters {
		return true
	}
	for range decide.MaxAsked {
		_, need := decide.Cluster(x.cfg, true, x.dreq.Answers, x.weighted.Name)
		if need.Kind == config.NeedNothing {
			return true
		}
		if why, detail := decide.Asked(x.dreq.Answers.Of(need)); why != "" {
			x.fail(503, why, detail)
			return false
		}
		if !x.ask(need) {
			return false
		}
	}
	return true
}

// decideAgain is the plan under another configuration for a request that is under way.
// What is not known now is asked for, but not waited for: then ok is false.
func (x *exchange) decideAgain(cfg *config.Config, m *resource.HTTPConnectionManager) (plan decide.RoutePlan, ok bool) {
	again := x.dreq
	ok = decide.Again(x.dreq.Answers, x.h.onDemand.Look, func(answers config.Answers) (config.Need, bool) {
		again.Answers = answers
		plan = x.h.route(cfg, m, &again)
		return plan.Need, plan.Verdict == decide.Ask
	})
	return plan, ok
}
