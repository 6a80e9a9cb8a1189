package scenario

func gatewayScenarios() []Scenario {
	return []Scenario{
		{
			Name: "second-host", What: "a second host through the same gateway",
			Steps: []Step{
				{Run: apply + "second-host.yaml", Want: "created"},
				{Run: status("test", "http://api.example.com/") + " && " + gatewayLog + " | grep -F api.example.com",
					Want: `(?s)^200.*api\.example\.com`, Within: settle},
				{Run: status("test", "http://www.wikipedia.org/"), Want: "^301"},
			},
			Undo: []string{remove + "second-host.yaml"},
		},
		{
			Name: "https-by-sni", What: "HTTPS through the gateway by SNI (PASSTHROUGH)",
			Steps: []Step{
				{Run: apply + "https-by-sni.yaml", Want: "created"},
				{Run: status("test", "https://de.wikipedia.org/") + " && " + gatewayLog + " | grep -F de.wikipedia.org",
					Want: `(?s)^(?:200|301).*outbound\|443\|\|de\.wikipedia\.org`, Within: settle},
				{Run: status("test", "https://www.google.com/"), Fails: true, Want: "^000"},
			},
			Undo: []string{remove + "https-by-sni.yaml"},
		},
		{
			Name: "own-gateway", What: "a gateway that a user makes, from the gateway template",
			Steps: []Step{
				{Run: apply + "own-gateway.yaml", Want: "created"},
				{Run: rollout + "deployment/own-gateway", Want: "successfully"},
				{Run: status("test", "http://api.example.com/") + " && kubectl logs deploy/own-gateway --tail=50 | grep -F api.example.com",
					Want: `(?s)^200.*outbound\|80\|\|api\.example\.com`, Within: settle},
			},
			Undo: []string{remove + "own-gateway.yaml --now"},
		},
		{
			Name: "ingress", What: "from outside of the mesh through the ingress gateway to a workload",
			Steps: []Step{
				{Run: apply + "ingress.yaml", Want: "created"},
				{Run: "kubectl wait --for=condition=Ready pod/web pod/plain --timeout=90s"},
				{Run: status("plain", "-H 'Host: web.example.com' http://istio-ingressgateway.istio-system/"), Want: "^200", Within: settle},
				{Run: status("plain", "-H 'Host: other.example.com' http://istio-ingressgateway.istio-system/"), Want: "^404"},
				{Run: lastLog("web", "web.example.com"), Want: `200 .*inbound\|80\|\|`, Within: settle},
			},
			Undo: []string{remove + "ingress.yaml --now"},
		},
	}
}

// asks is a script that asks again and again for some seconds, and prints how often each
// status came.
func asks(url, seconds string) string {
	return `end=$((SECONDS+` + seconds + `)); while [ $SECONDS -lt $end ]; do ` +
		`s=$(curl -s -o /dev/null -m 10 -w %{http_code} ` + url + `); n[10#$s]=$((${n[10#$s]:-0}+1)); sleep 0.02; done; ` +
		`for s in "${!n[@]}"; do echo "status $s: ${n[$s]}"; done`
}

// load has a pod ask for some seconds.
func load(pod, url, seconds string) string {
	return "kubectl exec " + pod + " -- bash -c '" + asks(url, seconds) + "'"
}

func lifeScenarios() []Scenario {
	return []Scenario{
		{
			Name: "job", What: "a Job that ends: the sidecar ends with it",
			Steps: []Step{
				{Run: apply + "job.yaml", Want: "created"},
				{Run: "kubectl wait --for=condition=Complete job/once --timeout=90s", Want: "condition met"},
				{Run: "kubectl logs job/once -c once", Want: "^502"},
				{Run: "kubectl get pods -l job-name=once", Want: "0/2 +Completed", Within: settle},
			},
			Undo: []string{remove + "job.yaml"},
		},
		{
			Name: "istiod-killed", What: "istiod killed under load: nothing fails",
			Steps: []Step{
				{Run: load("test", "http://www.wikipedia.org/", "15"), Want: `^status 301: \d+\s*$`, Behind: true},
				{Run: "kubectl delete pod -n istio-system -l app=istiod --now", Want: "deleted"},
				{Run: "kubectl rollout status -n istio-system deployment/istiod --timeout=90s", Want: "successfully rolled out"},
			},
		},
		{
			Name: "gateway-killed", What: "the egress gateway killed under load: 503 until it is back",
			Steps: []Step{
				{Run: load("test", "http://www.wikipedia.org/", "15"), Want: `status 301: \d+`, Not: `status (0|502|504)`, Behind: true},
				{Run: "kubectl delete pod -n istio-system -l istio=egressgateway --now", Want: "deleted"},
				{Run: "kubectl rollout status -n istio-system deployment/istio-egressgateway --timeout=90s"},
				{Run: "kubectl logs test -c istio-proxy --tail=500 | grep -F '\" 503 ' | tail -n 1", Want: "egret:|UF|UH"},
				{Run: status("test", "http://www.wikipedia.org/"), Want: "^301", Within: settle},
			},
		},
	}
}

func uninstall() Scenario {
	const left = "kubectl get clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations," +
		"customresourcedefinitions -o name | grep -E 'istio|egret-mesh' | cat; " +
		"kubectl get configmaps -A -o name | grep -E 'istio-ca-root-cert' | cat; " +
		"kubectl get all,configmaps,secrets,serviceaccounts,roles,rolebindings,hpa,pdb -n istio-system -o name 2>/dev/null | " +
		"grep -vE 'configmap/kube-root-ca.crt|serviceaccount/default' | cat"
	return Scenario{
		Name: "uninstall", What: "uninstall leaves nothing behind",
		Steps: []Step{
			{Run: "istioctl uninstall --purge -y"},
			{Run: left, Not: `\S`, Within: settle},
			{Run: "kubectl run after --image=nginx", Want: "created"},
			{Run: "kubectl wait --for=condition=Ready pod/after --timeout=60s"},
			{Run: status("after", "http://api.example.com/"), Want: "^200"},
		},
		Undo: []string{"kubectl delete pod after --now"},
	}
}
