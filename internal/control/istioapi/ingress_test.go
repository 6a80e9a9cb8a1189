package istioapi

import (
	"strings"
	"testing"
)

// Ingress is for pods; what cannot be done there is refused by name.
func TestIngressOfASidecar(t *testing.T) {
	const head = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a}\nspec:\n  ingress:\n  - {port: {number: 9080, protocol: HTTP, name: http}}\n  - "
	for entry, want := range map[string]string{
		`{port: {number: 80}, defaultEndpoint: "127.0.0.1:8080"}`:          "",
		`{port: {number: 80}, defaultEndpoint: "0.0.0.0:8080"}`:            "",
		`{port: {number: 80}, defaultEndpoint: "[::1]:8080"}`:              "",
		`{port: {number: 80}, bind: 10.0.0.1}`:                             "",
		`{port: {number: 80}, connectionPool: {tcp: {maxConnections: 1}}}`: "",
		`{port: {number: 80}, defaultEndpoint: "unix:///run/app.sock"}`:    "spec.ingress[1].defaultEndpoint not_supported",
		`{port: {number: 80}, defaultEndpoint: "10.0.0.1:8080"}`:           "spec.ingress[1].defaultEndpoint invalid_address",
		`{port: {number: 80}, defaultEndpoint: "127.0.0.2:8080"}`:          "spec.ingress[1].defaultEndpoint invalid_address",
		`{port: {number: 80}, defaultEndpoint: "localhost:8080"}`:          "spec.ingress[1].defaultEndpoint invalid_address",
		`{port: {number: 80}, defaultEndpoint: "127.0.0.1:0"}`:             "spec.ingress[1].defaultEndpoint invalid_address",
		`{port: {number: 80}, bind: web}`:                                  "spec.ingress[1].bind invalid_address",
		`{port: {number: 80}, captureMode: NONE}`:                          "spec.ingress[1].captureMode not_supported",
		`{port: {number: 80}, tls: {mode: SIMPLE}}`:                        "spec.ingress[1].tls not_supported",
		`{port: {number: 9080}}`:                                           "spec.ingress[1].port.number duplicate_value",
		`{port: {number: 70000}}`:                                          "spec.ingress[1].port.number invalid_port",
		`{port: {number: 80, protocol: HTPS}}`:                             "spec.ingress[1].port.protocol invalid_value",
		`{defaultEndpoint: "127.0.0.1:8080"}`:                              "spec.ingress[1].port missing_field",
	} {
		_, problems := Rules{Pods: true}.Decode("f.yaml", []byte(head+entry+"\n"))
		var got []string
		for _, p := range problems {
			if p.Severity == Error {
				got = append(got, p.Field+" "+p.Code)
			}
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%s: %q, want %q", entry, got, want)
		}
	}
}
