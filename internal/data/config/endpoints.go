package config

import (
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

// Clusters and their endpoints: a cluster is ready when its endpoints are known.

func (s *Store) putCluster(name string, a *anypb.Any) error {
	cl, err := s.decoder(name).Cluster(a)
	if err == nil {
		err = sameName(name, cl.Name)
	}
	if err != nil {
		return err
	}
	if old := s.clusters[name]; old != nil && old.EDSServiceName != cl.EDSServiceName {
		s.unuse(old)
	}
	s.useSecrets(cl, 1)
	s.useSecrets(s.clusters[name], -1)
	s.clusters[name] = cl
	if cl.Discovery == resource.DiscoveryEDS {
		if s.users[cl.EDSServiceName] == nil {
			s.users[cl.EDSServiceName] = map[string]bool{}
			if !s.askEndpoints(cl.EDSServiceName, true) {
				s.usersChanged = true
			}
		}
		s.users[cl.EDSServiceName][name] = true
	}
	s.readyCluster(name)
	return nil
}

// unuse forgets that a cluster needs endpoints.
func (s *Store) unuse(cl *resource.Cluster) {
	if cl == nil || cl.Discovery != resource.DiscoveryEDS {
		return
	}
	delete(s.users[cl.EDSServiceName], cl.Name)
	if len(s.users[cl.EDSServiceName]) == 0 {
		delete(s.users, cl.EDSServiceName)
		if !s.askEndpoints(cl.EDSServiceName, false) {
			s.usersChanged = true
		}
		if s.goneEndpoints[cl.EDSServiceName] {
			delete(s.goneEndpoints, cl.EDSServiceName)
			delete(s.endpoints, cl.EDSServiceName)
		}
	}
}

// readyCluster publishes a cluster when its endpoints are known.
func (s *Store) readyCluster(name string) {
	cl := s.clusters[name]
	if cl == nil || s.clusterAwaits(cl) || cl.Discovery == resource.DiscoveryEDS && s.endpoints[cl.EDSServiceName] == nil {
		return
	}
	if s.named[name] != nil {
		s.holdCluster(withEndpoints(cl, s.endpoints))
		return
	}
	s.ready[name] = withEndpoints(cl, s.endpoints)
	s.changed.clusters = true
}

func (s *Store) removeClusters(names []string) {
	for _, name := range names {
		s.forgetCluster(name)
	}
}

func (s *Store) forgetCluster(name string) {
	s.unuse(s.clusters[name])
	s.useSecrets(s.clusters[name], -1)
	delete(s.clusters, name)
	delete(s.secretless, name)
	delete(s.hashes[xds.ClusterType], name)
	s.bodies.drop(xds.ClusterType, name)
	if s.ready[name] != nil {
		delete(s.ready, name)
		s.changed.clusters = true
	}
	s.unholdCluster(name)
}

func (s *Store) putEndpoints(name string, a *anypb.Any) error {
	e, err := s.decoder(name).Endpoints(a)
	if err == nil {
		err = sameName(name, e.ClusterName)
	}
	if err != nil {
		return err
	}
	delete(s.goneEndpoints, name)
	s.endpoints[name] = e
	for cluster := range s.users[name] {
		s.readyCluster(cluster)
	}
	return nil
}

// removeEndpoints drops what no cluster needs. Like Envoy it keeps what one still
// needs: the cluster goes on with the last endpoints.
func (s *Store) removeEndpoints(names []string) {
	for _, name := range names {
		if len(s.users[name]) == 0 {
			delete(s.endpoints, name)
		} else if s.endpoints[name] != nil {
			s.goneEndpoints[name] = true
		}
	}
}
