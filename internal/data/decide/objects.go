package decide

import (
	"slices"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Objects are the Istio objects behind a decision, nearest to the verdict first,
// each once, as far as the control plane told them.
func (p *RoutePlan) Objects(cfg *config.Config) []resource.Object {
	var out []resource.Object
	if p.Route != nil {
		out = add(out, p.Route.Objects)
	}
	if p.VirtualHost != nil {
		out = add(out, p.VirtualHost.Objects)
	}
	if p.Verdict == Forward && p.Route != nil && p.Route.Forward != nil {
		out = addClusters(out, cfg, p.Route.Forward.Clusters)
	}
	return out
}

func addClusters(out []resource.Object, cfg *config.Config, clusters []resource.WeightedCluster) []resource.Object {
	for i := range clusters {
		if cl := cfg.Cluster(clusters[i].Name); cl != nil {
			out = add(out, cl.Objects)
		}
	}
	return out
}

func add(out, more []resource.Object) []resource.Object {
	for _, o := range more {
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}
