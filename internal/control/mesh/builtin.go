package mesh

import (
	"slices"
	"strings"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// builtIn is a built-in service as the snapshot has it. One that stays the same in memory
// from snapshot to snapshot stays the same here, so that nobody has to compare its
// endpoints.
func (r *registry) builtIn(s *Service) *Service {
	defaults := r.snapshot.config.GetDefaultServiceExportTo()
	outside := r.outside(s)
	if p := r.previous; len(outside) == 0 && p != nil && !p.joined[s] && slices.Equal(p.config.GetDefaultServiceExportTo(), defaults) {
		if made := p.builtIn[s]; made != nil {
			return made
		}
	}
	c := *s
	c.Host, c.ExternalName = strings.ToLower(c.Host), strings.ToLower(strings.TrimSuffix(c.ExternalName, "."))
	c.Sources = []istioapi.Ref{s.Source}
	if c.Registry == RegistryKubernetes {
		c.Internal = true
		c.visible = newVisibility(s.ExportTo, defaults, s.Namespace)
	} else {
		c.visible = newVisibility(s.ExportTo, nil, s.Namespace)
	}
	if len(outside) > 0 {
		c.Endpoints = slices.Concat(c.Endpoints, outside)
		r.snapshot.joined[s] = true
	}
	if slices.ContainsFunc(c.Ports, isUDP) { // never captured
		c.Ports = slices.DeleteFunc(slices.Clone(c.Ports), isUDP)
	}
	return &c
}

// outside are the WorkloadEntries that a Service of Kubernetes selects, as if they were pods.
func (r *registry) outside(s *Service) []Endpoint {
	if s.Registry != RegistryKubernetes || len(s.Selector) == 0 || len(r.objects.WorkloadEntries) == 0 {
		return nil
	}
	return r.selected(s.Namespace, s.Selector, true)
}

func isUDP(p Port) bool { return p.Protocol == ProtocolUDP }

// aliases takes the services that only are another name out of the list, and gives their
// names to what they stand for, as Istio does: calling one is calling the other. Where the
// registry does not have the other, nothing stands for the name: an ExternalName must
// not open what no object of the mesh does.
func (r *registry) aliases() {
	names := map[string]string{}
	for _, s := range r.services {
		if s.ExternalName != "" {
			names[s.Host] = s.ExternalName
		}
	}
	if len(names) == 0 {
		return
	}
	r.services = slices.DeleteFunc(r.services, func(s *Service) bool { return s.ExternalName != "" })
	byHost := make(map[string][]int, len(r.services))
	for i, s := range r.services {
		byHost[s.Host] = append(byHost[s.Host], i)
	}
	for _, alias := range sortedKeys(names) {
		for _, at := range byHost[followed(names, alias)] {
			s := r.writable(at)
			s.Aliases = append(slices.Clip(s.Aliases), alias)
		}
	}
}

// followed is what an alias stands for in the end; "" where that is a circle.
func followed(names map[string]string, alias string) string {
	host := alias
	for range names {
		next, ok := names[host]
		if !ok {
			return host
		}
		host = next
	}
	if names[host] != "" {
		return ""
	}
	return host
}
