package install

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
)

// fieldManager is who owns what install applies.
const fieldManager = "egret-install"

// Cluster is a cluster that is installed to.
type Cluster struct {
	Dynamic dynamic.Interface
	// Mapper knows the kinds of the cluster, and can be told to look again.
	Mapper meta.ResettableRESTMapper
}

// resource is where objects of a kind are. Kinds that came with a custom resource definition
// of a moment ago are looked up again.
func (c *Cluster) resource(gvk schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	m, err := c.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		c.Mapper.Reset()
		m, err = c.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.Dynamic.Resource(m.Resource).Namespace(namespace), nil
	}
	return c.Dynamic.Resource(m.Resource), nil
}

// Apply brings an object to the cluster with server-side apply. What others own of it
// stays: a caBundle that istiod wrote, for instance. dryRun lets the API server judge only.
func (c *Cluster) Apply(ctx context.Context, o *unstructured.Unstructured, dryRun bool) error {
	r, err := c.resource(o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return fmt.Errorf("%s: %w", describe(o), plainError(err))
	}
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	applied, err := r.Apply(ctx, o.GetName(), o, options)
	if err == nil && !dryRun && applied.GetDeletionTimestamp() != nil {
		if err = untilGone(ctx, r, applied); err == nil {
			_, err = r.Apply(ctx, o.GetName(), o, options)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", describe(o), plainError(err))
	}
	return nil
}

// untilGone waits until an object that is being removed is gone: what is applied to it would
// go with it.
func untilGone(ctx context.Context, r dynamic.ResourceInterface, o *unstructured.Unstructured) error {
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, goneTimeout, true, func(ctx context.Context) (bool, error) {
		have, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return apierrors.IsNotFound(err), forbidden(err)
		}
		return have.GetUID() != o.GetUID(), nil
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("an earlier one is still being removed after %s; its finalizers are %v", goneTimeout, o.GetFinalizers())
	}
	return err
}

// describe names an object as people do.
func describe(o *unstructured.Unstructured) string {
	if ns := o.GetNamespace(); ns != "" {
		return fmt.Sprintf("%s %s/%s", o.GetKind(), ns, o.GetName())
	}
	return fmt.Sprintf("%s %s", o.GetKind(), o.GetName())
}

// plainError adds what to do to the API server's refusals.
func plainError(err error) error {
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return fmt.Errorf("%w\nthe namespace is being removed: try again when it is gone", err)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w\nyour user may not do this: it needs the rights of cluster-admin", err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%w: the API server does not know who you are; look at the user of your kubeconfig", err)
	}
	return err
}

// Namespace makes the namespace of the control plane where it is missing. One that was made
// here has the label by which Purge knows it.
func (c *Cluster) Namespace(ctx context.Context, name, revision string, dryRun bool) error {
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
	r, err := c.resource(gvk, "")
	if err != nil {
		return plainError(err)
	}
	have, err := r.Get(ctx, name, metav1.GetOptions{})
	if err == nil && have.GetDeletionTimestamp() == nil {
		return nil
	}
	if err == nil && !dryRun {
		err = untilGone(ctx, r, have)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("Namespace %s: %w", name, plainError(err))
	}
	o := &unstructured.Unstructured{Object: tree{"apiVersion": "v1", "kind": "Namespace", "metadata": tree{"name": name,
		"labels": tree{ownerLabel: Owner(revision), managedLabel: "Reconcile", "istio-injection": "disabled"}}}}
	return c.Apply(ctx, o, dryRun)
}

// established waits until the API server serves the kinds of custom resource definitions.
func (c *Cluster) established(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if o.GetKind() != "CustomResourceDefinition" {
			continue
		}
		r, err := c.resource(o.GroupVersionKind(), "")
		if err != nil {
			return err
		}
		err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			have, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
			return err == nil && condition(have, "Established").status == "True", nil
		})
		if err != nil {
			return fmt.Errorf("%s: the API server does not serve it: %w", describe(o), err)
		}
	}
	return nil
}

type conditionValue struct{ status, reason, message string }

// condition of an object's status, or one without a status.
func condition(o *unstructured.Unstructured, kind string) conditionValue {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, item := range list {
		c, _ := item.(tree)
		if text(c, "type") == kind {
			return conditionValue{text(c, "status"), text(c, "reason"), text(c, "message")}
		}
	}
	return conditionValue{}
}

// Options of Install.
type Options struct {
	// DryRun lets the API server judge everything and changes nothing.
	DryRun bool
	// Timeout bounds the wait for each release to be ready; 0: it is not waited for.
	Timeout time.Duration
	// Tell is told of each step as it begins, what is waited for as it changes, and the end.
	Tell func(Progress)
}

// Progress of an install.
type Progress struct {
	// Release is what it is about; empty: everything.
	Release string
	Stage   Stage
	// Detail is what is waited for, or how much was done.
	Detail string
}

// Stage of a release.
type Stage int

// Stages in their order.
const (
	Applying Stage = iota
	Waiting
	Done
	Pruning
)

// Install brings the rendered releases to a cluster, each when the one before is ready, and
// removes what an earlier install had and this one has not.
func (c *Cluster) Install(ctx context.Context, p *Plan, all []Rendered, o Options) error {
	if o.Tell == nil {
		o.Tell = func(Progress) {}
	}
	if err := c.namespaces(ctx, p, o.DryRun); err != nil {
		return err
	}
	for _, r := range all {
		o.Tell(Progress{r.Title, Applying, ""})
		for _, object := range r.Objects {
			if err := c.Apply(ctx, object, o.DryRun); err != nil && !(o.DryRun && ofNewNamespace(err)) {
				return err
			}
		}
		if !o.DryRun {
			if err := c.wait(ctx, r, o); err != nil {
				return err
			}
		}
		o.Tell(Progress{r.Title, Done, ""})
	}
	if o.DryRun {
		return nil
	}
	o.Tell(Progress{"", Pruning, ""})
	return c.Prune(ctx, p, all, Removal{Tell: func(object string) { o.Tell(Progress{"", Pruning, object}) }})
}

// ofNewNamespace: a dry run made no namespace, so the API server finds none.
func ofNewNamespace(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Reason == metav1.StatusReasonNotFound &&
		status.Status().Details != nil && status.Status().Details.Kind == "namespaces"
}

func (c *Cluster) namespaces(ctx context.Context, p *Plan, dryRun bool) error {
	done := map[string]bool{}
	for _, r := range append([]Release{{Namespace: p.Namespace}}, p.Releases...) {
		if done[r.Namespace] {
			continue
		}
		done[r.Namespace] = true
		if err := c.Namespace(ctx, r.Namespace, p.Revision, dryRun); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) wait(ctx context.Context, r Rendered, o Options) error {
	if err := c.established(ctx, r.Objects); err != nil {
		return err
	}
	if o.Timeout == 0 {
		return nil
	}
	for _, object := range r.Objects {
		if object.GetKind() != "Deployment" {
			continue
		}
		tell := func(detail string) { o.Tell(Progress{r.Title, Waiting, detail}) }
		if err := c.rolledOut(ctx, object, o.Timeout, tell); err != nil {
			return err
		}
	}
	return nil
}
