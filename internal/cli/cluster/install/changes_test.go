package install

import (
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestMeshChanges(t *testing.T) {
	for _, c := range []struct {
		name, before, after string
		want                []string
	}{
		{"the same", "accessLogFile: /dev/stdout", "accessLogFile: /dev/stdout", nil},
		{"opened", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "{}", []string{"outboundTrafficPolicy.mode: REGISTRY_ONLY -> not set"}},
		{"closed", "{}", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}", []string{"outboundTrafficPolicy.mode: not set -> REGISTRY_ONLY"}},
		{"more than one", "a: 1\nb: {c: x, d: u}", "a: 2\nb: {c: x, d: w}", []string{"a: 1 -> 2", "b.d: u -> w"}},
		{"a list", "a: [1]", "a: [1, 2]", []string{"a: [1] -> [1 2]"}},
		{"another kind", "a: {b: 1}", "a: 1", []string{"a: map[b:1] -> 1"}},
	} {
		var before, after tree
		if err := yaml.Unmarshal([]byte(c.before), &before); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(c.after), &after); err != nil {
			t.Fatal(err)
		}
		if got := meshChanges(before, after, ""); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
