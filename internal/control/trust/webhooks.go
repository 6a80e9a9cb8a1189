package trust

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	admissioninformers "k8s.io/client-go/informers/admissionregistration/v1"
)

// What of webhook configurations is ours: the label says of which revision one is, and the
// end of a webhook's name what it does (istio.io/istio/manifests/charts/istio-control).
const (
	revisionLabel    = "istio.io/rev"
	injectorSuffix   = "sidecar-injector.istio.io"
	validationSuffix = "validation.istio.io"
)

// Webhooks writes the authority into the webhook configurations of this revision until ctx
// ends; then it returns nil. The validating webhooks fail closed from when one has been seen
// to refuse what is invalid, as in Istio: before, a cluster could not be mended. One replica
// does it (the leader).
func Webhooks(ctx context.Context, o Options) error {
	w := newWorker("webhooks", o)
	ours := func(l *metav1.ListOptions) {
		l.LabelSelector = labels.Set{revisionLabel: o.Revision}.String()
	}
	mutating := admissioninformers.NewFilteredMutatingWebhookConfigurationInformer(o.Client, 0, nil, ours)
	validating := admissioninformers.NewFilteredValidatingWebhookConfigurationInformer(o.Client, 0, nil, ours)
	const mutates, validates = "mutating/", "validating/"
	w.watch(mutating, func(m metav1.Object) string { return mutates + m.GetName() })
	w.watch(validating, func(m metav1.Object) string { return validates + m.GetName() })
	var answers atomic.Bool // the validating webhook does
	return w.run(ctx, func(ctx context.Context, key string) error {
		if name, ok := strings.CutPrefix(key, mutates); ok {
			obj, _, err := mutating.GetStore().GetByKey(name)
			config, found := obj.(*admissionv1.MutatingWebhookConfiguration)
			if err != nil || !found {
				return err
			}
			return o.patchMutating(ctx, config)
		}
		obj, _, err := validating.GetStore().GetByKey(strings.TrimPrefix(key, validates))
		config, found := obj.(*admissionv1.ValidatingWebhookConfiguration)
		if err != nil || !found {
			return err
		}
		if err := o.patchValidating(ctx, config, answers.Load()); err != nil || answers.Load() || !isValidation(config) {
			return err
		}
		if err := o.refusesInvalid(ctx); err != nil {
			o.Logger.Debug("the validating webhook is not seen to refuse what is invalid yet", "reason", err)
			return errAgain
		}
		o.Logger.Info("the validating webhook answers; what it does not see is refused from now on", "configuration", config.Name)
		answers.Store(true)
		return errAgain // with the failure policy of now
	})
}

// withBundle is the configuration with the roots in the webhooks of ours; nil when it is so.
func withBundle(config *admissionv1.MutatingWebhookConfiguration, roots []byte) *admissionv1.MutatingWebhookConfiguration {
	next := config.DeepCopy()
	changed := false
	for i := range next.Webhooks {
		h := &next.Webhooks[i]
		if strings.HasSuffix(h.Name, injectorSuffix) && !bytes.Equal(h.ClientConfig.CABundle, roots) {
			h.ClientConfig.CABundle, changed = roots, true
		}
	}
	if !changed {
		return nil
	}
	return next
}

// validatingWith is withBundle for validating webhooks; strict ones fail closed.
func validatingWith(config *admissionv1.ValidatingWebhookConfiguration, roots []byte, strict bool) *admissionv1.ValidatingWebhookConfiguration {
	next := config.DeepCopy()
	changed := false
	for i := range next.Webhooks {
		h := &next.Webhooks[i]
		if !strings.HasSuffix(h.Name, validationSuffix) {
			continue
		}
		if !bytes.Equal(h.ClientConfig.CABundle, roots) {
			h.ClientConfig.CABundle, changed = roots, true
		}
		if fail := admissionv1.Fail; strict && (h.FailurePolicy == nil || *h.FailurePolicy != fail) {
			h.FailurePolicy, changed = &fail, true
		}
	}
	if !changed {
		return nil
	}
	return next
}

func isValidation(config *admissionv1.ValidatingWebhookConfiguration) bool {
	return slices.ContainsFunc(config.Webhooks, func(h admissionv1.ValidatingWebhook) bool { return strings.HasSuffix(h.Name, validationSuffix) })
}

func (o Options) patchMutating(ctx context.Context, config *admissionv1.MutatingWebhookConfiguration) error {
	authority := o.Keeper.Get()
	if authority == nil {
		return nil // who puts it there wakes the worker
	}
	next := withBundle(config, authority.Roots())
	if next == nil {
		return nil
	}
	_, err := o.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(ctx, next, metav1.UpdateOptions{})
	return o.patched("MutatingWebhookConfiguration", config.Name, err)
}

func (o Options) patchValidating(ctx context.Context, config *admissionv1.ValidatingWebhookConfiguration, strict bool) error {
	authority := o.Keeper.Get()
	if authority == nil {
		return nil
	}
	next := validatingWith(config, authority.Roots(), strict)
	if next == nil {
		return nil
	}
	_, err := o.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(ctx, next, metav1.UpdateOptions{})
	return o.patched("ValidatingWebhookConfiguration", config.Name, err)
}

func (o Options) patched(kind, name string, err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return errAgain
	case err != nil:
		return err
	}
	o.Logger.Info("the webhooks' configuration has the authority", "kind", kind, "name", name)
	return nil
}

// refusesInvalid is nil when the API server has a Gateway without servers refused by the
// validating webhook. Nothing is written (dry run).
func (o Options) refusesInvalid(ctx context.Context) error {
	gateways := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "gateways"}
	invalid := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": gateways.GroupVersion().String(), "kind": "Gateway", "spec": map[string]any{},
		"metadata": map[string]any{"name": "invalid-gateway", "namespace": o.Namespace},
	}}
	_, err := o.Dynamic.Resource(gateways).Namespace(o.Namespace).Create(ctx, invalid, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case err == nil:
		return fmt.Errorf("an invalid Gateway is taken")
	case strings.Contains(err.Error(), validationSuffix+`" denied the request`):
		return nil
	case apierrors.IsNotFound(err):
		return nil // there are no Istio objects to refuse (no CRDs)
	}
	return err
}
