package bootstrap

import (
	"bytes"
	"encoding/json"
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

// decode reads YAML, of which JSON is a part.
func decode(text []byte) (*bootstrapv3.Bootstrap, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("bootstrap: %d bytes, at most %d are read", len(text), MaxSize)
	}
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	b := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(asJSON, b); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return b, nil
}

// YAML is the text of a bootstrap, with the field names of Envoy's documentation.
func YAML(b *bootstrapv3.Bootstrap) ([]byte, error) {
	asJSON, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	var tree yaml.Node // keeps the order of the fields
	if err := yaml.Unmarshal(asJSON, &tree); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	plain(&tree)
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&tree); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return out.Bytes(), e.Close()
}

// plain takes away the style that the nodes have of JSON.
func plain(n *yaml.Node) {
	if len(n.Content) > 0 {
		n.Style &^= yaml.FlowStyle
	}
	n.Style &^= yaml.DoubleQuotedStyle
	for _, c := range n.Content {
		plain(c)
	}
}
