package inject

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// undo takes away what an earlier injection made of a pod, so that injecting again gives
// the same, or what a newer configuration says. A pod that was not injected is copied.
func undo(original map[string]any, pod *corev1.Pod) (map[string]any, error) {
	out := copyOf(original)
	text, ok := pod.Annotations[annotationStatus]
	if !ok {
		return out, nil
	}
	var s injectionStatus
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("the annotation %s: %w", annotationStatus, err)
	}
	spec := child(out, "spec")
	if err := restoreProbes(spec); err != nil {
		return nil, err
	}
	for list, names := range map[string][]string{
		"containers": s.Containers, "initContainers": s.InitContainers, "volumes": s.Volumes, "imagePullSecrets": s.ImagePullSecrets,
	} {
		remove(spec, list, names)
	}
	annotations := child(child(out, "metadata"), "annotations")
	delete(annotations, annotationStatus)
	if text, ok := pod.Annotations[annotationOverrides]; ok {
		var o userContainers
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			return nil, fmt.Errorf("the annotation %s: %w", annotationOverrides, err)
		}
		putBack(spec, "containers", o.Containers)
		putBack(spec, "initContainers", o.InitContainers)
		delete(annotations, annotationOverrides)
	}
	return out, nil
}

// userContainers is the annotation proxy.istio.io/overrides: what the pod itself said of
// containers that are injected.
type userContainers struct {
	Containers     []map[string]any `json:"containers,omitempty"`
	InitContainers []map[string]any `json:"initContainers,omitempty"`
}

// remove takes the elements of those names out of a list; an empty list is none.
func remove(spec map[string]any, list string, names []string) {
	all, ok := spec[list].([]any)
	if !ok || len(names) == 0 {
		return
	}
	left := slices.DeleteFunc(slices.Clone(all), func(e any) bool {
		m, _ := e.(map[string]any)
		name, _ := m["name"].(string)
		return slices.Contains(names, name)
	})
	if spec[list] = left; len(left) == 0 {
		delete(spec, list)
	}
}

func putBack(spec map[string]any, list string, containers []map[string]any) {
	all, _ := spec[list].([]any)
	for _, c := range containers {
		if name, _ := c["name"].(string); find(all, name) == nil {
			all = append(all, c)
		}
	}
	if len(all) > 0 {
		spec[list] = all
	}
}

// moveOverride moves the pod's own istio-proxy container to where the template has it.
func moveOverride(after, injected map[string]any) {
	spec, template := child(after, "spec"), child(injected, "spec")
	own := find(spec["containers"], proxyContainer)
	if own == nil || find(template["initContainers"], proxyContainer) == nil {
		return
	}
	remove(spec, "containers", []string{proxyContainer})
	putBack(spec, "initContainers", []map[string]any{own})
}

// overrides lays what the pod itself says of injected containers over what the templates
// say, and notes it.
func overrides(after, injected, before map[string]any) (map[string]any, error) {
	own, template := child(copyOf(before), "spec"), child(injected, "spec")
	var noted userContainers
	var err error
	for _, list := range []string{"containers", "initContainers"} {
		for _, name := range namesOf(template[list]) {
			user := find(own[list], name)
			if user == nil {
				user = find(own["containers"], name)
			}
			if user == nil {
				continue
			}
			if list == "containers" {
				noted.Containers = append(noted.Containers, user)
			} else {
				noted.InitContainers = append(noted.InitContainers, user)
			}
			over := copyOf(user)
			if over["image"] == autoImage {
				delete(over, "image")
			}
			if after, err = strategic(after, map[string]any{"spec": map[string]any{list: []any{over}}}); err != nil {
				return nil, fmt.Errorf("the container %s: %w", name, err)
			}
			followUser(after, over)
		}
	}
	if len(noted.Containers)+len(noted.InitContainers) == 0 {
		return after, nil
	}
	text, err := json.Marshal(noted)
	child(child(after, "metadata"), "annotations")[annotationOverrides] = string(text)
	return after, err
}

// followUser lets the capture leave out what the proxy sends, where the pod runs it as
// another user.
func followUser(after, proxy map[string]any) {
	security, _ := proxy["securityContext"].(map[string]any)
	user, ok := security["runAsUser"].(float64)
	c := find(child(after, "spec")["initContainers"], initContainer)
	if proxy["name"] != proxyContainer || !ok || user <= 0 || c == nil {
		return
	}
	args, _ := c["args"].([]any)
	for i := range len(args) - 1 {
		if args[i] == "-u" {
			args[i+1] = fmt.Sprintf("%.0f", user)
		}
	}
}
