package egretproxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/runtest"
)

// generated are all resources of a pod's proxy, as our control plane makes them.
func generated(t *testing.T, p *pod, labels map[string]string, yaml string, services ...*mesh.Service) []*anypb.Any {
	t.Helper()
	objects, problems := istioapi.Rules{Pods: true}.Decode("test.yaml", []byte(yaml))
	for _, problem := range problems {
		t.Errorf("objects: %s", problem)
	}
	s, _ := mesh.New(objects, mesh.Options{BuiltIn: services, Pods: true, AccessLogFile: "/dev/stdout"})
	all, err := xdsgen.Generate(s, mesh.Node{ID: p.node(), Type: mesh.NodeType(p.role), Namespace: p.namespace, Labels: labels})
	if err != nil {
		t.Fatal(err)
	}
	var out []*anypb.Any
	for _, byName := range all {
		for _, r := range byName {
			out = append(out, r.Body)
		}
	}
	return out
}

// service is a Service of Kubernetes; each port is there as it is, at the endpoint.
func service(namespace, name, clusterIP, endpoint string, selector map[string]string, ports ...mesh.Port) *mesh.Service {
	s := &mesh.Service{
		Host: name + "." + namespace + ".svc.cluster.local", Namespace: namespace, Registry: mesh.RegistryKubernetes,
		Source: istioapi.Ref{Kind: "Service", Namespace: namespace, Name: name}, Selector: selector, Resolution: mesh.ResolutionStatic,
		Internal:  true,
		Addresses: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(clusterIP), 32)},
	}
	e := mesh.Endpoint{Address: endpoint, Ports: map[string]uint32{}, Labels: selector, Bound: true}
	for _, p := range ports {
		p.Protocol, p.Declared = mesh.ServiceProtocol("TCP", "", p.Name, p.Number)
		s.Ports = append(s.Ports, p)
		e.Ports[p.Name] = p.TargetPort
	}
	s.Endpoints = []mesh.Endpoint{e}
	return s
}

// accepts takes connections on a port of the pod until the test ends.
func accepts(t *testing.T, port int, handle func(net.Conn)) {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(runtest.Patience))
				handle(c)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
}

// tellsRequests answers each request with what it sees of it.
func tellsRequests(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		body := fmt.Sprintf("%s from %s xfcc %q", req.Host, strings.TrimPrefix(from, "::ffff:"), req.Header.Get("x-forwarded-client-cert"))
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

// over is one request on a connection: the answer, or the error.
func over(c net.Conn, host string) string {
	_ = c.SetDeadline(time.Now().Add(runtest.Patience))
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return "error"
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "error"
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%d %s", r.StatusCode, b)
}

// echoed is what comes back of a line.
func echoed(c net.Conn) string {
	_ = c.SetDeadline(time.Now().Add(runtest.Patience))
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "error"
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "error"
	}
	return line
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// The connections to a pod, with the kernel's redirection, Istio's rules, and what our control
// plane generates: in the clear and with the mesh's TLS, to declared ports and others.
func TestInboundOfAPod(t *testing.T) {
	world, here := inPodNetwork(t)
	if !here {
		return
	}
	d := startIstiod(t)
	p := newPod(t, d, "sidecar", "default", "web")
	labels := map[string]string{"app": "web"}
	d.serve(p.node(), generated(t, p, labels, "", service("default", "web", "10.96.7.7", podAddress, labels,
		mesh.Port{Number: 80, TargetPort: 8000, Name: "http"}, mesh.Port{Number: 3306, TargetPort: 3306, Name: "mysql"}))...)
	own := d.mesh.issue([]string{"app.example"})
	accepts(t, 8000, tellsRequests)
	accepts(t, 7070, tellsRequests) // that no Service declares
	accepts(t, 3306, echo)
	accepts(t, 7443, func(c net.Conn) { echo(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}})) })
	p.start(t, d)
	runtest.Eventually(t, "readiness", func() bool { return p.isReady(t) })

	at := func(port int) string { return fmt.Sprintf("%s:%d", podAddress, port) }
	secure := func(port int, alpn []string, certificates ...tls.Certificate) net.Conn {
		return tls.Client(world.dial(t, at(port)), &tls.Config{InsecureSkipVerify: true, NextProtos: alpn, Certificates: certificates, ServerName: "outbound_.80_._.web.default.svc.cluster.local"})
	}
	client := d.mesh.issue(nil, spiffe("other", "client"))
	stranger := newAuthority(t).issue(nil, spiffe("other", "client"))
	known := "URI=" + spiffe("other", "client").String()
	for name, c := range map[string]struct{ got, want string }{
		"HTTP in the clear":             {over(world.dial(t, at(8000)), "web"), `200 web from 127.0.0.6 xfcc ""`},
		"HTTP by whatever name":         {over(world.dial(t, at(8000)), "not.in.any.registry"), `200 not.in.any.registry from 127.0.0.6 xfcc ""`},
		"HTTP with TLS of the mesh":     {over(secure(8000, []string{"istio-http/1.1", "istio"}, client), "web"), known},
		"TLS without a certificate":     {over(secure(8000, []string{"istio"}), "web"), "error"},
		"TLS of another mesh":           {over(secure(8000, []string{"istio"}, stranger), "web"), "error"},
		"TLS that is not the mesh's":    {over(secure(8000, []string{"http/1.1"}, client), "web"), "error"},
		"TCP in the clear":              {echoed(world.dial(t, at(3306))), "hello\n"},
		"TCP with TLS of the mesh":      {echoed(secure(3306, []string{"istio"}, client)), "hello\n"},
		"HTTP on an undeclared port":    {over(world.dial(t, at(7070)), "x"), `200 x from 127.0.0.6 xfcc ""`},
		"the same with the mesh's TLS":  {over(secure(7070, []string{"istio-http/1.1"}, client), "x"), known},
		"TLS of the application itself": {echoed(secure(7443, nil)), "hello\n"},
		"the proxy's own port":          {over(world.dial(t, at(15006)), "web"), "self_call"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
	text := get(t, "http://"+p.stats.String()+"/stats/prometheus")
	for _, want := range []string{`connection_security_policy="mutual_tls"`, `connection_security_policy="none"`, `destination_service="web.default"`, `reporter="destination"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}

// A pod's call through the egress gateway with ISTIO_MUTUAL, all of it generated: the
// gateway is a Service whose account the sidecar expects, and sees who calls.
func TestMutualTLSToTheGateway(t *testing.T) {
	_, here := inPodNetwork(t)
	if !here {
		return
	}
	const objects = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: site, namespace: default}
spec:
  hosts: [www.site.example]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: %d}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [www.site.example], tls: {mode: ISTIO_MUTUAL}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: gateway, namespace: default}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets: [{name: site, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: ISTIO_MUTUAL, sni: www.site.example}}]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: site, namespace: default}
spec:
  hosts: [www.site.example]
  gateways: [mesh, egress]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: site, port: {number: 443}}}]
  - match: [{gateways: [egress], port: 443}]
    route: [{destination: {host: www.site.example, port: {number: 80}}}]
`
	site := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s xfcc %q", r.Host, r.Header.Get("x-forwarded-client-cert"))
	})
	d := startIstiod(t)
	sidecar, gateway := newPod(t, d, "sidecar", "default", "app"), newPod(t, d, "router", "istio-system", "egress")
	labels := map[string]string{"istio": "egressgateway"}
	serveAs := func(account string) {
		s := service("istio-system", "istio-egressgateway", "10.96.100.1", "127.0.0.1", labels, mesh.Port{Number: 443, TargetPort: 8443, Name: "https"})
		s.Endpoints[0].ServiceAccount = account
		yaml := fmt.Sprintf(objects, site.Port())
		d.serve(sidecar.node(), generated(t, sidecar, map[string]string{"app": "app"}, yaml, s)...)
		d.serve(gateway.node(), generated(t, gateway, labels, yaml, s)...)
	}
	serveAs("egress")
	gateway.start(t, d)
	sidecar.start(t, d)
	call := func() string { return ask("198.51.100.7:80", "www.site.example") }
	runtest.Eventually(t, "a call goes through", func() bool { return strings.HasPrefix(call(), "200") })
	if got := call(); !strings.HasPrefix(got, "200 www.site.example xfcc") || !strings.Contains(got, "URI="+spiffe("default", "app").String()) {
		t.Errorf("the site sees %s", got)
	}
	if got := ask("198.51.100.7:80", "www.other.example"); !strings.HasPrefix(got, "502") {
		t.Errorf("another host: %s", got)
	}
	if got := ask("127.0.0.1:8443", "www.site.example"); strings.HasPrefix(got, "200") {
		t.Errorf("the gateway serves in the clear: %s", got)
	}
}
