package decide

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Listener is the listener whose filter chains judge a connection to dst: accepted
// itself, or the one that it hands the connection to (use_original_dst).
func Listener(cfg *config.Config, accepted *resource.Listener, dst netip.AddrPort) *resource.Listener {
	if now := cfg.Listener(accepted.Name); now != nil {
		accepted = now // the connection may have been accepted under an older configuration
	}
	if accepted.UseOriginalDst {
		if l := cfg.ListenerFor(dst); l != nil {
			return l
		}
	}
	return accepted
}

// Inspect tells which inspectors the listener needs that will have a connection to
// dst, and how long they may wait (0: no limit of the listener's).
func Inspect(cfg *config.Config, accepted *resource.Listener, dst netip.AddrPort) (tls, http bool, timeout time.Duration) {
	l := Listener(cfg, accepted, dst)
	tls, http = l.Inspectors(dst.Port())
	return tls, http, l.InspectorsTimeout
}

// Connection decides on a connection that accepted has accepted: which filter
// chain has it, and for a TCP chain whether and where it goes. Where the chain
// speaks HTTP the plan is Forward, and Route decides on each request.
func Connection(cfg *config.Config, accepted *resource.Listener, c *Conn) ConnPlan {
	l := Listener(cfg, accepted, c.Destination)
	plan := ConnPlan{Listener: l}
	if l.Rejected != "" {
		return plan.deny(reason.ConfigRejected, "the configuration of listener "+l.Name+" was refused: "+l.Rejected)
	}
	q := resource.ChainQuery{Source: c.Source, Destination: c.Destination, SNI: c.SNI, Transport: c.Transport, Application: c.Application}
	var need config.Need
	if plan.Chain, plan.Held, need = findChain(cfg, l, c, &q); need.Kind != config.NeedNothing {
		return plan.ask(c.Answers, need)
	}
	switch {
	case plan.Chain == nil:
		return plan.deny(reason.NoFilterChain, noChainDetail(l, c))
	case plan.Chain.Unsupported != "":
		return plan.deny(reason.NotSupported, "filter chain "+plan.Chain.Name+" of listener "+l.Name+": "+plan.Chain.Unsupported)
	case plan.Chain.HTTP != nil:
		plan.Verdict = Forward
		return plan
	}
	plan.Clusters = plan.Chain.TCP.Clusters
	if isBlackHole(plan.Clusters) && plan.Chain.Match.DestinationPort != 0 && plan.Chain.Match.DestinationPort == l.Address.Port() {
		return plan.deny(reason.SelfCall, "the connection was addressed to the proxy's own port "+strconv.Itoa(int(l.Address.Port())))
	}
	if c.SNI != "" {
		switch same, need := c.agrees(cfg, c.Answers, c.SNI); {
		case need.Kind != config.NeedNothing:
			return plan.ask(c.Answers, need)
		case !same:
			return plan.deny(reason.SNIMismatch, mismatchDetail(cfg, c, c.SNI, "TLS server name"))
		}
	}
	why, detail := reason.Reason(""), ""
	if isBlackHole(plan.Clusters) {
		why, detail, need = whyConnection(cfg, l, c)
	} else {
		why, detail, need = strictTCP(cfg, &plan, c)
	}
	switch {
	case need.Kind != config.NeedNothing:
		return plan.ask(c.Answers, need)
	case why != "":
		return plan.deny(why, detail)
	}
	plan.Verdict = Forward
	return plan
}

func (p ConnPlan) deny(r reason.Reason, detail string) ConnPlan {
	p.Verdict, p.Reason, p.Detail = Deny, r, detail
	return p
}

// isBlackHole: Istio's way to say "refuse".
func isBlackHole(clusters []resource.WeightedCluster) bool {
	for i := range clusters {
		if clusters[i].Name != resource.BlackHoleCluster && clusters[i].Weight > 0 {
			return false
		}
	}
	return true
}

// isPassthrough: to where the workload wanted, whatever that is (ALLOW_ANY).
func isPassthrough(clusters []resource.WeightedCluster) bool {
	return len(clusters) == 1 && clusters[0].Name == resource.PassthroughCluster
}

// strictTCP: a chain that was found by port alone (0.0.0.0:5432 of a ServiceEntry
// without addresses) has every connection to that port. Where it is known which
// name the connection was opened to, that name must be registered for the port.
func strictTCP(cfg *config.Config, plan *ConnPlan, c *Conn) (reason.Reason, string, config.Need) {
	b := &c.Binding
	nothing := config.Need{}
	if !b.Strict || isPassthrough(plan.Clusters) {
		return "", "", nothing
	}
	if b.Name == "" {
		if anywhere(cfg, plan, c) {
			return reason.AddressNotInRegistry, addressDetail(c.Destination.Addr().String(), c.Destination.Port(), protocolOf(c)), nothing
		}
		return "", "", nothing
	}
	if n := lacksName(cfg, c.Answers, b.Name); b.Unknown && n.Kind != config.NeedNothing {
		return "", "", n
	}
	if b.Unregistered || b.Unknown && c.Answers.Of(config.Need{Kind: config.NeedName, Name: b.Name}).Outcome == config.Absent {
		return reason.NotInRegistry, notInRegistryDetail(b.Name, c.Destination.Port(), protocolOf(c)), nothing
	}
	if c.SNI != "" && len(plan.Chain.Match.ServerNames) > 0 {
		return "", "", nothing // chosen by the name, which agrees with the binding
	}
	switch found, need := hasOutbound(cfg, c.Answers, b.Name, c.Destination.Port()); {
	case need.Kind != config.NeedNothing:
		return "", "", need
	case found:
		return "", "", nothing
	}
	return reason.PortNotInRegistry, portDetail(cfg, b.Name, c.Destination.Port(), protocolOf(c)), nothing
}

// anywhere reports whether the plan would let the client choose the address: the chain
// was found by port alone, and leads to where the connection was going (resolution
// NONE without addresses), which no name of the registry has. Istio lets these
// pass; here only the name decides. Where every name may be called, so may it.
func anywhere(cfg *config.Config, plan *ConnPlan, c *Conn) bool {
	if cfg.Names == nil && !cfg.NamesOnDemand || !plan.Listener.Address.Addr().IsUnspecified() || len(plan.Chain.Match.PrefixRanges) > 0 {
		return false
	}
	if cfg.AnyName() || cfg.NameOf(c.Destination.Addr()) != "" {
		return false
	}
	for i := range plan.Clusters {
		if cl := cfg.Cluster(plan.Clusters[i].Name); cl != nil && cl.Discovery == resource.DiscoveryOriginalDst {
			return true
		}
	}
	return false
}

// hasOutbound reports whether there is a cluster for this host, or for a wildcard
// that covers it, and this port ("outbound|5432||db.example.com").
func hasOutbound(cfg *config.Config, answers config.Answers, host string, port uint16) (bool, config.Need) {
	prefix := "outbound|" + strconv.Itoa(int(port)) + "||"
	host = match.Lower(host)
	found, need := outbound(cfg, answers, prefix+host)
	for i := 1; i < len(host) && !found && need.Kind == config.NeedNothing; i++ {
		if host[i] == '.' {
			found, need = outbound(cfg, answers, prefix+"*"+host[i:])
		}
	}
	return found, need
}

func outbound(cfg *config.Config, answers config.Answers, cluster string) (bool, config.Need) {
	c, need := Cluster(cfg, cfg.NamesOnDemand, answers, cluster)
	return c != nil, need
}

// protocolOf is the protocol as a ServiceEntry's port would say it.
func protocolOf(c *Conn) string {
	if c.Transport == "tls" {
		return "TLS"
	}
	for _, app := range c.Application {
		if strings.HasPrefix(app, "http/") || app == "h2c" {
			return "HTTP"
		}
	}
	return "TCP"
}
