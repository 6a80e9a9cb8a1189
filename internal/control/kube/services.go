package kube

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// registry makes the mesh's services of Services, EndpointSlices, Pods and Nodes. Only what
// a change concerns is made anew.
type registry struct {
	cluster  *Cluster
	services *table[*service]
	slices   *table[*slice]
	pods     *table[*pod]
	nodes    *table[string] // locality

	mu         sync.Mutex // guards what follows; never held while a table is asked
	dirty      map[key]bool
	everything bool
	bySvc      map[key]map[key]*slice // Service -> its slices
	users      map[key]map[key]int    // Pod -> Services, and in how many of their endpoints
	selecting  map[string]bool        // namespaces with ServiceEntries that may select pods

	// Only publish uses these.
	made map[key]*mesh.Service
	list []*mesh.Service
}

func newRegistry(c *Cluster) *registry {
	r := &registry{
		cluster: c, dirty: map[key]bool{}, bySvc: map[key]map[key]*slice{}, users: map[key]map[key]int{},
		made: map[key]*mesh.Service{},
	}
	r.services = &table[*service]{made: serviceOf, same: same[*service], changed: func(k key, _, _ *service) { r.touch(k) }}
	r.slices = &table[*slice]{made: sliceOf, same: same[*slice], changed: r.sliceChanged}
	r.pods = &table[*pod]{made: podOf, same: same[*pod], changed: func(k key, _, _ *pod) { r.podChanged(k) }}
	r.nodes = &table[string]{made: localityOf, same: same[string], changed: func(_ key, before, after string) {
		if before != after {
			r.touchAll()
		}
	}}
	return r
}

func same[T any](a, b T) bool { return reflect.DeepEqual(a, b) }

func (r *registry) follows() []*follow {
	client := r.cluster.options.Client
	core := client.CoreV1()
	return []*follow{
		newFollow("services", client, core.Services(""), "", r.services),
		newFollow("endpointslices.discovery.k8s.io", client, client.DiscoveryV1().EndpointSlices(""), "", r.slices),
		newFollow("pods", client, core.Pods(""), "", r.pods),
		newFollow("nodes", client, core.Nodes(), "", r.nodes),
	}
}

func (r *registry) touch(services ...key) {
	r.mu.Lock()
	for _, k := range services {
		r.dirty[k] = true
	}
	r.mu.Unlock()
	r.cluster.changed()
}

func (r *registry) touchAll() {
	r.mu.Lock()
	r.everything = true
	r.mu.Unlock()
	r.cluster.changed()
}

func (r *registry) sliceChanged(k key, before, after *slice) {
	r.mu.Lock()
	if before != nil {
		delete(r.bySvc[before.service], k)
		if len(r.bySvc[before.service]) == 0 {
			delete(r.bySvc, before.service)
		}
		r.dirty[before.service] = true
		r.use(before, -1)
	}
	if after != nil {
		if r.bySvc[after.service] == nil {
			r.bySvc[after.service] = map[key]*slice{}
		}
		r.bySvc[after.service][k] = after
		r.dirty[after.service] = true
		r.use(after, 1)
	}
	r.mu.Unlock()
	r.cluster.changed()
}

// use counts which services a pod is an endpoint of; r.mu is held.
func (r *registry) use(s *slice, by int) {
	for i := range s.endpoints {
		k := key{s.service.namespace, s.endpoints[i].pod}
		if k.name == "" {
			continue
		}
		if r.users[k] == nil {
			r.users[k] = map[key]int{}
		}
		if r.users[k][s.service] += by; r.users[k][s.service] == 0 {
			delete(r.users[k], s.service)
		}
		if len(r.users[k]) == 0 {
			delete(r.users, k)
		}
	}
}

func (r *registry) podChanged(k key) {
	r.mu.Lock()
	touched := len(r.users[k]) > 0 || r.selecting[k.namespace]
	for s := range r.users[k] {
		r.dirty[s] = true
	}
	r.mu.Unlock()
	if touched {
		r.cluster.changed()
	}
}

// all are the services, the oldest first; each is the same as before where nothing of it
// changed. Only one goroutine may call it.
func (r *registry) all() []*mesh.Service {
	r.mu.Lock()
	dirty, everything := r.dirty, r.everything
	r.dirty, r.everything = map[key]bool{}, false
	r.mu.Unlock()
	if everything {
		r.services.each(func(k key, _ *service) { dirty[k] = true })
	}
	if len(dirty) == 0 {
		return r.list
	}
	for k := range dirty {
		r.make(k)
	}
	type aged struct {
		key
		made *mesh.Service
		s    *service
	}
	var list []aged
	r.services.each(func(k key, s *service) {
		if m := r.made[k]; m != nil {
			list = append(list, aged{k, m, s})
		}
	})
	slices.SortFunc(list, func(a, b aged) int {
		return cmp.Or(a.s.created.Compare(b.s.created), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	r.list = make([]*mesh.Service, len(list))
	for i, a := range list {
		r.list[i] = a.made
	}
	return r.list
}

// make makes a service anew, unless it is as it was.
func (r *registry) make(k key) {
	s, ok := r.services.get(k)
	if !ok {
		delete(r.made, k)
		return
	}
	r.mu.Lock()
	parts := make([]*slice, 0, len(r.bySvc[k]))
	for _, part := range r.bySvc[k] {
		parts = append(parts, part)
	}
	r.mu.Unlock()
	made := meshService(s, r.cluster.options.Domain, endpointsOf(s, parts, r))
	if old := r.made[k]; old == nil || !reflect.DeepEqual(old, made) {
		r.made[k] = made
	}
}

// pod implements places.
func (r *registry) pod(k key) *pod {
	p, _ := r.pods.get(k)
	return p
}

// selects says which ServiceEntries there are: where some select workloads a change of a pod
// matters.
func (r *registry) selects(entries []*istioapi.ServiceEntry) {
	selecting := map[string]bool{}
	for _, e := range entries {
		if len(e.Spec.GetWorkloadSelector().GetLabels()) > 0 {
			selecting[e.Namespace] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.selecting = selecting
}

// workloads are the ready pods of the namespaces where some ServiceEntry selects workloads, in
// the order of their names.
func (r *registry) workloads() []mesh.Endpoint {
	r.mu.Lock()
	selecting := r.selecting
	r.mu.Unlock()
	if len(selecting) == 0 {
		return nil
	}
	chosen := map[key]*pod{}
	r.pods.each(func(k key, p *pod) {
		if p != nil && selecting[k.namespace] && len(p.addresses) > 0 {
			chosen[k] = p
		}
	})
	keys := slices.SortedFunc(maps.Keys(chosen), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	out := make([]mesh.Endpoint, 0, len(keys))
	for _, k := range keys {
		out = append(out, chosen[k].workload(k.namespace, r))
	}
	return out
}

// place is where a pod is.
func (r *registry) place(k key) string {
	p := r.pod(k)
	if p == nil {
		return ""
	}
	return cmp.Or(p.locality, r.locality(p.node))
}

// locality implements places.
func (r *registry) locality(node string) string {
	l, _ := r.nodes.get(key{name: node})
	return l
}
