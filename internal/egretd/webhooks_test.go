package egretd_test

import (
	"context"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/runtest"
)

// hookedWorld is what there is before the control plane: a namespace that is injected, its
// service accounts, which no controller makes here, and MeshConfig.
const hookedWorld = `
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: default}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: "defaultConfig: {discoveryAddress: 'istiod.istio-system.svc:15012', concurrency: 2}"
`

// hook is a configuration of webhooks as Istio's charts have it, but for a URL.
func hook(kind, url string, bundle []byte, rule string) string {
	text, err := yaml.Marshal(map[string]any{"url": url, "caBundle": bundle})
	if err != nil {
		return err.Error()
	}
	return `
apiVersion: admissionregistration.k8s.io/v1
kind: ` + kind + `
metadata: {name: hook}
webhooks:
- name: hook.istio.io
  sideEffects: None
  admissionReviewVersions: [v1]
  failurePolicy: Fail
  namespaceSelector: {matchLabels: {istio-injection: enabled}}
  rules:
  - ` + rule + `
  clientConfig:
    ` + strings.ReplaceAll(string(text), "\n", "\n    ")
}

// injectorConfigMap is as the chart makes it.
func injectorConfigMap(t *testing.T) string {
	t.Helper()
	template, err := os.ReadFile("../../charts/istiod/files/injection-template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config, err := yaml.Marshal(map[string]any{"policy": "enabled", "templates": map[string]string{"sidecar": string(template)}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]string{"name": "istio-sidecar-injector", "namespace": "istio-system"},
		"data": map[string]string{"config": string(config), "values": `{"global":{"proxy":{"resources":{"requests":{"cpu":"10m"}}}}}`},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// startHooked is a real API server that asks our webhooks.
func startHooked(t *testing.T) *apiServer {
	t.Helper()
	api := startAPIServer(t)
	api.apply(hookedWorld)
	api.apply(injectorConfigMap(t))
	a, err := egretd.NewAdmission(egretd.ClusterOptions{Config: api.config, Logger: runtest.Logger(t, "the webhooks")})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(a.Mux())
	t.Cleanup(server.Close)
	runtest.Run(t, "the webhooks", a.Run)
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	api.apply(hook("MutatingWebhookConfiguration", server.URL+"/inject", bundle, `{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}`))
	api.apply(hook("ValidatingWebhookConfiguration", server.URL+"/validate", bundle, `{apiGroups: [networking.istio.io], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: ["*"]}`))
	runtest.Eventually(t, "there is a configuration of injection", a.Ready)
	return api
}

// make creates an object; the API server may refuse it.
func (a *apiServer) make(text string) (*unstructured.Unstructured, error) {
	a.t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		a.t.Fatal(err)
	}
	return a.resource(u).Create(context.Background(), u, metav1.CreateOptions{})
}

// pod is a pod of one container, with more of its metadata and spec.
func (a *apiServer) pod(t *testing.T, namespace, metadata, spec string) (*corev1.Pod, error) {
	t.Helper()
	u, err := a.make(`{apiVersion: v1, kind: Pod, metadata: {namespace: ` + namespace + `, ` + metadata + `}, spec: {` + spec + ` containers: [{name: web, image: web, livenessProbe: {httpGet: {port: 80}}}]}}`)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, pod); err != nil {
		t.Fatal(err)
	}
	return pod, nil
}

// A real API server asks, takes the patch, and finds the pod good.
func TestWebhooksOfAnAPIServer(t *testing.T) {
	api := startHooked(t)
	t.Run("a pod is injected", func(t *testing.T) {
		pod, err := api.pod(t, "shop", "name: web", "initContainers: [{name: own, image: web}],")
		if err != nil {
			t.Fatal(err)
		}
		var order, env []string
		for _, c := range pod.Spec.InitContainers {
			order = append(order, c.Name)
		}
		if strings.Join(order, " ") != "istio-init istio-proxy own" {
			t.Fatalf("init containers: %v", order)
		}
		proxy := pod.Spec.InitContainers[1]
		if proxy.RestartPolicy == nil || *proxy.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			t.Error("the proxy is no native sidecar")
		}
		for _, e := range proxy.Env {
			env = append(env, e.Name+"="+e.Value)
		}
		if all := strings.Join(env, "\n"); !strings.Contains(all, `"concurrency":2`) {
			t.Errorf("the mesh's ProxyConfig is not in %s", all)
		}
		if p := pod.Spec.Containers[0].LivenessProbe.HTTPGet; p.Path != "/app-health/web/livez" || p.Port.IntValue() != 15020 {
			t.Errorf("probe: %+v", p)
		}
	})
	t.Run("not this pod", func(t *testing.T) {
		for namespace, metadata := range map[string]string{"default": "name: web", "shop": `name: own, labels: {sidecar.istio.io/inject: "false"}`} {
			pod, err := api.pod(t, namespace, metadata, "")
			if err != nil || len(pod.Spec.InitContainers) > 0 {
				t.Errorf("%s, %s: %v", namespace, metadata, err)
			}
		}
	})
	t.Run("a bad annotation", func(t *testing.T) {
		_, err := api.pod(t, "shop", "name: bad, annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: http}", "")
		if err == nil || !strings.Contains(err.Error(), `the annotation traffic.sidecar.istio.io/excludeOutboundPorts is "http"`) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a bad object", func(t *testing.T) {
		api.define("ServiceEntry")
		const entry = `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: wiki, namespace: shop}, spec: {hosts: [www.wikipedia.org], ports: [{number: 80, name: http, protocol: HTTPP}], resolution: DNS}}`
		runtest.Eventually(t, "it is refused with the field and the reason", func() bool {
			_, err := api.make(entry)
			return err != nil && strings.Contains(err.Error(), "denied the request: ServiceEntry wiki: spec.ports[0].protocol: ")
		})
		if _, err := api.make(strings.Replace(entry, "HTTPP", "HTTP", 1)); err != nil {
			t.Errorf("a good one: %v", err)
		}
	})
	t.Run("templates that cannot be used", func(t *testing.T) {
		bad := strings.Replace(injectorConfigMap(t), "policy: enabled", "policy: perhaps", 1)
		api.apply(bad)
		if pod, err := api.pod(t, "shop", "name: after", ""); err != nil || len(pod.Spec.InitContainers) != 2 {
			t.Errorf("what was there before is not in force: %v", err)
		}
	})
}
