package egretd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/egret-mesh/egret/internal/runtest"
)

const egressOfSecrets = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: istio-system}
spec:
  selector: {app: x}
  servers: [{port: {number: %d, name: http, protocol: HTTP}, hosts: [api.example.com]}]
`

const hostOfSecrets = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: istio-system}
spec:
  hosts: [api.example.com]
  ports: [{number: 443, name: http, protocol: HTTP, targetPort: %d}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
`

const routeOfSecrets = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: istio-system}
spec:
  hosts: [api.example.com]
  gateways: [egress]
  http: [{route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
`

const ruleOfSecrets = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api, namespace: istio-system}
spec:
  host: api.example.com
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: client, sni: api.example.com, subjectAltNames: ["spiffe://cluster.local/server"]}}
`

// An egress gateway begins mutual TLS with the certificate that a Secret has, and believes the
// authorities in it: without it calls are refused, and a new version is used from then on.
func TestGatewayBeginsTLSWithWhatTheSecretHas(t *testing.T) {
	certs, strangers := newCertificates(t), newCertificates(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certs.read(certs.CA))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].SerialNumber.String())
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, Certificates: []tls.Certificate{certs.issued("server")}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.SetKeepAlivesEnabled(false)
	server.StartTLS()
	defer server.Close()

	tc := startCluster(t, namespaces("default", "istio-system")...)
	tc.allow("istio-system:gateway")
	port := runtest.FreeAddress(t)
	tc.create(t, "gateways", fmt.Sprintf(egressOfSecrets, port.Port()))
	tc.create(t, "serviceentries", fmt.Sprintf(hostOfSecrets, server.Listener.Addr().(*net.TCPAddr).Port))
	tc.create(t, "virtualservices", routeOfSecrets)
	tc.create(t, "destinationrules", ruleOfSecrets)
	ready, _ := startPod(t, tc, "gateway-1", "istio-system", "gateway", "istio-system/gateway")
	runtest.Eventually(t, "the gateway is ready", func() bool { return answers(ready) })
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	call := func() string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+port.String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "api.example.com"
		r, err := client.Do(request)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = r.Body.Close() }()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err.Error()
		}
		if r.StatusCode != http.StatusOK {
			return fmt.Sprint(r.StatusCode, " ", r.Header.Get("x-egret-reason"))
		}
		return string(body)
	}
	sees := func(what, want string) {
		t.Helper()
		runtest.Eventually(t, what, func() bool { return call() == want })
	}
	sees("without the Secret the call is refused", "503 upstream_tls_failed")
	data, serial := certs.next()
	tc.secret(t, "istio-system", "client", data)
	sees("with it the server knows the client", serial)
	data, serial = certs.next()
	tc.secret(t, "istio-system", "client", data)
	sees("the next connection has the new certificate", serial)
	other, _ := strangers.next()
	data["ca.crt"] = other["ca.crt"]
	tc.secret(t, "istio-system", "client", data)
	sees("a server of another authority is not believed", "503 upstream_tls_failed")
}
