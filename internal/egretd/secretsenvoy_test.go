package egretd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	security "istio.io/api/security/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/trust"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

// envoyEnv names the Envoy to run ("make interop"); empty: the test is skipped.
const envoyEnv = "EGRET_INTEROP_ENVOY"

// identify gets a certificate of the mesh by a token, as files, with which a proxy connects.
func (c *testCluster) identify(t *testing.T, namespace, token string) *xds.TLS {
	t.Helper()
	roots := ""
	runtest.Eventually(t, "the namespace has the roots", func() bool {
		m, err := c.client.CoreV1().ConfigMaps(namespace).Get(context.Background(), trust.RootsConfigMap, metav1.GetOptions{})
		if err == nil {
			roots = m.Data["root-cert.pem"]
		}
		return err == nil
	})
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out := &xds.TLS{CA: file("root.pem", []byte(roots)), Names: []string{"istiod.istio-system.svc"}, ServerName: "istiod.istio-system.svc"}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	cc, err := xds.Dial(c.address(secureXDS), out, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	r, err := security.NewIstioCertificateServiceClient(cc).CreateCertificate(ctx, &security.IstioCertificateRequest{
		Csr: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
	}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	out.Cert = file("cert.pem", []byte(strings.Join(r.GetCertChain()[:len(r.GetCertChain())-1], "")))
	out.Key = file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return out
}

// startEnvoy runs an Envoy as a gateway of the cluster until the test ends.
func startEnvoy(t *testing.T, program string, tc *testCluster, admin netip.AddrPort) {
	t.Helper()
	node := mesh.Node{
		Type: mesh.NodeRouter, Name: "envoy", Namespace: "istio-system", Labels: map[string]string{"app": "x"},
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
	}
	proto := xdsgen.EncodeNode(node, "cluster.local")
	proto.Cluster = "gateway" // Envoy wants one
	b, err := bootstrap.New(bootstrap.Options{
		Node: proto, Admin: admin,
		Servers: []string{tc.address(secureXDS)}, TLS: tc.identify(t, "istio-system", "istio-system/gateway"),
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	runtest.Start(t, program, "-c", path, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
}

// A stock Envoy gets the same by SDS over ADS: the certificate of the Secret, each new one, and
// the last good one while there is none.
func TestEnvoyShowsWhatTheSecretHas(t *testing.T) {
	program := os.Getenv(envoyEnv)
	if program == "" {
		t.Skip("make interop runs this, with Envoy")
	}
	tc := startCluster(t, namespaces("default", "istio-system")...)
	tc.allow("istio-system:gateway")
	certs := newCertificates(t)
	data, serial := certs.next()
	tc.secret(t, "istio-system", "web", data)
	port, mutual, admin := runtest.FreeAddress(t), runtest.FreeAddress(t), runtest.FreeAddress(t)
	tc.create(t, "gateways", fmt.Sprintf(gatewayOfSecrets, "web", port.Port(), "{mode: SIMPLE, credentialName: web}"))
	tc.create(t, "gateways", fmt.Sprintf(gatewayOfSecrets, "mutual", mutual.Port(), "{mode: MUTUAL, credentialName: web}"))
	startEnvoy(t, program, tc, admin)
	sees := func(what, want string) {
		t.Helper()
		runtest.Eventually(t, what, func() bool { return shown(int(port.Port()), "web.example.com") == want })
	}
	sees("the certificate of the Secret", serial)
	runtest.Eventually(t, "a client of the Secret's authority gets in", func() bool {
		return shown(int(mutual.Port()), "mutual.example.com", certs.client()) == serial
	})
	if got := shown(int(mutual.Port()), "mutual.example.com", newCertificates(t).client()); got == serial {
		t.Error("a stranger gets in")
	}
	data, serial = certs.next()
	tc.secret(t, "istio-system", "web", data)
	sees("the new certificate", serial)
	tc.secret(t, "istio-system", "web", nil)
	runtest.Eventually(t, "the deletion is told", func() bool { return strings.Contains(tc.log.String(), "reason=not_found") })
	sees("the last one after the deletion", serial)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + admin.String() + "/config_dump")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	dump, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(dump), "kubernetes://web-cacert") {
		t.Errorf("the dump: %v", err)
	}
}
