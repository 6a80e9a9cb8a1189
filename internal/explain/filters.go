package explain

import (
	"fmt"
	"strconv"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// filters tells what the HTTP filters before the router do with a request. It returns
// true where they answer it, whatever the route says.
func (h *Hop) filters(m *resource.HTTPConnectionManager, route *resource.Route, r *decide.Request) bool {
	for _, f := range m.Filters {
		answered := false
		switch f {
		case resource.FilterFault:
			answered = h.fault(m, route, r)
		case resource.FilterCORS:
			answered = h.cors(m, route, r)
		}
		if answered {
			return true
		}
	}
	return false
}

// tunnel tells what the endpoint, a proxy, is asked for.
func (h *Hop) tunnel(t *resource.TCPProxy) {
	if t == nil || t.Tunnel == nil {
		return
	}
	method := "CONNECT"
	if t.Tunnel.Post {
		method = "POST"
	}
	h.Notes = append(h.Notes, fmt.Sprintf("tunnel: the endpoint is asked by %s for a way to %s", method, t.Tunnel.Authority))
}

// fault tells what is injected into some requests; into all is an end.
func (h *Hop) fault(m *resource.HTTPConnectionManager, route *resource.Route, r *decide.Request) bool {
	cluster := ""
	if f := route.Forward; f != nil && len(f.Clusters) == 1 {
		cluster = f.Clusters[0].Name
	}
	plan := decide.Fault(m, route, r, cluster, 0, 0) // whoever can be hit is hit by 0
	if plan.Delay > 0 {
		h.Notes = append(h.Notes, fmt.Sprintf("fault: %s of requests are held back for %s", percent(decide.FaultOf(m, route).Delay.Share), plan.Delay))
	}
	if plan.Abort == nil {
		return false
	}
	answer := "status " + strconv.Itoa(plan.Abort.HTTPStatus)
	if plan.Abort.HTTPStatus == 0 {
		answer = "gRPC status " + strconv.FormatUint(uint64(plan.Abort.GRPCStatus), 10)
	}
	if s := plan.Abort.Share; s.Denominator != 0 && s.Numerator < s.Denominator {
		h.Notes = append(h.Notes, fmt.Sprintf("fault: %s of requests are answered with %s", percent(s), answer))
		return false
	}
	*h = h.end(reason.FaultInjected, "the fault of the route answers every request with "+answer)
	return true
}

func (h *Hop) cors(m *resource.HTTPConnectionManager, route *resource.Route, r *decide.Request) bool {
	policy := decide.CORSOf(m, route)
	plan := decide.CORS(policy, r, 0)
	if plan.Preflight {
		h.Action = "answer with status 200 (CORS preflight)"
		return true
	}
	if policy != nil {
		h.Notes = append(h.Notes, "CORS: preflight requests of allowed origins are answered here")
	}
	return false
}

// mirrors tells where copies of a request go.
func (h *Hop) mirrors(list []resource.Mirror) {
	for _, m := range list {
		h.Notes = append(h.Notes, fmt.Sprintf("mirrored to %s: %s of requests", m.Cluster, percent(m.Share)))
	}
}

// percent is a share for people.
func percent(f resource.Fraction) string {
	if f.Denominator == 0 || f.Numerator >= f.Denominator {
		return "100%"
	}
	return strconv.FormatFloat(float64(f.Numerator)*100/float64(f.Denominator), 'g', 6, 64) + "%"
}
