package kube

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/egret-mesh/egret/internal/control/sds"
)

// secretSelector leaves out what never has certificates of gateways and is large and many
// (istio.io/istio/pilot/pkg/credentials/kube).
const secretSelector = "type!=helm.sh/release.v1,type!=" + string(corev1.SecretTypeServiceAccountToken)

// linger is how long the Secrets of a namespace are kept after the last proxy that wants some
// is gone, so that one that connects again waits for nothing.
const linger = time.Minute

// Secrets are the Secrets of those namespaces in which a proxy wants one: of each its TLS data
// and nothing else. So the control plane reads a key only for who may list the Secrets next to
// it, and a cluster's other Secrets, most of all that it has, are never in its memory. One
// watch of a namespace costs the API server less than one for each Secret.
//
// It is a sds.Secrets; its methods can be used at the same time. Run makes it work.
type Secrets struct {
	options Options
	wake    chan struct{}
	changes chan struct{}

	mu         sync.Mutex // guards what follows
	namespaces map[string]*namespaceSecrets
}

type namespaceSecrets struct {
	users  int
	since  time.Time // when users became 0
	table  *table[*sds.Secret]
	follow *follow
	end    context.CancelFunc // nil: not begun
}

// NewSecrets makes Secrets that follow nothing yet. Of the options Client, Retry and Logger
// count.
func NewSecrets(o Options) *Secrets {
	return &Secrets{options: o.withDefaults(), wake: make(chan struct{}, 1), changes: make(chan struct{}, 1), namespaces: map[string]*namespaceSecrets{}}
}

// Hold implements sds.Secrets.
func (s *Secrets) Hold(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.namespaces[namespace]
	if n == nil {
		n = &namespaceSecrets{table: &table[*sds.Secret]{
			made: secretOf, same: (*sds.Secret).Same,
			changed: func(key, *sds.Secret, *sds.Secret) { signal(s.changes) },
		}}
		client := s.options.Client
		n.follow = newFollow("secrets of "+namespace, client, client.CoreV1().Secrets(namespace), secretSelector, n.table)
		s.namespaces[namespace] = n
		signal(s.wake)
	}
	n.users++
}

// Release implements sds.Secrets.
func (s *Secrets) Release(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.namespaces[namespace]; n != nil {
		n.users--
		n.since = time.Now()
	}
}

// Secret implements sds.Secrets.
func (s *Secrets) Secret(namespace, name string) (secret *sds.Secret, known bool) {
	s.mu.Lock()
	n := s.namespaces[namespace]
	s.mu.Unlock()
	if n == nil {
		return nil, false
	}
	select {
	case <-n.follow.settled:
		secret, _ = n.table.get(key{namespace, name})
		return secret, true
	default:
		return nil, false
	}
}

// Changed implements sds.Secrets.
func (s *Secrets) Changed() <-chan struct{} { return s.changes }

// Run follows what is held until ctx ends; then it returns nil.
func (s *Secrets) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	tick := time.NewTicker(linger)
	defer tick.Stop()
	for {
		s.mu.Lock()
		for name, n := range s.namespaces {
			switch {
			case n.end == nil:
				var own context.Context
				own, n.end = context.WithCancel(ctx)
				following.Go(func() { n.follow.run(own, s.options) })
				following.Go(func() { s.tellSettled(own, n.follow) })
			case n.users == 0 && time.Since(n.since) >= linger:
				n.end()
				delete(s.namespaces, name)
			}
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			s.endAll()
			return nil
		case <-s.wake:
		case <-tick.C:
		}
	}
}

// tellSettled says that the Secrets of a namespace are known now.
func (s *Secrets) tellSettled(ctx context.Context, f *follow) {
	select {
	case <-f.settled:
		signal(s.changes)
	case <-ctx.Done():
	}
}

func (s *Secrets) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.namespaces {
		if n.end != nil {
			n.end()
		}
	}
}

// secretOf keeps of a Secret its TLS data.
func secretOf(m metav1.Object, last *sds.Secret) *sds.Secret {
	s, ok := m.(*corev1.Secret)
	if !ok {
		return last
	}
	return sds.ReadSecret(s.Data, last)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
