package install

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/charts"
)

// TestHelmValues renders the charts as `helm install RELEASE` with values that users of
// Istio's charts have. Every object must be one of Kubernetes' types, without a field that
// the type does not have.
func TestHelmValues(t *testing.T) {
	for _, c := range []struct {
		name, chart, values string
		want, not           []string
	}{
		{"Istio's guide", "base", "defaultRevision: default", []string{"name: serviceentries.networking.istio.io", "helm.sh/resource-policy: keep"}, nil},
		{"a definition that others have", "base", "base: {excludedCRDs: [gateways.networking.istio.io]}",
			[]string{"name: serviceentries.networking.istio.io"}, []string{"name: gateways.networking.istio.io"}},
		{"no definitions", "base", "base: {enableIstioConfigCRDs: false}", nil, []string{"CustomResourceDefinition"}},
		{"below pilot", "istiod", "pilot: {autoscaleEnabled: false, replicaCount: 3, env: {A: b}}\nmeshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}",
			[]string{"replicas: 3", "name: A\n          value: b", "mode: REGISTRY_ONLY"}, []string{"HorizontalPodAutoscaler"}},
		{"at the top", "istiod", "autoscaleEnabled: false\nreplicaCount: 3\nresources: {requests: {cpu: 7m}}\nhub: h\ntag: 1.2\npdb: {minAvailable: 50%}\ncni: {enabled: false}",
			[]string{"replicas: 3", "cpu: 7m", "memory: 128Mi", "image: h/pilot:1.2", "minAvailable: 50%"}, []string{"HorizontalPodAutoscaler"}},
		{"scaling", "istiod", "pilot: {autoscaleMin: 2, autoscaleBehavior: {scaleDown: {stabilizationWindowSeconds: 9}}, memory: {targetAverageUtilization: 70}}",
			[]string{"minReplicas: 2", "stabilizationWindowSeconds: 9", "averageUtilization: 70"}, []string{"  replicas:"}},
		{"more of a pod", "istiod", "envVarFrom: [{name: S, valueFrom: {secretKeyRef: {name: s, key: k}}}]\ninitContainers: [{name: first, image: x}]\n" +
			"deploymentAnnotations: {a: b}\nglobal: {imagePullSecrets: [{name: one}, two], meshNetworks: {n: {endpoints: []}}}",
			[]string{"secretKeyRef", "name: first", "- name: one\n- name: two", "n:\n"}, nil},
		{"a gateway by its release", "gateway", "service: {type: ClusterIP}", []string{"name: istio-egress\n", "serviceAccountName: istio-egress\n", "istio: egress\n",
			"HorizontalPodAutoscaler", "type: ClusterIP", "net.ipv4.ip_unprivileged_port_start"}, []string{"PodDisruptionBudget", "targetPort: 80\n"}},
		{"a gateway by name", "gateway", "name: out\nlabels: {istio: own, team: a}\nautoscaling: {enabled: false}\nreplicaCount: 2\npodDisruptionBudget: {maxUnavailable: 1, unhealthyPodEvictionPolicy: AlwaysAllow}",
			[]string{"name: out\n", "istio: own", "team: a", "replicas: 2", "maxUnavailable: 1", "AlwaysAllow"}, []string{"HorizontalPodAutoscaler"}},
		{"annotations of Istio's chart", "gateway", `podAnnotations: {sidecar.istio.io/inject: "true", inject.istio.io/templates: gateway, prometheus.io/scrape: "false", a: b}`,
			[]string{`sidecar.istio.io/inject: "false"`, `prometheus.io/scrape: "false"`, "a: b"}, []string{"inject.istio.io/templates", `inject: "true"`}},
		{"a DaemonSet", "gateway", "kind: DaemonSet\nstrategy: {rollingUpdate: {maxUnavailable: 1}}\nminReadySeconds: 5", []string{"kind: DaemonSet", "updateStrategy", "minReadySeconds: 5"},
			[]string{"HorizontalPodAutoscaler", "replicas"}},
		{"the container", "gateway", "securityContext: {runAsUser: 7}\ncontainerSecurityContext: {privileged: true}\nreadinessProbe: {tcpSocket: {port: 1}}\nlifecycle: {preStop: {sleep: {seconds: 5}}}\n" +
			"envVarFrom: [{name: S, valueFrom: {secretKeyRef: {name: s, key: k}}}]\nadditionalContainers: [{name: beside, image: x}]\ninitContainers: [{name: first, image: x}]\ndnsPolicy: None\ndnsConfig: {nameservers: [10.0.0.1]}",
			[]string{"runAsUser: 7", "privileged: true", "port: 1\n", "preStop", "secretKeyRef", "name: beside", "name: first", "dnsPolicy: None"}, []string{"runAsUser: 1337"}},
		{"the Service", "gateway", "service: {allocateLoadBalancerNodePorts: false, externalTrafficPolicy: Local, healthCheckNodePort: 30001, selectorLabels: {a: b}, " +
			"ports: [{name: tls, port: 443, targetPort: 443, nodePort: 30002, appProtocol: tls}]}\nimagePullSecrets: [{name: one}]",
			[]string{"allocateLoadBalancerNodePorts: false", "healthCheckNodePort: 30001", "appProtocol: tls", "containerPort: 443", "nodePort: 30002", "- name: one"}, nil},
	} {
		t.Run(c.chart+"/"+c.name, func(t *testing.T) {
			var values tree
			if err := yaml.Unmarshal([]byte(c.values), &values); err != nil {
				t.Fatal(err)
			}
			text := strictly(t, Release{Chart: c.chart, Name: "istio-egress", Namespace: "istio-system", Values: values})
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			for _, not := range c.not {
				if strings.Contains(text, not) {
					t.Errorf("%q is there", not)
				}
			}
		})
	}
}

// strictly is the YAML of a release's objects.
func strictly(t *testing.T, r Release) string {
	t.Helper()
	objects, err := renderChart(context.Background(), charts.Files(), r, false)
	if err != nil {
		t.Fatal(err)
	}
	codec := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, o := range objects {
		text, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := codec.Decode(text, nil, nil); err != nil && !runtime.IsNotRegisteredError(err) {
			t.Errorf("%s: %v", describe(o), err)
		}
	}
	text, err := Manifest([]Rendered{{r, objects}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestHelmRefuses: what has no effect is not taken in silence.
func TestHelmRefuses(t *testing.T) {
	for values, want := range map[string]string{
		"pilot: {autoscaleEnabeld: true}":      "additional properties 'autoscaleEnabeld'",
		"globl: {hub: x}":                      "additional properties 'globl'",
		"global: {proxy: {loglevel: x}}":       "additional properties 'loglevel'",
		"pilot: {autoscaleEnabled: sometimes}": "want boolean",
		"pilot: {cni: {enabled: true}}":        "/pilot/cni/enabled",
	} {
		var v tree
		if err := yaml.Unmarshal([]byte(values), &v); err != nil {
			t.Fatal(err)
		}
		_, err := renderChart(context.Background(), charts.Files(), Release{Chart: "istiod", Name: "istiod", Namespace: "istio-system", Values: v}, false)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", values, err, want)
		}
	}
}
