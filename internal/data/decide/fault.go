package decide

import (
	"slices"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// FaultPlan is what the fault filter does with one request: hold it back for Delay,
// and then answer it where Abort says so.
type FaultPlan struct {
	Delay time.Duration
	Abort *resource.FaultAbort // nil: the request goes on
}

// Fault decides on fault injection (Envoy's fault filter): the route's configuration,
// else the connection manager's. cluster is the one that was chosen, "" for none. The
// random numbers choose who is delayed and who is aborted, independently of each other.
func Fault(hcm *resource.HTTPConnectionManager, route *resource.Route, r *Request, cluster string, delay, abort uint32) FaultPlan {
	f := FaultOf(hcm, route)
	if f == nil || !faultApplies(f, r, cluster) {
		return FaultPlan{}
	}
	var plan FaultPlan
	if f.Delay != nil && f.Delay.Share.Hit(delay) {
		plan.Delay = f.Delay.Duration
	}
	if f.Abort != nil && f.Abort.Share.Hit(abort) {
		plan.Abort = f.Abort
	}
	return plan
}

// FaultOf is the fault configuration of a route, nil where there is none or the
// connection manager has no fault filter.
func FaultOf(hcm *resource.HTTPConnectionManager, route *resource.Route) *resource.Fault {
	f := hcm.Fault
	if route != nil && route.Fault != nil {
		f = route.Fault
	}
	if f == nil || !slices.Contains(hcm.Filters, resource.FilterFault) {
		return nil
	}
	return f
}

func faultApplies(f *resource.Fault, r *Request, cluster string) bool {
	if f.Cluster != "" && f.Cluster != cluster {
		return false
	}
	if len(f.Nodes) > 0 {
		if node, ok := header(r, "x-envoy-downstream-service-node"); !ok || !slices.Contains(f.Nodes, node) {
			return false
		}
	}
	for i := range f.Headers {
		if value, present := header(r, f.Headers[i].Name); !f.Headers[i].Match(value, present) {
			return false
		}
	}
	return true
}
