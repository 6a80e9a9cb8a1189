package decide

import (
	"net/http"
	"slices"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// CORSPlan is what the CORS filter does with one request.
type CORSPlan struct {
	// Policy is nil where the request is none of the filter's business.
	Policy *resource.CORS
	Origin string // as the request says it
	// Allowed: the policy allows the origin, and the response says so.
	Allowed bool
	// Preflight: the request is answered here, with the policy's permissions.
	Preflight bool
}

// CORSOf is the CORS policy of a route, nil where there is none or the connection
// manager has no CORS filter.
func CORSOf(hcm *resource.HTTPConnectionManager, route *resource.Route) *resource.CORS {
	if route == nil || route.CORS == nil || route.Forward == nil || !slices.Contains(hcm.Filters, resource.FilterCORS) {
		return nil
	}
	return route.CORS
}

// CORS decides on cross-origin requests (Envoy's CORS filter; the Fetch standard,
// section 3.2). The random number chooses whom the policy is enabled for.
func CORS(p *resource.CORS, r *Request, random uint32) CORSPlan {
	if p == nil || !p.Enabled.Hit(random) {
		return CORSPlan{}
	}
	origin, _ := header(r, "origin")
	if origin == "" {
		return CORSPlan{}
	}
	plan := CORSPlan{Policy: p, Origin: origin, Allowed: originAllowed(p, origin)}
	if r.Method == http.MethodOptions && (plan.Allowed || !p.ForwardUnmatched) {
		method, _ := header(r, "access-control-request-method")
		plan.Preflight = method != ""
	}
	return plan
}

// originAllowed: as in Envoy a matcher that takes "*" takes every origin.
func originAllowed(p *resource.CORS, origin string) bool {
	for i := range p.Origins {
		if p.Origins[i].Match("*") || p.Origins[i].Match(origin) {
			return true
		}
	}
	return false
}

// CORSField is one response header.
type CORSField struct{ Name, Value string }

// Fields appends the response headers of the plan to dst: permissions for a preflight
// request, else what lets a browser show the upstream's response.
func (p *CORSPlan) Fields(dst []CORSField, r *Request) []CORSField {
	if p.Policy == nil || !p.Allowed && !p.Preflight {
		return dst
	}
	add := func(name, value string) {
		if value != "" {
			dst = append(dst, CORSField{name, value})
		}
	}
	if p.Allowed {
		add("access-control-allow-origin", p.Origin)
	}
	if p.Policy.AllowCredentials {
		add("access-control-allow-credentials", "true")
	}
	if !p.Preflight {
		add("access-control-expose-headers", p.Policy.ExposeHeaders)
		return dst
	}
	add("access-control-allow-methods", orAsked(p.Policy.AllowMethods, r, "access-control-request-method"))
	add("access-control-allow-headers", orAsked(p.Policy.AllowHeaders, r, "access-control-request-headers"))
	add("access-control-max-age", p.Policy.MaxAge)
	if p.Policy.AllowPrivateNetwork {
		if asked, _ := header(r, "access-control-request-private-network"); asked == "true" {
			add("access-control-allow-private-network", "true")
		}
	}
	return dst
}

// orAsked is what the policy lists, or for "*" what the request asks for.
func orAsked(listed string, r *Request, name string) string {
	if listed != "*" {
		return listed
	}
	asked, _ := header(r, name)
	return asked
}
