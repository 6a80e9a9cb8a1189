package mesh

import (
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"
	security "istio.io/api/security/v1beta1"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// MutualTLS is what a workload takes on a port.
type MutualTLS uint8

// The modes of PeerAuthentication. The zero value is Istio's default.
const (
	MutualTLSPermissive MutualTLS = iota // the mesh's TLS and plain text
	MutualTLSStrict                      // nothing but the mesh's TLS
	MutualTLSDisable                     // what comes is the workload's: no TLS is ended for it
)

// PeerPolicy is what a workload takes, of all PeerAuthentications that are for it.
type PeerPolicy struct {
	Mode  MutualTLS
	Ports map[uint32]MutualTLS // of the workload, those that are named; read-only
	// Objects said so, the widest first.
	Objects []istioapi.Ref
}

// Port is the mode of one port of the workload.
func (p *PeerPolicy) Port(number uint32) MutualTLS {
	if m, ok := p.Ports[number]; ok {
		return m
	}
	return p.Mode
}

// peerPolicies are the PeerAuthentications of one namespace.
type peerPolicies struct {
	general   *istioapi.PeerAuthentication   // without a selector: the oldest
	selecting []*istioapi.PeerAuthentication // the oldest first
}

func (s *Snapshot) indexPeers(objects []*istioapi.PeerAuthentication) {
	s.peers = map[string]*peerPolicies{}
	sum := sha256.New()
	for _, o := range byAge(objects, func(p *istioapi.PeerAuthentication) *istioapi.Meta { return &p.Meta }) {
		at := s.peers[o.Namespace]
		if at == nil {
			at = &peerPolicies{}
			s.peers[o.Namespace] = at
		}
		switch {
		case len(o.Spec.GetSelector().GetMatchLabels()) > 0:
			at.selecting = append(at.selecting, o)
		case at.general == nil:
			at.general = o
		}
		s.someDisable = s.someDisable || disables(o.Spec)
		body, _ := proto.MarshalOptions{Deterministic: true}.Marshal(o.Spec) // valid text, as it was decoded
		fmt.Fprintf(sum, "%q %x\n", o.Ref, body)
	}
	if len(objects) > 0 {
		s.peersSum = string(sum.Sum(nil))
	}
}

func disables(p *security.PeerAuthentication) bool {
	if p.GetMtls().GetMode() == security.PeerAuthentication_MutualTLS_DISABLE {
		return true
	}
	for _, m := range p.GetPortLevelMtls() {
		if m.GetMode() == security.PeerAuthentication_MutualTLS_DISABLE {
			return true
		}
	}
	return false
}

// PeersSum is the same for snapshots with the same PeerAuthentications; "" for none.
func (s *Snapshot) PeersSum() string { return s.peersSum }

// PeerPolicy is what a workload takes, as Istio composes it (ComposePeerAuthentication in
// istio/istio pilot/pkg/security/authn): the mesh's object, which is that of the root
// namespace without a selector, then the namespace's, then the oldest one that selects the
// workload, each for what it sets. Selectors in the root namespace have no effect.
func (s *Snapshot) PeerPolicy(namespace string, labels map[string]string) PeerPolicy {
	var out PeerPolicy
	out.apply(s.peers[s.rootNamespace].whole())
	own := s.peers[namespace]
	if namespace == s.rootNamespace || own == nil {
		return out
	}
	out.apply(own.general)
	for _, o := range own.selecting {
		if subset(o.Spec.GetSelector().GetMatchLabels(), labels) {
			out.apply(o)
			out.applyPorts(o.Spec)
			break
		}
	}
	return out
}

func (p *peerPolicies) whole() *istioapi.PeerAuthentication {
	if p == nil {
		return nil
	}
	return p.general
}

func (p *PeerPolicy) apply(o *istioapi.PeerAuthentication) {
	if o == nil {
		return
	}
	p.Mode = modeOf(o.Spec.GetMtls(), p.Mode)
	p.Objects = append(p.Objects, o.Ref)
}

func (p *PeerPolicy) applyPorts(spec *security.PeerAuthentication) {
	p.Ports = make(map[uint32]MutualTLS, len(spec.GetPortLevelMtls()))
	for number, m := range spec.GetPortLevelMtls() {
		p.Ports[number] = modeOf(m, p.Mode)
	}
}

// modeOf is the mode that m sets, else that of around it.
func modeOf(m *security.PeerAuthentication_MutualTLS, around MutualTLS) MutualTLS {
	switch m.GetMode() {
	case security.PeerAuthentication_MutualTLS_DISABLE:
		return MutualTLSDisable
	case security.PeerAuthentication_MutualTLS_PERMISSIVE:
		return MutualTLSPermissive
	case security.PeerAuthentication_MutualTLS_STRICT:
		return MutualTLSStrict
	}
	return around
}

// AutoMutualTLS: proxies choose the mesh's TLS by themselves where the other side takes it
// (MeshConfig.enableAutoMtls, on by default).
func (s *Snapshot) AutoMutualTLS() bool {
	return s.pods && (s.config.GetEnableAutoMtls() == nil || s.config.GetEnableAutoMtls().GetValue())
}

// TakesMutualTLS: the endpoint of the service has a proxy that takes the mesh's TLS on its
// port.
func (s *Snapshot) TakesMutualTLS(svc *Service, e *Endpoint, port uint32) bool {
	if !e.MutualTLS || !s.someDisable {
		return e.MutualTLS
	}
	namespace := e.Namespace
	if namespace == "" {
		namespace = svc.Namespace
	}
	policy := s.PeerPolicy(namespace, e.Labels)
	return policy.Port(port) != MutualTLSDisable
}
