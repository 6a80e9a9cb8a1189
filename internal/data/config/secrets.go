package config

import (
	"crypto/x509"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

// secretPatience is how long a secret of the control plane is waited for: Envoy's default of
// ConfigSource.initial_fetch_timeout, which Istio leaves as it is. Then what needs it serves
// without, and refuses.
const secretPatience = 15 * time.Second

// SecretsChanged lets clusters and listeners serve that have waited for a secret.
func (s *Store) SecretsChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secretsChanged()
	s.publish()
}

func (s *Store) secretsChanged() {
	for name := range s.secretless {
		s.readyCluster(name)
	}
	s.warm()
}

// applySecrets takes an update of secrets. One that is gone stays as long as something needs
// it, as in Envoy: a Secret that is deleted by mistake takes no gateway down.
func (s *Store) applySecrets(u xds.Update) map[string]error {
	versions := make(map[string]string, len(u.Changed))
	for _, r := range u.Changed {
		versions[r.Name] = r.Version
	}
	errs := s.each(u, func(name string, a *anypb.Any) error {
		err := s.putSecret(name, versions[name], a)
		if err != nil {
			s.secrets.Fail(name, err.Error())
		}
		return err
	})
	for _, name := range u.Removed {
		if !slices.Contains(s.wantSecrets, name) {
			s.secrets.Forget(name)
		}
	}
	for _, name := range slices.Concat(u.Absent, u.Removed) {
		s.secrets.Fail(name, "the control plane does not give it; its log says why")
	}
	s.secretsChanged()
	return errs
}

func (s *Store) putSecret(name, version string, a *anypb.Any) error {
	secret, err := s.decoder(name).Secret(a)
	if err == nil {
		err = sameName(name, secret.Name)
	}
	if err != nil {
		return err
	}
	held := credentials.Secret{Name: name, Certificate: secret.Certificate, Authorities: secret.Authorities, Version: version}
	if len(secret.Authorities) > 0 {
		held.Roots = x509.NewCertPool()
		for _, c := range secret.Authorities {
			held.Roots.AddCert(c)
		}
	}
	s.secrets.Put(held)
	return nil
}

// useSecrets notes that a cluster needs secrets of the control plane (by is 1), or no longer
// (-1).
func (s *Store) useSecrets(cl *resource.Cluster, by int) {
	if cl == nil {
		return
	}
	one := func(t *resource.UpstreamTLS) {
		if t == nil {
			return
		}
		for _, name := range t.Subscribed {
			if s.secretUsers[name] += by; s.secretUsers[name] == 0 {
				delete(s.secretUsers, name)
			} else {
				s.secrets.Await(time.Now().Add(secretPatience), name)
			}
			s.secretsWanted = true
		}
	}
	one(cl.TLS)
	for i := range cl.TLSMatches {
		one(cl.TLSMatches[i].TLS)
	}
}

// wantSecretsNow subscribes to the secrets that something needs, but for those that are the
// agent's.
func (s *Store) wantSecretsNow() {
	s.secretsWanted = false
	needed := maps.Clone(s.secretUsers)
	add := func(chain *resource.FilterChain) {
		if chain != nil && chain.TLS != nil {
			for _, name := range chain.TLS.Subscribed {
				needed[name]++
			}
		}
	}
	for _, state := range s.listeners {
		for _, l := range []*resource.Listener{state.latest, state.serving} {
			if l == nil {
				continue
			}
			for _, chain := range l.FilterChains {
				add(chain)
			}
			add(l.DefaultFilterChain)
		}
	}
	maps.DeleteFunc(needed, func(name string, _ int) bool { return s.secrets.Agents(name) })
	names := slices.Sorted(maps.Keys(needed))
	s.secrets.Await(time.Now().Add(secretPatience), names...)
	s.want(xds.SecretType, &s.wantSecrets, names)
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
