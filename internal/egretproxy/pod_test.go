package egretproxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/agent"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/egretproxy"
	"github.com/egret-mesh/egret/internal/runtest"
)

// pod is a container as Istio's injection makes it, with a folder in place of "/".
type pod struct {
	root                 string
	role, namespace      string
	name, account, token string
	status, ready, stats netip.AddrPort
	admin                netip.AddrPort
	log                  *runtest.Log
}

func newPod(t *testing.T, d *istiod, role, namespace, account string) *pod {
	t.Helper()
	p := &pod{root: t.TempDir(), role: role, namespace: namespace, account: account, name: account + "-1", token: "token-of-" + account, log: runtest.NewLog(t, account+"-1"),
		status: runtest.FreeAddress(t), ready: runtest.FreeAddress(t), stats: runtest.FreeAddress(t), admin: runtest.FreeAddress(t)}
	d.with(func() { d.tokens["Bearer "+p.token] = spiffe(namespace, account).String() })
	p.write(t, "var/run/secrets/istio/root-cert.pem", string(d.mesh.pem))
	p.write(t, "var/run/secrets/tokens/istio-token", p.token+"\n")
	p.write(t, "etc/istio/pod/labels", "app=\""+account+"\"\npod-template-hash=\"77\"\n")
	p.write(t, "etc/istio/pod/annotations", "note=\"a \\\"quoted\\\" one\"\n")
	return p
}

func (p *pod) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(p.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *pod) node() string {
	return fmt.Sprintf("%s~127.0.0.1~%s.%s~%s.svc.cluster.local", p.role, p.name, p.namespace, p.namespace)
}

// start runs egret-proxy in the pod.
func (p *pod) start(t *testing.T, d *istiod, more ...string) {
	t.Helper()
	o := p.options(t, d, more...)
	runtest.Run(t, "egret-proxy "+p.role, func(ctx context.Context) error { return egretproxy.Run(ctx, o) })
}

// options are what the container's environment makes of it.
func (p *pod) options(t *testing.T, d *istiod, more ...string) egretproxy.Options {
	t.Helper()
	s, err := agent.Read(agent.Input{Role: p.role, Root: p.root, Environ: append([]string{
		"POD_NAME=" + p.name, "POD_NAMESPACE=" + p.namespace, "INSTANCE_IP=127.0.0.1", "SERVICE_ACCOUNT=" + p.account,
		"PILOT_CERT_PROVIDER=istiod", "CA_ADDR=" + d.address, "ISTIOD_SAN=" + istiodName, "JWT_POLICY=third-party-jwt",
		"ISTIO_META_CLUSTER_ID=Kubernetes", "ISTIO_META_INTERCEPTION_MODE=REDIRECT",
		fmt.Sprintf("ENVOY_STATUS_PORT=%d", p.ready.Port()), fmt.Sprintf("ENVOY_PROMETHEUS_PORT=%d", p.stats.Port()),
		fmt.Sprintf(`PROXY_CONFIG={"discoveryAddress":%q,"statusPort":%d,"proxyAdminPort":%d,"terminationDrainDuration":"0s"}`, d.address, p.status.Port(), p.admin.Port()),
	}, more...)})
	if err != nil {
		t.Fatal(err)
	}
	o, err := egretproxy.AgentOptions(s, p.log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (p *pod) isReady(t *testing.T) bool {
	return statusOf(t, p.ready, "/healthz/ready") == 200
}

func statusOf(t *testing.T, at netip.AddrPort, path string) int {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: runtest.Patience}
	r, err := client.Get("http://" + at.String() + path)
	if err != nil {
		return 0
	}
	_ = r.Body.Close()
	return r.StatusCode
}

const (
	agentSDS = `"sdsConfig":{"apiConfigSource":{"apiType":"GRPC","transportApiVersion":"V3","grpcServices":[{"envoyGrpc":{"clusterName":"sds-grpc"}}],"setNodeOnFirstMessageOnly":true},"initialFetchTimeout":"0s","resourceApiVersion":"V3"}`
	tlsTypes = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
)

// listens is an HTTP listener that sends all to one cluster, as istiod writes it; extra
// goes into the chain.
func listens(t *testing.T, at netip.AddrPort, cluster, extra, route string) *anypb.Any {
	return resourcetest.Listener(t, fmt.Sprintf(`{"name":"l","address":{"socketAddress":{"address":%q,"portValue":%d}},"filterChains":[{%s"filters":[{"name":"hcm","typedConfig":{
		"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","statPrefix":"x",
		"routeConfig":{"name":"r","virtualHosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":%q}%s}]}]},
		"httpFilters":[{"name":"envoy.filters.http.router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`,
		at.Addr(), at.Port(), extra, cluster, route))
}

func cluster(t *testing.T, name string, to netip.AddrPort, extra string) *anypb.Any {
	return resourcetest.Cluster(t, fmt.Sprintf(`{"name":%q,"type":"STATIC","connectTimeout":"10s",%s"loadAssignment":{"clusterName":%q,"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":%q,"portValue":%d}}}}]}]}}`,
		name, extra, name, to.Addr(), to.Port()))
}

// path is an application's sidecar and an egress gateway, with ISTIO_MUTUAL between them, a
// new connection for each request,
// and a site behind the gateway that knows nothing of the mesh.
type path struct {
	*istiod
	sidecar, gateway     *pod
	sidecarAt, gatewayAt netip.AddrPort
}

func newPath(t *testing.T, expectedSAN string) *path {
	t.Helper()
	p := &path{istiod: startIstiod(t), sidecarAt: runtest.FreeAddress(t), gatewayAt: runtest.FreeAddress(t)}
	p.sidecar = newPod(t, p.istiod, "sidecar", "default", "app")
	p.gateway = newPod(t, p.istiod, "router", "istio-system", "egress")
	site := website(t, "site")
	p.serve(p.sidecar.node(),
		listens(t, p.sidecarAt, "outbound|443||egress", "", ""),
		cluster(t, "outbound|443||egress", p.gatewayAt, `"maxRequestsPerConnection":1,"transportSocket":{"name":"envoy.transport_sockets.tls","typedConfig":{"@type":"`+tlsTypes+`UpstreamTlsContext","sni":"outbound_.443_._.egress",
			"commonTlsContext":{"alpnProtocols":["istio-peer-exchange","istio"],"tlsCertificateSdsSecretConfigs":[{"name":"default",`+agentSDS+`}],
			"combinedValidationContext":{"defaultValidationContext":{"matchSubjectAltNames":[{"exact":"`+expectedSAN+`"}]},"validationContextSdsSecretConfig":{"name":"ROOTCA",`+agentSDS+`}}}}},`))
	p.serve(p.gateway.node(),
		listens(t, p.gatewayAt, "site", `"transportSocket":{"name":"envoy.transport_sockets.tls","typedConfig":{"@type":"`+tlsTypes+`DownstreamTlsContext","requireClientCertificate":true,
			"commonTlsContext":{"alpnProtocols":["h2","http/1.1"],"tlsCertificateSdsSecretConfigs":[{"name":"default",`+agentSDS+`}],
			"combinedValidationContext":{"defaultValidationContext":{},"validationContextSdsSecretConfig":{"name":"ROOTCA",`+agentSDS+`}}}}},`,
			`,"responseHeadersToAdd":[{"header":{"key":"x-peer","value":"%DOWNSTREAM_PEER_URI_SAN%"}}]`),
		cluster(t, "site", site, ""))
	return p
}

func (p *path) call() string { return ask(p.sidecarAt.String(), "api.example.com") }

const served = "200 site: api.example.com"

// The whole way: identity, configuration, and a call with mutual TLS between two proxies
// that have nothing but what Istio's injection gives them.
func TestInIstioPods(t *testing.T) {
	p := newPath(t, spiffe("istio-system", "egress").String())
	p.gateway.start(t, p.istiod)
	p.sidecar.start(t, p.istiod)
	runtest.Eventually(t, "a call goes through", func() bool { return p.call() == served })
	for _, one := range []*pod{p.sidecar, p.gateway} {
		runtest.Eventually(t, "readiness", func() bool { return one.isReady(t) })
		if statusOf(t, one.status, "/healthz/ready") != 200 || statusOf(t, one.stats, "/healthz/ready") != 404 {
			t.Error("readiness is at the wrong port")
		}
		if !strings.Contains(get(t, "http://"+one.stats.String()+"/stats/prometheus"), "istio_requests_total") ||
			!strings.Contains(get(t, "http://"+one.status.String()+"/stats/prometheus"), "istio_requests_total") {
			t.Error("there are no metrics")
		}
		p.noKeyOnDisk(t, one)
		if all := get(t, "http://"+one.admin.String()+"/config_dump"); !strings.Contains(all, one.node()) || strings.Contains(all, "PRIVATE KEY") || strings.Contains(all, one.token) {
			t.Errorf("the dump of the configuration: %s", all)
		}
	}
	conn, _, err := p.shown(p.gatewayAt.String(), p.mesh.issue(nil, spiffe("default", "app")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	if got := r.Header.Get("x-peer"); got != spiffe("default", "app").String() {
		t.Errorf("the gateway sees the peer %q", got)
	}
	if _, _, err := p.plainCall(); err == nil {
		t.Error("the gateway serves who shows no certificate")
	}
	p.with(func() {
		n := p.nodes[p.sidecar.node()]
		if n.GetCluster() != "app.default" || n.GetMetadata().GetFields()["LABELS"].GetStructValue().GetFields()["app"].GetStringValue() != "app" {
			t.Errorf("the node: %v", n)
		}
	})
}

// plainCall is a call to the gateway in the clear.
func (p *path) plainCall() (string, string, error) {
	got := ask(p.gatewayAt.String(), "api.example.com")
	if strings.HasPrefix(got, "200") {
		return got, "", nil
	}
	return "", "", fmt.Errorf("%s", got)
}

func (p *path) noKeyOnDisk(t *testing.T, one *pod) {
	err := fs.WalkDir(os.DirFS(one.root), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(one.root, name))
		if bytes.Contains(text, []byte("PRIVATE KEY")) {
			t.Errorf("%s has a key", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A gateway with another identity than the configuration expects is not talked to.
func TestGatewayOfAnotherIdentity(t *testing.T) {
	p := newPath(t, spiffe("istio-system", "somebody").String())
	p.gateway.start(t, p.istiod)
	p.sidecar.start(t, p.istiod)
	runtest.Eventually(t, "the call is refused for its identity", func() bool {
		got := p.call()
		return strings.HasPrefix(got, "503") && strings.Contains(got, "upstream_tls_failed")
	})
}

// New connections show the new certificate; the old ones go on.
func TestRenewal(t *testing.T) {
	p := newPath(t, spiffe("istio-system", "egress").String())
	p.ttl = 4 * time.Second
	p.gateway.start(t, p.istiod)
	client := p.mesh.issue(nil, spiffe("default", "app"))
	runtest.Eventually(t, "the gateway serves", func() bool {
		c, _, err := p.shown(p.gatewayAt.String(), client)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	old, first, err := p.shown(p.gatewayAt.String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	runtest.Eventually(t, "a new connection shows another certificate", func() bool {
		c, now, err := p.shown(p.gatewayAt.String(), client)
		if err != nil {
			t.Errorf("while certificates change: %v", err)
			return true
		}
		_ = c.Close()
		return now.SerialNumber.Cmp(first.SerialNumber) != 0 && time.Now().After(first.NotAfter)
	})
	fmt.Fprint(old, "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(old), nil)
	if err != nil {
		t.Fatalf("the old connection: %v", err)
	}
	_ = r.Body.Close()
	if r.StatusCode != 200 {
		t.Errorf("the old connection: %s", r.Status)
	}
}

// While the authority is away the certificate stays, to its end; then calls are refused
// with the reason, and go on by themselves when it is back.
func TestCertificateExpiresWhileTheAuthorityIsAway(t *testing.T) {
	p := newPath(t, spiffe("istio-system", "egress").String())
	p.gateway.start(t, p.istiod)
	gateway := spiffe("istio-system", "egress").String()
	runtest.Eventually(t, "the gateway has its certificate", func() (ok bool) {
		p.with(func() { ok = p.signed[gateway] > 0 })
		return ok
	})
	p.with(func() { p.ttl = 6 * time.Second })
	p.sidecar.start(t, p.istiod)
	runtest.Eventually(t, "a call goes through", func() bool { return p.call() == served })
	p.with(func() { p.away = true })
	runtest.Eventually(t, "the proxy tells that it gets no other", func() bool {
		return p.sidecar.log.Has("the authority is away") && p.sidecar.log.Has("present=\"until ")
	})
	var refused string
	runtest.Eventually(t, "calls on new connections are refused", func() bool {
		refused = p.call()
		return strings.HasPrefix(refused, "503")
	})
	if !strings.Contains(refused, "upstream_tls_failed") {
		t.Errorf("refused as %s", refused)
	}
	p.with(func() { p.away, p.ttl = false, time.Hour })
	runtest.Eventually(t, "calls go through again", func() bool { return p.call() == served })
}

// Without an identity nothing is served: not in the clear, and not half.
func TestNoIdentity(t *testing.T) {
	t.Run("the token is refused", func(t *testing.T) {
		p := newPath(t, spiffe("istio-system", "egress").String())
		p.gateway.start(t, p.istiod)
		p.sidecar.write(t, "var/run/secrets/tokens/istio-token", "another")
		p.sidecar.start(t, p.istiod)
		runtest.Eventually(t, "it is told twice", func() bool {
			return p.sidecar.log.Lines("no new certificate") > 1 && p.sidecar.log.Has("the token is not valid")
		})
		if statusOf(t, p.sidecar.ready, "/healthz/ready") != 503 || !strings.Contains(p.call(), "refused") {
			t.Errorf("served without an identity: %s", p.call())
		}
		p.sidecar.write(t, "var/run/secrets/tokens/istio-token", p.sidecar.token)
		runtest.Eventually(t, "a new token lets it go on", func() bool { return p.call() == served && p.sidecar.isReady(t) })
	})
	t.Run("another root", func(t *testing.T) {
		p := newPath(t, spiffe("istio-system", "egress").String())
		p.sidecar.write(t, "var/run/secrets/istio/root-cert.pem", string(newAuthority(t).pem))
		p.sidecar.start(t, p.istiod)
		runtest.Eventually(t, "it is told twice", func() bool {
			return p.sidecar.log.Lines("no new certificate") > 1 && p.sidecar.log.Has("unknown authority")
		})
		if statusOf(t, p.sidecar.ready, "/healthz/ready") != 503 || !strings.Contains(p.call(), "refused") {
			t.Errorf("served without an identity: %s", p.call())
		}
		p.with(func() {
			if p.calls > 0 {
				t.Error("a token was sent to a control plane that is not trusted")
			}
		})
	})
}

// A proxy that has its configuration is ready when it listens, not before: the application
// starts then, and its first connections would be refused.
func TestNotReadyBeforeItListens(t *testing.T) {
	d := startIstiod(t)
	p := newPod(t, d, "sidecar", "default", "app")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	d.serve(p.node(), listens(t, netip.MustParseAddrPort(taken.Addr().String()), "site", "", ""), cluster(t, "site", website(t, "site"), ""))
	p.start(t, d)
	runtest.Eventually(t, "the listener cannot be opened", func() bool { return p.log.Has("listener not opened") })
	if got := statusOf(t, p.ready, "/healthz/ready"); got != 503 {
		t.Errorf("ready without a listener: %d", got)
	}
	_ = taken.Close()
	runtest.Eventually(t, "it is ready when it listens", func() bool { return p.isReady(t) })
}

// A port of pilot-agent's that is taken ends the proxy with a word, and nothing of it is
// left running.
func TestStatusPortInUse(t *testing.T) {
	d := startIstiod(t)
	p := newPod(t, d, "sidecar", "default", "app")
	o := p.options(t, d)
	o.Agent.StatusPort = website(t, "somebody else").Port()
	if err := egretproxy.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "status: listen") {
		t.Errorf("%v", err)
	}
}

// The kubelet's probes of the application, which injection leads to the status port.
func TestApplicationProbes(t *testing.T) {
	d := startIstiod(t)
	app, closed := website(t, "app"), runtest.FreeAddress(t)
	health := healthServer(t)
	p := newPod(t, d, "sidecar", "default", "app")
	p.start(t, d, fmt.Sprintf(`ISTIO_KUBE_APP_PROBERS={"/app-health/app/livez":{"httpGet":{"path":"/","port":%[1]d}},"/app-health/app/readyz":{"httpGet":{"path":"/","port":%[2]d}},
		"/app-health/other/livez":{"tcpSocket":{"port":%[1]d}},"/app-health/other/readyz":{"tcpSocket":{"port":%[2]d}},
		"/app-health/grpc/livez":{"grpc":{"port":%[3]d}},"/app-health/grpc/readyz":{"grpc":{"port":%[3]d,"service":"late"}},
		"/app-health/grpc/startupz":{"grpc":{"port":%[3]d,"service":"nobody"}},"/app-health/gone/livez":{"grpc":{"port":%[2]d}}}`, app.Port(), closed.Port(), health.Port()))
	runtest.Eventually(t, "the status port", func() bool { return statusOf(t, p.status, "/app-health/app/livez") == 200 })
	for path, want := range map[string]int{
		"/app-health/app/readyz": 500, "/app-health/other/livez": 200, "/app-health/other/readyz": 500, "/app-health/none/livez": 404,
		"/app-health/grpc/livez": 200, "/app-health/grpc/readyz": 500, "/app-health/grpc/startupz": 500, "/app-health/gone/livez": 500,
	} {
		if got := statusOf(t, p.status, path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}

// healthServer is an application that tells its health by gRPC; its service "late" is not ready.
func healthServer(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, says := grpc.NewServer(), health.NewServer()
	says.SetServingStatus("late", healthgrpc.HealthCheckResponse_NOT_SERVING)
	healthgrpc.RegisterHealthServer(server, says)
	runtest.Run(t, "the application", func(ctx context.Context) error {
		defer context.AfterFunc(ctx, server.Stop)()
		return server.Serve(ln)
	})
	return netip.MustParseAddrPort(ln.Addr().String())
}
