package http

import (
	"math/rand/v2"
	"time"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// filtering is what the HTTP filters before the router keep of an exchange.
type filtering struct {
	cors decide.CORSPlan
	// faulty: the exchange counts among the active faults.
	faulty bool
	// heldUntil is when a delay that a fault injected was over.
	heldUntil time.Duration
}

// filter runs the connection manager's filters in their order. It returns true when one
// of them has answered.
func (x *exchange) filter() bool {
	route := x.plan.Route
	if route.Fault == nil && route.CORS == nil && x.hcm.Fault == nil {
		return false
	}
	for _, f := range x.hcm.Filters {
		answered := false
		switch f {
		case resource.FilterFault:
			answered = x.injectFault()
		case resource.FilterCORS:
			answered = x.crossOrigin()
		}
		if answered {
			return true
		}
	}
	return false
}

// injectFault holds the request back, or answers it, where the configuration says so.
func (x *exchange) injectFault() bool {
	cluster := ""
	if x.weighted != nil {
		cluster = x.weighted.Name
	}
	plan := decide.Fault(x.hcm, x.plan.Route, &x.dreq, cluster, rand.Uint32(), rand.Uint32())
	if plan.Delay <= 0 && plan.Abort == nil || !x.admitFault() {
		return false
	}
	if plan.Delay > 0 {
		x.flag("DI")
		// Without the watch afterwards: it looks at what is set up next.
		if !x.pause(plan.Delay) || !x.watch.attach(nil) || !x.watch.clear() {
			x.failUpstream(x.interruption())
			return true
		}
		x.filters.heldUntil = x.h.now()
	}
	if plan.Abort == nil {
		return false
	}
	x.flag("FI")
	x.entry.ResponseCodeDetails = "fault_filter_abort"
	x.abort(plan.Abort)
	return true
}

// admitFault counts one more active fault, unless there are as many as there may be. As
// in Envoy two that race may both get in.
func (x *exchange) admitFault() bool {
	most := decide.FaultOf(x.hcm, x.plan.Route).MaxActive
	if most != nil && x.h.faults.Load() >= int64(*most) {
		return false
	}
	x.h.faults.Add(1)
	x.filters.faulty = true
	return true
}

// abort answers with the fault's status. One of gRPC is a response of its own with
// nothing but a head, for clients that speak it; others see that the status is 200.
func (x *exchange) abort(a *resource.FaultAbort) {
	const detail = "the configuration of the route injects this failure (fault.abort)"
	if a.HTTPStatus != 0 {
		x.fail(a.HTTPStatus, reason.FaultInjected, detail)
		return
	}
	if !decide.IsGRPC(&x.dreq) {
		x.fail(200, reason.FaultInjected, detail)
		return
	}
	if !x.drainable() {
		x.close = true
	}
	x.entry.Reason, x.entry.Detail = reason.FaultInjected, detail
	x.answerGRPC(a.GRPCStatus, reason.FaultInjected, "egret: "+string(reason.FaultInjected))
}

// crossOrigin answers preflight requests, and remembers what other responses must say.
func (x *exchange) crossOrigin() bool {
	policy := decide.CORSOf(x.hcm, x.plan.Route)
	if policy == nil {
		return false
	}
	x.filters.cors = decide.CORS(policy, &x.dreq, rand.Uint32())
	if !x.filters.cors.Preflight {
		return false
	}
	if !x.drainable() {
		x.close = true
	}
	x.entry.ResponseCodeDetails = "cors_response"
	x.resp.Fields.Reset()
	x.answer(200, nil)
	return true
}

// corsFields sets the headers of the CORS filter on the response, whoever made it.
func (x *exchange) corsFields() {
	var room [6]decide.CORSField
	for _, f := range x.filters.cors.Fields(room[:0], &x.dreq) {
		x.resp.Fields.Set(f.Name, f.Value)
	}
}
