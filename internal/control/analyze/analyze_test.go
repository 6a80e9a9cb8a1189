package analyze

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// TestAnalyze compares what is told about each file of testdata, by Decode and
// Analyze together, with the comments "# want SEVERITY CODE ..." behind its lines.
func TestAnalyze(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			objects, problems := istioapi.Decode(file, data)
			problems = append(problems, Analyze(objects)...)
			var got []string
			for _, p := range problems {
				got = append(got, fmt.Sprintf("%d: %s %s", p.Line, p.Severity, p.Code))
				if p.Object.Name == "" || p.Field == "" || p.File != file {
					t.Errorf("without object, field or file: %s", p)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(wanted(string(data)), got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
				for _, p := range problems {
					t.Log(p)
				}
			}
		})
	}
}

func wanted(text string) []string {
	var out []string
	line := 0
	for l := range strings.Lines(text) {
		line++
		if _, want, ok := strings.Cut(l, "# want "); ok {
			for pair := range slices.Chunk(strings.Fields(want), 2) {
				out = append(out, fmt.Sprintf("%d: %s", line, strings.Join(pair, " ")))
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestMessages holds what a user reads about the most common mistakes.
func TestMessages(t *testing.T) {
	const entry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: w}
spec:
  hosts: [www.wikipedia.org]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
---
`
	tests := map[string]struct{ in, want string }{
		"misspelled destination": {
			entry + "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [www.wikipedia.org]\n  http:\n  - route:\n    - destination:\n        host: www.wikipdia.org\n",
			`f.yaml:18: error: VirtualService default/v: spec.http[0].route[0].destination.host: the registry has no host "www.wikipdia.org": requests by this route fail (no_cluster). Add a ServiceEntry; did you mean "www.wikipedia.org"? [unknown_host]`,
		},
		"gateway of another namespace": {
			entry + "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [www.wikipedia.org]\n  gateways: [mesh, gw]\n  http:\n  - route: [{destination: {host: www.wikipedia.org}}]\n" +
				"---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw, namespace: istio-system}\nspec:\n  servers: [{hosts: [www.wikipedia.org], port: {number: 80, name: http, protocol: HTTP}}]\n",
			`f.yaml:15: error: VirtualService default/v: spec.gateways[1]: there is no Gateway "default/gw"; did you mean "istio-system/gw"? [unknown_gateway]`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			objects, _ := istioapi.Decode("f.yaml", []byte(tt.in))
			var got []string
			for _, p := range Analyze(objects) {
				got = append(got, p.String())
			}
			if !slices.Contains(got, tt.want) {
				t.Errorf("got %q\nwant %s", got, tt.want)
			}
		})
	}
}

// TestDefaultExportTo: what MeshConfig hides by default is hidden.
func TestDefaultExportTo(t *testing.T) {
	in := `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio}
data:
  mesh: |
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
    defaultServiceExportTo: ["."]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: prod}
spec:
  hosts: [a.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [a.example.com]
  http:
  - route: [{destination: {host: a.example.com}}]
`
	objects, problems := istioapi.Decode("f.yaml", []byte(in))
	problems = append(problems, Analyze(objects)...)
	if len(problems) != 1 || problems[0].Code != CodeHidden {
		t.Errorf("problems: %v", problems)
	}
}

// TestManyServices bounds the work: no part may compare every pair of services.
func TestManyServices(t *testing.T) {
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s%d}\nspec:\n  hosts: [h%d.example.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: DNS\n", i, i)
		fmt.Fprintf(&b, "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v%d}\nspec:\n  hosts: [h%d.example.com]\n  http: [{route: [{destination: {host: h%d.example.com}}]}]\n", i, i, i)
	}
	objects, problems := istioapi.Decode("f.yaml", []byte(b.String()))
	if problems = append(problems, Analyze(objects)...); len(problems) > 0 {
		t.Errorf("problems: %v", problems[0])
	}
}
