package scenario

import "time"

// podScenarios are about what injection makes of a pod, and about the commands that
// look at it.
func podScenarios() []Scenario {
	const sidecar = `kubectl get pod test -o jsonpath='{.spec.initContainers[?(@.name=="istio-proxy")].securityContext}'`
	return []Scenario{
		{
			Name: "sidecar-rights", What: "the sidecar is not root, has no capabilities and a root that it cannot write",
			Steps: []Step{
				{Run: sidecar, Want: `"runAsUser":1337`},
				{Run: sidecar, Want: `"readOnlyRootFilesystem":true`},
				{Run: sidecar, Want: `"drop":\["ALL"\]`, Not: `"add"`},
				{Run: sidecar, Want: `"allowPrivilegeEscalation":false`},
			},
		},
		{
			Name: "inbound", What: "a Service of the mesh, from a sidecar and from a pod without; probes as Kubernetes knows them",
			Steps: []Step{
				{Run: apply + "inbound.yaml", Want: "created"},
				{Run: "kubectl wait --for=condition=Ready pod/web pod/plain --timeout=90s"},
				{Run: status("test", "http://web/"), Want: "^200", Within: settle},
				{Run: status("test", "http://web.default.svc.cluster.local/"), Want: "^200"},
				{Run: status("plain", "http://web/"), Want: "^200"},
				{Run: lastLog("web", `"web"`), Want: `200 .*inbound\|80\|\|`, Within: settle},
				{Run: status("test", "http://plain/"), Want: "^200", Within: settle},
			},
			Undo: []string{remove + "inbound.yaml --now"},
		},
		{
			Name: "kube-inject", What: "kube-inject makes of a file what the webhook makes of a pod",
			Steps: []Step{
				{Run: "istioctl kube-inject -f pod.yaml | kubectl apply -f -", Want: "created"},
				{Run: "kubectl wait --for=condition=Ready pod/by-hand --timeout=90s"},
				{Run: status("by-hand", "http://www.google.com/"), Want: "^502"},
			},
			Undo: []string{"kubectl delete --ignore-not-found pod by-hand --now"},
		},
		{
			Name: "commands", What: "version, verify-install, proxy-status, proxy-config, logs and analyze on the cluster",
			Steps: []Step{
				{Run: "istioctl version", Want: `(?s)client version: .*control plane version: \S+.*data plane version: `, Not: "none"},
				{Run: "istioctl verify-install"},
				{Run: "istioctl proxy-status", Want: `test\.default`},
				{Run: "istioctl proxy-config clusters test", Want: `www\.wikipedia\.org`},
				{Run: "egret logs --denied", Want: `www\.google\.com`, Within: 10 * time.Second},
				{Run: "istioctl analyze"},
			},
		},
	}
}
