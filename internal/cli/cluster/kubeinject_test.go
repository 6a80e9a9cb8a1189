package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/cli"
	"github.com/egret-mesh/egret/internal/cli/cluster"
)

// call runs a command line, and gives what it printed.
func call(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	s := cli.Streams{In: os.Stdin, Out: open("out"), Err: open("err")}
	status = cluster.Main("istioctl", args, s)
	read := func(f *os.File) string {
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		return string(text)
	}
	return status, read(s.Out), read(s.Err)
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// installedMaps are the ConfigMaps that install makes, by name.
func installedMaps(t *testing.T) map[string]map[string]string {
	t.Helper()
	status, text, errs := call(t, "manifest", "generate", "--set", "values.global.hub=hub.example", "--set", "meshConfig.defaultConfig.concurrency=3",
		"--set", `values.sidecarInjectorWebhook.neverInjectSelector[0].matchLabels.batch=yes`)
	if status != 0 {
		t.Fatal(errs)
	}
	out := map[string]map[string]string{}
	for document := range strings.SplitSeq(text, "\n---\n") {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
			Data     map[string]string
		}
		if err := yaml.Unmarshal([]byte(document), &o); err != nil && strings.Contains(document, "kind: ConfigMap") {
			t.Fatal(err)
		}
		if o.Kind == "ConfigMap" {
			out[o.Metadata.Name] = o.Data
		}
	}
	return out
}

// What install puts into the cluster is what kube-inject needs.
func TestKubeInject(t *testing.T) {
	maps := installedMaps(t)
	files := []string{
		"--injectConfigFile", writeFile(t, "config", maps["istio-sidecar-injector"]["config"]), "--valuesFile", writeFile(t, "values", maps["istio-sidecar-injector"]["values"]),
		"--meshConfigFile", writeFile(t, "mesh", maps["istio"]["mesh"]),
	}
	const objects = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: web}]}}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: nightly}, spec: {template: {metadata: {labels: {batch: "yes"}}, spec: {containers: [{name: job}]}}}}
`
	status, out, errs := call(t, append([]string{"kube-inject", "-f", writeFile(t, "in.yaml", objects), "-n", "shop"}, files...)...)
	if status != 0 || errs != "Job nightly: gets no proxy: neverInjectSelector\n" {
		t.Errorf("%d %s", status, errs)
	}
	for _, want := range []string{"image: hub.example/proxyv2:", `"concurrency":3`, "namespaces/shop/deployments/web"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	bad := strings.Replace(objects, "{labels: {app: web}}", `{annotations: {sidecar.istio.io/proxyCPU: much}}`, 1)
	status, out, errs = call(t, append([]string{"kube-inject", "-f", writeFile(t, "in.yaml", bad)}, files...)...)
	if status != 1 || out != "" || !strings.Contains(errs, `Deployment web: the annotation sidecar.istio.io/proxyCPU is "much"`) {
		t.Errorf("%d %s%s", status, out, errs)
	}
}
