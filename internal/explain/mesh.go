package explain

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

// Mesh is what its control plane knows, and who calls in it.
type Mesh struct {
	Snapshot *mesh.Snapshot
	// Caller is the sidecar of the workload that calls.
	Caller Node
	// Gateway finds the gateway that has an address; nil where no gateway has it.
	Gateway func(netip.AddrPort) (*Node, error)
	// PassesBy says why a connection of the workload is not led to the sidecar; "" where it is.
	// The address is not valid where it is not known. Nil: all are led there.
	PassesBy func(netip.AddrPort) string
	// Search are the domains that the workload's resolver tries, in their order, with names
	// that have fewer than 5 dots (Kubernetes' ndots).
	Search []string
}

// Node is a proxy, with what it is called in the answer.
type Node struct {
	mesh.Node
	Title string
}

// proxy is one on the way.
type proxy struct {
	name   string
	config *config.Config
	// accepts is the listener that accepts the connection; nil: found by the destination's port.
	accepts *resource.Listener
}

// endings are the actions after which there is no further hop, and the verdict then.
var endings = map[string]string{"deny": "denied", "fail": "fails"}

// maxHops ends ways that lead in a circle.
const maxHops = 4

// Explain follows a call from the sidecar to where it leaves.
func Explain(m Mesh, c Call) (Result, error) {
	store, err := ConfigFor(m.Snapshot, m.Caller.Node)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", m.Caller.Title, err)
	}
	cfg := store.Current()
	names := m.resolver(store)
	host := c.Host
	res, err := m.follow(proxy{name: m.Caller.Title, config: cfg, accepts: cfg.Listener("virtualOutbound")}, names, c)
	switch {
	case err != nil:
	case res.Reason == reason.NotInRegistry:
		res.Hint = m.hidden(host)
	}
	if res.Hint == "" && res.Verdict == "denied" && c.Scheme != "http" && names.unknown(host) {
		res.Hint = "which address the workload's DNS has for " + host + " is not asked here; what holds for an address is told for HOST:PORT with that address"
	}
	return res, err
}

// follow goes on from proxy to proxy.
func (m Mesh) follow(p proxy, names resolver, c Call) (Result, error) {
	res := Result{Call: c.String(), Verdict: "allowed"}
	addr, err := netip.ParseAddr(c.Host)
	if err != nil {
		addr = names.resolve(c.Host)
	}
	if why := m.passesBy(addr, names, c); why != "" {
		res.Hint = why
		return res, nil
	}
	dst, binding := netip.AddrPortFrom(addr, c.Port), names.binding(addr)
	for range maxHops {
		hop, next := explainHop(p, &c, dst, binding)
		if len(res.Hops) == 0 {
			hop.Destination = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))) // as it is called
		}
		res.Hops = append(res.Hops, hop)
		if hop.Reason != "" {
			res.Reason, res.Detail = hop.Reason, hop.Detail
		}
		if verdict, ends := endings[hop.Action]; ends {
			res.Verdict = verdict
			return res, nil
		}
		if !next.IsValid() {
			return res, nil
		}
		gateway, err := m.Gateway(next)
		if err != nil || gateway == nil {
			return res, err
		}
		store, err := ConfigFor(m.Snapshot, gateway.Node)
		if err != nil {
			return res, fmt.Errorf("%s: %w", gateway.Title, err)
		}
		p = proxy{name: gateway.Title, config: store.Current()}
		dst, binding = next, decide.Binding{}
	}
	return res, fmt.Errorf("the way goes through more than %d proxies: a circle?", maxHops)
}

func (m Mesh) passesBy(addr netip.Addr, names resolver, c Call) string {
	if m.PassesBy == nil {
		return ""
	}
	if names.unknown(c.Host) {
		addr = netip.Addr{}
	}
	return m.PassesBy(netip.AddrPortFrom(addr, c.Port))
}

// hidden says what keeps a host of the registry from the caller; "" where nothing does.
func (m Mesh) hidden(host string) string {
	scope := m.Snapshot.Scope(m.Caller.Node)
	for _, svc := range m.Snapshot.Services() {
		if !mesh.HostWithin(host, svc.Host) || slices.Contains(scope.Services, svc) {
			continue
		}
		if scope.Sidecar != nil {
			return fmt.Sprintf("%s has %q, but %s does not bring it in, or its exportTo hides it from namespace %q",
				svc.Source, svc.Host, scope.Sidecar.Ref, m.Caller.Namespace)
		}
		return fmt.Sprintf("%s has %q, but its exportTo hides it from namespace %q", svc.Source, svc.Host, m.Caller.Namespace)
	}
	return ""
}

// ConfigFor is the configuration of a node, by the same way as from the wire.
func ConfigFor(s *mesh.Snapshot, n mesh.Node) (*config.Store, error) {
	resources, err := xdsgen.Generate(s, n)
	if err != nil {
		return nil, err
	}
	store := config.NewStore(config.StoreOptions{})
	for _, typeURL := range []string{xds.ClusterType, xds.EndpointType, xds.ListenerType, xds.RouteType, xds.NameTableType} {
		update := xds.Update{TypeURL: typeURL}
		for _, r := range resources[typeURL] {
			update.Changed = append(update.Changed, r)
		}
		for name, err := range store.Apply(update) {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if store.Current() == nil {
		return nil, errors.New("the configuration is not complete")
	}
	return store, nil
}
