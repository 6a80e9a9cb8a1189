package scenario

// evict asks the API server to evict a pod of the mesh, as kubectl drain does.
func evict(label string) string {
	return "pod=$(kubectl get pod -n istio-system -l " + label + " -o jsonpath='{.items[0].metadata.name}'); " +
		`echo '{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"'$pod'"}}' | ` +
		"kubectl create --raw /api/v1/namespaces/istio-system/pods/$pod/eviction -f -"
}

// operateScenarios are about what those see who run the cluster.
func operateScenarios(on Cluster) []Scenario {
	return []Scenario{
		{
			Name: "disruption-budget", What: "the only istiod may not be evicted, one of two gateways may",
			Steps: []Step{
				{Run: "kubectl get pdb -n istio-system", Within: settle,
					Want: `(?s)istio-egressgateway +1 +N/A +0.*istio-ingressgateway +1 +N/A +0.*istiod +1 +N/A +0`},
				{Run: evict("app=istiod"), Fails: true, Want: "disruption budget"},
				{Run: evict("istio=egressgateway"), Fails: true, Want: "disruption budget"},
				{Run: "kubectl scale -n istio-system deployment/istio-egressgateway --replicas=2", Want: "scaled"},
				{Run: rollout + "-n istio-system deployment/istio-egressgateway", Want: "successfully"},
				{Run: evict("istio=egressgateway"), Want: "Success", Within: settle},
				{Run: status("test", "http://www.wikipedia.org/"), Want: "^301"},
			},
			Undo: []string{"kubectl scale -n istio-system deployment/istio-egressgateway --replicas=1"},
		},
		{
			Name: "autoscaler", What: "HorizontalPodAutoscalers where values ask for them",
			Steps: []Step{
				{Run: on.install("--set values.pilot.autoscaleEnabled=true --set values.gateways.istio-egressgateway.autoscaleEnabled=true"), Want: "complete"},
				{Run: "kubectl get hpa -n istio-system", Want: `(?s)istio-egressgateway +Deployment/istio-egressgateway .* 1 +5 .*istiod +Deployment/istiod .* 1 +5 `},
				{Run: on.install(""), Want: `removed.*HorizontalPodAutoscaler istio-system/istiod`},
				{Run: "kubectl get hpa -n istio-system", Want: "No resources found"},
			},
		},
		{
			Name: "bad-install", What: "an install whose images are not there says so, what runs goes on, the next install mends it",
			Steps: []Step{
				{Run: on.install("--set tag=no-such-tag --readiness-timeout=20s"), Fails: true,
					Want: `(?s)istiod is not ready.*pilot:no-such-tag cannot be pulled`, Not: "complete"},
				{Run: status("test", "http://www.wikipedia.org/"), Want: "^301"},
				{Run: on.install(""), Want: "complete"},
				{Run: "istioctl verify-install"},
				{Run: status("test", "http://www.google.com/"), Want: "^502"},
			},
		},
	}
}

// plainHelm installs the charts with Helm's own client, as users of Istio's charts do. Helm
// applies on the server's side and does not force: an upgrade fails where istiod took a field
// that the chart sets.
func plainHelm() Scenario {
	const istiod = "istiod $CHARTS/istiod -n istio-system "
	return Scenario{
		Name: "helm", What: "the charts by Helm's own client: install, upgrade, rollback, uninstall",
		Node: "needs the client that is built with the node",
		Steps: []Step{
			{Run: "helm install istio-base $CHARTS/base -n istio-system --create-namespace --set defaultRevision=default", Want: "deployed"},
			{Run: "helm install " + istiod + "--set global.tag=$TAG --set meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY --wait", Want: "deployed"},
			{Run: "helm install istio-egressgateway $CHARTS/gateway -n istio-system --set global.tag=$TAG --set service.type=ClusterIP --wait", Want: "deployed"},
			{Run: "istioctl verify-install", Want: "Deployment istio-system/istio-egressgateway"},
			{Run: "kubectl run by-helm --image=nginx --labels=sidecar.istio.io/inject=true", Want: "created"},
			{Run: "kubectl wait --for=condition=Ready pod/by-helm --timeout=90s"},
			{Run: status("by-helm", "http://www.wikipedia.org/"), Want: "^502"},
			{Run: "helm upgrade " + istiod + "--reuse-values --set meshConfig.outboundTrafficPolicy.mode=ALLOW_ANY --wait", Want: "deployed"},
			{Run: status("by-helm", "http://www.wikipedia.org/"), Want: "^301", Within: settle},
			{Run: "helm rollback istiod 1 -n istio-system --wait", Want: "success"},
			{Run: status("by-helm", "http://www.wikipedia.org/"), Want: "^502", Within: settle},
			{Run: "helm upgrade " + istiod + "--reuse-values --set pilot.autoscaleEnabeld=false", Fails: true, Want: "autoscaleEnabeld"},
			{Run: "helm uninstall istio-egressgateway istiod istio-base -n istio-system", Want: "CustomResourceDefinition"},
			{Run: "istioctl uninstall --purge -y", Want: "removed CustomResourceDefinition"},
			{Run: "kubectl get customresourcedefinitions -o name", Not: "istio"},
		},
		Undo: []string{"kubectl delete pod by-helm --now", "kubectl delete namespace istio-system --ignore-not-found"},
	}
}
