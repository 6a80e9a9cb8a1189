package config

import (
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

// namedCluster is a cluster that is subscribed to by name, for as long as something
// refers to it.
type namedCluster struct {
	users int
	known bool // it is ready, or the control plane says that there is none, or it was refused
	ready bool
}

// useCluster subscribes to a cluster that something refers to, unless all clusters are
// subscribed to anyway and this one is there.
func (s *Store) useCluster(name string) {
	c := s.named[name]
	if c == nil {
		if !s.onDemand && s.ready[name] != nil {
			return
		}
		c = &namedCluster{}
		s.named[name] = c
		if s.subscriber != nil {
			s.subscriber.Ask(xds.ClusterType, []string{name}, nil)
		}
	}
	c.users++
}

// unuseCluster ends a useCluster.
func (s *Store) unuseCluster(name string) {
	c := s.named[name]
	if c == nil {
		return
	}
	if c.users--; c.users > 0 {
		return
	}
	delete(s.named, name)
	if s.subscriber != nil {
		s.subscriber.Ask(xds.ClusterType, nil, []string{name})
	}
	s.forgetCluster(name)
}

// clustersKnown notes what became of clusters that are subscribed to by name.
func (s *Store) clustersKnown(u xds.Update, errs map[string]error) {
	for name := range errs {
		if s.clusters[name] == nil {
			s.clusterKnown(name, false)
		}
	}
	for _, names := range [][]string{u.Removed, u.Absent} {
		for _, name := range names {
			s.clusterKnown(name, false)
		}
	}
}

func (s *Store) clusterKnown(name string, ready bool) {
	c := s.named[name]
	if c == nil || c.known && c.ready == ready {
		return
	}
	c.known, c.ready = true, ready
	if q := s.demand.all[Need{Kind: NeedCluster, Name: name}]; q != nil {
		s.settleCluster(q, c)
	}
	// What waits for it is not answered yet, so there is a bound on how many there are.
	for e := s.demand.flying.Front(); e != nil; {
		q := e.Value.(*inquiry)
		e = e.Next() // before q leaves the list
		s.settleIfReady(q)
	}
	for q := range s.rewarm {
		if s.settleIfReady(q); !q.waiting {
			delete(s.rewarm, q)
		}
	}
}

// settleCluster answers who asked for a cluster itself.
func (s *Store) settleCluster(q *inquiry, c *namedCluster) {
	outcome := Absent
	if c.ready {
		outcome = Found
	}
	s.settle(q, outcome, "")
}

// holdCluster puts a cluster that is subscribed to by name into the next configuration.
func (s *Store) holdCluster(c *Cluster) {
	n := Need{Kind: NeedCluster, Name: c.Name}
	h := &Held{Cluster: c, use: new(use)}
	if q := s.demand.all[n]; q != nil {
		h.use = q.use
	}
	s.changed.revised = s.changed.revised || s.named[c.Name].ready
	s.setHeld(n, h)
	s.clusterKnown(c.Name, true)
}

func (s *Store) unholdCluster(name string) {
	n := Need{Kind: NeedCluster, Name: name}
	if _, ok := s.held.Get(n); ok {
		s.changed.revised = s.changed.revised || s.named[name] != nil // else nothing refers to it
		s.setHeld(n, nil)
	}
}

// askEndpoints subscribes to the endpoints of one name, or no longer. It returns false
// where all that is needed is to be subscribed to at once.
func (s *Store) askEndpoints(name string, more bool) bool {
	if !s.onDemand {
		return false
	}
	if more {
		if s.subscriber != nil {
			s.subscriber.Ask(xds.EndpointType, []string{name}, nil)
		}
		return true
	}
	delete(s.endpoints, name)
	delete(s.goneEndpoints, name)
	delete(s.hashes[xds.EndpointType], name)
	if s.subscriber != nil {
		s.subscriber.Ask(xds.EndpointType, nil, []string{name})
	}
	return true
}

// noEndpoints: where there are none the cluster is there without.
func (s *Store) noEndpoints(names []string) {
	for _, name := range names {
		if s.endpoints[name] != nil {
			continue
		}
		for cluster := range s.users[name] {
			s.endpoints[name] = &resource.Endpoints{ClusterName: name}
			s.readyCluster(cluster)
		}
	}
}

// useBase subscribes to the clusters that the listeners and routes refer to which are
// there from the start.
func (s *Store) useBase() {
	if !s.onDemand {
		return
	}
	base := map[string]bool{}
	add := func(names []string) {
		for _, n := range names {
			base[n] = true
		}
	}
	for _, state := range s.listeners {
		for _, l := range []*resource.Listener{state.latest, state.serving} {
			if l == nil {
				continue
			}
			for _, chain := range l.FilterChains {
				add(chain.Clusters())
			}
			if l.DefaultFilterChain != nil {
				add(l.DefaultFilterChain.Clusters())
			}
		}
	}
	for _, rc := range s.routes {
		for _, vh := range rc.VirtualHosts {
			add(vh.Clusters())
		}
	}
	for name := range base {
		if !s.base[name] {
			s.useCluster(name)
		}
	}
	for name := range s.base {
		if !base[name] {
			s.unuseCluster(name)
		}
	}
	s.base = base
}
