package xdsgen

import (
	"bytes"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// provenance says what a resource was made from.
type provenance struct {
	// config is the object whose path stands in "istio"/"config"; zero: none.
	config istioapi.Ref
	// services, external and subset are what Istio tells of a cluster.
	services []*mesh.Service
	external bool
	subset   string
	// objects are all, for "egret"/"objects".
	objects []istioapi.Ref
}

// metadata encodes p. Struct messages are costly in Go (nested maps of pointers), and
// there is one for each resource, so the body of the Metadata message is written
// directly in its wire format (see begin), with sorted keys, and carried as unrecognized bytes: on
// the wire it is the same message.
func (p *provenance) metadata() *corev3.Metadata {
	var room [512]byte // most need no more
	b := p.encodeIstio(p.encodeObjects(room[:0]))
	if len(b) == 0 {
		return nil
	}
	m := &corev3.Metadata{}
	m.ProtoReflect().SetUnknown(bytes.Clone(b))
	return m
}

// encodeObjects adds "egret", if there are objects.
func (p *provenance) encodeObjects(b []byte) []byte {
	if !slices.ContainsFunc(p.objects, func(o istioapi.Ref) bool { return o != (istioapi.Ref{}) }) {
		return b
	}
	b, entry := beginEntry(b, "egret")
	b, field := beginEntry(b, "objects")
	b, list := begin(b, valueList)
	for i, o := range p.objects {
		if o == (istioapi.Ref{}) || slices.Contains(p.objects[:i], o) {
			continue
		}
		var item, text int
		b, item = begin(b, listValues)
		b, text = begin(b, valueString)
		b = append(append(append(append(append(b, o.Kind...), '/'), o.Namespace...), '/'), o.Name...)
		b = end(end(b, text), item)
	}
	return entry.end(field.end(end(b, list)))
}

// encodeIstio adds the Struct that Istio puts under "istio", if it has anything.
func (p *provenance) encodeIstio(b []byte) []byte {
	if p.config == (istioapi.Ref{}) && !p.external && len(p.services) == 0 && p.subset == "" {
		return b
	}
	b, entry := beginEntry(b, "istio")
	if p.config != (istioapi.Ref{}) {
		b = textEntry(b, "config", configPath(p.config))
	}
	if p.external {
		b = boolEntry(b, "external", true)
	}
	if len(p.services) > 0 {
		b = p.encodeServices(b)
	}
	if p.subset != "" {
		b = textEntry(b, "subset", p.subset)
	}
	return entry.end(b)
}

func (p *provenance) encodeServices(b []byte) []byte {
	b, field := beginEntry(b, "services")
	b, list := begin(b, valueList)
	for _, s := range p.services {
		var item, value int
		b, item = begin(b, listValues)
		b, value = begin(b, valueStruct)
		b = textEntry(b, "host", s.Host)
		b = textEntry(b, "name", shortName(s))
		b = textEntry(b, "namespace", s.Namespace)
		b = end(end(b, value), item)
	}
	return field.end(end(b, list))
}

// shortName is how Istio calls a service: a Service of Kubernetes by the object's name.
func shortName(s *mesh.Service) string {
	if s.Registry == mesh.RegistryKubernetes {
		return s.Source.Name
	}
	return s.Host
}

// configPath is Istio's path of an object: always of version v1, the kind in kebab case.
func configPath(r istioapi.Ref) string {
	var kind strings.Builder
	for i, c := range r.Kind {
		if c >= 'A' && c <= 'Z' {
			if i > 0 {
				kind.WriteByte('-')
			}
			c += 'a' - 'A'
		}
		kind.WriteRune(c)
	}
	return "/apis/networking.istio.io/v1/namespaces/" + r.Namespace + "/" + kind.String() + "/" + r.Name
}

// facts keeps the metadata of services, which many resources share.
type facts struct {
	service map[*mesh.Service]*corev3.Metadata
	policy  *corev3.Metadata
}

func newFacts() facts { return facts{service: map[*mesh.Service]*corev3.Metadata{}} }

// serviceMetadata names a service's objects.
func (b *builder) serviceMetadata(s *mesh.Service) *corev3.Metadata {
	if m, ok := b.facts.service[s]; ok {
		return m
	}
	m := (&provenance{objects: s.Sources}).metadata()
	b.facts.service[s] = m
	return m
}

// servicesMetadata names the objects of several services; nil for none.
func (b *builder) servicesMetadata(list []*mesh.Service) *corev3.Metadata {
	if len(list) == 1 {
		return b.serviceMetadata(list[0])
	}
	var p provenance
	for _, s := range list {
		p.objects = append(p.objects, s.Sources...)
	}
	return p.metadata()
}

// policyMetadata names the object that decided the outbound traffic policy, and the
// Sidecar that says what the node knows of the registry; nil when there are none.
func (b *builder) policyMetadata() *corev3.Metadata {
	if b.facts.policy == nil {
		objects := []istioapi.Ref{b.scope.Policy.Object}
		if s := b.scope.Sidecar; s != nil && s.Ref != b.scope.Policy.Object {
			objects = append(objects, s.Ref)
		}
		b.facts.policy = (&provenance{objects: objects}).metadata()
	}
	return b.facts.policy
}
