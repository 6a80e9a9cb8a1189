// Package decide is the pure decision: configuration and attributes in, a Plan
// out. The proxy and "egret explain" call the same functions, so there is no
// second matching engine to drift. It opens nothing and keeps nothing; on the hot
// path (Route) it does not allocate.
package decide

import (
	"net/netip"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Binding is what the DNS proxy knows of a destination address.
type Binding struct {
	// Name is the host name that the address was handed out for, lower case; ""
	// when the address was not handed out by the DNS proxy.
	Name string
	// Unregistered: the name is not known to the registry (a sinkhole address).
	Unregistered bool
	// Unknown: it is not known now whether the name is registered; Unregistered is false.
	Unknown bool
	// Strict: a DNS proxy answers for this workload, so a registered Host or SNI
	// must agree with the address that the connection was opened to. False where
	// other resolvers answer (Kubernetes without DNS capture, gateways).
	Strict bool
}

// Conn is what is known of a connection when its chain is chosen.
type Conn struct {
	Source      netip.AddrPort
	Destination netip.AddrPort // the original destination
	// Direct: the connection was addressed to the proxy itself (a gateway), not
	// redirected to it, so Destination says nothing of where it wants to go.
	Direct bool
	// Inbound: the connection came to the proxy's own workload (virtualInbound). The name that
	// its client looked up is nothing that this workload's DNS knows of.
	Inbound bool
	Binding Binding
	// Transport is "raw_buffer", "tls" or "" (not inspected).
	Transport string
	SNI       string // lower case
	// Application is what was sniffed or offered by ALPN: "http/1.1", "http/1.0",
	// "h2c", "h2", ...; nil when not inspected or not HTTP.
	Application []string
	// Terminated: the client's TLS was ended by the filter chain, so what is spoken now
	// was inside of it. ALPN is the protocol that was agreed on then, "" for none.
	Terminated bool
	ALPN       string
	// Answers are what was asked for this decision so far.
	Answers config.Answers
}

// Scheme is the scheme of requests on the connection.
func (c *Conn) Scheme() string {
	if c.Terminated {
		return "https"
	}
	return "http"
}

// Host is the name of the destination for records: the SNI, the name that the
// connection was opened to, or the address.
func (c *Conn) Host() string {
	switch {
	case c.SNI != "":
		return c.SNI
	case c.Binding.Name != "":
		return c.Binding.Name
	case c.Destination.IsValid():
		return c.Destination.Addr().String()
	}
	return ""
}

// Verdict is what happens.
type Verdict uint8

// Verdicts.
const (
	Deny Verdict = iota
	Forward
	Direct   // answer with the route's direct response (other than block_all)
	Redirect // answer with a redirect
	Ask      // something has to be asked for by name first: Need
)

// ConnPlan is the decision for a connection.
type ConnPlan struct {
	Verdict  Verdict // Deny or Forward; Forward with Chain.HTTP means: HTTP decides per request
	Reason   reason.Reason
	Detail   string // one sentence for people: what is missing, what would allow it
	Listener *resource.Listener
	Chain    *resource.FilterChain
	// Clusters of a TCP chain.
	Clusters []resource.WeightedCluster
	Need     config.Need  // of Ask
	Held     *config.Held // that Chain is of; nil: of the listener itself
}

// Headers gives a request header by its lower-case name; several values are
// joined by ",". It must not allocate for a single value.
type Headers interface {
	Get(name string) (string, bool)
}

// Request is what is known of an HTTP request when its route is chosen. The
// strings may alias the connection's buffer: do not keep them.
type Request struct {
	Method    string
	Scheme    string
	Authority string // as in the Host header or the absolute target, with port if any
	Path      string // with query
	Headers   Headers
	// Upgrade is the lower-case token of an Upgrade request, or "".
	Upgrade string
	// Random in [0, 2^32) chooses runtime fractions.
	Random uint32
	Conn   *Conn
	// Client is who trusted proxies say the client is; not valid: Conn.Source.
	Client netip.Addr
	// Answers are what was asked for this decision so far, those of Conn included.
	Answers config.Answers
}

// RoutePlan is the decision for one HTTP request.
type RoutePlan struct {
	Verdict Verdict
	Reason  reason.Reason
	Detail  string
	// Status is what a denied request is answered with: 502, or 404 where a known
	// host has no route (Envoy's NR, route_not_found).
	Status      int
	RouteConfig *resource.RouteConfiguration
	VirtualHost *resource.VirtualHost
	Route       *resource.Route
	Need        config.Need  // of Ask
	Held        *config.Held // that VirtualHost is of; nil: of the route configuration itself
}
