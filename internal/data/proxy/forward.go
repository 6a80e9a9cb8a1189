package proxy

import (
	"math/rand/v2"
	"net"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// choose takes one of the clusters of a chain by chance, with the subset that is asked
// for; "" where all weigh nothing.
func choose(clusters []resource.WeightedCluster) (string, *resource.LabelMatch) {
	if c := decide.PickCluster(clusters, rand.Uint32()); c != nil {
		return c.Name, c.Subset
	}
	return "", nil
}

// target is what the connection wants of a cluster.
func (c *connection) target(v *verdict, cluster *config.Cluster) *upstream.Target {
	dst, name := decide.Original(&c.info, cluster, c.info.SNI)
	t := &upstream.Target{
		Destination: dst, Name: name, Authority: c.info.SNI, Source: c.info.Source, Local: c.info.Destination, Subset: v.subset,
	}
	if cluster.Discovery == resource.DiscoveryDynamicForward {
		t.ForwardPort = v.plan.Chain.ForwardPort
	}
	if tcp := v.plan.Chain.TCP; tcp != nil && tcp.HashSource {
		// As in Envoy: the hash of the address as text, without the port.
		t.Hash, t.HasHash = xxhash.Sum64String(c.info.Source.Addr().Unmap().String()), true
	}
	t.ALPN = tunnelALPN(v.tunnel(), cluster)
	return t
}

// forward dials and copies.
func (c *connection) forward() {
	v := c.verdict.Load()
	c.entry.UpstreamCluster = v.cluster
	if v.cluster == resource.BlackHoleCluster { // one of several clusters of a chain
		c.plan.Reason, c.plan.Detail = reason.NotInRegistry, "the route leads to "+resource.BlackHoleCluster
		c.refuse()
		return
	}
	up, host, answered := c.dial(v)
	if up == nil {
		reset(c.net)
		return
	}
	defer host.Closed(resource.PriorityDefault)
	defer up.Close()
	host.Begin(resource.PriorityDefault)
	defer host.End(resource.PriorityDefault)
	c.entry.Host = c.info.Host()
	c.p.recorder.Opened(c.entry)
	first := c.seen.bytes
	c.seen.bytes = nil
	c.carry(up, first, answered)
}

// tunnel is what an upstream proxy is asked for; nil: nothing.
func (v *verdict) tunnel() *resource.Tunnel {
	if tcp := v.plan.Chain.TCP; tcp != nil {
		return tcp.Tunnel
	}
	return nil
}

// dial connects to the cluster, and through it where the chain has a tunnel; answered are
// bytes that came with that. It returns nil when that failed, with the failure in the
// entry, or when the connection was killed meanwhile.
func (c *connection) dial(v *verdict) (_ net.Conn, _ *upstream.Host, answered []byte) {
	cluster, missing := c.cluster(v)
	if missing != nil {
		c.failed(missing)
		return nil, nil, nil
	}
	c.entry.UpstreamObjects = cluster.Objects
	c.entry.UpstreamConnectBegin = time.Since(c.start)
	ctx, cancel := c.context()
	defer cancel()
	up, host, err := c.p.upstreams.Connect(ctx, cluster, c.target(v, cluster))
	if err != nil {
		c.failed(err)
		return nil, nil, nil
	}
	c.entry.UpstreamHost, c.entry.UpstreamHostName, c.entry.Attempts = host.String(), host.Hostname(), 1
	c.entry.UpstreamConnected = time.Since(c.start)
	c.entry.UpstreamLocalAddress = addrPort(up.LocalAddr())
	c.entry.UpstreamTLS = host.Session(up)
	if asked := v.tunnel(); asked != nil {
		if up, answered, err = c.openTunnel(ctx, asked, cluster, up, host); err != nil {
			host.Closed(resource.PriorityDefault)
			c.failed(err)
			return nil, nil, nil
		}
	}
	c.entry.UpstreamReady = time.Since(c.start)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil {
		reset(up)
		host.Closed(resource.PriorityDefault)
		return nil, nil, nil
	}
	c.upstream = up
	return up, host, answered
}

func (c *connection) failed(err *upstream.Error) {
	c.entry.Reason, c.entry.Detail, c.entry.UpstreamHost = err.Reason, err.Error(), err.Host
	if err.Flag != "" {
		c.entry.Flags = []string{err.Flag}
	}
	if err.Reason == reason.UpstreamTLSFailed || err.Reason == reason.UpstreamConnectFailed {
		c.entry.UpstreamTransportFailure = err.Error()
	}
}
