package istioapi

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"sigs.k8s.io/yaml"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
)

// wanted reads the "# want SEVERITY CODE ..." comments: "line: severity code".
func wantedProblems(text string) []string {
	var out []string
	line := 0
	for l := range strings.Lines(text) {
		line++
		_, want, ok := strings.Cut(l, "# want ")
		if !ok {
			continue
		}
		for pair := range slices.Chunk(strings.Fields(want), 2) {
			out = append(out, fmt.Sprintf("%d: %s", line, strings.Join(pair, " ")))
		}
	}
	slices.Sort(out)
	return out
}

func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			objects, problems := Decode(file, data)
			var got []string
			messages := map[string]string{}
			bad := map[Ref]bool{}
			for _, p := range problems {
				if p.File != file {
					t.Errorf("problem in file %q: %s", p.File, p)
				}
				key := fmt.Sprintf("%d: %s %s", p.Line, p.Severity, p.Code)
				got = append(got, key)
				messages[key] = p.String()
				if p.Severity == Error && p.Code != CodeDuplicateObject {
					bad[p.Object] = true
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(wantedProblems(string(data)), got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
				for _, key := range sortedKeys(messages) {
					t.Log(messages[key])
				}
			}
			for o := range objects.All() {
				m := o.Common()
				if bad[m.Ref] && m.Name != "in-a-list" && m.Name != "istio" { // there are several of these names
					t.Errorf("%s has an error and is among the objects", m.Ref)
				}
			}
			for _, name := range []string{"good", "all-well", "in-a-list", "unix-ok", "export-none", "we", "star-on-gateway", "unchecked"} {
				if strings.Contains(string(data), "name: "+name+"}") && !slices.ContainsFunc(slices.Collect(objects.All()), func(o Object) bool { return o.Common().Name == name }) {
					t.Errorf("%q is not among the objects", name)
				}
			}
		})
	}
}

func TestMessagesHelp(t *testing.T) {
	head := "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec:\n"
	tests := map[string]struct{ in, want string }{
		"unknown field": {
			head + "  hosts: [a.example.com]\n  resolutoin: DNS\n",
			`f.yaml:6: error: ServiceEntry default/a: spec.resolutoin: no such field; did you mean "resolution"? [unknown_field]`,
		},
		"enum": {
			head + "  resolution: Dns\n",
			`f.yaml:5: error: ServiceEntry default/a: spec.resolution: "Dns" is not one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS; did you mean "DNS"? [invalid_value]`,
		},
		"quoted number": {
			head + "  ports:\n  - number: '80'\n",
			`f.yaml:6: error: ServiceEntry default/a: spec.ports[0].number: must be a whole number, not the string "80" (remove the quotes) [wrong_type]`,
		},
		"unquoted string": {
			head + "  ports:\n  - name: 80\n",
			`f.yaml:6: error: ServiceEntry default/a: spec.ports[0].name: must be a string, not the number 80 (put it in quotes: "80") [wrong_type]`,
		},
		"duplicate key": {
			head + "  hosts: []\n  hosts: []\n",
			`f.yaml:6: error: ServiceEntry default/a: spec.hosts: is written twice (first on line 5) [duplicate_key]`,
		},
		"tab": {
			head + "\thosts: []\n",
			`f.yaml:5: error: not valid YAML: found character that cannot start any token (line is indented with a tab; YAML allows only spaces) [yaml_syntax]`,
		},
		"map key with dots": {
			"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n  selector:\n    app.kubernetes.io/name: 1\n",
			`f.yaml:6: error: Gateway default/a: spec.selector["app.kubernetes.io/name"]: must be a string, not the number 1 (put it in quotes: "1") [wrong_type]`,
		},
		"version": {
			"kind: Sidecar\nmetadata: {name: a}\n",
			`f.yaml:1: error: Sidecar a: apiVersion: is required; Sidecar is networking.istio.io/v1 [missing_field]`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			objects, problems := Decode("f.yaml", []byte(tt.in))
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
			}
			if !slices.Contains(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
			if objects.Len() != 0 {
				t.Errorf("got %d objects of a file with an error", objects.Len())
			}
		})
	}
}

// TestAgreesWithProtoJSON compares with the way Istio itself decodes.
func TestAgreesWithProtoJSON(t *testing.T) {
	data, err := os.ReadFile("testdata/problems/virtualservice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.Split(string(data), "\n---\n")
	mesh := `
accessLogFile: /dev/stdout
accessLogEncoding: JSON
connectTimeout: 10s
enableAutoMtls: false
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
defaultConfig:
  concurrency: 2
  tracing: {sampling: 0.5}
extensionProviders:
- name: log
  envoyFileAccessLog: {path: /x, logFormat: {labels: {a: "%PROTOCOL%", b: {c: [1, "2", null, true]}}}}
- name: st
  stackdriver: {maxNumberOfAttributes: "5"}
`
	tests := map[string]struct {
		text string
		got  func(Objects) proto.Message
		want proto.Message
	}{
		"VirtualService": {docs[0], func(o Objects) proto.Message { return o.VirtualServices[0].Spec }, &networking.VirtualService{}},
		"MeshConfig": {
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\nspec: " + flow(t, mesh) + "\n",
			func(o Objects) proto.Message { return o.MeshConfig.Spec }, &meshconfig.MeshConfig{},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var whole struct {
				Spec map[string]any `json:"spec"`
			}
			if err := yaml.Unmarshal([]byte(tt.text), &whole); err != nil {
				t.Fatal(err)
			}
			text := tt.text
			if name == "MeshConfig" {
				text = meshConfigMap(mesh)
			}
			if http, ok := whole.Spec["http"].([]any); ok {
				// protojson itself takes durations in seconds only.
				http[0].(map[string]any)["timeout"] = "90s"
			}
			asJSON, err := yaml.Marshal(whole.Spec)
			if err != nil {
				t.Fatal(err)
			}
			if asJSON, err = yaml.YAMLToJSON(asJSON); err != nil {
				t.Fatal(err)
			}
			if err := protojson.Unmarshal(asJSON, tt.want); err != nil {
				t.Fatal(err)
			}
			objects, problems := Decode("f.yaml", []byte(text))
			for _, p := range problems {
				if p.Severity == Error {
					t.Fatal(p)
				}
			}
			if diff := cmp.Diff(tt.want, tt.got(objects), protocmp.Transform()); diff != "" {
				t.Errorf("-protojson +Decode:\n%s", diff)
			}
		})
	}
}

func flow(t *testing.T, text string) string {
	t.Helper()
	j, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(j)
}

func meshConfigMap(mesh string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata:\n  mesh: |\n" +
		strings.ReplaceAll(mesh, "\n", "\n    ") + "\n"
}

func TestMeta(t *testing.T) {
	in := `# a comment
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata:
  name: a
  namespace: prod
  labels: {app: web}
  annotations: {note: "1"}
  creationTimestamp: "2024-01-02T03:04:05Z"
spec:
  hosts:
  - a.example.com
  - b.example.com
  ports:
  - number: 80
    name: http
    protocol: HTTP
---
apiVersion: v1
kind: Namespace
metadata: {name: prod, labels: {team: x}}
`
	objects, problems := Decode("dir/f.yaml", []byte(in))
	if len(problems) != 0 || len(objects.ServiceEntries) != 1 || len(objects.Namespaces) != 1 {
		t.Fatalf("objects %+v, problems %v", objects, problems)
	}
	m := objects.ServiceEntries[0].Meta
	lines := map[string]int{
		"spec": 10, "spec.hosts": 11, "spec.hosts[1]": 13, "spec.ports[0].number": 15, "metadata.labels.app": 7,
		"spec.ports[0].targetPort": 15, "spec.endpoints[3].address": 10, "nothing": 2,
	}
	for path, want := range lines {
		if got := m.LineOf(path); got != want {
			t.Errorf("LineOf(%q) = %d, want %d", path, got, want)
		}
	}
	m.Lines = nil
	want := Meta{
		Ref: Ref{"ServiceEntry", "prod", "a"}, APIVersion: "networking.istio.io/v1beta1",
		Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "1"},
		Created: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC), Position: Position{"dir/f.yaml", 2},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("meta (-want +got):\n%s", diff)
	}
	ns := objects.Namespaces[0]
	if ns.Ref != (Ref{Kind: "Namespace", Name: "prod"}) || ns.Order != 1 || ns.Position.Line != 19 || ns.Labels["team"] != "x" {
		t.Errorf("namespace: %+v", ns.Meta)
	}
}

func TestForms(t *testing.T) {
	const spec = `{"hosts": ["a.example.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}`
	const object = `{"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "a"}, "spec": ` + spec + `}`
	tests := map[string]struct {
		in   string
		want int
	}{
		"json":           {object, 1},
		"json with tabs": {strings.ReplaceAll(object, " ", "\n\t"), 1},
		"json list":      {`{"apiVersion": "v1", "kind": "List", "items": [` + object + `]}`, 1},
		"typed list":     {`{"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntryList", "items": [` + object + `]}`, 1},
		"bom":            {"\ufeff" + object, 1},
		"crlf":           {"apiVersion: networking.istio.io/v1\r\nkind: ServiceEntry\r\nmetadata:\r\n  name: a\r\nspec: " + spec + "\r\n---\r\n# end\r\n", 1},
		"document end":   {object + "\n...\n---\n" + strings.Replace(object, `"a"}`, `"b"}`, 1) + "\n", 2},
		"directive":      {"%YAML 1.2\n---\n" + object + "\n", 1},
		"empty":          {"", 0},
		"separators":     {"---\n---\n\n---", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			objects, problems := Decode("f", []byte(tt.in))
			if objects.Len() != tt.want {
				t.Errorf("%d objects, want %d; problems %v", objects.Len(), tt.want, problems)
			}
			if tt.want > 0 && len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
		})
	}
}

func TestMergeKeys(t *testing.T) {
	in := `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example.com]
  ports:
  - &http {number: 80, name: http, protocol: HTTP}
  - <<: *http
    number: 8080
    name: alt
`
	objects, problems := Decode("f", []byte(in))
	if len(problems) > 0 || objects.Len() != 1 {
		t.Fatalf("problems %v", problems)
	}
	got := objects.ServiceEntries[0].Spec.Ports[1]
	if got.Number != 8080 || got.Name != "alt" || got.Protocol != "HTTP" {
		t.Errorf("merged port: %v", got)
	}
}

func TestBounds(t *testing.T) {
	bomb := "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nstatus:\n  - &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 10; i++ {
		bomb += fmt.Sprintf("  - &a%d [%s]\n", i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10))
	}
	tests := map[string]string{
		"alias bomb":   bomb + "spec:\n  hosts: *a9\n",
		"map bomb":     mapBomb(),
		"self alias":   "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: &s\n  http: [*s]\n",
		"deep flow":    "apiVersion: v1\nkind: " + strings.Repeat("[", 100_000),
		"deep list":    "apiVersion: v1\nkind: List\nitems: " + strings.Repeat(`[{"apiVersion": "v1", "kind": "List", "items": `, 200) + "1" + strings.Repeat("}]", 200),
		"deep struct":  meshConfigMap("extensionProviders: [{name: a, envoyFileAccessLog: {logFormat: {labels: " + strings.Repeat("{a: ", 500) + strings.Repeat("}", 500) + "}}}]"),
		"merge itself": "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: &s\n  <<: *s\n",
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			objects, problems := Decode("f", []byte(in))
			if objects.Len() != 0 {
				t.Errorf("%d objects", objects.Len())
			}
			if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error }) {
				t.Errorf("no error: %v", problems)
			}
		})
	}
	t.Run("size", func(t *testing.T) {
		_, problems := Decode("f", make([]byte, MaxFileSize+1))
		if len(problems) != 1 || problems[0].Code != CodeTooLarge {
			t.Errorf("problems: %v", problems)
		}
	})
	t.Run("problems", func(t *testing.T) {
		_, problems := Decode("f", []byte(strings.Repeat("---\na: b\n", 2*maxProblems)))
		if len(problems) != maxProblems+1 {
			t.Errorf("%d problems", len(problems))
		}
	})
}

func mapBomb() string {
	var b strings.Builder
	b.WriteString("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  http:\n")
	b.WriteString("  - &r0 {match: [{uri: {prefix: /a}}]}\n")
	for i := 1; i < 100; i++ {
		fmt.Fprintf(&b, "  - {headers: {request: {set: {a%d: b}}}, match: [%s]}\n", i, strings.Repeat("*m, ", 300))
	}
	return strings.Replace(b.String(), "{uri: {prefix: /a}}", "&m {headers: {a: {exact: b}, c: {exact: d}, e: {exact: f}}}", 1)
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/problems/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		for _, doc := range strings.Split(string(data), "\n---\n") {
			f.Add([]byte(doc))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		objects, problems := Decode("f", data)
		failed := map[Ref]bool{}
		for _, p := range problems {
			failed[p.Object] = failed[p.Object] || p.Severity == Error
		}
		seen := map[Ref]bool{}
		for o := range objects.All() {
			m := o.Common()
			if seen[m.Ref] || m.Name == "" || m.Kind == "" || m.Position.Line == 0 {
				t.Errorf("object %+v", m)
			}
			seen[m.Ref] = true
			for _, p := range Validate(o) {
				if p.Severity == Error {
					t.Errorf("an invalid object was returned: %s", p)
				}
			}
		}
	})
}
