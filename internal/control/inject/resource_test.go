package inject

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const file = `# a comment
apiVersion: v1
kind: Service
metadata: {name: web} # kept as it is
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web}]}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly}, spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {containers: [{name: job, image: job}]}}}}}}
- {apiVersion: apps/v1, kind: DaemonSet, metadata: {name: node}, spec: {template: {spec: {hostNetwork: true, containers: [{name: node}]}}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: own, annotations: {sidecar.istio.io/bootstrapOverride: x}}, spec: {containers: [{name: own, image: own}]}}
`

func injectFile(t testing.TB, text string) (out string, told []string, err error) {
	var b strings.Builder
	err = injector(t, nil).InjectFile(strings.NewReader(text), &b, File{Namespace: "default", Tell: func(object, what string) { told = append(told, object+": "+what) }})
	return b.String(), told, err
}

func TestInjectFile(t *testing.T) {
	got, told, err := injectFile(t, file)
	if err != nil {
		t.Fatal(err)
	}
	documents := strings.Split(got, "---\n")
	if len(documents) != 4 {
		t.Fatalf("%d documents:\n%s", len(documents), got)
	}
	if documents[0] != file[:strings.Index(file, "---\n")] {
		t.Errorf("another object is not as it was:\n%s", documents[0])
	}
	for i, wants := range [][]string{1: {"name: istio-proxy", "namespaces/shop/deployments/web", "matchLabels"}, 2: {"namespaces/default/cronjobs/nightly", "hostNetwork: true"}, 3: {"namespaces/default/pods/own"}} {
		for _, want := range wants {
			if !strings.Contains(documents[i], want) {
				t.Errorf("no %q in document %d:\n%s", want, i, documents[i])
			}
		}
		if proxies := strings.Count(documents[i], "name: istio-proxy\n"); i > 0 && proxies != 1 {
			t.Errorf("%d proxies in document %d", proxies, i)
		}
	}
	want := "DaemonSet node: gets no proxy: hostNetwork: the rules would be the node's\nPod own: the annotation sidecar.istio.io/bootstrapOverride is not used: there is no Envoy to override the bootstrap of"
	if strings.Join(told, "\n") != want {
		t.Errorf("told:\n%s", strings.Join(told, "\n"))
	}
	again, _, err := injectFile(t, got)
	if err != nil || again != got {
		t.Errorf("injected again it changes: %v", err)
	}
}

func TestInjectBadFile(t *testing.T) {
	for text, want := range map[string]string{
		"kind: Deployment\nmetadata: {name: web}\nspec: {}":                                                                 "Deployment web: there is no template",
		"kind: Pod\nmetadata: {name: web, annotations: {sidecar.istio.io/logLevel: loud}}\nspec: {containers: [{name: a}]}": "Pod web: the annotation sidecar.istio.io/logLevel",
		"{": "yaml",
	} {
		if _, _, err := injectFile(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzInjectFile(f *testing.F) {
	f.Add(file)
	f.Fuzz(func(t *testing.T, text string) {
		got, _, err := injectFile(t, text)
		if err != nil {
			return
		}
		for document := range strings.SplitSeq(got, "\n---\n") {
			var v any
			if err := yaml.Unmarshal([]byte(document), &v); err != nil && len(text) < 1000 && !strings.Contains(text, "---") {
				t.Errorf("of %q:\n%s: %v", text, document, err)
			}
		}
	})
}
