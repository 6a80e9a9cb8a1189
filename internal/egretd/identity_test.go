package egretd

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/egret-mesh/egret/internal/agent"
	authority "github.com/egret-mesh/egret/internal/control/identity"
	"github.com/egret-mesh/egret/internal/control/kube"
	"github.com/egret-mesh/egret/internal/control/trust"
	"github.com/egret-mesh/egret/internal/egretproxy"
	"github.com/egret-mesh/egret/internal/runtest"
)

// testCluster is a control plane over an API server that is a table in memory. Its tokens
// are "NAMESPACE/ACCOUNT".
type testCluster struct {
	*cluster
	client    *fake.Clientset
	mu        sync.Mutex
	addresses map[string]string
	allowed   string // the account, "namespace:name", that may list Secrets
	log       *runtest.Log
}

func (c *testCluster) address(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addresses[name]
}

func startCluster(t *testing.T, objects ...runtime.Object) *testCluster {
	t.Helper()
	tc := &testCluster{client: fake.NewClientset(objects...), addresses: map[string]string{}, log: runtest.NewLog(t, "egretd")}
	tc.client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		namespace, account, ok := strings.Cut(r.Spec.Token, "/")
		r.Status = authenticationv1.TokenReviewStatus{Authenticated: ok, User: authenticationv1.UserInfo{Username: "system:serviceaccount:" + namespace + ":" + account}, Audiences: []string{"istio-ca"}}
		return true, r, nil
	})
	tc.client.PrependReactor("create", "subjectaccessreviews", tc.reviewAccess)
	lists := map[schema.GroupVersionResource]string{}
	for kind, resource := range map[string]string{"VirtualService": "virtualservices", "DestinationRule": "destinationrules", "ServiceEntry": "serviceentries", "Gateway": "gateways", "Sidecar": "sidecars", "WorkloadEntry": "workloadentries", "ProxyConfig": "proxyconfigs", "EnvoyFilter": "envoyfilters", "WorkloadGroup": "workloadgroups"} {
		for _, version := range []string{"v1", "v1beta1", "v1alpha3"} {
			lists[schema.GroupVersionResource{Group: "networking.istio.io", Version: version, Resource: resource}] = kind + "List"
		}
	}
	for _, version := range []string{"v1", "v1alpha1"} {
		lists[schema.GroupVersionResource{Group: "telemetry.istio.io", Version: version, Resource: "telemetries"}] = "TelemetryList"
	}
	for _, version := range []string{"v1", "v1beta1"} {
		for kind, resource := range map[string]string{"PeerAuthentication": "peerauthentications", "AuthorizationPolicy": "authorizationpolicies", "RequestAuthentication": "requestauthentications"} {
			lists[schema.GroupVersionResource{Group: "security.istio.io", Version: version, Resource: resource}] = kind + "List"
		}
	}
	dynamic := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists)
	log := tc.log.Logger()
	const loopback = "127.0.0.1:0"
	tc.cluster = &cluster{client: tc.client, dynamic: dynamic, log: log,
		world: kube.New(kube.Options{Client: tc.client, Dynamic: dynamic, Logger: log}),
		options: ClusterOptions{
			PlainAddress: loopback, SecureAddress: loopback, WebhookAddress: loopback, HTTPAddress: loopback, MonitoringAddress: loopback,
			Namespace: "istio-system", Pod: "istiod-1", Revision: "default", Domain: "cluster.local", ClusterID: "Kubernetes", Logger: log,
			Listening: func(name string, at net.Addr) {
				tc.mu.Lock()
				defer tc.mu.Unlock()
				tc.addresses[name] = at.String()
			},
		}}
	runtest.Run(t, "egretd", tc.run)
	runtest.Eventually(t, "xDS is served", func() bool { return tc.address(secureXDS) != "" && tc.address(plainXDS) != "" })
	return tc
}

// startPod runs egret-proxy with what injection gives it in a pod, and gives the port that
// says whether it is ready. The token may be another's.
func startPod(t *testing.T, tc *testCluster, name, namespace, account, token string) (ready uint16, log *runtest.Log) {
	t.Helper()
	root, log := t.TempDir(), runtest.NewLog(t, name)
	var roots *corev1.ConfigMap
	runtest.Eventually(t, "the pod's namespace has the roots", func() (ok bool) {
		m, err := tc.client.CoreV1().ConfigMaps(namespace).Get(context.Background(), trust.RootsConfigMap, metav1.GetOptions{})
		roots = m
		return err == nil
	})
	for path, text := range map[string]string{
		"var/run/secrets/istio/root-cert.pem": roots.Data["root-cert.pem"], "var/run/secrets/tokens/istio-token": token,
		"etc/istio/pod/labels": "app=\"x\"\n", "etc/istio/pod/annotations": "",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ready = runtest.FreeAddress(t).Port()
	s, err := agent.Read(agent.Input{Role: "router", Root: root, Environ: []string{
		"POD_NAME=" + name, "POD_NAMESPACE=" + namespace, "INSTANCE_IP=127.0.0.1", "SERVICE_ACCOUNT=" + account,
		"PILOT_CERT_PROVIDER=istiod", "CA_ADDR=" + tc.address(secureXDS), "ISTIOD_SAN=istiod.istio-system.svc", "ISTIO_META_CLUSTER_ID=Kubernetes",
		fmt.Sprintf("ENVOY_STATUS_PORT=%d", ready), fmt.Sprintf("ENVOY_PROMETHEUS_PORT=%d", runtest.FreeAddress(t).Port()),
		fmt.Sprintf(`PROXY_CONFIG={"discoveryAddress":%q,"statusPort":%d,"proxyAdminPort":%d,"terminationDrainDuration":"0s"}`, tc.address(secureXDS), runtest.FreeAddress(t).Port(), runtest.FreeAddress(t).Port()),
	}})
	if err != nil {
		t.Fatal(err)
	}
	o, err := egretproxy.AgentOptions(s, log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	runtest.Run(t, "egret-proxy "+name, func(ctx context.Context) error { return egretproxy.Run(ctx, o) })
	return ready, log
}

func answers(port uint16) bool {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: runtest.Patience}
	r, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz/ready", port))
	if err != nil {
		return false
	}
	_ = r.Body.Close()
	return r.StatusCode == http.StatusOK
}

func namespaces(names ...string) (out []runtime.Object) {
	for _, n := range names {
		out = append(out, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}})
	}
	return out
}

// A pod's proxy starts with its token and the roots of its namespace alone: it gets a
// certificate, then its configuration. One with another's token gets neither's.
func TestPodsProveWhoTheyAre(t *testing.T) {
	tc := startCluster(t, namespaces("default", "istio-system")...)
	ready, _ := startPod(t, tc, "gateway-1", "istio-system", "gateway", "istio-system/gateway")
	runtest.Eventually(t, "the proxy is ready", func() bool { return answers(ready) })

	_, stolen := startPod(t, tc, "thief-1", "istio-system", "gateway", "default/sleep")
	runtest.Eventually(t, "the thief is told that the node is not its own", func() bool {
		return stolen.Has(string(authority.IdentityMismatch))
	})
	_, forged := startPod(t, tc, "forger-1", "default", "sleep", "forged")
	runtest.Eventually(t, "the forger is told that its token is not known", func() bool {
		return forged.Has(string(authority.TokenRejected))
	})
	runtest.Eventually(t, "the control plane tells both, and counts them", func() bool {
		return tc.log.Has("reason=identity_mismatch") && tc.log.Has("reason=token_rejected") &&
			strings.Contains(metricsOf(t, tc), `egret_identity_refused_total{reason="identity_mismatch"}`)
	})
	if strings.Contains(syncOf(t, tc), "thief-1") {
		t.Error("the thief has a configuration")
	}
}

func metricsOf(t *testing.T, tc *testCluster) string { return get(t, tc, "/metrics") }
func syncOf(t *testing.T, tc *testCluster) string    { return get(t, tc, "/debug/syncz") }

func get(t *testing.T, tc *testCluster, path string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: runtest.Patience}
	r, err := client.Get("http://" + tc.address(monitoring) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
