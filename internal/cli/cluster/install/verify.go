package install

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Verdict about an object of an installation.
type Verdict struct {
	Object string
	// Problem is "" where all is well.
	Problem string
}

// Verify compares a cluster with what was rendered: with a dry run of what install would do,
// so that defaults of the API server are no difference.
func (c *Cluster) Verify(ctx context.Context, all []Rendered) ([]Verdict, error) {
	var out []Verdict
	for _, r := range all {
		for _, o := range r.Objects {
			v, err := c.verify(ctx, o)
			if err != nil {
				return out, err
			}
			out = append(out, v)
		}
	}
	return out, nil
}

func (c *Cluster) verify(ctx context.Context, o *unstructured.Unstructured) (Verdict, error) {
	v := Verdict{Object: describe(o)}
	r, err := c.resource(o.GroupVersionKind(), o.GetNamespace())
	if meta.IsNoMatchError(err) {
		v.Problem = "the cluster has no such kind"
		return v, nil
	}
	if err != nil {
		return v, plainError(err)
	}
	have, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		v.Problem = "is missing"
		return v, nil
	}
	if err != nil {
		return v, fmt.Errorf("%s: %w", v.Object, plainError(err))
	}
	would, err := r.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true, DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return v, fmt.Errorf("%s: %w", v.Object, plainError(err))
	}
	if d := differences(have, would); len(d) > 0 {
		v.Problem = "differs in " + strings.Join(d, ", ")
		return v, nil
	}
	v.Problem = c.notReady(ctx, have)
	return v, nil
}

// differences are the parts in which an apply would change an object.
func differences(have, would *unstructured.Unstructured) []string {
	var out []string
	for name, value := range would.Object {
		if name != "metadata" && name != "status" && !equality.Semantic.DeepEqual(have.Object[name], value) {
			out = append(out, name)
		}
	}
	if !equality.Semantic.DeepEqual(have.GetLabels(), would.GetLabels()) {
		out = append(out, "labels")
	}
	return out
}

func (c *Cluster) notReady(ctx context.Context, o *unstructured.Unstructured) string {
	if o.GetKind() != "Deployment" {
		return ""
	}
	done, state := rollout(o)
	if done {
		return ""
	}
	return strings.Join(append([]string{state}, c.trouble(ctx, o)...), "; ")
}

// VerifyInstalled looks at what an installation has, by the labels of the charts: whether
// install or helm brought them.
func (c *Cluster) VerifyInstalled(ctx context.Context, revision string) ([]Verdict, error) {
	var out []Verdict
	own := fmt.Sprintf("%s=istio,%s=%s", partOfLabel, revisionLabel, cmp.Or(revision, "default"))
	for _, gvk := range append(ownKinds(), crdKind) {
		selector := own
		if gvk == crdKind {
			selector = definitionLabels
		}
		all, err := c.list(ctx, gvk, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return out, fmt.Errorf("%s: %w", gvk.Kind, plainError(err))
		}
		for i := range all {
			out = append(out, Verdict{describe(&all[i]), c.notReady(ctx, &all[i])})
		}
	}
	return out, nil
}
