package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Secret is what a name of SDS stands for: a certificate with its key, or authorities.
type Secret struct {
	Name        string
	Certificate *tls.Certificate // with its Leaf; not changed any more
	Roots       *x509.CertPool
}

// Secrets are the secrets that TLS contexts refer to by name, in memory: who has them
// puts them there, at any time, and handshakes take what is there in that moment. A nil
// *Secrets is a proxy without an agent: it has none, and will have none.
type Secrets struct {
	mu      sync.Mutex
	all     map[string]Secret // without content: it is expected
	changed chan struct{}     // closed at the next Put
}

// NewSecrets makes Secrets that expect secrets of these names. Whoever needs one of them
// does well to wait for it; others will not come.
func NewSecrets(names ...string) *Secrets {
	s := &Secrets{all: map[string]Secret{}, changed: make(chan struct{})}
	for _, n := range names {
		s.all[n] = Secret{Name: n}
	}
	return s
}

// Put replaces secrets, all at once.
func (s *Secrets) Put(list ...Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range list {
		s.all[secret.Name] = secret
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed is closed when something is put. A nil *Secrets never changes.
func (s *Secrets) Changed() <-chan struct{} {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Awaited reports whether a secret is expected that is not there yet.
func (s *Secrets) Awaited(name string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, expected := s.all[name]
	return expected && secret.Certificate == nil && secret.Roots == nil
}

// Certificate is the one of a name. An expired one is an error, which says so: no peer
// would take it.
func (s *Secrets) Certificate(name string) (*tls.Certificate, error) {
	secret, err := s.get(name)
	switch {
	case err != nil:
		return nil, err
	case secret.Certificate == nil:
		return nil, fmt.Errorf("the secret %q is no certificate", name)
	case time.Now().After(secret.Certificate.Leaf.NotAfter):
		return nil, fmt.Errorf("the certificate %q expired at %s, and no other has come", name, secret.Certificate.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return secret.Certificate, nil
}

// Roots are the authorities of a name.
func (s *Secrets) Roots(name string) (*x509.CertPool, error) {
	secret, err := s.get(name)
	if err == nil && secret.Roots == nil {
		err = fmt.Errorf("the secret %q has no authorities", name)
	}
	return secret.Roots, err
}

func (s *Secrets) get(name string) (Secret, error) {
	if s == nil {
		return Secret{}, fmt.Errorf("the secret %q needs an agent (SDS), and there is none", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, expected := s.all[name]
	switch {
	case !expected:
		return secret, fmt.Errorf("there is no secret %q: the agent has %q", name, slices.Sorted(maps.Keys(s.all)))
	case secret.Certificate == nil && secret.Roots == nil:
		return secret, fmt.Errorf("the secret %q has not come yet", name)
	}
	return secret, nil
}

// Held is the certificate of a name of some Secrets, for who takes certificates from
// several places.
type Held struct {
	Secrets *Secrets
	Name    string
}

// Get returns the certificate of this moment.
func (h Held) Get() (*tls.Certificate, error) { return h.Secrets.Certificate(h.Name) }
