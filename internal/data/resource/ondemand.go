package resource

import (
	"fmt"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/match"
)

const typeOnDemand = "envoy.extensions.filters.http.on_demand.v3.OnDemand"

func (c *decoding) onDemand(p *path, h *HTTPConnectionManager, a *anypb.Any) {
	var m ondemandv3.OnDemand
	if !c.unpack(p, a, &m) {
		return
	}
	h.OnDemand = true
	if cds := m.GetOdcds(); cds != nil {
		h.OnDemandClusters = true
		c.fromADS(p.field("odcds").field("source"), cds.GetSource())
	}
}

// VirtualHost decodes an envoy.config.route.v3.VirtualHost that was asked for by host,
// for a route configuration (which may be nil). It must have the host among its domains.
func (d Decoder) VirtualHost(rc *RouteConfiguration, host string, a *anypb.Any) (*VirtualHost, error) {
	c := d.begin()
	c.maxDirectBody = defaultMaxDirectBody
	if rc != nil {
		c.maxDirectBody = rc.maxDirectBody
	}
	var m routev3.VirtualHost
	var vh *VirtualHost
	if c.unpack(nil, a, &m) {
		vh = c.virtualHost(nil, &m)
	}
	if err := c.end("virtual host", m.GetName(), &m); err != nil {
		return nil, err
	}
	if vh.Name == "" {
		return nil, fmt.Errorf("a virtual host has no name")
	}
	if !slices.ContainsFunc(vh.Domains, func(domain string) bool { return match.Host(domain, host) }) {
		return nil, fmt.Errorf("virtual host %q was given for %q, which is not among its domains", clip(vh.Name), clip(host))
	}
	return vh, nil
}

// FilterChain decodes an envoy.config.listener.v3.FilterChain that was asked for by
// server name. It must match that name.
func (d Decoder) FilterChain(serverName string, a *anypb.Any) (*FilterChain, error) {
	c := d.begin()
	var m listenerv3.FilterChain
	var chain *FilterChain
	if c.unpack(nil, a, &m) {
		chain = c.filterChain(nil, &m)
	}
	if err := c.end("filter chain", m.GetName(), &m); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(chain.Match.ServerNames, func(name string) bool { return match.Host(name, serverName) }) {
		return nil, fmt.Errorf("filter chain %q was given for %q, which is not among its server names", clip(chain.Name), clip(serverName))
	}
	single := Listener{FilterChains: []*FilterChain{chain}}
	if err := single.Index(); err != nil {
		return nil, err
	}
	chain.alone = single.index
	return chain, nil
}

// Takes reports whether the chain, which was asked for by server name, matches a
// connection in everything else too.
func (f *FilterChain) Takes(q *ChainQuery) bool {
	index := f.alone
	if index == nil { // made by hand, not decoded
		single := Listener{FilterChains: []*FilterChain{f}}
		if single.Index() != nil {
			return false
		}
		index = single.index
	}
	return index.find(q) != nil
}

// Clusters are the clusters that the chain leads to, each once.
func (f *FilterChain) Clusters() []string {
	var out []string
	if f.TCP != nil {
		for i := range f.TCP.Clusters {
			out = addName(out, f.TCP.Clusters[i].Name)
		}
	}
	if f.HTTP != nil && f.HTTP.Inline != nil {
		for _, vh := range f.HTTP.Inline.VirtualHosts {
			out = addName(out, vh.Clusters()...)
		}
	}
	return out
}

// Clusters are the clusters that the virtual host's routes lead to, mirrors included,
// each once.
func (vh *VirtualHost) Clusters() []string {
	var out []string
	for _, r := range vh.Routes {
		if r.Forward == nil {
			continue
		}
		for i := range r.Forward.Clusters {
			out = addName(out, r.Forward.Clusters[i].Name)
		}
		for i := range r.Forward.Mirrors {
			out = addName(out, r.Forward.Mirrors[i].Cluster)
		}
	}
	return out
}

func addName(list []string, names ...string) []string {
	for _, n := range names {
		if n != "" && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}
