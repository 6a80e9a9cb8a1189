package cluster

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/cli"
	"github.com/egret-mesh/egret/internal/control/kube"
	"github.com/egret-mesh/egret/internal/explain"
)

// shop is a cluster as the lab leaves it, with pods as injection makes them.
const shop = `
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: default}}
---
{apiVersion: v1, kind: Service, metadata: {name: istio-egressgateway, namespace: istio-system}, spec: {clusterIP: 10.96.0.9, ports: [{name: http2, port: 80, targetPort: 8080}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: gw, namespace: istio-system, labels: {kubernetes.io/service-name: istio-egressgateway}},
 ports: [{name: http2, port: 8080}], endpoints: [{addresses: [10.244.0.9], targetRef: {kind: Pod, name: gw, namespace: istio-system}}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: gw, namespace: istio-system, labels: {istio: egressgateway}}, status: {phase: Running, podIP: 10.244.0.9, podIPs: [{ip: 10.244.0.9}]},
 spec: {containers: [{name: istio-proxy, args: [proxy, router, --domain, $(POD_NAMESPACE).svc.cluster.local], env: [{name: ISTIO_META_UNPRIVILEGED_POD, value: "true"}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: default}, spec: {clusterIP: 10.96.0.7, selector: {app: web}, ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: web, namespace: default, labels: {kubernetes.io/service-name: web}},
 ports: [{name: http, port: 80}], endpoints: [{addresses: [10.244.0.7], targetRef: {kind: Pod, name: plain, namespace: default}}]}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: test, namespace: default}, spec: {selector: {matchLabels: {run: test}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: none, namespace: default}, spec: {selector: {matchLabels: {run: none}}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: test, namespace: default, labels: {run: test}}, status: {phase: Running, podIP: 10.244.0.5, podIPs: [{ip: 10.244.0.5}]},
 spec: {initContainers: [{name: istio-init, args: [istio-iptables, -p, "15001", -i, "*", -x, 198.51.100.0/24, -b, "*", -o, "9999"]},
   {name: istio-proxy, args: [proxy, sidecar, --domain, $(POD_NAMESPACE).svc.cluster.local], env: [{name: ISTIO_META_EGRET_ON_DEMAND, value: "true"}]}], containers: [{name: app}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: asks, namespace: default, labels: {run: asks}}, status: {phase: Running, podIP: 10.244.0.6, podIPs: [{ip: 10.244.0.6}]},
 spec: {initContainers: [{name: istio-init, args: [istio-iptables, -i, "*"]},
   {name: istio-proxy, args: [proxy, sidecar], env: [{name: ISTIO_META_DNS_CAPTURE, value: "true"}]}], containers: [{name: app}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: plain, namespace: default, labels: {app: web}}, status: {phase: Running, podIP: 10.244.0.7, podIPs: [{ip: 10.244.0.7}]}, spec: {containers: [{name: app}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: wikipedia, namespace: default},
 spec: {hosts: [www.wikipedia.org], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}], resolution: DNS}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: api, namespace: default}, spec: {hosts: [api.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: db, namespace: default},
 spec: {hosts: [db.example.com], addresses: [203.0.113.5], ports: [{number: 3306, name: tcp, protocol: TCP}], resolution: DNS}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: secret, namespace: other}, spec: {hosts: [secret.example.com], exportTo: ["."], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}}
---
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: egress, namespace: default},
 spec: {selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [www.wikipedia.org]}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: through, namespace: default},
 spec: {hosts: [www.wikipedia.org], gateways: [egress, mesh], http: [
  {match: [{gateways: [mesh], port: 80}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]},
  {match: [{gateways: [egress], port: 80}], route: [{destination: {host: www.wikipedia.org, port: {number: 80}}}]}]}}
`

// pretended is a cluster without a server.
func pretended(t *testing.T, text string) *clients {
	t.Helper()
	var own []runtime.Object
	var istio []*unstructured.Unstructured
	kinds := map[schema.GroupVersionResource]string{}
	for _, r := range kube.Resources() {
		kinds[r] = "ObjectList"
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for document := range strings.SplitSeq(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		gvk := u.GroupVersionKind()
		plural := strings.ToLower(gvk.Kind) + "s"
		if base, ok := strings.CutSuffix(plural, "rys"); ok {
			plural = base + "ries"
		}
		mapper.AddSpecific(gvk, gvk.GroupVersion().WithResource(plural), gvk.GroupVersion().WithResource(strings.ToLower(gvk.Kind)), meta.RESTScopeNamespace)
		typed, err := scheme.Scheme.New(gvk)
		if err != nil || gvk.Group == "apps" { // those are asked for by the dynamic client
			istio = append(istio, u)
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed); err != nil {
			t.Fatal(err)
		}
		own = append(own, typed)
	}
	kinds[schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}] = "DeploymentList"
	d := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds)
	for _, u := range istio {
		m, err := mapper.RESTMapping(u.GroupVersionKind().GroupKind(), u.GroupVersionKind().Version)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Resource(m.Resource).Namespace(u.GetNamespace()).Create(context.Background(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return &clients{typed: fake.NewClientset(own...), dynamic: d, mapper: mapper}
}

func TestExplainPod(t *testing.T) {
	c := pretended(t, shop)
	for _, ask := range []struct {
		pod, url string
		verdict  string
		want     []string // in this order
	}{
		{"pod/test", "https://www.wikipedia.org", "allowed", []string{"1. sidecar of test.default", "cluster       outbound|443||www.wikipedia.org", "because of    ServiceEntry default/wikipedia"}},
		{"deployment/test", "http://www.wikipedia.org", "allowed", []string{"1. sidecar of test.default", "endpoint      10.244.0.9:8080", "because of    VirtualService default/through",
			"2. gateway gw.istio-system", "cluster       outbound|80||www.wikipedia.org", "endpoint      www.wikipedia.org:80", "because of    Gateway default/egress"}},
		{"test", "http://www.google.com", "denied", []string{"reason: not_in_registry: www.google.com is not in the registry (outboundTrafficPolicy REGISTRY_ONLY)", "deny"}},
		{"test.default", "https://www.google.com", "denied", []string{"reason: not_in_registry", "deny"}},
		{"test", "http://secret.example.com", "denied", []string{`hint: ServiceEntry other/secret has "secret.example.com", but its exportTo hides it from namespace "default"`}},
		{"test", "http://web", "allowed", []string{"cluster       outbound|80||web.default.svc.cluster.local", "endpoint      10.244.0.7:80"}},
		{"test", "web.default:80", "allowed", []string{"endpoint      10.244.0.7:80"}},
		{"test", "db.example.com:3306", "allowed", []string{"cluster       outbound|3306||db.example.com"}},
		{"test", "tcp://other.example.com:3306", "denied", []string{"hint: which address the workload's DNS has for other.example.com is not asked here"}},
		{"test", "tcp://www.google.com:9999", "allowed", []string{"hint: port 9999 is left out by the annotation traffic.sidecar.istio.io/excludeOutboundPorts"}},
		{"test", "http://198.51.100.7", "allowed", []string{"hint: 198.51.100.7 is left out"}},
		{"plain", "http://www.google.com", "allowed", []string{"hint: pod plain.default has no sidecar"}},
		{"asks", "https://www.wikipedia.org", "allowed", []string{"1. sidecar of asks.default", "because of    ServiceEntry default/wikipedia"}},
		{"asks", "http://web", "allowed", []string{"endpoint      10.244.0.7:80"}},
		{"asks", "tcp://other.example.com:3306", "denied", []string{"reason: not_in_registry: other.example.com"}},
	} {
		call, err := (&cli.CallFlags{}).Call(ask.url)
		if err != nil {
			t.Fatal(err)
		}
		pod, err := c.pod(context.Background(), ask.pod, "", "default")
		if err != nil {
			t.Errorf("%s: %v", ask.pod, err)
			continue
		}
		r, err := c.explainPod(context.Background(), pod, "istio-system", call)
		if err != nil {
			t.Errorf("%s %s: %v", ask.pod, ask.url, err)
			continue
		}
		var out bytes.Buffer
		if err := cli.PrintExplanation(&out, "text", r, nil); err != nil {
			t.Fatal(err)
		}
		if rest, ok := inOrder(out.String(), ask.want); r.Verdict != ask.verdict || !ok {
			t.Errorf("%s %s: there is no %q in\n%s", ask.pod, ask.url, rest, out.String())
		}
	}
}

// inOrder says whether the words are in the text one after the other, and which one is not.
func inOrder(text string, words []string) (string, bool) {
	for _, w := range words {
		_, after, ok := strings.Cut(text, w)
		if !ok {
			return w, false
		}
		text = after
	}
	return "", true
}

func TestFindPod(t *testing.T) {
	c := pretended(t, shop)
	for _, bad := range []struct{ name, namespace, want string }{
		{"nobody", "", `there is no pod "nobody" in namespace "default"`},
		{"test.other", "", `there is no pod "test" in namespace "other"`},
		{"test", "other", `in namespace "other"`},
		{"deployment/nobody", "", `there is no deployment "nobody" in namespace "default"`},
		{"deployment/none", "", "deployment/none in namespace \"default\" has no pod now"},
		{"wheel/test", "", `the cluster has no kind "wheel"`},
		{"configmap/istio", "istio-system", "there is no configmap"}, // the dynamic client has none
		{"", "", "wanted is a pod"}, {"a/b/c", "", "wanted is a pod"}, {".shop", "", "wanted is a pod"},
	} {
		if pod, err := c.pod(context.Background(), bad.name, bad.namespace, "default"); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%q: %v, %v", bad.name, pod, err)
		}
	}
	gateway, err := c.pod(context.Background(), "gw.istio-system", "", "default")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.explainPod(context.Background(), gateway, "istio-system", explain.Call{Host: "a.example", Port: 80, Scheme: "http"}); err == nil || !strings.Contains(err.Error(), "is a gateway") {
		t.Errorf("a gateway: %v", err)
	}
}

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		in, namespace string
		want          target
	}{
		{"web", "", target{"pod", "web", "here"}},
		{"web.shop", "", target{"pod", "web", "shop"}},
		{"a.b", "shop", target{"pod", "a.b", "shop"}},
		{"pod/web", "shop", target{"pod", "web", "shop"}},
		{"deploy/web.shop", "", target{"deploy", "web", "shop"}},
	} {
		if got, err := parseTarget(c.in, c.namespace, "here"); err != nil || got != c.want {
			t.Errorf("%q in %q: %+v %v", c.in, c.namespace, got, err)
		}
	}
}

func TestSelectorOf(t *testing.T) {
	for _, c := range []struct{ object, want string }{
		{"{apiVersion: v1, kind: Service, spec: {selector: {app: web}}}", "app=web"},
		{"{apiVersion: apps/v1, kind: StatefulSet, spec: {selector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]}}}", "app in (a,b)"},
		{"{apiVersion: v1, kind: Service, spec: {externalName: a.example}}", ""},
		{"{apiVersion: v1, kind: ConfigMap}", ""},
	} {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(c.object), &u.Object); err != nil {
			t.Fatal(err)
		}
		s, err := selectorOf(u)
		if (err != nil) != (c.want == "") || err == nil && s.String() != c.want {
			t.Errorf("%s: %v %v", c.object, s, err)
		}
	}
}

func TestBestPod(t *testing.T) {
	ready := corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	pods := []corev1.Pod{{Status: corev1.PodStatus{Phase: corev1.PodFailed}}, {Status: corev1.PodStatus{Phase: corev1.PodPending}}, {Status: corev1.PodStatus{Phase: corev1.PodRunning}}, {Status: ready}}
	for i := range pods {
		pods[i].Name = string(pods[i].Status.Phase)
	}
	for len(pods) > 0 {
		want := &pods[len(pods)-1]
		if got := best(pods); len(got.Status.Conditions) != len(want.Status.Conditions) || got.Name != want.Name {
			t.Errorf("%s, wanted %s", got.Name, want.Name)
		}
		pods = slices.Delete(pods, len(pods)-1, len(pods))
	}
}

func TestCapture(t *testing.T) {
	pod := func(args ...string) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "istio-init", Args: append([]string{"istio-iptables", "-p", "15001", "-z", "15006", "--log_output_level=info"}, args...)}}}}
	}
	for _, c := range []struct {
		pod  *corev1.Pod
		to   string // "" is a port alone
		port uint16
		want string // in the reason; "" is led to the sidecar
	}{
		{pod("-i", "*"), "192.0.2.1", 80, ""},
		{pod("-i", "*"), "127.0.0.1", 80, "to itself"},
		{pod("-i", "*", "-o", "443,25"), "", 25, "excludeOutboundPorts"},
		{pod("-i", "*", "-o", "443,25"), "", 80, ""},
		{pod("-i", "*", "-x", "192.0.2.0/24"), "192.0.2.1", 80, "excludeOutboundIPRanges"},
		{pod("-i", "*", "-x", "192.0.2.0/24"), "", 80, ""},
		{pod("-i", "10.0.0.0/8"), "192.0.2.1", 80, "includeOutboundIPRanges"},
		{pod("-i", "10.0.0.0/8"), "10.1.2.3", 80, ""},
		{pod("-i", "", "-q", "443"), "192.0.2.1", 443, ""},
		{&corev1.Pod{}, "", 80, "interceptionMode NONE"},
		{&corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "istio-validation"}}}}, "192.0.2.1", 80, ""},
	} {
		got, err := captureOf(c.pod)
		if err != nil {
			t.Fatal(err)
		}
		at, _ := netip.ParseAddr(c.to)
		why := got.passesBy(netip.AddrPortFrom(at, c.port))
		if (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%v to %s:%d: %q", c.pod.Spec.InitContainers, c.to, c.port, why)
		}
	}
	for _, bad := range [][]string{{"-i", "x"}, {"-x", "1"}, {"-o", "99999"}, {"-q", "-1"}} {
		if _, err := captureOf(pod(bad...)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
