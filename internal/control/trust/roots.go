package trust

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coreinformers "k8s.io/client-go/informers/core/v1"
)

// The ConfigMap that pods mount to know the control plane.
const (
	RootsConfigMap = "istio-ca-root-cert"
	rootsKey       = "root-cert.pem"
	rootsLabel     = "istio.io/config"
)

// RootsConfigMaps keeps the mesh's roots in each namespace until ctx ends; then it returns
// nil. One replica does it (the leader).
func RootsConfigMaps(ctx context.Context, o Options) error {
	w := newWorker("roots", o)
	maps := coreinformers.NewFilteredConfigMapInformer(o.Client, metav1.NamespaceAll, 0, nil, func(l *metav1.ListOptions) {
		l.FieldSelector = fields.OneTermEqualSelector("metadata.name", RootsConfigMap).String()
	})
	namespaces := coreinformers.NewNamespaceInformer(o.Client, 0, nil)
	w.watch(namespaces, func(obj metav1.Object) string { return obj.GetName() })
	w.watch(maps, func(obj metav1.Object) string { return obj.GetNamespace() })
	return w.run(ctx, func(ctx context.Context, namespace string) error {
		obj, exists, err := namespaces.GetStore().GetByKey(namespace)
		ns, ok := obj.(*corev1.Namespace)
		if err != nil || !exists || !ok || ns.Status.Phase == corev1.NamespaceTerminating || withoutRoots(namespace) {
			return err
		}
		obj, _, err = maps.GetStore().GetByKey(namespace + "/" + RootsConfigMap)
		if err != nil {
			return err
		}
		present, _ := obj.(*corev1.ConfigMap)
		return o.writeRoots(ctx, namespace, present)
	})
}

// withoutRoots are the namespaces that get none, as in Istio (namespacecontroller.go):
// Kubernetes' own, where no pod is of the mesh.
func withoutRoots(namespace string) bool {
	switch namespace {
	case "kube-public", "kube-node-lease", "local-path-storage":
		return true
	}
	return false
}

// desired is the ConfigMap as it is to be; nil when it is so. Keys of others stay.
func desired(namespace, roots string, present *corev1.ConfigMap) *corev1.ConfigMap {
	if present == nil {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: RootsConfigMap, Namespace: namespace, Labels: map[string]string{rootsLabel: "true"}},
			Data:       map[string]string{rootsKey: roots},
		}
	}
	if present.Data[rootsKey] == roots && present.Labels[rootsLabel] == "true" {
		return nil
	}
	next := present.DeepCopy()
	next.Labels, next.Data = with(next.Labels, rootsLabel, "true"), with(next.Data, rootsKey, roots)
	return next
}

func with(m map[string]string, key, value string) map[string]string {
	out := map[string]string{key: value}
	for k, v := range maps.All(m) {
		if k != key {
			out[k] = v
		}
	}
	return out
}

func (o Options) writeRoots(ctx context.Context, namespace string, present *corev1.ConfigMap) error {
	authority := o.Keeper.Get()
	if authority == nil {
		return nil // who puts it there wakes the worker
	}
	next := desired(namespace, string(authority.Roots()), present)
	if next == nil {
		return nil
	}
	client := o.Client.CoreV1().ConfigMaps(namespace)
	var err error
	if present == nil {
		_, err = client.Create(ctx, next, metav1.CreateOptions{})
	} else {
		_, err = client.Update(ctx, next, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), apierrors.IsNotFound(err):
		return nil // the namespace goes
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
		return errAgain // what the watch tells next has it
	}
	return err
}
