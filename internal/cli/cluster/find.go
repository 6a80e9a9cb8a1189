package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// target is what a command line names: a pod, or what has pods.
type target struct{ kind, name, namespace string }

// parseTarget reads NAME, NAME.NAMESPACE, KIND/NAME or KIND/NAME.NAMESPACE, as istioctl does. A
// name may have dots: what follows the last one is a namespace where none is given.
func parseTarget(s, namespace, otherwise string) (target, error) {
	kind, name, typed := strings.Cut(s, "/")
	if !typed {
		kind, name = "pod", s
	}
	if i := strings.LastIndexByte(name, '.'); i >= 0 && namespace == "" {
		name, namespace = name[:i], name[i+1:]
	}
	if kind == "" || name == "" || strings.ContainsRune(name, '/') {
		return target{}, errors.New("wanted is a pod, or what has pods: NAME, NAME.NAMESPACE, pod/NAME or deploy/NAME")
	}
	return target{kind, name, cmp.Or(namespace, otherwise)}, nil
}

// pod finds the pod that a command line names; of what has several, one that is ready.
func (c *clients) pod(ctx context.Context, s, namespace, otherwise string) (*corev1.Pod, error) {
	t, err := parseTarget(s, namespace, otherwise)
	if err != nil {
		return nil, err
	}
	resource, err := c.mapper.ResourceFor(schema.ParseGroupResource(t.kind).WithVersion(""))
	if meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("the cluster has no kind %q", t.kind)
	}
	if err != nil {
		return nil, err
	}
	if resource.GroupResource() == (schema.GroupResource{Resource: "pods"}) {
		pod, err := c.typed.CoreV1().Pods(t.namespace).Get(ctx, t.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("there is no pod %q in namespace %q", t.name, t.namespace)
		}
		return pod, err
	}
	owner, err := c.dynamic.Resource(resource).Namespace(t.namespace).Get(ctx, t.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no %s %q in namespace %q", strings.TrimSuffix(resource.Resource, "s"), t.name, t.namespace)
	}
	if err != nil {
		return nil, err
	}
	selector, err := selectorOf(owner)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	list, err := c.typed.CoreV1().Pods(t.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("%s in namespace %q has no pod now", s, t.namespace)
	}
	return best(list.Items), nil
}

// selectorOf is which pods are an object's: spec.selector of a Service, or of a workload.
func selectorOf(owner *unstructured.Unstructured) (labels.Selector, error) {
	spec, ok, _ := unstructured.NestedMap(owner.Object, "spec", "selector")
	if !ok || len(spec) == 0 {
		return nil, fmt.Errorf("a %s has no pods of its own (no spec.selector)", owner.GetKind())
	}
	if owner.GroupVersionKind() == (schema.GroupVersionKind{Version: "v1", Kind: "Service"}) {
		plain, _, err := unstructured.NestedStringMap(owner.Object, "spec", "selector")
		return labels.SelectorFromSet(plain), err
	}
	var s metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &s); err != nil {
		return nil, err
	}
	return metav1.LabelSelectorAsSelector(&s)
}

// best is a pod that is ready, else one that runs, else any; the newest of those.
func best(pods []corev1.Pod) *corev1.Pod {
	rank := func(p *corev1.Pod) int {
		switch {
		case p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
			return 3
		case slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}):
			return 0
		case p.Status.Phase == corev1.PodRunning:
			return 1
		}
		return 2
	}
	one := slices.MinFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return &one
}

// proxyContainer is the name of the proxy's container in every pod.
const proxyContainer = "istio-proxy"

// container of a pod by its name, init containers too; nil where there is none.
func container(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func proxyOf(pod *corev1.Pod) *corev1.Container { return container(pod, proxyContainer) }

// fullName is how istioctl names a pod.
func fullName(pod *corev1.Pod) string { return pod.Name + "." + pod.Namespace }
