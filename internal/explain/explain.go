// Package explain says what would happen to a call and why, hop by hop. It asks the
// functions of data/decide that the proxies themselves use, with the configuration
// that they would have; it has no matching of its own and opens nothing.
package explain

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Call is what a workload would do.
type Call struct {
	Host   string // name or address literal
	Port   uint16
	Scheme string // "http", "https" or "tcp"
	Method string // of http; "" means GET
	Path   string // of http, with query; "" means /
	// Headers of http, by lower-case name; "host" replaces the one made of Host and Port.
	Headers map[string]string

	sni string // that a proxy sends, where it encrypts what the workload said in the clear
}

// ParseCall reads "http://host[:port]/path", "https://host[:port]", "tls://host[:port]",
// "tcp://host:port" or "host:port".
// For host:port the scheme is guessed from the port: 80 and 8080 http, 443 and 8443
// https, else tcp.
func ParseCall(s string) (Call, error) {
	if strings.Contains(s, "://") {
		return parseURL(s)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Call{}, fmt.Errorf("%q is neither a URL (https://HOST) nor HOST:PORT (HOST:443)", s)
	}
	if host == "" {
		return Call{}, fmt.Errorf("%q: host and port are needed", s)
	}
	n, err := parsePort(port)
	if err != nil {
		return Call{}, fmt.Errorf("%q: %w", s, err)
	}
	c := Call{Host: strings.ToLower(host), Port: n, Scheme: "tcp", Path: "/"}
	switch n {
	case 80, 8080:
		c.Scheme = "http"
	case 443, 8443:
		c.Scheme = "https"
	}
	return c, nil
}

func parseURL(s string) (Call, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Call{}, err
	}
	ports := map[string]uint16{"http": 80, "https": 443, "tcp": 0, "tls": 443}
	port, ok := ports[u.Scheme]
	if !ok {
		return Call{}, fmt.Errorf("%q: the scheme must be http, https, tls or tcp", s)
	}
	if p := u.Port(); p != "" {
		if port, err = parsePort(p); err != nil {
			return Call{}, fmt.Errorf("%q: %w", s, err)
		}
	}
	if u.Hostname() == "" || port == 0 {
		return Call{}, fmt.Errorf("%q: host and port are needed, as in %s://HOST:PORT", s, u.Scheme)
	}
	if u.Scheme == "tls" {
		u.Scheme = "https"
	}
	return Call{Host: strings.ToLower(u.Hostname()), Port: port, Scheme: u.Scheme, Path: u.RequestURI()}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("the port must be a number from 1 to 65535")
	}
	return uint16(n), nil
}

// authority is the Host header that a client would send.
func (c Call) authority() string {
	if host := c.Headers["host"]; host != "" {
		return host
	}
	host := c.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if c.Port == 80 {
		return host
	}
	return host + ":" + strconv.Itoa(int(c.Port))
}

// Proxy is one proxy on the way.
type Proxy struct {
	Name   string // "sidecar", "istio-egressgateway"
	Config *config.Config
	// Accepts is the listener that accepts the connection; nil: found by the
	// destination's port.
	Accepts *resource.Listener
}

// Resolver says what the workload's DNS would answer, and what is known of an
// address, as the DNS proxy does.
type Resolver interface {
	Resolve(name string) (netip.Addr, error)
	Binding(netip.Addr) decide.Binding
}

// Mesh is what Explain needs to know.
type Mesh struct {
	Sidecar  Proxy
	Resolver Resolver
	// Next finds the proxy that an endpoint's address belongs to, if any.
	Next func(netip.AddrPort) (Proxy, bool)
}

// Result is the answer.
type Result struct {
	Call    string        `json:"call"`
	Verdict string        `json:"verdict"` // "allowed", "denied", or "fails": allowed, but nothing can answer
	Reason  reason.Reason `json:"reason,omitempty"`
	Detail  string        `json:"detail,omitempty"`
	// Hint is what else the mesh knows of a host that was refused.
	Hint string `json:"hint,omitempty"`
	Hops []Hop  `json:"hops"`
}

// Hop is what one proxy decides.
type Hop struct {
	Proxy       string   `json:"proxy"`
	Destination string   `json:"destination"`
	Listener    string   `json:"listener,omitempty"`
	FilterChain string   `json:"filter_chain,omitempty"`
	VirtualHost string   `json:"virtual_host,omitempty"`
	Route       string   `json:"route,omitempty"`
	Action      string   `json:"action"`
	Clusters    []string `json:"clusters,omitempty"`
	Endpoints   []string `json:"endpoints,omitempty"`
	// Notes are what else becomes of some requests: faults, copies.
	Notes   []string          `json:"notes,omitempty"`
	Reason  reason.Reason     `json:"reason,omitempty"`
	Detail  string            `json:"detail,omitempty"`
	Objects []resource.Object `json:"-"`
}

// endings are the actions after which there is no further hop, and the verdict then.
var endings = map[string]string{"deny": "denied", "fail": "fails"}

// maxHops ends ways that lead in a circle.
const maxHops = 4

// Explain follows a call from the sidecar to where it leaves.
func Explain(m Mesh, c Call) (Result, error) {
	res := Result{Call: c.Scheme + "://" + net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), Verdict: "allowed"}
	addr, err := netip.ParseAddr(c.Host)
	if err != nil {
		if addr, err = m.Resolver.Resolve(c.Host); err != nil {
			return res, err
		}
	}
	dst, proxy := netip.AddrPortFrom(addr, c.Port), m.Sidecar
	binding := m.Resolver.Binding(addr)
	for range maxHops {
		hop, next := explainHop(proxy, &c, dst, binding)
		if len(res.Hops) == 0 {
			hop.Destination = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))) // as it is called
		}
		res.Hops = append(res.Hops, hop)
		if hop.Reason != "" {
			res.Reason, res.Detail = hop.Reason, hop.Detail
		}
		if verdict, ends := endings[hop.Action]; ends {
			res.Verdict = verdict
			return res, nil
		}
		if !next.IsValid() {
			return res, nil
		}
		var ok bool
		if proxy, ok = m.Next(next); !ok {
			return res, nil
		}
		dst, binding = next, decide.Binding{}
	}
	return res, fmt.Errorf("the way goes through more than %d proxies: a circle?", maxHops)
}

// explainHop is one proxy's decision, and the endpoint that it would dial first. Where
// the proxy rewrites the request, c becomes what the next one gets.
func explainHop(p Proxy, c *Call, dst netip.AddrPort, b decide.Binding) (Hop, netip.AddrPort) {
	conn := decide.Conn{Source: netip.MustParseAddrPort("240.243.0.1:32768"), Destination: dst, Binding: b, Transport: "raw_buffer"}
	switch c.Scheme {
	case "http":
		conn.Application = []string{"http/1.1"}
	case "https":
		conn.Transport = "tls"
		if conn.SNI = c.sni; conn.SNI == "" && !isAddress(c.Host) {
			conn.SNI = c.Host
		}
		conn.Application = []string{"h2", "http/1.1"}
	}
	accepted := p.Accepts
	if accepted == nil {
		accepted = p.Config.BoundListener(dst)
	}
	conn.Direct = p.Accepts == nil
	hop := Hop{Proxy: p.Name, Destination: dst.String()}
	if b.Name != "" {
		hop.Destination = b.Name + ":" + strconv.Itoa(int(dst.Port()))
	}
	if accepted == nil {
		hop.Action, hop.Reason = "deny", reason.NoFilterChain
		hop.Detail = fmt.Sprintf("%s does not listen on port %d; a Gateway server with that port would make it", p.Name, dst.Port())
		return hop, netip.AddrPort{}
	}
	plan := decide.Connection(p.Config, accepted, &conn)
	if plan.Listener != nil {
		hop.Listener = plan.Listener.Name
	}
	if plan.Chain != nil {
		hop.FilterChain = plan.Chain.Name
		hop.add(plan.Chain.Objects)
	}
	if plan.Verdict == decide.Ask { // a configuration that is not whole
		plan.Verdict = decide.Deny
		plan.Reason, plan.Detail = unasked(plan.Need)
	}
	if plan.Verdict == decide.Deny {
		return hop.end(plan.Reason, plan.Detail), netip.AddrPort{}
	}
	if plan.Chain.HTTP != nil {
		return explainRequest(p, c, &conn, plan, hop)
	}
	hop.tunnel(plan.Chain.TCP)
	return forward(p, &conn, conn.SNI, hop, plan.Clusters)
}

// unasked is what a proxy would say that cannot ask for what a decision lacks.
func unasked(n config.Need) (reason.Reason, string) {
	return decide.Asked(config.Answer{Need: n, Outcome: config.Unavailable, Detail: "it is asked for on demand, and nobody can be asked here"})
}

func explainRequest(p Proxy, c *Call, conn *decide.Conn, plan decide.ConnPlan, hop Hop) (Hop, netip.AddrPort) {
	method := c.Method
	if method == "" {
		method = "GET"
	}
	conn.Terminated = plan.Chain.TLS != nil
	r := decide.Request{Method: method, Scheme: conn.Scheme(), Authority: c.authority(), Path: c.Path, Headers: headers(c.Headers), Conn: conn}
	route := decide.Route(p.Config, plan.Chain.HTTP, &r)
	if route.Verdict == decide.Ask {
		route.Verdict = decide.Deny
		route.Reason, route.Detail = unasked(route.Need)
	}
	if route.VirtualHost != nil {
		hop.VirtualHost = route.VirtualHost.Name
		hop.add(route.VirtualHost.Objects)
	}
	if route.Route != nil {
		hop.Route = route.Route.Name
		hop.add(route.Route.Objects)
	}
	if route.Verdict != decide.Deny && hop.filters(plan.Chain.HTTP, route.Route, &r) {
		return hop, netip.AddrPort{}
	}
	switch route.Verdict {
	case decide.Forward:
		hop.mirrors(route.Route.Forward.Mirrors)
		return forwardRequest(p, c, conn, hop, route.Route)
	case decide.Redirect:
		hop.Action = fmt.Sprintf("redirect with status %d", route.Route.Redirect.Status)
	case decide.Direct:
		hop.Action = fmt.Sprintf("answer with status %d", route.Route.Direct.Status)
	default:
		return hop.end(route.Reason, route.Detail), netip.AddrPort{}
	}
	return hop, netip.AddrPort{}
}

// forwardRequest tells where a route leads, and what it makes of the request. With
// several clusters it is refused when none of them can have it.
func forwardRequest(p Proxy, c *Call, conn *decide.Conn, hop Hop, route *resource.Route) (Hop, netip.AddrPort) {
	clusters := route.Forward.Clusters
	var usable []resource.WeightedCluster
	for i := range clusters {
		if _, _, why, detail := decide.Upstream(p.Config, &clusters[i]); why == "" {
			usable = append(usable, clusters[i])
		} else {
			hop.Reason, hop.Detail = why, detail
		}
	}
	if len(usable) == 0 {
		for i := range clusters {
			hop.Clusters = append(hop.Clusters, clusters[i].Name)
		}
		return hop.end(hop.Reason, hop.Detail), netip.AddrPort{}
	}
	if host := decide.RewriteAuthority(route.Forward, &usable[0], ""); host != "" {
		c.Headers = maps.Clone(c.Headers)
		if c.Headers == nil {
			c.Headers = map[string]string{}
		}
		c.Headers["host"] = host
	}
	c.Path = decide.RewritePath(route.Forward, &route.Match, c.Path)
	c.Scheme, c.sni = "http", ""
	if cluster := p.Config.Cluster(usable[0].Name); cluster.TLS != nil {
		c.Scheme, c.sni = "https", cmp.Or(cluster.TLS.SNI, match.Name(c.authority()))
	}
	return forward(p, conn, match.Name(c.authority()), hop, clusters)
}

// forward tells the clusters and endpoints, and finds the first endpoint with a fixed
// address. It fails where there is no endpoint at all. name is what the client calls.
func forward(p Proxy, conn *decide.Conn, name string, hop Hop, clusters []resource.WeightedCluster) (Hop, netip.AddrPort) {
	hop.Action = "forward"
	var first netip.AddrPort
	for _, wc := range clusters {
		hop.Clusters = append(hop.Clusters, wc.Name)
		cluster := p.Config.Cluster(wc.Name)
		if cluster == nil {
			hop.Reason, hop.Detail = reason.NoCluster, "the cluster "+wc.Name+" does not exist: calls that go there fail"
			continue
		}
		hop.add(cluster.Objects)
		if cluster.Discovery == resource.DiscoveryOriginalDst {
			if endpoint := original(conn, cluster, name); endpoint != "" {
				hop.Endpoints = append(hop.Endpoints, endpoint)
			}
			continue
		}
		if cluster.Endpoints == nil {
			continue
		}
		for _, l := range cluster.Endpoints.Localities {
			for _, e := range l.Endpoints {
				hop.Endpoints = append(hop.Endpoints, net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))))
				if !first.IsValid() {
					first = e.Address
				}
			}
		}
	}
	if len(hop.Endpoints) > 0 {
		return hop, first
	}
	if hop.Reason == "" {
		hop.Reason, hop.Detail = reason.NoHealthyUpstream, "the cluster has no endpoint"
	}
	return hop.end(hop.Reason, hop.Detail), netip.AddrPort{}
}

// original is the endpoint of a cluster of type ORIGINAL_DST, "" where there is none.
func original(conn *decide.Conn, cluster *config.Cluster, name string) string {
	if dst, name := decide.Original(conn, cluster, name); name != "" {
		return net.JoinHostPort(name, strconv.Itoa(int(dst.Port())))
	}
	if conn.Direct {
		return ""
	}
	return "the address that the workload called"
}

// end is the hop when nothing goes on from it: denied, or failed on an allowed way.
func (h Hop) end(r reason.Reason, detail string) Hop {
	h.Action, h.Reason, h.Detail = "fail", r, detail
	if r.Denied() {
		h.Action = "deny"
	}
	return h
}

// add appends objects that are not told yet.
func (h *Hop) add(objects []resource.Object) {
	for _, o := range objects {
		if !slices.Contains(h.Objects, o) {
			h.Objects = append(h.Objects, o)
		}
	}
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

type headers map[string]string

func (h headers) Get(name string) (string, bool) {
	value, ok := h[name]
	return value, ok
}
