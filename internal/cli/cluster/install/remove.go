package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
)

// ownKinds are the kinds that charts have, in the order in which they are removed: webhooks
// first, as nobody would answer them; what grants rights last.
func ownKinds() []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for _, k := range []struct{ group, version, kind string }{
		{"admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"},
		{"admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"},
		{"autoscaling", "v2", "HorizontalPodAutoscaler"},
		{"policy", "v1", "PodDisruptionBudget"},
		{"apps", "v1", "Deployment"},
		{"", "v1", "Service"},
		{"", "v1", "ConfigMap"},
		{"", "v1", "Secret"},
		{"rbac.authorization.k8s.io", "v1", "RoleBinding"},
		{"rbac.authorization.k8s.io", "v1", "Role"},
		{"rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"},
		{"rbac.authorization.k8s.io", "v1", "ClusterRole"},
		{"", "v1", "ServiceAccount"},
	} {
		out = append(out, schema.GroupVersionKind{Group: k.group, Version: k.version, Kind: k.kind})
	}
	return out
}

var (
	crdKind       = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
	namespaceKind = schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
	configMapKind = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	secretKind    = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
	leaseKind     = schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}
)

type identity struct {
	gk              schema.GroupKind
	namespace, name string
}

func identityOf(o *unstructured.Unstructured) identity {
	return identity{o.GroupVersionKind().GroupKind(), o.GetNamespace(), o.GetName()}
}

// Prune removes what an earlier install of the same revision applied and this one did not.
// Custom resource definitions stay, as objects of users would go with them.
func (c *Cluster) Prune(ctx context.Context, p *Plan, all []Rendered, r Removal) error {
	keep := map[identity]bool{}
	for _, release := range all {
		for _, o := range release.Objects {
			keep[identityOf(o)] = true
		}
	}
	selector := fmt.Sprintf("%s=%s,%s=%s", ownerLabel, Owner(p.Revision), ownerNSLabel, p.Namespace)
	return c.removeKinds(ctx, r, ownKinds(), selector, func(o *unstructured.Unstructured) bool { return !keep[identityOf(o)] })
}

// Removal says how something is removed.
type Removal struct {
	// DryRun removes nothing.
	DryRun bool
	// Tell is told of each object that is, or would be, removed.
	Tell func(object string)
}

// removeKinds removes the objects with these labels that are wanted gone.
func (c *Cluster) removeKinds(ctx context.Context, r Removal, kinds []schema.GroupVersionKind, selector string, gone func(*unstructured.Unstructured) bool) error {
	for _, gvk := range kinds {
		all, err := c.list(ctx, gvk, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return fmt.Errorf("%s: %w", gvk.Kind, plainError(err))
		}
		for i := range all {
			if !gone(&all[i]) {
				continue
			}
			if err := c.remove(ctx, r, &all[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func anyObject(*unstructured.Unstructured) bool { return true }

// list gives the objects of a kind in all namespaces; none where the cluster has no such kind.
func (c *Cluster) list(ctx context.Context, gvk schema.GroupVersionKind, o metav1.ListOptions) ([]unstructured.Unstructured, error) {
	r, err := c.resource(gvk, metav1.NamespaceAll)
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := r.List(ctx, o)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return all.Items, nil
}

func (c *Cluster) remove(ctx context.Context, r Removal, o *unstructured.Unstructured) error {
	at, err := c.resource(o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	if r.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if err := at.Delete(ctx, o.GetName(), options); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: %w", describe(o), plainError(err))
	}
	r.Tell(describe(o))
	return nil
}

// Found is what Installed tells of: an installation by its revision, "default" for the one
// without a name, and who manages it: egret, or Helm.
type Found struct{ Revision, Version, Namespace, ManagedBy string }

// Installed finds the installations of a cluster by their istiod.
func (c *Cluster) Installed(ctx context.Context) ([]Found, error) {
	all, err := c.list(ctx, schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return nil, plainError(err)
	}
	var out []Found
	for i := range all {
		l := all[i].GetLabels()
		out = append(out, Found{l[revisionLabel], l[versionLabel], all[i].GetNamespace(), l[managedByLabel]})
	}
	return out, nil
}

// Uninstall removes the installation of a revision ("" is the one without a name), and
// leaves what revisions share: custom resource definitions, namespaces.
func (c *Cluster) Uninstall(ctx context.Context, revision string, r Removal) error {
	return c.removeKinds(ctx, r, ownKinds(), ownerLabel+"="+Owner(revision), anyObject)
}

// UserObjects are the objects of Istio's kinds, which go with the definitions of those.
func (c *Cluster) UserObjects(ctx context.Context) ([]string, error) {
	definitions, err := c.list(ctx, crdKind, metav1.ListOptions{LabelSelector: definitionLabels})
	if err != nil {
		return nil, plainError(err)
	}
	var out []string
	for i := range definitions {
		objects, err := c.list(ctx, storedKind(&definitions[i]), metav1.ListOptions{})
		if err != nil {
			return out, plainError(err)
		}
		for j := range objects {
			out = append(out, describe(&objects[j]))
		}
	}
	return out, nil
}

// storedKind is the kind that a custom resource definition defines, in a version that is served.
func storedKind(definition *unstructured.Unstructured) schema.GroupVersionKind {
	gvk := schema.GroupVersionKind{Group: text(definition.Object, "spec", "group"), Kind: text(definition.Object, "spec", "names", "kind")}
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	for _, v := range versions {
		if v, ok := v.(tree); ok && v["served"] == true {
			gvk.Version = text(v, "name")
			return gvk
		}
	}
	return gvk
}

// definitionLabels are on each of Istio's custom resource definitions, whoever installed them:
// helm keeps them when it uninstalls.
const definitionLabels = "app=istio-pilot,chart=istio"

// Purge removes everything: all revisions, what istiod wrote (its authority, the root
// certificate in each namespace, its leases), custom resource definitions with all of their
// objects, and the namespaces that Install made. It returns when they are gone.
func (c *Cluster) Purge(ctx context.Context, namespace string, r Removal) error {
	if err := c.removeKinds(ctx, r, ownKinds(), ownerLabel, anyObject); err != nil {
		return err
	}
	if err := c.removeKinds(ctx, r, []schema.GroupVersionKind{crdKind}, definitionLabels, anyObject); err != nil {
		return err
	}
	if err := c.removeWritten(ctx, namespace, r); err != nil {
		return err
	}
	if err := c.removeKinds(ctx, r, []schema.GroupVersionKind{namespaceKind}, ownerLabel, anyObject); err != nil || r.DryRun {
		return err
	}
	return c.gone(ctx)
}

// removeWritten removes what istiod wrote, when it is there no more to write it again.
func (c *Cluster) removeWritten(ctx context.Context, namespace string, r Removal) error {
	if !r.DryRun {
		if err := c.untilNone(ctx, podKind, metav1.ListOptions{LabelSelector: "app=istiod"}); err != nil {
			return err
		}
	}
	written := []struct {
		gvk    schema.GroupVersionKind
		fields string
		where  string // prefix of names
	}{
		{configMapKind, "metadata.name=istio-ca-root-cert", ""},
		{secretKind, "metadata.name=istio-ca-secret,metadata.namespace=" + namespace, ""},
		{leaseKind, "metadata.namespace=" + namespace, "istio"},
		{configMapKind, "metadata.namespace=" + namespace, "istio"},
	}
	for _, w := range written {
		found, err := c.list(ctx, w.gvk, metav1.ListOptions{FieldSelector: w.fields})
		if err != nil {
			return fmt.Errorf("%s: %w", w.gvk.Kind, plainError(err))
		}
		for i := range found {
			// In a dry run what has the label is still there, and was told.
			if !strings.HasPrefix(found[i].GetName(), w.where) || found[i].GetLabels()[ownerLabel] != "" {
				continue
			}
			if err := c.remove(ctx, r, &found[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// goneTimeout bounds the wait for what is being removed: pods end gracefully.
const goneTimeout = 2 * time.Minute

// gone waits until custom resource definitions and namespaces are gone: the API server
// removes what is in them first.
func (c *Cluster) gone(ctx context.Context) error {
	if err := c.untilNone(ctx, crdKind, metav1.ListOptions{LabelSelector: definitionLabels}); err != nil {
		return err
	}
	return c.untilNone(ctx, namespaceKind, metav1.ListOptions{LabelSelector: ownerLabel})
}

// untilNone waits until there is no such object.
func (c *Cluster) untilNone(ctx context.Context, gvk schema.GroupVersionKind, o metav1.ListOptions) error {
	var left []string
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, goneTimeout, true, func(ctx context.Context) (bool, error) {
		all, err := c.list(ctx, gvk, o)
		if err != nil {
			return false, forbidden(err)
		}
		left = nil
		for i := range all {
			left = append(left, describe(&all[i]))
		}
		return len(left) == 0, nil
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("still being removed after %s: %s", goneTimeout, strings.Join(left, ", "))
	}
	return err
}
