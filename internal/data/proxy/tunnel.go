package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/tunnel"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// tunnelTimeout bounds how long an upstream proxy takes to answer a request for a tunnel.
const tunnelTimeout = time.Minute

var errTunnelTimeout = fmt.Errorf("no answer within %s", tunnelTimeout)

// tunnelALPN is what TLS with a proxy offers; nil: the connection is no tunnel.
func tunnelALPN(t *resource.Tunnel, cluster *config.Cluster) []string {
	switch {
	case t == nil:
		return nil
	case cluster.Protocol == resource.UpstreamHTTP2:
		return []string{"h2"}
	case cluster.Protocol == resource.UpstreamAuto:
		return []string{"h2", "http/1.1"}
	}
	return []string{"http/1.1"}
}

// openTunnel asks the upstream that up leads to for a tunnel; first are bytes that have
// come out of it already.
func (c *connection) openTunnel(ctx context.Context, t *resource.Tunnel, cluster *config.Cluster, up net.Conn, host *upstream.Host) (_ net.Conn, first []byte, failed *upstream.Error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tunnelTimeout, errTunnelTimeout)
	defer cancel()
	session, secure := up.(*tls.Conn)
	h2 := cluster.Protocol == resource.UpstreamHTTP2
	if cluster.Protocol == resource.UpstreamAuto && secure {
		h2 = session.ConnectionState().NegotiatedProtocol == "h2"
	}
	q := c.tunnelRequest(t)
	q.Secure = secure
	conn, first, err := tunnel.Open(ctx, up, h2, q, tunnel.Options{
		HTTP2: http2.Options{StreamWindow: cluster.HTTP2.StreamWindow, ConnWindow: cluster.HTTP2.ConnWindow},
	})
	if err == nil {
		return conn, first, nil
	}
	failed = &upstream.Error{Reason: reason.UpstreamConnectFailed, Flag: "UF", Err: err, Host: host.String(),
		Detail: "no tunnel to " + q.Authority + " through " + host.String()}
	var bad1 *http1.Error
	var bad2 *http2.Error
	if errors.As(err, &bad1) || errors.As(err, &bad2) {
		failed.Reason, failed.Flag = reason.UpstreamProtocolError, "UPE"
	}
	return nil, nil, failed
}

// tunnelRequest is the request for a tunnel, with what is known of the connection.
func (c *connection) tunnelRequest(t *resource.Tunnel) *tunnel.Request {
	c.describe()
	q := &tunnel.Request{Authority: t.Authority, Post: t.Post, Path: t.Path}
	if t.Dynamic {
		q.Authority = c.expand(t.Authority)
	}
	for i := range t.Headers {
		h := &t.Headers[i]
		value := h.Value
		if h.Dynamic {
			value = c.expand(value)
		}
		if value == "" && !h.KeepEmpty || h.Action == resource.OverwriteIfExists && !q.Fields.Has(h.Name) {
			continue
		}
		switch h.Action {
		case resource.AppendIfExistsOrAdd:
			q.Fields.Add(h.Name, value)
		case resource.AddIfAbsent:
			if !q.Fields.Has(h.Name) {
				q.Fields.Add(h.Name, value)
			}
		default:
			q.Fields.Set(h.Name, value)
		}
	}
	return q
}

// expand fills in command operators.
func (c *connection) expand(value string) string {
	return string(c.p.recorder.AppendValue(nil, value, c.entry))
}
