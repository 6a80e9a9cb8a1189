package inject

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"sigs.k8s.io/yaml"
)

// maxProxyConfig bounds the annotation, in bytes.
const maxProxyConfig = 256 << 10

// proxyConfig lays the annotation proxy.istio.io/config over the mesh's default: a field
// replaces a field, and proxyMetadata is joined.
func proxyConfig(base *meshconfig.ProxyConfig, annotation string) (*meshconfig.ProxyConfig, error) {
	if annotation == "" {
		return base, nil
	}
	if len(annotation) > maxProxyConfig {
		return nil, fmt.Errorf("the annotation %s is over %d bytes", annotationConfig, maxProxyConfig)
	}
	text, err := yaml.YAMLToJSON([]byte(annotation))
	if err != nil {
		return nil, fmt.Errorf("the annotation %s: %w", annotationConfig, err)
	}
	over := &meshconfig.ProxyConfig{}
	if err := protojson.Unmarshal(text, over); err != nil {
		return nil, fmt.Errorf("the annotation %s: %w", annotationConfig, err)
	}
	out := proto.Clone(base).(*meshconfig.ProxyConfig)
	to := out.ProtoReflect()
	over.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !field.IsMap() {
			to.Set(field, v)
			return true
		}
		joined := to.Mutable(field).Map()
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			joined.Set(k, v)
			return true
		})
		return true
	})
	return out, nil
}

// statusPort is where the agent serves the kubelet.
func statusPort(c *meshconfig.ProxyConfig) int32 {
	if p := c.GetStatusPort(); p != 0 {
		return p
	}
	return 15020
}
