package egretproxy_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/runtest"
)

// Two proxies under one control plane: a gateway that calls a pod by itself with the mesh's TLS,
// because the pod's label says that its proxy takes it, and the pod's sidecar, which takes
// nothing else.
func TestStrictMutualTLS(t *testing.T) {
	world, here := inPodNetworkAs(t, "0")
	if !here {
		return
	}
	const objects = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
    accessLogFile: %s
    accessLogFormat: "%%REQ(:AUTHORITY)%% %%RESPONSE_CODE%% to %%DOWNSTREAM_LOCAL_URI_SAN%% from %%DOWNSTREAM_PEER_URI_SAN%%\n"
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: default}
spec: {mtls: {mode: %s}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ingress, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [www.site.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: site, namespace: default}
spec:
  hosts: [www.site.example]
  gateways: [ingress]
  http:
  - match: [{uri: {prefix: /}}]
    route: [{destination: {host: web.default.svc.cluster.local, port: {number: 80}}}]
`
	d := startIstiod(t)
	sidecar, gateway := newPod(t, d, "sidecar", "default", "web"), newPod(t, d, "router", "istio-system", "ingress")
	log := filepath.Join(t.TempDir(), "access.log")
	web, front := map[string]string{"app": "web"}, map[string]string{"istio": "ingressgateway"}
	serveAs := func(withProxy bool, mode string) {
		app := service("default", "web", "10.96.7.7", podAddress, web, mesh.Port{Number: 80, TargetPort: 8000, Name: "http"})
		app.Endpoints[0].MutualTLS, app.Endpoints[0].ServiceAccount = withProxy, "web"
		door := service("istio-system", "istio-ingressgateway", "10.96.100.2", "127.0.0.1", front, mesh.Port{Number: 80, TargetPort: 8080, Name: "http2"})
		yaml := fmt.Sprintf(objects, log, mode)
		d.serve(sidecar.node(), generated(t, sidecar, web, yaml, app, door)...)
		d.serve(gateway.node(), generated(t, gateway, front, yaml, app, door)...)
	}
	serveAs(true, "PERMISSIVE")
	accepts(t, 8000, tellsRequests)
	accepts(t, 7070, tellsRequests) // that no Service declares
	sidecar.start(t, d)
	gateway.start(t, d)

	call := func() string { return ask("127.0.0.1:8080", "www.site.example") }
	runtest.Eventually(t, "a call goes through", func() bool { return strings.HasPrefix(call(), "200") })
	// A connection in the clear that is open does not outlive PERMISSIVE.
	open := world.dial(t, fmt.Sprintf("%s:%d", podAddress, 8000))
	if got := over(open, "web"); !strings.HasPrefix(got, "200") {
		t.Errorf("PERMISSIVE, in the clear: %s", got)
	}
	serveAs(true, "STRICT")
	var last string
	runtest.Eventually(t, "the open connection is refused", func() bool { last = over(open, "web"); return !strings.HasPrefix(last, "200") })
	if !strings.Contains(last, "no_filter_chain") {
		t.Errorf("STRICT, on a connection that was open: %s", last)
	}
	account := spiffe("istio-system", "ingress").String()
	own := spiffe("default", "web").String()
	if got := call(); !strings.Contains(got, "200 www.site.example from 127.0.0.6") || !strings.Contains(got, "By="+own+";") || !strings.Contains(got, "URI="+account) {
		t.Errorf("the workload sees %s", got)
	}
	callers := get(t, "http://"+gateway.stats.String()+"/stats/prometheus")
	if !strings.Contains(callers, `source_principal="`+account+`"`) || !strings.Contains(callers, `destination_principal="`+own+`"`) {
		t.Error("the caller's metrics do not name both")
	}
	runtest.Eventually(t, "the sidecar's log tells who called", func() bool {
		text, _ := os.ReadFile(log)
		return strings.Contains(string(text), "www.site.example 200 to "+own+" from "+account)
	})

	at := func(port int) string { return fmt.Sprintf("%s:%d", podAddress, port) }
	secure := func(port int, certificates ...tls.Certificate) string {
		return over(tls.Client(world.dial(t, at(port)), &tls.Config{InsecureSkipVerify: true, Certificates: certificates, NextProtos: []string{"istio-http/1.1", "istio"}}), "web")
	}
	for name, c := range map[string]struct{ got, want string }{
		"in the clear":                    {over(world.dial(t, at(8000)), "web"), "no_filter_chain: listener virtualInbound takes nothing but TLS on port 8000"},
		"in the clear to an unknown port": {over(world.dial(t, at(7070)), "web"), "no_filter_chain"},
		"bytes in the clear":              {echoed(world.dial(t, at(7070))), "error"},
		"with the mesh's certificate":     {secure(8000, d.mesh.issue(nil, spiffe("other", "client"))), "URI=" + spiffe("other", "client").String()},
		"without a certificate":           {secure(8000), "error"},
		"of another mesh":                 {secure(8000, newAuthority(t).issue(nil, spiffe("other", "client"))), "error"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
	text := get(t, "http://"+sidecar.stats.String()+"/stats/prometheus")
	for _, want := range []string{`egret_denied_total{host="web",reason="no_filter_chain"} 3`, `connection_security_policy="mutual_tls"`, `source_principal="` + account + `"`, `destination_principal="` + own + `"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	// What is not known to have a proxy is called in the clear, which this one refuses.
	serveAs(false, "STRICT")
	runtest.Eventually(t, "a call in the clear is refused", func() bool { return strings.HasPrefix(call(), "502") })
}
