package charts

import (
	"bytes"
	"flag"
	"os"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"sigs.k8s.io/yaml"
)

// update writes base/files/crds.yaml: go test ./charts -run TestCRDs -update
var update = flag.Bool("update", false, "write what is generated")

const crdFile = "base/files/crds.yaml"

// definition is what a custom resource definition has besides its schema. Names, versions
// and columns are Istio's.
type definition struct {
	group, kind, plural, singular, short string
	versions                             []string // the first one is stored
	spec                                 proto.Message
	columns                              []column
	needSpec                             bool
}

type column struct{ name, path, kind string }

var age = column{"Age", ".metadata.creationTimestamp", "date"}

func definitions() []definition {
	all := []string{"v1", "v1beta1", "v1alpha3"}
	return []definition{
		{"networking.istio.io", "DestinationRule", "destinationrules", "destinationrule", "dr", all, &networking.DestinationRule{},
			[]column{{"Host", ".spec.host", "string"}, age}, false},
		{"networking.istio.io", "Gateway", "gateways", "gateway", "gw", all, &networking.Gateway{},
			[]column{{"Selector", ".spec.selector", "string"}, age}, false},
		{"networking.istio.io", "ServiceEntry", "serviceentries", "serviceentry", "se", all, &networking.ServiceEntry{},
			[]column{{"Hosts", ".spec.hosts", "string"}, {"Location", ".spec.location", "string"}, {"Resolution", ".spec.resolution", "string"}, age}, true},
		{"networking.istio.io", "Sidecar", "sidecars", "sidecar", "", all, &networking.Sidecar{},
			[]column{{"Policy", ".spec.outboundTrafficPolicy.mode", "string"}, age}, false},
		{"networking.istio.io", "VirtualService", "virtualservices", "virtualservice", "vs", all, &networking.VirtualService{},
			[]column{{"Gateways", ".spec.gateways", "string"}, {"Hosts", ".spec.hosts", "string"}, age}, false},
		{"networking.istio.io", "WorkloadEntry", "workloadentries", "workloadentry", "we", all, &networking.WorkloadEntry{},
			[]column{{"Address", ".spec.address", "string"}, age}, true},
		{"security.istio.io", "PeerAuthentication", "peerauthentications", "peerauthentication", "pa", []string{"v1", "v1beta1"}, &security.PeerAuthentication{},
			[]column{{"Mode", ".spec.mtls.mode", "string"}, age}, false},
		{"telemetry.istio.io", "Telemetry", "telemetries", "telemetry", "telemetry", []string{"v1alpha1", "v1"}, &telemetry.Telemetry{},
			[]column{age}, false},
	}
}

// TestCRDs fails when the file is not what istio.io/api's types say.
func TestCRDs(t *testing.T) {
	var out bytes.Buffer
	out.WriteString("# Generated from istio.io/api: go test ./charts -run TestCRDs -update\n")
	for _, d := range definitions() {
		text, err := yaml.Marshal(d.object())
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	if *update {
		if err := os.WriteFile(crdFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(crdFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, out.Bytes()) {
		t.Errorf("%s is not what the types of istio.io/api say: go test ./charts -run TestCRDs -update", crdFile)
	}
}

type object = map[string]any

func (d definition) object() object {
	names := object{"kind": d.kind, "listKind": d.kind + "List", "plural": d.plural, "singular": d.singular,
		"categories": []string{"istio-io", d.group[:bytes.IndexByte([]byte(d.group), '.')] + "-istio-io"}}
	if d.short != "" {
		names["shortNames"] = []string{d.short}
	}
	var columns []object
	for _, c := range d.columns {
		columns = append(columns, object{"name": c.name, "jsonPath": c.path, "type": c.kind})
	}
	schema := object{"type": "object", "properties": object{
		"spec":   message(d.spec.ProtoReflect().Descriptor(), nil),
		"status": anything(),
	}}
	if d.needSpec {
		schema["required"] = []string{"spec"}
	}
	var versions []object
	for i, v := range d.versions {
		versions = append(versions, object{
			"name": v, "served": true, "storage": i == 0, "subresources": object{"status": object{}},
			"additionalPrinterColumns": columns, "schema": object{"openAPIV3Schema": schema},
		})
	}
	return object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": object{"name": d.plural + "." + d.group,
			"annotations": object{"helm.sh/resource-policy": "keep"},
			"labels":      object{"app": "istio-pilot", "chart": "istio", "release": "istio"}},
		"spec": object{"group": d.group, "names": names, "scope": "Namespaced", "versions": versions},
	}
}

func anything() object { return object{"type": "object", "x-kubernetes-preserve-unknown-fields": true} }

// message is the structural schema of a message in proto JSON; within are the messages
// around it: one that has itself inside is left open there.
func message(d protoreflect.MessageDescriptor, within []protoreflect.FullName) object {
	if s := wellKnown(d.FullName()); s != nil {
		return s
	}
	for _, w := range within {
		if w == d.FullName() {
			return anything()
		}
	}
	within = append(within[:len(within):len(within)], d.FullName())
	properties := object{}
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		properties[fd.JSONName()] = field(fd, within)
	}
	if len(properties) == 0 {
		return object{"type": "object"}
	}
	return object{"type": "object", "properties": properties}
}

func field(fd protoreflect.FieldDescriptor, within []protoreflect.FullName) object {
	switch {
	case fd.IsMap():
		return object{"type": "object", "additionalProperties": single(fd.MapValue(), within)}
	case fd.IsList():
		return object{"type": "array", "items": single(fd, within)}
	}
	return single(fd, within)
}

func single(fd protoreflect.FieldDescriptor, within []protoreflect.FullName) object {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return message(fd.Message(), within)
	case protoreflect.EnumKind:
		var names []string
		for i := range fd.Enum().Values().Len() {
			names = append(names, string(fd.Enum().Values().Get(i).Name()))
		}
		return object{"type": "string", "enum": names}
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.Uint32Kind:
		return object{"type": "integer", "minimum": 0, "maximum": 1<<32 - 1}
	case protoreflect.Int32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Int64Kind, protoreflect.Uint64Kind: // strings in proto JSON, numbers are taken too
		return object{"x-kubernetes-int-or-string": true}
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return object{"type": "number"}
	}
	return object{"type": "string"}
}

// wellKnown is the JSON of google.protobuf's types; nil: d is none of them.
func wellKnown(name protoreflect.FullName) object {
	switch name {
	case "google.protobuf.Duration", "google.protobuf.Timestamp":
		return object{"type": "string"}
	case "google.protobuf.Struct":
		return anything()
	case "google.protobuf.BoolValue":
		return object{"type": "boolean", "nullable": true}
	case "google.protobuf.UInt32Value":
		return object{"type": "integer", "minimum": 0, "maximum": 1<<32 - 1, "nullable": true}
	case "google.protobuf.Int32Value":
		return object{"type": "integer", "format": "int32", "nullable": true}
	case "google.protobuf.Int64Value", "google.protobuf.UInt64Value":
		return object{"x-kubernetes-int-or-string": true, "nullable": true}
	case "google.protobuf.DoubleValue", "google.protobuf.FloatValue":
		return object{"type": "number", "nullable": true}
	case "google.protobuf.StringValue":
		return object{"type": "string", "nullable": true}
	case "google.protobuf.Value":
		return object{"x-kubernetes-preserve-unknown-fields": true}
	}
	return nil
}
