package inject

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Names of Istio's API (istio.io/api/annotation, istio.io/api/label).
const (
	annotationInject    = "sidecar.istio.io/inject" // a label, too
	annotationTemplates = "inject.istio.io/templates"
	annotationStatus    = "sidecar.istio.io/status"
	annotationOverrides = "proxy.istio.io/overrides"
	annotationConfig    = "proxy.istio.io/config"
	annotationProbes    = "sidecar.istio.io/rewriteAppHTTPProbers"
	annotationNative    = "sidecar.istio.io/nativeSidecar"
	annotationMode      = "sidecar.istio.io/interceptionMode"
	annotationImage     = "sidecar.istio.io/proxyImage"
	annotationImageType = "sidecar.istio.io/proxyImageType"
	annotationMerge     = "prometheus.istio.io/merge-metrics"
	labelNetwork        = "topology.istio.io/network"
)

// ignoredNamespaces are never injected (istio.io/istio/pkg/kube/inject IgnoredNamespaces).
var ignoredNamespaces = []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}

// refusal says why a pod gets no proxy; "": it gets one. The webhook's own selectors have
// asked the namespace's labels already.
func (in *Injector) refusal(pod *corev1.Pod, namespace string) string {
	switch {
	case pod.Spec.HostNetwork:
		return "hostNetwork: the rules would be the node's"
	case slices.Contains(ignoredNamespaces, namespace):
		return "the namespace " + namespace + " is never injected"
	}
	asked, what := pod.Annotations[annotationInject], "annotation "
	if l, ok := pod.Labels[annotationInject]; ok {
		asked, what = l, "label "
	}
	switch strings.ToLower(asked) {
	case "true", "yes", "y", "on":
		return ""
	case "":
	default:
		return what + annotationInject + " is " + asked
	}
	match := func(s labels.Selector) bool { return s.Matches(labels.Set(pod.Labels)) }
	switch {
	case slices.ContainsFunc(in.never, match):
		return "neverInjectSelector"
	case slices.ContainsFunc(in.always, match), in.policy == "enabled":
		return ""
	}
	return "the policy is disabled, and the pod does not ask"
}
