package install

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestPodTrouble: the words are those of a kubelet.
func TestPodTrouble(t *testing.T) {
	waiting := func(reason, message string) tree {
		return tree{"name": "discovery", "image": "docker.io/x/pilot:1", "state": tree{"waiting": tree{"reason": reason, "message": message}}}
	}
	const notFound = `failed to resolve image: docker.io/x/pilot:1: not found`
	for _, c := range []struct {
		name   string
		status tree
		want   string // in what is told; empty: nothing is
	}{
		{"a try failed", waiting("ErrImagePull", notFound), "image docker.io/x/pilot:1 cannot be pulled: " + notFound + " ("},
		{"it waits", waiting("ImagePullBackOff", `Back-off pulling image "docker.io/x/pilot:1": ErrImagePull: `+notFound), "cannot be pulled: " + notFound + " ("},
		{"an older kubelet", waiting("ImagePullBackOff", `Back-off pulling image "docker.io/x/pilot:1"`), "ImagePullBackOff: Back-off pulling"},
		{"no name of an image", waiting("InvalidImageName", "couldn't parse"), "InvalidImageName: couldn't parse"},
		{"it starts", waiting("ContainerCreating", ""), ""},
		{"it ended", tree{"name": "discovery", "state": tree{"waiting": tree{"reason": "CrashLoopBackOff"}},
			"lastState": tree{"terminated": tree{"reason": "Error", "exitCode": int64(2), "message": "no flag"}}}, "ends again and again: CrashLoopBackOff (Error, exit status 2): no flag"},
	} {
		pod := &unstructured.Unstructured{Object: tree{"kind": "Pod", "metadata": tree{"name": "istiod", "namespace": "istio-system"},
			"status": tree{"containerStatuses": []any{c.status}}}}
		got := strings.Join(podTrouble(pod), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
