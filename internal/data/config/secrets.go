package config

import (
	"slices"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// SecretsChanged lets clusters and listeners serve that have waited for a secret.
func (s *Store) SecretsChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.secretless {
		s.readyCluster(name)
	}
	s.warm()
	s.publish()
}

// awaits reports whether one of these secrets is still to come.
func (s *Store) awaits(names []string) bool { return slices.ContainsFunc(names, s.secrets.Awaited) }

// clusterAwaits is awaits for all that a cluster connects with, and remembers it.
func (s *Store) clusterAwaits(cl *resource.Cluster) bool {
	waits := s.awaits(cl.TLS.Secrets())
	for i := range cl.TLSMatches {
		waits = waits || s.awaits(cl.TLSMatches[i].TLS.Secrets())
	}
	if waits {
		s.secretless[cl.Name] = true
	} else {
		delete(s.secretless, cl.Name)
	}
	return waits
}

// listenerAwaits is awaits for all TLS that a listener ends.
func (s *Store) listenerAwaits(l *resource.Listener) bool {
	for _, chain := range l.FilterChains {
		if s.awaits(chain.TLS.Secrets()) {
			return true
		}
	}
	return l.DefaultFilterChain != nil && s.awaits(l.DefaultFilterChain.TLS.Secrets())
}
