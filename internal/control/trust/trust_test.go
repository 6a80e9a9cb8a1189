package trust

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/egret-mesh/egret/internal/control/identity"
	"github.com/egret-mesh/egret/internal/runtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const system = "istio-system"

// replica is a control plane's part of this package over a cluster.
type replica struct {
	Options
	log *runtest.Log
}

func newReplica(client *fake.Clientset) replica {
	r := replica{log: &runtest.Log{}}
	r.Options = Options{
		Client: client, Dynamic: dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()), Namespace: system, Revision: "default",
		Organization: "cluster.local", Keeper: &identity.Keeper{}, MinPause: time.Millisecond, MaxPause: 10 * time.Millisecond,
	}
	r.Logger = r.log.Logger()
	return r
}

// start runs a part until the test ends.
func start(t *testing.T, o Options, part func(context.Context, Options) error) {
	t.Helper()
	runtest.Run(t, "a replica", func(ctx context.Context) error { return part(ctx, o) })
}

func secretFiles(t *testing.T, organization string, last *identity.Authority, at time.Time, life time.Duration) map[string][]byte {
	t.Helper()
	files, err := identity.NewSelfSigned(organization, life, last, at)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func secret(name string, files map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}, Data: files}
}

// Several replicas that start at once have one authority, and one that comes later has the same.
func TestReplicasShareAnAuthority(t *testing.T) {
	client := fake.NewClientset()
	var replicas []replica
	for range 4 {
		r := newReplica(client)
		replicas = append(replicas, r)
		start(t, r.Options, Authority)
	}
	runtest.Eventually(t, "all have an authority", func() bool {
		for _, r := range replicas {
			if r.Keeper.Get() == nil {
				return false
			}
		}
		return true
	})
	late := newReplica(client)
	start(t, late.Options, Authority)
	runtest.Eventually(t, "the late one, too", func() bool { return late.Keeper.Get() != nil })
	for _, r := range append(replicas, late) {
		if !bytes.Equal(r.Keeper.Get().Roots(), late.Keeper.Get().Roots()) {
			t.Error("they have different roots")
		}
	}
	made, err := client.CoreV1().Secrets(system).Get(context.Background(), OwnSecret, metav1.GetOptions{})
	if err != nil || made.Type != "istio.io/ca-root" {
		t.Errorf("%v, %v", made, err)
	}
}

// An operator's authority goes before the one of its own, takes effect when it changes, and
// stays when it is changed to something bad.
func TestPluggedAuthority(t *testing.T) {
	now := time.Now()
	one, two := secretFiles(t, "one", nil, now, time.Hour), secretFiles(t, "two", nil, now, time.Hour)
	client := fake.NewClientset(secret(PluggedSecret, one), secret(OwnSecret, two))
	r := newReplica(client)
	start(t, r.Options, Authority)
	roots := func() string {
		if a := r.Keeper.Get(); a != nil {
			return string(a.Roots())
		}
		return ""
	}
	put := func(files map[string][]byte) {
		if _, err := client.CoreV1().Secrets(system).Update(context.Background(), secret(PluggedSecret, files), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	runtest.Eventually(t, "cacerts is used", func() bool { return roots() == string(one[identity.FileRoot]) })
	put(two)
	runtest.Eventually(t, "another content takes effect", func() bool { return roots() == string(two[identity.FileRoot]) })
	put(map[string][]byte{identity.FileCert: one[identity.FileCert], identity.FileKey: two[identity.FileKey]})
	runtest.Eventually(t, "a bad one is told", func() bool { return r.log.Has("ca-key.pem is not the key of ca-cert.pem") })
	if roots() != string(two[identity.FileRoot]) {
		t.Error("a bad one is used")
	}
}

func TestAuthorityRefuses(t *testing.T) {
	bad := fake.NewClientset(secret(PluggedSecret, map[string][]byte{identity.FileCert: []byte("x"), identity.FileKey: []byte("y")}))
	if err := Authority(context.Background(), newReplica(bad).Options); err == nil || !strings.Contains(err.Error(), "Secret istio-system/cacerts: ca-cert.pem: ") {
		t.Errorf("a bad Secret: %v", err)
	}
	forbidden := fake.NewClientset()
	forbidden.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, PluggedSecret, fmt.Errorf("no"))
	})
	if err := Authority(context.Background(), newReplica(forbidden).Options); !apierrors.IsForbidden(err) {
		t.Errorf("without the right to read: %v", err)
	}
}

func TestAPIServerIsAwayAtFirst(t *testing.T) {
	client := fake.NewClientset()
	var mu sync.Mutex
	failures := 5
	client.PrependReactor("*", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		if failures == 0 {
			return false, nil, nil
		}
		failures--
		return true, nil, io.ErrUnexpectedEOF
	})
	r := newReplica(client)
	start(t, r.Options, Authority)
	runtest.Eventually(t, "there is an authority", func() bool { return r.Keeper.Get() != nil })
	if !r.log.Has("unexpected EOF") {
		t.Error("not told")
	}
}

// A root that is near its end is renewed once, by whoever is first; all replicas take it, and
// what the old one signed is valid under it.
func TestRootIsRenewed(t *testing.T) {
	old := secretFiles(t, "cluster.local", nil, time.Now().Add(-9*time.Hour), 10*time.Hour)
	client := fake.NewClientset(secret(OwnSecret, old))
	one, two := newReplica(client), newReplica(client)
	start(t, one.Options, Authority)
	start(t, two.Options, Authority)
	runtest.Eventually(t, "both have another root, the same", func() bool {
		a, b := one.Keeper.Get(), two.Keeper.Get()
		return a != nil && b != nil && bytes.Equal(a.Roots(), b.Roots()) && !bytes.Equal(a.Roots(), old[identity.FileRoot])
	})
	if left := time.Until(one.Keeper.Get().NotAfter()); left < rootLife-time.Hour {
		t.Errorf("for %s", left)
	}
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func newKept(t *testing.T, r replica) {
	t.Helper()
	a, err := identity.NewAuthority(secretFiles(t, "x", nil, time.Now(), time.Hour), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.Keeper.Put(a)
}

// Every namespace has the roots: those of the start, new ones, and where somebody has edited or
// deleted them; and again when the authority changes. What others put beside them stays.
func TestRootsConfigMaps(t *testing.T) {
	ctx := context.Background()
	client := fake.NewClientset(namespace("default"), namespace("kube-public"), namespace("kube-system"),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: RootsConfigMap}, Data: map[string]string{"root-cert.pem": "old", "mine": "x"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"}, Data: map[string]string{"a": "b"}})
	r := newReplica(client)
	start(t, r.Options, RootsConfigMaps)
	newKept(t, r)
	has := func(ns string) bool {
		m, err := client.CoreV1().ConfigMaps(ns).Get(ctx, RootsConfigMap, metav1.GetOptions{})
		return err == nil && m.Data["root-cert.pem"] == string(r.Keeper.Get().Roots()) && m.Labels["istio.io/config"] == "true"
	}
	runtest.Eventually(t, "the namespaces of the start", func() bool { return has("default") && has("kube-system") })
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace("new"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	runtest.Eventually(t, "a new one", func() bool { return has("new") })
	edited, err := client.CoreV1().ConfigMaps("default").Get(ctx, RootsConfigMap, metav1.GetOptions{})
	if err != nil || edited.Data["mine"] != "x" {
		t.Fatalf("%v, %v", edited, err)
	}
	edited.Data["root-cert.pem"], edited.Data["also mine"] = "evil", "y"
	if _, err := client.CoreV1().ConfigMaps("default").Update(ctx, edited, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().ConfigMaps("new").Delete(ctx, RootsConfigMap, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	runtest.Eventually(t, "mended", func() bool { return has("default") && has("new") })
	newKept(t, r)
	runtest.Eventually(t, "with another authority", func() bool { return has("default") && has("new") && has("kube-system") })
	if m, err := client.CoreV1().ConfigMaps("default").Get(ctx, RootsConfigMap, metav1.GetOptions{}); err != nil || m.Data["also mine"] != "y" {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := client.CoreV1().ConfigMaps("kube-public").Get(ctx, RootsConfigMap, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("kube-public: %v", err)
	}
	if m, err := client.CoreV1().ConfigMaps("default").Get(ctx, "other", metav1.GetOptions{}); err != nil || len(m.Data) != 1 {
		t.Errorf("another ConfigMap: %v, %v", m, err)
	}
}

func mutatingConfig(name, revision string) *admissionv1.MutatingWebhookConfiguration {
	return &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"istio.io/rev": revision}},
		Webhooks:   []admissionv1.MutatingWebhook{{Name: "rev.namespace.sidecar-injector.istio.io"}, {Name: "another.example.com"}},
	}
}

// The webhooks of this revision get the authority, also when it changes or somebody takes it
// away; others' stay as they are. Validation fails closed when it has been seen to refuse.
func TestWebhooks(t *testing.T) {
	ctx := context.Background()
	ignore := admissionv1.Ignore
	client := fake.NewClientset(mutatingConfig("istio-sidecar-injector", "default"), mutatingConfig("canary", "canary"),
		&admissionv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "istio-validator-istio-system", Labels: map[string]string{"istio.io/rev": "default"}},
			Webhooks:   []admissionv1.ValidatingWebhook{{Name: "rev.validation.istio.io", FailurePolicy: &ignore}},
		})
	r := newReplica(client)
	answers := make(chan struct{})
	dynamic := dynamicfake.NewSimpleDynamicClient(runtime.NewScheme())
	dynamic.PrependReactor("create", "gateways", func(a clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := a.(clienttesting.CreateActionImpl)
		if !ok || len(create.CreateOptions.DryRun) != 1 {
			t.Errorf("not a dry run: %v", a)
		}
		select {
		case <-answers:
			return true, nil, apierrors.NewBadRequest(`admission webhook "rev.validation.istio.io" denied the request: gateway must have at least one server`)
		default:
			return true, create.Object, nil
		}
	})
	r.Dynamic = dynamic
	newKept(t, r)
	start(t, r.Options, Webhooks)
	injector := func(name string) [][]byte {
		m, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{m.Webhooks[0].ClientConfig.CABundle, m.Webhooks[1].ClientConfig.CABundle}
	}
	validator := func() admissionv1.ValidatingWebhook {
		v, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, "istio-validator-istio-system", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return v.Webhooks[0]
	}
	written := func() bool {
		roots := r.Keeper.Get().Roots()
		return bytes.Equal(injector("istio-sidecar-injector")[0], roots) && bytes.Equal(validator().ClientConfig.CABundle, roots)
	}
	runtest.Eventually(t, "both have the authority", written)
	if *validator().FailurePolicy != admissionv1.Ignore {
		t.Error("it fails closed before it answers")
	}
	close(answers)
	runtest.Eventually(t, "it fails closed", func() bool { return *validator().FailurePolicy == admissionv1.Fail })
	if _, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(ctx, mutatingConfig("istio-sidecar-injector", "default"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	runtest.Eventually(t, "mended", written)
	newKept(t, r)
	runtest.Eventually(t, "with another authority", written)
	if injector("istio-sidecar-injector")[1] != nil || injector("canary")[0] != nil {
		t.Error("others' webhooks are patched")
	}
}

func TestReviewer(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		review.Status = authenticationv1.TokenReviewStatus{
			Authenticated: review.Spec.Token == "good", User: authenticationv1.UserInfo{Username: "system:serviceaccount:a:b"}, Audiences: review.Spec.Audiences,
		}
		return true, review, nil
	})
	got, err := Reviewer(client)(context.Background(), "good", []string{Audience})
	if err != nil || !got.Authenticated || got.User != "system:serviceaccount:a:b" || len(got.Audiences) != 1 || got.Audiences[0] != "istio-ca" {
		t.Errorf("%+v, %v", got, err)
	}
}
