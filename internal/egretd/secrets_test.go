package egretd

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/file/filetest"
	"github.com/egret-mesh/egret/internal/runtest"
)

// allow lets one service account, "namespace:name", list Secrets.
func (c *testCluster) allow(account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allowed = account
}

func (c *testCluster) reviewAccess(a clienttesting.Action) (bool, runtime.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
	at := r.Spec.ResourceAttributes
	r.Status.Allowed = r.Spec.User == "system:serviceaccount:"+c.allowed && at.Verb == "list" && at.Resource == "secrets" && at.Group == ""
	r.Status.Reason = "no RBAC policy matched"
	return true, r, nil
}

// create makes an object of Istio's.
func (c *testCluster) create(t *testing.T, resource, text string) {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	r := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: resource}
	if _, err := c.dynamic.Resource(r).Namespace(u.GetNamespace()).Create(context.Background(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// secret makes a Secret what the data says; nil deletes it.
func (c *testCluster) secret(t *testing.T, namespace, name string, data map[string][]byte) {
	t.Helper()
	secrets := c.client.CoreV1().Secrets(namespace)
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: corev1.SecretTypeTLS, Data: data}
	_, err := secrets.Get(context.Background(), name, metav1.GetOptions{})
	switch {
	case data == nil:
		err = secrets.Delete(context.Background(), name, metav1.DeleteOptions{})
	case err == nil:
		_, err = secrets.Update(context.Background(), s, metav1.UpdateOptions{})
	default:
		_, err = secrets.Create(context.Background(), s, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// certificates makes certificates of one authority.
type certificates struct {
	*filetest.Authority
	t     *testing.T
	hours int
}

func newCertificates(t *testing.T) *certificates {
	return &certificates{Authority: filetest.NewAuthority(t), t: t}
}

func (c *certificates) read(path string) []byte {
	c.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

// next is the data of a Secret with a new certificate, and its serial number.
func (c *certificates) next() (data map[string][]byte, serial string) {
	c.t.Helper()
	c.hours++
	cert, key := c.Issue(c.t, "web", time.Now().Add(time.Duration(c.hours)*time.Hour))
	data = map[string][]byte{"tls.crt": c.read(cert), "tls.key": c.read(key), "ca.crt": c.read(c.CA)}
	pair, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
	if err != nil {
		c.t.Fatal(err)
	}
	return data, pair.Leaf.SerialNumber.String()
}

// client is a certificate for a client.
func (c *certificates) client() tls.Certificate { return c.issued("client") }

// issued is a certificate for filetest.SPIFFE(name).
func (c *certificates) issued(name string) tls.Certificate {
	c.t.Helper()
	cert, key := c.Issue(c.t, name, time.Now().Add(time.Hour))
	pair, err := tls.X509KeyPair(c.read(cert), c.read(key))
	if err != nil {
		c.t.Fatal(err)
	}
	return pair
}

// shown is the serial number of the certificate that a gateway shows, or the error.
func shown(port int, name string, cert ...tls.Certificate) string {
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{ServerName: name, InsecureSkipVerify: true, Certificates: cert, MaxVersion: tls.VersionTLS12})
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

const gatewayOfSecrets = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: %[1]s, namespace: istio-system}
spec:
  selector: {app: x}
  servers:
  - {port: {number: %[2]d, name: https, protocol: HTTPS}, hosts: [%[1]s.example.com], tls: %[3]s}
`

// A client of the gateway sees the certificate of the Secret, and each that takes its place;
// a bad one changes nothing, nor does its deletion, as in Istio. Its listener stays open all
// the while, and the key is told nowhere.
func TestGatewayShowsWhatTheSecretHas(t *testing.T) {
	tc := startCluster(t, namespaces("default", "istio-system")...)
	tc.allow("istio-system:gateway")
	certs := newCertificates(t)
	data, serial := certs.next()
	tc.secret(t, "istio-system", "web", data)
	tc.secret(t, "istio-system", "other", map[string][]byte{"password": []byte("hunter2")})
	port, closed := int(runtest.FreeAddress(t).Port()), int(runtest.FreeAddress(t).Port())
	tc.create(t, "gateways", fmt.Sprintf(gatewayOfSecrets, "web", port, "{mode: SIMPLE, credentialName: web}"))
	tc.create(t, "gateways", fmt.Sprintf(gatewayOfSecrets, "missing", closed, "{mode: SIMPLE, credentialName: missing}"))
	ready, log := startPod(t, tc, "gateway-1", "istio-system", "gateway", "istio-system/gateway")
	runtest.Eventually(t, "the gateway is ready, though a Secret is missing", func() bool { return answers(ready) })
	sees := func(what, want string) {
		t.Helper()
		runtest.Eventually(t, what, func() bool { return shown(port, "web.example.com") == want })
	}
	sees("the certificate of the Secret", serial)
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{ServerName: "web.example.com", InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	next, serial := certs.next()
	tc.secret(t, "istio-system", "web", next)
	sees("the new certificate", serial)
	bad, _ := certs.next()
	bad["tls.key"] = data["tls.key"]
	tc.secret(t, "istio-system", "web", bad)
	runtest.Eventually(t, "the bad one is told", func() bool {
		return strings.Contains(tc.log.String(), "secret istio-system/web: tls.key: private key does not match public key; the last good version stays in force")
	})
	sees("still the one before", serial)
	tc.secret(t, "istio-system", "web", nil)
	runtest.Eventually(t, "the deletion is told", func() bool {
		return strings.Contains(tc.log.String(), "reason=not_found detail=\"secret istio-system/web\"")
	})
	sees("after the deletion still the one before", serial)
	last, serial := certs.next()
	tc.secret(t, "istio-system", "web", last)
	sees("what is made again", serial)

	if got := shown(closed, "missing.example.com"); !strings.Contains(got, "tls: ") && !strings.Contains(got, "EOF") && !strings.Contains(got, "reset") {
		t.Errorf("a server without certificate: %s", got)
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: web.example.com\r\n\r\n"); err != nil {
		t.Errorf("the connection from before the rotation: %v", err)
	}
	if n, err := conn.Read(make([]byte, 100)); n == 0 {
		t.Errorf("the connection from before the rotation: %v", err)
	}
	tc.secret(t, "istio-system", "missing", last)
	runtest.Eventually(t, "the Secret that was missing", func() bool { return shown(closed, "missing.example.com") == serial })

	for what, text := range map[string]string{"log": tc.log.String(), "log of the gateway": log.String(), "syncz": syncOf(t, tc), "configz": get(t, tc, "/debug/configz"), "metrics": metricsOf(t, tc)} {
		if strings.Contains(text, "PRIVATE KEY") || strings.Contains(text, "hunter2") {
			t.Errorf("a key is in the %s", what)
		}
	}
	if !strings.Contains(metricsOf(t, tc), `egret_sds_refused_total{reason="not_found"}`) {
		t.Error("what was missing is not counted")
	}
}

// Clients are judged by the authorities of the Secret.
func TestGatewayAsksForClientCertificates(t *testing.T) {
	tc := startCluster(t, namespaces("default", "istio-system")...)
	tc.allow("istio-system:gateway")
	certs, strangers := newCertificates(t), newCertificates(t)
	data, serial := certs.next()
	tc.secret(t, "istio-system", "web", data)
	port := int(runtest.FreeAddress(t).Port())
	tc.create(t, "gateways", fmt.Sprintf(gatewayOfSecrets, "web", port, "{mode: MUTUAL, credentialName: web}"))
	ready, _ := startPod(t, tc, "gateway-1", "istio-system", "gateway", "istio-system/gateway")
	runtest.Eventually(t, "the gateway is ready", func() bool { return answers(ready) })
	known, unknown := certs.client(), strangers.client()
	runtest.Eventually(t, "a client of the authority gets in", func() bool { return shown(port, "web.example.com", known) == serial })
	if got := shown(port, "web.example.com", unknown); got == serial {
		t.Error("a stranger gets in")
	}
	if got := shown(port, "web.example.com"); got == serial {
		t.Error("a client without certificate gets in")
	}
	own, _ := strangers.next()
	tc.secret(t, "istio-system", "web-cacert", map[string][]byte{"cacert": own["ca.crt"]})
	runtest.Eventually(t, "a Secret of its own has the authorities now", func() bool { return shown(port, "web.example.com", unknown) == serial })
}

// A gateway whose account may not list Secrets gets no key, and the control plane says so.
func TestGatewayWithoutPermission(t *testing.T) {
	tc := startCluster(t, namespaces("default", "istio-system")...)
	tc.allow("istio-system:another")
	certs := newCertificates(t)
	data, serial := certs.next()
	tc.secret(t, "istio-system", "web", data)
	port := int(runtest.FreeAddress(t).Port())
	tc.create(t, "gateways", fmt.Sprintf(gatewayOfSecrets, "web", port, "{mode: SIMPLE, credentialName: web}"))
	ready, _ := startPod(t, tc, "gateway-1", "istio-system", "gateway", "istio-system/gateway")
	runtest.Eventually(t, "the gateway is ready", func() bool { return answers(ready) })
	runtest.Eventually(t, "it is told", func() bool {
		return strings.Contains(tc.log.String(), "reason=not_authorized") &&
			strings.Contains(tc.log.String(), "the service account gateway may not list secrets in istio-system (RBAC)")
	})
	if shown(port, "web.example.com") == serial {
		t.Error("the gateway has the certificate")
	}
}
