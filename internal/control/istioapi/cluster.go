package istioapi

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// lastApplied is the annotation in which kubectl keeps the object once more.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// FromCluster reads an object of Kubernetes' API, as JSON decodes into an any, with the
// decoder that files are read with, and the rules for pods. Nil is one that cannot be used:
// the problems say why. There are no positions.
func FromCluster(content map[string]any) (Object, []Problem) {
	written := map[string]any{"apiVersion": content["apiVersion"], "kind": content["kind"], "metadata": metadataOf(content["metadata"])}
	if spec, ok := content["spec"]; ok {
		written["spec"] = spec
	}
	return decodeWritten(written)
}

// metadataOf is what somebody wrote of the metadata, and the age: the rest is the API
// server's.
func metadataOf(metadata any) map[string]any {
	all, _ := metadata.(map[string]any)
	out := map[string]any{}
	for _, name := range []string{"name", "namespace", "labels", "creationTimestamp"} {
		if v, ok := all[name]; ok {
			out[name] = v
		}
	}
	if annotations, ok := all["annotations"].(map[string]any); ok {
		kept := make(map[string]any, len(annotations))
		for k, v := range annotations {
			if k != lastApplied { // the object once more
				kept[k] = v
			}
		}
		out["annotations"] = kept
	}
	return out
}

// MeshFromCluster reads MeshConfig, the text of a ConfigMap's key "mesh", as FromCluster.
func MeshFromCluster(text string) (Object, []Problem) {
	return decodeWritten(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": meshConfigName, "namespace": systemNamespace},
		"data":     map[string]any{meshKey: text},
	})
}

// decodeWritten hands the object to  Lines of the JSON say nothing to anybody, so
// they are left out.
func decodeWritten(written map[string]any) (Object, []Problem) {
	text, err := json.Marshal(written)
	if err != nil {
		return nil, []Problem{{Severity: Error, Code: CodeSyntax, Message: fmt.Sprintf("cannot be read: %v", err)}}
	}
	objects, problems := Rules{Pods: true}.Decode("", asYAML(text))
	for i := range problems {
		problems[i].Position = Position{}
	}
	for object := range objects.All() {
		m := object.Common()
		m.Position, m.Lines = Position{}, nil
		return object, problems
	}
	return nil, problems
}

// asYAML escapes what JSON has in strings as it is and YAML has not: control characters,
// line breaks of Unicode, and what is no character (YAML 1.2, section 5.1).
func asYAML(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r >= 0x7f && r < 0xa0, r == 0xfeff, r == 0xfffe, r == 0xffff, r == 0x2028, r == 0x2029:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}
