package inject

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// finish does what templates cannot: the environment that the webhook's path names,
// metrics, probes, and the order of containers.
func (in *Injector) finish(after map[string]any, pod *corev1.Pod, data *templateData, env map[string]string) error {
	spec := child(after, "spec")
	proxy := find(spec["containers"], proxyContainer)
	if proxy == nil {
		proxy = find(spec["initContainers"], proxyContainer)
	}
	if proxy != nil {
		setEnv(proxy, env)
		if network := env["ISTIO_META_NETWORK"]; network != "" {
			child(child(after, "metadata"), "labels")[labelNetwork] = network
		}
		in.metrics(child(child(after, "metadata"), "annotations"), data)
	}
	rewrite, _ := child(in.values, "sidecarInjectorWebhook")["rewriteAppHTTPProbe"].(bool)
	if v, ok := pod.Annotations[annotationProbes]; ok {
		rewrite, _ = strconv.ParseBool(v)
	}
	if rewrite && proxy != nil {
		if err := rewriteProbes(spec, pod, statusPort(data.ProxyConfig)); err != nil {
			return err
		}
	}
	in.order(spec, data)
	return nil
}

func setEnv(container map[string]any, env map[string]string) {
	list, _ := container["env"].([]any)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = slices.DeleteFunc(list, func(e any) bool {
			m, _ := e.(map[string]any)
			return m["name"] == name
		})
		list = append(list, map[string]any{"name": name, "value": env[name]})
	}
	if len(list) > 0 {
		container["env"] = list
	}
}

// metrics tells Prometheus where the proxy's are, in a pod that says nothing of its own.
func (in *Injector) metrics(annotations map[string]any, data *templateData) {
	if merge := in.mesh.GetEnablePrometheusMerge(); merge != nil && !merge.GetValue() {
		return
	}
	for name := range annotations {
		if strings.HasPrefix(name, "prometheus.io/") {
			return
		}
	}
	annotations["prometheus.io/scrape"] = "true"
	annotations["prometheus.io/port"] = strconv.Itoa(int(statusPort(data.ProxyConfig)))
	annotations["prometheus.io/path"] = "/stats/prometheus"
}

// order puts the containers where they must be: as a native sidecar the capture, then the
// proxy, then the pod's own init containers, which so are captured and served; otherwise
// the pod's own init containers come before the capture, because there is no proxy yet.
// Among the containers the proxy is last, so that tools take the application's for the
// default, unless the application waits for it.
func (in *Injector) order(spec map[string]any, data *templateData) {
	if find(spec["initContainers"], proxyContainer) != nil {
		toFront(spec, "initContainers", proxyContainer)
		toFront(spec, "initContainers", initContainer)
	} else {
		toBack(spec, "initContainers", initContainer)
	}
	global := child(in.values, "global")
	hold, _ := child(global, "proxy")["holdApplicationUntilProxyStarts"].(bool)
	if h := data.ProxyConfig.GetHoldApplicationUntilProxyStarts(); h != nil {
		hold = h.GetValue()
	}
	if hold {
		toFront(spec, "containers", proxyContainer)
	} else {
		toBack(spec, "containers", proxyContainer)
	}
}

func toFront(spec map[string]any, list, name string) {
	if c := find(spec[list], name); c != nil {
		remove(spec, list, []string{name})
		rest, _ := spec[list].([]any)
		spec[list] = append([]any{c}, rest...)
	}
}

func toBack(spec map[string]any, list, name string) {
	if c := find(spec[list], name); c != nil {
		remove(spec, list, []string{name})
		rest, _ := spec[list].([]any)
		spec[list] = append(slices.Clone(rest), c)
	}
}
