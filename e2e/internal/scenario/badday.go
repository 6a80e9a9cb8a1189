package scenario

// rollout waits until a Deployment is as it should be.
const rollout = "kubectl rollout status --timeout=120s "

// behindTheAPI starts a load in a pod that goes on without kubectl, whose connection the
// API server holds.
func behindTheAPI(pod, url, seconds string) string {
	return "kubectl exec " + pod + ` -- bash -c '(` + asks(url, seconds) + `) </dev/null >/tmp/load 2>&1 &'`
}

func badDays(on Cluster) []Scenario {
	return []Scenario{
		{
			Name: "bad-before-webhook", What: "an object that was bad before the webhook came: skipped, reported, others unharmed",
			Steps: []Step{
				{Run: "kubectl delete validatingwebhookconfiguration istio-validator-istio-system", Want: "deleted"},
				{Run: apply + "bad.yaml", Want: "created"},
				{Run: apply + "api.yaml", Want: "created"},
				{Run: status("test", "http://api.example.com/"), Want: "^200", Within: settle},
				{Run: "istioctl analyze", Fails: true, Want: `(?s)bad.*invalid_port`},
				{Run: "kubectl logs -n istio-system deploy/istiod | grep -F invalid_port", Want: "bad"},
				{Run: remove + "bad.yaml", Want: "deleted"},
				{Run: on.install(""), Want: "complete"},
				{Run: apply + "bad.yaml", Fails: true, Want: "denied the request"},
			},
			Undo: []string{remove + "bad.yaml", remove + "api.yaml"},
		},
		{
			Name: "gateway-replaced", What: "two egress gateways, each deleted gracefully under load: nothing fails",
			Steps: []Step{
				{Run: "kubectl scale -n istio-system deployment/istio-egressgateway --replicas=2", Want: "scaled"},
				{Run: rollout + "-n istio-system deployment/istio-egressgateway", Want: "successfully"},
				{Run: load("test", "http://www.wikipedia.org/", "30"), Want: `^status 301: \d+\s*$`, Behind: true},
				{Run: "kubectl rollout restart -n istio-system deployment/istio-egressgateway", Want: "restarted"},
				{Run: rollout + "-n istio-system deployment/istio-egressgateway", Want: "successfully"},
			},
			Undo: []string{"kubectl scale -n istio-system deployment/istio-egressgateway --replicas=1"},
		},
		{
			Name: "all-restarted", What: "rolling restart of all of the mesh",
			Steps: []Step{
				{Run: "kubectl rollout restart -n istio-system deployment", Want: "restarted"},
				{Run: rollout + "-n istio-system deployment/istiod", Want: "successfully"},
				{Run: rollout + "-n istio-system deployment/istio-egressgateway", Want: "successfully"},
				{Run: rollout + "-n istio-system deployment/istio-ingressgateway", Want: "successfully"},
				{Run: status("test", "http://www.wikipedia.org/"), Want: "^301", Within: settle},
				{Run: status("test", "http://www.google.com/"), Want: "^502"},
			},
		},
		{
			Name: "api-server-down", What: "the API server does not answer for a minute: nothing fails",
			Node: "stops the process of the API server",
			Steps: []Step{
				// A proxy that has lost its istiod cannot show its token to another one while
				// nobody can check it: the mesh must be at rest.
				{Run: "kubectl get pods -n istio-system --no-headers", Want: `^(\S+ +1/1 +Running .*\n){3}$`, Within: settle},
				{Run: "istioctl proxy-status", Want: `(?m)^test\.default .*SYNCED`, Within: settle},
				{Run: status("test", "http://www.wikipedia.org/"), Want: "^301", Within: settle},
				{Run: behindTheAPI("test", "http://www.wikipedia.org/", "70")},
				{Run: "pkill -STOP -x kube-apiserver && (sleep 60; pkill -CONT -x kube-apiserver)"},
				{Run: "kubectl exec test -- cat /tmp/load", Want: `^status 301: \d+\s*$`, Within: settle},
				{Run: apply + "api.yaml", Want: "created"},
				{Run: status("test", "http://api.example.com/"), Want: "^200", Within: settle},
			},
			Undo: []string{remove + "api.yaml"},
		},
		{
			Name: "fifty-pods", What: "50 pods started at once, each with its sidecar",
			Steps: []Step{
				{Run: "kubectl create deployment fifty --image=nginx --replicas=50", Want: "created"},
				{Run: "kubectl rollout status --timeout=300s deployment/fifty", Want: "successfully"},
				{Run: "kubectl get pods -l app=fifty --no-headers | grep -c '2/2 *Running'", Want: "^50"},
				{Run: status("deploy/fifty", "http://www.wikipedia.org/"), Want: "^301", Within: settle},
				{Run: status("deploy/fifty", "http://www.google.com/"), Want: "^502"},
			},
			Undo: []string{"kubectl delete deployment fifty --now"},
		},
	}
}
