package install

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// MeshChanges are the fields of the cluster's MeshConfig that an install would change, each
// with what it is and what it comes to: an install without the settings of the one before, or
// after somebody's kubectl edit, may open what was closed.
func (c *Cluster) MeshChanges(ctx context.Context, all []Rendered) ([]string, error) {
	o := meshOf(all)
	if o == nil {
		return nil, nil
	}
	r, err := c.resource(configMapKind, o.GetNamespace())
	if err != nil {
		return nil, plainError(err)
	}
	have, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", describe(o), plainError(err))
	}
	var before, after tree
	if err := yaml.Unmarshal([]byte(text(o.Object, "data", "mesh")), &after); err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal([]byte(text(have.Object, "data", "mesh")), &before); err != nil {
		return []string{fmt.Sprintf("all of it: it cannot be read now: %v", err)}, nil
	}
	return meshChanges(before, after, ""), nil
}

func meshOf(all []Rendered) *unstructured.Unstructured {
	for _, r := range all {
		for _, o := range r.Objects {
			if isMesh(o) {
				return o
			}
		}
	}
	return nil
}

// isMesh: it is the ConfigMap "istio", or that of a revision.
func isMesh(o *unstructured.Unstructured) bool {
	return o.GetKind() == "ConfigMap" && (o.GetName() == "istio" || strings.HasPrefix(o.GetName(), "istio-")) && at(o.Object, "data", "mesh") != nil
}

func meshChanges(before, after tree, path string) []string {
	names := maps.Clone(before)
	if names == nil {
		names = tree{}
	}
	maps.Copy(names, after)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		full := strings.TrimPrefix(path+"."+name, ".")
		b, isTree := before[name].(tree)
		a, alsoTree := after[name].(tree)
		switch {
		case isTree && alsoTree, isTree && after[name] == nil, before[name] == nil && alsoTree:
			out = append(out, meshChanges(b, a, full)...)
		case !reflect.DeepEqual(before[name], after[name]):
			out = append(out, fmt.Sprintf("%s: %s -> %s", full, shown(before[name]), shown(after[name])))
		}
	}
	return out
}

func shown(v any) string {
	if v == nil {
		return "not set"
	}
	return fmt.Sprint(v)
}
