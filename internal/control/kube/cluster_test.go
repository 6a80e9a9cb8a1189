package kube

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/runtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// world is a Cluster over clients that have no server.
type world struct {
	t       *testing.T
	client  *fake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	cluster *Cluster
	states  <-chan *source.State
	version int
}

// startWorld begins with some objects of Kubernetes' own.
func startWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	kinds := map[schema.GroupVersionResource]string{}
	for _, r := range slices.Concat(istioResources, toldResources) {
		kinds[r] = "ObjectList"
	}
	w := &world{t: t, client: fake.NewClientset(objects...), dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds)}
	w.cluster = New(Options{
		Client: w.client, Dynamic: w.dynamic, Logger: runtest.Logger(t, "the cluster's view"),
		Quiet: time.Millisecond, Latest: 10 * time.Millisecond, Retry: 20 * time.Millisecond,
	})
	runtest.Run(t, "the cluster's view", w.cluster.Run)
	states, unsubscribe := w.cluster.Subscribe()
	w.states = states
	t.Cleanup(unsubscribe)
	select {
	case <-w.cluster.Synced():
	case <-time.After(runtest.Patience):
		t.Fatal("the cluster is never known")
	}
	return w
}

// until waits for a state that is as it should be.
func (w *world) until(what string, ok func(*source.State) bool) *source.State {
	w.t.Helper()
	deadline := time.NewTimer(runtest.Patience)
	defer deadline.Stop()
	for state := w.cluster.Current(); ; {
		if ok(state) {
			return state
		}
		select {
		case state = <-w.states:
		case <-deadline.C:
			w.t.Fatalf("waited in vain: %s; there are %d objects, problems %v", what, state.Objects.Len(), state.Problems)
		}
	}
}

// untilServices waits for services that are as they should be.
func (w *world) untilServices(what string, ok func([]*mesh.Service) bool) {
	w.t.Helper()
	w.until(what, func(*source.State) bool { return ok(w.cluster.Services()) })
}

// apply puts an object of Istio's there, or another version of it.
func (w *world) apply(text string) {
	w.t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		w.t.Fatal(err)
	}
	w.version++
	u.SetResourceVersion(time.Duration(w.version).String())
	u.SetGeneration(int64(w.version))
	client := w.dynamic.Resource(resourceOf(w.t, u.GetKind())).Namespace(u.GetNamespace())
	_, err := client.Create(context.Background(), u, metav1.CreateOptions{})
	if err != nil {
		_, err = client.Update(context.Background(), u, metav1.UpdateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(kind, namespace, name string) {
	w.t.Helper()
	if err := w.dynamic.Resource(resourceOf(w.t, kind)).Namespace(namespace).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func resourceOf(t *testing.T, kind string) schema.GroupVersionResource {
	t.Helper()
	stem := strings.TrimSuffix(strings.ToLower(kind), "y")
	for _, r := range slices.Concat(istioResources, toldResources) {
		if strings.HasPrefix(r.Resource, stem) {
			return r
		}
	}
	t.Fatalf("no resource of kind %s", kind)
	return schema.GroupVersionResource{}
}

func entry(name, host string) string {
	return `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ` + name + `, namespace: apps, labels: {a: b}}
spec:
  hosts: [` + host + `]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DNS
`
}

func hosts(s *source.State) string {
	var out []string
	for _, e := range s.Objects.ServiceEntries {
		out = append(out, e.Namespace+"/"+e.Name+"="+strings.Join(e.Spec.GetHosts(), "+"))
	}
	return strings.Join(out, " ")
}

// Istio's objects come and go; one that is bad is told, keeps its last good version, and
// harms no other.
func TestIstioObjects(t *testing.T) {
	w := startWorld(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps", Labels: map[string]string{"team": "a"}}})
	if n := w.cluster.Current().Objects.Namespaces; len(n) != 1 || n[0].Name != "apps" || n[0].Labels["team"] != "a" {
		t.Errorf("namespaces: %v", n)
	}
	w.apply(entry("one", "one.example.com"))
	w.apply(entry("two", "two.example.com"))
	state := w.until("both entries", func(s *source.State) bool {
		return hosts(s) == "apps/one=one.example.com apps/two=two.example.com"
	})
	if m := state.Objects.ServiceEntries[0].Meta; m.Labels["a"] != "b" || m.File != "" || m.Lines != nil {
		t.Errorf("metadata: %+v", m)
	}

	two := state.Objects.ServiceEntries[1]
	w.apply(strings.Replace(entry("one", "one.example.com"), "443", "99999", 1))
	state = w.until("a problem", func(s *source.State) bool { return len(s.Problems) > 0 })
	p := state.Problems[0]
	if p.Object.String() != "ServiceEntry apps/one" || p.Field != "spec.ports[0].number" || !strings.HasSuffix(p.Message, staysInForce) {
		t.Errorf("problem: %s", p)
	}
	if !strings.HasPrefix(p.String(), "error: ServiceEntry apps/one: spec.ports[0].number: ") {
		t.Errorf("the problem reads %q", p)
	}
	if got := hosts(state); got != "apps/one=one.example.com apps/two=two.example.com" {
		t.Errorf("with a bad version: %s", got)
	}
	if state.Objects.ServiceEntries[1] != two {
		t.Error("an object that nobody touched was decoded again")
	}

	sequence := state.Sequence
	if u, err := w.dynamic.Resource(istioResources[0]).Namespace("apps").Get(context.Background(), "two", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	} else { // somebody writes its status, which changes nothing
		u.SetResourceVersion("status")
		u.Object["status"] = map[string]any{"observedGeneration": int64(2)}
		if _, err := w.dynamic.Resource(istioResources[0]).Namespace("apps").Update(context.Background(), u, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.apply(entry("one", "eins.example.com"))
	state = w.until("the mended entry", func(s *source.State) bool {
		return len(s.Problems) == 0 && strings.Contains(hosts(s), "eins.example.com")
	})
	if state.Sequence != sequence+1 || state.Objects.ServiceEntries[1] != two {
		t.Error("a status that was written changed something")
	}
	w.remove("ServiceEntry", "apps", "one")
	w.until("the entry is gone", func(s *source.State) bool { return hosts(s) == "apps/two=two.example.com" })

	w.apply(strings.Replace(entry("three", "three.example.com"), "443", "99999", 1))
	state = w.until("an object that was never good", func(s *source.State) bool { return len(s.Problems) > 0 })
	if got := hosts(state); got != "apps/two=two.example.com" {
		t.Errorf("with an object that was never good: %s", got)
	}
}

// What workloads take is read; what decides about calls in Istio and not here is told, by name.
func TestSecurityObjects(t *testing.T) {
	w := startWorld(t)
	w.apply(`
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: apps}
spec: {mtls: {mode: STRICT}}
`)
	state := w.until("the PeerAuthentication", func(s *source.State) bool { return len(s.Objects.PeerAuthentications) == 1 })
	if len(state.Problems) != 0 {
		t.Errorf("problems: %v", state.Problems)
	}
	w.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-all, namespace: apps}
spec: {}
`)
	state = w.until("what is not read is told", func(s *source.State) bool { return len(s.Problems) == 1 })
	if p := state.Problems[0]; p.Object.String() != "AuthorizationPolicy apps/deny-all" || p.Code != istioapi.CodeNotUsed || p.Severity != istioapi.Warning {
		t.Errorf("problem: %s", p)
	}
	w.remove("AuthorizationPolicy", "apps", "deny-all")
	w.until("it is gone", func(s *source.State) bool { return len(s.Problems) == 0 })
}

// Pods have certificates of the mesh, so what needs them is no problem as it is on one
// machine.
func TestMutual(t *testing.T) {
	w := startWorld(t)
	w.apply(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: gateway, namespace: apps}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
`)
	state := w.until("the rule", func(s *source.State) bool { return len(s.Objects.DestinationRules)+len(s.Problems) > 0 })
	if len(state.Objects.DestinationRules) != 1 || len(state.Problems) != 0 {
		t.Errorf("%v", state.Problems)
	}
}

// MeshConfig is edited in place; a bad edit is told and the last good one stays.
func TestMeshConfig(t *testing.T) {
	config := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "istio", Namespace: "istio-system", ResourceVersion: "1"},
		Data:       map[string]string{"mesh": "outboundTrafficPolicy:\n  mode: REGISTRY_ONLY\naccessLogFile: /dev/stdout\n", "meshNetworks": "networks: {}"},
	}
	other := config.DeepCopy()
	other.Name, other.Data = "other", map[string]string{"mesh": "accessLogFile: /other"}
	w := startWorld(t, config, other)
	mode := func(s *source.State) string {
		return s.Objects.MeshConfig.Spec.GetOutboundTrafficPolicy().GetMode().String()
	}
	if got := w.cluster.Current(); mode(got) != "REGISTRY_ONLY" || got.Objects.MeshConfig.Spec.GetAccessLogFile() != "/dev/stdout" {
		t.Fatalf("MeshConfig: %v, %v", got.Objects.MeshConfig, got.Problems)
	}
	edit := func(version, text string) {
		t.Helper()
		next := config.DeepCopy()
		next.ResourceVersion, next.Data = version, map[string]string{"mesh": text}
		if _, err := w.client.CoreV1().ConfigMaps("istio-system").Update(context.Background(), next, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	edit("2", "outboundTrafficPolicy:\n  mode: ALLOW_ANY\n")
	w.until("the edit", func(s *source.State) bool { return mode(s) == "ALLOW_ANY" })
	edit("3", "outboundTrafficPolicy:\n  mode: SOMETIMES\n")
	state := w.until("a bad edit is told", func(s *source.State) bool {
		return len(s.Problems) > 0 && s.Problems[0].Severity == istioapi.Error
	})
	if p := state.Problems[0]; mode(state) != "ALLOW_ANY" || p.Object.String() != "ConfigMap istio-system/istio" || p.Field != "data.mesh.outboundTrafficPolicy.mode" {
		t.Errorf("mode %s, problem %s", mode(state), p)
	}
}
