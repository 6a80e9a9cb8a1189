package resource

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// objectsOf reads the Istio objects from metadata: our control plane's list
// filter_metadata["egret"]["objects"], Istio's own "istio"/"config" path, and where
// neither is there Istio's "services" list. It is for people only: what it cannot
// read it leaves out.
func objectsOf(m *corev3.Metadata) []Object {
	if m == nil {
		return nil
	}
	var out []Object
	add := func(o Object, ok bool) {
		if ok && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	for _, v := range m.GetFilterMetadata()["egret"].GetFields()["objects"].GetListValue().GetValues() {
		add(parseObject(v.GetStringValue()))
	}
	istio := m.GetFilterMetadata()["istio"].GetFields()
	add(parseConfigPath(istio["config"].GetStringValue()))
	if len(out) == 0 {
		for _, v := range istio["services"].GetListValue().GetValues() {
			add(serviceObject(v.GetStructValue()))
		}
	}
	return out
}

// objectsAt are the objects of the innermost part of m around p that names some.
func objectsAt(m protoreflect.Message, p *path) []Object {
	var steps []*path
	for ; p != nil && p.name != ""; p = p.up {
		steps = append(steps, p)
	}
	out := metadataObjects(m)
	for _, step := range slices.Backward(steps) {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(step.name))
		if f == nil || f.Message() == nil || f.IsMap() || f.IsList() != (step.index >= 0) {
			break
		}
		if v := m.Get(f); !f.IsList() {
			m = v.Message()
		} else if step.index < v.List().Len() {
			m = v.List().Get(step.index).Message()
		}
		if inner := metadataObjects(m); len(inner) > 0 {
			out = inner
		}
	}
	return out
}

// metadataObjects are those of a message's own field "metadata".
func metadataObjects(m protoreflect.Message) []Object {
	has, ok := m.Interface().(interface{ GetMetadata() *corev3.Metadata })
	if !ok {
		return nil
	}
	return objectsOf(has.GetMetadata())
}

func objectNames(list []Object) string {
	names := make([]string, len(list))
	for i, o := range list {
		names[i] = o.String()
	}
	return strings.Join(names, ", ")
}

// parseObject reads "Kind/namespace/name".
func parseObject(s string) (Object, bool) {
	parts := strings.SplitN(s, "/", 3)
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" {
		return Object{}, false
	}
	return Object{Kind: parts[0], Namespace: parts[1], Name: parts[2]}, true
}

// parseConfigPath reads "/apis/GROUP/VERSION/namespaces/NAMESPACE/KIND/NAME" with
// the kind as Istio writes it there: "virtual-service".
func parseConfigPath(s string) (Object, bool) {
	parts := strings.Split(s, "/")
	if len(parts) != 8 || parts[1] != "apis" || parts[4] != "namespaces" {
		return Object{}, false
	}
	var kind strings.Builder
	for word := range strings.SplitSeq(parts[6], "-") {
		if word != "" {
			kind.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return Object{Kind: kind.String(), Namespace: parts[5], Name: parts[7]}, kind.Len() > 0 && parts[7] != ""
}

func serviceObject(s *structpb.Struct) (Object, bool) {
	f := s.GetFields()
	o := Object{Kind: "Service", Namespace: f["namespace"].GetStringValue(), Name: f["name"].GetStringValue()}
	return o, o.Name != ""
}
