package inject

import (
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// probersVariable tells the agent whom to ask for the kubelet.
const probersVariable = "ISTIO_KUBE_APP_PROBERS"

// handlers are the places of a container where the kubelet asks by HTTP, TCP or gRPC: the
// mapping around the handler, and the path by which the agent is asked instead
// (istio.io/istio/pilot/cmd/pilot-agent/status).
var handlers = []struct{ field, inner, path string }{
	{"livenessProbe", "", "app-health/%s/livez"},
	{"readinessProbe", "", "app-health/%s/readyz"},
	{"startupProbe", "", "app-health/%s/startupz"},
	{"lifecycle", "preStop", "app-lifecycle/%s/prestopz"},
	{"lifecycle", "postStart", "app-lifecycle/%s/poststartz"},
}

// prober is one entry of ISTIO_KUBE_APP_PROBERS.
type prober struct {
	HTTPGet        map[string]any `json:"httpGet,omitempty"`
	TCPSocket      map[string]any `json:"tcpSocket,omitempty"`
	GRPC           map[string]any `json:"grpc,omitempty"`
	TimeoutSeconds any            `json:"timeoutSeconds,omitempty"`
}

// rewriteProbes leads the kubelet's questions to the agent, because what comes in to the
// application's own ports is captured. Handlers with a host of their own, and those that
// run a command, stay.
func rewriteProbes(spec map[string]any, pod *corev1.Pod, port int32) error {
	all := map[string]prober{}
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range elements(spec[list]) {
			if name, _ := c["name"].(string); name != proxyContainer && name != initContainer {
				rewriteContainer(c, name, namedPorts(pod, name), port, all)
			}
		}
	}
	proxy := find(spec["containers"], proxyContainer)
	if proxy == nil {
		proxy = find(spec["initContainers"], proxyContainer)
	}
	if len(all) == 0 || proxy == nil {
		return nil
	}
	text, err := json.Marshal(all)
	env, _ := proxy["env"].([]any)
	proxy["env"] = append(env, map[string]any{"name": probersVariable, "value": string(text)})
	return err
}

func rewriteContainer(c map[string]any, name string, ports map[string]int32, agent int32, all map[string]prober) {
	for _, h := range handlers {
		probe, _ := c[h.field].(map[string]any)
		if h.inner != "" {
			probe, _ = probe[h.inner].(map[string]any)
		}
		path := "/" + fmt.Sprintf(h.path, name)
		entry := prober{TimeoutSeconds: probe["timeoutSeconds"]}
		get, _ := probe["httpGet"].(map[string]any)
		socket, _ := probe["tcpSocket"].(map[string]any)
		health, _ := probe["grpc"].(map[string]any)
		switch {
		case get != nil && own(get, ports, agent):
			entry.HTTPGet = copyOf(get)
			entry.HTTPGet["port"] = number32(get["port"], ports)
		case socket != nil && own(socket, ports, agent):
			entry.TCPSocket = copyOf(socket)
			entry.TCPSocket["port"] = number32(socket["port"], ports)
			delete(probe, "tcpSocket")
		case health != nil && own(health, ports, agent):
			entry.GRPC = copyOf(health)
			delete(probe, "grpc")
		default:
			continue
		}
		all[path] = entry
		probe["httpGet"] = map[string]any{"path": path, "port": float64(agent)}
	}
}

// own reports whether a handler asks the pod itself at a port that is known, and not the
// agent already.
func own(h map[string]any, ports map[string]int32, agent int32) bool {
	host, _ := h["host"].(string)
	port := number32(h["port"], ports)
	return host == "" && port > 0 && port != float64(agent)
}

// number32 is a port by number or name; 0: there is none.
func number32(port any, names map[string]int32) float64 {
	switch p := port.(type) {
	case float64:
		return p
	case string:
		return float64(names[p])
	}
	return 0
}

func namedPorts(pod *corev1.Pod, container string) map[string]int32 {
	out := map[string]int32{}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		for _, p := range c.Ports {
			if c.Name == container && p.Name != "" {
				out[p.Name] = p.ContainerPort
			}
		}
	}
	return out
}

// restoreProbes puts back what rewriteProbes took.
func restoreProbes(spec map[string]any) error {
	proxy := find(spec["containers"], proxyContainer)
	if proxy == nil {
		proxy = find(spec["initContainers"], proxyContainer)
	}
	if proxy == nil {
		return nil
	}
	text, _ := find(proxy["env"], probersVariable)["value"].(string)
	if text == "" {
		return nil
	}
	var all map[string]prober
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return fmt.Errorf("%s of the container %s: %w", probersVariable, proxyContainer, err)
	}
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range elements(spec[list]) {
			restoreContainer(c, all)
		}
	}
	return nil
}

func restoreContainer(c map[string]any, all map[string]prober) {
	for _, h := range handlers {
		probe, _ := c[h.field].(map[string]any)
		if h.inner != "" {
			probe, _ = probe[h.inner].(map[string]any)
		}
		get, _ := probe["httpGet"].(map[string]any)
		path, _ := get["path"].(string)
		entry, ok := all[path]
		if !ok || !strings.HasPrefix(path, "/app-") {
			continue
		}
		delete(probe, "httpGet")
		if entry.HTTPGet != nil {
			probe["httpGet"] = entry.HTTPGet
		}
		if entry.TCPSocket != nil {
			probe["tcpSocket"] = entry.TCPSocket
		}
		if entry.GRPC != nil {
			probe["grpc"] = entry.GRPC
		}
	}
}
