package egretd_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/sds"
	"github.com/egret-mesh/egret/internal/control/trust"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/file/filetest"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

const rolesOfSecrets = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: gateway-sds, namespace: apps}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get, watch, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: gateway-sds, namespace: apps}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: gateway-sds}
subjects: [{kind: ServiceAccount, name: gateway, namespace: apps}]
`

// secretStream asks for secrets, and remembers what was said of each.
type secretStream struct {
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	said   map[string]string // name -> version, "" there is none
}

func askSecrets(t *testing.T, cc *grpc.ClientConn, names ...string) *secretStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	node := mesh.Node{Type: mesh.NodeRouter, ID: "router~10.1.0.1~g.apps~apps.svc.cluster.local", Name: "g", Namespace: "apps"}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: xdsgen.EncodeNode(node, "cluster.local"), TypeUrl: xds.SecretType, ResourceNamesSubscribe: names}); err != nil {
		t.Fatal(err)
	}
	s := &secretStream{stream: stream, said: map[string]string{}}
	for len(s.said) < len(names) {
		s.next(t)
	}
	return s
}

func (s *secretStream) next(t *testing.T) {
	t.Helper()
	r, err := s.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range r.GetResources() {
		s.said[one.GetName()] = one.GetVersion()
	}
	for _, name := range r.GetRemovedResources() {
		s.said[name] = ""
	}
	if err := s.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.SecretType, ResponseNonce: r.GetNonce()}); err != nil {
		t.Fatal(err)
	}
}

func (s *secretStream) given() (out []string) {
	for name, version := range s.said {
		if version != "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// A real API server says who may have which key: an account with a Role for Secrets gets those
// of its namespace, one without gets authorities only, and nobody another namespace's or any in
// plain text. A new version is sent to who has the old one, alone.
func TestSecretsInCluster(t *testing.T) {
	a := startAPIServer(t)
	client, err := kubernetes.NewForConfig(a.config)
	if err != nil {
		t.Fatal(err)
	}
	authority := filetest.NewAuthority(t)
	put := func(namespace, name string) {
		cert, key := authority.Issue(t, "web", time.Now().Add(time.Hour))
		text := ""
		for of, path := range map[string]string{"tls.crt": cert, "tls.key": key, "ca.crt": authority.CA} {
			pem, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text += fmt.Sprintf("  %s: %s\n", of, base64.StdEncoding.EncodeToString(pem))
		}
		a.apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: %s, namespace: %s}\ndata:\n%s", name, namespace, text))
	}
	for _, namespace := range []string{"apps", "istio-system"} {
		a.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + namespace + "}")
		put(namespace, "web")
	}
	put("apps", "api")
	for _, account := range []string{"web", "gateway"} {
		a.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: " + account + ", namespace: apps}")
	}
	a.apply(strings.TrimSpace(rolesOfSecrets))
	review := trust.SecretsReviewer(client)
	runtest.Eventually(t, "the API server knows the role", func() bool {
		allowed, _, err := review(t.Context(), sds.Account{Namespace: "apps", Name: "gateway"})
		return err == nil && allowed
	})
	p := startInCluster(t, a)
	w := &workload{t: t}
	runtest.Eventually(t, "the namespace has the roots, and xDS is served", func() bool {
		m, err := client.CoreV1().ConfigMaps("apps").Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
		if err == nil {
			w.roots, w.address = m.Data["root-cert.pem"], p.address("https-dns")
		}
		return err == nil && w.address != "" && p.address("grpc-xds") != ""
	})
	identity := func(account string) *tls.Certificate {
		r, err := client.CoreV1().ServiceAccounts("apps").CreateToken(t.Context(), account,
			&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"istio-ca"}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w.account = account
		cert, err := w.sign(nil, r.Status.Token)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	names := []string{"kubernetes://web", "kubernetes://api", "kubernetes://web-cacert", "kubernetes://istio-system/web", "kubernetes://istio-system/web-cacert"}
	plain, err := grpc.NewClient(p.address("grpc-xds"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	gateway := askSecrets(t, w.dial(identity("gateway")), names...)
	for who, c := range map[string]struct {
		got  *secretStream
		want []string
	}{
		"the gateway":                   {gateway, []string{"kubernetes://api", "kubernetes://web", "kubernetes://web-cacert"}},
		"a sidecar without the role":    {askSecrets(t, w.dial(identity("web")), names...), []string{"kubernetes://web-cacert"}},
		"who comes without an identity": {askSecrets(t, plain, names...), nil},
	} {
		if got := c.got.given(); !slices.Equal(got, c.want) {
			t.Errorf("%s gets %q, want %q", who, got, c.want)
		}
	}
	before := fmt.Sprint(gateway.said)
	old := gateway.said["kubernetes://web"]
	put("apps", "web")
	gateway.next(t)
	if gateway.said["kubernetes://web"] == old {
		t.Error("the new version was not sent")
	}
	gateway.said["kubernetes://web"] = old
	if after := fmt.Sprint(gateway.said); after != before {
		t.Errorf("other secrets were sent: %s, before %s", after, before)
	}
}
