package proxy

import (
	"io"
	"net"
	"slices"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// refuse tells the client as well as its protocol allows that the connection is
// denied, and closes it. It first looks a moment at what the client says, only to be
// able to tell and to record the name: what it sees does not change the verdict.
func (c *connection) refuse() {
	v := c.verdict.Swap(nil) // there is nothing left to judge
	if c.seen.bad == nil && !c.seen.closed && !(c.lookedTLS && c.lookedHTTP) {
		c.look(true, true, deniedFirstByte, deniedRest)
		c.explain(v)
	}
	c.entry.Reason, c.entry.Detail = c.plan.Reason, c.plan.Detail
	c.entry.Flags = deniedFlags(c.plan.Reason)
	c.entry.UpstreamCluster = c.deniedCluster()
	switch {
	case c.seen.http != "":
		c.refuseHTTP(v)
	case c.seen.tls || c.seen.bad != nil:
		refuseTLS(c.net, c.plan.Reason)
	default:
		reset(c.net)
	}
}

// refuseHTTP has the handler answer each request with the denial, for as long as the
// configuration stays: a client that keeps its connection open is served once the
// policy allows it.
func (c *connection) refuseHTTP(v *verdict) {
	c.verdict.Store(&verdict{cfg: v.cfg, accepted: v.accepted, info: c.info, plan: c.plan})
	c.serve()
}

// explain asks again with what was seen, for a reason that says more (the name, not
// only the address).
func (c *connection) explain(v *verdict) {
	if plan, bad := c.unacceptable(v.accepted); bad {
		plan.Chain = c.plan.Chain
		c.plan = plan
		return
	}
	if v.accepted == nil || c.plan.Reason == reason.DownstreamTimeout {
		return
	}
	for range decide.MaxAsked {
		plan := decide.Connection(v.cfg, v.accepted, &c.info)
		need := plan.Need
		switch {
		case plan.Verdict == decide.Deny && plan.Reason != "":
			c.plan.Reason, c.plan.Detail = plan.Reason, plan.Detail
			return
		case plan.Verdict != decide.Ask && !c.seen.tls:
			return
		case plan.Verdict != decide.Ask:
			why, detail, lacking := decide.Refusal(v.cfg, &c.info, c.info.SNI, "TLS")
			if lacking.Kind == config.NeedNothing {
				c.plan.Reason, c.plan.Detail = why, detail
				return
			}
			need = lacking
		}
		if !c.ask(need) {
			return
		}
		v = &verdict{cfg: c.p.source.Current(), accepted: v.accepted}
	}
}

// deniedCluster is what Istio's access log shows for a connection that it refuses.
func (c *connection) deniedCluster() string {
	black := func(w resource.WeightedCluster) bool { return w.Name == resource.BlackHoleCluster }
	if ch := c.plan.Chain; ch != nil && ch.TCP != nil && slices.ContainsFunc(ch.TCP.Clusters, black) {
		return resource.BlackHoleCluster
	}
	return ""
}

// deniedFlags are Envoy's response flags for a connection that goes nowhere.
func deniedFlags(r reason.Reason) []string {
	switch r {
	case reason.NoFilterChain:
		return []string{"NR"}
	case reason.BadRequest:
		return []string{"DPE"}
	case reason.ConfigNotAvailable:
		return []string{"NC"}
	case reason.DownstreamTimeout:
		return nil
	}
	return []string{"UH"}
}

// TLS alerts (RFC 8446, 6).
const (
	alertAccessDenied     = 49
	alertDecodeError      = 50
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// How long and how much refuseTLS waits for a client to read its alert.
const (
	lingerTime  = 100 * time.Millisecond
	lingerBytes = 256 << 10
)

// refuseTLS sends a fatal alert in place of a ServerHello and closes. It reads what the
// client still sends for a moment: closing with unread data would reset the connection
// and could destroy the alert on its way.
func refuseTLS(conn net.Conn, why reason.Reason) {
	description := byte(alertAccessDenied)
	switch why {
	case reason.SNIMismatch, reason.SNIMissing, reason.NotInRegistry, reason.NoFilterChain:
		description = alertUnrecognizedName
	case reason.BadRequest:
		description = alertDecodeError
	case reason.ConfigNotAvailable:
		description = alertInternalError
	}
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	if _, err := conn.Write([]byte{21, 3, 3, 0, 2, 2, description}); err == nil {
		if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, conn, lingerBytes)
		}
	}
	_ = conn.Close()
}
