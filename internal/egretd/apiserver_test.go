package egretd_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// binariesVariable names the folder that has etcd and kube-apiserver.
const binariesVariable = "EGRET_KUBERNETES_BIN"

// apiServer is a real kube-apiserver with its etcd, on loopback.
type apiServer struct {
	t            *testing.T
	config       *rest.Config
	dynamic      dynamic.Interface
	bin, dir     string
	etcd, listen string
	process      *exec.Cmd
}

// startAPIServer starts one, and ends it with the test. The test is skipped where the
// programs are not there.
func startAPIServer(t *testing.T) *apiServer {
	t.Helper()
	bin := os.Getenv(binariesVariable)
	if bin == "" {
		t.Skipf("skipped: %s does not name a folder with etcd and kube-apiserver", binariesVariable)
	}
	a := &apiServer{t: t, bin: bin, dir: t.TempDir(), etcd: freeAddress(t), listen: freeAddress(t)}
	a.writeKey()
	peer := freeAddress(t)
	a.start("etcd", "--data-dir", filepath.Join(a.dir, "etcd"), "--listen-client-urls", "http://"+a.etcd,
		"--advertise-client-urls", "http://"+a.etcd, "--listen-peer-urls", "http://"+peer, "--log-level", "error", "--unsafe-no-fsync")
	a.config = &rest.Config{Host: "https://" + a.listen, BearerToken: "admin", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	d, err := dynamic.NewForConfig(a.config)
	if err != nil {
		t.Fatal(err)
	}
	a.dynamic = d
	a.up()
	return a
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

// writeKey makes what service account tokens are signed with, and the admin's token.
func (a *apiServer) writeKey() {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	write(a.t, a.dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	write(a.t, a.dir, "tokens.csv", "admin,admin,1,system:masters\n")
}

// up starts the API server, and waits until it is ready.
func (a *apiServer) up() {
	a.t.Helper()
	_, port, _ := net.SplitHostPort(a.listen)
	key := filepath.Join(a.dir, "key.pem")
	a.process = a.start("kube-apiserver", "--etcd-servers", "http://"+a.etcd, "--bind-address", "127.0.0.1",
		"--advertise-address", "127.0.0.1", "--secure-port", port, "--cert-dir", filepath.Join(a.dir, "certs"),
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key,
		"--service-account-signing-key-file", key, "--token-auth-file", filepath.Join(a.dir, "tokens.csv"),
		"--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none")
	eventually(a.t, "the API server is ready", func() bool {
		_, err := a.dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(context.Background(), "default", metav1.GetOptions{})
		return err == nil
	})
}

// down kills the API server, as if its machine were gone.
func (a *apiServer) down() {
	_ = a.process.Process.Kill()
	_ = a.process.Wait()
}

func (a *apiServer) start(program string, args ...string) *exec.Cmd {
	a.t.Helper()
	cmd := exec.Command(filepath.Join(a.bin, program), args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if a.t.Failed() {
			text := said.String()
			a.t.Logf("%s said: %s", program, text[max(0, len(text)-2000):])
		}
	})
	return cmd
}

// istioKinds are those that the control plane reads: kind -> plural and group.
var istioKinds = map[string][2]string{
	"ServiceEntry": {"serviceentries", "networking.istio.io"}, "Gateway": {"gateways", "networking.istio.io"},
	"VirtualService": {"virtualservices", "networking.istio.io"}, "DestinationRule": {"destinationrules", "networking.istio.io"},
	"Sidecar": {"sidecars", "networking.istio.io"}, "WorkloadEntry": {"workloadentries", "networking.istio.io"},
	"PeerAuthentication": {"peerauthentications", "security.istio.io"},
	"Telemetry":          {"telemetries", "telemetry.istio.io"},
}

// define installs a CustomResourceDefinition for a kind, with no schema to speak of.
func (a *apiServer) define(kind string) {
	a.t.Helper()
	plural, group := istioKinds[kind][0], istioKinds[kind][1]
	a.apply(fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.%[2]s}
spec:
  group: %[2]s
  scope: Namespaced
  names: {kind: %[3]s, plural: %[1]s, singular: %[4]s, listKind: %[3]sList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`, plural, group, kind, strings.ToLower(kind)))
}

// apply makes objects what the YAML says.
func (a *apiServer) apply(text string) {
	a.t.Helper()
	for document := range strings.SplitSeq(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			a.t.Fatal(err)
		}
		eventually(a.t, "applied: "+u.GetKind()+" "+u.GetName(), func() bool {
			_, err := a.resource(u).Apply(context.Background(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "test", Force: true})
			if err != nil && !apierrors.IsNotFound(err) { // a CRD is served a moment later
				a.t.Fatal(err)
			}
			return err == nil
		})
	}
}

func (a *apiServer) remove(kind, namespace, name string) {
	a.t.Helper()
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(istioKinds[kind][1] + "/v1")
	u.SetKind(kind)
	u.SetNamespace(namespace)
	if err := a.resource(u).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

// reconciled is the status and the generation of the condition of a ServiceEntry.
func (a *apiServer) reconciled(namespace, name string) string {
	a.t.Helper()
	r := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}
	u, err := a.dynamic.Resource(r).Namespace(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	if len(list) == 0 {
		return ""
	}
	c, _ := list[0].(map[string]any)
	return fmt.Sprint(c["status"], " ", c["observedGeneration"])
}

func (a *apiServer) resource(u *unstructured.Unstructured) dynamic.ResourceInterface {
	gvk := u.GroupVersionKind()
	plural := strings.ToLower(gvk.Kind) + "s"
	if k, ok := istioKinds[gvk.Kind]; ok {
		plural = k[0]
	}
	r := a.dynamic.Resource(gvk.GroupVersion().WithResource(plural))
	if u.GetNamespace() == "" {
		return r
	}
	return r.Namespace(u.GetNamespace())
}
