package istioapi

import (
	"strings"
	"testing"
)

// ISTIO_MUTUAL is for proxies that have an identity, and leaves no room for other certificates.
func TestMeshIdentity(t *testing.T) {
	const rule = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: n}
spec: {host: a.example, trafficPolicy: {tls: {mode: ISTIO_MUTUAL`
	const gateway = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: n}
spec: {servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: ISTIO_MUTUAL`
	for _, c := range []struct {
		yaml string
		pods bool
		want string // code of the only error; "" is none
	}{
		{rule + "}}}", true, ""},
		{rule + "}}}", false, CodeNotSupported},
		{rule + ", caCertificates: /ca.pem}}}", true, CodeConflict},
		{rule + ", clientCertificate: /c.pem, privateKey: /k.pem}}}", true, CodeConflict},
		{gateway + "}}]}", true, ""},
		{gateway + "}}]}", false, CodeNotSupported},
		{gateway + ", serverCertificate: /c.pem, privateKey: /k.pem}}]}", true, CodeConflict},
	} {
		objects, problems := Rules{Pods: c.pods}.Decode("x.yaml", []byte(c.yaml))
		var codes []string
		for _, p := range problems {
			if p.Severity == Error {
				codes = append(codes, p.Code)
			}
		}
		if got := strings.Join(codes, " "); got != c.want {
			t.Errorf("pods %t: %q, want %q: %s", c.pods, got, c.want, c.yaml)
		}
		if kept := len(objects.DestinationRules)+len(objects.Gateways) == 1; kept != (c.want == "") {
			t.Errorf("pods %t: the object is kept: %t: %s", c.pods, kept, c.yaml)
		}
	}
}
