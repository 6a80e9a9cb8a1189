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
	// Authorities are those of Roots, for people to read; nil where they are not known.
	Authorities []*x509.Certificate
	// Version is the control plane's; Updated when it was put here.
	Version string
	Updated time.Time
}

func (s Secret) empty() bool { return s.Certificate == nil && s.Roots == nil }

// Secrets are the secrets that TLS contexts refer to by name, in memory: those of the agent,
// whose names are known from the start, and those that the control plane gives. Who has them
// puts them there, at any time, and handshakes take what is there in that moment. A nil
// *Secrets has none, and will have none.
type Secrets struct {
	agents map[string]bool

	mu      sync.Mutex        // guards what follows
	all     map[string]*entry // those that are expected
	changed chan struct{}     // closed at the next change
}

type entry struct {
	Secret
	until   time.Time // how long it is waited for; zero: for ever
	problem string    // why there is none, or no newer one; "" none
}

// NewSecrets makes Secrets that expect secrets of these names from the agent. Whoever needs
// one of them does well to wait for it; others will not come, unless they are expected from
// the control plane.
func NewSecrets(names ...string) *Secrets {
	s := &Secrets{agents: map[string]bool{}, all: map[string]*entry{}, changed: make(chan struct{})}
	for _, n := range names {
		s.agents[n] = true
		s.all[n] = &entry{Secret: Secret{Name: n}}
	}
	return s
}

// Agents says whether a secret is the agent's.
func (s *Secrets) Agents(name string) bool { return s != nil && s.agents[name] }

// Await expects secrets of the control plane, besides those that are expected already; they
// are waited for until a time.
func (s *Secrets) Await(until time.Time, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		if s.all[n] == nil {
			s.all[n] = &entry{Secret: Secret{Name: n}, until: until}
			s.tell()
		}
	}
}

// Forget ends expecting a secret of the control plane, and having it.
func (s *Secrets) Forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.agents[name] {
		delete(s.all, name)
	}
}

// Put replaces secrets, all at once. One that nobody expects is not kept.
func (s *Secrets) Put(list ...Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range list {
		if e := s.all[secret.Name]; e != nil {
			secret.Updated = time.Now()
			e.Secret, e.problem = secret, ""
		}
	}
	s.tell()
}

// Fail says why a secret has not come, or no newer one: it is not waited for any longer.
func (s *Secrets) Fail(name, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.all[name]; e != nil {
		e.problem = why
		s.tell()
	}
}

func (s *Secrets) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed is closed when something is put, expected or not waited for any more. A nil
// *Secrets never changes.
func (s *Secrets) Changed() <-chan struct{} {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// awaited: it has not come, and nothing says that it will not; s.mu is held.
func (e *entry) awaited(now time.Time) bool {
	return e.empty() && e.problem == "" && (e.until.IsZero() || now.Before(e.until))
}

// Awaited reports whether a secret is expected that is not there yet.
func (s *Secrets) Awaited(name string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.all[name]
	return e != nil && e.awaited(time.Now())
}

// Patience is the next time at which a secret is not waited for any longer; false: there is
// none.
func (s *Secrets) Patience() (next time.Time, some bool) {
	if s == nil {
		return next, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		if e.awaited(time.Now()) && !e.until.IsZero() && (!some || e.until.Before(next)) {
			next, some = e.until, true
		}
	}
	return next, some
}

// Certificate is the one of a name. An expired one of the agent's is an error, which says so:
// no peer would take it. What the control plane gives is shown as it is, as Envoy does.
func (s *Secrets) Certificate(name string) (*tls.Certificate, error) {
	secret, err := s.get(name)
	switch {
	case err != nil:
		return nil, err
	case secret.Certificate == nil:
		return nil, fmt.Errorf("the secret %q is no certificate", name)
	case s.agents[name] && time.Now().After(secret.Certificate.Leaf.NotAfter):
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
	e := s.all[name]
	switch {
	case e == nil && len(s.agents) == 0:
		return Secret{}, fmt.Errorf("the secret %q needs an agent (SDS), and there is none", name)
	case e == nil:
		return Secret{}, fmt.Errorf("there is no secret %q: the agent has %q", name, slices.Sorted(maps.Keys(s.agents)))
	case e.empty() && e.problem != "":
		return Secret{}, fmt.Errorf("the secret %q: %s", name, e.problem)
	case e.empty():
		return Secret{}, fmt.Errorf("the secret %q has not come yet", name)
	}
	return e.Secret, nil
}

// Status is a secret as it is told, with what is wrong with it.
type Status struct {
	Secret
	Problem string
}

// All are the secrets that are expected, by name.
func (s *Secrets) All() []Status {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Status
	for _, n := range slices.Sorted(maps.Keys(s.all)) {
		out = append(out, Status{s.all[n].Secret, s.all[n].problem})
	}
	return out
}

// Held is the certificate of a name of some Secrets, for who takes certificates from
// several places.
type Held struct {
	Secrets *Secrets
	Name    string
}

// Get returns the certificate of this moment.
func (h Held) Get() (*tls.Certificate, error) { return h.Secrets.Certificate(h.Name) }
