package install_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/egret-mesh/egret/charts"
	"github.com/egret-mesh/egret/internal/cli/cluster/install"
)

// startAPIServer starts a real API server with etcd, from the folder that
// EGRET_KUBERNETES_BIN names, and ends them with the test.
func startAPIServer(t *testing.T) *install.Cluster {
	t.Helper()
	bin := os.Getenv("EGRET_KUBERNETES_BIN")
	if bin == "" {
		t.Skip("skipped: EGRET_KUBERNETES_BIN does not name a folder with etcd and kube-apiserver")
	}
	dir, etcd, peer, listen := t.TempDir(), freeAddress(t), freeAddress(t), freeAddress(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile, tokens := filepath.Join(dir, "key.pem"), filepath.Join(dir, "tokens.csv")
	for file, data := range map[string][]byte{keyFile: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		tokens: []byte("admin,admin,1,system:masters\nnobody,nobody,2\n")} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start(t, filepath.Join(bin, "etcd"), "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", "http://"+etcd,
		"--advertise-client-urls", "http://"+etcd, "--listen-peer-urls", "http://"+peer, "--log-level", "error", "--unsafe-no-fsync")
	_, port, _ := net.SplitHostPort(listen)
	start(t, filepath.Join(bin, "kube-apiserver"), "--etcd-servers", "http://"+etcd, "--bind-address", "127.0.0.1",
		"--advertise-address", "127.0.0.1", "--secure-port", port, "--cert-dir", filepath.Join(dir, "certs"),
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", keyFile,
		"--service-account-signing-key-file", keyFile, "--token-auth-file", tokens,
		"--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none",
		"--disable-admission-plugins", "ServiceAccount")
	c := connect(t, listen, "admin")
	within(t, "the API server is ready", func() bool {
		_, err := c.Dynamic.Resource(namespaces).Get(context.Background(), "default", metav1.GetOptions{})
		return err == nil
	})
	t.Setenv("LISTEN", listen)
	return c
}

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

func connect(t *testing.T, listen, token string) *install.Cluster {
	t.Helper()
	config := &rest.Config{Host: "https://" + listen, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: 200, Burst: 200}
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	known, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &install.Cluster{Dynamic: d, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(known))}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func start(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text := said.String()
			t.Logf("%s said: %s", program, text[max(0, len(text)-1500):])
		}
	})
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(2 * time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not in two minutes: %s", what)
		}
	}
}

// TestOnAnAPIServer: what install applies is taken, an upgrade removes what it drops, keeps
// what istiod wrote, verify sees what is missing, and purge leaves nothing. No controller
// runs, so nothing gets ready.
func TestOnAnAPIServer(t *testing.T) {
	c := startAPIServer(t)
	ctx := context.Background()
	plan := func(sets ...string) (*install.Plan, []install.Rendered) {
		p, err := install.NewPlan(install.Request{Charts: charts.Files(), Version: "1", Sets: sets})
		if err != nil {
			t.Fatal(err)
		}
		return p, render(t, install.Request{Version: "1", Sets: sets})
	}
	p, all := plan("profile=demo")
	if err := c.Install(ctx, p, all, install.Options{}); err != nil {
		t.Fatal(err)
	}
	hooks := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"}
	patch := []byte(`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":"YQ=="}]`)
	if _, err := c.Dynamic.Resource(hooks).Patch(ctx, "istio-sidecar-injector", "application/json-patch+json", patch, metav1.PatchOptions{FieldManager: "istiod"}); err != nil {
		t.Fatal(err)
	}
	verdicts(t, c, all, "is not what it should be: ", "")

	t.Run("not ready", func(t *testing.T) {
		err := c.Install(ctx, p, all, install.Options{Timeout: time.Second})
		if err == nil || !strings.Contains(err.Error(), "Deployment istio-system/istiod is not ready after 1s") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no rights", func(t *testing.T) {
		err := connect(t, os.Getenv("LISTEN"), "nobody").Install(ctx, p, all, install.Options{})
		if err == nil || !strings.Contains(err.Error(), "cluster-admin") {
			t.Errorf("%v", err)
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		p, all := plan("profile=default")
		var told []string
		if err := c.Install(ctx, p, all, install.Options{Tell: func(p install.Progress) { told = append(told, p.Detail) }}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(told, "\n"), "Deployment istio-system/istio-egressgateway") {
			t.Errorf("the gateway that was dropped is not removed: %q", told)
		}
		o, err := c.Dynamic.Resource(hooks).Get(ctx, "istio-sidecar-injector", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		list, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
		if ca, _, _ := unstructured.NestedString(list[0].(map[string]any), "clientConfig", "caBundle"); ca != "YQ==" {
			t.Errorf("the authority that istiod wrote is %q after the upgrade", ca)
		}
	})
	t.Run("verify", func(t *testing.T) {
		services := schema.GroupVersionResource{Version: "v1", Resource: "services"}
		if err := c.Dynamic.Resource(services).Namespace("istio-system").Delete(ctx, "istiod", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		_, all := plan("profile=default")
		verdicts(t, c, all, "Service istio-system/istiod", "is missing")
	})
	t.Run("purge", func(t *testing.T) {
		purged(t, c)
	})
}

func verdicts(t *testing.T, c *install.Cluster, all []install.Rendered, object, problem string) {
	t.Helper()
	out, err := c.Verify(context.Background(), all)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, v := range out {
		found = found || v.Object == object && v.Problem == problem
		if v.Problem != "" && v.Object != object && !strings.HasPrefix(v.Object, "Deployment") {
			t.Errorf("%s: %s", v.Object, v.Problem)
		}
	}
	if !found && problem != "" {
		t.Errorf("%s is not said to be %q: %v", object, problem, out)
	}
}

func purged(t *testing.T, c *install.Cluster) {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	maps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	root := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "istio-ca-root-cert"}}}
	if _, err := c.Dynamic.Resource(maps).Namespace("default").Create(ctx, root, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// No controller finishes a namespace here, so the test does, as the one of Kubernetes would.
	done := make(chan error, 1)
	go func() { done <- c.Purge(ctx, "istio-system", install.Removal{Tell: func(string) {}}) }()
	within(t, "purge ends", func() bool {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return true
		default:
		}
		ns, err := c.Dynamic.Resource(namespaces).Get(ctx, "istio-system", metav1.GetOptions{})
		if err == nil && ns.GetDeletionTimestamp() != nil {
			unstructured.RemoveNestedField(ns.Object, "spec", "finalizers")
			_, _ = c.Dynamic.Resource(namespaces).Update(ctx, ns, metav1.UpdateOptions{}, "finalize") // asked again
		}
		return false
	})
	if _, err := c.Dynamic.Resource(maps).Namespace("default").Get(ctx, "istio-ca-root-cert", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the root certificate is still in default: %v", err)
	}
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	left, err := c.Dynamic.Resource(crds).List(ctx, metav1.ListOptions{})
	if err != nil || len(left.Items) > 0 {
		t.Errorf("%d custom resource definitions are left, %v", len(left.Items), err)
	}
}
