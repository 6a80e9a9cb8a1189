package decide

import (
	"slices"
	"strings"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// agrees reports whether a host name that the client sends (Host, SNI; no port, no
// final dot) may be used on the connection that it opened. Without Strict it
// always may. It does not allocate where the name is the one that the DNS proxy
// handed the address out for. Where that is not known the need is what has to be asked.
func (c *Conn) agrees(cfg *config.Config, answers config.Answers, host string) (bool, config.Need) {
	if !c.Binding.Strict {
		return true, config.Need{}
	}
	host = strings.TrimSuffix(host, ".")
	if c.Binding.Name != "" && match.EqualFold(host, c.Binding.Name) {
		return true, config.Need{}
	}
	if n := lacksName(cfg, answers, host); n.Kind != config.NeedNothing {
		return false, n
	}
	return c.agreesByAddress(cfg, host), config.Need{}
}

// agreesByAddress: host is the destination address itself, or a name that has it.
// Else it must not be a name that the registry knows, and the address must not be
// that of another name.
func (c *Conn) agreesByAddress(cfg *config.Config, host string) bool {
	dst := c.Destination.Addr().Unmap().WithZone("")
	if literal, ok := match.LiteralAddress(host); ok {
		return literal == dst
	}
	host = match.Lower(host)
	info, _, registered := cfg.Name(host)
	if slices.Contains(info.Addresses, dst) {
		return true
	}
	if c.Binding.Name != "" || cfg.NameOf(dst) != "" {
		return false
	}
	if cfg.Names == nil && !cfg.NamesOnDemand {
		registered = cfg.Registered(host)
	}
	return !registered
}

// shortName reports whether host is a short form of the name that the connection
// was opened to ("db.prod" for "db.prod.svc.cluster.local"), by the virtual host
// that has both.
func (c *Conn) shortName(cfg *config.Config, vh *resource.VirtualHost, host string) bool {
	name := c.opened(cfg)
	if vh == nil || len(name) <= len(host) || name[len(host)] != '.' || !match.EqualFold(name[:len(host)], host) {
		return false
	}
	return hasDomain(vh, host) && hasDomain(vh, name)
}

func hasDomain(vh *resource.VirtualHost, host string) bool {
	return slices.ContainsFunc(vh.Domains, func(d string) bool { return match.EqualFold(d, host) })
}

// opened is the name that the connection was opened to, "" where there is none.
func (c *Conn) opened(cfg *config.Config) string {
	if c.Binding.Name != "" {
		return c.Binding.Name
	}
	return cfg.NameOf(c.Destination.Addr())
}
