package install_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/egret-mesh/egret/charts"
	"github.com/egret-mesh/egret/internal/cli/cluster/install"
	"github.com/egret-mesh/egret/internal/control/kube/kubetest"
	"github.com/egret-mesh/egret/internal/runtest"
)

var (
	definitionsResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	entriesResource     = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}
	validatorsResource  = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}
	deploymentsResource = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
)

// day is a test on an API server.
type day struct {
	*testing.T
	c *install.Cluster
}

// install installs, and does meanwhile again and again until that has ended.
func (d day) install(meanwhile func(), sets ...string) {
	d.Helper()
	p, err := install.NewPlan(install.Request{Charts: charts.Files(), Version: "1", Sets: sets})
	if err != nil {
		d.Fatal(err)
	}
	all := render(d.T, install.Request{Version: "1", Sets: sets})
	done := make(chan error, 1)
	go func() { done <- d.c.Install(context.Background(), p, all, install.Options{}) }()
	runtest.Eventually(d.T, "the install ends", func() bool {
		meanwhile()
		select {
		case err := <-done:
			if err != nil {
				d.Fatal(err)
			}
			return true
		default:
			return false
		}
	})
}

// release takes the finalizers from an object that is being removed.
func release(r dynamic.ResourceInterface, name string, fields ...string) {
	ctx := context.Background()
	o, err := r.Get(ctx, name, metav1.GetOptions{})
	if err != nil || o.GetDeletionTimestamp() == nil {
		return
	}
	unstructured.RemoveNestedField(o.Object, fields...)
	var sub []string
	if fields[0] == "spec" {
		sub = []string{"finalize"}
	}
	_, _ = r.Update(ctx, o, metav1.UpdateOptions{}, sub...) // asked again
}

// TestBadDays: installs over what is half removed, and removals of what is half there.
func TestBadDays(t *testing.T) {
	c := connect(t, startAPIServer(t), kubetest.Admin)
	ctx := context.Background()
	d := day{t, c}

	d.Run("the namespace is being removed", func(t *testing.T) {
		d := day{t, c}
		ns := c.Dynamic.Resource(namespaces)
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "istio-system"}}}
		if _, err := ns.Create(ctx, o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := ns.Delete(ctx, "istio-system", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		d.install(func() { release(ns, "istio-system", "spec", "finalizers") },
			"profile=minimal", "meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY")
	})
	d.Run("a definition is being removed", func(t *testing.T) {
		d := day{t, c}
		r := c.Dynamic.Resource(definitionsResource)
		hold := []byte(`{"metadata":{"finalizers":["example.com/hold"]}}`)
		before, err := r.Patch(ctx, "sidecars.networking.istio.io", "application/merge-patch+json", hold, metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Delete(ctx, before.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		d.install(func() { release(r, before.GetName(), "metadata", "finalizers") },
			"profile=minimal", "meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY")
		after, err := r.Get(ctx, before.GetName(), metav1.GetOptions{})
		if err != nil || after.GetUID() == before.GetUID() || after.GetDeletionTimestamp() != nil {
			t.Errorf("the definition is the one that was being removed: %v", err)
		}
	})
	d.Run("MeshConfig would open", func(t *testing.T) {
		got, err := c.MeshChanges(ctx, render(t, install.Request{Version: "1", Sets: []string{"profile=minimal"}}))
		if err != nil || !slices.Equal(got, []string{"outboundTrafficPolicy.mode: REGISTRY_ONLY -> not set"}) {
			t.Errorf("%q, %v", got, err)
		}
	})
	d.Run("what Helm applied", func(t *testing.T) { appliedByHelm(day{t, c}) })
	d.Run("a revision beside", func(t *testing.T) { besideDefault(day{t, c}) })
	d.Run("objects of users are told", func(t *testing.T) { userObjects(day{t, c}) })
}

// besideDefault installs a second revision and removes it; the first one stays.
func besideDefault(d day) {
	ctx := context.Background()
	d.install(func() {}, "profile=minimal", "revision=canary")
	removed := d.removed(false, "canary")
	if !slices.Contains(removed, "Deployment istio-system/istiod-canary") || slices.Contains(removed, "Deployment istio-system/istiod") {
		d.Errorf("removed is %q", removed)
	}
	r := d.c.Dynamic.Resource(deploymentsResource).Namespace("istio-system")
	if _, err := r.Get(ctx, "istiod", metav1.GetOptions{}); err != nil {
		d.Errorf("the other revision: %v", err)
	}
	if _, err := r.Get(ctx, "istiod-canary", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		d.Errorf("the revision that was removed: %v", err)
	}
	if again := d.removed(false, "canary"); len(again) > 0 {
		d.Errorf("removed again: %q", again)
	}
}

// removed is what an uninstall tells of; with dry nothing goes.
func (d day) removed(dry bool, revision string) []string {
	d.Helper()
	var told []string
	r := install.Removal{DryRun: dry, Tell: func(object string) { told = append(told, object) }}
	if err := d.c.Uninstall(context.Background(), revision, r); err != nil {
		d.Fatal(err)
	}
	return told
}

// userObjects: they are found, and a dry run of a removal leaves them and all else.
func userObjects(d day) {
	ctx := context.Background()
	entry := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
		"metadata": map[string]any{"name": "mine"}, "spec": map[string]any{"hosts": []any{"www.example.com"}}}}
	// No istiod is there to judge it.
	if err := d.c.Dynamic.Resource(validatorsResource).Delete(ctx, "istio-validator-istio-system", metav1.DeleteOptions{}); err != nil {
		d.Fatal(err)
	}
	runtest.Eventually(d.T, "the entry is taken", func() bool {
		_, err := d.c.Dynamic.Resource(entriesResource).Namespace("default").Create(ctx, entry, metav1.CreateOptions{})
		return err == nil
	})
	found, err := d.c.UserObjects(ctx)
	if err != nil || !slices.Equal(found, []string{"ServiceEntry default/mine"}) {
		d.Errorf("%q, %v", found, err)
	}
	var told []string
	r := install.Removal{DryRun: true, Tell: func(object string) { told = append(told, object) }}
	if err := d.c.Purge(ctx, "istio-system", r); err != nil {
		d.Fatal(err)
	}
	for _, want := range []string{"Deployment istio-system/istiod", "CustomResourceDefinition serviceentries.networking.istio.io", "Namespace istio-system"} {
		if !slices.Contains(told, want) {
			d.Errorf("%s is not told of: %s", want, strings.Join(told, ", "))
		}
	}
	if again, err := d.c.UserObjects(ctx); err != nil || len(again) != 1 {
		d.Errorf("after the dry run: %q, %v", again, err)
	}
	if dry := d.removed(true, ""); !slices.Contains(dry, "Deployment istio-system/istiod") || !slices.Equal(dry, d.removed(true, "")) {
		d.Errorf("a dry run changes something: %q", dry)
	}
}

// appliedByHelm: Helm 4 applies as a field manager that does not force. Applied again, after
// istiod wrote to the webhooks, nothing is in conflict; and verify finds what Helm brought.
func appliedByHelm(d day) {
	ctx := context.Background()
	webhooks := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1"}
	fail := []byte(`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":"YQ=="},{"op":"add","path":"/webhooks/0/failurePolicy","value":"Fail"}]`)
	for range 2 {
		for _, release := range render(d.T, install.Request{Version: "1", Sets: []string{"profile=minimal", "revision=helm"}}) {
			for _, o := range release.Objects {
				resource, ok := map[string]string{"MutatingWebhookConfiguration": "mutatingwebhookconfigurations",
					"ValidatingWebhookConfiguration": "validatingwebhookconfigurations"}[o.GetKind()]
				if !ok {
					continue
				}
				r := d.c.Dynamic.Resource(webhooks.GroupVersion().WithResource(resource))
				if _, err := r.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "helm"}); err != nil {
					d.Errorf("%s: %v", o.GetName(), err)
					continue
				}
				if _, err := r.Patch(ctx, o.GetName(), "application/json-patch+json", fail, metav1.PatchOptions{FieldManager: "egretd"}); err != nil {
					d.Fatal(err)
				}
			}
		}
	}
	found, err := d.c.VerifyInstalled(ctx, "helm")
	if err != nil || !slices.ContainsFunc(found, func(v install.Verdict) bool {
		return v.Object == "ValidatingWebhookConfiguration istio-validator-helm-istio-system"
	}) {
		d.Errorf("found is %v, %v", found, err)
	}
	d.removed(false, "helm")
}
