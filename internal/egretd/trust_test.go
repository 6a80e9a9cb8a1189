package egretd_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	security "istio.io/api/security/v1alpha1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

// Tokens that a real API server gives and judges: a workload's gets its certificate, which
// then speaks for it; one for another audience, or of a service account that is gone, nothing.
func TestTrustInCluster(t *testing.T) {
	a := startAPIServer(t)
	a.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: apps}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}")
	a.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: apps}")
	client, err := kubernetes.NewForConfig(a.config)
	if err != nil {
		t.Fatal(err)
	}
	p := startInCluster(t, a)
	roots := ""
	reads := func() bool {
		m, err := client.CoreV1().ConfigMaps("apps").Get(context.Background(), "istio-ca-root-cert", metav1.GetOptions{})
		if err == nil {
			roots = m.Data["root-cert.pem"]
		}
		return strings.HasPrefix(roots, "-----BEGIN CERTIFICATE")
	}
	runtest.Eventually(t, "the namespace has the roots", reads)
	a.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-ca-root-cert, namespace: apps}\ndata: {root-cert.pem: evil}")
	roots = ""
	runtest.Eventually(t, "what somebody has edited is mended", reads)
	runtest.Eventually(t, "xDS with TLS is served", func() bool { return p.address("https-dns") != "" })

	w := &workload{t: t, roots: roots, address: p.address("https-dns")}
	token := func(account string, audience string) string {
		r, err := client.CoreV1().ServiceAccounts("apps").CreateToken(context.Background(), account,
			&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.Token
	}
	if _, err := w.sign(nil, token("web", "vault")); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "audience") {
		t.Errorf("a token for somebody else: %v", err)
	}
	a.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: gone, namespace: apps}")
	gone := token("gone", "istio-ca")
	if err := client.CoreV1().ServiceAccounts("apps").Delete(context.Background(), "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sign(nil, gone); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a token of an account that is gone: %v", err)
	}
	cert, err := w.sign(nil, token("web", "istio-ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.sign(cert, ""); err != nil {
		t.Errorf("renewal with the certificate: %v", err)
	}
	for namespace, want := range map[string]codes.Code{"apps": codes.OK, "istio-system": codes.PermissionDenied} {
		if err := w.ask(cert, namespace); status.Code(err) != want {
			t.Errorf("configuration of a node of %s: %v", namespace, err)
		}
	}
	if err := w.ask(nil, "apps"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("configuration without proof: %v", err)
	}
}

// workload calls the control plane.
type workload struct {
	t              *testing.T
	roots, address string
	account        string // "" is web
}

func (w *workload) dial(cert *tls.Certificate) *grpc.ClientConn {
	w.t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "istiod.istio-system.svc"}
	if !config.RootCAs.AppendCertsFromPEM([]byte(w.roots)) {
		w.t.Fatalf("no roots in %q", w.roots)
	}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	cc, err := grpc.NewClient(w.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// sign asks for a certificate, for the name of an administrator.
func (w *workload) sign(cert *tls.Certificate, token string) (*tls.Certificate, error) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"istiod.istio-system.svc"}}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	r, err := security.NewIstioCertificateServiceClient(w.dial(cert)).CreateCertificate(ctx, &security.IstioCertificateRequest{
		Csr: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
	})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(r.CertChain[0]))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "spiffe://cluster.local/ns/apps/sa/"+cmp.Or(w.account, "web") || len(leaf.DNSNames) > 0 {
		w.t.Errorf("a certificate for %v, %v", leaf.URIs, leaf.DNSNames)
	}
	return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}, nil
}

// ask asks for the configuration of a node of a namespace.
func (w *workload) ask(cert *tls.Certificate, namespace string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(w.dial(cert)).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	node := mesh.Node{Type: mesh.NodeSidecar, ID: "sidecar~10.1.0.1~web." + namespace + "~" + namespace + ".svc.cluster.local", Name: "web", Namespace: namespace}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: xdsgen.EncodeNode(node, "cluster.local"), TypeUrl: xds.ClusterType}); err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}
