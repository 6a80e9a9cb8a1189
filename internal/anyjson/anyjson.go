// Package anyjson is the JSON form of messages that have Anys of types which this program
// does not know, as the configuration of a mesh has: where the standard library of
// protobuf refuses the whole message, such an Any keeps its type.
//
// It must not know what the messages mean.
package anyjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	_ "github.com/cncf/xds/go/udpa/type/v1" // the older TypedStruct, which Istio sends
	typev3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Marshal writes m with the field names of the .proto files, as Envoy's admin interface
// does. Of an Any of unknown type only "@type" is written.
func Marshal(m proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{UseProtoNames: true, Resolver: &types{protoregistry.GlobalTypes}}.Marshal(m)
}

// MarshalCamel writes m with lowerCamelCase names, as istioctl does.
func MarshalCamel(m proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{Resolver: &types{protoregistry.GlobalTypes}}.Marshal(m)
}

// Unmarshal reads either form. Unknown fields are left out. An Any of unknown type
// becomes an xds.type.v3.TypedStruct with the type and its fields, so that nothing of it
// is lost.
func Unmarshal(data []byte, m proto.Message) error {
	if bytes.Contains(data, []byte(`"@type"`)) {
		var tree any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(&tree); err != nil {
			return err
		}
		if wrapUnknown(tree) {
			var err error
			if data, err = json.Marshal(tree); err != nil {
				return err
			}
		}
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
}

// wrapUnknown makes TypedStructs of the Anys of unknown type below tree, and reports
// whether there were any.
func wrapUnknown(tree any) (changed bool) {
	switch v := tree.(type) {
	case []any:
		for _, e := range v {
			changed = wrapUnknown(e) || changed
		}
	case map[string]any:
		url, isAny := v["@type"].(string)
		if !isAny {
			break
		}
		if _, err := protoregistry.GlobalTypes.FindMessageByURL(url); err == nil {
			break
		}
		fields := map[string]any{}
		for k, e := range v {
			if k != "@type" {
				fields[k] = e
				delete(v, k)
			}
		}
		v["@type"] = "type.googleapis.com/" + string((&typev3.TypedStruct{}).ProtoReflect().Descriptor().FullName())
		v["typeUrl"], v["value"] = url, fields
		return true
	}
	if v, ok := tree.(map[string]any); ok {
		for _, e := range v {
			changed = wrapUnknown(e) || changed
		}
	}
	return changed
}

// types makes an empty message type for each that is not known.
type types struct{ *protoregistry.Types }

// FindMessageByURL never fails for a name that a message can have.
func (t *types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if known, err := t.Types.FindMessageByURL(url); err == nil {
		return known, nil
	}
	full := protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:])
	if !full.IsValid() {
		return nil, fmt.Errorf("%q is no message's type: %w", url, protoregistry.NotFound)
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("unknown.proto"), Package: proto.String(string(full.Parent())), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String(string(full.Name()))}},
	}, nil)
	if err != nil {
		return nil, err
	}
	return dynamicpb.NewMessageType(file.Messages().Get(0)), nil
}
