package istioapi

import (
	"fmt"
	"strings"
	"testing"
)

// In a cluster credentialName names a Secret of the proxy's namespace; what cannot be one is
// refused with the field. On one machine there are none.
func TestCredentialNames(t *testing.T) {
	server := func(tls string) string {
		return `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: apps}
spec:
  selector: {app: g}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], tls: ` + tls + `}]
`
	}
	client := func(tls string) string {
		return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: apps}
spec: {host: a.example, workloadSelector: {matchLabels: {app: web}}, trafficPolicy: {tls: %s}}
`, tls)
	}
	for _, c := range []struct {
		yaml    string
		pods    bool
		problem string // "severity field: in the message"; "" none
	}{
		{server("{mode: SIMPLE, credentialName: web}"), true, ""},
		{server("{mode: MUTUAL, credentialName: kubernetes://web}"), true, ""},
		{server("{mode: OPTIONAL_MUTUAL, credentialNames: [rsa, ecdsa], caCertCredentialName: clients}"), true, ""},
		{server("{mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertCredentialName: clients}"), true, ""},
		{server("{mode: SIMPLE, credentialName: builtin://}"), true, ""},
		{server("{mode: SIMPLE, credentialName: web}"), false, "error spec.servers[0].tls.credentialName: no Kubernetes secrets"},
		{server("{mode: SIMPLE, credentialName: other/web}"), true, "error spec.servers[0].tls.credentialName: another namespace"},
		{server("{mode: SIMPLE, credentialName: configmap://web}"), true, "error spec.servers[0].tls.credentialName: configmap://"},
		{server("{mode: SIMPLE, credentialName: We b}"), true, "error spec.servers[0].tls.credentialName: the byte"},
		{server("{mode: SIMPLE, credentialName: a, credentialNames: [b]}"), true, "error spec.servers[0].tls.credentialNames: together"},
		{server("{mode: SIMPLE, credentialNames: ['']}"), true, "error spec.servers[0].tls.credentialNames[0]: empty"},
		{server("{mode: SIMPLE, credentialName: a, serverCertificate: /c, privateKey: /k}"), true, "warning spec.servers[0].tls: no effect"},
		{server("{mode: ISTIO_MUTUAL, credentialName: a}"), true, "error spec.servers[0].tls: must be left out"},
		{client("{mode: MUTUAL, credentialName: client}"), true, ""},
		{client("{mode: MUTUAL, credentialName: client}"), false, "error spec.trafficPolicy.tls.credentialName: no Kubernetes secrets"},
		{client("{mode: MUTUAL, credentialName: client, clientCertificate: /c, privateKey: /k}"), true, "error spec.trafficPolicy.tls: must be left out"},
		{strings.Replace(client("{mode: SIMPLE, credentialName: client}"), "workloadSelector: {matchLabels: {app: web}}, ", "", 1), true, "info spec.trafficPolicy.tls.credentialName: only gateways"},
	} {
		objects, problems := Rules{Pods: c.pods}.Decode("test.yaml", []byte(c.yaml))
		if c.problem == "" {
			if len(problems) > 0 || objects.Len() != 1 {
				t.Errorf("%s: %v", c.yaml, problems)
			}
			continue
		}
		severity, rest, _ := strings.Cut(c.problem, " ")
		field, text, _ := strings.Cut(rest, ": ")
		found := false
		for _, p := range problems {
			found = found || p.Severity.String() == severity && p.Field == field && strings.Contains(p.Message, text)
		}
		if !found || (severity == "error") != (objects.Len() == 0) {
			t.Errorf("%s: %v; want %q", c.yaml, problems, c.problem)
		}
	}
}
