// Package explain says what would happen to a call and why, hop by hop. It asks the
// functions of data/decide that the proxies themselves use, with the configuration that
// control/xdsgen makes for them; it has no matching of its own and opens nothing. It does
// not know whether the mesh is of one machine or of a cluster.
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

// String is the call as it is told: SCHEME://HOST:PORT.
func (c Call) String() string {
	return c.Scheme + "://" + net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
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

// Result is the answer.
type Result struct {
	Call    string        `json:"call"`
	Verdict string        `json:"verdict"` // "allowed", "denied", or "fails": allowed, but nothing can answer
	Reason  reason.Reason `json:"reason,omitempty"`
	Detail  string        `json:"detail,omitempty"`
	// Hint is what else is known: of a host that was refused, or why the mesh decides nothing.
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

// explainHop is one proxy's decision, and the endpoint that it would dial first. Where
// the proxy rewrites the request, c becomes what the next one gets.
func explainHop(p proxy, c *Call, dst netip.AddrPort, b decide.Binding) (Hop, netip.AddrPort) {
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
	accepted := p.accepts
	if accepted == nil {
		accepted = p.config.BoundListener(dst)
	}
	conn.Direct = p.accepts == nil
	hop := Hop{Proxy: p.name, Destination: dst.String()}
	if b.Name != "" {
		hop.Destination = b.Name + ":" + strconv.Itoa(int(dst.Port()))
	}
	if accepted == nil {
		hop.Action, hop.Reason = "deny", reason.NoFilterChain
		hop.Detail = fmt.Sprintf("%s does not listen on port %d; a Gateway server with that port would make it", p.name, dst.Port())
		return hop, netip.AddrPort{}
	}
	plan := decide.Connection(p.config, accepted, &conn)
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

func explainRequest(p proxy, c *Call, conn *decide.Conn, plan decide.ConnPlan, hop Hop) (Hop, netip.AddrPort) {
	method := c.Method
	if method == "" {
		method = "GET"
	}
	conn.Terminated = plan.Chain.TLS != nil
	r := decide.Request{Method: method, Scheme: conn.Scheme(), Authority: c.authority(), Path: c.Path, Headers: headers(c.Headers), Conn: conn}
	route := decide.Route(p.config, plan.Chain.HTTP, &r)
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
func forwardRequest(p proxy, c *Call, conn *decide.Conn, hop Hop, route *resource.Route) (Hop, netip.AddrPort) {
	clusters := route.Forward.Clusters
	var usable []resource.WeightedCluster
	for i := range clusters {
		if _, _, why, detail := decide.Upstream(p.config, &clusters[i]); why == "" {
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
	if cluster := p.config.Cluster(usable[0].Name); cluster.TLS != nil {
		c.Scheme, c.sni = "https", cmp.Or(cluster.TLS.SNI, match.Name(c.authority()))
	}
	return forward(p, conn, match.Name(c.authority()), hop, clusters)
}

// forward tells the clusters and endpoints, and finds the first endpoint with a fixed
// address. It fails where there is no endpoint at all. name is what the client calls.
func forward(p proxy, conn *decide.Conn, name string, hop Hop, clusters []resource.WeightedCluster) (Hop, netip.AddrPort) {
	hop.Action = "forward"
	var first netip.AddrPort
	for _, wc := range clusters {
		hop.Clusters = append(hop.Clusters, wc.Name)
		cluster := p.config.Cluster(wc.Name)
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
