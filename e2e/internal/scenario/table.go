package scenario

import "time"

// settle is how long a change may take to be seen where no other bound is promised.
const settle = 60 * time.Second

// status is curl's request whose output is the status, three digits (000 is none).
func status(pod, url string) string {
	return "kubectl exec " + pod + ` -- curl -s -o /dev/null -m 10 -w '%{http_code}\n' ` + url
}

// lastLog is the line of a pod's sidecar that the last request to a host left.
func lastLog(pod, host string) string {
	return "kubectl logs " + pod + " -c istio-proxy --tail=50 | grep -F " + host + " | tail -n 1"
}

const (
	gatewayLog = "kubectl logs -n istio-system deploy/istio-egressgateway --tail=50"
	apply      = "kubectl apply -f "
	remove     = "kubectl delete --ignore-not-found -f "
)

// All are the scenarios for a cluster in the order in which they run; the last two take
// the mesh away, and bring another by Helm and take it away.
func All(on Cluster) []Scenario {
	all := policyScenarios()
	all = append(all, gatewayScenarios()...)
	all = append(all, ingressTLS())
	all = append(all, podScenarios()...)
	all = append(all, lifeScenarios()...)
	all = append(all, badDays(on)...)
	all = append(all, operateScenarios(on)...)
	all = append(all, uninstall(), plainHelm())
	for i := range all {
		all[i].Steps = on.localSteps(all[i].Steps)
	}
	return all
}

func policyScenarios() []Scenario {
	return []Scenario{
		{
			Name: "entry-deleted", What: "a ServiceEntry is deleted: blocked again within two seconds",
			Steps: []Step{
				{Run: status("test", "http://api.example.com/"), Want: "^502"},
				{Run: lastLog("test", "api.example.com"), Want: `502 .*(BlackHoleCluster|block_all)`, Within: settle},
				{Run: apply + "api.yaml", Want: "created"},
				{Run: status("test", "http://api.example.com/"), Want: "^200", Within: settle},
				{Run: lastLog("test", "api.example.com"), Want: `200 .*outbound\|80\|\|api\.example\.com`, Within: settle},
				{Run: "kubectl delete serviceentry api", Want: "deleted"},
				{Run: status("test", "http://api.example.com/"), Want: "^502", Within: 2 * time.Second},
			},
			Undo: []string{remove + "api.yaml"},
		},
		{
			Name: "policy-switched", What: "REGISTRY_ONLY and ALLOW_ANY by editing the ConfigMap",
			Steps: []Step{
				{Run: status("test", "http://api.example.com/"), Want: "^502"},
				{Run: setMode("REGISTRY_ONLY", "ALLOW_ANY"), Want: "replaced"},
				{Run: status("test", "http://api.example.com/"), Want: "^200", Within: settle},
				{Run: lastLog("test", "api.example.com"), Want: `200 .*PassthroughCluster`, Within: settle},
				{Run: setMode("ALLOW_ANY", "REGISTRY_ONLY"), Want: "replaced"},
				{Run: status("test", "http://api.example.com/"), Want: "^502", Within: settle},
			},
		},
		{
			Name: "without-injection", What: "a pod without injection beside an injected one",
			Steps: []Step{
				{Run: "kubectl run free --image=nginx --labels=sidecar.istio.io/inject=false", Want: "created"},
				{Run: "kubectl wait --for=condition=Ready pod/free --timeout=60s"},
				{Run: "kubectl get pod free", Want: "1/1 +Running"},
				{Run: status("free", "http://api.example.com/"), Want: "^200"},
				{Run: status("test", "http://api.example.com/"), Want: "^502"},
			},
			Undo: []string{"kubectl delete pod free --now"},
		},
		{
			Name: "export-to", What: "exportTo: an entry of another namespace is that namespace's alone",
			Steps: []Step{
				{Run: apply + "other.yaml", Want: "created"},
				{Run: "kubectl wait -n other --for=condition=Ready pod/test --timeout=90s"},
				{Run: status("-n other test", "http://api.example.com/"), Want: "^200", Within: settle},
				{Run: status("test", "http://api.example.com/"), Want: "^502"},
			},
			Undo: []string{remove + "other.yaml --now"},
		},
		{
			Name: "sidecar-policy", What: "Sidecar with outboundTrafficPolicy for one workload",
			Steps: []Step{
				{Run: apply + "open.yaml", Want: "created"},
				{Run: "kubectl wait --for=condition=Ready pod/open --timeout=90s"},
				{Run: status("open", "http://api.example.com/"), Want: "^200", Within: settle},
				{Run: status("test", "http://api.example.com/"), Want: "^502"},
			},
			Undo: []string{remove + "open.yaml --now"},
		},
		{
			Name: "bad-object", What: "a bad object is refused at apply, with the field and the reason",
			Steps: []Step{
				{Run: apply + "bad.yaml", Fails: true, Want: `denied the request.*(port|number)`},
				{Run: "kubectl get serviceentry bad", Fails: true, Want: "not found"},
			},
			Undo: []string{remove + "bad.yaml"},
		},
	}
}

// setMode edits the mesh's configuration as kubectl edit does.
func setMode(from, to string) string {
	return "kubectl get configmap istio -n istio-system -o yaml | sed 's/mode: " + from + "/mode: " + to + "/' | kubectl replace -f -"
}
