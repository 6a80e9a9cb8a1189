package upstream

import (
	"crypto/tls"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// suspectFor is how long, in nanoseconds, a host is the second choice after a
// connection to it failed (see Manager.Pick).
const suspectFor = int64(5e9)

// Host is one endpoint of a cluster at run time. It lives as long as the cluster
// has that endpoint with the same transport socket; then it is gone for good, and
// when the endpoint comes back there is a new Host. So a pool of idle connections
// may be keyed by *Host. All methods are safe for concurrent use.
type Host struct {
	cluster  *state
	addr     netip.AddrPort
	text     string
	hostname string
	explicit bool        // the configuration names the address itself
	tls      *tlsContext // nil: plain text
	proxy    resource.ProxyProtocol
	since    int64 // Manager.now when it was made
	outlier  outlier

	active      atomic.Int64
	connections atomic.Int64
	failedAt    atomic.Int64 // Manager.now of the last failure; 0: the last connect worked
	usedAt      atomic.Int64 // only kept by clusters of type ORIGINAL_DST

	gone   atomic.Bool
	mu     sync.Mutex
	onGone []func()
}

// Addr is the address that Dial connects to.
func (h *Host) Addr() netip.AddrPort { return h.addr }

// String is Addr as text ("ip:port"), without allocation: %UPSTREAM_HOST%.
func (h *Host) String() string { return h.text }

// Hostname is the endpoint's host name (for auto_host_rewrite): the endpoint's
// hostname field, else the name that was resolved; "" for a bare address.
func (h *Host) Hostname() string { return h.hostname }

// TLS reports whether Dial originates TLS to this host.
func (h *Host) TLS() bool { return h.tls != nil }

// Session is what is known of the TLS session of a connection to this host, after its
// handshake; nil: plain text.
func (h *Host) Session(conn net.Conn) *credentials.Session {
	c, ok := conn.(*tls.Conn)
	if !ok || h.tls == nil {
		return nil
	}
	return credentials.NewSession(c.ConnectionState(), h.tls.own())
}

// Keyed reports that connections to this host are not all alike: see Manager.ConnKey.
func (h *Host) Keyed() bool { return h.tls != nil || h.proxy != resource.ProxyProtocolNone }

// Begin counts a request or connection as active, for least request and for the
// cluster's max_requests. Call End once for each Begin, with the same priority.
func (h *Host) Begin(p resource.RoutingPriority) {
	h.active.Add(1)
	h.cluster.breakers[p].requests.Add(1)
}

// End is the counterpart of Begin.
func (h *Host) End(p resource.RoutingPriority) {
	h.active.Add(-1)
	h.cluster.breakers[p].requests.Add(-1)
}

// Active is how many requests or connections have begun and not ended.
func (h *Host) Active() int64 { return h.active.Load() }

// Closed tells that a connection that Dial made is closed: it counts for the cluster's
// max_connections until then. Call it once for each connection, with the priority of
// the Target that it was dialled for.
func (h *Host) Closed(p resource.RoutingPriority) {
	h.connections.Add(-1)
	h.cluster.breakers[p].connections.Add(-1)
	h.cluster.queue.call(nil)
}

// Failed tells that the host could not be used: for a few seconds Pick prefers
// others. Dial does this for itself.
func (h *Host) Failed() {
	h.failedAt.Store(h.cluster.manager.now())
}

func (h *Host) connected() {
	if h.failedAt.Load() != 0 {
		h.failedAt.Store(0)
	}
}

func (h *Host) suspect() bool {
	at := h.failedAt.Load()
	return at != 0 && h.cluster.manager.now()-at < suspectFor
}

// warmth is the part of its share that a host gets while it is new (slow start).
func (h *Host) warmth(s *resource.SlowStart, now int64) float64 {
	age := float64(now-h.since) / float64(s.Window)
	if age >= 1 {
		return 1
	}
	return max(s.MinWeight/100, math.Pow(max(age, 0), 1/s.Aggression))
}

// Gone reports that the endpoint was removed or its transport socket changed:
// idle connections to it should be closed; active ones may finish.
func (h *Host) Gone() bool { return h.gone.Load() }

// OnGone calls f once the host is gone, or now if it already is. f must not block
// and must not call back into the Manager.
func (h *Host) OnGone(f func()) {
	h.mu.Lock()
	if !h.gone.Load() {
		h.onGone = append(h.onGone, f)
		h.mu.Unlock()
		return
	}
	h.mu.Unlock()
	f()
}

func (h *Host) retire() {
	h.mu.Lock()
	h.gone.Store(true)
	fs := h.onGone
	h.onGone = nil
	h.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// hostKey is what makes two endpoints the same host.
type hostKey struct {
	addr     netip.AddrPort
	hostname string
	labels   string
	explicit bool
}
