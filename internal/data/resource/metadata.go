package resource

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
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
