package inject

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// cronJobName is how a CronJob calls its Jobs: its own name and minutes.
var cronJobName = regexp.MustCompile(`^(.+)-\d{8,10}$`)

// workload is what a pod belongs to, as far as the pod tells: a Deployment by its
// ReplicaSet's name, a CronJob by its Job's, else its controller, else itself
// (istio.io/istio/pkg/kube GetDeployMetaFromPod).
func workload(pod *corev1.Pod, namespace string) (types.NamespacedName, metav1.TypeMeta) {
	name := types.NamespacedName{Namespace: namespace, Name: pod.Name}
	if name.Name == "" {
		name.Name = strings.TrimSuffix(pod.GenerateName, "-")
	}
	kind := metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return name, kind
	}
	name.Name, kind.Kind, kind.APIVersion = owner.Name, owner.Kind, owner.APIVersion
	switch owner.Kind {
	case "ReplicaSet":
		hash := pod.Labels["pod-template-hash"]
		if short, ok := strings.CutSuffix(owner.Name, "-"+hash); ok && hash != "" && strings.HasPrefix(owner.APIVersion, "apps/") {
			name.Name, kind.Kind = short, "Deployment"
		}
	case "Job":
		if m := cronJobName.FindStringSubmatch(owner.Name); m != nil {
			name.Name, kind.Kind = m[1], "CronJob"
		}
	}
	return name, kind
}
