package control

import (
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/xds"
)

// recorded keeps the resources that were made of each snapshot for each node, so that a
// change back to what was there before only has to be sent. A control plane is elsewhere;
// here it has the processor of the load and the origin, and making resources would hold
// these up, whatever the proxy does.
type recorded struct {
	mu        sync.Mutex
	generator *xdsgen.Generator
	maker     xds.Generator // from generator
	current   *mesh.Snapshot
	made      map[recordedKey]xds.Snapshot
}

type recordedKey struct {
	snapshot *mesh.Snapshot
	node     string
}

func newRecorded(first *mesh.Snapshot, o Options) *recorded {
	g := xdsgen.NewGenerator(first, nil)
	return &recorded{
		generator: g, maker: binder{g, o.Binds, o.Gateway.Address}, current: first,
		made: map[recordedKey]xds.Snapshot{},
	}
}

func (r *recorded) set(s *mesh.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = s
	r.generator.Set(s)
}

// Generate implements xds.Generator.
func (r *recorded) Generate(n *corev3.Node) (xds.Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := recordedKey{r.current, n.GetId()}
	if s, ok := r.made[key]; ok {
		return s, nil
	}
	s, err := r.maker.Generate(n)
	if err == nil {
		r.made[key] = s
	}
	return s, err
}
