package mesh

import (
	"cmp"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

const legacyMesh = `apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |-
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
    accessLogFile: /legacy
`

const providersMesh = legacyMesh + `    extensionProviders:
    - {name: a, envoyFileAccessLog: {path: /a}}
    - {name: b, envoyFileAccessLog: {path: /b}}
    - {name: otel, envoyOtelAls: {service: otel.example.com, port: 4317}}
`

const defaultsMesh = providersMesh + "    defaultProviders: {accessLogging: [a, otel]}\n"

func telemetryYAML(name, rest string) string {
	return "\n---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: " + name + "}\nspec: " + rest
}

// in moves a Telemetry to a namespace.
func in(namespace, yaml string) string {
	return strings.Replace(yaml, "metadata: {", "metadata: {namespace: "+namespace+", ", 1)
}

func TestAccessLogs(t *testing.T) {
	errors := telemetryYAML("errors", `{accessLogging: [{filter: {expression: "response.code >= 400"}}]}`)
	toB := telemetryYAML("b", `{accessLogging: [{providers: [{name: b}]}]}`)
	off := telemetryYAML("off", `{accessLogging: [{disabled: true}]}`)
	selected := func(yaml string) string {
		return strings.Replace(yaml, "spec: {", "spec: {selector: {matchLabels: {app: x}}, ", 1)
	}
	for name, c := range map[string]struct{ yaml, want string }{
		"nothing written":                       {"", "legacy"},
		"accessLogFile":                         {legacyMesh, "legacy"},
		"default providers":                     {defaultsMesh, "/a"},
		"a filter on accessLogFile":             {legacyMesh + errors, "legacy response.code >= 400"},
		"a filter on the default":               {defaultsMesh + errors, "/a response.code >= 400"},
		"another provider":                      {defaultsMesh + toB, "/b"},
		"the standard provider":                 {legacyMesh + telemetryYAML("e", `{accessLogging: [{providers: [{name: envoy}]}]}`), "/dev/stdout"},
		"an unknown provider":                   {legacyMesh + telemetryYAML("e", `{accessLogging: [{providers: [{name: nope}]}]}`), ""},
		"disabled":                              {defaultsMesh + off, ""},
		"accessLogFile disabled":                {legacyMesh + off, ""},
		"only incoming calls":                   {legacyMesh + telemetryYAML("s", `{accessLogging: [{match: {mode: SERVER}, disabled: true}]}`), "legacy"},
		"of another namespace":                  {defaultsMesh + in("other", off), "/a"},
		"of the whole mesh":                     {defaultsMesh + in("istio-system", off), ""},
		"the namespace after the mesh":          {defaultsMesh + in("istio-system", toB) + errors, "/b response.code >= 400"},
		"the workload after the namespace":      {defaultsMesh + off + selected(toB), "/b"},
		"of the selected workload":              {defaultsMesh + selected(off), ""},
		"a selector that does not fit":          {defaultsMesh + strings.Replace(selected(off), "app: x", "app: y", 1), "/a"},
		"the oldest of two":                     {defaultsMesh + toB + off, "/b"},
		"several, one filtered, one disabled":   {providersMesh + telemetryYAML("m", `{accessLogging: [{providers: [{name: a}, {name: b}]}, {providers: [{name: a}], disabled: true}, {providers: [{name: b}], filter: {expression: "connection.mtls"}}]}`), "/b connection.mtls"},
		"no effect of a Gateway API target":     {defaultsMesh + strings.Replace(off, "spec: {", "spec: {targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: x}], ", 1), "/a"},
		"a Telemetry about something else":      {defaultsMesh + telemetryYAML("m", `{metrics: [{providers: [{name: prometheus}]}]}`), "/a"},
		"disabled in the mesh, on for the rest": {defaultsMesh + in("istio-system", off) + telemetryYAML("on", `{accessLogging: [{providers: [{name: a}]}]}`), "/a"},
	} {
		objects, problems := istioapi.Decode("f.yaml", []byte(c.yaml))
		for _, p := range problems {
			if p.Severity == istioapi.Error {
				t.Errorf("%s: %s", name, p)
			}
		}
		s, _ := New(objects, Options{AccessLogFile: "/default"})
		var got []string
		for _, l := range s.AccessLogs(Node{Namespace: "default", Labels: map[string]string{"app": "x", "v": "1"}}) {
			path := "legacy"
			if l.File != nil {
				path = cmp.Or(l.File.GetPath(), "/dev/stdout")
			}
			got = append(got, strings.TrimSpace(path+" "+l.Expression))
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}
