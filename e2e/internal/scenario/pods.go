package scenario

import (
	"fmt"
	"time"
)

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
		strictMutualTLS(),
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
			Name: "commands", What: "version, verify-install, proxy-status, proxy-config, explain, logs and analyze on the cluster",
			Steps: []Step{
				{Run: "istioctl version", Want: `(?s)client version: .*control plane version: \S+.*data plane version: `, Not: "none"},
				{Run: "istioctl verify-install"},
				{Run: "istioctl proxy-status", Want: `test\.default`},
				{Run: "istioctl proxy-config clusters test", Want: `www\.wikipedia\.org`},
				{Run: "istioctl proxy-config clusters deploy/istio-egressgateway.istio-system", Want: `www\.wikipedia\.org`},
				{Run: "egret explain pod/test https://www.wikipedia.org",
					Want: `(?s)^https://www\.wikipedia\.org:443: allowed.*1\. sidecar of test\.default.*because of +ServiceEntry default/`, Not: "2\\. "},
				{Run: "egret explain pod/test http://www.wikipedia.org",
					Want: `(?s)^http://www\.wikipedia\.org:80: allowed.*because of +VirtualService default/.*2\. gateway istio-egressgateway-.*because of +Gateway default/`},
				{Run: "egret explain test.default http://www.google.com", Fails: true,
					Want: `(?s)^http://www\.google\.com:80: denied\s+reason: not_in_registry: .*1\. sidecar of test\.default`},
				{Run: "istioctl explain deploy/coredns -n kube-system http://www.google.com", Want: `(?s)allowed.*has no sidecar`},
				{Run: "egret explain pod/nobody http://www.google.com", Fails: true, Want: `there is no pod "nobody" in namespace "default"`},
				{Run: "egret logs --denied", Want: `www\.google\.com`, Within: 10 * time.Second},
				{Run: "istioctl analyze"},
			},
		},
	}
}

// strictMutualTLS is a namespace that takes nothing but the mesh's TLS. Its pods also go to the
// egress gateway with it.
func strictMutualTLS() Scenario {
	const (
		editMesh = "kubectl get configmap istio -n istio-system -o yaml | sed '%s' | kubectl replace -f -"
		tellWho  = `s|^\( *\)accessLogFile: .*|&\n\1accessLogFormat: "%REQ(:AUTHORITY)% %RESPONSE_CODE% by %DOWNSTREAM_PEER_URI_SAN%\\n"|`
	)
	return Scenario{
		Name: "strict-mtls", What: "PeerAuthentication STRICT: who has a sidecar passes, who has none is refused; the gateway knows who calls",
		Steps: []Step{
			{Run: apply + "strict-mtls.yaml", Want: "created"},
			{Run: "kubectl wait -n secure --for=condition=Ready pod/web pod/bare --timeout=90s"},
			{Run: status("test", "http://web.secure/"), Want: "^200", Within: settle},
			{Run: status("-n secure bare", "http://web/"), Want: "^502"},
			{Run: "kubectl logs -n secure web -c istio-proxy --tail=50 | grep no_filter_chain", Want: `GET / .*502`, Within: settle},
			{Run: fmt.Sprintf(editMesh, tellWho), Want: "replaced"},
			{Run: status("test", "http://web.secure/") + " && kubectl logs -n secure web -c istio-proxy --tail=5",
				Want: `web\.secure 200 by spiffe://cluster\.local/ns/default/sa/default`, Within: settle},
			{Run: status("-n secure web", "http://api.example.com/") + " && " + gatewayLog,
				Want: `(?s)^200.*api\.example\.com 200 by spiffe://cluster\.local/ns/secure/sa/default`, Within: settle},
		},
		Undo: []string{fmt.Sprintf(editMesh, "/accessLogFormat/d"), remove + "strict-mtls.yaml --now"},
	}
}
