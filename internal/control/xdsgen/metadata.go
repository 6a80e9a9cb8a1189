package xdsgen

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"

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
// directly in its wire format, with sorted keys, and carried as unrecognized bytes: on
// the wire it is the same message.
func (p *provenance) metadata() *corev3.Metadata {
	var b []byte
	if objects := p.encodeObjects(); objects != nil {
		b = appendMapEntry(b, "egret", appendField(nil, "objects", objects))
	}
	if istio := p.encodeIstio(); istio != nil {
		b = appendMapEntry(b, "istio", istio)
	}
	if b == nil {
		return nil
	}
	m := &corev3.Metadata{}
	m.ProtoReflect().SetUnknown(b)
	return m
}

func (p *provenance) encodeObjects() []byte {
	var list []byte
	for i, o := range p.objects {
		if o == (istioapi.Ref{}) || slices.Contains(p.objects[:i], o) {
			continue
		}
		list = appendListItem(list, stringValue(o.Kind+"/"+o.Namespace+"/"+o.Name))
	}
	if list == nil {
		return nil
	}
	return listValue(list)
}

// encodeIstio is the Struct that Istio puts under "istio".
func (p *provenance) encodeIstio() []byte {
	var b []byte
	if p.config != (istioapi.Ref{}) {
		b = appendField(b, "config", stringValue(configPath(p.config)))
	}
	if p.external {
		b = appendField(b, "external", boolValue(true))
	}
	if len(p.services) > 0 {
		var list []byte
		for _, s := range p.services {
			entry := appendField(nil, "host", stringValue(s.Host))
			entry = appendField(entry, "name", stringValue(shortName(s)))
			entry = appendField(entry, "namespace", stringValue(s.Namespace))
			list = appendListItem(list, structValue(entry))
		}
		b = appendField(b, "services", listValue(list))
	}
	if p.subset != "" {
		b = appendField(b, "subset", stringValue(p.subset))
	}
	return b
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

// The wire format of google.protobuf.Struct: Struct.fields = 1 (map), Value.string_value
// = 3, Value.bool_value = 4, Value.struct_value = 5, Value.list_value = 6,
// ListValue.values = 1. Metadata.filter_metadata = 1 (map) has the same shape as a Struct.

func appendMapEntry[V []byte | string](b []byte, key string, value V) []byte {
	size := sizeOf(len(key)) + sizeOf(len(value))
	b = slices.Grow(b, sizeOf(size))
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	return appendBytes(appendBytes(b, 1, key), 2, value)
}

// sizeOf is the size of a length-delimited field (with a number under 16) of n bytes.
func sizeOf(n int) int { return 1 + protowire.SizeBytes(n) }

func appendField(b []byte, key string, value []byte) []byte { return appendMapEntry(b, key, value) }
func appendListItem(b, value []byte) []byte                 { return appendBytes(b, 1, value) }
func stringValue(s string) []byte                           { return appendBytes(nil, 3, s) }
func structValue(fields []byte) []byte                      { return appendBytes(nil, 5, fields) }
func listValue(items []byte) []byte                         { return appendBytes(nil, 6, items) }

func boolValue(v bool) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, 4, protowire.VarintType), protowire.EncodeBool(v))
}

func appendBytes[V []byte | string](b []byte, field protowire.Number, value V) []byte {
	b = slices.Grow(b, sizeOf(len(value)))
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return append(protowire.AppendVarint(b, uint64(len(value))), value...)
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
