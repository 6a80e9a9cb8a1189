package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/socket"
)

const (
	defaultConnectTimeout = 5 * time.Second // Envoy's connect_timeout
	maxConnectHosts       = 4               // that Connect tries
)

// errConnectTimeout is the cause when the cluster's connect timeout passed.
var errConnectTimeout = errors.New("connect timeout")

var errNoResolver = errors.New("this proxy has no name resolver")

// Dial connects to a host that Pick chose, for a request. The connection counts for
// max_connections until Host.Closed is told. Where that limit is reached the request
// waits, until one is closed or Host.Idle is told and idle (if not nil) reports that it
// has a connection: then Dial returns neither a connection nor an error. A host that
// has no connection at all may always have one, as in Envoy. Meanwhile the request
// counts for max_pending_requests.
//
// The cluster's connect timeout covers the TLS handshake too, as in Envoy. Without TLS
// the Dialer's connection is returned as it is, so that a *net.TCPConn can be spliced.
// The errors have the reasons upstream_connect_failed and upstream_tls_failed (flag
// UF), address_forbidden and upstream_overflow.
func (m *Manager) Dial(ctx context.Context, cluster *config.Cluster, h *Host, t *Target, idle func() bool) (net.Conn, *Error) {
	b, limits := &h.cluster.breakers[t.priority()], thresholds(cluster, t.priority())
	if limits != nil {
		if !take(&b.pending, limits.MaxPendingRequests) {
			return nil, h.cluster.overflow("pending requests")
		}
		defer b.pending.Add(-1)
	}
	if reused, err := h.await(ctx, cluster, t, idle); reused || err != nil {
		return nil, err
	}
	conn, err := m.dial(ctx, cluster, h, t)
	if err == nil {
		h.localSuccess(false)
	}
	return conn, err
}

// dial connects with a connection that is reserved; where it fails it gives the place back.
func (m *Manager) dial(ctx context.Context, cluster *config.Cluster, h *Host, t *Target) (_ net.Conn, failed *Error) {
	defer func() {
		if failed != nil {
			h.cluster.connectFailures.Add(1)
			h.Closed(t.priority())
		} else {
			h.cluster.connected.Add(1)
		}
	}()
	if !h.explicit && forbidden(h.addr.Addr(), m.forbidden) {
		return nil, forbiddenError(h.text)
	}
	timeout := cluster.ConnectTimeout
	if timeout <= 0 {
		timeout = defaultConnectTimeout
	}
	limited, cancel := context.WithTimeoutCause(ctx, timeout, errConnectTimeout)
	defer cancel()
	conn, err := m.open(limited, cluster, h)
	if err != nil {
		return nil, h.failure(ctx, limited, reason.UpstreamConnectFailed, "connecting to "+h.text+" failed", err)
	}
	if err := keepAlive(conn, cluster.TCPKeepalive); err != nil {
		m.log.Debug("setting TCP keep-alive failed", "host", h.text, "error", err)
	}
	if h.proxy != resource.ProxyProtocolNone {
		deadline, _ := limited.Deadline()
		if err := h.sendProxyHeader(conn, t, deadline); err != nil {
			_ = conn.Close()
			return nil, h.failure(ctx, limited, reason.UpstreamConnectFailed, "writing the PROXY header to "+h.text+" failed", err)
		}
	}
	if h.tls != nil {
		conn, err = h.tls.handshake(limited, conn, h, t, m.roots)
		if err != nil {
			return nil, h.failure(ctx, limited, reason.UpstreamTLSFailed, "TLS with "+h.text+" failed", err)
		}
	}
	h.connected()
	return conn, nil
}

// errNoSource is the failure where the Dialer cannot dial from a source address.
var errNoSource = errors.New("the cluster has a source address (upstream_bind_config), which this dialer cannot dial from")

// open dials a host, from the cluster's source address where it has one.
func (m *Manager) open(ctx context.Context, cluster *config.Cluster, h *Host) (net.Conn, error) {
	source := cluster.SourceFor(h.addr.Addr())
	if !source.IsValid() {
		return m.dialer.DialContext(ctx, "tcp", h.text)
	}
	if d, ok := m.dialer.(SourceDialer); ok {
		return d.DialFrom(ctx, source, "tcp", h.text)
	}
	return nil, errNoSource
}

// NetDialer is a Dialer and SourceDialer of the machine's own network.
type NetDialer struct{}

// DialContext implements Dialer.
func (NetDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return NetDialer{}.DialFrom(ctx, netip.Addr{}, network, address)
}

// DialFrom implements SourceDialer.
func (NetDialer) DialFrom(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error) {
	if network == "tcp" {
		return socket.Dial(ctx, source, address)
	}
	var d net.Dialer
	if source.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	return d.DialContext(ctx, network, address)
}

// failure makes the Error of a failed attempt; a caller who gave up does not make
// the host suspect.
func (h *Host) failure(ctx, limited context.Context, r reason.Reason, detail string, err error) *Error {
	if ctx.Err() == nil {
		h.Failed()
		h.ConnectionLost()
	}
	if cause := context.Cause(limited); errors.Is(cause, errConnectTimeout) {
		err = cause
	}
	return &Error{Reason: r, Flag: "UF", Detail: detail, Err: err, Host: h.text}
}

// Connect picks a host and dials it, and tries others when that fails: each host
// at most once, and at most four. An error is the last one, with the host it is about.
// The connection counts for max_connections until Host.Closed is told.
func (m *Manager) Connect(ctx context.Context, cluster *config.Cluster, t *Target) (net.Conn, *Host, *Error) {
	if cluster == nil || cluster.Cluster == nil {
		return nil, nil, noCluster()
	}
	var tried []*Host
	var last *Error
	for last == nil || len(tried) < maxConnectHosts && ctx.Err() == nil {
		h, err := m.state(cluster).pick(ctx, cluster, t, tried)
		if err != nil && last == nil {
			return nil, nil, err
		}
		if err != nil || slices.Contains(tried, h) {
			break // there is no other
		}
		if !h.reserve(cluster, t.priority(), false) {
			return nil, nil, h.cluster.overflow("connections")
		}
		conn, err := m.dial(ctx, cluster, h, t)
		if err == nil {
			h.localSuccess(true)
			return conn, h, nil
		}
		tried, last = append(tried, h), err
	}
	return nil, tried[len(tried)-1], last
}

// keepAlive sets the cluster's TCP keep-alive; what it does not say is left to the
// operating system. Connections that are not TCP are left alone.
func keepAlive(conn net.Conn, k *resource.TCPKeepalive) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || k == nil {
		return nil
	}
	c := net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}
	if k.Time > 0 {
		c.Idle = k.Time
	}
	if k.Interval > 0 {
		c.Interval = k.Interval
	}
	if k.Probes > 0 {
		c.Count = int(k.Probes)
	}
	return tcp.SetKeepAliveConfig(c)
}
