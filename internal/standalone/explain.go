package standalone

import (
	"net/netip"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/explain"
)

// Explain says what would happen to a call of the workload, with the configuration
// that its proxies would get for objects.
func Explain(objects istioapi.Objects, w Workload, call explain.Call) (explain.Result, error) {
	snapshot, _ := mesh.New(objects, Registry(objects)) // its problems are analyze's to tell
	return explain.Explain(explain.Mesh{
		Snapshot: snapshot,
		Caller:   explain.Node{Node: SidecarNode(w), Title: "sidecar"},
		Gateway: func(at netip.AddrPort) (*explain.Node, error) {
			if at.Addr() != gatewayAddress {
				return nil, nil
			}
			return &explain.Node{Node: GatewayNode(), Title: gatewayName}, nil
		},
	}, call)
}
