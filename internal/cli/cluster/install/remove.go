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
func (c *Cluster) Prune(ctx context.Context, p *Plan, all []Rendered) (removed []string, err error) {
	keep := map[identity]bool{}
	for _, r := range all {
		for _, o := range r.Objects {
			keep[identityOf(o)] = true
		}
	}
	selector := fmt.Sprintf("%s=%s,%s=%s", ownerLabel, Owner(p.Revision), ownerNSLabel, p.Namespace)
	return c.removeKinds(ctx, ownKinds(), selector, func(o *unstructured.Unstructured) bool { return !keep[identityOf(o)] })
}

// removeKinds removes the objects with these labels that are wanted gone.
func (c *Cluster) removeKinds(ctx context.Context, kinds []schema.GroupVersionKind, selector string, gone func(*unstructured.Unstructured) bool) (removed []string, err error) {
	for _, gvk := range kinds {
		all, err := c.list(ctx, gvk, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return removed, fmt.Errorf("%s: %w", gvk.Kind, plainError(err))
		}
		for i := range all {
			if !gone(&all[i]) {
				continue
			}
			if err := c.remove(ctx, &all[i]); err != nil {
				return removed, err
			}
			removed = append(removed, describe(&all[i]))
		}
	}
	return removed, nil
}

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

func (c *Cluster) remove(ctx context.Context, o *unstructured.Unstructured) error {
	r, err := c.resource(o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	err = r.Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &background})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: %w", describe(o), plainError(err))
	}
	return nil
}

// Found is what Installed tells of: an installation by its revision, "default" for the one
// without a name.
type Found struct{ Revision, Version, Namespace string }

// Installed finds the installations of a cluster by their istiod.
func (c *Cluster) Installed(ctx context.Context) ([]Found, error) {
	all, err := c.list(ctx, schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return nil, plainError(err)
	}
	var out []Found
	for i := range all {
		l := all[i].GetLabels()
		out = append(out, Found{l[revisionLabel], l[versionLabel], all[i].GetNamespace()})
	}
	return out, nil
}

// Uninstall removes the installation of a revision ("" is the one without a name), and
// leaves what revisions share: custom resource definitions, namespaces.
func (c *Cluster) Uninstall(ctx context.Context, revision string) ([]string, error) {
	return c.removeKinds(ctx, ownKinds(), ownerLabel+"="+Owner(revision), func(*unstructured.Unstructured) bool { return true })
}

// Purge removes everything: all revisions, what istiod wrote (its authority, the root
// certificate in each namespace, its leases), custom resource definitions with all of their
// objects, and the namespaces that Install made. It returns when they are gone.
func (c *Cluster) Purge(ctx context.Context, namespace string) ([]string, error) {
	all := func(*unstructured.Unstructured) bool { return true }
	removed, err := c.removeKinds(ctx, append(ownKinds(), crdKind), ownerLabel, all)
	if err != nil {
		return removed, err
	}
	more, err := c.removeWritten(ctx, namespace)
	if removed = append(removed, more...); err != nil {
		return removed, err
	}
	more, err = c.removeKinds(ctx, []schema.GroupVersionKind{namespaceKind}, ownerLabel, all)
	if removed = append(removed, more...); err != nil {
		return removed, err
	}
	return removed, c.gone(ctx)
}

// removeWritten removes what istiod wrote, when it is there no more to write it again.
func (c *Cluster) removeWritten(ctx context.Context, namespace string) ([]string, error) {
	err := c.untilNone(ctx, podKind, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return nil, err
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
	var removed []string
	for _, w := range written {
		all, err := c.list(ctx, w.gvk, metav1.ListOptions{FieldSelector: w.fields})
		if err != nil {
			return removed, fmt.Errorf("%s: %w", w.gvk.Kind, plainError(err))
		}
		for i := range all {
			if !strings.HasPrefix(all[i].GetName(), w.where) {
				continue
			}
			if err := c.remove(ctx, &all[i]); err != nil {
				return removed, err
			}
			removed = append(removed, describe(&all[i]))
		}
	}
	return removed, nil
}

// goneTimeout bounds the wait for what is being removed: pods end gracefully.
const goneTimeout = 2 * time.Minute

// gone waits until custom resource definitions and namespaces are gone: the API server
// removes what is in them first.
func (c *Cluster) gone(ctx context.Context) error {
	for _, gvk := range []schema.GroupVersionKind{crdKind, namespaceKind} {
		if err := c.untilNone(ctx, gvk, metav1.ListOptions{LabelSelector: ownerLabel}); err != nil {
			return err
		}
	}
	return nil
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
