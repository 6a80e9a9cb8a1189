// Package kubetest is a real API server of Kubernetes, for tests. Only tests may import it,
// and it knows nothing of Istio.
package kubetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/egret-mesh/egret/internal/runtest"
)

// binaries names the folder that has etcd and kube-apiserver; `make e2e` builds them.
const binaries = "EGRET_KUBERNETES_BIN"

// Tokens that the API server knows.
const (
	Admin  = "admin"  // of system:masters
	Nobody = "nobody" // without any right
)

// APIServer is a kube-apiserver with its etcd, on loopback, with RBAC on. No controller runs
// beside it.
type APIServer struct {
	t       *testing.T
	command []string // of the API server
	listen  string
	process *exec.Cmd
}

// StartAPIServer starts one, with more flags, and ends it with the test. The test is skipped
// where EGRET_KUBERNETES_BIN does not name a folder with the programs.
func StartAPIServer(t *testing.T, flags ...string) *APIServer {
	t.Helper()
	bin := os.Getenv(binaries)
	if bin == "" {
		t.Skipf("skipped: %s does not name a folder with etcd and kube-apiserver", binaries)
	}
	dir, etcd, peer, listen := t.TempDir(), "http://"+runtest.FreeAddress(t).String(), "http://"+runtest.FreeAddress(t).String(), runtest.FreeAddress(t)
	key, tokens := filepath.Join(dir, "key.pem"), filepath.Join(dir, "tokens.csv")
	write(t, key, newKey(t))
	write(t, tokens, []byte(Admin+",admin,1,system:masters\n"+Nobody+",nobody,2\n"))
	runtest.Start(t, filepath.Join(bin, "etcd"), "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", etcd,
		"--advertise-client-urls", etcd, "--listen-peer-urls", peer, "--log-level", "error", "--unsafe-no-fsync")
	a := &APIServer{t: t, listen: listen.String(), command: append([]string{
		filepath.Join(bin, "kube-apiserver"), "--etcd-servers", etcd, "--bind-address", "127.0.0.1",
		"--advertise-address", "127.0.0.1", "--secure-port", strconv.Itoa(int(listen.Port())), "--cert-dir", filepath.Join(dir, "certs"),
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key,
		"--service-account-signing-key-file", key, "--token-auth-file", tokens,
		"--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none",
	}, flags...)}
	a.Up()
	return a
}

// Config is how to reach it with a token.
func (a *APIServer) Config(token string) *rest.Config {
	return &rest.Config{Host: "https://" + a.listen, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: 200, Burst: 200}
}

// Up starts the API server again, and waits until it is ready.
func (a *APIServer) Up() {
	a.t.Helper()
	a.process = runtest.Start(a.t, a.command[0], a.command[1:]...)
	d, err := dynamic.NewForConfig(a.Config(Admin))
	if err != nil {
		a.t.Fatal(err)
	}
	runtest.Eventually(a.t, "the API server is ready", func() bool {
		_, err := d.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(context.Background(), "default", metav1.GetOptions{})
		return err == nil
	})
}

// Down kills the API server, as if its machine were gone.
func (a *APIServer) Down() {
	_ = a.process.Process.Kill()
	_ = a.process.Wait()
}

// newKey is what service account tokens are signed with.
func newKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
