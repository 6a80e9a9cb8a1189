package standalone

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/explain"
	"github.com/egret-mesh/egret/internal/xds"
)

// Explain says what would happen to a call of the workload, with the configuration
// that its proxies would get for objects.
func Explain(objects istioapi.Objects, w Workload, call explain.Call) (explain.Result, error) {
	snapshot, _ := mesh.New(objects, Registry(objects)) // its problems are analyze's to tell
	sidecarStore, err := configFor(snapshot, SidecarNode(w))
	if err != nil {
		return explain.Result{}, fmt.Errorf("sidecar: %w", err)
	}
	gatewayStore, err := configFor(snapshot, GatewayNode())
	if err != nil {
		return explain.Result{}, fmt.Errorf("gateway: %w", err)
	}
	sidecar, gateway := sidecarStore.Current(), gatewayStore.Current()
	names := dns.New(dns.Options{Source: sidecarStore})
	result, err := explain.Explain(explain.Mesh{
		Sidecar:  explain.Proxy{Name: "sidecar", Config: sidecar, Accepts: sidecar.Listener("virtualOutbound")},
		Resolver: fixedNames{names, sidecar},
		Next: func(at netip.AddrPort) (explain.Proxy, bool) {
			return explain.Proxy{Name: gatewayName, Config: gateway}, at.Addr() == gatewayAddress
		},
	}, call)
	if result.Reason == reason.NotInRegistry {
		result.Hint = hidden(snapshot, SidecarNode(w), call.Host)
	}
	return result, err
}

// hidden says what keeps a host of the registry from a node; "" where nothing does.
func hidden(s *mesh.Snapshot, n mesh.Node, host string) string {
	scope := s.Scope(n)
	for _, svc := range s.Services() {
		if !mesh.HostWithin(host, svc.Host) || slices.Contains(scope.Services, svc) {
			continue
		}
		if scope.Sidecar != nil {
			return fmt.Sprintf("%s has %q, but %s does not bring it in, or its exportTo hides it from namespace %q",
				svc.Source, svc.Host, scope.Sidecar.Ref, n.Namespace)
		}
		return fmt.Sprintf("%s has %q, but its exportTo hides it from namespace %q", svc.Source, svc.Host, n.Namespace)
	}
	return ""
}

// configFor is the configuration of a node, by the same way as from the wire.
func configFor(s *mesh.Snapshot, n mesh.Node) (*config.Store, error) {
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

// fixedNames answers as the workload's DNS would.
type fixedNames struct {
	*dns.Server
	config *config.Config
}

// Resolve gives the address that the workload would call for a name.
func (f fixedNames) Resolve(name string) (netip.Addr, error) {
	answer := f.Assign(f.config, name)
	if len(answer.Addresses) == 0 {
		// ALLOW_ANY: a real address, whichever; the decision is the same for each.
		return netip.MustParseAddr("192.0.2.1"), nil
	}
	return answer.Addresses[0], nil
}
