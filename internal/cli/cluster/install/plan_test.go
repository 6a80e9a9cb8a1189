package install_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/egret-mesh/egret/charts"
	"github.com/egret-mesh/egret/internal/cli/cluster/install"
)

func render(t *testing.T, r install.Request) []install.Rendered {
	t.Helper()
	r.Charts = charts.Files()
	p, err := install.NewPlan(r)
	if err != nil {
		t.Fatal(err)
	}
	all, err := install.Render(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func names(all []install.Rendered) map[string]*unstructured.Unstructured {
	out := map[string]*unstructured.Unstructured{}
	for _, r := range all {
		for _, o := range r.Objects {
			out[o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName()] = o
		}
	}
	return out
}

func TestProfiles(t *testing.T) {
	istiod := []string{"CustomResourceDefinition /serviceentries.networking.istio.io", "Deployment istio-system/istiod", "Service istio-system/istiod",
		"ServiceAccount istio-system/istiod", "ConfigMap istio-system/istio", "ConfigMap istio-system/istio-sidecar-injector",
		"MutatingWebhookConfiguration /istio-sidecar-injector", "ValidatingWebhookConfiguration /istio-validator-istio-system"}
	ingress := []string{"Deployment istio-system/istio-ingressgateway", "Service istio-system/istio-ingressgateway", "ServiceAccount istio-system/istio-ingressgateway-service-account"}
	egress := []string{"Deployment istio-system/istio-egressgateway", "Service istio-system/istio-egressgateway", "ServiceAccount istio-system/istio-egressgateway-service-account"}
	for profile, want := range map[string]struct{ there, absent []string }{
		"default": {append(istiod, ingress...), egress},
		"demo":    {append(append(istiod, ingress...), egress...), nil},
		"minimal": {istiod, append(ingress, egress...)},
		"empty":   {nil, append(append(istiod, ingress...), egress...)},
	} {
		t.Run(profile, func(t *testing.T) {
			have := names(render(t, install.Request{Sets: []string{"profile=" + profile}}))
			for _, n := range want.there {
				if have[n] == nil {
					t.Errorf("no %s", n)
				}
			}
			for _, n := range want.absent {
				if have[n] != nil {
					t.Errorf("%s is there", n)
				}
			}
		})
	}
}

// TestLabsMesh: the lab greps the ConfigMap for these two lines.
func TestLabsMesh(t *testing.T) {
	o := names(render(t, install.Request{Sets: []string{"profile=demo", "meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY"}}))["ConfigMap istio-system/istio"]
	mesh, _, _ := unstructured.NestedString(o.Object, "data", "mesh")
	for _, want := range []string{"outboundTrafficPolicy:\n  mode: REGISTRY_ONLY\n", "accessLogFile: /dev/stdout\n", "discoveryAddress: istiod.istio-system.svc:15012"} {
		if !strings.Contains(mesh, want) {
			t.Errorf("no %q in\n%s", want, mesh)
		}
	}
}

// TestObjectsAreStrict: every object is one of Kubernetes' types, without a field that the
// type does not have; and every pod is locked in.
func TestObjectsAreStrict(t *testing.T) {
	codec := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, sets := range [][]string{{"profile=demo"}, {"profile=default", "revision=canary", "values.pilot.env.A=b", "values.global.imagePullSecrets[0]=x",
		"components.egressGateways[name:istio-egressgateway].enabled=true", "values.global.network=n", "values.sidecarInjectorWebhook.enableNamespacesByDefault=true"}} {
		for _, o := range names(render(t, install.Request{Sets: sets})) {
			if o.GetKind() == "CustomResourceDefinition" {
				continue
			}
			text, err := o.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := codec.Decode(text, nil, nil); err != nil && !runtime.IsNotRegisteredError(err) {
				t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
			}
			if o.GetKind() == "Deployment" {
				lockedIn(t, o)
			}
		}
	}
}

func lockedIn(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	pod, _, _ := unstructured.NestedMap(o.Object, "spec", "template", "spec")
	if kind, _, _ := unstructured.NestedString(pod, "securityContext", "seccompProfile", "type"); kind != "RuntimeDefault" {
		t.Errorf("%s: seccomp is %q", o.GetName(), kind)
	}
	containers, _, _ := unstructured.NestedSlice(pod, "containers")
	for _, c := range containers {
		s, _, _ := unstructured.NestedMap(c.(map[string]any), "securityContext")
		dropped, _, _ := unstructured.NestedStringSlice(s, "capabilities", "drop")
		if s["readOnlyRootFilesystem"] != true || s["allowPrivilegeEscalation"] != false || s["runAsNonRoot"] != true || !reflect.DeepEqual(dropped, []string{"ALL"}) {
			t.Errorf("%s: the container's securityContext is %v", o.GetName(), s)
		}
		if c.(map[string]any)["readinessProbe"] == nil {
			t.Errorf("%s has no readiness probe", o.GetName())
		}
	}
}

func TestImages(t *testing.T) {
	for _, c := range []struct {
		request install.Request
		want    string
	}{
		{install.Request{Version: "1.2.3"}, "egret-mesh/pilot:1.2.3"},
		{install.Request{Version: "(devel)"}, "egret-mesh/pilot:latest"},
		{install.Request{Version: "1.2.3", Sets: []string{"hub=h.example:5000/x", "tag=7"}}, "h.example:5000/x/pilot:7"},
		{install.Request{Sets: []string{"values.global.hub=h", "values.global.tag=t"}}, "h/pilot:t"},
		{install.Request{Sets: []string{"values.pilot.image=a/b:c"}}, "a/b:c"},
	} {
		o := names(render(t, c.request))["Deployment istio-system/istiod"]
		list, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		if image := list[0].(map[string]any)["image"]; image != c.want {
			t.Errorf("%v: image %v, want %s", c.request.Sets, image, c.want)
		}
	}
}

func TestSettings(t *testing.T) {
	file := install.File{Name: "mesh.yaml", Data: []byte(`
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  profile: minimal
  components:
    egressGateways:
    - name: egress-two
      namespace: out
      enabled: true
      label: {istio: egress-two}
      k8s:
        replicaCount: 2
        hpaSpec: {minReplicas: 2, maxReplicas: 3}
        service: {type: ClusterIP, ports: [{name: http, port: 80, targetPort: 9090}]}
        env: [{name: A, value: b}]
`)}
	have := names(render(t, install.Request{Files: []install.File{file}, Sets: []string{"components.egressGateways[name:egress-two].k8s.resources.requests.cpu=5m"}}))
	d := have["Deployment out/egress-two"]
	if d == nil {
		t.Fatal("the gateway is not there")
	}
	text, err := yaml.Marshal(d.Object)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"istio: egress-two", "containerPort: 9090", "cpu: 5m", "name: A\n          value: b"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	h := have["HorizontalPodAutoscaler out/egress-two"]
	if n, _, _ := unstructured.NestedFieldNoCopy(h.Object, "spec", "minReplicas"); n != float64(2) && n != int64(2) {
		t.Errorf("minReplicas is %v", n)
	}
}

func TestRefusals(t *testing.T) {
	for set, want := range map[string]string{
		"profile=dmo":                                      `there is no profile "dmo"; did you mean "demo"?`,
		"values.global.hubb=x":                             `values.global.hubb is not known; did you mean "hub"?`,
		"global.hub=x":                                     `Helm's values are below values: values.global`,
		"componets.pilot.enabled=true":                     `componets is not known; did you mean "components"?`,
		"components.pilot.k8s.resourcez.x=1":               `components.pilot.k8s.resourcez is not known; did you mean "resources"?`,
		"components.cni.enabled=true":                      "egret has no such component",
		"meshConfig.outboundTrafficPolicy.mode=REGISTRY":   `"REGISTRY" is not one of`,
		"meshConfig.outboundTraficPolicy.mode=ALLOW_ANY":   `did you mean "outboundTrafficPolicy"?`,
		"revision=Canary":                                  "no label of DNS",
		"profile":                                          "it is PATH=VALUE",
		"a..b=1":                                           "an empty name in the path",
		"components.egressGateways[x].enabled=true":        "no place in a list",
		"components.egressGateways[99999999].enabled=true": "no place in a list",
		"components.egressGateways[0=true":                 `no "]"`,
		"[0].a=b":                                          "a list without a name",
	} {
		p, err := install.NewPlan(install.Request{Charts: charts.Files(), Sets: []string{set}})
		if err == nil {
			_, err = install.Render(context.Background(), p)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: %v; want %q", set, err, want)
		}
	}
}

// TestHelm: plain Helm takes the charts, where its program is there.
func TestHelm(t *testing.T) {
	helm, err := exec.LookPath("helm")
	if err != nil {
		t.Skip("skipped: there is no helm program on the PATH (the charts are rendered with its engine in the other tests)")
	}
	for _, chart := range []string{"base", "istiod", "gateway"} {
		out, err := exec.Command(helm, "template", "x", filepath.Join("..", "..", "..", "..", "charts", chart), "-n", "istio-system").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", chart, err, out)
		}
	}
}

func FuzzSet(f *testing.F) {
	for _, s := range []string{"a.b=c", "a[0].b=1", "a[name:x].b=true", `a\.b=null`, "a[0][1]=2"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		_, _ = install.NewPlan(install.Request{Charts: os.DirFS("../../../../charts"), Sets: []string{s}, Force: true})
	})
}
