package inject

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

const charts = "../../../charts/istiod/files"

// installed is the ConfigMap's key config as the chart makes it.
func installed(t testing.TB, more map[string]any) string {
	t.Helper()
	templates := map[string]string{}
	for name, file := range map[string]string{"sidecar": "injection-template.yaml", "gateway": "gateway-injection-template.yaml"} {
		text, err := os.ReadFile(filepath.Join(charts, file))
		if err != nil {
			t.Fatal(err)
		}
		templates[name] = string(text)
	}
	templates["proxyless"] = "spec:\n  containers:\n  - name: {{ (index .Spec.Containers 0).Name }}\n    env:\n    - name: CUSTOM\n      value: {{ .DeploymentMeta.Name | upper }}\n"
	c := map[string]any{"policy": "enabled", "defaultTemplates": []string{"sidecar"}, "templates": templates, "aliases": map[string]any{"both": []string{"sidecar", "proxyless"}}}
	for k, v := range more {
		c[k] = v
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const installedValues = `{"global":{"hub":"egret-mesh","tag":"1.2.3","proxy":{"resources":{"requests":{"cpu":"10m","memory":"40Mi"},"limits":{"cpu":"2000m","memory":"1024Mi"}}}}}`

func injector(t testing.TB, change func(*Options)) *Injector {
	t.Helper()
	o := Options{
		Config: installed(t, nil), Values: installedValues,
		Mesh: &meshconfig.MeshConfig{TrustDomain: "cluster.local", DefaultConfig: &meshconfig.ProxyConfig{DiscoveryAddress: "istiod.istio-system.svc:15012"}},
	}
	if change != nil {
		change(&o)
	}
	in, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// toJSONText makes JSON of a pod's YAML.
func toJSONText(t testing.TB, text string) []byte {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// apply does what an API server does with the patch: of this package's patches only paths
// into mappings are needed.
func apply(t testing.TB, pod, patch []byte) map[string]any {
	t.Helper()
	var m map[string]any
	var ops []operation
	if err := json.Unmarshal(pod, &m); err != nil {
		t.Fatal(err)
	}
	if patch == nil {
		return m
	}
	if err := json.Unmarshal(patch, &ops); err != nil {
		t.Fatal(err)
	}
	for _, o := range ops {
		parts := strings.Split(o.Path, "/")[1:]
		at := m
		for _, p := range parts[:len(parts)-1] {
			at = at[unescape(p)].(map[string]any)
		}
		last := unescape(parts[len(parts)-1])
		if _, there := at[last]; there == (o.Op == "add") {
			t.Fatalf("%s %s", o.Op, o.Path)
		}
		if at[last] = o.Value; o.Op == "remove" {
			delete(at, last)
		}
	}
	return m
}

func unescape(s string) string { return strings.NewReplacer("~1", "/", "~0", "~").Replace(s) }

// Each testdata/*.yaml is a pod; beside it is what injection makes of it. Injected again
// nothing changes.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".injected.yaml") {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := injector(t, func(o *Options) {
		if strings.Contains(string(text), "# no native sidecars") {
			o.Values = strings.Replace(o.Values, `"global":{`, `"global":{"nativeSidecars":false,`, 1)
		}
	})
	pod := toJSONText(t, string(text))
	r, err := in.Inject(Request{Pod: pod, Namespace: "shop"})
	if err != nil || r.Skipped != "" {
		t.Fatal(err, r.Skipped)
	}
	var want map[string]any
	if err := json.Unmarshal(r.Pod, &want); err != nil {
		t.Fatal(err)
	}
	if got := apply(t, pod, r.Patch); !reflect.DeepEqual(got, want) {
		t.Errorf("the patch makes another pod: %s", cmp.Diff(want, got))
	}
	got, err := yaml.JSONToYAML(r.Pod)
	if err != nil {
		t.Fatal(err)
	}
	expected := strings.TrimSuffix(file, ".yaml") + ".injected.yaml"
	if *update {
		if err := os.WriteFile(expected, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(expected)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), string(got)); diff != "" {
		t.Errorf("-want +got (go test -update writes it):\n%s", diff)
	}
	again, err := in.Inject(Request{Pod: r.Pod, Namespace: "shop"})
	if err != nil || again.Patch != nil {
		t.Errorf("injected again it changes: %v %s", err, again.Patch)
	}
}

// podWith is a pod with metadata and spec as JSON.
func podWith(metadata, spec string) []byte {
	return []byte(fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":%s,"spec":%s}`, metadata, spec))
}

const plain = `{"containers":[{"name":"app","image":"app"}]}`

func TestSelection(t *testing.T) {
	selector := func(label string) []any { return []any{map[string]any{"matchLabels": map[string]any{label: "x"}}} }
	for _, c := range []struct {
		name, metadata, spec, namespace string
		config                          map[string]any
		skipped                         string // a part of the reason; "": injected
	}{
		{"plain", `{}`, plain, "shop", nil, ""},
		{"host network", `{"labels":{"sidecar.istio.io/inject":"true"}}`, `{"hostNetwork":true,"containers":[{"name":"app"}]}`, "shop", nil, "hostNetwork"},
		{"system", `{"labels":{"sidecar.istio.io/inject":"true"}}`, plain, "kube-system", nil, "kube-system"},
		{"system, by the pod", `{"namespace":"kube-public"}`, plain, "", nil, "kube-public"},
		{"label", `{"labels":{"sidecar.istio.io/inject":"false"}}`, plain, "shop", nil, "label sidecar.istio.io/inject is false"},
		{"annotation", `{"annotations":{"sidecar.istio.io/inject":"false"}}`, plain, "shop", nil, "annotation sidecar.istio.io/inject is false"},
		{"label over annotation", `{"labels":{"sidecar.istio.io/inject":"true"},"annotations":{"sidecar.istio.io/inject":"false"}}`, plain, "shop", nil, ""},
		{"what is not true is false", `{"labels":{"sidecar.istio.io/inject":"perhaps"}}`, plain, "shop", nil, "is perhaps"},
		{"disabled", `{}`, plain, "shop", map[string]any{"policy": "disabled"}, "policy"},
		{"disabled, but asked for", `{"annotations":{"sidecar.istio.io/inject":"Yes"}}`, plain, "shop", map[string]any{"policy": "disabled"}, ""},
		{"never", `{"labels":{"never":"x"}}`, plain, "shop", map[string]any{"neverInjectSelector": selector("never")}, "neverInjectSelector"},
		{"never, but asked for", `{"labels":{"never":"x","sidecar.istio.io/inject":"true"}}`, plain, "shop", map[string]any{"neverInjectSelector": selector("never")}, ""},
		{"always", `{"labels":{"always":"x"}}`, plain, "shop", map[string]any{"policy": "disabled", "alwaysInjectSelector": selector("always")}, ""},
		{"never goes first", `{"labels":{"always":"x"}}`, plain, "shop", map[string]any{"neverInjectSelector": selector("always"), "alwaysInjectSelector": selector("always")}, "neverInjectSelector"},
	} {
		in := injector(t, func(o *Options) { o.Config = installed(t, c.config) })
		r, err := in.Inject(Request{Pod: podWith(c.metadata, c.spec), Namespace: c.namespace})
		if err != nil || (r.Skipped == "") != (c.skipped == "") || !strings.Contains(r.Skipped, c.skipped) || (r.Patch == nil) != (c.skipped != "") {
			t.Errorf("%s: %v, skipped for %q, patch of %d bytes", c.name, err, r.Skipped, len(r.Patch))
		}
	}
}

// What the pod says is heard, where the template has a place for it.
func TestAnnotations(t *testing.T) {
	for _, c := range []struct{ annotation, value, want string }{
		{"traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8,fd00::/8", `"-i","10.0.0.0/8,fd00::/8"`},
		{"traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.1.0.0/16", `"-x","10.1.0.0/16"`},
		{"traffic.sidecar.istio.io/includeInboundPorts", "80,8080", `"-b","80,8080"`},
		{"traffic.sidecar.istio.io/includeInboundPorts", "", `"-b",""`},
		{"traffic.sidecar.istio.io/excludeInboundPorts", "9000,15021", `"-d","9000,15090,15021,15020"`},
		{"traffic.sidecar.istio.io/includeOutboundPorts", "443", `"-q","443"`},
		{"traffic.sidecar.istio.io/excludeOutboundPorts", "3306", `"-o","3306"`},
		{"traffic.sidecar.istio.io/kubevirtInterfaces", "vm0", `"-k","vm0"`},
		{"traffic.sidecar.istio.io/excludeInterfaces", "net1", `"-c","net1"`},
		{"sidecar.istio.io/proxyCPU", "123m", `"resources":{"limits":{},"requests":{"cpu":"123m"}}`},
		{"sidecar.istio.io/proxyMemory", "77Mi", `"requests":{"memory":"77Mi"}`},
		{"sidecar.istio.io/proxyCPULimit", "3", `"limits":{"cpu":"3"}`},
		{"sidecar.istio.io/proxyMemoryLimit", "1Gi", `"limits":{"memory":"1Gi"}`},
		{"sidecar.istio.io/logLevel", "debug", `"--proxyLogLevel=debug"`},
		{"sidecar.istio.io/agentLogLevel", "default:warn", `"--log_output_level=default:warn"`},
		{"sidecar.istio.io/proxyImage", "example.com/other:v1", `"image":"example.com/other:v1"`},
		{"sidecar.istio.io/proxyImage", "other", `"image":"egret-mesh/other:1.2.3"`},
		{"sidecar.istio.io/proxyImageType", "debug", `"image":"egret-mesh/proxyv2:1.2.3-debug"`},
		{"sidecar.istio.io/userVolume", `{"v":{"secret":{"secretName":"s"}}}`, `{"name":"v","secret":{"secretName":"s"}}`},
		{"sidecar.istio.io/userVolumeMount", `{"v":{"mountPath":"/v"}}`, `{"mountPath":"/v","name":"v"}`},
		{"status.sidecar.istio.io/port", "15999", `15090,15021,15999`},
		{"readiness.status.sidecar.istio.io/periodSeconds", "7", `"periodSeconds":7`},
		{"proxy.istio.io/config", "concurrency: 3\nproxyMetadata:\n  ISTIO_META_DNS_CAPTURE: \"true\"", `{\"discoveryAddress\":\"istiod.istio-system.svc:15012\",\"concurrency\":3,\"proxyMetadata\":{\"ISTIO_META_DNS_CAPTURE\":\"true\"}}`},
		{"inject.istio.io/templates", "sidecar, proxyless", `{"name":"CUSTOM","value":"WEB"}`},
		{"inject.istio.io/templates", "both", `{"name":"CUSTOM","value":"WEB"}`},
	} {
		metadata, err := json.Marshal(map[string]any{"name": "web", "annotations": map[string]string{c.annotation: c.value}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := injector(t, nil).Inject(Request{Pod: podWith(string(metadata), plain), Namespace: "shop"})
		var m map[string]any
		if err == nil {
			err = json.Unmarshal(r.Pod, &m)
		}
		same, _ := json.Marshal(m)
		if err != nil || !strings.Contains(strings.ReplaceAll(string(same), `\\`, `\`), c.want) {
			t.Errorf("%s=%s: %v: no %s in\n%s", c.annotation, c.value, err, c.want, same)
		}
	}
}

func TestBadAnnotations(t *testing.T) {
	for _, c := range []struct{ annotation, value, want string }{
		{"traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.1", `"10.0.0.1" is not a range`},
		{"traffic.sidecar.istio.io/excludeOutboundIPRanges", "*", "is not a range"},
		{"traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/33", "is not a range"},
		{"traffic.sidecar.istio.io/excludeInboundPorts", "80,http", `"http" is not a port`},
		{"traffic.sidecar.istio.io/includeInboundPorts", "70000", "is not a port"},
		{"traffic.sidecar.istio.io/excludeInterfaces", "a b", "not the name"},
		{"sidecar.istio.io/proxyCPU", "much", "not a quantity"},
		{"sidecar.istio.io/proxyMemory", "-1Gi", "below zero"},
		{"sidecar.istio.io/logLevel", "loud", "not one of trace"},
		{"sidecar.istio.io/interceptionMode", "TPROXY", "only REDIRECT and NONE"},
		{"sidecar.istio.io/proxyImage", "x\"\n  securityContext: {}", "not the name of an image"},
		{"sidecar.istio.io/rewriteAppHTTPProbers", "perhaps", "neither true nor false"},
		{"sidecar.istio.io/userVolume", "[]", "not a JSON object"},
		{"sidecar.istio.io/status", "x", "not a JSON object"},
		{"readiness.status.sidecar.istio.io/periodSeconds", "1s", "not a number"},
		{"readiness.status.sidecar.istio.io/periodSeconds", "010", "not a number"}, // YAML would read 8
		{"proxy.istio.io/config", "concurency: 3", "concurency"},
		{"proxy.istio.io/config", "concurrency: [", "proxy.istio.io/config"},
		{"proxy.istio.io/config", "interceptionMode: TPROXY", "interceptionMode"},
		{"inject.istio.io/templates", "none", `there is no template "none", only both, gateway, proxyless, sidecar`},
	} {
		metadata, err := json.Marshal(map[string]any{"annotations": map[string]string{c.annotation: c.value}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = injector(t, nil).Inject(Request{Pod: podWith(string(metadata), plain), Namespace: "shop"})
		name := c.annotation
		if strings.HasPrefix(c.want, "interceptionMode") {
			name = ""
		}
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%q: %v, want %s", c.annotation, c.value, err, c.want)
		}
	}
}

func BenchmarkInject(b *testing.B) {
	in := injector(b, nil)
	pod := podWith(`{"generateName":"web-","labels":{"app":"web"}}`, `{"containers":[{"name":"web","image":"web","livenessProbe":{"httpGet":{"port":80}}}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := in.Inject(Request{Pod: pod, Namespace: "shop"}); err != nil {
			b.Fatal(err)
		}
	}
}
