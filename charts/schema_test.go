package charts

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"testing"

	"sigs.k8s.io/yaml"
)

type tree = map[string]any

// open are maps of values that take what Kubernetes or MeshConfig does.
var open = map[string]bool{"resources": true, "requests": true, "seccompProfile": true, "meshConfig": true,
	"strategy": true, "lifecycle": true, "defaultResources": true}

// choices are values that are one of some words.
var choices = map[string][]any{"kind": {"Deployment", "DaemonSet"}, "imagePullPolicy": {"", "Always", "IfNotPresent", "Never"},
	"allocateLoadBalancerNodePorts": {true, false, nil}}

// numbers are values that may be a number or a part of a hundred.
var numbers = map[string]bool{"minAvailable": true}

// schema says of a value what may be in its place: names that values.yaml has, and the kinds
// of what it has there. Nulls are Helm's way to take a default away.
func schema(name string, value any) tree {
	if c, ok := choices[name]; ok {
		return tree{"enum": c}
	}
	if name == "cni" {
		return tree{"properties": tree{"enabled": tree{"const": false}}}
	}
	switch v := value.(type) {
	case bool:
		return tree{"type": "boolean"}
	case float64:
		if numbers[name] {
			return tree{"type": []any{"integer", "string", "null"}}
		}
		return tree{"type": []any{"integer", "null"}}
	case nil:
		return tree{}
	case []any:
		return tree{"type": "array"}
	case tree:
		if len(v) == 0 || open[name] {
			return tree{"type": "object"}
		}
		return closed(v)
	}
	return tree{"type": []any{"string", "number", "null"}}
}

func closed(v tree) tree {
	properties := tree{}
	for name, value := range v {
		properties[name] = schema(name, value)
	}
	return tree{"type": "object", "properties": properties, "additionalProperties": false}
}

// merged is a copy of a with b over it.
func merged(a, b tree) tree {
	out := maps.Clone(a)
	for name, value := range b {
		if below, ok := value.(tree); ok {
			if have, ok := out[name].(tree); ok {
				value = merged(have, below)
			}
		}
		out[name] = value
	}
	return out
}

// TestSchemas fails when a chart's values.schema.json is not what its values.yaml says. What
// is global is taken by all charts, so that they can be given the same file.
func TestSchemas(t *testing.T) {
	charts := map[string]tree{"base": nil, "istiod": nil, "gateway": nil}
	global := tree{}
	for name := range charts {
		text, err := os.ReadFile(name + "/values.yaml")
		if err != nil {
			t.Fatal(err)
		}
		var values tree
		if err := yaml.Unmarshal(text, &values); err != nil {
			t.Fatal(err)
		}
		charts[name] = values
		global = merged(global, values["global"].(tree))
	}
	// Istio takes what is below pilot at the top, too.
	charts["istiod"] = merged(charts["istiod"]["pilot"].(tree), charts["istiod"])
	for name, values := range charts {
		values["global"] = global
		s := closed(values)
		s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		want, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		file := name + "/values.schema.json"
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what values.yaml says (%v): go test ./charts -run TestSchemas -update", file, err)
		}
	}
}
